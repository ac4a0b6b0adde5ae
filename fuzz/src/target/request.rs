//! Requests: protobuf as a client could send it, by the schema or by bare bytes, dispatched for an application that is logged in; some travel
//! sealed, and some are an exchange of bare bytes.

use hsm_proto::v1;
use prost::Message;

use super::template::is_slow;
use crate::generate::Generator;
use crate::input::Input;
use crate::messages::Field;
use crate::stage::{self, Actor, Stage};

/// Requests per input.
const REQUESTS_MAX: usize = 16;

/// Plays an input: its first byte chooses policy and the way of decoding.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let way = input.byte();
    stage::play(way & 3 == 3, |stage, actor| {
        // Seldom: a seal costs more than most requests.
        actor.sealed = way & 0x7c == 0x40;
        for _ in 0..REQUESTS_MAX {
            if input.is_empty() {
                break;
            }
            if way & 0x7c == 0x44 {
                exchange(stage, actor, &mut input);
                continue;
            }
            let request = if way & 0x80 == 0 { made(stage, actor, &mut input) } else { plain(&mut input) };
            actor.number = request.as_ref().map_or(0, |request| request.number);
            if let Some(op) = request.and_then(|request| request.op).filter(|op| !is_slow(op)) {
                actor.ask(stage, op);
            }
        }
    });
}

/// An exchange whose seal is none, or damaged: it is refused, or plain and asks for nothing slow.
fn exchange(stage: &Stage, actor: &mut Actor, input: &mut Input<'_>) {
    use v1::sealed_exchange::Request;
    let Ok(mut exchange) = v1::SealedExchange::decode(input.bytes(2000)) else { return };
    match &mut exchange.request {
        Some(Request::Plain(v1::Request { op: Some(op), .. })) if is_slow(op) => return,
        // A number that was given, so that the key is found.
        Some(Request::Sealed(sealed)) => sealed.key = actor.client.seal_key().key,
        _ => {}
    }
    let was_sealed = matches!(exchange.request, Some(Request::Sealed(_)));
    let reply = actor.client.exchange(&stage.door, exchange).reply.expect("every exchange has a reply");
    if let (true, v1::sealed_reply::Reply::Plain(reply)) = (was_sealed, &reply) {
        let fault = matches!(reply.result, Some(v1::reply::Result::Fault(_)));
        assert!(fault, "bytes that nobody sealed were carried out");
    }
}

fn made(stage: &Stage, actor: &Actor, input: &mut Input<'_>) -> Option<v1::Request> {
    let operations: Vec<&Field> =
        stage.messages.fields("Request").iter().filter(|field| field.one_of.is_some()).collect();
    let operation = *input.pick(&operations);
    let mut bytes = Vec::new();
    Generator { messages: &stage.messages, known: &actor.known }.field(input, "Request", operation, &mut bytes);
    let number = u64::from(input.byte() % 4);
    // What was made is damaged now and then.
    if input.one_in(16) && !bytes.is_empty() {
        let at = input.below(bytes.len());
        bytes[at] = input.byte();
    }
    let request = v1::Request::decode(bytes.as_slice()).ok()?;
    Some(v1::Request { number, ..request })
}

/// The next frame's body: a length and the bytes as they are.
fn plain(input: &mut Input<'_>) -> Option<v1::Request> {
    v1::Request::decode(input.bytes(2000)).ok()
}

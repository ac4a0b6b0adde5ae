//! Attribute templates: decoded from the wire and applied by every function that takes one, nested ones included.

use std::sync::Arc;

use hsm_core::Kind as Refusal;
use hsm_proto::v1;
use hsm_proto::v1::request::Op;
use prost::Message;

use crate::generate::Generator;
use crate::input::Input;
use crate::messages::Field;
use crate::stage::{self, Actor, Stage};

/// Requests per input.
const REQUESTS_MAX: usize = 12;

/// Plays an input: its first byte chooses policy and the way of decoding.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let way = input.byte();
    stage::play(way & 3 == 3, |stage, actor| {
        if way & 0x80 == 0 {
            for _ in 0..REQUESTS_MAX {
                if input.is_empty() {
                    break;
                }
                made(stage, actor, &mut input);
            }
        } else {
            plain(stage, actor, &mut input);
        }
    });
}

/// One request whose template is made by choices.
fn made(stage: &Stage, actor: &mut Actor, input: &mut Input<'_>) {
    let takes_template = |field: &&Field| match &field.kind {
        crate::messages::Kind::Message(name) => {
            let fields = stage.messages.fields(name);
            name == "GetAttributesRequest"
                || fields
                    .iter()
                    .any(|field| matches!(&field.kind, crate::messages::Kind::Message(m) if m == "Template"))
        }
        _ => false,
    };
    let operations: Vec<&Field> = stage.messages.fields("Request").iter().filter(takes_template).collect();
    let operation = *input.pick(&operations);
    let mut bytes = Vec::new();
    Generator { messages: &stage.messages, known: &actor.known }.field(input, "Request", operation, &mut bytes);
    let request = v1::Request::decode(bytes.as_slice()).expect("made by the schema");
    if let Some(op) = request.op.filter(|op| !is_slow(op)) {
        actor.ask(stage, op);
    }
}

/// The input itself is a template on the wire: into each function that takes one.
fn plain(stage: &Stage, actor: &mut Actor, input: &mut Input<'_>) {
    let session = actor.session;
    let object = actor.known.objects[input.below(actor.known.objects.len())];
    let Ok(template) = v1::Template::decode(input.rest()) else { return };
    let mut template = Some(template);
    let same = template.clone();
    for op in [
        Op::CreateObject(v1::CreateObjectRequest { session, template: template.clone() }),
        Op::CopyObject(v1::CopyObjectRequest { session, object, template: template.clone() }),
        Op::SetAttributes(v1::SetAttributesRequest { session, object, template: template.clone() }),
        Op::Find(v1::FindRequest { session, template: template.take(), snapshots: 3 }),
    ] {
        actor.ask(stage, op);
    }
    // Once made, an object is found by what its template says, unless that is secret.
    let Some(template) = same else { return };
    let made = hsm_core::Hsm::create_object;
    let caller = Arc::clone(actor.client.caller().expect("attached"));
    let attrs = || hsm_daemon::door::template(template.clone());
    match made(stage.door.hsm(), &caller, session, attrs()) {
        Ok(snapshot) => {
            let found = stage.door.hsm().find(&caller, session, vec![], 0).expect("searches");
            assert!(found.objects.contains(&snapshot.object), "a new object is not found");
        }
        Err(error) => assert_ne!(error.kind(), Refusal::Internal, "{error}"),
    }
}

/// Generations that take seconds by their nature.
pub(crate) fn is_slow(op: &Op) -> bool {
    let Op::GenerateKeyPair(request) = op else { return false };
    let attributes = request.public_template.iter().flat_map(|template| &template.attributes);
    attributes
        .filter(|attr| attr.r#type == ck::attribute::CKA_MODULUS_BITS.0)
        .any(|attr| matches!(attr.value, Some(v1::attribute::Value::Number(bits)) if (2049..=1 << 20).contains(&bits)))
}

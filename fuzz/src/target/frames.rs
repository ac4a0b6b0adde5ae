//! The express lane: whatever bytes a client sends on its socket, one conversation ends with an answer for every whole frame, or is broken off.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use hsm_proto::frame::PREFACE;
use hsm_proto::v1;

use crate::feedback;
use crate::input::Input;

/// Less than a socket's buffer holds, so that everything is sent before anybody reads.
const LONGEST: usize = 32 * 1024;

/// Plays an input: its first byte says whether the preface is right and frames are framed.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let way = input.byte();
    let mut sent = if way & 1 == 0 { PREFACE.to_vec() } else { Vec::new() };
    if way & 2 == 0 {
        while !input.is_empty() && sent.len() < LONGEST {
            frame(&mut input, &mut sent);
        }
    } else {
        sent.extend_from_slice(input.rest());
    }
    sent.truncate(LONGEST);
    converse(&sent);
}

fn frame(input: &mut Input<'_>, out: &mut Vec<u8>) {
    let id = u32::from(input.byte());
    let body = input.bytes(250);
    let len = match input.byte() {
        0..=9 => u32::MAX,
        10..=19 => 5_000_000,
        20..=29 => body.len() as u32 + 1,
        _ => body.len() as u32,
    };
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(body);
}

fn converse(sent: &[u8]) {
    let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
    client.write_all(sent).expect("it fits the socket's buffer");
    client.shutdown(Shutdown::Write).expect("shuts");
    let mut asked = 0_usize;
    let answer = |request: v1::Request| {
        asked += 1;
        feedback::note(request.op.as_ref().map(core::mem::discriminant));
        v1::Reply { generation: 1, result: Some(v1::reply::Result::Done(v1::Empty {})) }
    };
    let outcome = hsm_daemon::door::converse(&server, answer);
    drop(server);
    let mut answers = Vec::new();
    // A broken conversation may be reset under the reader.
    let read = client.read_to_end(&mut answers);
    feedback::note(("frames", outcome.as_ref().err().map(|why| why.split(' ').take(3).collect::<String>())));
    if outcome.is_ok() && read.is_ok() {
        let mut rest = answers.as_slice();
        while let Some((header, body)) = rest.split_first_chunk() {
            let header = hsm_proto::frame::Header::parse(*header).expect("our own frame");
            rest = &body[header.body_len as usize..];
            asked -= 1;
        }
        assert_eq!((rest.len(), asked), (0, 0), "one answer for each request");
    }
}

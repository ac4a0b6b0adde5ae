//! Frames of HTTP/2 (RFC 9113) by hand, for what no client library would send.

use std::io::{Read, Write};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// How a client begins: with the windows that it opens for answers, of each stream and of all.
pub fn hello(stream_window: u32) -> Vec<u8> {
    let setting = [&[0, 4][..], &stream_window.to_be_bytes()].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &setting)].concat()
}

/// A literal header field without indexing, name and value shorter than 127 bytes (RFC 7541 section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let len = |text: &str| u8::try_from(text.len()).ok().filter(|len| *len < 127).unwrap();
    [&[0, len(name)], name.as_bytes(), &[len(value)], value.as_bytes()].concat()
}

/// The head of a gRPC call that goes on.
pub fn call(stream: u32, path: &str, application: Option<&str>) -> Vec<u8> {
    let mut fields = [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", path),
        field(":authority", "localhost"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ]
    .concat();
    fields.extend(application.map(|name| field("craton-application-bin", name)).unwrap_or_default());
    frame(HEADERS, END_HEADERS, stream, &fields)
}

/// A message, and the end of the call's sending.
pub fn message(stream: u32, body: &impl prost::Message) -> Vec<u8> {
    let body = body.encode_to_vec();
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    frame(DATA, END_STREAM, stream, &[&[0], &len[..], &body].concat())
}

/// The next frame: its kind, its stream, and what is in it.
pub fn next(mut stream: impl Read) -> std::io::Result<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let [a, b, c, kind, _, number @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload)?;
    Ok((kind, u32::from_be_bytes(number), payload))
}

/// The message that a call is answered with, its prefix cut off; the windows must be larger than it.
pub fn answer(mut stream: impl Read + Write, call: u32) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        match next(&mut stream).expect("an answer") {
            (DATA, number, payload) if number == call => body.extend(payload),
            // The trailers end it.
            (HEADERS, number, _) if number == call && body.len() >= 5 => return body.split_off(5),
            (RST_STREAM, number, why) if number == call => panic!("the call was reset: {why:?}"),
            _ => {}
        }
    }
}

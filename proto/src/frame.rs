//! The frame of the express lane: how [`Request`](crate::v1::Request) and [`Reply`](crate::v1::Reply) travel on the Unix socket.
//!
//! A client opens with [`PREFACE`] (gRPC clients open with HTTP/2's own, so the daemon can tell). After it, both sides send
//! frames: 4 bytes body length, little endian; 4 bytes request id, little endian, which the reply repeats; the protobuf
//! body. Requests of one connection may be answered in any order.

/// The first bytes of an express-lane connection; the last one is the version of this framing.
pub const PREFACE: [u8; 8] = *b"CRTNHSM\x01";

/// Bytes before the body of a frame.
pub const HEADER_LEN: usize = 8;

/// The longest body in bytes that either side accepts.
pub const MAX_BODY: usize = 4 * 1024 * 1024 + 64 * 1024;

/// The version of the messages, sent in Attach.
pub const PROTOCOL: u32 = 1;

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the body in bytes.
    pub body_len: u32,
    /// Chosen by the client, repeated by the reply.
    pub request_id: u32,
}

/// The body is longer than [`MAX_BODY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(pub u64);

impl core::fmt::Display for TooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a frame of {} bytes is longer than the {MAX_BODY} allowed", self.0)
    }
}

impl core::error::Error for TooLong {}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// [`TooLong`] when it announces more than [`MAX_BODY`]; the connection cannot be used further.
    pub fn parse(bytes: [u8; HEADER_LEN]) -> Result<Self, TooLong> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let body_len = u32::from_le_bytes([a, b, c, d]);
        if body_len as usize > MAX_BODY {
            return Err(TooLong(u64::from(body_len)));
        }
        Ok(Header { body_len, request_id: u32::from_le_bytes([e, f, g, h]) })
    }

    /// The request id of a header, whatever length it announces.
    pub fn id([_, _, _, _, bytes @ ..]: [u8; HEADER_LEN]) -> u32 {
        u32::from_le_bytes(bytes)
    }
}

/// Appends one whole frame to `out`.
///
/// # Errors
/// [`TooLong`] when the message is longer than [`MAX_BODY`]; `out` is unchanged.
pub fn encode(request_id: u32, message: &impl prost::Message, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let len = message.encoded_len();
    let body_len = u32::try_from(len).ok().filter(|_| len <= MAX_BODY).ok_or(TooLong(len as u64))?;
    out.reserve(HEADER_LEN + len);
    out.extend_from_slice(&body_len.to_le_bytes());
    out.extend_from_slice(&request_id.to_le_bytes());
    message.encode_raw(out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn a_frame_is_header_then_body() {
        let mut out = Vec::new();
        encode(7, &v1::OpenSessionReply { session: 3 }, &mut out).expect("short");
        let header = Header::parse(out[..HEADER_LEN].try_into().expect("eight bytes")).expect("short");
        assert_eq!(header, Header { body_len: (out.len() - HEADER_LEN) as u32, request_id: 7 });
    }

    #[test]
    fn an_oversized_frame_is_refused_on_both_sides() {
        let mut out = Vec::new();
        let message = v1::OutputReply { output: vec![0; MAX_BODY] };
        assert!(encode(1, &message, &mut out).is_err());
        assert!(out.is_empty());
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&(MAX_BODY as u32 + 1).to_le_bytes());
        assert!(Header::parse(header).is_err());
    }
}

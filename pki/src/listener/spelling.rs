//! The names of header fields as widespread EST clients look for them. HTTP does not tell `www-authenticate` from `WWW-Authenticate`
//! (RFC 9110 section 5.1), but libest compares letter by letter. hyper writes names in lower case or each word with a capital; the one
//! that is spelt otherwise is mended here on its way out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Only this answer has the field, and hyper writes its head in one piece.
const CHALLENGE: &[u8] = b"HTTP/1.1 401 ";
const WRITTEN: &[u8] = b"\r\nWww-Authenticate:";
const USUAL: &[u8] = b"\r\nWWW-Authenticate:";

/// A stream to a client.
pub(super) struct Spelling<S>(pub(super) S);

/// The same bytes with the usual name, when they begin with an answer that has it.
fn respelt(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(CHALLENGE) {
        return None;
    }
    let place = bytes.windows(WRITTEN.len()).position(|window| window == WRITTEN)?;
    let mut respelt = bytes.to_vec();
    respelt[place..place + USUAL.len()].copy_from_slice(USUAL);
    Some(respelt)
}

impl<S: AsyncRead + Unpin> AsyncRead for Spelling<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Spelling<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let respelt = respelt(bytes);
        Pin::new(&mut self.get_mut().0).poll_write(cx, respelt.as_deref().unwrap_or(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_in_a_challenge_changes() {
        let head =
            |status: &str, name: &str| format!("HTTP/1.1 {status}\r\nDate: x\r\n{name}: Basic realm=\"a\"\r\n\r\n");
        let usual = head("401 Unauthorized", "WWW-Authenticate");
        assert_eq!(respelt(head("401 Unauthorized", "Www-Authenticate").as_bytes()), Some(usual.clone().into_bytes()));
        for same in [usual, head("200 OK", "Www-Authenticate"), String::new(), "HTTP/1.1 401 x".to_owned()] {
            assert_eq!(respelt(same.as_bytes()), None, "{same}");
        }
    }
}

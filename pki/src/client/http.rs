//! One request over TLS: HTTP/1.1 (RFC 9112), one connection each, with a deadline and a bound on everything the server sends.

use super::ClientError;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// How long the server may be silent.
const DEADLINE: Duration = Duration::from_secs(60);
/// Largest answer.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// Where the EST service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    host: String,
    port: u16,
    path: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status.
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    /// Body.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A header field by its lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Service {
    /// Reads `https://host[:port]/path`.
    pub(super) fn parse(url: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::Arguments(format!("'{url}' must be https://host[:port]/.well-known/est[/LABEL]"));
        let rest = url.strip_prefix("https://").ok_or_else(bad)?;
        let (authority, path) = rest.split_once('/').ok_or_else(bad)?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && (!host.contains(':') || host.ends_with(']')) => {
                (host, port.parse().map_err(|_| bad())?)
            }
            _ => (authority, 443),
        };
        let good = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !good(host) || !good(path) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port, path: format!("/{}", path.trim_end_matches('/')) })
    }

    /// Sends a request and reads its answer whole.
    pub(super) fn call(
        &self,
        tls: Arc<ClientConfig>,
        operation: &str,
        more_headers: &str,
        body: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let unreachable = |fault: &dyn std::fmt::Display| {
            ClientError::Unreachable(format!("{}:{} cannot be reached: {fault}", self.host, self.port))
        };
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| ClientError::Arguments(format!("'{bare}' is no host name")))?;
        let mut addresses = (bare, self.port).to_socket_addrs().map_err(|fault| unreachable(&fault))?;
        let address = addresses.next().ok_or_else(|| unreachable(&"it has no address"))?;
        let stream = TcpStream::connect_timeout(&address, DEADLINE).map_err(|fault| unreachable(&fault))?;
        stream.set_read_timeout(Some(DEADLINE)).map_err(|fault| unreachable(&fault))?;
        stream.set_write_timeout(Some(DEADLINE)).map_err(|fault| unreachable(&fault))?;
        let connection = ClientConnection::new(tls, name).map_err(|fault| unreachable(&fault))?;
        let mut stream = StreamOwned::new(connection, stream);
        let request = self.request(operation, more_headers, body);
        stream.write_all(request.as_bytes()).map_err(|fault| unreachable(&fault))?;
        stream.flush().map_err(|fault| unreachable(&fault))?;
        let mut bytes = Vec::new();
        match stream.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes) {
            Ok(_) => {}
            // A server that closes without a TLS farewell: whether the answer is whole, its length says.
            Err(fault) if fault.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Err(fault) if bytes.is_empty() => return Err(unreachable(&fault)),
            Err(_) => {}
        }
        parse(&bytes).ok_or_else(|| ClientError::Answer("it is not a whole HTTP answer".to_owned()))
    }

    fn request(&self, operation: &str, more_headers: &str, body: Option<&str>) -> String {
        let Self { host, port, path } = self;
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = body.unwrap_or_default();
        let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        format!(
            "{method} {path}/{operation} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n{length}{more_headers}\r\n{body}"
        )
    }
}

/// Reads an answer whole.
pub(super) fn parse(bytes: &[u8]) -> Option<Answer> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..split]).ok()?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next()?.strip_prefix("HTTP/1.")?;
    let status = status_line.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())))
        .collect::<Option<_>>()?;
    let rest = &bytes[split + 4..];
    let field = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let body = match (field("transfer-encoding"), field("content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => unchunked(rest)?,
        (Some(_), _) => return None,
        (None, Some(length)) => rest.get(..length.parse().ok()?)?.to_vec(),
        (None, None) => rest.to_vec(),
    };
    Some(Answer { status, headers, body })
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line_end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[line_end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let service = |host: &str, port, path: &str| Service { host: host.to_owned(), port, path: path.to_owned() };
        let rows = [
            ("https://pki.example/.well-known/est", service("pki.example", 443, "/.well-known/est")),
            (
                "https://pki.example:8443/.well-known/est/line-1/",
                service("pki.example", 8443, "/.well-known/est/line-1"),
            ),
            ("https://[::1]:8443/e", service("[::1]", 8443, "/e")),
        ];
        for (url, expected) in rows {
            assert_eq!(Service::parse(url).ok(), Some(expected), "{url}");
        }
        for bad in ["http://a/b", "https://a", "https:///b", "https://a:x/b", "https://a b/c", "pki.example/e"] {
            assert!(Service::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_is_taken_whole_or_not_at_all() {
        let text = |text: &str| parse(text.as_bytes());
        let answer = text("HTTP/1.1 202 Accepted\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nhi").expect("whole");
        assert_eq!((answer.status, answer.header("retry-after"), answer.body.as_slice()), (202, Some("7"), &b"hi"[..]));
        let chunked = text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n");
        assert_eq!(chunked.map(|answer| answer.body), Some(b"abc".to_vec()));
        for broken in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
            "SSH-2.0-x\r\n\r\n",
        ] {
            assert_eq!(text(broken), None, "{broken:?}");
        }
    }
}

//! Asking other servers: one request of HTTP/1.1 (RFC 9112) over TLS or without, one connection each, within a deadline and with a bound
//! on everything the server sends. No redirection is followed.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// The address is not one that can be asked.
    #[error("{0}")]
    Address(String),
    /// The server cannot be reached, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// What came is not a whole HTTP answer.
    #[error("it is not a whole HTTP answer")]
    Broken,
    /// The answer is larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// What bounds a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// From the first byte to the last.
    pub(crate) deadline: Duration,
    /// Largest answer with its head.
    pub(crate) max_bytes: usize,
}

/// Where a server is, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// True for https.
    pub(crate) is_secure: bool,
    host: String,
    port: u16,
    /// With its first slash.
    pub(crate) path: String,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    /// Header fields, each with its line end.
    pub(crate) headers: &'a str,
    /// Body of a POST; none for a GET.
    pub(crate) body: Option<&'a [u8]>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// Body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header field by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A TLS client that trusts these roots and shows no certificate.
///
/// # Errors
/// A sentence, when a root is none.
pub(crate) fn trusting(roots: &[Vec<u8>]) -> Result<Arc<ClientConfig>, String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.as_slice())).map_err(|fault| fault.to_string())?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|fault| fault.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(store).with_no_client_auth()))
}

impl Address {
    /// Reads `http://host[:port]/path` or the same with https. A path may be missing.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (is_secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return None,
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && (!host.contains(':') || host.ends_with(']')) => {
                (host, port.parse().ok()?)
            }
            _ => (authority, if is_secure { 443 } else { 80 }),
        };
        let is_good = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || host.contains('@') || !is_good(host) || !is_good(path) {
            return None;
        }
        Some(Self { is_secure, host: host.to_owned(), port, path: format!("/{path}") })
    }

    /// The same server, asked for something below.
    pub(crate) fn below(&self, name: &str) -> Self {
        Self { path: format!("{}/{name}", self.path), ..self.clone() }
    }

    /// Sends a request and reads its answer whole. `tls` is needed for https only.
    ///
    /// # Errors
    /// [`FetchError`].
    pub(crate) fn ask(
        &self,
        tls: Option<Arc<ClientConfig>>,
        question: Question<'_>,
        bounds: Bounds,
    ) -> Result<Answer, FetchError> {
        let unreachable = |fault: &dyn std::fmt::Display| {
            FetchError::Unreachable(format!("{}:{} cannot be reached: {fault}", self.host, self.port))
        };
        let end = Instant::now() + bounds.deadline;
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (bare, self.port).to_socket_addrs().map_err(|fault| unreachable(&fault))?;
        let address = addresses.next().ok_or_else(|| unreachable(&"it has no address"))?;
        let stream = TcpStream::connect_timeout(&address, bounds.deadline).map_err(|fault| unreachable(&fault))?;
        let stream = Paced { stream, end };
        let bytes = if self.is_secure {
            let tls = tls.ok_or_else(|| FetchError::Address("nothing is trusted for https".to_owned()))?;
            let name = ServerName::try_from(bare.to_owned());
            let name = name.map_err(|_| FetchError::Address(format!("'{bare}' is no host name")))?;
            let connection = ClientConnection::new(tls, name).map_err(|fault| unreachable(&fault))?;
            self.converse(StreamOwned::new(connection, stream), question, bounds.max_bytes)
        } else {
            self.converse(stream, question, bounds.max_bytes)
        };
        let bytes = bytes.map_err(|fault| unreachable(&fault))?;
        if bytes.len() > bounds.max_bytes {
            return Err(FetchError::TooLarge(bounds.max_bytes));
        }
        parse(&bytes).ok_or(FetchError::Broken)
    }

    /// Everything the server sends, up to one byte more than allowed.
    fn converse(
        &self,
        mut stream: impl Read + Write,
        question: Question<'_>,
        max_bytes: usize,
    ) -> std::io::Result<Vec<u8>> {
        stream.write_all(self.head(question).as_bytes())?;
        stream.write_all(question.body.unwrap_or_default())?;
        stream.flush()?;
        let (mut bytes, mut part, mut whole) = (Vec::new(), vec![0; 16 * 1024], None);
        while bytes.len() <= max_bytes && whole.is_none_or(|whole| bytes.len() < whole) {
            match stream.read(&mut part) {
                Ok(0) => break,
                Ok(read) => bytes.extend_from_slice(part.get(..read).unwrap_or_default()),
                // A server that closes without a TLS farewell: whether the answer is whole, its length says.
                Err(fault) if fault.kind() == ErrorKind::UnexpectedEof && !bytes.is_empty() => break,
                Err(fault) => return Err(fault),
            }
            whole = whole.or_else(|| announced(&bytes));
        }
        Ok(bytes)
    }

    fn head(&self, question: Question<'_>) -> String {
        let Self { host, port, path, .. } = self;
        let headers = question.headers;
        match question.body {
            Some(body) => {
                let length = body.len();
                format!(
                    "POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
                )
            }
            None => format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n{headers}\r\n"),
        }
    }
}

/// A connection that ends at an instant, however slowly the other side sends.
struct Paced {
    stream: TcpStream,
    end: Instant,
}

impl Paced {
    fn left(&self) -> std::io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Paced {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(bytes)
    }
}

impl Write for Paced {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// How long an answer says it is, with its head. Some servers keep the connection though they were asked to close it.
fn announced(bytes: &[u8]) -> Option<usize> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..split)?).ok()?;
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, length) = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    length.trim().parse::<usize>().ok()?.checked_add(split + 4)
}

/// Reads an answer whole.
pub(crate) fn parse(bytes: &[u8]) -> Option<Answer> {
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
        let address = |is_secure, host: &str, port, path: &str| Address {
            is_secure,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        };
        let rows = [
            ("https://pki.example/.well-known/est", address(true, "pki.example", 443, "/.well-known/est")),
            ("http://pki.example:8080/crl/1.crl?a=b", address(false, "pki.example", 8080, "/crl/1.crl?a=b")),
            ("http://ocsp.example", address(false, "ocsp.example", 80, "/")),
            ("https://[::1]:8443/e", address(true, "[::1]", 8443, "/e")),
        ];
        for (url, expected) in rows {
            assert_eq!(Address::parse(url), Some(expected), "{url}");
        }
        for bad in
            ["ftp://a/b", "https:///b", "https://a:x/b", "http://a b/c", "http://u@a/", "http://a/\r\nX: y", "a/e"]
        {
            assert_eq!(Address::parse(bad), None, "{bad}");
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

    #[test]
    fn what_is_too_large_or_too_slow_is_not_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/x", listener.local_addr().expect("address"));
        std::thread::spawn(move || {
            let (mut large, _) = listener.accept().expect("accepts");
            large.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("writes");
            // The other side may have closed before the last byte.
            drop(large.write_all(&[7; 5000]));
            drop(large);
            let (_silent, _) = listener.accept().expect("accepts");
            std::thread::park();
        });
        let ask = |deadline: u64| {
            let bounds = Bounds { deadline: Duration::from_secs(deadline), max_bytes: 4000 };
            Address::parse(&url).expect("parses").ask(None, Question { headers: "", body: None }, bounds)
        };
        assert_eq!(ask(60), Err(FetchError::TooLarge(4000)));
        assert!(matches!(ask(1), Err(FetchError::Unreachable(_))));
    }
}

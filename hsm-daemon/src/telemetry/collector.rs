//! The way to the collector: one HTTP/1.1 request per batch, on a connection of its own, over loopback in the clear or under mutual
//! TLS. The daemon asks no name server: a collector is named by its address.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::Span;
use super::wire::{self, KeyValue, attribute};
use crate::tls::{self, Unusable};
use crate::tls_files::ClientFiles;

/// How long the collector may take to accept a connection, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(5);

/// The path of OTLP's traces, below the endpoint.
const PATH: &str = "/v1/traces";

/// What is spoken under TLS (RFC 7301).
const PROTOCOL: &[u8] = b"http/1.1";

/// OTLP's port for HTTP, when the endpoint names none.
const PORT: u16 = 4318;

/// Where a collector is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    address: SocketAddr,
    /// Below this, `/v1/traces`.
    path: String,
    /// None on loopback.
    files: Option<ClientFiles>,
}

impl Place {
    /// Reads `http://127.0.0.1:4318` or `https://192.0.2.7:4318/below`.
    ///
    /// # Errors
    /// Why that is no collector of ours, as the end of a sentence.
    pub(crate) fn parse(endpoint: &str, files: Option<ClientFiles>) -> Result<Place, &'static str> {
        let (scheme, rest) = endpoint.split_once("://").ok_or("begins with http:// or https://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address = address(host).ok_or("names the collector by its address, such as http://127.0.0.1:4318")?;
        if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~%".contains(&byte)) {
            return Err("has a path of letters, digits and / - _ . ~ %");
        }
        match (scheme, &files) {
            ("http", Some(_)) => return Err("is https:// where telemetry.tls_ca, tls_cert and tls_key are set"),
            ("http", None) if !address.ip().is_loopback() => return Err("is https:// beyond this machine"),
            ("https", None) => return Err("needs telemetry.tls_ca, tls_cert and tls_key for https://"),
            ("http" | "https", _) => {}
            _ => return Err("begins with http:// or https://"),
        }
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() { PATH.to_owned() } else { format!("/{path}{PATH}") };
        Ok(Place { address, path, files })
    }

    /// Its TLS files.
    pub(crate) fn files(&self) -> Option<&ClientFiles> {
        self.files.as_ref()
    }
}

/// An address with or without a port; `localhost` is the one that it always is.
fn address(host: &str) -> Option<SocketAddr> {
    let bare = |host: &str| match host {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => host.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    };
    let with_port = || {
        let (host, port) = host.rsplit_once(':')?;
        Some(SocketAddr::new(bare(host)?, port.parse().ok()?))
    };
    host.parse().ok().or_else(|| bare(host).map(|ip| SocketAddr::new(ip, PORT))).or_else(with_port)
}

/// Talks to it.
pub(super) struct Collector {
    place: Place,
    resource: Vec<KeyValue>,
}

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Line(#[from] io::Error),
    #[error(transparent)]
    Files(#[from] Unusable),
    #[error("it answers {0:?}")]
    Answer(String),
}

impl Collector {
    /// What the resource says beside program and version.
    ///
    /// # Errors
    /// [`Unusable`]: the TLS files cannot be used.
    pub(super) fn new(place: Place, more: &[(String, String)]) -> Result<Self, Unusable> {
        place.files.as_ref().map(|files| tls::client(files, PROTOCOL)).transpose()?;
        let own = [("service.name", "craton-hsm"), ("service.version", env!("CARGO_PKG_VERSION"))];
        let own = own.into_iter().filter(|(key, _)| more.iter().all(|(other, _)| other != key));
        let more = more.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let resource = own.chain(more).map(|(key, value)| attribute(key, value)).collect();
        Ok(Collector { place, resource })
    }

    /// Gives it a batch.
    ///
    /// # Errors
    /// [`Refused`]: nobody there, or an answer that is no success. Nothing is sent twice.
    pub(super) fn take(&self, batch: &[Span]) -> Result<(), Refused> {
        let body = wire::export(&self.resource, batch);
        let stream = TcpStream::connect_timeout(&self.place.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let answer = match &self.place.files {
            None => self.post(stream, &body)?,
            Some(files) => {
                // Read anew each time: certificates are replaced while the daemon runs.
                let name = ServerName::from(self.place.address.ip());
                let session =
                    ClientConnection::new(Arc::new(tls::client(files, PROTOCOL)?), name).map_err(io::Error::other)?;
                self.post(StreamOwned::new(session, stream), &body)?
            }
        };
        let code = answer.split_whitespace().nth(1).unwrap_or_default();
        let success = code.len() == 3 && code.starts_with('2');
        if success { Ok(()) } else { Err(Refused::Answer(answer)) }
    }

    /// One request; the first line of the answer.
    fn post(&self, mut line: impl Read + Write, body: &[u8]) -> io::Result<String> {
        let Place { address, path, .. } = &self.place;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-protobuf\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        line.write_all(&[head.as_bytes(), body].concat())?;
        line.flush()?;
        let mut answer = Vec::new();
        let mut bytes = [0; 256];
        while answer.len() < 1024 && !answer.contains(&b'\n') {
            match line.read(&mut bytes)? {
                0 => break,
                count => answer.extend_from_slice(&bytes[..count]),
            }
        }
        let first = answer.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
        Ok(String::from_utf8_lossy(first).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_an_address_on_this_machine_or_under_mutual_tls() {
        let files = || ClientFiles { ca: "a".into(), certificate: "c".into(), key: "k".into() };
        let rows = [
            ("http://127.0.0.1:4318", None, Ok("127.0.0.1:4318/v1/traces")),
            ("http://localhost", None, Ok("127.0.0.1:4318/v1/traces")),
            ("http://[::1]:9/", None, Ok("[::1]:9/v1/traces")),
            ("http://[::1]", None, Ok("[::1]:4318/v1/traces")),
            ("https://192.0.2.7:443/otlp/", Some(files()), Ok("192.0.2.7:443/otlp/v1/traces")),
            ("http://192.0.2.7:4318", None, Err("beyond this machine")),
            ("https://192.0.2.7:4318", None, Err("tls_ca")),
            ("http://127.0.0.1:4318", Some(files()), Err("https://")),
            ("https://collector.example:4318", Some(files()), Err("by its address")),
            ("grpc://127.0.0.1:4317", None, Err("http://")),
            ("127.0.0.1:4318", None, Err("http://")),
            ("http://127.0.0.1:4318/a b", None, Err("a path of")),
        ];
        for (endpoint, files, expected) in rows {
            let place = Place::parse(endpoint, files);
            match (place, expected) {
                (Ok(place), Ok(expected)) => assert_eq!(format!("{}{}", place.address, place.path), expected),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{endpoint}: {why}"),
                (place, _) => panic!("{endpoint}: {place:?}"),
            }
        }
    }
}

//! Requests whose end two readers could see at different places. Direct, the server sees one request at most, whatever hides behind it;
//! behind nginx it sees none that nginx did not see. What such a request says about a certificate that somebody else verified counts for
//! nothing. The same length said twice is one length: both readers agree on it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::must::connect;
use crate::world::{Choice, PKCS10, World, free_port, is_there};
use data_encoding::BASE64;
use serde_json::Value;

/// `{O}` is the request line and the host of a request, `{H}` a whole second one that hides, `{L}` its length and `{X}` the same in
/// hexadecimal.
const ROWS: &[(&str, &str)] = &[
    ("length and chunks", "{O}Content-Length: {L}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{H}"),
    ("chunks and length", "{O}Transfer-Encoding: chunked\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    ("a short length and chunks", "{O}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{X}\r\n{H}\r\n0\r\n\r\n"),
    ("a length of nothing and chunks", "{O}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{H}"),
    ("two lengths", "{O}Content-Length: {L}\r\nContent-Length: 0\r\n\r\n{H}"),
    ("two lengths, the other way", "{O}Content-Length: 0\r\nContent-Length: {L}\r\n\r\n{H}"),
    ("the same length twice", "{O}Content-Length: {L}\r\nContent-Length: {L}\r\n\r\n{H}"),
    ("a list of lengths", "{O}Content-Length: 0, {L}\r\n\r\n{H}"),
    ("a list of equal lengths", "{O}Content-Length: 0, 0\r\n\r\n{H}"),
    ("a signed length", "{O}Content-Length: +0\r\n\r\n{H}"),
    ("a negative length", "{O}Content-Length: -1\r\n\r\n{H}"),
    ("a hexadecimal length", "{O}Content-Length: 0x0\r\n\r\n{H}"),
    ("a length with a fraction", "{O}Content-Length: 0.0\r\n\r\n{H}"),
    ("a length with an underscore", "{O}Content-Length: 0_0\r\n\r\n{H}"),
    ("a length beyond all numbers", "{O}Content-Length: 18446744073709551616\r\n\r\n{H}"),
    ("an empty length", "{O}Content-Length:\r\n\r\n{H}"),
    ("a length on the next line", "{O}Content-Length:\r\n {L}\r\n\r\n{H}"),
    ("a length after a tab's fold", "{O}X: y\r\n\tContent-Length: {L}\r\n\r\n{H}"),
    ("a length after a space", "{O} Content-Length: {L}\r\n\r\n{H}"),
    ("a length before a space", "{O}Content-Length : {L}\r\n\r\n{H}"),
    ("a length before a tab", "{O}Content-Length\t: {L}\r\n\r\n{H}"),
    ("a length after a bare carriage return", "{O}X: y\rContent-Length: {L}\r\n\r\n{H}"),
    ("a length after a bare line feed", "{O}X: y\nContent-Length: {L}\nTransfer-Encoding: chunked\n\n0\n\n{H}"),
    ("a length after a zero byte", "{O}X: y\0Content-Length: {L}\r\n\r\n{H}"),
    ("a length by a name with a zero byte", "{O}Content-Length\0: {L}\r\n\r\n{H}"),
    ("chunks, then something else", "{O}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{H}"),
    (
        "something else, then chunks",
        "{O}Transfer-Encoding: identity, chunked\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}",
    ),
    ("compressed chunks", "{O}Transfer-Encoding: gzip, chunked\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    ("chunks twice", "{O}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n{H}"),
    ("chunks in two fields", "{O}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{H}"),
    (
        "chunks in two fields, the other way",
        "{O}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{H}",
    ),
    ("almost chunks", "{O}Transfer-Encoding: xchunked\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    ("chunks with a parameter", "{O}Transfer-Encoding: chunked;q=1\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    ("quoted chunks", "{O}Transfer-Encoding: \"chunked\"\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    ("chunks after a vertical tab", "{O}Transfer-Encoding: \x0bchunked\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    ("chunks before a zero byte", "{O}Transfer-Encoding: chunked\0\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    ("chunks on the next line", "{O}Transfer-Encoding:\r\n chunked\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    ("chunks before a space", "{O}Transfer-Encoding : chunked\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    ("chunks after a space", "{O} Transfer-Encoding: chunked\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    ("chunks by another name", "{O}Transfer_Encoding: chunked\r\nContent-Length: {L}\r\n\r\n{H}"),
    ("chunks after a bare line feed", "{O}X: y\nTransfer-Encoding: chunked\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    ("chunks of an old version", "{V0}Transfer-Encoding: chunked\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}"),
    (
        "chunks that are not for the next",
        "{O}Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: {L}\r\n\r\n0\r\n\r\n{H}",
    ),
    ("a length that is not for the next", "{O}Connection: content-length\r\nContent-Length: {L}\r\n\r\n{H}"),
    ("a signed chunk", "{O}Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n{H}"),
    ("a negative chunk", "{O}Transfer-Encoding: chunked\r\n\r\n-0\r\n\r\n{H}"),
    ("a chunk with a prefix", "{O}Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{H}"),
    ("a chunk after a space", "{O}Transfer-Encoding: chunked\r\n\r\n 0\r\n\r\n{H}"),
    ("a chunk beyond all numbers", "{O}Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n{H}"),
    ("a chunk that is longer than it says", "{O}Transfer-Encoding: chunked\r\n\r\n1\r\nab0\r\n\r\n{H}"),
    ("a chunk that ends with a line feed", "{O}Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n{H}"),
    ("a chunk's extension with a line feed", "{O}Transfer-Encoding: chunked\r\n\r\n1;\nx\r\na\r\n0\r\n\r\n{H}"),
    ("a chunk's extension with a carriage return", "{O}Transfer-Encoding: chunked\r\n\r\n1;\rx\r\na\r\n0\r\n\r\n{H}"),
    ("a trailer that is a length", "{O}Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: {L}\r\n\r\n{H}"),
    ("two hosts", "{O}Host: other\r\nContent-Length: 0\r\nContent-Length: {L}\r\n\r\n{H}"),
    ("a request line with two spaces", "GET  /.well-known/est/{N} HTTP/1.1\r\nHost: localhost\r\n\r\n{H}"),
    ("a request line with a tab", "GET\t/.well-known/est/{N}\tHTTP/1.1\r\nHost: localhost\r\n\r\n{H}"),
    ("a request line without a version", "GET /.well-known/est/{N}\r\nHost: localhost\r\n\r\n{H}"),
    ("a request line of another version", "GET /.well-known/est/{N} HTTP/1.10\r\nHost: localhost\r\n\r\n{H}"),
    ("a field without a name", "{O}: x\r\nContent-Length: {L}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{H}"),
    ("a field without a colon", "{O}X\r\nContent-Length: {L}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{H}"),
    (
        "another protocol",
        "{O}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: {L}\r\n\r\n{H}",
    ),
];

fn written(row: &str, outer: &str, hidden: &str) -> Vec<u8> {
    let head = |version: &str| format!("POST /.well-known/est/{outer} HTTP/{version}\r\nHost: localhost\r\n");
    let length = hidden.len();
    let text = row.replace("{O}", &head("1.1")).replace("{V0}", &head("1.0")).replace("{N}", outer);
    let text = text.replace("{L}", &length.to_string()).replace("{X}", &format!("{length:x}"));
    text.replace("{H}", hidden).into_bytes()
}

/// Sends, and reads until the other end hangs up.
fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> String {
    let mut answer = Vec::new();
    // A server that refuses early hangs up while the rest is still being sent.
    if stream.write_all(bytes).and_then(|()| stream.flush()).is_ok()
        && let Err(fault) = stream.read_to_end(&mut answer)
    {
        let ended = [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof, ErrorKind::BrokenPipe];
        assert!(ended.contains(&fault.kind()), "{fault}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn answers(text: &str) -> usize {
    text.split("HTTP/1.").skip(1).filter(|rest| rest.as_bytes().get(1) == Some(&b' ')).count()
}

/// A whole request for a certificate that would be issued, if it were seen.
fn enrolment(world: &World, device: &str) -> String {
    world.request(device, &format!("/CN={device}"), &[]);
    let (credential, body) = (world.credential(&[]), world.text(&format!("{device}.b64")));
    let user = BASE64.encode(format!("{}:{}", credential.name, credential.secret).as_bytes());
    format!(
        "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {user}\r\n{PKCS10}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn devices(world: &World) -> Vec<String> {
    let list = world.done(&["cert", "list", "--limit", "1000"]);
    let items = list.get("items").and_then(Value::as_array).expect("items").clone();
    items.iter().filter_map(|item| item.get("device")?.as_str().map(str::to_owned)).collect()
}

/// How often the server was asked for each path that it refused.
fn refused_paths(world: &World) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for line in world.text("log").lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_default();
        if let Some(path) = entry.get("path").or_else(|| entry.get("fields")?.get("path")).and_then(Value::as_str) {
            *seen.entry(path.to_owned()).or_default() += 1;
        }
    }
    seen
}

#[test]
fn the_server_sees_no_request_that_hides_behind_another() {
    let Some(world) = World::new("the_server_sees_no_request_that_hides_behind_another", &Choice::default()) else {
        return;
    };
    let hidden = enrolment(&world, "hidden");
    let tls = || connect(&world, &rustls::version::TLS13).0;
    std::thread::scope(|scope| {
        let tried = ROWS.iter().map(|(what, row)| {
            let bytes = written(row, "outer", &hidden);
            (what, scope.spawn(move || exchange(tls(), &bytes)))
        });
        let two = tried.collect::<Vec<_>>().into_iter().filter_map(|(what, tried)| {
            let answer = tried.join().expect("an exchange");
            (answers(&answer) > 1).then_some(*what)
        });
        assert_eq!(two.collect::<Vec<_>>(), [""; 0], "were answered as two requests");
    });
    assert!(!devices(&world).contains(&"hidden".to_owned()), "a hidden request was answered");
    // The same request is good when it does not hide.
    let answer = exchange(tls(), hidden.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(devices(&world).contains(&"hidden".to_owned()));
}

/// nginx before the EST port, with everything on that lets odd requests pass.
struct Proxy {
    child: Child,
    port: u16,
}

impl Proxy {
    fn start(world: &World, pem: &str) -> Self {
        let port = free_port();
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log nginx.error info; events {{}}\n\
             http {{ log_format seen '$request_uri $upstream_status'; access_log nginx.seen seen;\n\
             client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             ignore_invalid_headers off; underscores_in_headers on; client_header_timeout 2s; client_body_timeout 2s; keepalive_timeout 1s;\n\
             upstream pki {{ server 127.0.0.1:{}; keepalive 1; }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass https://pki; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_set_header Host localhost; proxy_request_buffering off; proxy_next_upstream off;\n\
             proxy_ssl_name localhost; proxy_ssl_server_name on; proxy_ssl_verify on; proxy_ssl_trusted_certificate state/root.pem; }}\n\
             location /vouched/ {{ rewrite /vouched/(.*) /.well-known/est/$1 break; proxy_pass https://pki; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_set_header Host localhost; proxy_set_header X-SSL-Client-Verify SUCCESS;\n\
             proxy_set_header X-Forwarded-Client-Cert 'Cert=\"{pem}\"'; proxy_set_header X-SSL-Client-Cert '{pem}'; }} }} }}\n",
            world.est_port
        );
        std::fs::write(world.path("nginx.conf"), config).expect("writes");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(world.path("")).args(["-e", "nginx.error", "-c", "nginx.conf"]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx starts");
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "{}", world.text("nginx.error"));
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }

    fn exchange(&self, bytes: &[u8]) -> String {
        exchange(TcpStream::connect(("127.0.0.1", self.port)).expect("connects"), bytes)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(fault) = ended {
            println!("nginx: {fault}");
        }
    }
}

#[test]
fn behind_nginx_the_server_sees_what_nginx_sees_and_believes_no_field_about_a_certificate() {
    let test = "behind_nginx_the_server_sees_what_nginx_sees_and_believes_no_field_about_a_certificate";
    if !is_there("nginx", "-v") {
        println!("SKIPPED {test}: nginx not found");
        return;
    }
    let Some(world) = World::new(test, &Choice::default()) else { return };
    world.enrolled("a");
    let pem = world.text("a.pem").replace('\n', "%0A");
    let proxy = Proxy::start(&world, &pem);
    let plain = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    std::thread::scope(|scope| {
        for (index, (_, row)) in ROWS.iter().enumerate() {
            let hidden = plain(&format!("/.well-known/est/hidden-{index}"));
            let bytes = written(row, &format!("outer-{index}"), &hidden);
            scope.spawn(|| proxy.exchange(&{ bytes }));
        }
    });
    // Two requests that do not hide, and those who come next on connections that others have used.
    let two =
        format!("GET /.well-known/est/first HTTP/1.1\r\nHost: localhost\r\n\r\n{}", plain("/.well-known/est/second"));
    assert_eq!(answers(&proxy.exchange(two.as_bytes())), 2);
    for index in 0..8 {
        let answer = proxy.exchange(plain(&format!("/.well-known/est/next-{index}")).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 404"), "{index}: {answer}");
    }
    let known = world.text("a.b64");
    for path in ["/.well-known/est/simplereenroll", "/vouched/simplereenroll"] {
        for field in ["X-Forwarded-Client-Cert", "X_Forwarded_Client_Cert", "X-SSL-Client-Cert", "Client-Cert"] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\n{field}: {pem}\r\nX-SSL-Client-Verify: SUCCESS\r\n{PKCS10}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{known}",
                known.len()
            );
            let answer = proxy.exchange(request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("certificate_needed"), "{field}: {answer}");
        }
    }
    drop(proxy);
    let mut nginx = BTreeMap::<String, usize>::new();
    for line in world.text("nginx.seen").lines() {
        *nginx.entry(line.split_once(' ').expect("two words").0.to_owned()).or_default() += 1;
    }
    let seen = refused_paths(&world);
    let passed = seen.keys().filter(|path| path.contains("/outer-")).count();
    assert!(passed > 3 && seen.contains_key("/.well-known/est/second"), "nginx let {passed} rows pass");
    for (path, times) in seen.iter().filter(|(path, _)| !path.ends_with("/simplereenroll")) {
        assert!(
            nginx.get(path).is_some_and(|told| times <= told),
            "{path}: nginx sent {:?}, {times} came",
            nginx.get(path)
        );
    }
    assert_eq!(world.states("a"), ["active"]);
}

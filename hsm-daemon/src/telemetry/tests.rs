//! A collector that takes, one that is not there, and the queue between.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use prost::Message;

use super::wire::{Export, SpanMessage};
use super::*;

const SIGNED: Answered = Answered {
    operation: "sign",
    mechanism: "CKM_ECDSA_SHA256",
    result: "CKR_OK",
    ok: true,
    took: Duration::from_millis(3),
};

fn telemetry(listener: &TcpListener, sampled: u64) -> Telemetry {
    let port = listener.local_addr().expect("bound").port();
    let place = Place::parse(&format!("http://127.0.0.1:{port}"), None).expect("loopback");
    let resource = vec![("deployment.environment.name".to_owned(), "test".to_owned())];
    Telemetry { place, sampled, interval: Duration::from_millis(20), queue: 64, resource }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

/// Answers one request with `answer`, and gives its head and message.
fn serve(listener: &TcpListener, answer: &str) -> (String, Export) {
    let (mut line, _) = listener.accept().expect("a request");
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut more = [0; 4096];
        let count = line.read(&mut more).expect("readable");
        assert_ne!(count, 0, "the request ends early");
        bytes.extend_from_slice(&more[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
        let body = &bytes[end + 4..];
        if body.len() == length.parse::<usize>().expect("a number") {
            break (head, body.to_vec());
        }
    };
    line.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).expect("answered");
    (head, Export::decode(body.as_slice()).expect("a message"))
}

fn spans(export: &Export) -> Vec<SpanMessage> {
    let scopes = export.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

fn parent(sampled: bool) -> Option<Parent> {
    Some(Parent { trace: [7; 16], span: [8; 8], sampled })
}

#[test]
fn a_collector_gets_what_was_chosen_in_its_words() {
    let listener = listener();
    let counts = Counts::default();
    let traces = Traces::start(telemetry(&listener, u64::MAX), counts.clone()).expect("started");
    traces.tell(traces.choose(None).expect("all are chosen"), SIGNED);
    let refused = Answered { result: "CKR_PIN_INCORRECT", ok: false, ..SIGNED };
    traces.tell(traces.choose(parent(true)).expect("the client decided"), refused);
    let (head, export) = serve(&listener, "200 OK");
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Content-Type: application/x-protobuf"), "{head}");
    let resource = export.resource_spans[0].resource.as_ref().expect("a resource");
    let named: Vec<&str> = resource.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(named, ["service.name", "service.version", "deployment.environment.name"]);
    let mut got = spans(&export);
    if got.len() == 1 {
        got.extend(spans(&serve(&listener, "200 OK").1));
    }
    let [own, theirs] = got.as_slice() else { panic!("{} spans", got.len()) };
    assert_eq!((own.name.as_str(), own.kind, own.status.is_none()), ("sign", 2, true));
    assert_eq!(own.end_time_unix_nano - own.start_time_unix_nano, 3_000_000);
    assert!(own.trace_id.iter().any(|byte| *byte != 0) && own.parent_span_id.is_empty());
    assert_eq!(own.attributes[0], super::wire::attribute("craton.hsm.mechanism", "CKM_ECDSA_SHA256"));
    assert_eq!((theirs.trace_id.as_slice(), theirs.parent_span_id.as_slice()), (&[7; 16][..], &[8; 8][..]));
    assert_eq!(theirs.status.as_ref().map(|status| status.code), Some(2));
    traces.finish();
    assert_eq!((counts.sent.get(), counts.lost.get(), counts.dropped.get()), (2, 0, 0));
}

#[test]
fn a_client_that_traces_decides_and_of_the_others_a_share_is_chosen() {
    let listener = listener();
    let half = Traces::start(telemetry(&listener, u64::MAX / 2), Counts::default()).expect("started");
    assert!(half.choose(parent(false)).is_none());
    assert!((0..64).all(|_| half.choose(parent(true)).is_some()));
    let chosen = (0..10_000).filter(|_| half.choose(None).is_some()).count();
    // Twenty standard deviations off the middle.
    assert!((4_000..6_000).contains(&chosen), "{chosen}");
    let none = Traces::start(telemetry(&listener, 0), Counts::default()).expect("started");
    assert!((0..1_000).all(|_| none.choose(None).is_none()));
}

#[test]
fn what_the_collector_does_not_take_is_counted_and_nobody_waits() {
    let listener = listener();
    let counts = Counts::default();
    let traces = Traces::start(telemetry(&listener, u64::MAX), counts.clone()).expect("started");
    let tell = |count: u64| (0..count).for_each(|_| traces.tell(traces.choose(None).expect("chosen"), SIGNED));
    tell(1);
    serve(&listener, "503 Service Unavailable");
    // From here on nobody accepts: the thread waits for an answer, and the queue behind it fills.
    let (held, wait) = mpsc::channel::<()>();
    let silent = std::thread::spawn(move || {
        let line = listener.accept();
        wait.recv().unwrap_or_default();
        drop(line);
    });
    tell(10_000);
    assert!(counts.dropped.get() > 0, "the queue has no end");
    drop(held);
    silent.join().expect("no panic");
    let begun = Instant::now();
    while counts.sent.get() + counts.lost.get() + counts.dropped.get() < 10_001 {
        assert!(begun.elapsed() < Duration::from_secs(120), "spans are neither sent nor counted as lost");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(counts.sent.get(), 0);
}

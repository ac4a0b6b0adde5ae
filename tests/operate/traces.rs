//! Traces: what a collector of OpenTelemetry is told, whose span is whose child, and that a dead collector stops nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use acceptance::certificates;
use acceptance::daemon::workspace;
use acceptance::tools::{available, python, run, skip};
use acceptance::world::{LABEL, PIN, World};
use serde_json::Value;

/// A collector that decodes with OpenTelemetry's own messages.
struct Collector {
    child: Child,
    lines: BufReader<ChildStdout>,
    port: u16,
}

impl Collector {
    fn start(python: &Path, port: u16, tls: &[PathBuf]) -> Self {
        let program = workspace().join("tests/testdata/collector.py");
        let mut child = Command::new(python)
            .arg(program)
            .arg(port.to_string())
            .args(tls)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut port = String::new();
        lines.read_line(&mut port).expect("a port");
        Collector { child, lines, port: port.trim().parse().expect("a number") }
    }

    /// Reads spans until one is as wanted.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).expect("readable"), 0, "the collector has ended");
            for secret in [PIN, LABEL, "kept"] {
                assert!(!line.contains(secret), "a span tells {secret}: {line}");
            }
            let span: Value = serde_json::from_str(&line).expect("a span");
            if wanted(&span) {
                return span;
            }
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn is(span: &Value, name: &str, result: &str) -> bool {
    span["name"] == name && span["craton.hsm.result"] == result
}

#[test]
fn a_collector_sees_operations_and_a_dead_one_stops_nothing() {
    const NAME: &str = "traces::a_collector_sees_operations_and_a_dead_one_stops_nothing";
    let Some(python) = python("opentelemetry.proto.collector.trace.v1.trace_service_pb2") else {
        return skip(NAME, "opentelemetry-proto not found");
    };
    if !available(NAME, "pkcs11-tool") || !available(NAME, "curl") {
        return;
    }
    let mut collector = Collector::start(&python, 0, &[]);
    let mut world = World::unstarted();
    let table = format!(
        "[telemetry]\nendpoint = \"http://127.0.0.1:{}\"\nsample_ratio = 1.0\ninterval_secs = 1\nresource = {{ site = \"here\" }}",
        collector.port
    );
    world.configure(&table);
    world.start_daemon();
    world.init_token();
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--label", "kept"]).ok();
    let data = world.dir().join("data");
    fs::write(&data, b"data").expect("our own directory");
    let file = data.to_str().expect("UTF-8");
    let sign = ["--sign", "--mechanism", "ECDSA-SHA256", "--label", "kept", "--input-file", file];
    world.pkcs11_tool_login(sign).ok();
    let signed = collector.until(|span| is(span, "sign", "CKR_OK"));
    assert_eq!(signed["craton.hsm.mechanism"], "CKM_ECDSA_SHA256", "{signed}");
    assert_eq!((&signed["kind"], &signed["error"]), (&2.into(), &false.into()), "{signed}");
    assert_eq!(signed["resource"]["service.name"], "craton-hsm", "{signed}");
    assert_eq!(signed["resource"]["site"], "here", "{signed}");
    assert!(signed["nanos"].as_u64().is_some_and(|nanos| nanos > 0), "{signed}");
    world.pkcs11_tool(["--token-label", LABEL, "--login", "--pin", "wrong-pin-1", "--list-objects"]).refused();
    assert_eq!(collector.until(|span| is(span, "login", "CKR_PIN_INCORRECT"))["error"], true);

    // A gRPC client's span is the parent of the daemon's: Attach with protocol 1, in a frame of gRPC.
    let frame = world.dir().join("frame");
    fs::write(&frame, [0, 0, 0, 0, 2, 8, 1]).expect("our own directory");
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--http2-prior-knowledge", "--max-time", "60", "-o", "/dev/null"]);
    curl.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    curl.args(["-H", &format!("traceparent: 00-{trace}-{parent}-01")]);
    curl.arg("--data-binary").arg(format!("@{}", frame.display()));
    curl.arg("--unix-socket").arg(world.socket()).arg("http://localhost/craton.hsm.v1.Token/Attach");
    run(&mut curl).ok();
    let attached = collector.until(|span| span["trace"] == trace);
    assert_eq!((&attached["name"], &attached["parent"]), (&"attach".into(), &parent.into()), "{attached}");

    drop(collector);
    world.pkcs11_tool_login(sign).ok();
    world.stop_daemon();
}

/// How many spans the collector did not take.
fn lost(world: &World) -> u64 {
    let page = world.admin(["metrics"]).ok().text();
    let count = page.lines().find_map(|line| line.strip_prefix("craton_hsm_spans_total{outcome=\"lost\"} "));
    count.unwrap_or_else(|| panic!("no count of lost spans in\n{page}")).parse().expect("a number")
}

/// Goes on working until more spans than these are lost. The work never waits for the collector.
fn work_until_lost(world: &World, before: u64) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while lost(world) <= before {
        assert!(Instant::now() < deadline, "no span was lost");
        world.pkcs11_tool(["-L"]).ok();
    }
}

#[test]
fn a_collector_beyond_this_machine_is_told_under_mutual_tls_only() {
    const NAME: &str = "traces::a_collector_beyond_this_machine_is_told_under_mutual_tls_only";
    let Some(python) = python("opentelemetry.proto.collector.trace.v1.trace_service_pb2") else {
        return skip(NAME, "opentelemetry-proto not found");
    };
    if !available(NAME, "pkcs11-tool") || !available(NAME, "openssl") {
        return;
    }
    let mut world = World::unstarted();
    certificates::make(world.dir(), &certificates::ALL);
    let place = world.dir().to_owned();
    let at = |name: &str| place.join(name);
    let copy = |from: &str, to: &str| {
        // Under another name first: the daemon may be reading it.
        fs::copy(at(from), at("next")).and_then(|_| fs::rename(at("next"), at(to))).expect("our own directory");
    };
    let show = |who: &str| ["pem", "key"].map(|kind| copy(&format!("{who}.{kind}"), &format!("shown.{kind}")));
    let files = ["server.pem", "server.key", "ca.pem"].map(at);
    let mut collector = Collector::start(&python, 0, &files);
    let port = collector.port;
    copy("ca.pem", "collector-ca.pem");
    show("right");
    let standard = world.standard_config();
    world.write_config(&format!(
        "{standard}[telemetry]\nendpoint = \"https://127.0.0.1:{port}\"\nsample_ratio = 1.0\ninterval_secs = 1\n\
         tls_ca = \"collector-ca.pem\"\ntls_cert = \"shown.pem\"\ntls_key = \"shown.key\"\n"
    ));
    world.start_daemon();
    world.init_token();
    world.pkcs11_tool(["-L"]).ok();
    collector.until(|span| is(span, "attach", "CKR_OK"));

    // A collector that another authority vouches for is told nothing; the files are read again for each message.
    copy("other.pem", "collector-ca.pem");
    work_until_lost(&world, lost(&world));
    copy("ca.pem", "collector-ca.pem");
    world.pkcs11_tool(["-L"]).ok();
    collector.until(|span| is(span, "attach", "CKR_OK"));

    // A daemon that it does not know is not heard.
    show("stranger");
    work_until_lost(&world, lost(&world));
    show("right");

    // It is away, and comes back.
    drop(collector);
    work_until_lost(&world, lost(&world));
    let mut collector = Collector::start(&python, port, &files);
    world.pkcs11_tool_login(["--list-objects"]).ok();
    collector.until(|span| is(span, "login", "CKR_OK"));
    world.stop_daemon();
}

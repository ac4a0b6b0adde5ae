//! The daemon's binary as an operator and a gRPC client meet it: exit codes, the socket, health, mutual TLS, the end.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod world;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::{Duration, Instant};

use hsm_proto::frame::{self, HEADER_LEN, PREFACE};
use hsm_proto::v1;
use hsm_proto::v1::token_client::TokenClient;
use tonic::transport::{Channel, Endpoint};
use world::network::{ANY_CERTIFICATE, TLS13, channel, free_port, health, health_over_tls, make_certificates};
use world::{World, ask, attach_request, local_channel};

fn fault(reply: v1::Reply) -> u64 {
    match reply.result {
        Some(v1::reply::Result::Fault(fault)) => fault.rv,
        other => panic!("no fault: {other:?}"),
    }
}

#[test]
fn a_wrong_configuration_ends_with_78_and_one_sentence() {
    let rows = [
        ("colour = \"red\"", 0o600, "colour"),
        ("bind = \"0.0.0.0:5696\"", 0o600, "not a loopback"),
        ("", 0o666, "chmod go-w"),
        (
            "bind = \"127.0.0.1:0\"\ntls_cert = \"absent\"\ntls_key = \"k\"\ntls_client_ca = \"ca\"",
            0o600,
            "/ca cannot be used",
        ),
    ];
    for (daemon, mode, expected) in rows {
        let world = World::new(daemon);
        let file = world.path("craton_hsm.toml");
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        let (code, said) = world.refuses();
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
        assert!(!world.path("hsm.sock").exists());
    }
}

#[test]
fn logs_are_json_when_asked_and_an_unknown_form_is_refused() {
    let world = World::new("");
    let said = world.command().env("RUST_LOG_FORMAT", "xml").output().unwrap();
    assert_eq!(said.status.code(), Some(78), "{said:?}");
    // A start that fails after the first lines ends by itself.
    std::fs::write(world.path("hsm.sock"), "").unwrap();
    let said = world.command().env("RUST_LOG_FORMAT", "json").output().unwrap();
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let said = String::from_utf8(said.stderr).unwrap();
    let self_test = said.lines().find(|line| line.contains("self-test passed")).unwrap();
    assert!(
        self_test.starts_with('{') && self_test.contains("\"message\":") && self_test.ends_with('}'),
        "{self_test}"
    );
    assert!(said.lines().last().unwrap().ends_with("exists and is not a socket"), "{said}");
}

#[test]
fn a_configuration_can_be_judged_without_starting() {
    let world = World::new("");
    let output = world.command().arg("--check-config").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("valid"));
    assert!(!world.path("store").exists() && !world.path("hsm.sock").exists());
}

#[test]
fn the_self_test_comes_before_the_listener_and_sigterm_ends_cleanly() {
    let mut world = World::new("");
    drop(UnixListener::bind(world.path("hsm.sock")).unwrap());
    world.start();
    let log = world.log();
    let place = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {log}"));
    assert!(place("power-on self-test passed") < place("ready"));
    let mode = world.path("hsm.sock").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stream = UnixStream::connect(world.path("hsm.sock")).unwrap();
    (&stream).write_all(&PREFACE).unwrap();
    assert_eq!(world.stop().code(), Some(0), "{}", world.log());
    assert!(!world.path("hsm.sock").exists());
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let mut world = World::new("");
    world.start();
    let (code, said) = world.refuses();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("craton-hsm-daemon: "), "{said}");
    assert!(UnixStream::connect(world.path("hsm.sock")).is_ok());
}

#[test]
fn the_express_lane_attaches_first_and_survives_bad_clients() {
    let mut world = World::new("max_random_length = 100");
    world.start();
    let connect = || UnixStream::connect(world.path("hsm.sock")).unwrap();
    let stream = connect();
    (&stream).write_all(&PREFACE).unwrap();
    let slots = || v1::request::Op::ListSlots(v1::ListSlotsRequest {});
    assert_eq!(fault(ask(&stream, slots())), ck::rv::CKR_CRYPTOKI_NOT_INITIALIZED.0);
    let wrong = v1::AttachRequest { protocol: 99, ..attach_request() };
    assert_eq!(fault(ask(&stream, v1::request::Op::Attach(wrong))), ck::rv::CKR_DEVICE_ERROR.0);
    let short = v1::AttachRequest { application: vec![1; 15], ..attach_request() };
    assert_eq!(fault(ask(&stream, v1::request::Op::Attach(short))), ck::rv::CKR_ARGUMENTS_BAD.0);
    let attached = match ask(&stream, v1::request::Op::Attach(attach_request())).result {
        Some(v1::reply::Result::Attach(attached)) => attached,
        other => panic!("{other:?}"),
    };
    assert_eq!((attached.application.len(), attached.boot.len(), attached.max_random_bytes), (16, 16, 100));
    assert!(matches!(ask(&stream, slots()).result, Some(v1::reply::Result::ListSlots(_))));
    for garbage in [&b"\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"x", b"CRTNHSM\x02", b"PRI * HTTP/1.0\r\n\r\n"] {
        let mut bad = connect();
        bad.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        bad.write_all(garbage).unwrap();
        bad.shutdown(std::net::Shutdown::Write).unwrap();
        // A goodbye, the end or a reset: anything but silence.
        let silent = bad.read_to_end(&mut Vec::new()).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!silent, "{garbage:?}");
    }
    let long = v1::RandomRequest { session: 0, len: 101 };
    assert_eq!(fault(ask(&stream, v1::request::Op::Random(long))), ck::rv::CKR_ARGUMENTS_BAD.0);
}

#[test]
fn connections_beyond_the_limit_are_closed_and_the_place_comes_back() {
    let mut world = World::new("max_connections = 1");
    world.start();
    let connect = || {
        let stream = UnixStream::connect(world.path("hsm.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream
    };
    let first = connect();
    (&first).write_all(&PREFACE).unwrap();
    ask(&first, v1::request::Op::Attach(attach_request()));
    let mut second = connect();
    second.write_all(&PREFACE).unwrap();
    // The end, or a reset because what it said was not read.
    assert!(matches!(second.read(&mut [0]).map_err(|e| e.kind()), Ok(0) | Err(std::io::ErrorKind::ConnectionReset)));
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let mut next = connect();
        let sent = next.write_all(&PREFACE).and_then(|()| {
            let mut bytes = Vec::new();
            let op = Some(v1::request::Op::Attach(attach_request()));
            frame::encode(1, &v1::Request { op, number: 0 }, &mut bytes).unwrap();
            next.write_all(&bytes)?;
            next.read_exact(&mut [0; HEADER_LEN])
        });
        if sent.is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "the place was not freed");
    }
}

#[tokio::test]
async fn grpc_on_the_same_socket_answers_health_and_the_token_service() {
    let mut world = World::new("");
    world.start();
    let channel = local_channel(world.path("hsm.sock")).await;
    for service in ["", "craton.hsm.v1.Token"] {
        assert_eq!(health(channel.clone(), service).await.unwrap(), 1, "{service:?} is not serving");
    }
    assert_eq!(health(channel.clone(), "nothing").await.unwrap_err().code(), tonic::Code::NotFound);
    let mut token = TokenClient::new(channel.clone());
    let refused = token.list_slots(v1::ListSlotsRequest {}).await.unwrap_err();
    let refused = v1::Fault::from_status(&refused, ck::rv::CKR_OK);
    assert_eq!(refused.rv, ck::rv::CKR_CRYPTOKI_NOT_INITIALIZED.0);
    let attached = token.attach(attach_request()).await.unwrap().into_inner();
    let mut request = tonic::Request::new(v1::ListSlotsRequest {});
    let name = tonic::metadata::MetadataValue::from_bytes(&attached.application);
    request.metadata_mut().insert_bin("craton-application-bin", name);
    token.list_slots(request).await.unwrap();
    // Another connection has not attached, whatever it knows.
    let mut stranger = TokenClient::new(local_channel(world.path("hsm.sock")).await);
    let mut request = tonic::Request::new(v1::ListSlotsRequest {});
    let name = tonic::metadata::MetadataValue::from_bytes(&attached.application);
    request.metadata_mut().insert_bin("craton-application-bin", name);
    assert!(stranger.list_slots(request).await.is_err());
    let oversized = v1::SeedRandomRequest { session: 1, seed: vec![0; frame::MAX_BODY + 1] };
    let refused = token.seed_random(oversized).await.unwrap_err();
    assert!(refused.message().contains("too large"), "{refused:?}");
    let mut admin = v1::admin_client::AdminClient::new(channel);
    let status = admin.status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert!(status.self_test.starts_with("passed"), "{}", status.self_test);
}

async fn until_not_served(open: &Channel) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while health(open.clone(), "").await.is_ok() {
        assert!(Instant::now() < deadline, "still served");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_served_as_long_as_the_clients_file_names_it() {
    let name = "a_client_is_served_as_long_as_the_clients_file_names_it";
    let Some((mut world, port)) = World::on_the_network(name, &["right"], "", "") else { return };
    world.start();
    let folder = world.folder.path();
    assert!(health_over_tls(folder, port, Some("right"), TLS13).await.is_err(), "no row names it");
    let hang_up = || {
        let pid = world.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    };
    world.write_clients("[[client]]\nsubject = \"CN=right\"\nroles = [\"use\"]\ntokens = [\"*\"]\n");
    hang_up();
    let deadline = Instant::now() + Duration::from_secs(60);
    let open = loop {
        match channel(folder, port, Some("right"), TLS13).await {
            Ok(open) if health(open.clone(), "").await.is_ok() => break open,
            _ => assert!(Instant::now() < deadline, "not served:\n{}", world.log()),
        }
    };
    // A file that cannot be used changes nothing, a row that is gone ends the connection.
    world.write_clients("[[client]]\nroles = 7\n");
    hang_up();
    assert_eq!(health(open.clone(), "").await.unwrap(), 1);
    world.write_clients("[[client]]\nsubject = \"CN=somebody else\"\nroles = [\"use\"]\ntokens = [\"*\"]\n");
    until_not_served(&open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_clients_that_say_nothing_keep_no_place_and_none_of_the_local_ones() {
    let port = free_port();
    let mut world = World::new(&format!(
        "bind = \"127.0.0.1:{port}\"\nallow_insecure = true\nmax_connections = 4\nhandshake_timeout_secs = 2"
    ));
    world.start();
    // Without TLS they are inside as soon as they have connected. One place of four is not theirs.
    let mut silent: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let express = UnixStream::connect(world.path("hsm.sock")).unwrap();
    (&express).write_all(&PREFACE).unwrap();
    assert!(matches!(
        ask(&express, v1::request::Op::Attach(attach_request())).result,
        Some(v1::reply::Result::Attach(_))
    ));
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let silence = stream.read_to_end(&mut Vec::new()).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!silence, "it still holds its place");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let served = async || {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
        health(endpoint.connect().await.ok()?, "").await.ok()
    };
    while served().await.is_none() {
        assert!(Instant::now() < deadline, "no place came back:\n{}", world.log());
    }
    assert_eq!(world.stop().code(), Some(0), "{}", world.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_certificate_passes_mutual_tls() {
    let name = "only_the_right_certificate_passes_mutual_tls";
    let Some((mut world, port)) = World::on_the_network(name, &["right"], ANY_CERTIFICATE, "") else { return };
    world.start();
    let rows = [
        (None, false),
        (Some("stranger"), false),
        (Some("expired"), false),
        (Some("purpose"), false),
        (Some("revoked"), false),
        (Some("right"), true),
    ];
    for (client, passes) in rows {
        let answer = health_over_tls(world.folder.path(), port, client, TLS13).await;
        assert_eq!(answer.is_ok(), passes, "{client:?}: {answer:?}");
    }
    let old = health_over_tls(world.folder.path(), port, Some("right"), &[&rustls::version::TLS12]).await;
    assert!(old.is_err());
    // Silent clients hold nobody up.
    let silent: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    assert_eq!(health_over_tls(world.folder.path(), port, Some("right"), TLS13).await, Ok(1));
    drop(silent);
    assert_eq!(world.stop().code(), Some(0), "{}", world.log());
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let world = World::new(
        "bind = \"127.0.0.1:0\"\ntls_cert = \"server.pem\"\ntls_key = \"server.key\"\ntls_client_ca = \"ca.pem\"",
    );
    let Some(()) = make_certificates(world.folder.path(), "a_key_file_that_others_can_read_is_refused", &[]) else {
        return;
    };
    std::fs::set_permissions(world.path("server.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let (code, said) = world.refuses();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("server.key") && said.contains("0640"), "{said}");
}

/// A full disk under the log made every connection end: writing to the log failed, saying so on the same file failed too, and that
/// was a panic.
#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let mut world = World::new("max_random_length = 100");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    world.child = Some(world.command().env("RUST_LOG", "debug").stderr(full).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(60);
    let stream = loop {
        match UnixStream::connect(world.path("hsm.sock")) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    (&stream).write_all(&PREFACE).unwrap();
    for _ in 0..3 {
        assert!(matches!(
            ask(&stream, v1::request::Op::Attach(attach_request())).result,
            Some(v1::reply::Result::Attach(_))
        ));
    }
    // A refusal is worth a line, and gets its answer although there is none.
    let long = v1::RandomRequest { session: 0, len: 101 };
    assert_eq!(fault(ask(&stream, v1::request::Op::Random(long))), ck::rv::CKR_ARGUMENTS_BAD.0);
}

/// sd_notify(3): a unit of Type=notify is started when the daemon serves, and ended by its watchdog when it does not live any more.
#[test]
fn a_supervisor_is_told_of_the_start_of_life_and_of_the_end() {
    let mut world = World::new("");
    let supervisor = std::os::unix::net::UnixDatagram::bind(world.path("notify")).unwrap();
    supervisor.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let hear = || {
        let mut heard = [0; 256];
        let count = supervisor.recv(&mut heard).expect("the daemon says something");
        String::from_utf8(heard[..count].to_vec()).unwrap()
    };
    let log = std::fs::File::create(world.path("log")).unwrap();
    let mut command = world.command();
    command.env("NOTIFY_SOCKET", world.path("notify")).env("WATCHDOG_USEC", "100000").env_remove("WATCHDOG_PID");
    world.child = Some(command.stderr(log).spawn().unwrap());
    assert_eq!(hear(), "READY=1\nSTATUS=ok");
    UnixStream::connect(world.path("hsm.sock")).expect("it is ready when it says so");
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1\nSTATUS=ok");
    }
    assert_eq!(world.stop().code(), Some(0), "{}", world.log());
    let mut last = hear();
    while last.starts_with("WATCHDOG") {
        last = hear();
    }
    assert_eq!(last, "STOPPING=1");
}

/// Without the right to lock memory the log says so, and a daemon that must lock it does not start.
#[test]
fn a_daemon_that_must_lock_its_secrets_and_may_not_refuses_to_start() {
    if Command::new("prlimit").arg("--version").output().is_err()
        || Command::new("setpriv").arg("--version").output().is_err()
    {
        println!(
            "SKIPPED a_daemon_that_must_lock_its_secrets_and_may_not_refuses_to_start: prlimit or setpriv not found"
        );
        return;
    }
    let world = World::new("");
    let config = world.path("craton_hsm.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}[hardening]\nrequire_locked_memory = true\n")).unwrap();
    // The superuser may lock what he likes, unless that is taken from him.
    let mut command = Command::new("prlimit");
    command.arg("--memlock=0:0");
    if rustix::process::geteuid().is_root() {
        command.args(["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"]);
    }
    command.arg(env!("CARGO_BIN_EXE_craton-hsm-daemon")).arg("--config").arg(&config);
    let output = command.current_dir(world.folder.path()).env_remove("RUST_LOG").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("hardening.require_locked_memory"), "{said}");
    assert!(!world.path("hsm.sock").exists());
}

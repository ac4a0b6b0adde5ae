//! Each limit on what a client takes, by name: reached, refused beyond, and given back. docs/operations.md has the table.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod world;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hsm_proto::frame::{self, PREFACE};
use hsm_proto::v1;
use hsm_proto::v1::token_client::TokenClient;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::metadata::MetadataValue;
use tonic_health::pb::HealthCheckRequest;
use tower::ServiceExt;
use world::network::{ANY_CERTIFICATE, TLS13, free_port, handshake, health, tls};
use world::{World, ask, attach_request, attached, express, http2, init_token, local_channel, open_session, receive};

const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// A local connection that speaks HTTP/2 by hand.
fn by_hand(world: &World) -> UnixStream {
    let mut stream = UnixStream::connect(world.path("hsm.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(&http2::hello(1 << 20)).unwrap();
    stream
}

#[test]
fn a_connection_carries_64_requests_at_once_and_refuses_one_more() {
    let mut world = World::new("");
    world.start();
    let mut stream = by_hand(&world);
    let begun: Vec<u8> = (0..65).flat_map(|index| http2::call(2 * index + 1, HEALTH, None)).collect();
    stream.write_all(&begun).unwrap();
    let mut announced = None;
    loop {
        match http2::next(&mut stream).unwrap() {
            (http2::SETTINGS, 0, settings) => {
                let of_streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).map(<[u8]>::to_vec);
                announced = announced.or(of_streams);
            }
            // 7 is REFUSED_STREAM: the client may send it again.
            (http2::RST_STREAM, number, why) => {
                assert_eq!((number, &why[..]), (129, &[0, 0, 0, 7][..]));
                break;
            }
            _ => {}
        }
    }
    assert_eq!(announced, Some(vec![0, 3, 0, 0, 0, 64]), "the client is told");
    // Those that were taken are answered, and make room.
    for number in [1, 127] {
        stream.write_all(&http2::message(number, &HealthCheckRequest::default())).unwrap();
        assert_eq!(http2::answer(&mut stream, number), [8, 1]);
    }
    let next = [http2::call(131, HEALTH, None), http2::message(131, &HealthCheckRequest::default())].concat();
    stream.write_all(&next).unwrap();
    assert_eq!(http2::answer(&mut stream, 131), [8, 1]);
}

/// A message that lacks its last byte until it is let go, and counts what is taken of it.
fn unfinished(message: Vec<u8>, taken: &Arc<AtomicUsize>, let_go: watch::Receiver<bool>) -> Body {
    let (pieces, stream) = mpsc::channel::<Result<Frame<Bytes>, Status>>(1);
    let (mut let_go, taken) = (let_go, Arc::clone(taken));
    tokio::spawn(async move {
        let mut message = Bytes::from(message);
        let last = message.split_off(message.len() - 1);
        while !message.is_empty() {
            let piece = message.split_to(message.len().min(16 * 1024));
            let len = piece.len();
            if pieces.send(Ok(Frame::data(piece))).await.is_err() {
                return;
            }
            taken.fetch_add(len, Ordering::Relaxed);
        }
        if let_go.wait_for(|go| *go).await.is_ok() {
            pieces.send(Ok(Frame::data(last))).await.unwrap_or_default();
        }
    });
    Body::new(StreamBody::new(ReceiverStream::new(stream)))
}

/// Of 63 messages of a mebibyte four are heard to their ends, and of the others what HTTP/2's window holds; nobody is kept out meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_makes_the_daemon_hold_four_long_requests_and_a_window() {
    let mut world = World::new("request_timeout_secs = 600");
    world.start();
    let channel = local_channel(world.path("hsm.sock")).await;
    let asked = v1::SeedRandomRequest { session: 1, seed: vec![7; 1 << 20] };
    let body = asked.encode_to_vec();
    let message = [&[0][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), &body].concat();
    let (taken, (go, let_go)) = (Arc::new(AtomicUsize::new(0)), watch::channel(false));
    let mut calls = JoinSet::new();
    for _ in 0..63 {
        let request = Request::post("http://daemon/craton.hsm.v1.Token/SeedRandom")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(unfinished(message.clone(), &taken, let_go.clone()))
            .unwrap();
        calls.spawn(channel.clone().oneshot(request));
    }
    // Until no more is taken.
    let mut before = usize::MAX;
    while taken.load(Ordering::Relaxed) != before {
        before = taken.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(before < 36 << 20, "{before} bytes were taken");
    assert_eq!(health(channel, "").await.unwrap(), 1);
    go.send(true).unwrap();
    while let Some(answer) = calls.join_next().await {
        // Nobody has attached: that is said to each, so each was heard.
        let answer = answer.unwrap().unwrap();
        assert!(answer.headers().get("grpc-status").is_some_and(|status| status != "0"), "{:?}", answer.headers());
    }
}

#[tokio::test]
async fn headers_of_more_than_16_kib_are_refused() {
    let mut world = World::new("");
    world.start();
    let mut token = TokenClient::new(local_channel(world.path("hsm.sock")).await);
    for (len, taken) in [(12_000, true), (17_000, false), (12_000, true)] {
        let mut request = tonic::Request::new(attach_request());
        request.metadata_mut().insert("more", MetadataValue::try_from("x".repeat(len)).unwrap());
        let answer = token.attach(request).await;
        assert_eq!(answer.is_ok(), taken, "{len}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_more_than_4_mib_is_refused_by_both_carriers_with_the_limit() {
    let mut world = World::new("");
    world.start();
    let seed = |len| v1::SeedRandomRequest { session: 1, seed: vec![0; len] };
    let mut token = TokenClient::new(local_channel(world.path("hsm.sock")).await);
    let refused = token.seed_random(seed(frame::MAX_BODY + 1)).await.unwrap_err();
    assert!(
        refused.message().contains("too large") && refused.message().contains(&frame::MAX_BODY.to_string()),
        "{refused:?}"
    );
    // One that fits is refused for another reason: nobody has attached.
    let other = token.seed_random(seed(4 << 20)).await.unwrap_err();
    assert_eq!(v1::Fault::from_status(&other, ck::rv::CKR_OK).rv, ck::rv::CKR_CRYPTOKI_NOT_INITIALIZED.0);
    tokio::task::spawn_blocking(move || {
        let mut stream = express(&world);
        let header = [(u32::try_from(frame::MAX_BODY).unwrap() + 1).to_le_bytes(), [0; 4]].concat();
        stream.write_all(&header).unwrap();
        let Some(v1::reply::Result::Fault(fault)) = receive(&stream).result else { panic!("no fault") };
        assert_eq!(fault.rv, ck::rv::CKR_DATA_LEN_RANGE.0);
        assert!(fault.detail.contains(&frame::MAX_BODY.to_string()), "{}", fault.detail);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "and the connection ends");
        let stream = express(&world);
        let fits = ask(&stream, v1::request::Op::SeedRandom(seed(4 << 20)));
        assert!(matches!(fits.result, Some(v1::reply::Result::Fault(fault)) if fault.rv == ck::rv::CKR_CRYPTOKI_NOT_INITIALIZED.0));
    })
    .await
    .unwrap();
}

#[test]
fn a_client_has_its_share_of_the_sessions_however_many_applications_it_has() {
    let mut world = World::with_token("", "max_sessions = 4\nmax_sessions_per_client = 6\nmax_sessions_total = 8");
    world.start();
    let full = Some(ck::rv::CKR_SESSION_COUNT.0);
    let (first, _) = attached(&world);
    init_token(&first);
    let open = |stream: &UnixStream, count| (0..count).map(|_| open_session(stream)).collect::<Result<Vec<u64>, u64>>();
    assert_eq!(open(&first, 4).unwrap().len(), 4);
    assert_eq!(open_session(&first).err(), full, "of one application");
    let (second, _) = attached(&world);
    assert_eq!(open(&second, 2).unwrap().len(), 2);
    assert_eq!(open_session(&second).err(), full, "of one client");
    drop(first);
    // The daemon may need a moment to see that it has gone.
    let deadline = Instant::now() + Duration::from_secs(60);
    while open_session(&second).is_err() {
        assert!(Instant::now() < deadline, "the places do not come back");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn one_connection_has_64_applications_and_no_more() {
    let mut world = World::new("");
    world.start();
    let mut token = TokenClient::new(local_channel(world.path("hsm.sock")).await);
    for _ in 0..64 {
        token.attach(attach_request()).await.unwrap();
    }
    let refused = token.attach(attach_request()).await.unwrap_err();
    assert_eq!(v1::Fault::from_status(&refused, ck::rv::CKR_OK).rv, ck::rv::CKR_DEVICE_MEMORY.0, "{refused:?}");
    TokenClient::new(local_channel(world.path("hsm.sock")).await).attach(attach_request()).await.unwrap();
}

#[test]
fn a_connection_that_asks_nothing_is_closed_and_a_session_keeps_it() {
    let port = free_port();
    let mut world = World::new(&format!("bind = \"127.0.0.1:{port}\"\nallow_insecure = true\nidle_timeout_secs = 1"));
    world.start();
    let (express_kept, _) = attached(&world);
    init_token(&express_kept);
    open_session(&express_kept).unwrap();
    let mut grpc_kept = by_hand(&world);
    let attach =
        |number| [http2::call(number, "/craton.hsm.v1.Token/Attach", None), http2::message(number, &attach_request())];
    grpc_kept.write_all(&attach(1).concat()).unwrap();
    let attach_reply: v1::AttachReply = prost::Message::decode(&http2::answer(&mut grpc_kept, 1)[..]).unwrap();
    let name = data_encoding::BASE64_NOPAD.encode(&attach_reply.application);
    let open = http2::call(3, "/craton.hsm.v1.Token/OpenSession", Some(&name));
    let request = http2::message(3, &v1::OpenSessionRequest { slot: 0, flags: 6 });
    grpc_kept.write_all(&[open, request].concat()).unwrap();
    let opened: v1::OpenSessionReply = prost::Message::decode(&http2::answer(&mut grpc_kept, 3)[..]).unwrap();
    // Twice one after another: whoever is kept has outlived its time for sure.
    for _ in 0..2 {
        let (mut without_session, _) = attached(&world);
        let mut nobody = by_hand(&world);
        let mut afar = TcpStream::connect(("127.0.0.1", port)).unwrap();
        afar.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        afar.write_all(&http2::hello(1 << 20)).unwrap();
        let ends = [
            without_session.read_to_end(&mut Vec::new()),
            nobody.read_to_end(&mut Vec::new()),
            afar.read_to_end(&mut Vec::new()),
        ];
        for end in ends {
            // The end or a reset: anything but silence.
            assert!(!end.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "{end:?}");
        }
    }
    let info = http2::call(5, "/craton.hsm.v1.Token/SessionInfo", Some(&name));
    let request = http2::message(5, &v1::SessionRequest { session: opened.session });
    grpc_kept.write_all(&[info, request].concat()).unwrap();
    let info: v1::SessionInfoReply = prost::Message::decode(&http2::answer(&mut grpc_kept, 5)[..]).unwrap();
    assert_eq!(info.flags, 6);
    assert!(open_session(&express_kept).is_ok());
}

#[test]
fn a_handshake_that_is_not_finished_has_its_deadline() {
    let name = "a_handshake_that_is_not_finished_has_its_deadline";
    let Some((mut world, port)) =
        World::on_the_network(name, &["right"], ANY_CERTIFICATE, "handshake_timeout_secs = 1")
    else {
        return;
    };
    world.start();
    let config = tls(world.folder.path(), Some("right"), TLS13);
    let mut greeting = Vec::new();
    handshake(&config).write_tls(&mut greeting).unwrap();
    let connect = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    // Nothing, a part of the greeting, all of it and nothing more; and on the Unix socket, a part of a preface.
    for sent in [0, 20, greeting.len()] {
        let end = connect(&greeting[..sent]).read_to_end(&mut Vec::new());
        assert!(!end.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "{sent}: {end:?}");
    }
    for sent in [0, 3] {
        let mut local = UnixStream::connect(world.path("hsm.sock")).unwrap();
        local.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        local.write_all(&PREFACE[..sent]).unwrap();
        let end = local.read_to_end(&mut Vec::new());
        assert!(!end.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "{sent}: {end:?}");
    }
}

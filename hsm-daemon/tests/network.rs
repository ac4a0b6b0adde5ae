//! Clients on the network: who reaches which rpc, with which certificate, and what guessing PINs over many connections gets.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod world;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use hsm_proto::frame::{self, PREFACE};
use hsm_proto::v1;
use hsm_proto::v1::admin_client::AdminClient;
use hsm_proto::v1::reply::Result as Outcome;
use hsm_proto::v1::request::Op;
use hsm_proto::v1::token_client::TokenClient;
use prost::bytes::Buf;
use rustls::{ClientConnection, StreamOwned};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use world::http2;
use world::network::{TLS13, handshake, raw_tls, revoke, tls};
use world::{World, ask, attach_request, attached, local_channel};

/// Clients that are accepted, by the names in their certificates. `unnamed` has no row.
const GOOD: [&str; 8] = ["right", "witness", "unnamed", "guest1", "guest2", "guest3", "guest4", "guest5"];

/// Their roles.
const CLIENTS: &str = r#"
[[client]]
subject = "CN=witness"
roles = ["witness"]
[[client]]
subject = "CN=right"
roles = ["use", "manage", "so", "backup", "audit-read", "admin"]
tokens = ["*"]
[[client]]
subject = "CN=guest1"
roles = ["use"]
tokens = ["*"]
[[client]]
subject = "CN=guest2"
roles = ["use"]
tokens = ["*"]
[[client]]
subject = "CN=guest3"
roles = ["use"]
tokens = ["*"]
[[client]]
subject = "CN=guest4"
roles = ["use"]
tokens = ["*"]
[[client]]
subject = "CN=guest5"
roles = ["use"]
tokens = ["*"]
"#;

/// A running daemon on TCP with these certificates and clients; `None`, and a line that says so, without openssl.
fn on_the_network(test: &str) -> Option<(World, u16)> {
    let (mut world, port) = World::on_the_network(test, &GOOD, CLIENTS, "")?;
    world.start();
    Some((world, port))
}

/// A connection with this certificate, or with none.
async fn channel(folder: &Path, port: u16, client: Option<&str>) -> Result<Channel, String> {
    world::network::channel(folder, port, client, TLS13).await
}

/// Sends the empty message, and takes any.
#[derive(Clone, Copy)]
struct Empty;

impl Codec for Empty {
    type Encode = ();
    type Decode = ();
    type Encoder = Empty;
    type Decoder = Empty;

    fn encoder(&mut self) -> Empty {
        Empty
    }

    fn decoder(&mut self) -> Empty {
        Empty
    }
}

impl Encoder for Empty {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Empty {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        bytes.advance(bytes.remaining());
        Ok(Some(()))
    }
}

/// Calls any rpc with the empty message.
async fn call(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = path.parse().unwrap();
    let mut answers = client.server_streaming(tonic::Request::new(()), path, Empty).await?.into_inner();
    answers.message().await.map(drop)
}

/// The paths of a service's rpcs.
fn rpcs(source: &str, service: &str) -> Vec<String> {
    let (_, rest) = source.split_once(&format!("service {service} {{")).expect("the service");
    let names = rest.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
    names.map(|name| format!("/craton.hsm.v1.{service}/{}", name.trim())).collect()
}

fn token_rpcs() -> Vec<String> {
    rpcs(include_str!("../../proto/craton/hsm/v1/token.proto"), "Token")
}

fn admin_rpcs() -> Vec<String> {
    rpcs(include_str!("../../proto/craton/hsm/v1/admin.proto"), "Admin")
}

fn witness_rpcs() -> Vec<String> {
    rpcs(include_str!("../../proto/craton/hsm/v1/witness.proto"), "Witness")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rpc_answers_a_client_without_the_right_certificate() {
    let Some((world, port)) = on_the_network("no_rpc_answers_a_client_without_the_right_certificate") else { return };
    let folder = world.folder.path();
    let paths = [token_rpcs(), admin_rpcs(), witness_rpcs(), vec!["/grpc.health.v1.Health/Check".to_owned()]].concat();
    assert!(paths.len() > 50, "{}: {paths:?}", paths.len());
    let nobody =
        [None, Some("stranger"), Some("expired"), Some("early"), Some("purpose"), Some("revoked"), Some("unnamed")];
    for client in nobody {
        // The client's side of a handshake may end before the daemon has looked at its certificate.
        let Ok(channel) = channel(folder, port, client).await else { continue };
        for path in &paths {
            let answer = call(&channel, path).await.expect_err(path);
            let is_of_the_line =
                matches!(answer.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal);
            assert!(is_of_the_line && answer.details().is_empty(), "{client:?} {path}: {answer:?}");
        }
    }
    assert!(!world.log().contains("a defect"), "{}", world.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administration_is_not_on_the_network_and_a_witness_only_witnesses() {
    let name = "administration_is_not_on_the_network_and_a_witness_only_witnesses";
    let Some((world, port)) = on_the_network(name) else { return };
    let folder = world.folder.path();
    let right = channel(folder, port, Some("right")).await.unwrap();
    let witness = channel(folder, port, Some("witness")).await.unwrap();
    for path in admin_rpcs() {
        for client in [&right, &witness] {
            // Whatever roles its row has.
            assert_eq!(call(client, &path).await.expect_err(&path).code(), Code::Unimplemented, "{path}");
        }
    }
    for path in witness_rpcs() {
        let lacks_the_role = |answer: Result<(), Status>| {
            answer.is_err_and(|status| {
                status.code() == Code::PermissionDenied && status.message().contains("the role \"witness\"")
            })
        };
        assert!(lacks_the_role(call(&right, &path).await), "{path}");
        // It gets further: to a journal that this daemon does not keep.
        assert!(!lacks_the_role(call(&witness, &path).await), "{path}");
    }
    // The token's rpcs are reached, and ask for an application first.
    let mut asked = 0;
    for path in token_rpcs() {
        let Err(status) = call(&right, &path).await else { continue };
        asked +=
            usize::from(v1::Fault::from_status(&status, ck::rv::CKR_OK).rv == ck::rv::CKR_CRYPTOKI_NOT_INITIALIZED.0);
    }
    assert!(asked > 30, "{asked} rpcs");
}

/// One client's session with a token, and its attempts at the PIN.
async fn guess(channel: Channel, slot: u64, pin: &str, times: usize) -> Vec<u64> {
    let mut token = TokenClient::new(channel);
    let name = token.attach(attach_request()).await.unwrap().into_inner().application;
    let name = MetadataValue::from_bytes(&name);
    let mut request = tonic::Request::new(v1::OpenSessionRequest { slot, flags: 6 });
    request.metadata_mut().insert_bin("craton-application-bin", name.clone());
    let session = token.open_session(request).await.unwrap().into_inner().session;
    let mut answers = Vec::new();
    for _ in 0..times {
        let login = v1::LoginRequest { session, user: 1, pin: pin.as_bytes().to_vec(), without_pin: false };
        let mut request = tonic::Request::new(login);
        request.metadata_mut().insert_bin("craton-application-bin", name.clone());
        answers.push(match token.login(request).await {
            Ok(_) => 0,
            Err(status) => v1::Fault::from_status(&status, ck::rv::CKR_OK).rv,
        });
    }
    answers
}

/// Fifty connections of five clients, each of which may be wrong five times before it must wait: the PIN is locked after ten wrong ones
/// for all, and not one more is compared, not even the right one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_connections_of_five_clients_guess_no_more_than_the_limit() {
    let name = "fifty_connections_of_five_clients_guess_no_more_than_the_limit";
    let Some((world, port)) = on_the_network(name) else { return };
    let folder = world.folder.path().to_owned();
    let mut admin = AdminClient::new(local_channel(world.path("hsm.sock")).await);
    let init = v1::AdminInitTokenRequest {
        label: "guessed".to_owned(),
        so_pin: b"the-so-pin".to_vec(),
        user_pin: b"the-user-pin".to_vec(),
        ..Default::default()
    };
    let slot = admin.init_token(init).await.unwrap().into_inner().slot;
    let mut guesses = tokio::task::JoinSet::new();
    for number in 0..50 {
        let client = format!("guest{}", number % 5 + 1);
        let channel = channel(&folder, port, Some(&client)).await.unwrap();
        guesses.spawn(guess(channel, slot, "a-wrong-pin", 3));
    }
    let mut answers = Vec::new();
    while let Some(answer) = guesses.join_next().await {
        answers.extend(answer.unwrap());
    }
    // Some were told to come again: what could not be tried is not counted. Each client tries on until it must wait.
    for client in ["guest1", "guest2", "guest3", "guest4", "guest5"] {
        answers.extend(guess(channel(&folder, port, Some(client)).await.unwrap(), slot, "a-wrong-pin", 6).await);
    }
    let compared = answers.iter().filter(|rv| **rv == ck::rv::CKR_PIN_INCORRECT.0).count();
    assert!(answers.iter().all(|rv| *rv != 0) && (9..=10).contains(&compared), "{compared} of {}", answers.len());
    let tokens = admin.list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    let token = tokens.iter().find(|token| token.slot == slot).unwrap();
    assert!(token.user_pin_locked && token.user_pin_failures == 10, "{token:?}");
    let right = channel(&folder, port, Some("right")).await.unwrap();
    assert_eq!(guess(right, slot, "the-user-pin", 1).await, [ck::rv::CKR_PIN_LOCKED.0]);
}

/// What a client that is told nothing notices: its connection ends. Times are told, and their order is what is demanded.
#[test]
fn a_revoked_client_loses_its_open_connection_and_no_other_does() {
    let name = "a_revoked_client_loses_its_open_connection_and_no_other_does";
    let Some((world, port)) = on_the_network(name) else { return };
    let folder = world.folder.path();
    let connect = |client| {
        let mut stream = raw_tls(&tls(folder, Some(client), TLS13), port).unwrap();
        stream.sock.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(&http2::hello(1 << 20)).unwrap();
        stream
    };
    let check = |stream: &mut StreamOwned<ClientConnection, TcpStream>, number| {
        let asked = http2::message(number, &HealthCheckRequest::default());
        stream.write_all(&[http2::call(number, "/grpc.health.v1.Health/Check", None), asked].concat()).unwrap();
        assert_eq!(http2::answer(stream, number), [8, 1], "serving");
    };
    let (mut right, mut guest) = (connect("right"), connect("guest1"));
    check(&mut right, 1);
    check(&mut guest, 1);
    assert!(!world.log().contains("no longer accepted"));
    revoke(folder, "right");
    let begun = Instant::now();
    // Without a signal: the daemon sees that the file has changed. A goodbye or none, then the end; anything but silence.
    let end = std::iter::repeat_with(|| http2::next(&mut right)).find_map(Result::err).unwrap();
    assert_ne!(end.kind(), std::io::ErrorKind::WouldBlock, "the connection stays open");
    println!("TABLE a revoked client's connection ends: {:?} after the list was replaced", begun.elapsed());
    assert!(world.log().contains("no longer accepted"), "it ended for another reason:\n{}", world.log());
    check(&mut guest, 3);
    // Nor does it come back. Its side of the handshake may end before the daemon has looked at its certificate.
    if let Ok(mut again) = raw_tls(&tls(folder, Some("right"), TLS13), port) {
        again.sock.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let refused = again.read(&mut [0; 64]).map_err(|error| error.kind());
        assert!(!matches!(refused, Ok(1..) | Err(std::io::ErrorKind::WouldBlock)), "{refused:?}");
    }
}

/// A client that sends the end of its handshake late is judged by the lists of that moment, not by those of the handshake's beginning.
#[test]
fn a_client_that_is_revoked_during_its_handshake_is_not_served() {
    let name = "a_client_that_is_revoked_during_its_handshake_is_not_served";
    let Some((mut world, port)) = World::on_the_network(name, &GOOD, CLIENTS, "handshake_timeout_secs = 60") else {
        return;
    };
    world.start();
    let folder = world.folder.path();
    let config = tls(folder, Some("right"), TLS13);
    let mut open = raw_tls(&config, port).unwrap();
    let mut late = StreamOwned::new(handshake(&config), TcpStream::connect(("127.0.0.1", port)).unwrap());
    for stream in [&open.sock, &late.sock] {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    }
    while late.conn.wants_write() {
        late.conn.write_tls(&mut late.sock).unwrap();
    }
    // The server has said its part when the certificate is ready to be sent.
    while late.conn.is_handshaking() {
        late.conn.read_tls(&mut late.sock).unwrap();
        late.conn.process_new_packets().unwrap();
    }
    revoke(folder, "right");
    let end = std::iter::repeat_with(|| open.read(&mut [0; 64])).find(|read| !matches!(read, Ok(1..))).unwrap();
    assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "the list is not read");
    let asked = http2::message(1, &HealthCheckRequest::default());
    let said = [http2::hello(1 << 20), http2::call(1, "/grpc.health.v1.Health/Check", None), asked].concat();
    // The connection may end while it is said.
    late.write_all(&said).unwrap_or_default();
    loop {
        match http2::next(&mut late) {
            Ok((kind, number, _)) => assert_ne!((kind, number), (http2::HEADERS, 1), "a revoked client is served"),
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the connection stays open");
                break;
            }
        }
    }
}

/// What a local client may do is what the clients file says when it begins to speak, however early it has connected.
#[test]
fn a_local_client_that_speaks_late_may_do_what_the_clients_file_says_by_then() {
    let mut world = World::new("clients = \"clients.toml\"\nhandshake_timeout_secs = 60");
    world.write_clients("");
    world.start();
    let late = UnixStream::connect(world.path("hsm.sock")).unwrap();
    late.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (mut open, _) = attached(&world);
    let uid = rustix::process::getuid().as_raw();
    world.write_clients(&format!("[[client]]\nuid = {uid}\nroles = [\"use\"]\ntokens = [\"*\"]\n"));
    assert_eq!(open.read(&mut [0]).unwrap(), 0, "the file is read");
    let init = v1::InitTokenRequest { slot: 0, so_pin: b"so-pin-1234".to_vec(), label: "late".to_owned() };
    let mut said = PREFACE.to_vec();
    for (id, op) in [(1, Op::Attach(attach_request())), (2, Op::InitToken(init))] {
        frame::encode(id, &v1::Request { op: Some(op), number: 0 }, &mut said).unwrap();
    }
    (&late).write_all(&said).unwrap_or_default();
    late.shutdown(std::net::Shutdown::Write).unwrap_or_default();
    // Either its connection ends, or it is told that it may not.
    let mut answers = Vec::new();
    (&late).read_to_end(&mut answers).unwrap_or_default();
    drop(late);
    let (stream, _) = attached(&world);
    let Some(Outcome::ListSlots(slots)) = ask(&stream, Op::ListSlots(v1::ListSlotsRequest {})).result else { panic!() };
    let flags = slots.slots[0].token.as_ref().map_or(0, |token| token.flags);
    assert_eq!(flags & ck::flags::token::CKF_TOKEN_INITIALIZED, 0, "the token was initialised");
}

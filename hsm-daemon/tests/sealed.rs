//! Sealed requests at a running daemon: they pass the same checks as plain ones, plain ones can be forbidden, and what is wrong with a seal is
//! named.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use hsm_proto::seal::{self, ReplyKey};
use hsm_proto::secrecy::REQUEST;
use hsm_proto::v1;
use hsm_proto::v1::admin_client::AdminClient;
use hsm_proto::v1::reply::Result as Outcome;
use hsm_proto::v1::request::Op;
use hsm_proto::v1::sealed_exchange::Request as Asked;
use hsm_proto::v1::sealed_reply::Reply;
use hsm_proto::v1::token_client::TokenClient;
use tonic::metadata::{Binary, MetadataValue};
use tonic::transport::Channel;
use world::{World, attach_request, local_channel};

const PIN: &[u8] = b"user-pin-1234";

/// A client of the token's service, attached or not.
struct Client {
    token: TokenClient<Channel>,
    name: Option<MetadataValue<Binary>>,
}

impl Client {
    async fn new(world: &World) -> Self {
        Client { token: TokenClient::new(local_channel(world.path("hsm.sock")).await), name: None }
    }

    async fn attached(world: &World) -> Self {
        let mut client = Client::new(world).await;
        let application = client.token.attach(attach_request()).await.unwrap().into_inner().application;
        client.name = Some(MetadataValue::from_bytes(&application));
        client
    }

    async fn key(&mut self) -> v1::SealKeyReply {
        self.token.seal_key(v1::SealKeyRequest {}).await.unwrap().into_inner()
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(name) = &self.name {
            request.metadata_mut().insert_bin("craton-application-bin", name.clone());
        }
        request
    }

    async fn exchange(&mut self, exchange: v1::SealedExchange) -> v1::SealedReply {
        self.token.sealed(self.request(exchange)).await.unwrap().into_inner()
    }

    async fn sealed(&mut self, op: Op) -> Outcome {
        let (key, reply) = (self.key().await, ReplyKey::new().unwrap());
        let exchange = seal::request(&key, &v1::Request { op: Some(op), number: 0 }, Some(&reply)).unwrap();
        let answer = self.exchange(exchange).await;
        assert!(matches!(answer.reply, Some(Reply::Sealed(_))));
        reply.open(answer).unwrap().result.unwrap()
    }

    async fn plain(&mut self, op: Op) -> Outcome {
        let request = self.request(v1::Request { op: Some(op), number: 0 });
        self.token.exchange(request).await.unwrap().into_inner().result.unwrap()
    }

    async fn open_session(&mut self, slot: u64) -> u64 {
        let request = self.request(v1::OpenSessionRequest { slot, flags: 6 });
        self.token.open_session(request).await.unwrap().into_inner().session
    }
}

fn rv(outcome: &Outcome) -> ck::Rv {
    match outcome {
        Outcome::Fault(fault) => ck::Rv(fault.rv),
        _ => ck::rv::CKR_OK,
    }
}

/// The fault of a reply that is not sealed, because it is about the seal.
fn refusal(reply: v1::SealedReply) -> ck::Rv {
    match reply.reply {
        Some(Reply::Plain(reply)) => rv(&reply.result.unwrap()),
        other => panic!("{other:?}"),
    }
}

/// How many secrets were refused, as the journal tells: those for this reason, with this return value.
fn refusals(world: &World, why: &str, rv: &str) -> usize {
    let journal = std::fs::read_to_string(world.path("craton_hsm_audit.jsonl")).unwrap();
    let wanted = [format!("\"why\":\"{why}\""), "\"op\":\"refuse_secret\"".to_owned(), format!("\"rv\":\"{rv}\"")];
    journal.lines().filter(|line| wanted.iter().all(|part| line.contains(part))).count()
}

/// Waits until the journal's file has as many of them: what is no change is written some milliseconds later.
fn until_refused(world: &World, why: &str, rv: &str, count: usize) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while refusals(world, why, rv) != count {
        assert!(std::time::Instant::now() < deadline, "{} of {count} records of {why}, {rv}", refusals(world, why, rv));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn login(session: u64, pin: &[u8]) -> Op {
    Op::Login(v1::LoginRequest { session, user: 1, pin: pin.to_vec(), without_pin: false })
}

/// A running daemon with one token, which was initialised by a sealed request.
async fn world_with_token(daemon: &str) -> (World, AdminClient<Channel>, u64) {
    let mut world = World::new(daemon);
    world.start();
    let mut admin = AdminClient::new(local_channel(world.path("hsm.sock")).await);
    let request = v1::AdminInitTokenRequest {
        label: "sealed".to_owned(),
        so_pin: b"so-pin-1234".to_vec(),
        user_pin: PIN.to_vec(),
        ..Default::default()
    };
    let key = admin.seal_key(v1::SealKeyRequest {}).await.unwrap().into_inner();
    let slot = admin.init_token(seal::message(&key, &request).unwrap()).await.unwrap().into_inner().slot;
    (world, admin, slot)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_request_gets_what_a_plain_one_gets() {
    let (world, mut admin, slot) = world_with_token("").await;
    let mut stranger = Client::new(&world).await;
    let mut client = Client::attached(&world).await;
    let session = client.open_session(slot).await;
    let key_of = |session| {
        use ck::attribute::*;
        let attribute = |kind: ck::Attribute, value| v1::Attribute { r#type: kind.0, value: Some(value) };
        use v1::attribute::Value::{Bytes, Flag, Number};
        let attributes = vec![
            attribute(CKA_CLASS, Number(ck::object::CKO_SECRET_KEY.0)),
            attribute(CKA_KEY_TYPE, Number(ck::object::CKK_GENERIC_SECRET.0)),
            attribute(CKA_TOKEN, Flag(true)),
            attribute(CKA_VALUE, Bytes(vec![7; 32])),
        ];
        Op::CreateObject(v1::CreateObjectRequest { session, template: Some(v1::Template { attributes }) })
    };
    let rows = [
        ("a login of another application's session", login(session + 1, PIN), ck::rv::CKR_SESSION_HANDLE_INVALID),
        ("a key without a login", key_of(session), ck::rv::CKR_USER_NOT_LOGGED_IN),
        ("a wrong PIN", login(session, b"mistaken-1"), ck::rv::CKR_PIN_INCORRECT),
        ("a login", login(session, PIN), ck::rv::CKR_OK),
        ("a second login", login(session, PIN), ck::rv::CKR_USER_ALREADY_LOGGED_IN),
        ("a key", key_of(session), ck::rv::CKR_OK),
    ];
    for (name, op, expected) in rows {
        assert_eq!(rv(&stranger.sealed(op.clone()).await), ck::rv::CKR_CRYPTOKI_NOT_INITIALIZED, "{name}, unattached");
        assert_eq!(rv(&client.sealed(op.clone()).await), expected, "{name}, sealed");
        // What failed fails in plain words too, and nothing was done twice.
        if expected != ck::rv::CKR_OK && expected != ck::rv::CKR_PIN_INCORRECT {
            assert_eq!(rv(&client.plain(op).await), expected, "{name}, plain");
        }
    }
    // The page of a monitor shows the operations, not the seals around them.
    let page = admin.metrics(v1::MetricsRequest {}).await.unwrap().into_inner().text;
    let counted = |operation: &str, result: &str| {
        let line = page.lines().find(|line| {
            line.contains(&format!("operation=\"{operation}\"")) && line.contains(&format!("result=\"{result}\""))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    assert_eq!(counted("login", "CKR_OK"), Some(1), "{page}");
    assert_eq!(counted("login", "CKR_PIN_INCORRECT"), Some(1));
    assert_eq!(counted("create_object", "CKR_OK"), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_seal_is_named_and_nothing_is_done() {
    let (world, _admin, slot) = world_with_token("").await;
    let mut client = Client::attached(&world).await;
    let mut other = Client::attached(&world).await;
    let session = client.open_session(slot).await;
    let asked = v1::Request { op: Some(login(session, PIN)), number: 0 };
    let sealed = |key: &v1::SealKeyReply| seal::seal(key, REQUEST, &asked).unwrap();
    let (unknown, invalid) = (ck::rv::CKR_ARGUMENTS_BAD, ck::rv::CKR_ENCRYPTED_DATA_INVALID);
    let exchange = |request: Option<Asked>| v1::SealedExchange { request, reply_key: Vec::new() };

    let key = client.key().await;
    let used = sealed(&key);
    let mut flipped = used.clone();
    flipped.ciphertext[0] ^= 1;
    // The other connection's second key has no number here, its first has one and is another.
    let (theirs, unheard) = (other.key().await, other.key().await);
    let fresh = client.key().await;
    let mut cut = sealed(&fresh);
    cut.ciphertext.truncate(20);
    let rows = [
        ("a bit turned over", flipped, invalid),
        ("used twice", used, unknown),
        ("another connection's key", sealed(&theirs), unknown),
        ("cut off", cut, invalid),
        ("another connection's other key", sealed(&unheard), unknown),
        ("no key", v1::Sealed::default(), unknown),
    ];
    for (name, request, expected) in rows {
        assert_eq!(refusal(client.exchange(exchange(Some(Asked::Sealed(request)))).await), expected, "{name}");
    }
    assert_eq!(refusal(client.exchange(exchange(None)).await), unknown, "nothing");
    let plain = v1::Request { op: Some(Op::Random(v1::RandomRequest { session, len: 9 })), number: 0 };
    let no_key = v1::SealedExchange { request: Some(Asked::Plain(plain)), reply_key: vec![4; 65] };
    assert_eq!(refusal(client.exchange(no_key).await), unknown, "a reply key that is none");
    assert_eq!(rv(&client.sealed(login(session, PIN)).await), ck::rv::CKR_OK, "nobody was logged in by all this");
    until_refused(&world, "seal", "CKR_ENCRYPTED_DATA_INVALID", 2);
    until_refused(&world, "seal", "CKR_ARGUMENTS_BAD", 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_wants_seals_takes_nothing_plain() {
    let (world, mut admin, slot) = world_with_token("plain_secrets = false").await;
    let list = v1::ListKeysRequest { user_pin: PIN.to_vec(), ..Default::default() };
    let refused = admin.list_keys(list.clone()).await.unwrap_err();
    assert_eq!(v1::Fault::from_status(&refused, ck::rv::CKR_OK).rv, ck::rv::CKR_FUNCTION_REJECTED.0);
    let key = admin.seal_key(v1::SealKeyRequest {}).await.unwrap().into_inner();
    admin.list_keys(seal::message(&key, &list).unwrap()).await.unwrap();
    admin.list_keys(v1::ListKeysRequest::default()).await.unwrap();

    let mut client = Client::attached(&world).await;
    let session = client.open_session(slot).await;
    let random = || Op::Random(v1::RandomRequest { session, len: 16 });
    for secret in [login(session, PIN), random()] {
        assert_eq!(rv(&client.plain(secret).await), ck::rv::CKR_FUNCTION_REJECTED);
    }
    let by_name = client.request(v1::LoginRequest { session, user: 1, pin: PIN.to_vec(), without_pin: false });
    let refused = client.token.login(by_name).await.unwrap_err();
    assert_eq!(v1::Fault::from_status(&refused, ck::rv::CKR_OK).rv, ck::rv::CKR_FUNCTION_REJECTED.0);
    let half = v1::SealedExchange {
        request: Some(Asked::Plain(v1::Request { op: Some(login(session, PIN)), number: 0 })),
        reply_key: ReplyKey::new().unwrap().public().to_vec(),
    };
    assert!(matches!(client.exchange(half).await.reply, Some(Reply::Sealed(_))), "refused, and sealed as it was asked");
    let info = Op::SessionInfo(v1::SessionRequest { session });
    let Outcome::SessionInfo(info) = client.plain(info).await else { panic!("what is no secret may be plain") };
    assert_eq!(info.state, 2, "a public session, read and write");
    assert_eq!(rv(&client.sealed(login(session, PIN)).await), ck::rv::CKR_OK);
    assert_eq!(rv(&client.sealed(random()).await), ck::rv::CKR_OK);
    // The operator's list, a login and random bytes, a login by its own name, one whose reply alone was to be sealed.
    until_refused(&world, "plain", "CKR_FUNCTION_REJECTED", 5);
}

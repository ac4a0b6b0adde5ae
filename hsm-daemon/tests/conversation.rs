//! Applications talk to a daemon with a real store: both carriers, who may use what, and what is left when they go.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hsm_proto::v1;
use hsm_proto::v1::admin_client::AdminClient;
use hsm_proto::v1::reply::Result as Outcome;
use hsm_proto::v1::request::Op;
use hsm_proto::v1::token_client::TokenClient;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use world::{World, ask, attach_request, express, local_channel, receive, send};

const SO_PIN: &[u8] = b"so-pin-9876";
const USER_PIN: &[u8] = b"user-pin-1234";

/// CKF_RW_SESSION | CKF_SERIAL_SESSION, and CKU_USER.
const READ_WRITE: u64 = 6;
const USER: u64 = 1;

async fn admin(world: &World) -> AdminClient<Channel> {
    AdminClient::new(local_channel(world.path("hsm.sock")).await)
}

/// A running daemon with one token that has both PINs, and its slot.
async fn world_with_token() -> (World, u64) {
    let mut world = World::new("");
    world.start();
    let request = v1::AdminInitTokenRequest {
        slot: None,
        label: "demo".to_owned(),
        so_pin: SO_PIN.to_vec(),
        user_pin: USER_PIN.to_vec(),
        sealed: None,
    };
    let token = admin(&world).await.init_token(request).await.unwrap().into_inner();
    assert!(token.initialized && token.user_pin_set);
    (world, token.slot)
}

fn attach(stream: &UnixStream, application: Vec<u8>) -> Result<Vec<u8>, u64> {
    match ask(stream, Op::Attach(v1::AttachRequest { application, ..attach_request() })).result {
        Some(Outcome::Attach(attached)) => Ok(attached.application),
        Some(Outcome::Fault(fault)) => Err(fault.rv),
        other => panic!("{other:?}"),
    }
}

/// The result of an operation that must succeed.
fn outcome(stream: &UnixStream, op: Op) -> Outcome {
    match ask(stream, op).result {
        Some(Outcome::Fault(fault)) => panic!("{}: {}", ck::Rv(fault.rv), fault.detail),
        other => other.unwrap(),
    }
}

fn rv(stream: &UnixStream, op: Op) -> u64 {
    match ask(stream, op).result {
        Some(Outcome::Fault(fault)) => fault.rv,
        _ => 0,
    }
}

fn open_session(stream: &UnixStream, slot: u64) -> u64 {
    match outcome(stream, Op::OpenSession(v1::OpenSessionRequest { slot, flags: READ_WRITE })) {
        Outcome::OpenSession(opened) => opened.session,
        other => panic!("{other:?}"),
    }
}

fn login(session: u64) -> v1::LoginRequest {
    v1::LoginRequest { session, user: USER, pin: USER_PIN.to_vec(), without_pin: false }
}

fn flag(kind: ck::Attribute, value: bool) -> v1::Attribute {
    v1::Attribute { r#type: kind.0, value: Some(v1::attribute::Value::Flag(value)) }
}

/// A request for a P-256 key pair that lives with the session.
fn key_pair(session: u64) -> v1::GenerateKeyPairRequest {
    let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let curve =
        v1::Attribute { r#type: ck::attribute::CKA_EC_PARAMS.0, value: Some(v1::attribute::Value::Bytes(p256)) };
    v1::GenerateKeyPairRequest {
        session,
        mechanism: Some(v1::Mechanism { r#type: ck::mechanism::CKM_EC_KEY_PAIR_GEN.0, parameter: None }),
        public_template: Some(v1::Template { attributes: vec![curve, flag(ck::attribute::CKA_VERIFY, true)] }),
        private_template: Some(v1::Template { attributes: vec![flag(ck::attribute::CKA_SIGN, true)] }),
    }
}

fn one_shot(session: u64, kind: v1::OperationKind, key: u64, signature: Vec<u8>) -> v1::OneShotRequest {
    let mechanism = v1::Mechanism { r#type: ck::mechanism::CKM_ECDSA_SHA256.0, parameter: None };
    v1::OneShotRequest {
        session,
        kind: kind.into(),
        begin: Some(v1::Begin { mechanism: Some(mechanism), key }),
        data: b"what is signed".to_vec(),
        signature,
        capacity: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_made_on_the_express_lane_verifies() {
    let (world, slot) = world_with_token().await;
    let stream = express(&world);
    attach(&stream, Vec::new()).unwrap();
    let session = open_session(&stream, slot);
    assert_eq!(rv(&stream, Op::GenerateKeyPair(key_pair(session))), ck::rv::CKR_USER_NOT_LOGGED_IN.0);
    let wrong = v1::LoginRequest { pin: b"wrong-pin-000".to_vec(), ..login(session) };
    assert_eq!(rv(&stream, Op::Login(wrong)), ck::rv::CKR_PIN_INCORRECT.0);
    outcome(&stream, Op::Login(login(session)));
    let (public, private) = match outcome(&stream, Op::GenerateKeyPair(key_pair(session))) {
        Outcome::KeyPair(pair) => (pair.public_key.unwrap().object, pair.private_key.unwrap().object),
        other => panic!("{other:?}"),
    };
    let sign = one_shot(session, v1::OperationKind::OperationSign, private, Vec::new());
    let short = v1::OneShotRequest { capacity: Some(10), ..sign.clone() };
    match ask(&stream, Op::OneShot(short)).result {
        Some(Outcome::Fault(fault)) => assert_eq!((fault.rv, fault.needed), (ck::rv::CKR_BUFFER_TOO_SMALL.0, 64)),
        other => panic!("{other:?}"),
    }
    let signature = match outcome(&stream, Op::OneShot(sign)) {
        Outcome::Output(output) => output.output,
        other => panic!("{other:?}"),
    };
    let verify = |signature| one_shot(session, v1::OperationKind::OperationVerify, public, signature);
    outcome(&stream, Op::OneShot(verify(signature.clone())));
    let mut other = signature;
    other[5] ^= 1;
    assert_eq!(rv(&stream, Op::OneShot(verify(other))), ck::rv::CKR_SIGNATURE_INVALID.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_application_cannot_use_the_sessions_of_another_and_its_own_end_with_it() {
    let (world, slot) = world_with_token().await;
    let (mine, second, theirs) = (express(&world), express(&world), express(&world));
    let name = attach(&mine, Vec::new()).unwrap();
    attach(&theirs, Vec::new()).unwrap();
    assert_eq!(attach(&second, vec![7; 16]).unwrap_err(), ck::rv::CKR_ARGUMENTS_BAD.0);
    assert_eq!(attach(&second, name.clone()).unwrap(), name);
    let session = open_session(&mine, slot);
    let info = || Op::SessionInfo(v1::SessionRequest { session });
    outcome(&second, info());
    assert_eq!(rv(&theirs, info()), ck::rv::CKR_SESSION_HANDLE_INVALID.0);
    drop(mine);
    outcome(&second, info());
    drop(second);
    let mut admin = admin(&world).await;
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let status = admin.status(v1::StatusRequest {}).await.unwrap().into_inner();
        if (status.applications, status.sessions) == (1, 0) {
            break;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_conversation_works_over_grpc_and_ends_with_its_connection() {
    let (world, slot) = world_with_token().await;
    let mut token = TokenClient::new(local_channel(world.path("hsm.sock")).await);
    let application = token.attach(attach_request()).await.unwrap().into_inner().application;
    let name = MetadataValue::from_bytes(&application);
    macro_rules! call {
        ($method:ident, $request:expr) => {{
            let mut request = tonic::Request::new($request);
            request.metadata_mut().insert_bin("craton-application-bin", name.clone());
            token.$method(request).await.map(tonic::Response::into_inner)
        }};
    }
    let session = call!(open_session, v1::OpenSessionRequest { slot, flags: READ_WRITE }).unwrap().session;
    call!(login, login(session)).unwrap();
    let again = call!(login, login(session)).unwrap_err();
    let again = v1::Fault::from_status(&again, ck::rv::CKR_OK);
    assert_eq!(again.rv, ck::rv::CKR_USER_ALREADY_LOGGED_IN.0);
    let pair = call!(generate_key_pair, key_pair(session)).unwrap();
    let key = pair.private_key.unwrap().object;
    let sign = one_shot(session, v1::OperationKind::OperationSign, key, Vec::new());
    assert_eq!(call!(one_shot, sign.clone()).unwrap().output.len(), 64);
    let exchanged = call!(exchange, v1::Request { op: Some(Op::OneShot(sign)), number: 0 }).unwrap();
    assert!(matches!(exchanged.result, Some(Outcome::Output(_))) && exchanged.generation > 0);
    drop(token);
    let mut admin = admin(&world).await;
    let deadline = Instant::now() + Duration::from_secs(120);
    while admin.status(v1::StatusRequest {}).await.unwrap().into_inner().applications > 0 {
        assert!(Instant::now() < deadline, "the application outlived its connection");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_travels_whole_and_only_for_the_right_pin() {
    let (world, _) = world_with_token().await;
    let mut admin = admin(&world).await;
    for (pin, fits) in [(SO_PIN, true), (b"not-the-so-pin".as_slice(), false)] {
        let request = v1::BackupRequest { token: None, so_pin: pin.to_vec(), recipients: Vec::new(), sealed: None };
        let mut stream = admin.backup(request).await.unwrap().into_inner();
        let (mut len, mut refused) = (0, None);
        loop {
            match stream.message().await {
                Ok(Some(piece)) => len += piece.data.len(),
                Ok(None) => break,
                Err(status) => {
                    refused = Some(v1::Fault::from_status(&status, ck::rv::CKR_OK).rv);
                    break;
                }
            }
        }
        match fits {
            true => assert!(len > 0 && refused.is_none()),
            false => assert_eq!((len, refused), (0, Some(ck::rv::CKR_PIN_INCORRECT.0))),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_sent_before_the_end_is_answered() {
    let (mut world, slot) = world_with_token().await;
    let stream = express(&world);
    attach(&stream, Vec::new()).unwrap();
    let session = open_session(&stream, slot);
    send(&stream, Op::Login(login(session)));
    assert_eq!(world.stop().code(), Some(0), "{}", world.log());
    assert!(matches!(receive(&stream).result, Some(Outcome::Done(_))));
}

/// Row A24 of the attack table, without a module in between that might refuse first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a24_no_template_but_that_of_a_creation_brings_a_secret() {
    use ck::attribute::*;
    use v1::attribute::Value;
    let (world, slot) = world_with_token().await;
    let stream = express(&world);
    attach(&stream, Vec::new()).unwrap();
    let session = open_session(&stream, slot);
    outcome(&stream, Op::Login(login(session)));
    let number = |kind: ck::Attribute, value| v1::Attribute { r#type: kind.0, value: Some(Value::Number(value)) };
    let plain = |mechanism: ck::Mechanism| Some(v1::Mechanism { r#type: mechanism.0, parameter: None });
    let made = |op| match outcome(&stream, op) {
        Outcome::Object(made) => made.object,
        other => panic!("{other:?}"),
    };
    let generate = |more: Vec<v1::Attribute>| {
        let attributes = [vec![number(CKA_VALUE_LEN, 32)], more].concat();
        let template = Some(v1::Template { attributes });
        Op::GenerateKey(v1::GenerateKeyRequest { session, mechanism: plain(ck::mechanism::CKM_AES_KEY_GEN), template })
    };
    let exposed = vec![flag(CKA_SENSITIVE, false), flag(CKA_EXTRACTABLE, true)];
    let (wrapping_key, key) = (made(generate(vec![])), made(generate(exposed)));
    let mechanism = plain(ck::mechanism::CKM_AES_KEY_WRAP);
    let wrap = v1::WrapKeyRequest { session, mechanism: mechanism.clone(), wrapping_key, key, capacity: None };
    let wrapped = match outcome(&stream, Op::WrapKey(wrap)) {
        Outcome::Output(output) => output.output,
        other => panic!("{other:?}"),
    };
    let pair = match outcome(&stream, Op::GenerateKeyPair(key_pair(session))) {
        Outcome::KeyPair(pair) => pair,
        other => panic!("{other:?}"),
    };
    let kind = || vec![number(CKA_CLASS, ck::object::CKO_SECRET_KEY.0), number(CKA_KEY_TYPE, ck::object::CKK_AES.0)];
    for secret in ck::Attribute::KEY_PARTS {
        let planted = v1::Attribute { r#type: secret.0, value: Some(Value::Bytes(vec![0x42; 32])) };
        let template =
            |more: Vec<v1::Attribute>| Some(v1::Template { attributes: [more, vec![planted.clone()]].concat() });
        let ops = [
            generate(vec![planted.clone()]),
            Op::CopyObject(v1::CopyObjectRequest { session, object: key, template: template(vec![]) }),
            Op::UnwrapKey(v1::UnwrapKeyRequest {
                session,
                mechanism: mechanism.clone(),
                unwrapping_key: wrapping_key,
                wrapped: wrapped.clone(),
                template: template(kind()),
            }),
            Op::DeriveKey(v1::DeriveKeyRequest {
                session,
                mechanism: plain(ck::mechanism::CKM_ECDH1_DERIVE),
                base_key: pair.private_key.as_ref().unwrap().object,
                template: template(kind()),
            }),
        ];
        for op in ops {
            let name = format!("{op:?}");
            assert_ne!(rv(&stream, op), ck::rv::CKR_OK.0, "{secret} in {name}");
        }
    }
}

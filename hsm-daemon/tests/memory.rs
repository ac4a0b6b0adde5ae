//! What the memory of a running daemon holds after logout: neither the PIN nor a key's value, whichever carrier brought them.
//! The express lane is wiped at once; what travels by gRPC is sealed, because the HTTP/2 library keeps what it has read. Its connections are
//! still open when the memory is looked at.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod world;

use std::process::{Command, Stdio};

use hsm_proto::seal::{self, ReplyKey};
use hsm_proto::v1;
use hsm_proto::v1::admin_client::AdminClient;
use hsm_proto::v1::reply::Result as Outcome;
use hsm_proto::v1::request::Op;
use hsm_proto::v1::token_client::TokenClient;
use tonic::metadata::MetadataValue;
use world::{World, ask, attach_request, express, local_channel};

/// Bytes that occur nowhere else, different for every purpose; not written as one literal, lest the test find itself.
fn marker(purpose: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(37).wrapping_add(purpose.wrapping_mul(11))).map(|b| b % 90 + 33).collect()
}

fn number(kind: ck::Attribute, value: u64) -> v1::Attribute {
    v1::Attribute { r#type: kind.0, value: Some(v1::attribute::Value::Number(value)) }
}

fn flag(kind: ck::Attribute, value: bool) -> v1::Attribute {
    v1::Attribute { r#type: kind.0, value: Some(v1::attribute::Value::Flag(value)) }
}

/// A generic secret on the token, with this value.
fn secret_key(session: u64, value: Vec<u8>) -> v1::CreateObjectRequest {
    use ck::attribute::*;
    let value = v1::Attribute { r#type: CKA_VALUE.0, value: Some(v1::attribute::Value::Bytes(value)) };
    let attributes = vec![
        number(CKA_CLASS, ck::object::CKO_SECRET_KEY.0),
        number(CKA_KEY_TYPE, ck::object::CKK_GENERIC_SECRET.0),
        flag(CKA_TOKEN, true),
        flag(CKA_SIGN, true),
        flag(CKA_SENSITIVE, false),
        flag(CKA_EXTRACTABLE, true),
        value,
    ];
    v1::CreateObjectRequest { session, template: Some(v1::Template { attributes }) }
}

fn hmac(session: u64, key: u64) -> v1::OneShotRequest {
    let mechanism = v1::Mechanism { r#type: ck::mechanism::CKM_SHA256_HMAC.0, parameter: None };
    v1::OneShotRequest {
        session,
        kind: v1::OperationKind::OperationSign.into(),
        begin: Some(v1::Begin { mechanism: Some(mechanism), key }),
        data: b"data".to_vec(),
        ..Default::default()
    }
}

/// How often each needle occurs in the memory of the process; `None` when it cannot be dumped here.
fn occurrences(world: &World, needles: &[(&str, Vec<u8>)]) -> Option<Vec<(String, usize)>> {
    let prefix = world.path("core");
    let pid = world.child.as_ref().unwrap().id();
    let mut command = Command::new("gcore");
    command.arg("-o").arg(&prefix).arg(pid.to_string()).stdin(Stdio::null());
    let output = command.output().ok()?;
    let dump = world.path(&format!("core.{pid}"));
    if !output.status.success() || !dump.exists() {
        return None;
    }
    let count = |needle: &[u8]| {
        let needle = std::str::from_utf8(needle).unwrap();
        let found = Command::new("grep").args(["-a", "-o", "-F", "-e", needle]).arg(&dump).output().unwrap();
        found.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count()
    };
    Some(needles.iter().map(|(name, needle)| ((*name).to_owned(), count(needle))).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_logout_the_memory_holds_no_pin_and_no_key() {
    let mut world = World::new("");
    world.start();
    let (so_pin, pin, wrong, said_plainly) = (marker(1, 16), marker(2, 16), marker(6, 16), marker(7, 16));
    let label = String::from_utf8(marker(5, 24)).unwrap();
    let (first_key, second_key) = (marker(3, 32), marker(4, 32));
    let channel = local_channel(world.path("hsm.sock")).await;
    let mut admin = AdminClient::new(channel.clone());
    let request = v1::AdminInitTokenRequest {
        label: label.clone(),
        so_pin: so_pin.clone(),
        user_pin: pin.clone(),
        ..Default::default()
    };
    let key = admin.seal_key(v1::SealKeyRequest {}).await.unwrap().into_inner();
    let slot = admin.init_token(seal::message(&key, &request).unwrap()).await.unwrap().into_inner().slot;

    // By the express lane.
    let stream = express(&world);
    ask(&stream, Op::Attach(attach_request()));
    let session = match ask(&stream, Op::OpenSession(v1::OpenSessionRequest { slot, flags: 6 })).result {
        Some(Outcome::OpenSession(opened)) => opened.session,
        other => panic!("{other:?}"),
    };
    let done = |op| assert!(!matches!(ask(&stream, op).result, Some(Outcome::Fault(_)) | None));
    done(Op::Login(v1::LoginRequest { session, user: 1, pin: pin.clone(), without_pin: false }));
    let key = match ask(&stream, Op::CreateObject(secret_key(session, first_key.clone()))).result {
        Some(Outcome::Object(made)) => made.object,
        other => panic!("{other:?}"),
    };
    done(Op::OneShot(hmac(session, key)));
    done(Op::Logout(v1::SessionRequest { session }));

    // By gRPC.
    let mut token = TokenClient::new(channel);
    let name = token.attach(attach_request()).await.unwrap().into_inner().application;
    let name = MetadataValue::from_bytes(&name);
    macro_rules! call {
        ($method:ident, $request:expr) => {{
            let mut request = tonic::Request::new($request);
            request.metadata_mut().insert_bin("craton-application-bin", name.clone());
            token.$method(request).await.unwrap().into_inner()
        }};
    }
    let session = call!(open_session, v1::OpenSessionRequest { slot, flags: 6 }).session;
    macro_rules! sealed {
        ($op:expr) => {{
            let (key, reply) = (call!(seal_key, v1::SealKeyRequest {}), ReplyKey::new().unwrap());
            let asked = v1::Request { op: Some($op), number: 0 };
            let answer = call!(sealed, seal::request(&key, &asked, Some(&reply)).unwrap());
            reply.open(answer).unwrap().result.unwrap()
        }};
    }
    let login = |pin: &[u8]| Op::Login(v1::LoginRequest { session, user: 1, pin: pin.to_vec(), without_pin: false });
    let refused = sealed!(login(&wrong));
    assert!(matches!(&refused, Outcome::Fault(fault) if fault.rv == ck::rv::CKR_PIN_INCORRECT.0), "{refused:?}");
    assert!(matches!(sealed!(login(&pin)), Outcome::Done(_)));
    let Outcome::Object(made) = sealed!(Op::CreateObject(secret_key(session, second_key.clone()))) else { panic!() };
    call!(one_shot, hmac(session, made.object));
    let read = v1::GetAttributesRequest { session, object: made.object, types: vec![ck::attribute::CKA_VALUE.0] };
    let Outcome::GetAttributes(read) = sealed!(Op::GetAttributes(read)) else { panic!() };
    let value = read.results[0].attribute.as_ref().and_then(|attribute| attribute.value.clone());
    assert!(value == Some(v1::attribute::Value::Bytes(second_key.clone())), "a key that may be read");
    call!(logout, v1::SessionRequest { session });

    // What a client says plainly stays while its connection is open: the search would have found the others there.
    let mut plain = TokenClient::new(local_channel(world.path("hsm.sock")).await);
    plain
        .login(v1::LoginRequest { session, user: 1, pin: said_plainly.clone(), without_pin: false })
        .await
        .unwrap_err();

    // The label is no secret: that it is found says that the search works.
    let needles = [
        ("SO PIN", so_pin),
        ("user PIN", pin),
        ("wrong PIN", wrong),
        ("a PIN said plainly", said_plainly),
        ("first key", first_key),
        ("second key", second_key),
        ("label", label.into_bytes()),
    ];
    let Some(found) = occurrences(&world, &needles) else {
        println!("SKIPPED after_logout_the_memory_holds_no_pin_and_no_key: gcore not found, or not allowed to look");
        return;
    };
    for (name, count) in found {
        let stays = ["label", "a PIN said plainly"].contains(&name.as_str());
        assert_eq!(count > 0, stays, "{name}: {count} times");
    }
    // Until here all connections were open.
    drop((stream, token, admin, plain));
}

//! A daemon for the tests: it speaks the express lane and answers from a short script, in threads of its own.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ck::attribute::*;
use ck::flags::mechanism::{CKF_DIGEST, CKF_SIGN, CKF_VERIFY};
use ck::flags::slot::CKF_TOKEN_PRESENT;
use ck::mechanism::*;
use ck::object::*;
use ck::rv::*;
use ck::{Attribute, Rv};
use hsm_proto::frame::{self, HEADER_LEN, Header, PREFACE};
use hsm_proto::v1::attribute::Value;
use hsm_proto::v1::reply::Result as Answer;
use hsm_proto::v1::request::Op;
use hsm_proto::v1::{self, OutputRule};
use prost::Message;

use crate::carrier::lock;
use crate::config::{Config, Endpoint};

/// The private P-256 key that the fake token holds; its only object.
pub(crate) const KEY: u64 = 77;
/// What it calls a signature.
pub(crate) const SIGNATURE: [u8; 64] = [0x5a; 64];

/// What the daemon does with an operation that is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Normal,
    /// Closes the connection instead of answering a one-shot.
    HangsUp,
    /// As [`Mood::HangsUp`], once.
    HangsUpOnce,
    /// Takes a one-shot and says nothing.
    Silent,
}

struct Shared {
    mood: Mutex<Mood>,
    asked: Mutex<Vec<String>>,
    connections: Mutex<Vec<UnixStream>>,
    generation: AtomicU64,
    sessions: AtomicU64,
    boot: u8,
    stopped: AtomicBool,
}

pub(crate) struct Daemon {
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
    path: PathBuf,
}

/// A configuration that finds the daemon at `path` and waits for an answer as long as a busy machine may take.
pub(crate) fn config(path: &Path, request_timeout: Duration) -> Config {
    Config {
        endpoint: Endpoint::Local(path.to_owned()),
        request_timeout,
        connect_timeout: Duration::from_secs(60),
        spin: true,
        resume: None,
    }
}

impl Daemon {
    /// Listens at `path`; daemons of different `boot` do not know each other's applications.
    pub(crate) fn start(path: &Path, boot: u8) -> Self {
        let listener = UnixListener::bind(path).expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let shared = Arc::new(Shared {
            mood: Mutex::new(Mood::Normal),
            asked: Mutex::default(),
            connections: Mutex::default(),
            generation: AtomicU64::new(1),
            sessions: AtomicU64::new(0),
            boot,
            stopped: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let listener = std::thread::spawn(move || accept(&listener, &for_thread));
        Daemon { shared, listener: Some(listener), path: path.to_owned() }
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        *lock(&self.shared.mood) = mood;
    }

    /// Another process has changed an object.
    pub(crate) fn move_generation(&self) {
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The names of the requests so far, and a new count.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared.asked))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for connection in lock(&self.shared.connections).iter() {
            connection.shutdown(std::net::Shutdown::Both).ok();
        }
        if let Some(listener) = self.listener.take() {
            listener.join().expect("the listener ends");
        }
        std::fs::remove_file(&self.path).ok();
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    while !shared.stopped.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((connection, _)) => {
                connection.set_nonblocking(false).expect("blocking");
                lock(&shared.connections).push(connection.try_clone().expect("a second handle"));
                let shared = Arc::clone(shared);
                std::thread::spawn(move || serve(connection, &shared));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => return,
        }
    }
}

/// Answers until the connection ends.
fn serve(mut connection: UnixStream, shared: &Shared) -> Option<()> {
    let mut preface = [0; PREFACE.len()];
    connection.read_exact(&mut preface).ok()?;
    assert_eq!(preface, PREFACE);
    loop {
        let mut header = [0; HEADER_LEN];
        connection.read_exact(&mut header).ok()?;
        let header = Header::parse(header).ok()?;
        let mut body = vec![0; header.body_len as usize];
        connection.read_exact(&mut body).ok()?;
        let op = v1::Request::decode(body.as_slice()).expect("a request").op.expect("an operation");
        lock(&shared.asked).push(name(&op));
        if matches!(op, Op::OneShot(_)) {
            let mood = *lock(&shared.mood);
            match mood {
                Mood::Normal => {}
                Mood::Silent => continue,
                Mood::HangsUp | Mood::HangsUpOnce => {
                    if mood == Mood::HangsUpOnce {
                        *lock(&shared.mood) = Mood::Normal;
                    }
                    connection.shutdown(std::net::Shutdown::Both).ok();
                    return None;
                }
            }
        }
        let generation = shared.generation.load(Ordering::Relaxed);
        let reply = v1::Reply { generation, result: Some(answer(op, shared)) };
        let mut out = Vec::new();
        frame::encode(header.request_id, &reply, &mut out).expect("short");
        connection.write_all(&out).ok()?;
    }
}

/// The name of an operation's variant.
fn name(op: &Op) -> String {
    let text = format!("{op:?}");
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

fn fault(rv: Rv) -> Answer {
    Answer::Fault(v1::Fault::new(rv, "the fake says no"))
}

fn answer(op: Op, shared: &Shared) -> Answer {
    match op {
        Op::Attach(attach) => {
            let id = vec![shared.boot; 16];
            if !attach.application.is_empty() && attach.application != id {
                return fault(CKR_SESSION_HANDLE_INVALID);
            }
            Answer::Attach(v1::AttachReply {
                protocol: 1,
                application: id.clone(),
                boot: id,
                max_message_bytes: 64 * 1024,
                version: "fake".into(),
                max_random_bytes: 32,
            })
        }
        Op::ListSlots(_) => Answer::ListSlots(v1::ListSlotsReply { slots: slots() }),
        Op::Mechanisms(_) => Answer::Mechanisms(v1::MechanismsReply { rows: rows() }),
        Op::OpenSession(_) => {
            let session = shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
            Answer::OpenSession(v1::OpenSessionReply { session })
        }
        Op::Find(_) => Answer::Find(v1::FindReply { objects: vec![KEY], snapshots: vec![snapshot()] }),
        Op::Snapshot(request) if request.object == KEY => Answer::Snapshot(snapshot()),
        Op::Snapshot(_) => fault(CKR_OBJECT_HANDLE_INVALID),
        Op::OneShot(request) if request.data == b"refuse" => fault(CKR_DATA_LEN_RANGE),
        Op::OneShot(_) | Op::Final(_) => Answer::Output(v1::OutputReply { output: SIGNATURE.to_vec() }),
        Op::Update(_) => Answer::Output(v1::OutputReply { output: Vec::new() }),
        Op::GetAttributes(request) => Answer::GetAttributes(v1::GetAttributesReply {
            results: request
                .types
                .iter()
                .map(|&t| {
                    let sensitive = t == CKA_VALUE.0;
                    let rv = if sensitive { CKR_ATTRIBUTE_SENSITIVE.0 } else { 0 };
                    let value = Value::Bytes(b"from the daemon".to_vec());
                    let attribute = (!sensitive).then_some(v1::Attribute { r#type: t, value: Some(value) });
                    v1::AttributeResult { rv, attribute }
                })
                .collect(),
        }),
        Op::Random(request) => Answer::Random(v1::RandomReply { bytes: vec![9; request.len as usize] }),
        Op::Login(request) if request.pin != b"1234" => fault(CKR_PIN_INCORRECT),
        _ => Answer::Done(v1::Empty {}),
    }
}

fn slots() -> Vec<v1::SlotInfo> {
    let token = v1::TokenInfo { label: "fake".into(), ..Default::default() };
    let first = v1::SlotInfo { slot: 0, flags: CKF_TOKEN_PRESENT, token: Some(token), ..Default::default() };
    vec![first, v1::SlotInfo { slot: 1, ..Default::default() }]
}

fn rows() -> Vec<v1::MechanismRow> {
    let ecdsa = v1::MechanismRow {
        r#type: CKM_ECDSA.0,
        flags: CKF_SIGN | CKF_VERIFY,
        output: OutputRule::OutputTwiceField.into(),
        key_types: vec![CKK_EC.0],
        multi_part: true,
        ..Default::default()
    };
    let rsa = v1::MechanismRow { r#type: CKM_RSA_PKCS.0, key_types: vec![CKK_RSA.0], ..ecdsa.clone() };
    let sha = v1::MechanismRow { r#type: CKM_SHA256.0, flags: CKF_DIGEST, output_len: 32, ..ecdsa.clone() };
    vec![ecdsa, sha, rsa]
}

fn snapshot() -> v1::ObjectSnapshot {
    let attribute = |kind: Attribute, value| v1::Attribute { r#type: kind.0, value: Some(value) };
    let p256 = vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    v1::ObjectSnapshot {
        object: KEY,
        attributes: vec![
            attribute(CKA_CLASS, Value::Number(CKO_PRIVATE_KEY.0)),
            attribute(CKA_KEY_TYPE, Value::Number(CKK_EC.0)),
            attribute(CKA_SIGN, Value::Flag(true)),
            attribute(CKA_LABEL, Value::Bytes(b"a key".to_vec())),
            attribute(CKA_EC_PARAMS, Value::Bytes(p256)),
        ],
        complete: true,
    }
}

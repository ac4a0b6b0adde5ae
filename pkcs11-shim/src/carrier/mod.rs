//! How messages reach the daemon: one request out, one reply back, always within a deadline.
//!
//! [`Link`] keeps the application attached; a [`Carrier`] is one connection. Failures are named here once and become
//! return values in one place ([`Failure::of_session`]).

mod express;
mod grpc;
mod link;
mod remote;
mod spin;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ck::Rv;
use ck::rv::{
    CKR_CRYPTOKI_NOT_INITIALIZED, CKR_DATA_LEN_RANGE, CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_SESSION_HANDLE_INVALID,
};
use hsm_proto::v1::mechanism::Parameter::{Iv as Joined, Pbkdf2 as Password};
use hsm_proto::v1::{self, request::Op};
use zeroize::Zeroize;

pub(crate) use link::Link;
pub(crate) use remote::{Remote, TlsFiles};

/// One connection to the daemon.
pub(crate) trait Carrier: Send + Sync {
    /// Carries one request and waits for its reply. `secret`: what was written for it is wiped afterwards.
    fn carry(&self, request: &v1::Request, secret: bool, deadline: Instant) -> Result<v1::Reply, Failure>;

    /// Whether the connection can still be used, as far as is known.
    fn is_sound(&self) -> bool;

    /// Whether no request is under way.
    fn is_idle(&self) -> bool;

    /// Ends the connection; whoever waits on it fails.
    fn close(&self);
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The daemon cannot be reached; nothing was sent.
    Away,
    /// This connection turned out to be dead before anything was sent on it.
    NotSent,
    /// The connection broke while the request was under way: nobody knows whether it was carried out.
    Broken,
    /// The deadline passed.
    Expired,
    /// The session is one of an earlier run of the daemon.
    Stale,
    /// The request is longer than a message may be.
    TooLong,
    /// C_Finalize was called meanwhile.
    Closed,
}

impl Failure {
    /// What a call on a session answers.
    pub(crate) fn of_session(self) -> Rv {
        match self {
            Failure::Away => CKR_DEVICE_REMOVED,
            Failure::NotSent | Failure::Broken | Failure::Expired => CKR_DEVICE_ERROR,
            Failure::Stale => CKR_SESSION_HANDLE_INVALID,
            Failure::TooLong => CKR_DATA_LEN_RANGE,
            Failure::Closed => CKR_CRYPTOKI_NOT_INITIALIZED,
        }
    }
}

/// Whoever has sessions to go on with when the daemon does not know the application any more.
pub(crate) trait Resident {
    /// Makes the daemon at the other end of a fresh connection take the sessions up again; they belong to `epoch` then.
    ///
    /// # Errors
    /// The connection's failure. A session that the daemon refuses is dead and no error.
    fn return_home(&self, carrier: &dyn Carrier, epoch: u64, deadline: Instant) -> Result<(), Failure>;
}

/// Whether a request that got no reply may be sent once more: it changes nothing, or doing it twice gives what doing it
/// once gives. An encryption does not: an initialisation vector is taken once.
fn is_repeatable(request: &v1::Request) -> bool {
    match &request.op {
        Some(Op::OneShot(r)) => r.kind() != v1::OperationKind::OperationEncrypt,
        Some(
            Op::ListSlots(_)
            | Op::Mechanisms(_)
            | Op::SessionInfo(_)
            | Op::ObjectSize(_)
            | Op::GetAttributes(_)
            | Op::Find(_)
            | Op::Snapshot(_)
            | Op::Check(_)
            | Op::Random(_),
        ) => true,
        _ => false,
    }
}

/// Whether a request takes as long as a key generation may.
fn is_long(request: &v1::Request) -> bool {
    matches!(request.op, Some(Op::GenerateKey(_) | Op::GenerateKeyPair(_)))
}

/// Whether what the request says must not stay in memory: PINs and passwords, and key values on import.
fn is_secret(request: &v1::Request) -> bool {
    request.op.as_ref().is_some_and(Op::carries_secret)
}

/// Wipes what [`is_secret`] names.
fn wipe(request: &mut v1::Request) {
    match &mut request.op {
        Some(Op::InitToken(r)) => r.so_pin.zeroize(),
        Some(Op::InitPin(r)) => r.pin.zeroize(),
        Some(Op::SetPin(r)) => {
            r.old_pin.zeroize();
            r.new_pin.zeroize();
        }
        Some(Op::Login(r)) => r.pin.zeroize(),
        Some(Op::SeedRandom(r)) => r.seed.zeroize(),
        Some(Op::GenerateKey(r)) => {
            if let Some(v1::Mechanism { parameter: Some(Password(asked)), .. }) = &mut r.mechanism {
                asked.password.zeroize();
            }
        }
        Some(Op::DeriveKey(r)) => {
            if let Some(v1::Mechanism { parameter: Some(Joined(bytes)), .. }) = &mut r.mechanism {
                bytes.zeroize();
            }
        }
        Some(Op::CreateObject(r)) => wipe_template(&mut r.template),
        Some(Op::CopyObject(r)) => wipe_template(&mut r.template),
        Some(Op::SetAttributes(r)) => wipe_template(&mut r.template),
        Some(Op::Find(r)) => wipe_template(&mut r.template),
        _ => {}
    }
}

fn wipe_template(template: &mut Option<v1::Template>) {
    for attribute in template.iter_mut().flat_map(|template| &mut template.attributes) {
        if let Some(v1::attribute::Value::Bytes(bytes)) = &mut attribute.value {
            bytes.zeroize();
        }
    }
}

/// A lock whose holder panicked still protects consistent data here: every change is one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

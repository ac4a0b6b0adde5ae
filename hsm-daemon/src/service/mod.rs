//! The gRPC services: what arrives becomes a request of the dispatcher or one administrative method; a fault becomes a
//! status, once.

mod admin;
mod counted;
mod token;
mod witness;

use std::collections::HashMap;
use std::sync::Arc;

use hsm_core::{Caller, Peer};
use hsm_proto::v1;
use parking_lot::Mutex;
use tonic::{Request, Status};

pub(crate) use admin::{AdminService, SelfTest};
pub(crate) use counted::Counting;
pub(crate) use token::TokenService;
pub(crate) use witness::WitnessService;

use crate::convert::Refusal;
use crate::seal::SealKeys;
use crate::traffic::Traffic;

/// The most applications that attach through one connection: a module is one.
const MOST_APPLICATIONS: usize = 64;

/// What a gRPC client that speaks plainly is told where it may not.
fn too_plain() -> Refusal {
    let sentence = "this daemon takes and gives secrets sealed only (daemon.plain_secrets): see seal.proto";
    Refusal::new(ck::rv::CKR_FUNCTION_REJECTED, sentence)
}

/// One gRPC connection: its peer, and the applications that attached through it. When the connection ends the last
/// copy is dropped, and with it the applications that nobody else holds.
#[derive(Clone)]
pub(crate) struct Visitor(Arc<Inner>);

struct Inner {
    peer: Peer,
    seal_keys: SealKeys,
    callers: Mutex<HashMap<[u8; 16], Arc<Caller>>>,
    traffic: Arc<Traffic>,
}

impl Visitor {
    /// A connection on which nobody has attached yet.
    pub(crate) fn new(peer: Peer) -> Self {
        let (seal_keys, callers) = (SealKeys::default(), Mutex::default());
        Visitor(Arc::new(Inner { peer, seal_keys, callers, traffic: Traffic::new() }))
    }

    /// Its requests and answers.
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.0.traffic)
    }

    /// Whether an application that attached through it has a session open.
    pub(crate) fn has_sessions(&self) -> bool {
        self.0.callers.lock().values().any(|caller| caller.has_sessions())
    }

    /// Whether no more applications may attach through it.
    fn is_full(&self) -> bool {
        self.0.callers.lock().len() >= MOST_APPLICATIONS
    }

    /// Who it is.
    pub(crate) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    fn seal_keys(&self) -> &SealKeys {
        &self.0.seal_keys
    }

    fn caller(&self, application: &[u8]) -> Option<Arc<Caller>> {
        let application = <[u8; 16]>::try_from(application).ok()?;
        self.0.callers.lock().get(&application).cloned()
    }

    fn seat(&self, caller: Arc<Caller>) {
        self.0.callers.lock().insert(caller.application(), caller);
    }
}

/// The connection that a request came by.
fn visitor<T>(request: &Request<T>) -> Result<Visitor, Status> {
    request.extensions().get::<Visitor>().cloned().ok_or_else(|| defect("a request came by no connection"))
}

/// A state that cannot be; the client learns as much as it needs.
fn defect(what: &str) -> Status {
    tracing::error!(what, "a defect: an invariant did not hold");
    v1::Fault::new(ck::rv::CKR_GENERAL_ERROR, "a defect in the daemon: see its log").into()
}

/// Runs what may take long on the runtime's bounded pool.
async fn on_the_pool<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|_| defect("work on the pool ended early"))
}

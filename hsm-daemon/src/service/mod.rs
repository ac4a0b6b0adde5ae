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
use tokio::sync::Semaphore;
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

/// So much of what takes long is done at once for one connection, and no more waits in the pool: what waits here is forgotten when its client
/// does not want it any more.
const ON_THE_POOL: usize = 4;

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
    on_the_pool: Arc<Semaphore>,
}

impl Visitor {
    /// A connection on which nobody has attached yet.
    pub(crate) fn new(peer: Peer) -> Self {
        let (seal_keys, callers) = (SealKeys::default(), Mutex::default());
        let (traffic, on_the_pool) = (Traffic::new(), Arc::new(Semaphore::new(ON_THE_POOL)));
        Visitor(Arc::new(Inner { peer, seal_keys, callers, traffic, on_the_pool }))
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

    /// Runs what may take long on the runtime's bounded pool.
    async fn on_the_pool<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let ended = |_| defect("work on the pool ended early");
        let place =
            Arc::clone(&self.0.on_the_pool).acquire_owned().await.map_err(|_| defect("the pool has no places"))?;
        let work = move || {
            let _place = place;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(ended)
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

#[cfg(test)]
mod tests {
    use core::future::Future;
    use core::task::Poll;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use hsm_core::Identity;

    use super::*;

    /// A client that asks for what takes long, resets its request and asks again must not fill the pool's queue: others wait in it too.
    #[tokio::test]
    async fn what_takes_long_and_is_not_wanted_any_more_is_not_done() {
        let visitor = Visitor::new(Peer::unrestricted(Identity::Anonymous, None));
        let (gate, opened) = mpsc::channel::<()>();
        let opened = Arc::new(Mutex::new(opened));
        let done = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let (visitor, opened, done) = (visitor.clone(), Arc::clone(&opened), Arc::clone(&done));
            Box::pin(async move {
                let work = move || {
                    // Until the gate is gone.
                    opened.lock().recv().unwrap_or_default();
                    done.fetch_add(1, Ordering::Relaxed);
                };
                visitor.on_the_pool(work).await
            })
        };
        let mut asked: Vec<_> = (0..100).map(|_| ask()).collect();
        for request in &mut asked {
            assert!(core::future::poll_fn(|cx| Poll::Ready(request.as_mut().poll(cx).is_pending())).await);
        }
        drop(asked);
        drop(gate);
        assert!(ask().await.is_ok());
        while visitor.0.on_the_pool.available_permits() < ON_THE_POOL {
            tokio::task::yield_now().await;
        }
        assert_eq!(done.load(Ordering::Relaxed), ON_THE_POOL + 1);
    }
}

//! The service `Witness`: other daemons show the checkpoints of their journals. Served on the Unix socket and over TCP, to whom the clients
//! file gives the role.

use std::sync::Arc;

use hsm_core::audit::{Held, Step};
use hsm_core::{ClientRole, Errand, Peer};
use hsm_proto::v1;
use hsm_proto::v1::witness_server::Witness;
use tonic::{Request, Response, Status};

use super::admin::{status, turned_away};
use super::visitor;
use crate::dispatch::Desk;

/// The witness's gRPC service.
#[derive(Clone)]
pub(crate) struct WitnessService {
    desk: Arc<Desk>,
}

impl WitnessService {
    /// The service of this desk.
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        WitnessService { desk }
    }

    async fn run<R, F>(&self, errand: Errand, request: Request<R>, work: F) -> Result<Response<v1::HeldReply>, Status>
    where
        R: Send + 'static,
        F: FnOnce(&Desk, &Peer, R) -> hsm_core::Result<v1::HeldReply> + Send + 'static,
    {
        let visitor = visitor(&request)?;
        let peer = visitor.peer().clone();
        if !peer.grant.has(ClientRole::Witness) {
            tracing::warn!(peer = ?peer.identity, "a checkpoint from a client without the role \"witness\" is refused");
            let why = "the client does not have the role \"witness\"";
            return turned_away(&self.desk, &visitor, errand, why).await;
        }
        let desk = Arc::clone(&self.desk);
        let outcome = visitor.on_the_pool(move || work(&desk, &peer, request.into_inner())).await?;
        outcome.map(Response::new).map_err(status)
    }
}

#[tonic::async_trait]
impl Witness for WitnessService {
    async fn held(&self, request: Request<v1::HeldRequest>) -> Result<Response<v1::HeldReply>, Status> {
        self.run(Errand::Look, request, |desk, _, r| {
            Ok(desk.hsm.witnessed(&r.origin)?.as_ref().map(reply).unwrap_or_default())
        })
        .await
    }

    async fn show(&self, request: Request<v1::ShowRequest>) -> Result<Response<v1::HeldReply>, Status> {
        self.run(Errand::ShowCheckpoint, request, |desk, peer, r| {
            desk.hsm.witness(peer, &step(r)?).map(|held| reply(&held))
        })
        .await
    }
}

fn reply(held: &Held) -> v1::HeldReply {
    let checkpoint = held.checkpoint();
    v1::HeldReply { size: checkpoint.size, root: checkpoint.root.to_vec(), key: held.key().to_bytes() }
}

fn step(asked: v1::ShowRequest) -> hsm_core::Result<Step> {
    let bad = |_| hsm_core::Error::new(hsm_core::Kind::ArgumentsBad, "a hash of the step is malformed");
    let hashes = |bytes: Vec<Vec<u8>>| -> hsm_core::Result<Vec<[u8; 32]>> {
        bytes.into_iter().map(|hash| hash.try_into().map_err(bad)).collect()
    };
    Ok(Step {
        note: asked.note,
        ml_dsa_44_key: asked.ml_dsa_44_key,
        from: asked.from,
        before: hashes(asked.before)?,
        announcement: asked.announcement,
        after: hashes(asked.after)?,
    })
}

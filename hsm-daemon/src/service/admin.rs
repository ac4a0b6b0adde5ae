//! The service `Admin`: what operators ask of the running daemon. Served on the Unix socket only, to the superuser and
//! to the user that the daemon runs as.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hsm_core::backup::{BackupPublicKey, For, Share, ShareSet};
use hsm_core::store_key::ModuleKey;
use hsm_core::{
    ClientRole, Errand, KeySummary, Kind, Peer, SecretBytes, SecretRefused, TokenName, TokenSummary, Unsealing,
};
use hsm_proto::secrecy::Sealable;
use hsm_proto::v1;
use hsm_proto::v1::admin_server::Admin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Visitor, too_plain, visitor};
use crate::convert::Refusal;
use crate::dispatch::Desk;
use crate::identify::may_administer;

/// A backup travels in pieces of so many bytes.
const CHUNK: usize = 64 * 1024;

/// What the power-on self-test said.
#[derive(Clone)]
pub(crate) struct SelfTest(pub(crate) String);

/// The operators' gRPC service.
#[derive(Clone)]
pub(crate) struct AdminService {
    desk: Arc<Desk>,
    self_test: SelfTest,
    started_unix_seconds: u64,
}

impl AdminService {
    /// The service of this desk, started now.
    pub(crate) fn new(desk: Arc<Desk>, self_test: SelfTest) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        AdminService { desk, self_test, started_unix_seconds: started.as_secs() }
    }

    /// Runs one administrative method on the pool, if the peer may administer.
    async fn run<R, T, F>(&self, errand: Errand, request: Request<R>, work: F) -> Result<Response<T>, Status>
    where
        R: Send + 'static,
        T: Send + 'static,
        F: FnOnce(&Desk, &Peer, R) -> hsm_core::Result<T> + Send + 'static,
    {
        self.run_for(ClientRole::Admin, errand, request, work).await
    }

    /// [`AdminService::run`] for a role that need not be the administrator's.
    async fn run_for<R, T, F>(
        &self,
        role: ClientRole,
        errand: Errand,
        request: Request<R>,
        work: F,
    ) -> Result<Response<T>, Status>
    where
        R: Send + 'static,
        T: Send + 'static,
        F: FnOnce(&Desk, &Peer, R) -> hsm_core::Result<T> + Send + 'static,
    {
        let visitor = self.administrator(&request, role, errand).await?;
        let (desk, peer) = (Arc::clone(&self.desk), visitor.peer().clone());
        let outcome = visitor.on_the_pool(move || work(&desk, &peer, request.into_inner())).await?;
        outcome.map(Response::new).map_err(status)
    }

    /// Who asks, if it may do what it came for; that it may not is recorded.
    async fn administrator<R>(
        &self,
        request: &Request<R>,
        role: ClientRole,
        errand: Errand,
    ) -> Result<Visitor, Status> {
        let visitor = visitor(request)?;
        if may_administer(visitor.peer(), role) {
            return Ok(visitor);
        }
        tracing::warn!(peer = ?visitor.peer().identity, ?role, ?errand, "administration refused");
        let why = "only the superuser, the user that the daemon runs as, and whom the clients file gives the role may \
                   administer it";
        turned_away(&self.desk, &visitor, errand, why).await
    }
}

impl AdminService {
    /// As [`AdminService::run`], for a message that may be sealed. What it asks for is authorised before it is opened.
    async fn run_sealed<R, T, F>(&self, errand: Errand, request: Request<R>, work: F) -> Result<Response<T>, Status>
    where
        R: Sealable + Send + 'static,
        T: Send + 'static,
        F: FnOnce(&Desk, &Peer, R) -> hsm_core::Result<T> + Send + 'static,
    {
        self.administrator(&request, ClientRole::Admin, errand).await?;
        let request = self.opened(request)?;
        self.run(errand, request, work).await
    }

    /// The request with its message opened.
    fn opened<R: Sealable>(&self, request: Request<R>) -> Result<Request<R>, Status> {
        let visitor = visitor(&request)?;
        let (metadata, extensions, message) = request.into_parts();
        if !self.desk.plain_secrets && message.is_plain() {
            let Refusal(fault) = self.desk.record_refusal(visitor.peer(), SecretRefused::Plain, too_plain());
            return Err(fault.into());
        }
        match visitor.seal_keys().message(message) {
            Ok(message) => Ok(Request::from_parts(metadata, extensions, message)),
            Err(refusal) => {
                let Refusal(fault) = self.desk.record_refusal(visitor.peer(), SecretRefused::Seal, refusal);
                Err(fault.into())
            }
        }
    }
}

/// Records that somebody was turned away, and says why.
pub(super) async fn turned_away<T>(
    desk: &Arc<Desk>,
    visitor: &Visitor,
    errand: Errand,
    why: &str,
) -> Result<T, Status> {
    let (desk, peer) = (Arc::clone(desk), visitor.peer().clone());
    let refused = visitor.on_the_pool(move || desk.hsm.turn_away::<()>(&peer, errand)).await?;
    Err(match refused {
        Err(error) if error.kind() != Kind::ActionProhibited => status(error),
        _ => Status::permission_denied(why),
    })
}

pub(super) fn status(error: hsm_core::Error) -> Status {
    let Refusal(fault) = error.into();
    fault.into()
}

fn token_name(name: Option<v1::TokenName>) -> TokenName {
    let name = name.unwrap_or_default();
    TokenName { label: Some(name.label).filter(|label| !label.is_empty()), slot: name.slot }
}

/// An empty PIN is none.
fn maybe_pin(pin: Vec<u8>) -> Option<SecretBytes> {
    Some(SecretBytes::new(pin)).filter(|pin| !pin.is_empty())
}

/// Who else may open a backup.
fn recipient(asked: v1::BackupRecipient) -> hsm_core::Result<For> {
    use v1::backup_recipient::Whom;
    let bad = || hsm_core::Error::new(hsm_core::Kind::ArgumentsBad, "a recipient of the backup is malformed");
    match asked.whom.ok_or_else(bad)? {
        Whom::Passphrase(phrase) if phrase.is_empty() => Err(bad()),
        Whom::Passphrase(phrase) => Ok(For::Passphrase(SecretBytes::new(phrase))),
        Whom::PublicKey(key) => BackupPublicKey::from_bytes(&key).map(For::PublicKey),
        Whom::Shares(shares) => {
            let key = SecretBytes::new(shares.key);
            let number = |number: u32| u8::try_from(number).map_err(|_| bad());
            let name = shares.set.try_into().map_err(|_| bad())?;
            let set = ShareSet { name, threshold: number(shares.threshold)?, count: number(shares.count)? };
            if key.len() != 32 || set.threshold < 2 || set.threshold > set.count {
                return Err(bad());
            }
            Ok(For::Shares(set, key))
        }
    }
}

fn brought(asked: v1::unseal_request::Brought) -> hsm_core::Result<Unsealing> {
    use v1::unseal_request::Brought;
    Ok(match asked {
        Brought::Passphrase(phrase) => Unsealing::Passphrase(SecretBytes::new(phrase)),
        Brought::ModuleSecret(secret) => Unsealing::Module(SecretBytes::new(secret)),
        Brought::Share(text) => {
            let text = SecretBytes::new(text);
            Unsealing::Share(Share::parse(core::str::from_utf8(text.expose()).unwrap_or_default())?)
        }
    })
}

fn module_key(key: ModuleKey) -> v1::ModuleKey {
    v1::ModuleKey { token: key.token, label: key.label, iv: key.iv, ciphertext: key.ciphertext }
}

fn token_summary(token: TokenSummary) -> v1::TokenSummary {
    v1::TokenSummary {
        slot: token.slot,
        label: token.label,
        serial: token.serial,
        initialized: token.initialized,
        user_pin_set: token.user_pin_set,
        user_pin_locked: token.user_pin_locked,
        so_pin_locked: token.so_pin_locked,
        user_pin_failures: token.user_pin_failures,
        so_pin_failures: token.so_pin_failures,
        objects: token.objects,
        sessions: token.sessions,
        token_id: token.token_id,
        auto_login: token.auto_login,
        so_holds_master_key: token.so_holds_master_key,
    }
}

fn key_summary(key: KeySummary) -> v1::KeySummary {
    v1::KeySummary {
        handle: key.handle,
        class: key.class,
        key_type: key.key_type,
        label: key.label,
        id_hex: key.id_hex,
        size_bits: key.size_bits,
        sensitive: key.sensitive,
        extractable: key.extractable,
        local: key.local,
        usage: key.usage,
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type BackupStream = ReceiverStream<Result<v1::BackupChunk, Status>>;

    async fn seal_key(&self, request: Request<v1::SealKeyRequest>) -> Result<Response<v1::SealKeyReply>, Status> {
        // To whoever is here: who may not do what they then ask for is refused, and recorded, by what that is.
        visitor(&request)?.seal_keys().give().map(Response::new).map_err(|Refusal(fault)| fault.into())
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        let (self_test, started_unix_seconds) = (self.self_test.0.clone(), self.started_unix_seconds);
        self.run_for(ClientRole::AuditRead, Errand::Look, request, move |desk, _, _| {
            let status = desk.hsm.status();
            Ok(v1::StatusReply {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_unix_seconds,
                sealed: status.sealed,
                health: status.health,
                store_path: status.store_path,
                store_generation: status.store_generation,
                audit_path: status.audit_path,
                audit_sequence: status.audit_sequence,
                applications: status.applications,
                sessions: status.sessions,
                tokens: status.tokens,
                self_test,
                approved_only: status.approved_only,
                stream: status.stream.map(|stream| v1::StreamStatus {
                    directory: stream.directory,
                    generation: stream.generation,
                    taken_unix_seconds: stream.taken_unix_seconds,
                    loss_seconds: stream.loss_seconds,
                }),
            })
        })
        .await
    }

    async fn metrics(&self, request: Request<v1::MetricsRequest>) -> Result<Response<v1::MetricsReply>, Status> {
        self.run(Errand::Look, request, |desk, _, _| Ok(v1::MetricsReply { text: desk.metrics.page(&desk.hsm) })).await
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensReply>, Status> {
        self.run_for(ClientRole::AuditRead, Errand::Look, request, |desk, _, _| {
            Ok(v1::ListTokensReply { tokens: desk.hsm.admin_tokens()?.into_iter().map(token_summary).collect() })
        })
        .await
    }

    async fn init_token(
        &self,
        request: Request<v1::AdminInitTokenRequest>,
    ) -> Result<Response<v1::TokenSummary>, Status> {
        self.run_sealed(Errand::InitToken, request, |desk, peer, r| {
            let so_pin = SecretBytes::new(r.so_pin);
            desk.hsm.admin_init_token(peer, r.slot, &r.label, so_pin, maybe_pin(r.user_pin)).map(token_summary)
        })
        .await
    }

    async fn change_pin(&self, request: Request<v1::AdminChangePinRequest>) -> Result<Response<v1::Empty>, Status> {
        self.run_sealed(Errand::ChangePin, request, |desk, peer, r| {
            let (old, new) = (SecretBytes::new(r.old_pin), SecretBytes::new(r.new_pin));
            desk.hsm.admin_change_pin(peer, &token_name(r.token), r.user, old, new)?;
            Ok(v1::Empty {})
        })
        .await
    }

    async fn reset_pin(&self, request: Request<v1::AdminResetPinRequest>) -> Result<Response<v1::Empty>, Status> {
        self.run_sealed(Errand::ResetPin, request, |desk, peer, r| {
            let (so_pin, new) = (SecretBytes::new(r.so_pin), SecretBytes::new(r.new_user_pin));
            desk.hsm.admin_reset_pin(peer, &token_name(r.token), so_pin, new)?;
            Ok(v1::Empty {})
        })
        .await
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysReply>, Status> {
        self.run_sealed(Errand::ListKeys, request, |desk, peer, r| {
            let keys = desk.hsm.admin_list_keys(peer, &token_name(r.token), maybe_pin(r.user_pin))?;
            Ok(v1::ListKeysReply { keys: keys.into_iter().map(key_summary).collect() })
        })
        .await
    }

    async fn auto_login(&self, request: Request<v1::AutoLoginRequest>) -> Result<Response<v1::TokenSummary>, Status> {
        self.run_sealed(Errand::AutoLogin, request, |desk, peer, r| {
            let enable = r.enable.then(|| SecretBytes::new(r.user_pin));
            desk.hsm.admin_auto_login(peer, &token_name(r.token), enable).map(token_summary)
        })
        .await
    }

    async fn rotate_key(&self, request: Request<v1::RotateKeyRequest>) -> Result<Response<v1::RotateKeyReply>, Status> {
        self.run_sealed(Errand::RotateKey, request, |desk, peer, r| {
            let (so_pin, user_pin) = (SecretBytes::new(r.so_pin), maybe_pin(r.user_pin));
            let done = desk.hsm.admin_rotate_key(peer, &token_name(r.token), &so_pin, user_pin.as_ref())?;
            Ok(v1::RotateKeyReply { epoch: done.epoch, objects: done.objects, complete: done.complete })
        })
        .await
    }

    async fn unseal(&self, request: Request<v1::UnsealRequest>) -> Result<Response<v1::UnsealReply>, Status> {
        self.run_sealed(Errand::Unseal, request, |desk, peer, r| {
            let state = match r.brought.map(brought).transpose()? {
                Some(brought) => desk.hsm.unseal(peer, brought)?,
                None => desk.hsm.seal_state()?,
            };
            Ok(v1::UnsealReply {
                sealed: state.sealed,
                opens_with: state.opens_with,
                shares_have: state.shares.0.into(),
                shares_needed: state.shares.1.into(),
                module_keys: state.modules.into_iter().map(module_key).collect(),
            })
        })
        .await
    }

    async fn witnessed(&self, request: Request<v1::WitnessedRequest>) -> Result<Response<v1::WitnessedReply>, Status> {
        self.run_for(ClientRole::AuditRead, Errand::Look, request, |desk, _, r| {
            let all = desk.hsm.witnessed_origins().filter(|origin| r.origin.is_empty() || *origin == r.origin);
            let journals = all.map(|origin| {
                let held = desk.hsm.witnessed(origin)?;
                let note = held.map(|held| held.note().to_owned()).unwrap_or_default();
                Ok(v1::WitnessedJournal { origin: origin.to_owned(), note })
            });
            Ok(v1::WitnessedReply { journals: journals.collect::<hsm_core::Result<_>>()? })
        })
        .await
    }

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let peer = self.administrator(&request, ClientRole::Backup, Errand::Backup).await?.peer().clone();
        let request = self.opened(request)?.into_inner();
        let (pieces, stream) = mpsc::channel(4);
        let desk = Arc::clone(&self.desk);
        tokio::task::spawn_blocking(move || {
            let mut out = Pieces { pieces, begun: Vec::with_capacity(CHUNK) };
            let so_pin = SecretBytes::new(request.so_pin);
            let token = token_name(request.token);
            let others = request.recipients.into_iter().map(recipient).collect::<hsm_core::Result<Vec<For>>>();
            let outcome = others.and_then(|others| desk.hsm.admin_backup(&peer, &token, so_pin, &others, &mut out));
            let last = match outcome {
                Ok(()) => out.flush().err().map(|error| Status::cancelled(error.to_string())),
                Err(error) => Some(status(error)),
            };
            if let Some(failure) = last {
                // The archive is not whole: the status says so, unless the client has left.
                out.pieces.blocking_send(Err(failure)).unwrap_or_default();
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Cuts what is written into pieces of a stream.
struct Pieces {
    pieces: mpsc::Sender<Result<v1::BackupChunk, Status>>,
    begun: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.begun.len());
        self.begun.extend_from_slice(&bytes[..taken]);
        if self.begun.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.begun.is_empty() {
            return Ok(());
        }
        let data = core::mem::replace(&mut self.begun, Vec::with_capacity(CHUNK));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client left before the backup was whole");
        self.pieces.blocking_send(Ok(v1::BackupChunk { data })).map_err(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_arrives_in_whole_pieces_and_a_rest() {
        let (pieces, mut stream) = mpsc::channel(9);
        let mut out = Pieces { pieces, begun: Vec::new() };
        let written: Vec<u8> = (0..CHUNK * 2 + 5).map(|i| i as u8).collect();
        out.write_all(&written).expect("room");
        out.flush().expect("room");
        drop(out);
        let mut lens = Vec::new();
        let mut read = Vec::new();
        while let Some(piece) = stream.blocking_recv() {
            let data = piece.expect("a piece").data;
            lens.push(data.len());
            read.extend(data);
        }
        assert_eq!(lens, [CHUNK, CHUNK, 5]);
        assert_eq!(read, written);
    }
}

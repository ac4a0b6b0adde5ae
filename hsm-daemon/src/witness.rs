//! Shows the checkpoints of this daemon's journal to other daemons that are its witnesses (`audit.witness`, `daemon:…`).
//!
//! A thread of its own reads the journal's files as far as they are durable and tells each witness what it does not hold yet. Nothing
//! waits for it; what it could not tell it tells later. When the daemon stops, the last checkpoint is told after the journal is closed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hsm_core::Hsm;
use hsm_core::audit::{Complaint, Follower, Pin, Step, Trust, Witness, newest_checkpoint};
use hsm_core::config::AuditConfig;
use hsm_proto::v1;
use hsm_proto::v1::witness_client::WitnessClient;
use hyper_util::rt::TokioIo;
use parking_lot::{Condvar, Mutex};
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::metrics::WitnessMeter;
use crate::tls;
use crate::tls_files::ClientFiles;

/// How often it is looked whether there is something to tell.
const LOOK: Duration = Duration::from_secs(1);
/// A witness is told no more often, so that its journal does not grow with ours.
const REST: Duration = Duration::from_secs(10);
/// How long a witness may take to be reached, and for each of its answers.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// How long the end of the daemon waits for its witnesses.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The thread that tells.
pub(crate) struct Teller {
    ending: Arc<Ending>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Ending {
    near: Mutex<bool>,
    changed: Condvar,
}

impl Teller {
    /// A teller, if there is a witness of this kind.
    ///
    /// # Errors
    /// When there is no thread or no runtime for it.
    pub(crate) fn start(
        hsm: &Arc<Hsm>,
        audit: &AuditConfig,
        tls: Option<ClientFiles>,
        meter: WitnessMeter,
    ) -> std::io::Result<Option<Self>> {
        let endpoint = |witness: &Witness| match witness {
            Witness::Daemon(endpoint) => Some(Listener::at(endpoint.clone())),
            _ => None,
        };
        let listeners: Vec<Listener> = audit.witnesses.iter().filter_map(endpoint).collect();
        if listeners.is_empty() {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (journal, origin) = (audit.log_path.clone(), hsm.journal_origin());
        let mut rounds = Rounds { journal, origin, hsm: Arc::downgrade(hsm), listeners, tls, meter };
        let ending = Arc::new(Ending::default());
        let end = Arc::clone(&ending);
        let run = move || {
            while !end.is_near() {
                runtime.block_on(rounds.go(false));
            }
            let last = runtime.block_on(async { tokio::time::timeout(LAST_WORDS, rounds.go(true)).await });
            if last.is_err() {
                tracing::warn!("a witness did not hear the last checkpoint in time; it is told at the next start");
            }
        };
        let thread = std::thread::Builder::new().name("witness".to_owned()).spawn(run)?;
        Ok(Some(Teller { ending, thread }))
    }

    /// Tells the last checkpoint and ends. To be called when the journal is closed.
    pub(crate) fn finish(self) {
        *self.ending.near.lock() = true;
        self.ending.changed.notify_all();
        self.thread.join().unwrap_or_else(|_| tracing::error!("the witnesses' thread ended by a panic"));
    }
}

impl Ending {
    /// Waits a little, unless the end is near.
    fn is_near(&self) -> bool {
        let mut near = self.near.lock();
        if !*near {
            self.changed.wait_for(&mut near, LOOK);
        }
        *near
    }
}

/// Everything that the thread needs, round after round.
struct Rounds {
    journal: PathBuf,
    origin: Option<String>,
    hsm: Weak<Hsm>,
    listeners: Vec<Listener>,
    tls: Option<ClientFiles>,
    meter: WitnessMeter,
}

impl Rounds {
    /// Tells every witness whose time has come, or in the last round all of them.
    async fn go(&mut self, last: bool) {
        // Who holds the token keeps it from closing: for an instant only.
        let durable = match self.hsm.upgrade() {
            Some(hsm) => {
                self.origin = self.origin.take().or_else(|| hsm.journal_origin());
                hsm.journal_progress().durable
            }
            None => u64::MAX,
        };
        let Some(origin) = &self.origin else { return };
        for listener in &mut self.listeners {
            if (listener.due <= Instant::now() || last) && listener.told < durable {
                let outcome = listener.tell(&self.journal, origin, durable, self.tls.as_ref()).await;
                listener.note(outcome, durable, &self.meter);
            }
        }
        let behind = self.listeners.iter().map(|listener| durable.saturating_sub(listener.told)).max();
        self.meter.behind(behind.filter(|_| durable < u64::MAX).unwrap_or_default());
    }
}

/// One witness.
struct Listener {
    endpoint: String,
    /// Reads on where the witness is; none while that is not known.
    follower: Option<Follower>,
    /// All checkpoints of the records up to this one have been told.
    told: u64,
    due: Instant,
    complaint: Complaint,
}

impl Listener {
    fn at(endpoint: String) -> Self {
        Listener { endpoint, follower: None, told: 0, due: Instant::now(), complaint: Complaint::default() }
    }

    /// Tells all that is new up to a record.
    async fn tell(
        &mut self,
        journal: &Path,
        origin: &str,
        durable: u64,
        tls: Option<&ClientFiles>,
    ) -> Result<(), String> {
        let mut witness = WitnessClient::new(self.reach(tls).await?);
        // Where it is is not known any more when something goes wrong on the way.
        let mut follower = match self.follower.take() {
            Some(follower) => follower,
            None => begin(&mut witness, journal, origin, durable).await?,
        };
        while let Some(step) = follower.next_step(durable).map_err(|why| unreadable(&why))? {
            witness.show(request(step)).await.map_err(said)?;
        }
        self.follower = Some(follower);
        Ok(())
    }

    async fn reach(&self, tls: Option<&ClientFiles>) -> Result<Channel, String> {
        let endpoint = |authority: &str| Endpoint::from_shared(format!("http://{authority}"));
        let set = |endpoint: Endpoint| endpoint.timeout(ANSWER).connect_timeout(CONNECT);
        let chain = |why: tonic::transport::Error| {
            let source = std::error::Error::source(&why).map(ToString::to_string);
            source.unwrap_or_else(|| why.to_string())
        };
        if let Some(path) = self.endpoint.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            let connector = service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            // A Unix socket has no host name; HTTP/2 wants one.
            let endpoint = endpoint("craton-hsm.invalid").map_err(chain)?;
            return set(endpoint).connect_with_connector(connector).await.map_err(chain);
        }
        let bad = || format!("{} is no address", self.endpoint);
        let authority = self.endpoint.strip_prefix("https://").ok_or_else(bad)?;
        let (host, port) = authority.rsplit_once(':').ok_or_else(bad)?;
        let (host, port) = (host.trim_matches(['[', ']']).to_owned(), port.parse::<u16>().map_err(|_| bad())?);
        let name = ServerName::try_from(host.clone()).map_err(|_| bad())?;
        // Read each time, so that renewed files are used.
        let config = tls::client(tls.ok_or_else(bad)?, b"h2").map_err(|why| why.to_string())?;
        let connector = TlsConnector::from(Arc::new(config));
        let connector = service_fn(move |_: Uri| {
            let (host, name, connector) = (host.clone(), name.clone(), connector.clone());
            async move { connector.connect(name, TcpStream::connect((host, port)).await?).await.map(TokioIo::new) }
        });
        set(endpoint(authority).map_err(chain)?).connect_with_connector(connector).await.map_err(chain)
    }

    fn note(&mut self, outcome: Result<(), String>, durable: u64, meter: &WitnessMeter) {
        self.due = Instant::now() + REST;
        let witness = &self.endpoint;
        match outcome {
            Ok(()) => {
                self.told = durable;
                if self.complaint.is_over() {
                    tracing::info!(witness, "the witness hears of the journal's checkpoints again");
                }
            }
            Err(why) => {
                meter.failed();
                if self.complaint.is_due(&why) {
                    tracing::error!(witness, why, "a witness could not be told of the journal's checkpoint");
                }
            }
        }
    }
}

/// Asks the witness where it is, and reads on from there.
async fn begin(
    witness: &mut WitnessClient<Channel>,
    journal: &Path,
    origin: &str,
    durable: u64,
) -> Result<Follower, String> {
    let held = witness.held(v1::HeldRequest { origin: origin.to_owned() }).await.map_err(said)?.into_inner();
    if held.size > durable {
        // The witness is to see this too: it refuses the checkpoint and records that it did.
        let newest = newest_checkpoint(journal, Trust::default()).map_err(|finding| finding.to_string())?;
        let (note, ml_dsa_44_key) = (newest.0.note(&newest.1), newest.1.ml_dsa_44().map(<[u8]>::to_vec));
        let from = held.size;
        let step = Step { note, ml_dsa_44_key, from, before: Vec::new(), announcement: None, after: Vec::new() };
        witness.show(request(step)).await.map_err(said)?;
    }
    let key = (held.size > 0).then(|| Pin::from_bytes(&held.key).ok_or("the witness names no key"));
    let from = key.transpose()?.map(|key| (held.size, key));
    Follower::begin(journal, from).map_err(|why| unreadable(&why))
}

fn request(step: Step) -> v1::ShowRequest {
    let hashes = |hashes: Vec<[u8; 32]>| hashes.into_iter().map(Vec::from).collect();
    v1::ShowRequest {
        note: step.note,
        ml_dsa_44_key: step.ml_dsa_44_key,
        from: step.from,
        before: hashes(step.before),
        announcement: step.announcement,
        after: hashes(step.after),
    }
}

fn unreadable(why: &std::io::Error) -> String {
    format!("the journal cannot be read: {why}")
}

/// What the witness answered instead.
fn said(status: Status) -> String {
    match status.message() {
        "" => status.to_string(),
        message => message.to_owned(),
    }
}

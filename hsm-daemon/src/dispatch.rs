//! Request in, one method of the core, reply out: the one place that both carriers call.
//!
//! Nothing is decided here that the core decides. What this file adds: a connection attaches before it does anything
//! else, and a defect in an operation becomes a fault instead of an end of the daemon.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hsm_core::{Caller, Hsm, Peer, SecretBytes, SecretRefused};
use hsm_proto::v1::reply::Result as Outcome;
use hsm_proto::v1::request::Op;
use hsm_proto::{frame, v1};

use crate::convert::{self, Refusal};
use crate::metrics::Metrics;
use crate::outcomes::{self, Outcomes};
use crate::telemetry::{Parent, Traces};

/// The most snapshots that travel with a find, so that the reply fits its frame.
const MOST_SNAPSHOTS: usize = 512;

/// What every connection shares.
pub(crate) struct Desk {
    /// The core.
    pub(crate) hsm: Arc<Hsm>,
    /// The most bytes one request for random bytes gets.
    pub(crate) max_random_bytes: u64,
    /// What became of the latest changes.
    pub(crate) outcomes: Outcomes,
    /// What was asked, how it ended and how long it took.
    pub(crate) metrics: Metrics,
    /// Who is told of single requests, if anybody is.
    pub(crate) traces: Option<Traces>,
    /// Whether gRPC clients may say and hear secrets in plain words.
    pub(crate) plain_secrets: bool,
}

/// Who asks: the peer of the connection and, once attached, the application.
pub(crate) struct Seat {
    /// Known from the carrier.
    pub(crate) peer: Peer,
    /// Made by Attach.
    pub(crate) caller: Option<Arc<Caller>>,
    /// The client's span that the next request belongs to.
    pub(crate) parent: Option<Parent>,
}

impl Seat {
    /// The seat of somebody who has not attached yet.
    pub(crate) fn new(peer: Peer) -> Self {
        Seat { peer, caller: None, parent: None }
    }
}

impl Desk {
    /// A desk before which nobody has stood yet.
    pub(crate) fn new(hsm: Arc<Hsm>, max_random_bytes: u64) -> Self {
        let metrics = Metrics::new();
        hsm.observe(metrics.observer());
        Desk { hsm, max_random_bytes, outcomes: Outcomes::default(), metrics, traces: None, plain_secrets: true }
    }

    /// Answers one request.
    pub(crate) fn dispatch(&self, seat: &mut Seat, request: v1::Request) -> v1::Reply {
        let numbered = seat.caller.as_deref().filter(|_| outcomes::is_kept(&request));
        let note = numbered.map(|caller| self.outcomes.begin(caller.peer(), caller.application(), request.number));
        let parent = seat.parent.take();
        let chosen = self.traces.as_ref().and_then(|traces| Some((traces, traces.choose(parent)?)));
        let begun = self.metrics.begin(&request);
        let reply = self.answer(seat, request);
        let answered = self.metrics.end(begun, &reply);
        if let Some((traces, chosen)) = chosen {
            traces.tell(chosen, answered);
        }
        if let Some(note) = note {
            self.outcomes.finish(note, &reply);
        }
        reply
    }

    /// The answer to a request that its carrier refuses, counted as one that was dispatched.
    pub(crate) fn refuse(&self, request: &v1::Request, Refusal(fault): Refusal) -> v1::Reply {
        let begun = self.metrics.begin(request);
        let reply = v1::Reply { generation: self.hsm.generation(), result: Some(Outcome::Fault(fault)) };
        self.metrics.end(begun, &reply);
        reply
    }

    /// The answer to a request whose secret is not looked at, which is recorded.
    pub(crate) fn refuse_secret(
        &self,
        peer: &Peer,
        request: &v1::Request,
        why: SecretRefused,
        refusal: Refusal,
    ) -> v1::Reply {
        self.refuse(request, self.record_refusal(peer, why, refusal))
    }

    /// The same refusal once it is recorded; else the one that says that it is not.
    pub(crate) fn record_refusal(&self, peer: &Peer, why: SecretRefused, refusal: Refusal) -> Refusal {
        match self.hsm.refuse_secret(peer, why, ck::Rv(refusal.0.rv)) {
            Ok(()) => refusal,
            Err(error) => error.into(),
        }
    }

    fn answer(&self, seat: &mut Seat, request: v1::Request) -> v1::Reply {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            hsm_core::failpoint!("dispatch.before");
            self.perform(seat, request.op)
        }));
        let result = match outcome {
            Ok(Ok(result)) => result,
            Ok(Err(Refusal(fault))) => Outcome::Fault(fault),
            // The panic hook has logged where.
            Err(_) => Outcome::Fault(v1::Fault::new(ck::rv::CKR_GENERAL_ERROR, "a defect in the daemon: see its log")),
        };
        v1::Reply { generation: self.hsm.generation(), result: Some(result) }
    }

    fn attach(&self, seat: &mut Seat, request: v1::AttachRequest) -> Result<Outcome, Refusal> {
        if request.protocol != frame::PROTOCOL {
            let sentence = format!("the client speaks protocol {}, the daemon {}", request.protocol, frame::PROTOCOL);
            return Err(Refusal::new(ck::rv::CKR_DEVICE_ERROR, &sentence));
        }
        let caller = match <[u8; 16]>::try_from(request.application.as_slice()) {
            Ok(application) => self.hsm.join(seat.peer.clone(), application)?,
            Err(_) if request.application.is_empty() => self.hsm.attach(seat.peer.clone(), &request.program)?,
            Err(_) => return Err(Refusal::new(ck::rv::CKR_ARGUMENTS_BAD, "an application's name has 16 bytes")),
        };
        let reply = v1::AttachReply {
            protocol: frame::PROTOCOL,
            application: caller.application().to_vec(),
            boot: self.hsm.boot().to_vec(),
            max_message_bytes: frame::MAX_BODY as u64,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            max_random_bytes: self.max_random_bytes,
        };
        seat.caller = Some(Arc::new(caller));
        Ok(Outcome::Attach(reply))
    }

    /// One arm per operation, in the order of `token.proto`.
    fn perform(&self, seat: &mut Seat, op: Option<Op>) -> Result<Outcome, Refusal> {
        let hsm = &*self.hsm;
        let op = op
            .ok_or_else(|| Refusal::new(ck::rv::CKR_FUNCTION_NOT_SUPPORTED, "the daemon does not know this request"))?;
        if let Op::Attach(request) = op {
            return self.attach(seat, request);
        }
        let c = seat.caller.as_deref().ok_or_else(not_attached)?;
        Ok(match op {
            Op::Attach(_) => return Err(not_attached()),
            Op::ListSlots(_) => {
                Outcome::ListSlots(v1::ListSlotsReply { slots: hsm.slots(c)?.into_iter().map(convert::slot).collect() })
            }
            Op::Mechanisms(r) => Outcome::Mechanisms(v1::MechanismsReply {
                rows: hsm.mechanisms(c, r.slot)?.into_iter().map(convert::mechanism_row).collect(),
            }),
            Op::InitToken(r) => done(hsm.init_token(c, r.slot, SecretBytes::new(r.so_pin), &r.label)?),
            Op::InitPin(r) => done(hsm.init_pin(c, r.session, SecretBytes::new(r.pin))?),
            Op::SetPin(r) => {
                done(hsm.set_pin(c, r.session, SecretBytes::new(r.old_pin), SecretBytes::new(r.new_pin))?)
            }
            Op::OpenSession(r) => {
                Outcome::OpenSession(v1::OpenSessionReply { session: hsm.open_session(c, r.slot, r.flags)? })
            }
            Op::CloseSession(r) => done(hsm.close_session(c, r.session)?),
            Op::CloseAllSessions(r) => done(hsm.close_all_sessions(c, r.slot)?),
            Op::SessionInfo(r) => {
                let info = hsm.session_info(c, r.session)?;
                Outcome::SessionInfo(v1::SessionInfoReply { slot: info.slot, state: info.state, flags: info.flags })
            }
            Op::Login(r) if r.without_pin => done(hsm.login_without_pin(c, r.session, r.user)?),
            Op::Login(r) => done(hsm.login(c, r.session, r.user, SecretBytes::new(r.pin))?),
            Op::Logout(r) => done(hsm.logout(c, r.session)?),
            Op::CreateObject(r) => made(hsm.create_object(c, r.session, convert::template(r.template))?),
            Op::CopyObject(r) => made(hsm.copy_object(c, r.session, r.object, convert::template(r.template))?),
            Op::DestroyObject(r) => done(hsm.destroy_object(c, r.session, r.object)?),
            Op::ObjectSize(r) => {
                Outcome::ObjectSize(v1::ObjectSizeReply { bytes: hsm.object_size(c, r.session, r.object)? })
            }
            Op::GetAttributes(r) => {
                let read = hsm.get_attributes(c, r.session, r.object, &r.types)?;
                let results = read.into_iter().map(convert::attribute_result).collect();
                Outcome::GetAttributes(v1::GetAttributesReply { results })
            }
            Op::SetAttributes(r) => done(hsm.set_attributes(c, r.session, r.object, convert::template(r.template))?),
            Op::Find(r) => {
                let wanted = usize::try_from(r.snapshots).unwrap_or(MOST_SNAPSHOTS).min(MOST_SNAPSHOTS);
                let found = hsm.find(c, r.session, convert::template(r.template), wanted)?;
                let snapshots = found.snapshots.into_iter().map(convert::snapshot).collect();
                Outcome::Find(v1::FindReply { objects: found.objects, snapshots })
            }
            Op::Snapshot(r) => Outcome::Snapshot(convert::snapshot(hsm.snapshot(c, r.session, r.object)?)),
            Op::OneShot(r) => {
                let (kind, begin) = (convert::operation_kind(r.kind)?, convert::begin(r.begin)?);
                output(hsm.one_shot(c, r.session, kind, begin, &r.data, &r.signature, r.capacity)?)
            }
            Op::Update(r) => {
                let (kind, begin) = (convert::operation_kind(r.kind)?, convert::maybe_begin(r.begin)?);
                output(hsm.update(c, r.session, kind, begin, &r.data, r.capacity)?)
            }
            Op::Final(r) => {
                let (kind, begin) = (convert::operation_kind(r.kind)?, convert::maybe_begin(r.begin)?);
                output(hsm.finish(c, r.session, kind, begin, &r.signature, r.capacity)?)
            }
            Op::DigestKey(r) => done(hsm.digest_key(c, r.session, convert::maybe_begin(r.begin)?, r.key)?),
            Op::Cancel(r) => done(hsm.cancel(c, r.session, convert::operation_kind(r.kind)?)?),
            Op::Check(r) => {
                done(hsm.check(c, r.session, convert::operation_kind(r.kind)?, convert::begin(r.begin)?)?)
            }
            Op::Random(r) => {
                let len = usize::try_from(r.len).ok().filter(|_| r.len <= self.max_random_bytes);
                let len = len.ok_or_else(|| {
                    let sentence = format!("at most {} random bytes at once", self.max_random_bytes);
                    Refusal::new(ck::rv::CKR_ARGUMENTS_BAD, &sentence)
                })?;
                Outcome::Random(v1::RandomReply { bytes: hsm.random(c, r.session, len)? })
            }
            Op::SeedRandom(r) => done(hsm.seed_random(c, r.session, &r.seed)?),
            Op::GenerateKey(r) => {
                let (mechanism, template) = (convert::mechanism(r.mechanism)?, convert::template(r.template));
                made(hsm.generate_key(c, r.session, mechanism, template)?)
            }
            Op::GenerateKeyPair(r) => {
                let mechanism = convert::mechanism(r.mechanism)?;
                let (public, private) = (convert::template(r.public_template), convert::template(r.private_template));
                let (public, private) = hsm.generate_key_pair(c, r.session, mechanism, public, private)?;
                Outcome::KeyPair(v1::KeyPairReply {
                    public_key: Some(convert::object(public)),
                    private_key: Some(convert::object(private)),
                })
            }
            Op::WrapKey(r) => {
                let mechanism = convert::mechanism(r.mechanism)?;
                output(hsm.wrap_key(c, r.session, mechanism, r.wrapping_key, r.key, r.capacity)?)
            }
            Op::UnwrapKey(r) => {
                let (mechanism, template) = (convert::mechanism(r.mechanism)?, convert::template(r.template));
                made(hsm.unwrap_key(c, r.session, mechanism, r.unwrapping_key, &r.wrapped, template)?)
            }
            Op::DeriveKey(r) => {
                let (mechanism, template) = (convert::mechanism(r.mechanism)?, convert::template(r.template));
                Outcome::Derived(convert::derived(hsm.derive_key(c, r.session, mechanism, r.base_key, template)?))
            }
            Op::EncapsulateKey(r) => {
                let (mechanism, template) = (convert::mechanism(r.mechanism)?, convert::template(r.template));
                let (ciphertext, made) =
                    hsm.encapsulate_key(c, r.session, mechanism, r.public_key, template, r.capacity)?;
                Outcome::Encapsulated(v1::EncapsulateKeyReply { ciphertext, key: Some(convert::object(made)) })
            }
            Op::DecapsulateKey(r) => {
                let (mechanism, template) = (convert::mechanism(r.mechanism)?, convert::template(r.template));
                made(hsm.decapsulate_key(c, r.session, mechanism, r.private_key, template, &r.ciphertext)?)
            }
            Op::ResumeSession(r) => Outcome::OpenSession(v1::OpenSessionReply {
                session: hsm.resume_session(c, r.slot, r.flags, r.session)?,
            }),
            Op::Outcome(r) => Outcome::Outcome(self.outcomes.tell(c.peer(), &r.application, r.number)),
            Op::Message(mut r) => {
                let session = r.session;
                Outcome::Message(convert::message(hsm.message(c, session, convert::message_piece(&mut r)?)?))
            }
            Op::SaveState(r) => {
                let state = hsm.save_state(c, r.session, convert::maybe_begin(r.begin)?, r.updated)?;
                Outcome::SavedState(v1::SavedStateReply { state })
            }
            Op::RestoreState(r) => {
                let (mechanism, updated) = hsm.restore_state(c, r.session, &r.state)?;
                Outcome::RestoredState(v1::RestoredStateReply { mechanism, updated })
            }
            Op::WrapAuthenticated(r) => {
                let mechanism = convert::mechanism(r.mechanism)?;
                let wrapped = hsm.wrap_authenticated(c, r.session, mechanism, r.wrapping_key, r.key, r.capacity)?;
                Outcome::Message(convert::message(wrapped))
            }
            Op::UnwrapAuthenticated(r) => {
                let (mechanism, template) = (convert::mechanism(r.mechanism)?, convert::template(r.template));
                let key = r.unwrapping_key;
                made(hsm.unwrap_authenticated(c, r.session, mechanism, key, &r.wrapped, &r.tag, template)?)
            }
        })
    }
}

/// Whether an operation may take 5 ms and more (a PIN's derivation, an RSA generation, a durable write): an async
/// carrier runs it on its pool. Signing is not among them, because a hand-off costs more than it, but by SLH-DSA.
pub(crate) fn is_long(op: &Op) -> bool {
    let slow = |begin: &Option<v1::Begin>| {
        let mechanism = begin.as_ref().and_then(|begin| begin.mechanism.as_ref());
        mechanism.is_some_and(|mechanism| hsm_core::signs_slowly(mechanism.r#type))
    };
    match op {
        Op::OneShot(r) => slow(&r.begin),
        Op::Message(r) => slow(&r.begin) || (r.begin.is_none() && r.kind() == v1::OperationKind::OperationMessageSign),
        // What a Final without a begin ends is not said: signatures in parts are rare enough to be handed over.
        Op::Final(r) => slow(&r.begin) || (r.begin.is_none() && r.kind() == v1::OperationKind::OperationSign),
        other => other.waits(),
    }
}

fn not_attached() -> Refusal {
    Refusal::new(ck::rv::CKR_CRYPTOKI_NOT_INITIALIZED, "the connection has not attached")
}

fn done((): ()) -> Outcome {
    Outcome::Done(v1::Empty {})
}

fn made(snapshot: hsm_core::Snapshot) -> Outcome {
    Outcome::Object(convert::object(snapshot))
}

fn output(output: Vec<u8>) -> Outcome {
    Outcome::Output(v1::OutputReply { output })
}

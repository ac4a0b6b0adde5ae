//! The business events: the only ways the memory of the PKI changes.

use super::notice::Outcome;
use super::record::{
    Approval, ApprovalState, Authority, AuthorityState, Certificate, Credential, Crl, Device, Due, ForeignList, Intent,
    KeyPlan, Notice, Restoration, StoredCheckpoint, Sweep,
};
use crate::x509::{hex, sha256};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What becomes of the certificate that a new one replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Supersession {
    /// It stays off the CRL and runs out by itself.
    Expire,
    /// It is put on the CRL with the reason `superseded`.
    Revoke,
}

/// Whether the token may have signed something under an abandoned serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Certainly not: the serial number is forgotten.
    NothingSigned,
    /// Perhaps: the serial number goes on the CRL.
    MaybeSigned,
}

/// Something due that has happened.
#[derive(Debug, Clone)]
pub(crate) struct Passed {
    /// What.
    pub(crate) due: Due,
    /// Its device as it is from now on, when it moves; `revision` as read.
    pub(crate) device: Option<Device>,
    /// What is to be told of it.
    pub(crate) notice: Option<Notice>,
    /// What is due next for the same certificate.
    pub(crate) next: Option<Due>,
}

/// What was done too early about one certificate, because the clock was ahead.
#[derive(Debug, Clone)]
pub(crate) struct Undone {
    /// Its serial number.
    pub(crate) serial: Vec<u8>,
    /// What is due again.
    pub(crate) due: Vec<Due>,
    /// Its device as it is from now on, when it moves; `revision` as read.
    pub(crate) device: Option<Device>,
    /// Whether its revocation goes on the list again.
    pub(crate) is_relisted: bool,
}

/// A business event.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A key is about to be generated in the token.
    KeyPlanned(KeyPlan),
    /// An authority has its certificate. Closes the intent of that certificate when there is one.
    AuthorityCreated {
        /// The authority.
        authority: Authority,
        /// Its certificate.
        certificate: Certificate,
    },
    /// An authority from elsewhere is known here from now on.
    AuthorityImported(Authority),
    /// An authority is another from now on: its state or its successor.
    AuthorityMoved {
        /// As it is from now on.
        authority: Authority,
        /// The state it was read with.
        from: AuthorityState,
    },
    /// An authority is revoked: one mark, and its certificate in line for its parent's CRL. Whatever it issued is no longer good.
    AuthorityRevoked {
        /// Its name.
        id: String,
        /// CRL reason code.
        reason: u32,
        /// When.
        at: i64,
    },
    /// A serial number is reserved; device, replaced certificate and credential are claimed until the intent closes.
    Intend(Intent),
    /// A certificate for the house itself (the TLS server) exists. Closes its intent and supersedes the one before.
    Issued {
        /// What the house uses it for.
        role: String,
        /// The certificate.
        certificate: Certificate,
    },
    /// A device has its certificate. Closes the intent, binds the device, spends the credential, supersedes the old one.
    Enrolled {
        /// The certificate.
        certificate: Certificate,
        /// The device as it is from now on; its `revision` is the one it was read with.
        device: Device,
        /// What becomes of the replaced certificate.
        supersession: Supersession,
    },
    /// An issuance broke off. Closes the intent.
    Abandoned {
        /// The reserved serial number.
        serial: Vec<u8>,
        /// Whether a signature may exist.
        doubt: Doubt,
        /// When.
        at: i64,
    },
    /// Certificates are revoked or put on hold, all of them or none. The devices that live by them move.
    Revoked {
        /// Their serial numbers.
        serials: Vec<Vec<u8>>,
        /// CRL reason code.
        reason: u32,
        /// When.
        at: i64,
        /// Since when they are not to be relied upon, 0 when that is not known.
        invalid_since: i64,
    },
    /// Many certificates are revoked from now on; their records follow in pieces.
    SweepBegun(Sweep),
    /// The next piece of a sweep: like [`Change::Revoked`], and how far it went.
    SweepWent {
        /// Which.
        id: Vec<u8>,
        /// The place that it was read at.
        from: Vec<u8>,
        /// The place it has come to.
        next: Vec<u8>,
        /// That this was the last piece.
        is_last: bool,
        /// Serial numbers.
        serials: Vec<Vec<u8>>,
        /// CRL reason code.
        reason: u32,
        /// When.
        at: i64,
        /// Since when they are not to be relied upon, 0 when that is not known.
        invalid_since: i64,
    },
    /// A certificate on hold is released. The device that lives by it moves.
    Released {
        /// Its serial number.
        serial: Vec<u8>,
        /// When.
        at: i64,
    },
    /// The next number of a list and its delta is taken, before either is signed.
    CrlNumbered {
        /// Name of the list.
        list: String,
        /// The number, above the last.
        number: u64,
        /// How many lists are to be signed under it.
        lists: u64,
    },
    /// A signature is about to be made that no other record tells of, or may have been made and lost on its way here.
    SignatureIntended {
        /// The authority.
        authority: String,
    },
    /// The token's count of an authority's signatures was compared with what is recorded, and is where the account goes on from.
    Reconciled {
        /// The authority.
        authority: String,
        /// The token's count.
        counted: u64,
        /// What was recorded.
        recorded: u64,
        /// What was intended and open.
        open: u64,
        /// They did not agree, and an operator accepts that.
        is_accepted: bool,
    },
    /// A base, its delta, or both under one number are published. Revocations of certificates that had expired before the base was
    /// made are dropped from the next.
    CrlPublished {
        /// The lists; `last_number` and `pending` are kept by the store.
        crls: Vec<Crl>,
        /// How many revocations they answer for (the value of `pending` they were made with).
        answers: u64,
    },
    /// What was due has happened, all of it in one change. It leaves the queue.
    DuePassed(Vec<Passed>),
    /// The clock was ahead and is not any more. Notices that wait for the time that it told are told now, if they are due.
    ClockWentBack {
        /// How far it had come.
        until: i64,
        /// Now.
        at: i64,
    },
    /// What a clock that was ahead did too early to some certificates is undone.
    Undone {
        /// The place in the order of issuance that was read from.
        from: Vec<u8>,
        /// The place to go on from; none when these were the last.
        next: Option<Vec<u8>>,
        /// What is undone.
        undone: Vec<Undone>,
    },
    /// It was tried to tell notices.
    NoticesTried {
        /// Which, as they were read.
        notices: Vec<Notice>,
        /// What became of it.
        outcome: Outcome,
        /// When they are tried again.
        next_try: i64,
    },
    /// A first enrolment waits for an operator.
    ApprovalAsked(Approval),
    /// An operator decided about it.
    ApprovalDecided {
        /// Which.
        id: String,
        /// What.
        state: ApprovalState,
        /// When.
        at: i64,
    },
    /// An operator has recorded a device before its first enrolment.
    DeviceRegistered(Device),
    /// A bootstrap credential exists.
    CredentialCreated(Credential),
    /// The store came from a backup. Its lists begin at numbers that were never given out; credentials that may have been used
    /// since are void, grants are asked for again; and it is marked until [`Change::CaughtUp`].
    Restored {
        /// From which.
        restoration: Restoration,
        /// The least number of the next CRL of each list.
        least_crl_number: u64,
    },
    /// An operator has said that what a restored store lacks is known or given up.
    CaughtUp {
        /// How many certificates were taken up.
        certificates: u64,
        /// How many revocations were.
        revocations: u64,
    },
    /// A CRL of another was fetched and verified. It is not older than the one before.
    ForeignListTaken(ForeignList),
    /// A checkpoint of the journal is signed.
    Checkpointed(StoredCheckpoint),
    /// Requests were refused: how many by reason code since the last such record.
    Refused {
        /// Reason codes and how often.
        counts: BTreeMap<String, u64>,
    },
}

impl Change {
    /// False only for changes that leave every certificate as good or as revoked as it was.
    pub(crate) fn may_alter_standing(&self) -> bool {
        !matches!(
            self,
            Self::KeyPlanned(_)
                | Self::Intend(_)
                | Self::Enrolled { supersession: Supersession::Expire, .. }
                | Self::CrlNumbered { .. }
                | Self::SignatureIntended { .. }
                | Self::Reconciled { .. }
                | Self::CrlPublished { .. }
                | Self::DuePassed(_)
                | Self::ClockWentBack { .. }
                | Self::NoticesTried { .. }
                | Self::CredentialCreated(_)
                | Self::ApprovalAsked(_)
                | Self::ApprovalDecided { .. }
                | Self::DeviceRegistered(_)
                | Self::ForeignListTaken(_)
                | Self::Checkpointed(_)
                | Self::CaughtUp { .. }
                | Self::Refused { .. }
        )
    }

    /// The name of the event in the journal.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::KeyPlanned(_) => "key_planned",
            Self::AuthorityCreated { .. } => "authority_created",
            Self::AuthorityImported(_) => "authority_imported",
            Self::AuthorityMoved { .. } => "authority_moved",
            Self::AuthorityRevoked { .. } => "authority_revoked",
            Self::Intend(_) => "intended",
            Self::Issued { .. } => "issued",
            Self::Enrolled { .. } => "enrolled",
            Self::Abandoned { .. } => "abandoned",
            Self::SweepBegun(_) => "sweep_begun",
            Self::Revoked { .. } | Self::SweepWent { .. } => "revoked",
            Self::Released { .. } => "released",
            Self::CrlNumbered { .. } => "crl_numbered",
            Self::SignatureIntended { .. } => "signature_intended",
            Self::Reconciled { .. } => "reconciled",
            Self::CrlPublished { .. } => "crl_published",
            Self::DuePassed(_) => "due_passed",
            Self::ClockWentBack { .. } => "clock_went_back",
            Self::Undone { .. } => "undone",
            Self::NoticesTried { .. } => "notice_tried",
            Self::ApprovalAsked(_) => "approval_asked",
            Self::ApprovalDecided { .. } => "approval_decided",
            Self::DeviceRegistered(_) => "device_registered",
            Self::CredentialCreated(_) => "credential_created",
            Self::Restored { .. } => "restored",
            Self::CaughtUp { .. } => "caught_up",
            Self::ForeignListTaken(_) => "foreign_list_taken",
            Self::Checkpointed(_) => "checkpoint",
            Self::Refused { .. } => "refused",
        }
    }

    /// What the journal says of it: one record, or one for each certificate or list that it is about. A certificate or CRL is named by
    /// its SHA-256, so that the journal proves which one it was.
    pub(crate) fn facts(&self) -> Vec<Map<String, Value>> {
        match self {
            Self::KeyPlanned(plan) => one(json!({
                "role": plan.role, "key_id": hex(&plan.key_id), "label": plan.label, "spec": plan.spec,
            })),
            Self::AuthorityCreated { authority, certificate } => {
                one(with(certificate_facts(certificate), json!({ "created": authority.id })))
            }
            Self::AuthorityImported(authority) => one(authority_facts(authority)),
            Self::AuthorityRevoked { id, reason, .. } => one(json!({ "id": id, "reason": reason })),
            Self::AuthorityMoved { authority, from } => {
                one(with(authority_facts(authority), json!({ "from": from.word() })))
            }
            Self::Intend(intent) => one(json!({
                "serial": hex(&intent.serial), "authority": intent.authority, "device": intent.device,
                "replaces": hex(&intent.replaces), "subject": intent.subject,
            })),
            Self::Issued { role, certificate } => one(with(certificate_facts(certificate), json!({ "role": role }))),
            Self::Enrolled { certificate, supersession, .. } => {
                let facts = with(
                    certificate_facts(certificate),
                    json!({
                        "device": certificate.device, "label": certificate.label, "profile": certificate.profile,
                        "revokes_replaced": *supersession == Supersession::Revoke,
                    }),
                );
                one(match certificate.related_to.as_slice() {
                    [] => facts,
                    first => with(facts, json!({ "related_to": hex(first) })),
                })
            }
            Self::Abandoned { serial, doubt, .. } => {
                one(json!({ "serial": hex(serial), "maybe_signed": *doubt == Doubt::MaybeSigned }))
            }
            Self::SweepBegun(sweep) => one(json!({
                "sweep": hex(&sweep.id), "authority": sweep.authority, "label": sweep.is_of_label.then_some(&sweep.label),
                "serials": sweep.serials.len(), "reason": sweep.reason, "invalid_since": sweep.invalid_since,
            })),
            Self::Revoked { serials, reason, invalid_since, .. }
            | Self::SweepWent { serials, reason, invalid_since, .. } => serials
                .iter()
                .flat_map(|serial| {
                    one(json!({ "serial": hex(serial), "reason": reason, "invalid_since": invalid_since }))
                })
                .collect(),
            Self::Released { serial, .. } => one(json!({ "serial": hex(serial) })),
            Self::CrlNumbered { list, number, .. } => one(json!({ "list": list, "number": number })),
            Self::SignatureIntended { authority } => one(json!({ "authority": authority })),
            Self::Reconciled { authority, counted, recorded, open, is_accepted } => one(json!({
                "authority": authority, "counted": counted, "recorded": recorded, "open": open, "accepted": is_accepted,
            })),
            Self::CrlPublished { crls, .. } => crls
                .iter()
                .flat_map(|crl| {
                    one(json!({
                        "list": crl.authority, "number": crl.number, "this_update": crl.this_update,
                        "next_update": crl.next_update, "sha256": hex(&sha256(&crl.der)),
                    }))
                })
                .collect(),
            Self::DuePassed(passed) => passed
                .iter()
                .flat_map(|Passed { due, device, notice, .. }| {
                    one(json!({
                        "serial": hex(&due.serial), "due": due.event,
                        "device": device.as_ref().map(|device| device.id.clone()),
                        "notice": notice.as_ref().map(|notice| notice.days),
                    }))
                })
                .collect(),
            Self::ClockWentBack { until, .. } => one(json!({ "until": until })),
            Self::Undone { undone, .. } => undone
                .iter()
                .flat_map(|Undone { serial, due, device, is_relisted }| {
                    one(json!({
                        "serial": hex(serial), "due": due.iter().map(|due| due.event).collect::<Vec<_>>(),
                        "device": device.as_ref().map(|device| device.id.clone()), "relisted": is_relisted,
                    }))
                })
                .collect(),
            Self::NoticesTried { notices, outcome, .. } => notices
                .iter()
                .flat_map(|notice| {
                    one(json!({
                        "serial": hex(&notice.serial), "days": notice.days, "tries": notice.tries + 1,
                        "outcome": outcome.word(),
                    }))
                })
                .collect(),
            Self::CredentialCreated(credential) => one(json!({
                "credential": credential.name, "label": credential.label, "device": credential.device,
                "expires_at": credential.expires_at,
            })),
            Self::ApprovalAsked(approval) => one(json!({
                "approval": approval.id, "device": approval.device, "label": approval.label, "subject": approval.subject,
                "requester": approval.requester,
            })),
            Self::ApprovalDecided { id, state, .. } => one(json!({ "approval": id, "decision": state.word() })),
            Self::DeviceRegistered(device) => one(json!({ "device": device.id, "label": device.label })),
            Self::Restored { restoration, least_crl_number } => one(json!({
                "taken_at": restoration.taken_at, "journal_size": restoration.journal_size,
                "least_crl_number": least_crl_number,
                "reason": (!restoration.rollback_reason.is_empty()).then_some(&restoration.rollback_reason),
            })),
            Self::CaughtUp { certificates, revocations } => {
                one(json!({ "certificates": certificates, "revocations": revocations }))
            }
            Self::ForeignListTaken(list) => one(json!({
                "url": list.url, "issuer_sha256": hex(&sha256(&list.issuer)), "number": hex(&list.number),
                "this_update": list.this_update, "next_update": list.next_update, "sha256": hex(&sha256(&list.der)),
            })),
            Self::Checkpointed(checkpoint) => one(json!({ "size": checkpoint.size, "note": checkpoint.note })),
            Self::Refused { counts } => one(json!({ "counts": counts })),
        }
    }
}

fn one(value: Value) -> Vec<Map<String, Value>> {
    match value {
        Value::Object(facts) => vec![facts],
        _ => Vec::new(),
    }
}

fn with(mut facts: Value, more: Value) -> Value {
    if let (Value::Object(facts), Value::Object(more)) = (&mut facts, more) {
        facts.extend(more);
    }
    facts
}

fn authority_facts(authority: &Authority) -> Value {
    json!({
        "id": authority.id, "kind": authority.kind, "state": authority.state().word(), "successor": authority.successor,
        "sha256": hex(&sha256(&authority.certificate)),
    })
}

fn certificate_facts(certificate: &Certificate) -> Value {
    json!({
        "serial": hex(&certificate.serial), "authority": certificate.authority, "kind": certificate.kind,
        "subject": certificate.subject, "not_after": certificate.not_after, "sha256": hex(&sha256(&certificate.der)),
    })
}

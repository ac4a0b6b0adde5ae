//! The questions and their answers, a page at a time.

use super::record::{
    Approval, Authority, Certificate, ClockAhead, Credential, Crl, CrlChange, Device, Due, ForeignList, Intent,
    KeyPlan, KeyUse, Leaf, Notice, Restoration, Revocation, StoredCheckpoint, Sweep,
};

/// Most records on one page.
pub(crate) const MAX_PAGE: usize = 1000;

/// The numbers of an authority's account of signatures (`ca/reconcile.rs`): the token's count when it was last compared, what was recorded
/// since, and what was intended since and is neither recorded nor given up.
pub(crate) const SETTLED: &str = "settled";
pub(crate) const MADE: &str = "made";
pub(crate) const OPEN: &str = "open";

/// The name of such a number among the counts.
pub(crate) fn count_name(authority: &str, number: &str) -> String {
    format!("signatures/{authority}/{number}")
}

/// Where the next page begins: opaque bytes of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) Vec<u8>);

/// Which page of a list.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// Where it begins; none for the first page.
    pub(crate) after: Option<Cursor>,
    /// How many records at most.
    pub(crate) limit: usize,
}

impl Span {
    /// The first page of this many records.
    pub(crate) fn first(limit: usize) -> Self {
        Self { after: None, limit }
    }
}

/// A question.
#[derive(Debug, Clone)]
pub(crate) enum Query {
    /// One certificate.
    Certificate {
        /// Serial number.
        serial: Vec<u8>,
    },
    /// All certificates in the order of issuance.
    Certificates(Span),
    /// The certificates of one device in the order of issuance.
    CertificatesOfDevice {
        /// The device.
        device: String,
        /// Which page.
        span: Span,
    },
    /// One device.
    Device {
        /// Its identity.
        id: String,
    },
    /// All devices by identity.
    Devices(Span),
    /// One authority.
    Authority {
        /// Its name.
        id: String,
    },
    /// All authorities by name.
    Authorities,
    /// One planned key.
    KeyPlan {
        /// The authority or the service that has it.
        role: String,
    },
    /// The certificate that the house uses for a role.
    House {
        /// server.
        role: String,
    },
    /// The open intents.
    Intents,
    /// The revocations that belong on a CRL.
    Revocations {
        /// Name of the list.
        list: String,
        /// Which page.
        span: Span,
    },
    /// The earliest of what is due by now.
    Due {
        /// Now, seconds since 1970.
        now: i64,
    },
    /// One revocation.
    Revocation {
        /// Name of the list.
        list: String,
        /// Serial number.
        serial: Vec<u8>,
    },
    /// The history of a list after a point.
    CrlChanges {
        /// Name of the list.
        list: String,
        /// The point.
        through: u64,
        /// Which page.
        span: Span,
    },
    /// A CRL with its encoding.
    Crl {
        /// Name of the list.
        list: String,
    },
    /// The record of a CRL without its encoding, which may be large.
    CrlRecord {
        /// Name of the list.
        list: String,
    },
    /// The records of the CRLs of an authority's shards and deltas, without their encodings.
    Crls {
        /// The authority.
        authority: String,
        /// Which page.
        span: Span,
    },
    /// Certificates of one authority in the order of issuance.
    CertificatesOfAuthority {
        /// The authority.
        authority: String,
        /// Which page.
        span: Span,
    },
    /// Certificates enrolled under one EST label in the order of issuance.
    CertificatesUnderLabel {
        /// The label.
        label: String,
        /// Which page.
        span: Span,
    },
    /// The earliest of the notices that are to be told by now.
    NoticesDue {
        /// Now, seconds since 1970.
        now: i64,
    },
    /// The sweeps that are not done.
    Sweeps,
    /// The CRLs of others.
    ForeignLists(Span),
    /// The records of the journal from the first.
    Leaves(Span),
    /// One record of the journal.
    Leaf {
        /// Its place, from 0.
        index: u64,
    },
    /// The records of the journal that concern a certificate.
    LeavesAbout {
        /// Its serial number.
        serial: Vec<u8>,
        /// Which page.
        span: Span,
    },
    /// That this store came from a backup and nobody has said yet what it lacks.
    Restoration,
    /// The least number of the first CRL of a list: above 0 in a store that was restored.
    LeastCrlNumber,
    /// That the clock was ahead once.
    ClockAhead,
    /// How many records the journal has.
    JournalSize,
    /// The root of a perfect subtree of the journal.
    Subtree {
        /// Above 2^level leaves.
        level: u8,
        /// Its place on its level.
        index: u64,
    },
    /// The checkpoints of the journal by size.
    Checkpoints(Span),
    /// The checkpoint of a size.
    Checkpoint {
        /// How many records it covers.
        size: u64,
    },
    /// The checkpoint that covers most.
    LastCheckpoint,
    /// How many there are of what: `certificates/AUTHORITY/STATE`, `devices/STATE`, `signatures/AUTHORITY/open` and the like.
    Counts(Span),
    /// How many there are of one thing.
    Count {
        /// What.
        name: String,
    },
    /// One approval.
    Approval {
        /// Its identifier.
        id: String,
    },
    /// All approvals.
    Approvals(Span),
    /// One bootstrap credential.
    Credential {
        /// User name.
        name: String,
    },
    /// Who was certified with a key.
    KeyUse {
        /// SHA-256 of the public key.
        spki_sha256: Vec<u8>,
    },
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    /// A certificate.
    Certificate(Certificate),
    /// A device.
    Device(Device),
    /// An authority.
    Authority(Authority),
    /// A planned key.
    KeyPlan(KeyPlan),
    /// An open intent.
    Intent(Intent),
    /// A revocation.
    Revocation(Revocation),
    /// Something due.
    Due(Due),
    /// A CRL.
    Crl(Crl),
    /// A change in the history of a CRL.
    CrlChange(CrlChange),
    /// A notice.
    Notice(Notice),
    /// A sweep.
    Sweep(Sweep),
    /// A CRL of another.
    ForeignList(ForeignList),
    /// A record of the journal.
    Leaf(Leaf),
    /// A number.
    Count(u64),
    /// How many there are of something.
    NamedCount((String, u64)),
    /// A hash.
    Hash([u8; 32]),
    /// A checkpoint.
    Checkpoint(StoredCheckpoint),
    /// An approval.
    Approval(Approval),
    /// A credential.
    Credential(Credential),
    /// Use of a key.
    KeyUse(KeyUse),
    /// That the store came from a backup.
    Restoration(Restoration),
    /// That the clock was ahead.
    ClockAhead(ClockAhead),
}

/// One function per kind: the record if it is of that kind.
macro_rules! kinds {
    ($($function:ident => $variant:ident($record:ty)),* $(,)?) => {
        impl Record {
            $(
                #[doc = concat!("The record, if it is of the kind `", stringify!($variant), "`.")]
                pub(crate) fn $function(self) -> Option<$record> {
                    match self {
                        Self::$variant(record) => Some(record),
                        _ => None,
                    }
                }
            )*
        }
    };
}

kinds! {
    certificate => Certificate(Certificate),
    device => Device(Device),
    authority => Authority(Authority),
    key_plan => KeyPlan(KeyPlan),
    intent => Intent(Intent),
    revocation => Revocation(Revocation),
    due => Due(Due),
    crl => Crl(Crl),
    crl_change => CrlChange(CrlChange),
    notice => Notice(Notice),
    sweep => Sweep(Sweep),
    foreign_list => ForeignList(ForeignList),
    leaf => Leaf(Leaf),
    count => Count(u64),
    named_count => NamedCount((String, u64)),
    hash => Hash([u8; 32]),
    checkpoint => Checkpoint(StoredCheckpoint),
    approval => Approval(Approval),
    credential => Credential(Credential),
    key_use => KeyUse(KeyUse),
    restoration => Restoration(Restoration),
    clock_ahead => ClockAhead(ClockAhead),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Page {
    /// The records.
    pub(crate) records: Vec<Record>,
    /// Where the next page begins; none when this is the last.
    pub(crate) next: Option<Cursor>,
    /// The place of the last record: what comes later begins behind it. None for an empty page.
    pub(crate) last: Option<Cursor>,
}

impl Page {
    /// The first record as the kind that `of` gives.
    pub(crate) fn one<T>(self, of: fn(Record) -> Option<T>) -> Option<T> {
        self.records.into_iter().next().and_then(of)
    }

    /// All records as the kind that `of` gives.
    pub(crate) fn all<T>(self, of: fn(Record) -> Option<T>) -> Vec<T> {
        self.records.into_iter().filter_map(of).collect()
    }
}

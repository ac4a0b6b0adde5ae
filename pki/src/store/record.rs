//! The stored records. Prost messages: fields are found by number, so a later version adds fields without rewriting the
//! store, and a field that a reader does not know is skipped. Numbers are never used again. Times are seconds since 1970.

/// State of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum CertificateState {
    /// Never stored.
    Unknown = 0,
    /// Good for use until it expires.
    Active = 1,
    /// Revoked.
    Revoked = 2,
    /// Replaced by a later one.
    Superseded = 3,
    /// Never handed out: its issuance broke off after the serial number was reserved.
    Abandoned = 4,
    /// Revoked for a while.
    OnHold = 5,
}

impl CertificateState {
    /// The word for people and the API.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Active => "active",
            Self::Revoked => "revoked",
            Self::Superseded => "superseded",
            Self::Abandoned => "abandoned",
            Self::OnHold => "on_hold",
        }
    }
}

/// A certificate we issued, or a serial number we gave up.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Certificate {
    /// Serial number, big endian: the key of the record.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) serial: Vec<u8>,
    /// The authority that signed it.
    #[prost(string, tag = "2")]
    pub(crate) authority: String,
    /// root, issuing, server or device.
    #[prost(string, tag = "3")]
    pub(crate) kind: String,
    /// The certificate; empty when it was abandoned.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) der: Vec<u8>,
    /// Subject as text.
    #[prost(string, tag = "5")]
    pub(crate) subject: String,
    /// Begin of validity.
    #[prost(int64, tag = "6")]
    pub(crate) not_before: i64,
    /// End of validity.
    #[prost(int64, tag = "7")]
    pub(crate) not_after: i64,
    /// When it was issued.
    #[prost(int64, tag = "8")]
    pub(crate) issued_at: i64,
    /// State.
    #[prost(enumeration = "CertificateState", tag = "9")]
    pub(crate) state: i32,
    /// CRL reason code when revoked.
    #[prost(uint32, tag = "10")]
    pub(crate) reason: u32,
    /// When it was revoked, 0 when it was not.
    #[prost(int64, tag = "11")]
    pub(crate) revoked_at: i64,
    /// The device it belongs to, empty when none.
    #[prost(string, tag = "12")]
    pub(crate) device: String,
    /// Serial number of the certificate that replaced it.
    #[prost(bytes = "vec", tag = "13")]
    pub(crate) successor: Vec<u8>,
    /// SHA-256 of its public key.
    #[prost(bytes = "vec", tag = "14")]
    pub(crate) spki_sha256: Vec<u8>,
    /// Profile it was issued by.
    #[prost(string, tag = "15")]
    pub(crate) profile: String,
    /// EST label it was enrolled under.
    #[prost(string, tag = "16")]
    pub(crate) label: String,
    /// From when on its device is warned about, 0 when it belongs to none.
    #[prost(int64, tag = "17")]
    pub(crate) warn_at: i64,
    /// The shard of its authority's CRL that it is on when revoked; 0 for the list that is whole.
    #[prost(uint32, tag = "30")]
    pub(crate) crl_shard: u32,
    /// Since when it is not to be relied upon, 0 when that is not known.
    #[prost(int64, tag = "31")]
    pub(crate) invalid_since: i64,
    /// Serial number of the certificate of the same device that it names as belonging to it.
    #[prost(bytes = "vec", tag = "40")]
    pub(crate) related_to: Vec<u8>,
}

/// What comes due for a certificate of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum DueEvent {
    /// It expires soon.
    ExpiryNear = 0,
    /// It has expired.
    Expired = 1,
    /// It expires in 60 days.
    Notice60 = 2,
    /// It expires in 30 days.
    Notice30 = 3,
    /// It expires in 7 days.
    Notice7 = 4,
    /// It expires in a day.
    Notice1 = 5,
}

/// An entry of the queue that is ordered by time.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Due {
    /// When.
    #[prost(int64, tag = "1")]
    pub(crate) at: i64,
    /// What.
    #[prost(enumeration = "DueEvent", tag = "2")]
    pub(crate) event: i32,
    /// Serial number of the certificate.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) serial: Vec<u8>,
}

/// An issuance that has begun: durable before anything is signed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Intent {
    /// The reserved serial number.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) serial: Vec<u8>,
    /// The authority that is to sign.
    #[prost(string, tag = "2")]
    pub(crate) authority: String,
    /// The device, empty when none.
    #[prost(string, tag = "3")]
    pub(crate) device: String,
    /// Serial number of the certificate to be replaced, empty when none.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) replaces: Vec<u8>,
    /// The bootstrap credential that pays for it, empty when none.
    #[prost(string, tag = "5")]
    pub(crate) credential: String,
    /// When it began.
    #[prost(int64, tag = "6")]
    pub(crate) began_at: i64,
    /// End of validity that the certificate would have.
    #[prost(int64, tag = "7")]
    pub(crate) not_after: i64,
    /// Subject as text.
    #[prost(string, tag = "8")]
    pub(crate) subject: String,
    /// The shard of the CRL that the certificate names.
    #[prost(uint32, tag = "30")]
    pub(crate) crl_shard: u32,
    /// The operator's approval that it uses up, empty when none.
    #[prost(string, tag = "20")]
    pub(crate) approval: String,
}

/// State of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum DeviceState {
    /// Known, without a certificate yet.
    PendingProvisioning = 0,
    /// Its certificate is good.
    FullyProvisioned = 1,
    /// Its certificate is about to expire.
    WithWarnings = 2,
    /// Its certificate is expired or revoked: somebody must act.
    RequiresAction = 3,
    /// Out of service for good.
    Decommissioned = 4,
}

impl DeviceState {
    /// The words for people and the API.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::PendingProvisioning => "Pending Provisioning",
            Self::FullyProvisioned => "Fully Provisioned",
            Self::WithWarnings => "With Warnings",
            Self::RequiresAction => "Requires Action",
            Self::Decommissioned => "Decommissioned",
        }
    }
}

/// A device.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Device {
    /// Its identity: the key of the record.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// State.
    #[prost(enumeration = "DeviceState", tag = "2")]
    pub(crate) state: i32,
    /// Serial number of its current certificate, empty when none.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) certificate: Vec<u8>,
    /// When it was first seen.
    #[prost(int64, tag = "4")]
    pub(crate) created_at: i64,
    /// When it last changed.
    #[prost(int64, tag = "5")]
    pub(crate) changed_at: i64,
    /// The EST label it belongs to, empty for the one without label.
    #[prost(string, tag = "6")]
    pub(crate) label: String,
    /// Counts changes, so that two writers cannot overwrite each other.
    #[prost(uint64, tag = "7")]
    pub(crate) revision: u64,
    /// Serial numbers of the current certificates of its further identities, at most one of each label.
    #[prost(bytes = "vec", repeated, tag = "40")]
    pub(crate) related: Vec<Vec<u8>>,
}

/// Whether an authority issues. That it was revoked is another fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum AuthorityState {
    /// It issues.
    Active = 0,
    /// It issues nothing until it is released; what it issued stays good.
    OnHold = 1,
    /// It issues nothing any more, and signs lists of what it issued until that has expired.
    Retired = 2,
}

impl AuthorityState {
    /// The word for people and the API.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::OnHold => "on hold",
            Self::Retired => "retired",
        }
    }
}

/// The root authority that `init` founds.
pub(crate) const ROOT: &str = "root";
/// The issuing authority that `init` founds.
pub(crate) const ISSUING: &str = "issuing";
/// The authority of the house itself: registration authorities and the TLS certificates of the services.
pub(crate) const INTERNAL: &str = "internal";

/// A certificate authority of this PKI, or one from elsewhere whose certificate is known.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Authority {
    /// Its name in the configuration, in commands and in CRL addresses: the key of the record.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// Its certificate.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) certificate: Vec<u8>,
    /// Role of its key plan; empty when only its certificate is here.
    #[prost(string, tag = "3")]
    pub(crate) key_role: String,
    /// root, intermediate, issuing or imported. Empty in records of version 0.1: the id says it.
    #[prost(string, tag = "4")]
    pub(crate) kind: String,
    /// The authority that signed its certificate; empty for a root and for one whose parent is not here.
    #[prost(string, tag = "5")]
    pub(crate) parent: String,
    /// Whether it issues.
    #[prost(enumeration = "AuthorityState", tag = "6")]
    pub(crate) state: i32,
    /// When the state changed, 0 when it never did.
    #[prost(int64, tag = "7")]
    pub(crate) changed_at: i64,
    /// The authority with the next key of the same name, empty when there is none.
    #[prost(string, tag = "8")]
    pub(crate) successor: String,
    /// The authority whose name this one goes on with, empty when there is none.
    #[prost(string, tag = "9")]
    pub(crate) predecessor: String,
    /// The certificates above an imported one, nearest first.
    #[prost(bytes = "vec", repeated, tag = "10")]
    pub(crate) chain: Vec<Vec<u8>>,
    /// When it came here.
    #[prost(int64, tag = "11")]
    pub(crate) created_at: i64,
    /// When it was revoked, 0 when it was not: one mark for all that it issued.
    #[prost(int64, tag = "30")]
    pub(crate) revoked_at: i64,
    /// CRL reason code when revoked.
    #[prost(uint32, tag = "31")]
    pub(crate) reason: u32,
}

/// Where a key is or will be: durable before the key is generated, so that no key in the token is forgotten.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyPlan {
    /// The authority or the service that has it: the key of the record.
    #[prost(string, tag = "1")]
    pub(crate) role: String,
    /// CKA_ID.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) key_id: Vec<u8>,
    /// CKA_LABEL.
    #[prost(string, tag = "3")]
    pub(crate) label: String,
    /// Kind of key, as in the configuration.
    #[prost(string, tag = "4")]
    pub(crate) spec: String,
    /// The issuance policy that the token enforces on it, empty when there is none.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) policy: Vec<u8>,
}

/// Which CRL: its authority, its shard, and whether it is the delta.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CrlList {
    /// The authority.
    pub(crate) authority: String,
    /// The shard; 0 for the list that is whole.
    pub(crate) shard: u32,
    /// Whether it is the delta.
    pub(crate) is_delta: bool,
}

impl CrlList {
    /// The base of a shard.
    pub(crate) fn base(authority: &str, shard: u32) -> Self {
        Self { authority: authority.to_owned(), shard, is_delta: false }
    }

    /// The base of the same shard.
    pub(crate) fn to_base(&self) -> Self {
        Self { is_delta: false, ..self.clone() }
    }

    /// The delta of the same shard.
    pub(crate) fn to_delta(&self) -> Self {
        Self { is_delta: true, ..self.clone() }
    }

    /// Its name in the store and in addresses: `issuing`, `issuing/3`, `issuing/delta`, `issuing/3/delta`.
    pub(crate) fn name(&self) -> String {
        let mut name = self.authority.clone();
        if self.shard > 0 {
            name.push_str(&format!("/{}", self.shard));
        }
        if self.is_delta {
            name.push_str("/delta");
        }
        name
    }

    /// The list with this name. `None` for what is no name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (rest, is_delta) = name.strip_suffix("/delta").map_or((name, false), |rest| (rest, true));
        let (authority, shard) = match rest.split_once('/') {
            None => (rest, 0),
            Some((authority, digits)) if digits.starts_with(|digit: char| ('1'..='9').contains(&digit)) => {
                (authority, digits.parse().ok()?)
            }
            Some(_) => return None,
        };
        (!authority.is_empty()).then(|| Self { authority: authority.to_owned(), shard, is_delta })
    }
}

/// A published CRL, and where its history stands.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Crl {
    /// The name of the list ([`CrlList::name`]): the key of the record.
    #[prost(string, tag = "1")]
    pub(crate) authority: String,
    /// The last number given out, published or not.
    #[prost(uint64, tag = "2")]
    pub(crate) last_number: u64,
    /// The number of the published CRL, 0 when there is none.
    #[prost(uint64, tag = "3")]
    pub(crate) number: u64,
    /// The published CRL.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) der: Vec<u8>,
    /// Its thisUpdate.
    #[prost(int64, tag = "5")]
    pub(crate) this_update: i64,
    /// Its nextUpdate.
    #[prost(int64, tag = "6")]
    pub(crate) next_update: i64,
    /// Revocations and releases that no published list of the shard tells yet.
    #[prost(uint64, tag = "7")]
    pub(crate) pending: u64,
    /// Of a delta: the number of its base.
    #[prost(uint64, tag = "30")]
    pub(crate) base_number: u64,
    /// The last change of the list's history that the published base tells.
    #[prost(uint64, tag = "31")]
    pub(crate) through: u64,
    /// True when every change since the published base is in the list's history, so that the next can be made from it.
    #[prost(bool, tag = "32")]
    pub(crate) is_followed: bool,
}

impl Crl {
    /// Which list it is.
    pub(crate) fn list(&self) -> CrlList {
        CrlList::parse(&self.authority).unwrap_or_else(|| CrlList::base(&self.authority, 0))
    }
}

/// A change in the history of a list: what a serial number became stands in its [`Revocation`], or in there being none.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CrlChange {
    /// Its place in the history.
    #[prost(uint64, tag = "1")]
    pub(crate) sequence: u64,
    /// The serial number.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) serial: Vec<u8>,
    /// When.
    #[prost(int64, tag = "3")]
    pub(crate) at: i64,
    /// Whether it stood on the list before this change.
    #[prost(bool, tag = "4")]
    pub(crate) was_listed: bool,
    /// Whether it leaves the list because it has expired.
    #[prost(bool, tag = "5")]
    pub(crate) is_pruned: bool,
}

/// A line of the next CRL.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Revocation {
    /// Serial number.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) serial: Vec<u8>,
    /// When it was revoked.
    #[prost(int64, tag = "2")]
    pub(crate) revoked_at: i64,
    /// CRL reason code.
    #[prost(uint32, tag = "3")]
    pub(crate) reason: u32,
    /// When the certificate expires.
    #[prost(int64, tag = "4")]
    pub(crate) not_after: i64,
    /// Since when it is not to be relied upon, 0 when that is not known.
    #[prost(int64, tag = "30")]
    pub(crate) invalid_since: i64,
}

/// That a certificate comes to its end: to be told.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Notice {
    /// When it is to be told.
    #[prost(int64, tag = "1")]
    pub(crate) next_try: i64,
    /// Serial number.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) serial: Vec<u8>,
    /// Which step: how many days before the end.
    #[prost(uint32, tag = "3")]
    pub(crate) days: u32,
    /// Subject as text.
    #[prost(string, tag = "4")]
    pub(crate) subject: String,
    /// The device, empty for an authority's.
    #[prost(string, tag = "5")]
    pub(crate) device: String,
    /// The authority that signed it.
    #[prost(string, tag = "6")]
    pub(crate) authority: String,
    /// When it expires.
    #[prost(int64, tag = "7")]
    pub(crate) not_after: i64,
    /// When the step was reached.
    #[prost(int64, tag = "8")]
    pub(crate) at: i64,
    /// How often telling it was tried.
    #[prost(uint32, tag = "9")]
    pub(crate) tries: u32,
}

/// That many certificates are revoked, and how far their records say so.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Sweep {
    /// Hash of what it is: the key of the record.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    /// The authority that gave them to devices, unless it is of a label or of serial numbers.
    #[prost(string, tag = "2")]
    pub(crate) authority: String,
    /// Whether it is of a label.
    #[prost(bool, tag = "3")]
    pub(crate) is_of_label: bool,
    /// The label under which they were enrolled.
    #[prost(string, tag = "4")]
    pub(crate) label: String,
    /// Their serial numbers in order; empty for those of an authority or a label.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub(crate) serials: Vec<Vec<u8>>,
    /// CRL reason code.
    #[prost(uint32, tag = "6")]
    pub(crate) reason: u32,
    /// When they were revoked; what was issued later is not meant.
    #[prost(int64, tag = "7")]
    pub(crate) at: i64,
    /// How far the clock was ahead once, 0 when it never was: what was issued then bears a later time.
    #[prost(int64, tag = "10")]
    pub(crate) ahead_until: i64,
    /// Since when they are not to be relied upon, 0 when that is not known.
    #[prost(int64, tag = "8")]
    pub(crate) invalid_since: i64,
    /// The place up to which the records say so.
    #[prost(bytes = "vec", tag = "9")]
    pub(crate) after: Vec<u8>,
}

/// A CRL that another signed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ForeignList {
    /// SHA-256 of its issuer's certificate and its address: the key of the record.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// Its address.
    #[prost(string, tag = "2")]
    pub(crate) url: String,
    /// Its issuer's certificate.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) issuer: Vec<u8>,
    /// cRLNumber, big endian without leading zeros; empty when it has none.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) number: Vec<u8>,
    /// When it was made.
    #[prost(int64, tag = "5")]
    pub(crate) this_update: i64,
    /// When the next one will be there.
    #[prost(int64, tag = "6")]
    pub(crate) next_update: i64,
    /// When it was fetched.
    #[prost(int64, tag = "7")]
    pub(crate) fetched_at: i64,
    /// The list.
    #[prost(bytes = "vec", tag = "8")]
    pub(crate) der: Vec<u8>,
}

/// A record of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Its place, from 0.
    pub(crate) index: u64,
    /// One line of JSON, without line feed.
    pub(crate) line: String,
}

/// A checkpoint of the journal.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredCheckpoint {
    /// How many leaves it covers: the key of the record.
    #[prost(uint64, tag = "1")]
    pub(crate) size: u64,
    /// The signed note.
    #[prost(string, tag = "2")]
    pub(crate) note: String,
    /// When it was signed.
    #[prost(int64, tag = "3")]
    pub(crate) at: i64,
}

/// A credential for the first enrolment, good for one certificate.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Credential {
    /// User name: the key of the record.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// SHA-256 of the secret. The secret has 256 random bits, so a slow hash would add nothing.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) secret_sha256: Vec<u8>,
    /// When it ceases to be good.
    #[prost(int64, tag = "3")]
    pub(crate) expires_at: i64,
    /// The only device it is good for, empty for any new device.
    #[prost(string, tag = "4")]
    pub(crate) device: String,
    /// The EST label it is good for, empty for the one without label.
    #[prost(string, tag = "5")]
    pub(crate) label: String,
    /// When it was used, 0 when it was not.
    #[prost(int64, tag = "6")]
    pub(crate) used_at: i64,
    /// Serial number of the certificate it paid for.
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) used_for: Vec<u8>,
    /// When it was made.
    #[prost(int64, tag = "8")]
    pub(crate) created_at: i64,
}

/// Who was certified with a public key.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyUse {
    /// SHA-256 of the public key: the key of the record.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) spki_sha256: Vec<u8>,
    /// The device, empty for a key of the house.
    #[prost(string, tag = "2")]
    pub(crate) device: String,
    /// True once a certificate with this key was revoked for compromise.
    #[prost(bool, tag = "3")]
    pub(crate) compromised: bool,
}

/// What an operator decided about a first enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum ApprovalState {
    /// Nothing yet.
    Waiting = 0,
    /// It may be issued, once.
    Granted = 1,
    /// It is not issued.
    Refused = 2,
}

impl ApprovalState {
    /// The word for people and the API.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Granted => "granted",
            Self::Refused => "refused",
        }
    }
}

/// A first enrolment that waits for an operator, or that one has decided about.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Approval {
    /// Hash of label, public key and subject: the key of the record.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// The EST label.
    #[prost(string, tag = "2")]
    pub(crate) label: String,
    /// The device.
    #[prost(string, tag = "3")]
    pub(crate) device: String,
    /// Subject as text.
    #[prost(string, tag = "4")]
    pub(crate) subject: String,
    /// SHA-256 of the public key.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) spki_sha256: Vec<u8>,
    /// Who asked.
    #[prost(string, tag = "6")]
    pub(crate) requester: String,
    /// When it was asked for.
    #[prost(int64, tag = "7")]
    pub(crate) asked_at: i64,
    /// What was decided.
    #[prost(enumeration = "ApprovalState", tag = "8")]
    pub(crate) state: i32,
    /// When, 0 while it waits.
    #[prost(int64, tag = "9")]
    pub(crate) decided_at: i64,
}

/// That the clock was ahead.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClockAhead {
    /// How far it had come.
    #[prost(int64, tag = "1")]
    pub(crate) until: i64,
    /// When that was noticed, by the clock that had been set.
    #[prost(int64, tag = "2")]
    pub(crate) noticed_at: i64,
    /// Whether something that was done too early may not be undone yet.
    #[prost(bool, tag = "3")]
    pub(crate) is_open: bool,
    /// The place in the order of issuance up to which it is.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) after: Vec<u8>,
}

/// That a store came from a backup.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Restoration {
    /// When the backup was taken: what came later is not here.
    #[prost(int64, tag = "1")]
    pub(crate) taken_at: i64,
    /// How many records the journal had then.
    #[prost(uint64, tag = "2")]
    pub(crate) journal_size: u64,
    /// When it was restored.
    #[prost(int64, tag = "3")]
    pub(crate) restored_at: i64,
    /// Why a backup from the future could be taken, empty when nobody said so.
    #[prost(string, tag = "4")]
    pub(crate) rollback_reason: String,
}

impl Restoration {
    /// Since when nothing is here, by the clock of today; nobody can tell of a backup from the future.
    pub(crate) fn lacks_since(&self) -> Option<i64> {
        (self.taken_at <= self.restored_at).then_some(self.taken_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_named_as_they_are_read() {
        for name in ["issuing", "issuing/3", "issuing/delta", "issuing-2/17/delta"] {
            assert_eq!(CrlList::parse(name).map(|list| list.name()), Some(name.to_owned()));
        }
        for bad in [
            "",
            "/3",
            "issuing/0",
            "issuing/03",
            "issuing/+3",
            "issuing/x",
            "issuing/3/4",
            "issuing/3/",
            "issuing/99999999999",
        ] {
            assert_eq!(CrlList::parse(bad), None, "{bad}");
        }
    }
}

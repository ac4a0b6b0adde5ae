//! What operators may ask, and how a refusal reads. Both travel as JSON over the local socket.

use crate::ca::hierarchy::Act;
use serde::{Deserialize, Serialize};

/// Which page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Paging {
    /// The `next` of the page before.
    #[serde(default)]
    pub(crate) after: Option<String>,
    /// Records on the page.
    #[serde(default)]
    pub(crate) limit: Option<usize>,
}

/// A question or an order of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Command {
    /// Is everything well?
    Health {},
    /// The token's counts of signatures against the records.
    Signatures {},
    /// The authorities.
    CaList {},
    /// One authority.
    CaShow {
        /// Its name.
        id: String,
    },
    /// A new authority.
    CaCreate(Box<CaOrder>),
    /// An authority from elsewhere.
    CaImport(CaImport),
    /// Hold, release or retire an authority.
    CaMove {
        /// Its name.
        id: String,
        /// What is to be done with it.
        act: Act,
    },
    /// The next key of an authority.
    CaRollover {
        /// Its name.
        id: String,
        /// Kind of the new key; none for the kind of the old one.
        key: Option<String>,
        /// How long the new certificate is good; none for what is usual.
        validity_days: Option<u32>,
    },
    /// Revoke an authority: one mark for all that it issued, and its certificate on its parent's CRL.
    CaRevoke {
        /// Its name.
        id: String,
        /// Name of the reason.
        reason: String,
    },
    /// Certificates in the order of issuance.
    CertList {
        /// Only of this device.
        device: Option<String>,
        /// Which page.
        paging: Paging,
    },
    /// One certificate.
    CertShow {
        /// Serial number in hexadecimal.
        serial: String,
    },
    /// Revoke a certificate and publish the CRL.
    CertRevoke {
        /// Serial number in hexadecimal.
        serial: String,
        /// Name of the reason.
        reason: String,
        /// Since when it is not to be relied upon: a date or an instant of RFC 3339.
        #[serde(default)]
        invalid_since: Option<String>,
    },
    /// Release a certificate from hold and publish the CRL.
    CertRelease {
        /// Serial number in hexadecimal.
        serial: String,
    },
    /// Revoke many certificates in one change and publish each CRL once. Exactly one of the first four says which.
    CertRevokeAll {
        /// Those that this authority gave to devices.
        #[serde(default)]
        authority: Option<String>,
        /// Those that were enrolled under this EST label.
        #[serde(default)]
        label: Option<String>,
        /// Those of this device.
        #[serde(default)]
        device: Option<String>,
        /// These serial numbers in hexadecimal.
        #[serde(default)]
        serials: Option<Vec<String>>,
        /// Name of the reason.
        reason: String,
        /// Since when they are not to be relied upon: a date or an instant of RFC 3339.
        #[serde(default)]
        invalid_since: Option<String>,
    },
    /// Devices by identity.
    DeviceList {
        /// Which page.
        paging: Paging,
    },
    /// One device with its certificates.
    DeviceShow {
        /// Its identity.
        id: String,
    },
    /// The current CRL of an authority.
    Crl {
        /// root or issuing.
        authority: String,
        /// Make a new one first.
        renew: bool,
        /// Which shard; 0 for the list that is whole.
        #[serde(default)]
        shard: u32,
        /// The delta instead of the base.
        #[serde(default)]
        delta: bool,
    },
    /// The image of the store, for a backup. Its bytes follow the answer.
    Image {},
    /// Counters and gauges in the text format of Prometheus.
    Metrics {},
    /// How many certificates and devices there are, by state.
    Stats {},
    /// Sign a checkpoint of the journal, or show the last one.
    JournalCheckpoint {
        /// Show the last one if the journal has not grown since.
        #[serde(default)]
        lazily: bool,
    },
    /// Read the whole journal and check its tree and its checkpoints.
    JournalVerify {},
    /// The proof that records are in the journal, or that it goes on from an earlier checkpoint. Exactly one says which.
    JournalProve {
        /// All records about this certificate: serial number in hexadecimal.
        #[serde(default)]
        serial: Option<String>,
        /// The record at this place.
        #[serde(default)]
        index: Option<u64>,
        /// From the checkpoint of this size.
        #[serde(default)]
        from: Option<u64>,
    },
    /// The records of the journal.
    JournalList {
        /// Which page.
        paging: Paging,
    },
    /// First enrolments that wait for an operator, or were decided about and not fetched yet.
    ApprovalList {
        /// Which page.
        paging: Paging,
    },
    /// Decide about one.
    ApprovalDecide {
        /// Its identifier.
        id: String,
        /// True for yes.
        grant: bool,
    },
    /// Record a device before its first enrolment.
    DeviceRegister {
        /// Its identity.
        id: String,
        /// The EST label it belongs to; none for the path without label.
        label: Option<String>,
    },
    /// A new bootstrap credential.
    BootstrapNew {
        /// The only device it is good for.
        device: Option<String>,
        /// The EST label it is good for; none for the path without label.
        label: Option<String>,
        /// How long it is good, in hours.
        valid_hours: u32,
    },
}

/// A new authority, as it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaOrder {
    /// Its name.
    pub(crate) id: String,
    /// root, intermediate or issuing.
    pub(crate) kind: String,
    /// Who signs it; empty for a root.
    #[serde(default)]
    pub(crate) parent: String,
    /// Its subject (RFC 4514).
    pub(crate) subject: String,
    /// Kind of its key.
    pub(crate) key: String,
    /// How long it is good; none for what is usual.
    #[serde(default)]
    pub(crate) validity_days: Option<u32>,
    /// How many levels of authorities an intermediate may have below itself.
    #[serde(default)]
    pub(crate) path_length: Option<u8>,
    /// Names it may certify.
    #[serde(default)]
    pub(crate) permit: Vec<String>,
    /// Names it must not certify.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
}

/// An authority from elsewhere, as it is imported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaImport {
    /// Its name.
    pub(crate) id: String,
    /// Its certificate and those above it, nearest first.
    pub(crate) pem: String,
    /// CKA_ID of its key in the token, in hexadecimal; none to import the certificate only.
    #[serde(default)]
    pub(crate) key_id: Option<String>,
}

/// Why an operator's command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Stable word for programs.
    pub(crate) code: String,
    /// Sentence for people.
    pub(crate) message: String,
}

impl Fault {
    /// A fault with a code and a sentence.
    pub(crate) fn new(code: &str, message: impl std::fmt::Display) -> Self {
        Self { code: code.to_owned(), message: message.to_string() }
    }
}

/// What comes back over the socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It was done.
    Done(serde_json::Value),
    /// It was refused.
    Refused(Fault),
}

impl From<Result<serde_json::Value, Fault>> for Answer {
    fn from(outcome: Result<serde_json::Value, Fault>) -> Self {
        match outcome {
            Ok(value) => Self::Done(value),
            Err(fault) => Self::Refused(fault),
        }
    }
}

impl From<Answer> for Result<serde_json::Value, Fault> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done(value) => Ok(value),
            Answer::Refused(fault) => Err(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_wire() {
        let commands = [
            Command::Health {},
            Command::CertList { device: None, paging: Paging { after: Some("00".to_owned()), limit: Some(5) } },
            Command::CertRevoke { serial: "4a".to_owned(), reason: "superseded".to_owned(), invalid_since: None },
            Command::CaMove { id: "issuing".to_owned(), act: Act::Hold },
            Command::CaCreate(Box::new(CaOrder { id: "line-7".to_owned(), ..CaOrder::default() })),
        ];
        for command in commands {
            let wire = serde_json::to_string(&command).expect("writes");
            assert_eq!(serde_json::from_str::<Command>(&wire).expect("reads"), command);
        }
        assert!(serde_json::from_str::<Command>(r#"{"command":"format_disk"}"#).is_err());
    }
}

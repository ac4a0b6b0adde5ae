//! Who may do what: the clients file (`daemon.clients`), read again when it changes. Its rows are tried in order and the first that
//! fits a peer gives the peer's grant. Over TCP nobody without a row is served; on the Unix socket, whose folder and mode say who
//! may connect, a peer without a row may do what local applications do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER_PERMISSIVE;
use hsm_core::{ClientRole, Grant, Identity, Patterns};
use parking_lot::RwLock;
use serde::Deserialize;
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::toml_file::{self, Refused};

/// The rules in force, and the file they come from.
pub(crate) struct Clients {
    file: Option<PathBuf>,
    rules: RwLock<Rules>,
}

/// The rows of one reading of the file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules(Vec<Rule>);

/// One row: what a peer must be, and what it may do then.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    who: Vec<Condition>,
    grant: Arc<Grant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Condition {
    Uid(u32),
    Gid(u32),
    Key([u8; 32]),
    Subject(String),
    Issuer(String),
    AlternativeName(String),
    AnyCertificate,
}

/// What a door knows of a peer.
pub(crate) enum Known<'a> {
    /// The kernel's word.
    Local,
    /// The certificate whose holder this is.
    Certificate(&'a Certificate),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    client: Vec<WrittenClient>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenClient {
    uid: Option<u32>,
    gid: Option<u32>,
    key_sha256: Option<String>,
    subject: Option<String>,
    issuer: Option<String>,
    san: Option<String>,
    #[serde(default)]
    any_certificate: bool,
    roles: Vec<String>,
    #[serde(default)]
    tokens: Vec<String>,
    mechanisms: Option<Vec<String>>,
    key_labels: Option<Vec<String>>,
}

impl Clients {
    /// Reads the file for the first time; without one there are no rows.
    ///
    /// # Errors
    /// [`Refused`]: the daemon does not start.
    pub(crate) fn open(file: Option<PathBuf>) -> Result<Arc<Self>, Refused> {
        let rules = file.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(Arc::new(Clients { file, rules: RwLock::new(rules) }))
    }

    /// Whether anybody could be served over TCP.
    pub(crate) fn name_certificates(&self) -> bool {
        let local = |condition: &Condition| matches!(condition, Condition::Uid(_) | Condition::Gid(_));
        self.rules.read().0.iter().any(|rule| !rule.who.iter().any(local))
    }

    /// Reads the file again; an unusable one changes nothing, and the log says why.
    pub(crate) fn reload(&self) {
        let Some(file) = &self.file else { return };
        match read(file) {
            Ok(fresh) if fresh != *self.rules.read() => {
                *self.rules.write() = fresh;
                tracing::info!(file = %file.display(), "the clients file has been read again");
            }
            Ok(_) => {}
            Err(why) => tracing::error!(%why, "the clients file cannot be used, the previous rows stay in force"),
        }
    }

    /// What a peer may do; `None` when no row names it.
    pub(crate) fn grant(&self, identity: &Identity, known: &Known<'_>) -> Option<Arc<Grant>> {
        let rules = self.rules.read();
        rules
            .0
            .iter()
            .find(|rule| rule.who.iter().all(|condition| condition.holds(identity, known)))
            .map(|rule| Arc::clone(&rule.grant))
    }
}

impl Condition {
    fn holds(&self, identity: &Identity, known: &Known<'_>) -> bool {
        match (self, identity, known) {
            (Condition::Uid(wanted), Identity::Local { uid, .. }, _) => wanted == uid,
            (Condition::Gid(wanted), Identity::Local { gid, .. }, _) => wanted == gid,
            (Condition::AnyCertificate, Identity::Certificate { .. }, _) => true,
            (Condition::Key(wanted), Identity::Certificate { key_sha256, .. }, _) => wanted == key_sha256,
            (Condition::Subject(wanted), Identity::Certificate { subject, .. }, _) => wanted == subject,
            (Condition::Issuer(wanted), _, Known::Certificate(certificate)) => {
                *wanted == certificate.tbs_certificate().issuer().to_string()
            }
            (Condition::AlternativeName(wanted), _, Known::Certificate(certificate)) => {
                alternative_names(certificate).contains(wanted)
            }
            _ => false,
        }
    }
}

/// The names of a certificate as the clients file writes them: `dns:host`, `uri:…`, `email:…`.
fn alternative_names(certificate: &Certificate) -> Vec<String> {
    // A name extension that does not parse names nobody.
    let Ok(Some((_, SubjectAltName(names)))) = certificate.tbs_certificate().get_extension::<SubjectAltName>() else {
        return Vec::new();
    };
    let written = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(format!("dns:{}", name.as_str().to_ascii_lowercase())),
        GeneralName::UniformResourceIdentifier(name) => Some(format!("uri:{}", name.as_str())),
        GeneralName::Rfc822Name(name) => Some(format!("email:{}", name.as_str())),
        _ => None,
    };
    names.iter().filter_map(written).collect()
}

fn read(file: &Path) -> Result<Rules, Refused> {
    let text = toml_file::read(file)?;
    judge(&text).map_err(|Refused(why)| Refused(format!("{}: {why}", file.display())))
}

fn judge(text: &str) -> Result<Rules, Refused> {
    let written: Written = toml_file::parse(text)?;
    let rows = written.client.into_iter().enumerate();
    let rules =
        rows.map(|(number, client)| client.judge().map_err(|why| Refused(format!("client {}: {why}", number + 1))));
    rules.collect::<Result<_, _>>().map(Rules)
}

impl WrittenClient {
    fn judge(self) -> Result<Rule, String> {
        let key = self.key_sha256.as_deref().map(key_hash).transpose()?;
        let who = [
            self.uid.map(Condition::Uid),
            self.gid.map(Condition::Gid),
            key.map(Condition::Key),
            self.subject.map(Condition::Subject),
            self.issuer.map(Condition::Issuer),
            self.san.map(name_condition).transpose()?,
            self.any_certificate.then_some(Condition::AnyCertificate),
        ];
        let who: Vec<Condition> = who.into_iter().flatten().collect();
        let local = who.iter().filter(|condition| matches!(condition, Condition::Uid(_) | Condition::Gid(_))).count();
        if who.is_empty() {
            return Err("nobody is named: uid, gid, key_sha256, subject, issuer, san or any_certificate".to_owned());
        }
        if local != 0 && local != who.len() {
            return Err("nobody has a user number and a certificate".to_owned());
        }
        let roles = self.roles.iter().map(|word| role(word)).collect::<Result<_, _>>()?;
        let mechanisms = self.mechanisms.map(|names| names.iter().map(|name| mechanism(name)).collect());
        let grant = Grant {
            roles,
            tokens: Patterns::new(self.tokens),
            mechanisms: mechanisms.transpose()?,
            key_labels: self.key_labels.map(Patterns::new),
        };
        Ok(Rule { who, grant: Arc::new(grant) })
    }
}

fn key_hash(text: &str) -> Result<[u8; 32], String> {
    let digits: String = text.chars().filter(|character| *character != ':').collect();
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "key_sha256 is not a SHA-256 digest in hexadecimal digits".to_owned())
}

fn name_condition(san: String) -> Result<Condition, String> {
    match san.split_once(':') {
        Some(("dns", name)) => Ok(Condition::AlternativeName(format!("dns:{}", name.to_ascii_lowercase()))),
        Some(("uri" | "email", _)) => Ok(Condition::AlternativeName(san)),
        _ => Err(format!("san: {san:?} does not begin with dns:, uri: or email:")),
    }
}

fn role(word: &str) -> Result<ClientRole, String> {
    let known = ClientRole::ALL.into_iter().find(|(known, _)| *known == word);
    let words = || ClientRole::ALL.map(|(word, _)| word).join(", ");
    known.map(|(_, role)| role).ok_or_else(|| format!("there is no role {word:?}: {}", words()))
}

fn mechanism(name: &str) -> Result<ck::Mechanism, String> {
    ck::Mechanism::ALL
        .iter()
        .find(|known| known.name() == Some(name))
        .copied()
        .ok_or_else(|| format!("there is no mechanism {name:?} (such as CKM_ECDSA)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(uid: u32) -> Identity {
        Identity::Local { uid, gid: 7 }
    }

    fn holder(key: u8, subject: &str) -> Identity {
        Identity::Certificate { key_sha256: [key; 32], subject: subject.to_owned() }
    }

    fn clients(text: &str) -> Clients {
        Clients { file: None, rules: RwLock::new(judge(text).expect("valid")) }
    }

    #[test]
    fn the_first_row_that_fits_counts_and_nobody_else_is_known() {
        let key = "07".repeat(32);
        let clients = clients(&format!(
            "[[client]]\nkey_sha256 = \"{key}\"\nroles = [\"use\"]\ntokens = [\"one\"]\n\
             [[client]]\nsubject = \"CN=web\"\nroles = [\"manage\"]\ntokens = [\"two\"]\n\
             [[client]]\nuid = 33\nroles = [\"backup\"]\n"
        ));
        let roles = |identity: &Identity| clients.grant(identity, &Known::Local).map(|grant| grant.roles.clone());
        assert_eq!(roles(&holder(7, "CN=web")), Some(vec![ClientRole::Use]));
        assert_eq!(roles(&holder(8, "CN=web")), Some(vec![ClientRole::Manage]));
        assert_eq!(roles(&holder(8, "CN=web2")), None);
        assert_eq!(roles(&local(33)), Some(vec![ClientRole::Backup]));
        assert_eq!(roles(&local(34)), None);
        assert_eq!(roles(&Identity::Anonymous), None);
        assert!(clients.name_certificates());
    }

    #[test]
    fn all_conditions_of_a_row_must_hold() {
        let clients = clients(
            "[[client]]\nuid = 1\ngid = 8\nroles = [\"use\"]\n[[client]]\nany_certificate = true\nsubject = \"CN=a\"\nroles = []",
        );
        assert!(clients.grant(&local(1), &Known::Local).is_none(), "another group");
        assert!(clients.grant(&holder(1, "CN=b"), &Known::Local).is_none());
        assert!(clients.grant(&holder(1, "CN=a"), &Known::Local).is_some());
    }

    #[test]
    fn each_wrong_row_is_refused_with_what_is_wrong() {
        let rows = [
            ("[[client]]\nroles = [\"use\"]", "nobody is named"),
            ("[[client]]\nuid = 1\nsubject = \"CN=a\"\nroles = []", "a user number and a certificate"),
            ("[[client]]\nuid = 1\nroles = [\"root\"]", "no role \"root\""),
            ("[[client]]\nuid = 1\nroles = [\"use\"]\nmechanisms = [\"CKM_NONE\"]", "no mechanism"),
            ("[[client]]\nkey_sha256 = \"12\"\nroles = []", "key_sha256"),
            ("[[client]]\nsan = \"web\"\nroles = []", "san"),
            ("[[client]]\nuid = 1", "roles"),
            ("[[client]]\nuidd = 1\nroles = []", "uidd"),
            ("[[clients]]\nuid = 1\nroles = []", "clients"),
        ];
        for (text, expected) in rows {
            let Err(Refused(why)) = judge(text) else { panic!("accepted: {text}") };
            assert!(why.contains(expected), "{text}: {why}");
        }
    }

    #[test]
    fn the_annotated_example_is_valid() {
        let rules = judge(include_str!("../../craton_hsm_clients.toml")).expect("valid");
        assert_eq!(rules.0.len(), 5);
    }
}

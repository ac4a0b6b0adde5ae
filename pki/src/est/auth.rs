//! Who is asking: a bootstrap credential by HTTP Basic (RFC 7030 section 3.2.3), or a device by its certificate (3.3.2).

use super::error::Refusal;
use super::fault::AdmissionFault;
use super::manufacturer::Records;
use super::operation::Operation;
use super::routes::Route;
use crate::clock;
use crate::listener::Call;
use crate::store::Store;
use crate::store::record::{Certificate, CertificateState};
use crate::va::foreign::Foreign;
use crate::va::status::{self, Standing};
use crate::x509::extension::CMC_RA;
use crate::x509::sha256;
use data_encoding::BASE64;
use der::Decode;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use x509_cert::ext::pkix::ExtendedKeyUsage;

/// Failed logins within a window that one name or one address may have.
const MAX_FAILURES: u32 = 20;
/// Length of the window.
const WINDOW_SECONDS: i64 = 60;
/// Names and addresses that are counted at once.
const MAX_COUNTED: usize = 10_000;

/// Who is asking. Only this room makes one.
#[derive(Debug, Clone)]
pub(crate) enum Requester {
    /// The holder of an unused bootstrap credential.
    Bootstrap {
        /// Name of the credential.
        name: String,
        /// The only device it is good for, empty for any new one.
        device: String,
        /// Proof that this room made it.
        _seal: Seal,
    },
    /// A registration authority of this PKI: it asks for somebody else.
    Registrar {
        /// The record of its certificate.
        certificate: Box<Certificate>,
        /// Proof that this room made it.
        _seal: Seal,
    },
    /// A device that showed the certificate of its manufacturer, at a label that takes it.
    Born {
        /// Its identity by that certificate.
        device: String,
        /// Proof that this room made it.
        _seal: Seal,
    },
    /// A device that showed a certificate of ours and proved, by TLS, to hold its key.
    Device {
        /// The record of the certificate.
        certificate: Box<Certificate>,
        /// Proof that this room made it.
        _seal: Seal,
    },
}

/// Cannot be made elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Seal(());

/// Finds out who is asking.
///
/// # Errors
/// A [`Refusal`] when nobody is named or the proof is false.
pub(crate) fn authenticate(
    route: &Route,
    call: &Call,
    store: &dyn Store,
    porter: &Porter,
    now: i64,
) -> Result<Requester, Refusal> {
    let limiter = &porter.limiter;
    if route.operation == Operation::SimpleReenroll {
        return by_certificate(call, store);
    }
    match (call.headers.get(AUTHORIZATION), call.peer.certificate.as_deref()) {
        (Some(header), _) => {
            let (name, secret) = basic(header.as_bytes()).ok_or(Refusal::CredentialsWrong)?;
            let address = call.peer.address.to_string();
            if limiter.is_exhausted(&name, now) || limiter.is_exhausted(&address, now) {
                return Err(Refusal::TooManyFailures);
            }
            bootstrap(&name, &secret, &route.label, store, now).inspect_err(|refusal| {
                if *refusal == Refusal::CredentialsWrong {
                    limiter.count(&name, now);
                    limiter.count(&address, now);
                }
            })
        }
        (None, Some(shown)) => match (device(shown, store), &route.rules.manufacturers) {
            // Not ours: only then is it asked whose.
            (Err(Refusal::Admission(AdmissionFault::ForeignCertificate)), Some(manufacturers)) => {
                let device = manufacturers.identity(
                    &Records { store, foreign: porter.foreign.as_deref() },
                    shown,
                    &call.peer.above,
                    now,
                )?;
                Ok(Requester::Born { device, _seal: Seal(()) })
            }
            (known, _) => known.map(as_registrar),
        },
        (None, None) => Err(Refusal::CredentialsNeeded),
    }
}

/// Whose certificate a call was made with; nothing else is looked at.
///
/// # Errors
/// A [`Refusal`] when none was shown, or one that is not a device's here.
pub(super) fn by_certificate(call: &Call, store: &dyn Store) -> Result<Requester, Refusal> {
    let shown = call.peer.certificate.as_deref().ok_or(AdmissionFault::CertificateNeeded)?;
    device(shown, store)
}

/// The record of a certificate that TLS verified. It must be ours byte for byte, and a device's.
fn device(shown: &[u8], store: &dyn Store) -> Result<Requester, Refusal> {
    let foreign = || Refusal::from(AdmissionFault::ForeignCertificate);
    let parsed = x509_cert::Certificate::from_der(shown).map_err(|_| foreign())?;
    let serial = parsed.tbs_certificate().serial_number().as_bytes();
    let certificate = store.certificate(serial)?.ok_or_else(foreign)?;
    if certificate.der != shown || certificate.device.is_empty() {
        return Err(foreign());
    }
    // What the certificate itself came to is judged with the request; that its authority fell is judged here.
    let is_revoked_itself = !matches!(certificate.state(), CertificateState::Active | CertificateState::Superseded);
    if !is_revoked_itself && status::of_record(store, &certificate)? != Standing::Good {
        return Err(AdmissionFault::Revoked.into());
    }
    Ok(Requester::Device { certificate: Box::new(certificate), _seal: Seal(()) })
}

/// Who holds a certificate of ours with the purpose id-kp-cmcRA asks for others (RFC 7030 section 3.7). The purpose counts only
/// in what we issued ourselves.
fn as_registrar(requester: Requester) -> Requester {
    match requester {
        Requester::Device { certificate, _seal } if is_registrar(&certificate) => {
            Requester::Registrar { certificate, _seal }
        }
        other => other,
    }
}

/// True for the certificate of a registration authority.
pub(super) fn is_registrar(certificate: &Certificate) -> bool {
    let purposes = x509_cert::Certificate::from_der(&certificate.der)
        .ok()
        .and_then(|parsed| parsed.tbs_certificate().get_extension::<ExtendedKeyUsage>().ok().flatten());
    purposes.is_some_and(|(_, purposes)| purposes.0.contains(&CMC_RA))
}

/// User name and secret of an Authorization field (RFC 7617 section 2).
fn basic(field: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = field.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let pair = BASE64.decode(rest.trim_ascii()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(&pair[..colon]).ok()?.to_owned();
    Some((name, pair[colon + 1..].to_vec()))
}

fn bootstrap(name: &str, secret: &[u8], label: &str, store: &dyn Store, now: i64) -> Result<Requester, Refusal> {
    let known = store.credential(name)?;
    // An unknown name takes the same way as a wrong secret.
    let expected = known.as_ref().map_or(&[0; 32][..], |credential| credential.secret_sha256.as_slice());
    let matches = bool::from(sha256(secret).as_slice().ct_eq(expected));
    let credential = known.filter(|_| matches).ok_or(Refusal::CredentialsWrong)?;
    if credential.used_at != 0 {
        return Err(Refusal::CredentialUsed);
    }
    // One that was made while the clock was ahead would be good for as much longer.
    if credential.expires_at <= now || clock::is_to_come(credential.created_at, now) {
        return Err(Refusal::CredentialExpired);
    }
    if credential.label != label {
        return Err(Refusal::CredentialLabel);
    }
    Ok(Requester::Bootstrap { name: credential.name, device: credential.device, _seal: Seal(()) })
}

/// What the door needs to know who is asking, besides the store.
#[derive(Default)]
pub(crate) struct Porter {
    /// Counts failed logins.
    pub(crate) limiter: Limiter,
    /// Who asks others about their certificates; none where nobody can be asked.
    pub(crate) foreign: Option<Arc<Foreign>>,
}

/// Counts failed logins by name and by address.
#[derive(Default)]
pub(crate) struct Limiter(Mutex<HashMap<String, Failures>>);

#[derive(Clone, Copy)]
struct Failures {
    since: i64,
    count: u32,
}

impl Limiter {
    fn is_exhausted(&self, who: &str, now: i64) -> bool {
        let counted = self.0.lock();
        counted.get(who).is_some_and(|failures| failures.is_current(now) && failures.count >= MAX_FAILURES)
    }

    fn count(&self, who: &str, now: i64) {
        let mut counted = self.0.lock();
        if counted.len() >= MAX_COUNTED {
            counted.retain(|_, failures| failures.is_current(now));
        }
        if counted.len() >= MAX_COUNTED && !counted.contains_key(who) {
            return;
        }
        let failures = counted.entry(who.to_owned()).or_insert(Failures { since: now, count: 0 });
        if !failures.is_current(now) {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
    }
}

impl Failures {
    fn is_current(self, now: i64) -> bool {
        clock::is_within(WINDOW_SECONDS, self.since, now)
    }
}

/// A requester for the tests of other rooms.
#[cfg(test)]
pub(crate) fn bootstrap_requester(device: &str) -> Requester {
    Requester::Bootstrap { name: "test".to_owned(), device: device.to_owned(), _seal: Seal(()) }
}

/// A requester for the tests of other rooms.
#[cfg(test)]
pub(crate) fn device_requester(certificate: Certificate) -> Requester {
    Requester::Device { certificate: Box::new(certificate), _seal: Seal(()) }
}

/// A requester for the tests of other rooms.
#[cfg(test)]
pub(crate) fn registrar_requester(certificate: Certificate) -> Requester {
    Requester::Registrar { certificate: Box::new(certificate), _seal: Seal(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_fields_are_split_at_the_first_colon() {
        let field = format!("basic {}", BASE64.encode(b"boot-1:a:b"));
        assert_eq!(basic(field.as_bytes()), Some(("boot-1".to_owned(), b"a:b".to_vec())));
        let no_name = format!("Basic {}", BASE64.encode(b":secret"));
        assert_eq!(basic(no_name.as_bytes()), Some((String::new(), b"secret".to_vec())));
        for bad in ["Basic", "Bearer abc", "Basic !!!", "Basic YWJj"] {
            assert_eq!(basic(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_credential_is_judged_row_by_row() {
        use crate::store::Change;
        use crate::store::record::Credential;
        use crate::store::redb::RedbStore;
        let store = RedbStore::in_memory().expect("store");
        let credential = Credential {
            name: "boot".to_owned(),
            secret_sha256: sha256(b"secret").to_vec(),
            expires_at: 100,
            label: "line-1".to_owned(),
            ..Credential::default()
        };
        store.commit(Change::CredentialCreated(credential)).expect("created");
        type Row<'a> = (&'a str, &'a [u8], &'a str, i64, Option<Refusal>);
        let rows: &[Row<'_>] = &[
            ("boot", b"secret", "line-1", 99, None),
            ("boot", b"secret", "line-1", 100, Some(Refusal::CredentialExpired)),
            // Made while the clock was ahead.
            ("boot", b"secret", "line-1", -100_000, Some(Refusal::CredentialExpired)),
            ("boot", b"secret", "", 99, Some(Refusal::CredentialLabel)),
            ("boot", b"Secret", "line-1", 99, Some(Refusal::CredentialsWrong)),
            ("boot", b"", "line-1", 99, Some(Refusal::CredentialsWrong)),
            ("root", b"secret", "line-1", 99, Some(Refusal::CredentialsWrong)),
            // A wrong secret never learns more than that.
            ("boot", b"Secret", "", 100, Some(Refusal::CredentialsWrong)),
        ];
        for (name, secret, label, now, expected) in rows {
            assert_eq!(bootstrap(name, secret, label, &store, *now).err(), *expected, "{name} {label} {now}");
        }
    }

    #[test]
    fn failures_are_counted_within_a_window() {
        let limiter = Limiter::default();
        for _ in 0..MAX_FAILURES {
            assert!(!limiter.is_exhausted("boot", 100));
            limiter.count("boot", 100);
        }
        assert!(limiter.is_exhausted("boot", 100));
        assert!(!limiter.is_exhausted("other", 100));
        assert!(!limiter.is_exhausted("boot", 100 + WINDOW_SECONDS));
        assert!(!limiter.is_exhausted("boot", -100_000), "a clock that went back blocks nobody for as long");
    }
}

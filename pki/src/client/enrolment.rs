//! An enrolment and its folder.
//!
//! ```text
//! settings.toml          what a renewal needs
//! ca.pem                 what the server is verified with
//! current -> generation-N
//! next -> generation-M   only while a certificate is being asked for
//! generation-N/          key.pem or key.toml (its name in the token), certificate.pem, chain.pem
//! related/               the second identity, the same again, when there is one
//! ```

use super::http::{Answer, Service};
use super::key::{DeviceKey, open_token};
use super::settings::Settings;
use super::window::Window;
use super::{ClientError, cms, request};
use crate::clock::{self, instant_text};
use crate::file;
use crate::secret::SecretSource;
use crate::token::KeyRef;
use crate::x509::{ders_of_pem, hex, name, pem, related, unix_seconds};
use data_encoding::BASE64;
use der::{Decode, Encode};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_cert::Certificate;
use x509_cert::attr::Attribute;

/// Generations that are kept beside the current one.
const KEPT: u32 = 1;

/// How the first enrolment is authorised.
pub(super) enum Credentials {
    /// User name and password of a bootstrap credential.
    Basic {
        /// User name.
        user: String,
        /// Where the password comes from.
        password: String,
    },
    /// A certificate with its key.
    Certificate {
        /// PEM of it and of its chain.
        certificate: PathBuf,
        /// PEM of its key.
        key: PathBuf,
    },
}

/// An enrolment.
pub(super) struct Enrolment {
    dir: PathBuf,
    settings: Settings,
}

/// The name of a key in the token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenName {
    id: String,
    label: String,
}

/// A certificate in use.
struct Held {
    key: DeviceKey,
    certificates: Vec<Vec<u8>>,
    parsed: Certificate,
}

fn file_fault(path: &Path) -> impl Fn(std::io::Error) -> ClientError {
    let shown = path.display().to_string();
    move |fault| ClientError::File(format!("{shown}: {fault}"))
}

fn read(path: &Path) -> Result<String, ClientError> {
    std::fs::read_to_string(path).map_err(file_fault(path))
}

fn bundle(path: &Path) -> Result<Vec<Vec<u8>>, ClientError> {
    let found = ders_of_pem(&read(path)?, "CERTIFICATE").unwrap_or_default();
    if found.is_empty() {
        Err(ClientError::File(format!("{} holds no certificate", path.display())))
    } else {
        Ok(found)
    }
}

impl Enrolment {
    /// Begins an enrolment in a folder.
    pub(super) fn found(dir: &Path, settings: Settings, ca: &Path) -> Result<Self, ClientError> {
        if dir.join("current").exists() {
            return Err(ClientError::Arguments(format!("{} holds an enrolment already: renew it", dir.display())));
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file_fault(dir))?;
        bundle(ca)?;
        file::write(&dir.join("ca.pem"), read(ca)?.as_bytes(), 0o644)?;
        file::write(&dir.join("settings.toml"), settings.text()?.as_bytes(), 0o644)?;
        Ok(Self { dir: dir.to_path_buf(), settings })
    }

    /// Opens the enrolment of a folder.
    pub(super) fn open(dir: &Path) -> Result<Self, ClientError> {
        Ok(Self { dir: dir.to_path_buf(), settings: Settings::read(dir)? })
    }

    /// Gets the first certificate.
    pub(super) fn enrol(&self, credentials: &Credentials) -> Result<String, ClientError> {
        let key = self.next_key(None)?;
        let body = request::of_settings(&key, &self.settings, None)?;
        let (tls, authorization) = match credentials {
            Credentials::Basic { user, password } => {
                let source = SecretSource::parse(password, &self.dir);
                if matches!(source, SecretSource::Inline(_)) {
                    return Err(ClientError::Arguments("the password comes from env:NAME or file:PATH".to_owned()));
                }
                let password = source.read().map_err(ClientError::Arguments)?;
                let pair = zeroize::Zeroizing::new(format!("{user}:{}", password.expose_secret()));
                (self.tls(None)?, format!("Authorization: Basic {}\r\n", BASE64.encode(pair.as_bytes())))
            }
            Credentials::Certificate { certificate, key } => {
                let holder = DeviceKey::of_pem(&zeroize::Zeroizing::new(read(key)?))?;
                (self.tls(Some(holder.certified(bundle(certificate)?)?))?, String::new())
            }
        };
        self.ask("simpleenroll", tls, &authorization, &key, &body)
    }

    /// Renews the certificate when its moment has come. Gives what was done, or nothing.
    pub(super) fn renew(&self, force: bool, keep_key: bool) -> Result<Option<String>, ClientError> {
        let held = self.held()?;
        let now = clock::now();
        let facts = held.parsed.tbs_certificate();
        if unix_seconds(&facts.validity().not_after) <= now {
            return Err(ClientError::Arguments(
                "the certificate has expired: enrol again with a new credential".to_owned(),
            ));
        }
        if !force && now < self.moment(&held)? {
            return Ok(None);
        }
        self.renewed(&held, keep_key, None).map(Some)
    }

    fn renewed(&self, held: &Held, keep_key: bool, more: Option<Attribute>) -> Result<String, ClientError> {
        let key = self.next_key(keep_key.then_some(&held.key))?;
        let subject = held.parsed.tbs_certificate().subject().clone();
        let body = request::request(&key, subject, &self.settings.dns, more)?;
        let tls = self.tls(Some(held.key.certified(held.certificates.clone())?))?;
        self.ask("simplereenroll", tls, "", &key, &body)
    }

    /// Gets the first certificate of the second identity, or the next one when its moment has come or the first identity's certificate is
    /// another one by now. Gives what was done, or nothing.
    pub(super) fn relate(&self, force: bool, keep_key: bool) -> Result<Option<String>, ClientError> {
        let Some(settings) = &self.settings.related else { return Ok(None) };
        let (dir, first) = (self.dir.join("related"), self.held()?);
        let proof = || related::claim(&first.parsed, clock::now(), |message| first.key.sign(message)).map(Some);
        if !dir.join("current").exists() {
            let second = Self::found(&dir, self.settings.of_related(settings), &self.dir.join("ca.pem"))?;
            let key = second.next_key(None)?;
            let body = request::of_settings(&key, &second.settings, proof()?)?;
            let tls = self.tls(Some(first.key.certified(first.certificates.clone())?))?;
            return second.ask("simpleenroll", tls, "", &key, &body).map(Some);
        }
        let second = Self::open(&dir)?;
        let held = second.held()?;
        let names = |der: &Vec<u8>| related::relates(&held.parsed, der);
        if !force && first.certificates.first().is_some_and(names) && clock::now() < second.moment(&held)? {
            return Ok(None);
        }
        second.renewed(&held, keep_key, proof()?).map(Some)
    }

    /// What there is.
    pub(super) fn status(&self) -> Result<String, ClientError> {
        let held = self.held()?;
        let facts = held.parsed.tbs_certificate();
        Ok(format!(
            "subject    {}\nserial     {}\nkey        {}\nnot_after  {}\nrenewal    {}",
            name::text(facts.subject()),
            hex(facts.serial_number().as_bytes()),
            held.key.spec(),
            instant_text(unix_seconds(&facts.validity().not_after)),
            instant_text(self.moment(&held)?),
        ))
    }

    /// What there is of both identities.
    pub(super) fn whole_status(&self) -> Result<String, ClientError> {
        let dir = self.dir.join("related");
        let first = self.status()?;
        if self.settings.related.is_none() || !dir.join("current").exists() {
            return Ok(first);
        }
        Ok(format!("{first}\n\n{}", Self::open(&dir)?.status()?))
    }

    fn moment(&self, held: &Held) -> Result<i64, ClientError> {
        let validity = held.parsed.tbs_certificate().validity();
        let first = held.certificates.first().map(Vec::as_slice).unwrap_or_default();
        let window = Window::parse(&self.settings.window)?;
        Ok(window.moment(first, unix_seconds(&validity.not_before), unix_seconds(&validity.not_after)))
    }

    /// The certificate in use, with its key.
    fn held(&self) -> Result<Held, ClientError> {
        let folder = self.dir.join("current");
        let certificates = bundle(&folder.join("certificate.pem"))?;
        let first = certificates.first().cloned().unwrap_or_default();
        let parsed = Certificate::from_der(&first).map_err(|fault| ClientError::File(fault.to_string()))?;
        Ok(Held { key: self.key_in(&folder)?, certificates, parsed })
    }

    fn key_in(&self, folder: &Path) -> Result<DeviceKey, ClientError> {
        let Some(token) = &self.settings.token else {
            return DeviceKey::of_pem(&zeroize::Zeroizing::new(read(&folder.join("key.pem"))?));
        };
        let name: TokenName =
            toml::from_str(&read(&folder.join("key.toml"))?).map_err(|fault| ClientError::File(fault.to_string()))?;
        let id =
            data_encoding::HEXLOWER.decode(name.id.as_bytes()).map_err(|fault| ClientError::File(fault.to_string()))?;
        let key = KeyRef { id, label: name.label, spec: self.settings.spec()?, guarded: false };
        Ok(DeviceKey::Token { token: open_token(token, &self.dir)?, key })
    }

    /// The key of the next generation: the one of an attempt that broke off, the one that is kept, or a new one. It is on the
    /// disk, or planned there, before it is used.
    fn next_key(&self, kept: Option<&DeviceKey>) -> Result<DeviceKey, ClientError> {
        let next = self.dir.join("next");
        if next.exists() {
            let key = self.key_in(&next)?;
            if let DeviceKey::Token { token, key } = &key {
                token.generate(key, &[]).map_err(|fault| ClientError::Key(fault.to_string()))?;
            }
            return Ok(key);
        }
        let folder = self.fresh_generation()?;
        match (kept, &self.settings.token) {
            (Some(DeviceKey::Token { key, .. }), _) => self.plan_in(&folder, key)?,
            (Some(key), _) => self.keep_in(&folder, key)?,
            (None, None) => self.keep_in(&folder, &DeviceKey::generate(self.settings.spec()?)?)?,
            (None, Some(_)) => {
                let mut id = vec![0; 16];
                SystemRandom::new().fill(&mut id).map_err(|_| ClientError::Key("no randomness".to_owned()))?;
                let label = format!("craton-pki-client-{}", &hex(&id)[..8]);
                self.plan_in(&folder, &KeyRef { id, label, spec: self.settings.spec()?, guarded: false })?;
            }
        }
        self.point("next", &folder)?;
        let key = self.key_in(&next)?;
        if let (DeviceKey::Token { token, key }, None) = (&key, kept) {
            token.generate(key, &[]).map_err(|fault| ClientError::Key(fault.to_string()))?;
        }
        Ok(key)
    }

    fn keep_in(&self, folder: &Path, key: &DeviceKey) -> Result<(), ClientError> {
        let text = key.pem().ok_or_else(|| ClientError::Key("it is in a token".to_owned()))?;
        Ok(file::write(&folder.join("key.pem"), text.as_bytes(), 0o600)?)
    }

    fn plan_in(&self, folder: &Path, key: &KeyRef) -> Result<(), ClientError> {
        let name = TokenName { id: hex(&key.id), label: key.label.clone() };
        let text = toml::to_string(&name).map_err(|fault| ClientError::File(fault.to_string()))?;
        Ok(file::write(&folder.join("key.toml"), text.as_bytes(), 0o600)?)
    }

    fn fresh_generation(&self) -> Result<PathBuf, ClientError> {
        let number = self.generations()?.into_iter().max().unwrap_or(0).saturating_add(1);
        let folder = self.dir.join(format!("generation-{number}"));
        std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(file_fault(&folder))?;
        Ok(folder)
    }

    fn generations(&self) -> Result<Vec<u32>, ClientError> {
        let entries = std::fs::read_dir(&self.dir).map_err(file_fault(&self.dir))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.strip_prefix("generation-")?.parse().ok()).collect())
    }

    /// Makes a link point to a generation, in one step.
    fn point(&self, link: &str, folder: &Path) -> Result<(), ClientError> {
        let fresh = self.dir.join(format!("{link}.new"));
        let target = folder.file_name().map(PathBuf::from).unwrap_or_default();
        if fresh.symlink_metadata().is_ok() {
            std::fs::remove_file(&fresh).map_err(file_fault(&fresh))?;
        }
        std::os::unix::fs::symlink(&target, &fresh).map_err(file_fault(&fresh))?;
        let path = self.dir.join(link);
        std::fs::rename(&fresh, &path).map_err(file_fault(&path))?;
        Ok(file::sync_folder_of(&path)?)
    }

    fn tls(&self, holder: Option<CertifiedKey>) -> Result<Arc<ClientConfig>, ClientError> {
        connection(&self.dir.join("ca.pem"), holder)
    }

    /// Sends a request, takes the certificate and makes the next generation the current one.
    fn ask(
        &self,
        operation: &str,
        tls: Arc<ClientConfig>,
        authorization: &str,
        key: &DeviceKey,
        body: &[u8],
    ) -> Result<String, ClientError> {
        let service = Service::parse(&self.settings.url)?;
        let certificate = asked(&service, Arc::clone(&tls), operation, authorization, key, body)?;
        let chain = self.chain(&service, tls, &certificate)?;
        let next = self.dir.join("next");
        let folder = std::fs::canonicalize(&next).map_err(file_fault(&next))?;
        let text = |ders: &[Vec<u8>]| ders.iter().map(|der| pem("CERTIFICATE", der)).collect::<String>();
        let whole: Vec<Vec<u8>> = std::iter::once(certificate).chain(chain.iter().cloned()).collect();
        file::write(&folder.join("certificate.pem"), text(&whole).as_bytes(), 0o644)?;
        file::write(&folder.join("chain.pem"), text(&chain).as_bytes(), 0o644)?;
        self.point("current", &folder)?;
        std::fs::remove_file(&next).map_err(file_fault(&next))?;
        self.clear()?;
        self.status()
    }

    /// The authorities between the certificate and the root, so that TLS peers find their way: taken from /cacerts, nearest
    /// first.
    fn chain(
        &self,
        service: &Service,
        tls: Arc<ClientConfig>,
        certificate: &[u8],
    ) -> Result<Vec<Vec<u8>>, ClientError> {
        let answer = service.call(tls, "cacerts", "Accept: application/pkcs7-mime\r\n", None)?;
        let known = cms::certificates(&decoded(&succeeded(answer)?)?)?;
        let mut chain = Vec::new();
        let mut last = certificate.to_vec();
        while let Some(above) =
            known.iter().find(|above| issued(above, &last) && **above != last && !chain.contains(*above))
        {
            if issued(above, above) {
                break;
            }
            last = above.clone();
            chain.push(last.clone());
        }
        Ok(chain)
    }

    /// Removes generations that nobody needs any more. Keys in a token stay: an operator removes them.
    fn clear(&self) -> Result<(), ClientError> {
        let current = std::fs::canonicalize(self.dir.join("current")).map_err(file_fault(&self.dir))?;
        let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("generation-")?.parse::<u32>().ok();
        let Some(current) = number(&current) else { return Ok(()) };
        for old in self.generations()?.into_iter().filter(|old| old.saturating_add(KEPT) < current) {
            let folder = self.dir.join(format!("generation-{old}"));
            std::fs::remove_dir_all(&folder).map_err(file_fault(&folder))?;
        }
        Ok(())
    }
}

/// How to connect: the server is verified with the certificates in a file.
pub(super) fn connection(ca: &Path, holder: Option<CertifiedKey>) -> Result<Arc<ClientConfig>, ClientError> {
    let refuse = |fault: rustls::Error| ClientError::Arguments(fault.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in bundle(ca)? {
        roots.add(CertificateDer::from(certificate)).map_err(refuse)?;
    }
    // The provider offers X25519MLKEM768 first.
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(refuse)?
        .with_root_certificates(roots);
    Ok(Arc::new(match holder {
        Some(holder) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(holder))),
        None => builder.with_no_client_auth(),
    }))
}

/// Sends a request and gives the certificate for our key in the answer.
pub(super) fn asked(
    service: &Service,
    tls: Arc<ClientConfig>,
    operation: &str,
    authorization: &str,
    key: &DeviceKey,
    body: &[u8],
) -> Result<Vec<u8>, ClientError> {
    let fields = format!(
        "Content-Type: application/pkcs10\r\nContent-Transfer-Encoding: base64\r\nAccept: application/pkcs7-mime\r\n{authorization}"
    );
    let answer = service.call(tls, operation, &fields, Some(&BASE64.encode(body)))?;
    let issued = cms::certificates(&decoded(&succeeded(answer)?)?)?;
    let wanted = key.spki()?.to_der().map_err(|fault| ClientError::Key(fault.to_string()))?;
    let certificate = issued.into_iter().find(|der| is_for(der, &wanted));
    certificate.ok_or_else(|| ClientError::Answer("no certificate in it is for our key".to_owned()))
}

/// The body of an answer that is what was asked for; else what the server said.
pub(super) fn succeeded(answer: Answer) -> Result<Vec<u8>, ClientError> {
    let sentence = String::from_utf8_lossy(&answer.body).trim().chars().take(400).collect::<String>();
    let seconds = answer.header("retry-after").and_then(|value| value.parse().ok());
    match (answer.status, seconds) {
        (200, _) => Ok(answer.body),
        (202 | 429 | 503, seconds) => Err(ClientError::Later { seconds: seconds.unwrap_or(60), sentence }),
        (409, Some(seconds)) => Err(ClientError::Later { seconds, sentence }),
        (status, _) => {
            let reason = answer.header("x-craton-reason").unwrap_or("no reason given").to_owned();
            Err(ClientError::Refused { status, reason, sentence })
        }
    }
}

/// The DER in a body.
pub(super) fn decoded(body: &[u8]) -> Result<Vec<u8>, ClientError> {
    let bare: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(&bare).map_err(|fault| ClientError::Answer(format!("not base64: {fault}")))
}

fn is_for(der: &[u8], spki: &[u8]) -> bool {
    Certificate::from_der(der)
        .ok()
        .and_then(|certificate| certificate.tbs_certificate().subject_public_key_info().to_der().ok())
        .is_some_and(|held| held == spki)
}

/// By name only: the servers that it is shown to verify the rest.
fn issued(above: &[u8], below: &[u8]) -> bool {
    match (Certificate::from_der(above), Certificate::from_der(below)) {
        (Ok(above), Ok(below)) => above.tbs_certificate().subject() == below.tbs_certificate().issuer(),
        _ => false,
    }
}

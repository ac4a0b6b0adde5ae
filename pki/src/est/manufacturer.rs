//! Devices that show the certificate which their manufacturer gave them (IEEE 802.1AR IDevID): the anchors of a label for first
//! enrolments (the implicit trust anchors of RFC 7030 section 2.4), apart from our own authorities, which alone count for everything else.
//!
//! Whether such a certificate was revoked must be known: its CRLs are read from a folder that the operator keeps fresh, or its issuers
//! are asked (`va/foreign`). What is not on record there, or no longer current, is refused.

use super::error::Refusal;
use super::fault::AdmissionFault;
use crate::ca::import::is_signed_by;
use crate::store::{Store, StoreError};
use crate::va::foreign::{Foreign, ForeignFault};
use crate::x509::{ders_of, ders_of_pem, name};
use der::Decode;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use x509_cert::Certificate;

/// Longest path from a device to the end of what is known above it.
const MAX_PATH: usize = 8;

/// How it is known whether a certificate was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Revocation {
    /// The configuration says that none ever is.
    Never,
    /// By the CRLs in a folder.
    Folder(PathBuf),
    /// By asking the issuers.
    Online,
}

/// The manufacturers of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manufacturers {
    /// Their root certificates.
    roots: Vec<Vec<u8>>,
    /// Those whose certificates were imported, by their names here.
    authorities: Vec<String>,
    revocation: Revocation,
}

/// `manufacturer_roots`, `manufacturer_authorities` and `manufacturer_crls` of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenManufacturers {
    roots: Option<PathBuf>,
    authorities: Vec<String>,
    revocation: Revocation,
}

impl WrittenManufacturers {
    /// Reads how they are written.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn parse(
        roots: Option<PathBuf>,
        authorities: Vec<String>,
        crls: Option<String>,
    ) -> Result<Option<Self>, String> {
        let has_any = roots.is_some() || !authorities.is_empty();
        let revocation = match crls.as_deref() {
            None if !has_any => return Ok(None),
            None => {
                return Err("manufacturer_roots and manufacturer_authorities need manufacturer_crls: the folder of their CRLs, \"online\" to \
                     ask their issuers, or \"none\" if no certificate of theirs is ever revoked"
                    .to_owned());
            }
            Some(_) if !has_any => {
                return Err("manufacturer_crls needs manufacturer_roots or manufacturer_authorities".to_owned());
            }
            Some("none") => Revocation::Never,
            Some("online") => Revocation::Online,
            Some(folder) => Revocation::Folder(PathBuf::from(folder)),
        };
        Ok(Some(Self { roots, authorities, revocation }))
    }

    /// Reads the roots; paths are relative to `folder`.
    ///
    /// # Errors
    /// A sentence with the file.
    pub(crate) fn read(self, folder: &Path) -> Result<Manufacturers, String> {
        let roots = self.roots.map(|path| read_roots(&folder.join(path))).transpose()?.unwrap_or_default();
        let revocation = match self.revocation {
            Revocation::Folder(path) => Revocation::Folder(folder.join(path)),
            other => other,
        };
        Ok(Manufacturers { roots, authorities: self.authorities, revocation })
    }
}

fn read_roots(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let say = |what: &dyn std::fmt::Display| format!("manufacturer_roots: {}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|fault| say(&fault))?;
    let roots = ders_of_pem(&text, "CERTIFICATE").filter(|roots| !roots.is_empty());
    let roots = roots.ok_or_else(|| say(&"no certificate in PEM"))?;
    store_of(&roots).map_err(|fault| say(&fault))?;
    Ok(roots)
}

fn store_of(roots: &[Vec<u8>]) -> Result<RootCertStore, rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.as_slice()))?;
    }
    Ok(store)
}

/// Whom a manufacturer's devices are verified with, and what is known above.
struct Anchor {
    certificate: Vec<u8>,
    above: Vec<Vec<u8>>,
}

/// What a certificate is judged with besides the configuration.
pub(crate) struct Records<'a> {
    /// Where imported authorities are.
    pub(crate) store: &'a dyn Store,
    /// Who asks the issuers.
    pub(crate) foreign: Option<&'a Foreign>,
}

/// Certificates one above the other, as they came and as they read.
#[derive(Default)]
struct Chain {
    ders: Vec<Vec<u8>>,
    certificates: Vec<Certificate>,
}

impl Chain {
    fn push(&mut self, der: &[u8]) -> Result<(), AdmissionFault> {
        self.certificates.push(Certificate::from_der(der).map_err(|_| AdmissionFault::ForeignCertificate)?);
        self.ders.push(der.to_vec());
        Ok(())
    }

    /// True when a certificate issued the last one here.
    fn goes_on_with(&self, der: &[u8]) -> bool {
        let (Some(last), Ok(above)) = (self.certificates.last(), Certificate::from_der(der)) else { return false };
        is_signed_by(last, &above).unwrap_or(false)
    }
}

impl Manufacturers {
    /// The certificates that a device of theirs may be verified with: an imported authority that was revoked here is none.
    ///
    /// # Errors
    /// A failing store.
    pub(crate) fn anchors(&self, store: &dyn Store) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.anchors_with_chains(store)?.into_iter().map(|anchor| anchor.certificate).collect())
    }

    fn anchors_with_chains(&self, store: &dyn Store) -> Result<Vec<Anchor>, StoreError> {
        let mut anchors: Vec<Anchor> =
            self.roots.iter().map(|root| Anchor { certificate: root.clone(), above: Vec::new() }).collect();
        for id in &self.authorities {
            match store.authority(id)?.filter(|found| found.revoked_at == 0) {
                Some(found) => anchors.push(Anchor { certificate: found.certificate, above: found.chain }),
                None => tracing::warn!(event = "manufacturer_authority_missing", authority = id),
            }
        }
        Ok(anchors)
    }

    /// The identity in a certificate that one of these manufacturers gave, and that is good now: the serialNumber of its subject, else the
    /// commonName. `above` are the certificates that came along.
    ///
    /// # Errors
    /// What is wrong with it, or that nobody knows whether it was revoked.
    pub(crate) fn identity(
        &self,
        records: &Records<'_>,
        shown: &[u8],
        above: &[Vec<u8>],
        now: i64,
    ) -> Result<String, Refusal> {
        let anchors = self.anchors_with_chains(records.store)?;
        match &self.revocation {
            Revocation::Online => {
                let (path, anchor) = path(shown, above, &anchors)?;
                let (_, between) = path.ders.split_first().ok_or(AdmissionFault::ForeignCertificate)?;
                verify(shown, between.get(..anchor - 1).unwrap_or_default(), &between[anchor - 1..anchor], None, now)?;
                let foreign = records.foreign.ok_or_else(|| Refusal::RevocationUnknown("nobody asks".to_owned()))?;
                foreign.judge(&path.certificates, now).map_err(|fault| match fault {
                    ForeignFault::Revoked => AdmissionFault::Revoked.into(),
                    ForeignFault::Unknown(why) => Refusal::RevocationUnknown(why),
                })?;
            }
            revocation => {
                let roots: Vec<Vec<u8>> = anchors.into_iter().map(|anchor| anchor.certificate).collect();
                let folder = match revocation {
                    Revocation::Folder(folder) => Some(folder.as_path()),
                    _ => None,
                };
                verify(shown, above, &roots, folder, now)?;
            }
        }
        let certificate = Certificate::from_der(shown).map_err(|_| AdmissionFault::ForeignCertificate)?;
        let naming = [name::SERIAL_NUMBER, name::COMMON_NAME];
        let named = name::device_name(certificate.tbs_certificate().subject(), &naming, &[]);
        Ok(named.map_err(|_| AdmissionFault::ForeignCertificate)?.id)
    }
}

/// The path of a certificate to an anchor and on through what is known above it, and the place of the anchor.
fn path(shown: &[u8], above: &[Vec<u8>], anchors: &[Anchor]) -> Result<(Chain, usize), Refusal> {
    let mut path = Chain::default();
    path.push(shown)?;
    let anchor = loop {
        if let Some(anchor) = anchors.iter().find(|anchor| path.goes_on_with(&anchor.certificate)) {
            break anchor;
        }
        let next = above.iter().find(|der| !path.ders.contains(der) && path.goes_on_with(der));
        let next = next.filter(|_| path.ders.len() < MAX_PATH).ok_or(AdmissionFault::ForeignCertificate)?;
        path.push(next)?;
    };
    let place = path.ders.len();
    path.push(&anchor.certificate)?;
    for der in anchor.above.iter().take(MAX_PATH) {
        path.push(der)?;
    }
    Ok((path, place))
}

/// Verifies a certificate with its path; of the CRLs in a folder each must be current.
fn verify(shown: &[u8], above: &[Vec<u8>], roots: &[Vec<u8>], folder: Option<&Path>, now: i64) -> Result<(), Refusal> {
    let foreign = |_| Refusal::from(AdmissionFault::ForeignCertificate);
    let roots = Arc::new(store_of(roots).map_err(foreign)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::new(aws_lc_rs::default_provider()));
    if let Some(folder) = folder {
        builder = builder.with_crls(lists(folder)?).enforce_revocation_expiration();
    }
    let verifier = builder.build().map_err(|fault| Refusal::RevocationUnknown(fault.to_string()))?;
    let above: Vec<CertificateDer<'_>> = above.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let instant = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    verifier.verify_client_cert(&CertificateDer::from(shown), &above, instant).map(drop).map_err(refusal)
}

fn refusal(fault: rustls::Error) -> Refusal {
    use CertificateError as C;
    match fault {
        rustls::Error::InvalidCertificate(C::Revoked) => AdmissionFault::Revoked.into(),
        rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => AdmissionFault::Expired.into(),
        rustls::Error::InvalidCertificate(
            C::UnknownRevocationStatus | C::ExpiredRevocationList | C::ExpiredRevocationListContext { .. },
        ) => Refusal::RevocationUnknown(fault.to_string()),
        _ => AdmissionFault::ForeignCertificate.into(),
    }
}

/// The CRLs in the files `*.crl` of a folder, DER or PEM. There must be one: without any nothing would be asked.
fn lists(folder: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Refusal> {
    let say = |fault: std::io::Error| Refusal::RevocationUnknown(format!("{}: {fault}", folder.display()));
    let mut lists = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(say)? {
        let path = entry.map_err(say)?.path();
        if path.extension().is_none_or(|extension| extension != "crl") {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(say)?;
        lists.extend(ders_of(bytes, "X509 CRL").into_iter().map(CertificateRevocationListDer::from));
    }
    if lists.is_empty() {
        return Err(Refusal::RevocationUnknown(format!("{} holds no CRL", folder.display())));
    }
    Ok(lists)
}

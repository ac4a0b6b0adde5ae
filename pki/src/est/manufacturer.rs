//! Devices that show the certificate which their manufacturer gave them (IEEE 802.1AR IDevID): the anchors of a label for first
//! enrolments (the implicit trust anchors of RFC 7030 section 2.4), apart from our own authorities, which alone count for everything else.
//!
//! Whether such a certificate was revoked must be known: its CRLs are read from a folder that the operator keeps fresh, and what is not
//! on record there, or no longer current, is refused.

use super::error::Refusal;
use crate::api::view::ders_of_pem;
use crate::device::admission::AdmissionFault;
use crate::x509::name;
use der::Decode;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use x509_cert::Certificate;

/// The manufacturers of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manufacturers {
    /// Their root certificates.
    pub(crate) roots: Vec<Vec<u8>>,
    /// The folder of their CRLs; none when the configuration says that they have none.
    crls: Option<PathBuf>,
}

/// `manufacturer_roots` and `manufacturer_crls` of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenManufacturers {
    roots: PathBuf,
    crls: Option<PathBuf>,
}

impl WrittenManufacturers {
    /// Reads how they are written.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn parse(roots: Option<PathBuf>, crls: Option<String>) -> Result<Option<Self>, String> {
        match (roots, crls.as_deref()) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err("manufacturer_crls needs manufacturer_roots".to_owned()),
            (Some(_), None) => Err(
                "manufacturer_roots needs manufacturer_crls: the folder of their CRLs, or \"none\" if no certificate of theirs is ever \
                 revoked"
                    .to_owned(),
            ),
            (Some(roots), Some("none")) => Ok(Some(Self { roots, crls: None })),
            (Some(roots), Some(folder)) => Ok(Some(Self { roots, crls: Some(PathBuf::from(folder)) })),
        }
    }

    /// Reads the roots; paths are relative to `folder`.
    ///
    /// # Errors
    /// A sentence with the file.
    pub(crate) fn read(&self, folder: &Path) -> Result<Manufacturers, String> {
        let path = folder.join(&self.roots);
        let say = |what: &dyn std::fmt::Display| format!("manufacturer_roots: {}: {what}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|fault| say(&fault))?;
        let roots = ders_of_pem(&text, "CERTIFICATE").filter(|roots| !roots.is_empty());
        let roots = roots.ok_or_else(|| say(&"no certificate in PEM"))?;
        store_of(&roots).map_err(|fault| say(&fault))?;
        Ok(Manufacturers { roots, crls: self.crls.as_ref().map(|crls| folder.join(crls)) })
    }
}

fn store_of(roots: &[Vec<u8>]) -> Result<RootCertStore, rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.as_slice()))?;
    }
    Ok(store)
}

impl Manufacturers {
    /// The identity in a certificate that one of these manufacturers gave, and that is good now: the serialNumber of its subject, else the
    /// commonName. `above` are the certificates that came along.
    ///
    /// # Errors
    /// What is wrong with it, or that nobody knows whether it was revoked.
    pub(crate) fn identity(&self, shown: &[u8], above: &[Vec<u8>], now: i64) -> Result<String, Refusal> {
        let foreign = |_| Refusal::from(AdmissionFault::ForeignCertificate);
        let roots = Arc::new(store_of(&self.roots).map_err(foreign)?);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
        if let Some(folder) = &self.crls {
            builder = builder.with_crls(lists(folder)?).enforce_revocation_expiration();
        }
        let verifier = builder.build().map_err(|fault| Refusal::RevocationUnknown(fault.to_string()))?;
        let above: Vec<CertificateDer<'_>> = above.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let instant = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
        verifier.verify_client_cert(&CertificateDer::from(shown), &above, instant).map_err(refusal)?;
        let certificate = Certificate::from_der(shown).map_err(|_| AdmissionFault::ForeignCertificate)?;
        let naming = [name::SERIAL_NUMBER, name::COMMON_NAME];
        let named = name::device_name(certificate.tbs_certificate().subject(), &naming, &[]);
        Ok(named.map_err(|_| AdmissionFault::ForeignCertificate)?.id)
    }
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
        let in_pem = std::str::from_utf8(&bytes).ok().and_then(|text| ders_of_pem(text, "X509 CRL"));
        let ders = in_pem.filter(|ders| !ders.is_empty()).unwrap_or_else(|| vec![bytes]);
        lists.extend(ders.into_iter().map(CertificateRevocationListDer::from));
    }
    if lists.is_empty() {
        return Err(Refusal::RevocationUnknown(format!("{} holds no CRL", folder.display())));
    }
    Ok(lists)
}

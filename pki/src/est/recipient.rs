//! The keys that keys made for devices are encrypted to: files in the folder that the label names, which an operator puts there. A file
//! is called by the identifier of its key in hexadecimal: `HEX.pem` is a certificate or a public key, `HEX.key` an AES key in
//! hexadecimal that the device has too. They are read when they are needed, so a new one counts at once.

use super::error::Refusal;
use super::label::Label;
use crate::ca::CaError;
use crate::cms::enveloped::Recipient;
use crate::secret::SecretSource;
use crate::x509::csr::DecryptionKey;
use crate::x509::{der_of_pem, hex};
use data_encoding::HEXLOWER_PERMISSIVE;
use der::Decode;
use secrecy::ExposeSecret;
use spki::SubjectPublicKeyInfoOwned;
use std::io::ErrorKind;
use std::path::Path;
use x509_cert::Certificate;
use zeroize::Zeroizing;

/// The key that a request names.
///
/// # Errors
/// [`Refusal::KeygenKeyUnknown`], or a file that is not what it should be.
pub(super) fn find(rules: &Label, named: &DecryptionKey) -> Result<Recipient, Refusal> {
    let folder = rules.decryption_keys.as_deref().ok_or(Refusal::KeygenKeyUnknown)?;
    match named {
        DecryptionKey::Public(identifier) => public(&folder.join(format!("{}.pem", hex(identifier)))),
        DecryptionKey::Secret(identifier) => secret(&folder.join(format!("{}.key", hex(identifier)))),
    }
}

fn damaged(path: &Path, what: &str) -> Refusal {
    CaError::File(format!("{}: {what}", path.display())).into()
}

fn public(path: &Path) -> Result<Recipient, Refusal> {
    let text = std::fs::read_to_string(path).map_err(|fault| match fault.kind() {
        ErrorKind::NotFound => Refusal::KeygenKeyUnknown,
        _ => damaged(path, &fault.to_string()),
    })?;
    let first = |label| der_of_pem(&text, label);
    let of_certificate = |der: Vec<u8>| {
        let certificate = Certificate::from_der(&der).ok()?;
        Some(certificate.tbs_certificate().subject_public_key_info().clone())
    };
    let spki = first("CERTIFICATE")
        .and_then(of_certificate)
        .or_else(|| first("PUBLIC KEY").and_then(|der| SubjectPublicKeyInfoOwned::from_der(&der).ok()));
    let spki = spki.ok_or_else(|| damaged(path, "neither a certificate nor a public key in PEM"))?;
    Ok(Recipient::Public(Box::new(spki)))
}

fn secret(path: &Path) -> Result<Recipient, Refusal> {
    if !path.exists() {
        return Err(Refusal::KeygenKeyUnknown);
    }
    let text = SecretSource::File(path.to_path_buf()).read().map_err(CaError::File)?;
    let bytes = HEXLOWER_PERMISSIVE.decode(text.expose_secret().trim().as_bytes()).map(Zeroizing::new);
    let bytes = bytes.ok().filter(|bytes| matches!(bytes.len(), 16 | 32));
    Ok(Recipient::Secret(bytes.ok_or_else(|| damaged(path, "not 16 or 32 octets in hexadecimal"))?))
}

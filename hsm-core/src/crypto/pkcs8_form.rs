//! Private keys as PKCS#8 (RFC 5958), written.

use const_oid::ObjectIdentifier;
use der::Encode;
use der::asn1::{AnyRef, OctetStringRef};
use pkcs8::PrivateKeyInfoRef;
use spki::AlgorithmIdentifierRef;

use super::{Error, Result};
use crate::SecretBytes;

/// The PKCS#8 key of an algorithm, around its own form.
pub(super) fn write(oid: ObjectIdentifier, parameters: Option<AnyRef<'_>>, inner: &[u8]) -> Result<SecretBytes> {
    let inner = OctetStringRef::new(inner).map_err(|_| Error::Internal)?;
    let info = PrivateKeyInfoRef::new(AlgorithmIdentifierRef { oid, parameters }, inner);
    Ok(SecretBytes::new(info.to_der().map_err(|_| Error::Internal)?))
}

/// The form that RFC 9881, section 6, and RFC 9935, section 6, give a private key: the seed as [0] IMPLICIT OCTET STRING, or the
/// expanded key as an OCTET STRING where there is no seed.
pub(super) fn seeded(
    oid: ObjectIdentifier,
    seed: Option<SecretBytes>,
    expanded: impl FnOnce() -> Result<SecretBytes>,
) -> Result<SecretBytes> {
    match seed {
        Some(seed) => self::seed(oid, seed.expose()),
        None => octets(oid, expanded()?.expose()),
    }
}

/// A PKCS#8 key that is an OCTET STRING within the OCTET STRING.
pub(super) fn octets(oid: ObjectIdentifier, bytes: &[u8]) -> Result<SecretBytes> {
    let inner = OctetStringRef::new(bytes).map_err(|_| Error::Internal)?;
    let inner = SecretBytes::new(inner.to_der().map_err(|_| Error::Internal)?);
    write(oid, None, inner.expose())
}

/// The PKCS#8 key that consists of a seed.
pub(super) fn seed(oid: ObjectIdentifier, seed: &[u8]) -> Result<SecretBytes> {
    let len = u8::try_from(seed.len()).ok().filter(|&len| len < 0x80).ok_or(Error::Internal)?;
    let mut inner = SecretBytes::zeroed(2 + seed.len());
    inner.expose_mut()[..2].copy_from_slice(&[0x80, len]);
    inner.expose_mut()[2..].copy_from_slice(seed);
    write(oid, None, inner.expose())
}

//! Parsed asymmetric keys of any algorithm, and their DER: PKCS#8 (RFC 5958) for private keys, SubjectPublicKeyInfo
//! (RFC 5280, section 4.1) for public ones.
//!
//! The PKCS#8 written here is the canonical stored form: RSA with its CRT parts (RFC 8017), EC as a named curve with its
//! public point (RFC 5915), Ed25519 (RFC 8410), ML-DSA (RFC 9881) and ML-KEM (RFC 9935) as seeds, SLH-DSA
//! (RFC 9909) as it is. Reading is strict: no trailing bytes, the
//! parameters that the algorithm's own document asks for, and every redundant part must agree with the rest.

use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, BitStringRef, OctetStringRef};
use der::{Decode, Encode, Tag, TagNumber};
use pkcs8::PrivateKeyInfoRef;
use sec1::EcPrivateKey;
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::{Curve, Error, Result, ecdsa, eddsa, ml_dsa, ml_kem, pkcs8_form, rsa, slh_dsa, x25519};
use crate::SecretBytes;

/// rsaEncryption (RFC 8017, appendix C).
const RSA_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-ecPublicKey (RFC 5480, section 2.1.1).
const EC_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// A private key; wiped when dropped.
pub(crate) enum PrivateKey {
    /// RSA.
    Rsa(rsa::PrivateKey),
    /// A Weierstrass curve: ECDSA and ECDH.
    Ec(ecdsa::PrivateKey),
    /// Ed25519.
    Edwards(eddsa::PrivateKey),
    /// X25519.
    Montgomery(x25519::PrivateKey),
    /// ML-DSA.
    MlDsa(ml_dsa::PrivateKey),
    /// ML-KEM.
    MlKem(ml_kem::PrivateKey),
    /// SLH-DSA.
    SlhDsa(slh_dsa::PrivateKey),
}

/// A public key.
pub(crate) enum PublicKey {
    /// RSA.
    Rsa(rsa::PublicKey),
    /// A Weierstrass curve: ECDSA and ECDH.
    Ec(ecdsa::PublicKey),
    /// Ed25519.
    Edwards(eddsa::PublicKey),
    /// X25519.
    Montgomery(x25519::PublicKey),
    /// ML-DSA.
    MlDsa(ml_dsa::PublicKey),
    /// ML-KEM.
    MlKem(ml_kem::PublicKey),
    /// SLH-DSA.
    SlhDsa(slh_dsa::PublicKey),
}

fn no_parameters(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<()> {
    if algorithm.parameters.is_none() { Ok(()) } else { Err(Error::InvalidKey) }
}

fn null_parameters(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<()> {
    if algorithm.parameters == Some(AnyRef::NULL) { Ok(()) } else { Err(Error::InvalidKey) }
}

fn curve_parameters(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<Curve> {
    let oid = algorithm.parameters_oid().map_err(|_| Error::UnsupportedCurve)?;
    Curve::from_oid(oid)
}

/// The algorithms whose identifier is that of their parameter set.
enum Set {
    MlDsa(ml_dsa::ParameterSet),
    MlKem(ml_kem::ParameterSet),
    SlhDsa(slh_dsa::ParameterSet),
}

/// # Errors
/// [`Error::UnsupportedParameterSet`] for another algorithm of NIST's two arcs (the pre-hash forms), [`Error::InvalidKey`] for
/// anything else.
fn parameter_set(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<Set> {
    /// The arcs of NIST's signature algorithms and key encapsulation mechanisms.
    const ARCS: [ObjectIdentifier; 2] =
        [ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3"), ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4")];
    let oid = algorithm.oid;
    let known = ml_dsa::ParameterSet::from_oid(oid).map(Set::MlDsa);
    let known = known.or_else(|| ml_kem::ParameterSet::from_oid(oid).map(Set::MlKem));
    let known = known.or_else(|| slh_dsa::ParameterSet::from_oid(oid).map(Set::SlhDsa));
    let in_arc = ARCS.into_iter().any(|arc| oid.starts_with(arc));
    let set = known.ok_or(if in_arc { Error::UnsupportedParameterSet } else { Error::InvalidKey })?;
    no_parameters(algorithm)?;
    Ok(set)
}

impl PrivateKey {
    /// Reads a PKCS#8 key; the algorithm is found from its identifier.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if it is malformed, inconsistent or of an algorithm that is not offered,
    /// [`Error::UnsupportedCurve`], [`Error::UnsupportedParameterSet`], [`Error::KeySize`].
    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let info = PrivateKeyInfoRef::from_der(der).map_err(|_| Error::InvalidKey)?;
        let inner = info.private_key.as_bytes();
        let key = match info.algorithm.oid {
            RSA_OID => {
                null_parameters(&info.algorithm)?;
                PrivateKey::Rsa(rsa::PrivateKey::from_pkcs1_der(inner)?)
            }
            EC_OID => PrivateKey::Ec(read_ec(curve_parameters(&info.algorithm)?, inner)?),
            eddsa::OID => {
                no_parameters(&info.algorithm)?;
                let seed = <&OctetStringRef>::from_der(inner).map_err(|_| Error::InvalidKey)?;
                PrivateKey::Edwards(eddsa::PrivateKey::from_seed(seed.as_bytes())?)
            }
            x25519::OID => {
                no_parameters(&info.algorithm)?;
                let scalar = <&OctetStringRef>::from_der(inner).map_err(|_| Error::InvalidKey)?;
                PrivateKey::Montgomery(x25519::PrivateKey::from_scalar(scalar.as_bytes())?)
            }
            _ => match parameter_set(&info.algorithm)? {
                Set::MlDsa(set) => PrivateKey::MlDsa(read_ml_dsa(set, inner)?),
                Set::MlKem(set) => PrivateKey::MlKem(read_ml_kem(set, inner)?),
                Set::SlhDsa(set) => PrivateKey::SlhDsa(slh_dsa::PrivateKey::from_bytes(set, inner)?),
            },
        };
        if let Some(given) = info.public_key {
            let own = key.public()?.to_spki()?;
            let own = SubjectPublicKeyInfoRef::from_der(&own).map_err(|_| Error::Internal)?;
            if own.subject_public_key != given {
                return Err(Error::InvalidKey);
            }
        }
        Ok(key)
    }

    /// The PKCS#8 key: the canonical stored form.
    pub(crate) fn to_pkcs8(&self) -> Result<SecretBytes> {
        match self {
            PrivateKey::Rsa(key) => pkcs8_form::write(RSA_OID, Some(AnyRef::NULL), key.to_pkcs1_der()?.expose()),
            PrivateKey::Ec(key) => {
                let (scalar, point) = (key.scalar()?, key.point()?);
                let inner = EcPrivateKey { private_key: scalar.expose(), parameters: None, public_key: Some(&point) };
                let inner = SecretBytes::new(inner.to_der().map_err(|_| Error::Internal)?);
                let oid = key.curve().oid();
                pkcs8_form::write(EC_OID, Some(AnyRef::from(&oid)), inner.expose())
            }
            PrivateKey::Edwards(key) => pkcs8_form::octets(eddsa::OID, key.seed().expose()),
            PrivateKey::Montgomery(key) => pkcs8_form::octets(x25519::OID, key.scalar().expose()),
            PrivateKey::MlDsa(key) => pkcs8_form::seeded(key.set().oid(), key.seed(), || key.expanded()),
            PrivateKey::SlhDsa(key) => pkcs8_form::write(key.set().oid(), None, key.bytes().expose()),
            PrivateKey::MlKem(key) => pkcs8_form::seeded(key.set().oid(), key.seed(), || key.expanded()),
        }
    }

    /// The public key.
    pub(crate) fn public(&self) -> Result<PublicKey> {
        Ok(match self {
            PrivateKey::Rsa(key) => PublicKey::Rsa(key.public()?),
            PrivateKey::Ec(key) => PublicKey::Ec(key.public()?),
            PrivateKey::Edwards(key) => PublicKey::Edwards(key.public()?),
            PrivateKey::Montgomery(key) => PublicKey::Montgomery(key.public()),
            PrivateKey::MlDsa(key) => PublicKey::MlDsa(key.public()?),
            PrivateKey::MlKem(key) => PublicKey::MlKem(key.public()?),
            PrivateKey::SlhDsa(key) => PublicKey::SlhDsa(key.public()?),
        })
    }
}

fn read_ec(curve: Curve, inner: &[u8]) -> Result<ecdsa::PrivateKey> {
    let inner = EcPrivateKey::from_der(inner).map_err(|_| Error::InvalidKey)?;
    if inner.parameters.is_some_and(|parameters| parameters.named_curve() != Some(curve.oid())) {
        return Err(Error::InvalidKey);
    }
    // RFC 5915, section 3: the octet string has the curve's width.
    if inner.private_key.len() != curve.field_len() {
        return Err(Error::InvalidKey);
    }
    ecdsa::PrivateKey::from_scalar(curve, inner.private_key, inner.public_key)
}

/// What a seeded key may consist of.
enum Parts<'a> {
    Seed(&'a [u8]),
    Expanded(&'a [u8]),
    Both(&'a [u8], &'a [u8]),
}

fn read_seeded(inner: &[u8]) -> Result<Parts<'_>> {
    let choice = AnyRef::from_der(inner).map_err(|_| Error::InvalidKey)?;
    let seed_tag = Tag::ContextSpecific { constructed: false, number: TagNumber(0) };
    match der::Tagged::tag(&choice) {
        tag if tag == seed_tag => Ok(Parts::Seed(choice.value())),
        Tag::OctetString => Ok(Parts::Expanded(choice.value())),
        Tag::Sequence => {
            let read = choice.sequence(|reader| -> der::Result<_> {
                Ok((<&OctetStringRef>::decode(reader)?, <&OctetStringRef>::decode(reader)?))
            });
            let (seed, expanded) = read.map_err(|_| Error::InvalidKey)?;
            Ok(Parts::Both(seed.as_bytes(), expanded.as_bytes()))
        }
        _ => Err(Error::InvalidKey),
    }
}

fn read_ml_dsa(set: ml_dsa::ParameterSet, inner: &[u8]) -> Result<ml_dsa::PrivateKey> {
    match read_seeded(inner)? {
        Parts::Seed(seed) => ml_dsa::PrivateKey::from_seed(set, seed),
        Parts::Expanded(expanded) => ml_dsa::PrivateKey::from_expanded(set, expanded),
        Parts::Both(seed, expanded) => {
            let key = ml_dsa::PrivateKey::from_seed(set, seed)?;
            let agrees = key.expanded()? == SecretBytes::copy_from(expanded);
            if agrees { Ok(key) } else { Err(Error::InvalidKey) }
        }
    }
}

fn read_ml_kem(set: ml_kem::ParameterSet, inner: &[u8]) -> Result<ml_kem::PrivateKey> {
    match read_seeded(inner)? {
        Parts::Seed(seed) => ml_kem::PrivateKey::from_seed(set, seed),
        Parts::Expanded(expanded) => ml_kem::PrivateKey::from_expanded(set, expanded),
        Parts::Both(seed, expanded) => {
            let key = ml_kem::PrivateKey::from_seed(set, seed)?;
            let agrees = key.expanded()? == SecretBytes::copy_from(expanded);
            if agrees { Ok(key) } else { Err(Error::InvalidKey) }
        }
    }
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo. RSA keys are taken under [`rsa::ExponentRule::Legacy`]: the caller who wants more
    /// looks at the exponent.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if it is malformed or of an algorithm that is not offered, [`Error::UnsupportedCurve`],
    /// [`Error::UnsupportedParameterSet`], [`Error::KeySize`].
    pub(crate) fn from_spki(der: &[u8]) -> Result<Self> {
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| Error::InvalidKey)?;
        let bytes = info.subject_public_key.as_bytes().ok_or(Error::InvalidKey)?;
        Ok(match info.algorithm.oid {
            RSA_OID => {
                null_parameters(&info.algorithm)?;
                PublicKey::Rsa(rsa::PublicKey::from_pkcs1_der(bytes)?)
            }
            EC_OID => PublicKey::Ec(ecdsa::PublicKey::from_point(curve_parameters(&info.algorithm)?, bytes)?),
            eddsa::OID => {
                no_parameters(&info.algorithm)?;
                PublicKey::Edwards(eddsa::PublicKey::from_bytes(bytes)?)
            }
            x25519::OID => {
                no_parameters(&info.algorithm)?;
                PublicKey::Montgomery(x25519::PublicKey::from_bytes(bytes)?)
            }
            _ => match parameter_set(&info.algorithm)? {
                Set::MlDsa(set) => PublicKey::MlDsa(ml_dsa::PublicKey::from_bytes(set, bytes)?),
                Set::MlKem(set) => PublicKey::MlKem(ml_kem::PublicKey::from_bytes(set, bytes)?),
                Set::SlhDsa(set) => PublicKey::SlhDsa(slh_dsa::PublicKey::from_bytes(set, bytes)?),
            },
        })
    }

    /// The SubjectPublicKeyInfo.
    pub(crate) fn to_spki(&self) -> Result<Vec<u8>> {
        match self {
            PublicKey::Rsa(key) => write_spki(RSA_OID, Some(AnyRef::NULL), &key.to_pkcs1_der()?),
            PublicKey::Ec(key) => write_spki(EC_OID, Some(AnyRef::from(&key.curve().oid())), &key.point()?),
            PublicKey::Edwards(key) => write_spki(eddsa::OID, None, key.as_bytes()),
            PublicKey::Montgomery(key) => write_spki(x25519::OID, None, key.as_bytes()),
            PublicKey::MlDsa(key) => write_spki(key.set().oid(), None, &key.to_bytes()?),
            PublicKey::MlKem(key) => write_spki(key.set().oid(), None, &key.to_bytes()?),
            PublicKey::SlhDsa(key) => write_spki(key.set().oid(), None, key.as_bytes()),
        }
    }
}

fn write_spki(oid: ObjectIdentifier, parameters: Option<AnyRef<'_>>, bytes: &[u8]) -> Result<Vec<u8>> {
    let subject_public_key = BitStringRef::from_bytes(bytes).map_err(|_| Error::Internal)?;
    let info = SubjectPublicKeyInfoRef { algorithm: AlgorithmIdentifierRef { oid, parameters }, subject_public_key };
    info.to_der().map_err(|_| Error::Internal)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::crypto::testing::hex;
    use crate::crypto::{Hash, digest, ml_dsa::ParameterSet};

    /// One key per algorithm and size.
    fn keys() -> Vec<(String, PrivateKey)> {
        let mut keys = Vec::new();
        keys.push(("RSA".to_owned(), PrivateKey::Rsa(rsa::PrivateKey::generate(2048, rsa::F4).expect("a key"))));
        for &curve in Curve::ALL {
            let key = ecdsa::PrivateKey::generate(curve).expect("a key");
            keys.push((format!("{curve:?}"), PrivateKey::Ec(key)));
        }
        keys.push(("Ed25519".to_owned(), PrivateKey::Edwards(eddsa::PrivateKey::generate().expect("a key"))));
        keys.push(("X25519".to_owned(), PrivateKey::Montgomery(x25519::PrivateKey::generate().expect("a key"))));
        for &set in ParameterSet::ALL {
            let key = ml_dsa::PrivateKey::generate(set).expect("a key");
            keys.push((format!("{set:?}"), PrivateKey::MlDsa(key)));
        }
        let slh = slh_dsa::PrivateKey::generate(slh_dsa::ParameterSet::Shake128f).expect("a key");
        keys.push(("SLH-DSA".to_owned(), PrivateKey::SlhDsa(slh)));
        for &set in ml_kem::ParameterSet::ALL {
            let key = ml_kem::PrivateKey::generate(set).expect("a key");
            let expanded =
                ml_kem::PrivateKey::from_expanded(set, key.expanded().expect("bytes").expose()).expect("a key");
            keys.push((format!("{set:?}"), PrivateKey::MlKem(key)));
            keys.push((format!("{set:?} without seed"), PrivateKey::MlKem(expanded)));
        }
        keys
    }

    /// The output of `openssl` over the input, or nothing if there is no such tool or it refuses.
    fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        child.stdin.take().expect("a pipe").write_all(input).expect("the tool reads");
        let output = child.wait_with_output().expect("the tool ends");
        output.status.success().then_some(output.stdout)
    }

    fn has_openssl(test: &str) -> bool {
        let found = openssl(&["version"], &[]).is_some();
        if !found {
            let mut error = std::io::stderr().lock();
            writeln!(error, "SKIPPED {test}: openssl not found").expect("stderr");
        }
        found
    }

    #[test]
    fn keys_come_back_from_their_der() {
        for (name, key) in keys() {
            let stored = key.to_pkcs8().expect("der");
            let again = PrivateKey::from_pkcs8(stored.expose()).expect("reads");
            assert!(again.to_pkcs8().expect("der") == stored, "{name}");
            let public = key.public().expect("public").to_spki().expect("der");
            let public_again = PublicKey::from_spki(&public).expect("reads");
            assert_eq!(public_again.to_spki().expect("der"), public, "{name}");
            assert_eq!(again.public().expect("public").to_spki().expect("der"), public, "{name}");
        }
    }

    #[test]
    fn der_with_trailing_or_missing_bytes_is_refused() {
        for (name, key) in keys() {
            let private = key.to_pkcs8().expect("der").expose().to_vec();
            let public = key.public().expect("public").to_spki().expect("der");
            for wrong in [[private.clone(), vec![0]].concat(), private[..private.len() - 1].to_vec(), vec![]] {
                assert_eq!(PrivateKey::from_pkcs8(&wrong).err(), Some(Error::InvalidKey), "{name}");
            }
            for wrong in [[public.clone(), vec![0]].concat(), public[..public.len() - 1].to_vec(), vec![]] {
                assert_eq!(PublicKey::from_spki(&wrong).err(), Some(Error::InvalidKey), "{name}");
            }
        }
    }

    #[test]
    fn a_private_key_with_another_public_point_is_refused() {
        let key = ecdsa::PrivateKey::generate(Curve::P256).expect("a key");
        let mut der = PrivateKey::Ec(key).to_pkcs8().expect("der").expose().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(PrivateKey::from_pkcs8(&der).err(), Some(Error::InvalidKey));
    }

    #[test]
    fn curves_that_are_not_offered_are_named_as_such() {
        let key = ecdsa::PrivateKey::generate(Curve::P384).expect("a key");
        let (oid, other) = (hex("06052b81040022"), hex("06052b8104001f"));
        let swap = |der: &[u8]| {
            let at = der.windows(oid.len()).position(|window| window == oid).expect("the identifier is there");
            [&der[..at], &other, &der[at + oid.len()..]].concat()
        };
        let key = PrivateKey::Ec(key);
        let private = swap(key.to_pkcs8().expect("der").expose());
        assert_eq!(PrivateKey::from_pkcs8(&private).err(), Some(Error::UnsupportedCurve));
        let public = swap(&key.public().expect("public").to_spki().expect("der"));
        assert_eq!(PublicKey::from_spki(&public).err(), Some(Error::UnsupportedCurve));
    }

    #[test]
    fn other_parameter_sets_are_named_as_such() {
        // HashML-DSA-44 with SHA-512: a key for the pre-hash form only.
        let oid = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.32");
        let private = pkcs8_form::write(oid, None, &[4, 1, 0]).expect("der");
        assert_eq!(PrivateKey::from_pkcs8(private.expose()).err(), Some(Error::UnsupportedParameterSet));
        let public = write_spki(oid, None, &[0; 32]).expect("der");
        assert_eq!(PublicKey::from_spki(&public).err(), Some(Error::UnsupportedParameterSet));
    }

    #[test]
    fn a_damaged_der_is_refused_or_another_key_but_never_a_panic() {
        for (name, key) in keys() {
            let stored = key.to_pkcs8().expect("der");
            for position in 0..stored.len() {
                let mut damaged = stored.expose().to_vec();
                damaged[position] ^= 0x55;
                if let Ok(other) = PrivateKey::from_pkcs8(&damaged) {
                    assert!(other.to_pkcs8().expect("der") != stored, "{name} {position}");
                }
            }
            let public = key.public().expect("public").to_spki().expect("der");
            for position in 0..public.len() {
                let mut damaged = public.clone();
                damaged[position] ^= 0x55;
                if let Ok(other) = PublicKey::from_spki(&damaged) {
                    assert_ne!(other.to_spki().expect("der"), public, "{name} {position}");
                }
            }
        }
    }

    /// RFC 8410, section 10.3: the example with attribute and public key, and a copy whose public key is another.
    #[test]
    fn the_ed25519_example_with_a_public_key_is_read_and_checked() {
        let der =
            hex("3072020101300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842\
                       a01f301d060a2a864886f70d01090914310f0c0d437572646c6520436861697273\
                       81210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1");
        let key = PrivateKey::from_pkcs8(&der).expect("reads");
        // The canonical form has neither: the section's first example.
        let short =
            hex("302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842");
        assert_eq!(key.to_pkcs8().expect("der").expose(), short);
        let mut wrong = der;
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        assert_eq!(PrivateKey::from_pkcs8(&wrong).err(), Some(Error::InvalidKey));
    }

    #[test]
    fn ml_dsa_keys_are_54_bytes_and_the_other_forms_are_judged() {
        for &set in ParameterSet::ALL {
            let key = ml_dsa::PrivateKey::generate(set).expect("a key");
            let (seed, expanded) = (key.seed().expect("a seed"), key.expanded().expect("expanded"));
            let stored = PrivateKey::MlDsa(key).to_pkcs8().expect("der");
            assert_eq!(stored.len(), 54);
            let octets = |bytes: &[u8]| OctetStringRef::new(bytes).expect("short").to_der().expect("der");
            let wrap = |inner: &[u8]| pkcs8_form::write(set.oid(), None, inner).expect("der");
            let only_expanded = wrap(&octets(expanded.expose()));
            let seedless = PrivateKey::from_pkcs8(only_expanded.expose()).expect("reads");
            assert!(seedless.to_pkcs8().expect("der") == only_expanded);
            let both = |seed: &[u8], expanded: &[u8]| {
                let body = [octets(seed), octets(expanded)].concat();
                let any = der::asn1::Any::new(Tag::Sequence, body).expect("short").to_der().expect("der");
                PrivateKey::from_pkcs8(wrap(&any).expose())
            };
            let read = both(seed.expose(), expanded.expose()).expect("both agree");
            assert!(read.to_pkcs8().expect("der") == stored);
            let mut other = expanded.expose().to_vec();
            other[200] ^= 1;
            assert_eq!(both(seed.expose(), &other).err(), Some(Error::InvalidKey));
        }
    }

    #[test]
    fn other_algorithms_and_parameters_are_refused() {
        // X448, id-RSASSA-PSS without parameters, and an RSA key whose NULL is missing.
        let x448 =
            hex("302e020100300506032b656f04220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842");
        assert_eq!(PrivateKey::from_pkcs8(&x448).err(), Some(Error::InvalidKey));
        let PrivateKey::Rsa(key) = PrivateKey::from_pkcs8(include_bytes!("../../testdata/selftest_rsa_2048.pk8"))
            .expect("the test key is valid")
        else {
            panic!("another key")
        };
        let inner = key.to_pkcs1_der().expect("der");
        let pss = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
        for (oid, parameters) in [(pss, None), (RSA_OID, None)] {
            let der = pkcs8_form::write(oid, parameters, inner.expose()).expect("der");
            assert_eq!(PrivateKey::from_pkcs8(der.expose()).err(), Some(Error::InvalidKey));
        }
    }

    #[test]
    fn openssl_reads_our_keys_and_verifies_with_them() {
        if !has_openssl("openssl_reads_our_keys_and_verifies_with_them") {
            return;
        }
        // ML-DSA and ML-KEM need OpenSSL 3.5, so they are compared by the Wycheproof vectors only.
        let known =
            |key: &PrivateKey| !matches!(key, PrivateKey::MlDsa(_) | PrivateKey::MlKem(_) | PrivateKey::SlhDsa(_));
        for (name, key) in keys().into_iter().filter(|(_, key)| known(key)) {
            let stored = key.to_pkcs8().expect("der");
            let public = openssl(&["pkey", "-inform", "DER", "-pubout", "-outform", "DER"], stored.expose());
            assert_eq!(public, Some(key.public().expect("public").to_spki().expect("der")), "{name}");
        }
    }

    #[test]
    fn keys_and_signatures_of_openssl_are_read() {
        if !has_openssl("keys_and_signatures_of_openssl_are_read") {
            return;
        }
        let rows: [(&[&str], bool); 9] = [
            (&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], true),
            (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], true),
            (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], true),
            (&["-algorithm", "ED25519"], true),
            (&["-algorithm", "X25519"], true),
            (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], true),
            (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP384r1"], true),
            (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp224r1"], false),
            (&["-algorithm", "X448"], false),
        ];
        for (arguments, offered) in rows {
            let der = openssl(&[&["genpkey", "-outform", "DER"], arguments].concat(), &[]).expect("a key");
            let der = openssl(&["pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-outform", "DER"], &der);
            let key = PrivateKey::from_pkcs8(&der.expect("a PKCS#8 key"));
            assert_eq!(key.is_ok(), offered, "{arguments:?}");
            if let Ok(key) = key {
                let public = key.public().expect("public").to_spki().expect("der");
                assert!(PublicKey::from_spki(&public).is_ok(), "{arguments:?}");
            }
        }
    }

    #[test]
    fn a_stored_key_signs_as_before() {
        let key = ecdsa::PrivateKey::generate(Curve::P521).expect("a key");
        let public = key.public().expect("public");
        let stored = PrivateKey::Ec(key).to_pkcs8().expect("der");
        let PrivateKey::Ec(again) = PrivateKey::from_pkcs8(stored.expose()).expect("reads") else {
            panic!("another key")
        };
        let digest = digest::digest(Hash::Sha512, b"message");
        assert_eq!(public.verify(&digest, &again.sign(&digest).expect("signature")), Ok(()));
    }
}

//! Certification requests (PKCS#10, RFC 2986): decoding what a stranger sent, and the proof of possession.
//!
//! A [`VerifiedCsr`] exists only after its signature was checked with its own public key. Nothing in it is trusted for
//! more than that: what may be certified is decided by the profile.

use super::algorithm::{KeyFault, KeyKind, judge_key};
use super::related::{CertificateId, Claim, RELATED_CERT_REQUEST};
use super::verify::{VerifyFault, verify};
use const_oid::ObjectIdentifier;
use der::asn1::{Any, AnyRef, BitStringRef, OctetString};
use der::{Decode, Encode, Sequence, Tag, Tagged};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::collections::BTreeSet;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::request::CertReqInfo;

const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
const CHALLENGE_PASSWORD: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7");
/// DecryptKeyIdentifier (RFC 4108 section 2.2.5).
const DECRYPT_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.37");
/// AsymmetricDecryptKeyIdentifier (RFC 7030 section 4.4.1.2).
const ASYMMETRIC_DECRYPT_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.54");
/// SMIMECapabilities (RFC 7030 section 4.4.1).
const SMIME_CAPABILITIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.15");
/// id-at-statementOfPossession (RFC 9883).
const STATEMENT_OF_POSSESSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.22112.2.1");
/// Longest identifier of a key.
const MAX_KEY_IDENTIFIER: usize = 64;
/// id-cmc-changeSubjectName (RFC 6402 section 2.8).
const CHANGE_SUBJECT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.7.36");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");

/// More names than this in one request are refused before anything else is done with them.
const MAX_NAMES: usize = 16;

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CsrFault {
    /// Not the DER of a PKCS#10 request.
    #[error("the body is not the DER of one PKCS#10 request: {0}")]
    Malformed(String),
    /// The key is not acceptable.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The signature algorithm is not known.
    #[error("{0}")]
    Algorithm(String),
    /// The proof of possession failed.
    #[error("the signature of the request does not verify with its own public key")]
    FalseSignature,
    /// The request wants to become an authority.
    #[error(
        "the request asks for the rights of an authority (cA or keyCertSign or cRLSign), which enrolment never grants"
    )]
    AsksForAuthority,
    /// The names asked for are too many or of a bad form.
    #[error("{0}")]
    Names(&'static str),
    /// The statement of possession is not one of the requester's.
    #[error("the statement of possession {0}")]
    Statement(&'static str),
}

#[derive(Sequence)]
struct Outer<'a> {
    info: AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitStringRef<'a>,
}

/// PrivateKeyPossessionStatement (RFC 9883).
#[derive(Sequence)]
struct PossessionStatement {
    signer: CertificateId,
    certificate: Option<x509_cert::Certificate>,
}

/// A request whose proof of possession was verified.
#[derive(Debug, Clone)]
pub(crate) struct VerifiedCsr {
    subject: Name,
    spki: SubjectPublicKeyInfoOwned,
    spki_sha256: [u8; 32],
    alt_names: Vec<GeneralName>,
    requested: Vec<ObjectIdentifier>,
    challenge: Option<String>,
    decryption_key: Option<DecryptionKey>,
    capabilities: Option<Vec<ObjectIdentifier>>,
    change: Option<ChangeOfName>,
    related: Option<Claim>,
    is_stated: bool,
}

/// The key that a generated key is to be encrypted to, by its identifier (RFC 7030 section 4.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DecryptionKey {
    /// A secret that both sides have.
    Secret(Vec<u8>),
    /// A public key.
    Public(Vec<u8>),
}

/// The names a request asks for instead of those of the certificate that it is authenticated by (RFC 6402 section 2.8).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChangeOfName {
    /// The new subject, when it is to change.
    pub(crate) subject: Option<Name>,
    /// The new alternative names, when they are to change.
    pub(crate) alt_names: Option<Vec<GeneralName>>,
}

impl VerifiedCsr {
    /// Decodes a request and verifies its signature.
    ///
    /// # Errors
    /// A [`CsrFault`] saying what is wrong.
    pub(crate) fn verify(der: &[u8]) -> Result<Self, CsrFault> {
        let malformed = |fault: der::Error| CsrFault::Malformed(fault.to_string());
        let outer = Outer::from_der(der).map_err(malformed)?;
        let signed = outer.info.to_der().map_err(malformed)?;
        let info = CertReqInfo::from_der(&signed).map_err(malformed)?;
        if let KeyKind::MlKem(_) = judge_key(&info.public_key)? {
            return Err(KeyFault::CannotSign.into());
        }
        let signature = outer.signature.as_bytes().ok_or(CsrFault::FalseSignature)?;
        verify(&info.public_key, &outer.algorithm, &signed, signature).map_err(|fault| match fault {
            VerifyFault::Unsupported(_) => CsrFault::Algorithm(fault.to_string()),
            VerifyFault::False => CsrFault::FalseSignature,
        })?;
        Self::of(info)
    }

    /// Decodes a request for a key that cannot sign, which the holder of a certificate states to have, and signed instead (RFC 9883).
    /// That the certificate is good for anything, and whose it is, the caller knows.
    ///
    /// # Errors
    /// A [`CsrFault`] saying what is wrong.
    pub(crate) fn stated(der: &[u8], signer: &x509_cert::Certificate) -> Result<Self, CsrFault> {
        let malformed = |fault: der::Error| CsrFault::Malformed(fault.to_string());
        let outer = Outer::from_der(der).map_err(malformed)?;
        let signed = outer.info.to_der().map_err(malformed)?;
        let info = CertReqInfo::from_der(&signed).map_err(malformed)?;
        // A key that can sign proves itself.
        let KeyKind::MlKem(_) = judge_key(&info.public_key)? else { return Err(CsrFault::FalseSignature) };
        let statement = only_value(&info, STATEMENT_OF_POSSESSION)?.ok_or(KeyFault::CannotSign)?;
        let statement: PossessionStatement = statement.decode_as().map_err(malformed)?;
        let facts = signer.tbs_certificate();
        let is_theirs = statement.signer.names(signer) && statement.certificate.is_none_or(|named| named == *signer);
        if !is_theirs {
            return Err(CsrFault::Statement("names another certificate than the one that is shown"));
        }
        let signature = outer.signature.as_bytes().ok_or(CsrFault::FalseSignature)?;
        verify(facts.subject_public_key_info(), &outer.algorithm, &signed, signature).map_err(|fault| match fault {
            VerifyFault::Unsupported(_) => CsrFault::Algorithm(fault.to_string()),
            VerifyFault::False => CsrFault::Statement("is not signed with the key of the certificate that it names"),
        })?;
        Ok(Self { is_stated: true, ..Self::of(info)? })
    }

    /// Decodes a request for a key that we made ourselves: its own key and signature mean nothing (RFC 7030 section 4.4.1), and the
    /// possession of ours needs no proof.
    ///
    /// # Errors
    /// A [`CsrFault`] saying what is wrong.
    pub(crate) fn with_our_key(der: &[u8], spki: SubjectPublicKeyInfoOwned) -> Result<Self, CsrFault> {
        let malformed = |fault: der::Error| CsrFault::Malformed(fault.to_string());
        let outer = Outer::from_der(der).map_err(malformed)?;
        let mut info = CertReqInfo::from_der(&outer.info.to_der().map_err(malformed)?).map_err(malformed)?;
        info.public_key = spki;
        Self::of(info)
    }

    fn of(info: CertReqInfo) -> Result<Self, CsrFault> {
        let malformed = |fault: der::Error| CsrFault::Malformed(fault.to_string());
        let requested = requested_extensions(&info)?;
        refuse_authority(&requested)?;
        let spki_sha256 = super::sha256(&info.public_key.to_der().map_err(malformed)?);
        Ok(Self {
            alt_names: alt_names(&requested)?,
            requested: requested.iter().map(|extension| extension.extn_id).collect(),
            challenge: challenge_password(&info)?,
            decryption_key: decryption_key(&info)?,
            capabilities: capabilities(&info)?,
            change: change_of_name(&info)?,
            related: only_value(&info, RELATED_CERT_REQUEST)?.map(Claim::read).transpose().map_err(malformed)?,
            subject: info.subject,
            spki: info.public_key,
            spki_sha256,
            is_stated: false,
        })
    }

    /// The subject the request asks for.
    pub(crate) fn subject(&self) -> &Name {
        &self.subject
    }

    /// The public key whose private part signed the request.
    pub(crate) fn spki(&self) -> &SubjectPublicKeyInfoOwned {
        &self.spki
    }

    /// SHA-256 of the DER of the public key.
    pub(crate) fn spki_sha256(&self) -> &[u8; 32] {
        &self.spki_sha256
    }

    /// The challengePassword attribute, which RFC 7030 section 3.5 uses for the channel binding.
    pub(crate) fn challenge(&self) -> Option<&str> {
        self.challenge.as_deref()
    }

    /// The names asked for in subjectAltName, as the set of their encodings.
    pub(crate) fn alt_name_set(&self) -> BTreeSet<Vec<u8>> {
        name_set(&self.alt_names)
    }

    /// The names asked for in subjectAltName.
    pub(crate) fn alt_names(&self) -> &[GeneralName] {
        &self.alt_names
    }

    /// The extensions asked for, by identifier.
    pub(crate) fn requested(&self) -> &[ObjectIdentifier] {
        &self.requested
    }

    /// The key that a generated key is to be encrypted to.
    pub(crate) fn decryption_key(&self) -> Option<&DecryptionKey> {
        self.decryption_key.as_ref()
    }

    /// The algorithms that the requester can do, as SMIMECapabilities names them.
    pub(crate) fn capabilities(&self) -> Option<&[ObjectIdentifier]> {
        self.capabilities.as_deref()
    }

    /// True when the holder of the certificate that was shown states to have the key.
    pub(crate) fn is_stated(&self) -> bool {
        self.is_stated
    }

    /// What it says of a certificate that the requester holds already.
    pub(crate) fn related(&self) -> Option<&Claim> {
        self.related.as_ref()
    }

    /// The names asked for by ChangeSubjectName.
    pub(crate) fn change_of_name(&self) -> Option<&ChangeOfName> {
        self.change.as_ref()
    }
}

/// The set of encodings of some general names.
pub(crate) fn name_set(names: &[GeneralName]) -> BTreeSet<Vec<u8>> {
    names.iter().filter_map(|name| name.to_der().ok()).collect()
}

/// True for a lower-case LDH host name (RFC 1123 section 2.1) that is not an address.
pub(crate) fn is_host_name(name: &str) -> bool {
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_a_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && !last_is_a_number && name.split('.').all(label_is_good)
}

/// The extensions asked for. More than one extensionRequest, or one that does not decode, is malformed.
fn requested_extensions(info: &CertReqInfo) -> Result<Vec<Extension>, CsrFault> {
    let mut found = info.attributes.iter().filter(|attribute| attribute.oid == EXTENSION_REQUEST);
    let Some(attribute) = found.next() else { return Ok(Vec::new()) };
    if found.next().is_some() || attribute.values.len() != 1 {
        return Err(CsrFault::Malformed("more than one extensionRequest".to_owned()));
    }
    let value = attribute.values.get(0).ok_or_else(|| CsrFault::Malformed("empty extensionRequest".to_owned()))?;
    let extensions: Vec<Extension> =
        value.decode_as().map_err(|fault: der::Error| CsrFault::Malformed(fault.to_string()))?;
    let distinct: BTreeSet<_> = extensions.iter().map(|extension| extension.extn_id).collect();
    if distinct.len() != extensions.len() {
        return Err(CsrFault::Malformed("an extension is asked for twice".to_owned()));
    }
    Ok(extensions)
}

fn refuse_authority(requested: &[Extension]) -> Result<(), CsrFault> {
    for extension in requested {
        let value = extension.extn_value.as_bytes();
        let asks = match extension.extn_id {
            BASIC_CONSTRAINTS => BasicConstraints::from_der(value).map(|constraints| constraints.ca),
            KEY_USAGE => KeyUsage::from_der(value).map(|usage| usage.key_cert_sign() || usage.crl_sign()),
            _ => continue,
        };
        if asks.map_err(|fault| CsrFault::Malformed(fault.to_string()))? {
            return Err(CsrFault::AsksForAuthority);
        }
    }
    Ok(())
}

fn alt_names(requested: &[Extension]) -> Result<Vec<GeneralName>, CsrFault> {
    let Some(extension) = requested.iter().find(|extension| extension.extn_id == SUBJECT_ALT_NAME) else {
        return Ok(Vec::new());
    };
    bounded_names(extension.extn_value.as_bytes())
}

fn bounded_names(der: &[u8]) -> Result<Vec<GeneralName>, CsrFault> {
    let names = SubjectAltName::from_der(der).map_err(|fault| CsrFault::Malformed(fault.to_string()))?;
    if names.0.len() > MAX_NAMES {
        return Err(CsrFault::Names("more than 16 names are asked for"));
    }
    Ok(names.0)
}

/// ChangeSubjectName: a name, alternative names, or both. They are both SEQUENCEs and known by what is in them.
fn change_of_name(info: &CertReqInfo) -> Result<Option<ChangeOfName>, CsrFault> {
    let Some(attribute) = info.attributes.iter().find(|attribute| attribute.oid == CHANGE_SUBJECT_NAME) else {
        return Ok(None);
    };
    let malformed =
        || CsrFault::Malformed("ChangeSubjectName is not one subject, one list of names, or both".to_owned());
    let value = attribute.values.get(0).filter(|_| attribute.values.len() == 1).ok_or_else(malformed)?;
    let parts: Vec<Any> = value.decode_as().map_err(|_| malformed())?;
    let mut change = ChangeOfName { subject: None, alt_names: None };
    for part in &parts {
        let mut der = part.to_der().map_err(|_| malformed())?;
        // Erratum 3943 tells the second part by the tag [1], IMPLICIT; without it both are SEQUENCEs.
        if let Some(tag @ 0xA1) = der.first_mut() {
            *tag = 0x30;
        }
        let is_name = part.tag() == Tag::Sequence && matches!(part.value().first(), None | Some(0x31));
        match (is_name, &change) {
            (true, ChangeOfName { subject: None, alt_names: None }) => {
                change.subject = Some(Name::from_der(&der).map_err(|_| malformed())?);
            }
            (false, ChangeOfName { alt_names: None, .. }) => change.alt_names = Some(bounded_names(&der)?),
            _ => return Err(malformed()),
        }
    }
    if parts.is_empty() { Err(malformed()) } else { Ok(Some(change)) }
}

/// The only value of an attribute that may stand there once.
fn only_value(info: &CertReqInfo, kind: ObjectIdentifier) -> Result<Option<&Any>, CsrFault> {
    let mut found = info.attributes.iter().filter(|attribute| attribute.oid == kind);
    let Some(attribute) = found.next() else { return Ok(None) };
    match (attribute.values.get(0), attribute.values.len(), found.next()) {
        (Some(value), 1, None) => Ok(Some(value)),
        _ => Err(CsrFault::Malformed(format!("the attribute {kind} does not have one value"))),
    }
}

fn decryption_key(info: &CertReqInfo) -> Result<Option<DecryptionKey>, CsrFault> {
    let identifier = |kind| {
        let Some(value) = only_value(info, kind)? else { return Ok(None) };
        let value: OctetString =
            value.decode_as().map_err(|fault: der::Error| CsrFault::Malformed(fault.to_string()))?;
        let length = value.as_bytes().len();
        if (1..=MAX_KEY_IDENTIFIER).contains(&length) {
            Ok(Some(value.as_bytes().to_vec()))
        } else {
            Err(CsrFault::Malformed("the identifier of a key to encrypt to has 1 to 64 octets".to_owned()))
        }
    };
    match (identifier(DECRYPT_KEY)?, identifier(ASYMMETRIC_DECRYPT_KEY)?) {
        (None, None) => Ok(None),
        (Some(secret), None) => Ok(Some(DecryptionKey::Secret(secret))),
        (None, Some(public)) => Ok(Some(DecryptionKey::Public(public))),
        _ => Err(CsrFault::Malformed("the request names two keys to encrypt to".to_owned())),
    }
}

fn capabilities(info: &CertReqInfo) -> Result<Option<Vec<ObjectIdentifier>>, CsrFault> {
    let Some(value) = only_value(info, SMIME_CAPABILITIES)? else { return Ok(None) };
    // SMIMECapability has the form of an AlgorithmIdentifier.
    let list: Vec<AlgorithmIdentifierOwned> =
        value.decode_as().map_err(|fault: der::Error| CsrFault::Malformed(fault.to_string()))?;
    Ok(Some(list.into_iter().map(|capability| capability.oid).collect()))
}

fn challenge_password(info: &CertReqInfo) -> Result<Option<String>, CsrFault> {
    let Some(attribute) = info.attributes.iter().find(|attribute| attribute.oid == CHALLENGE_PASSWORD) else {
        return Ok(None);
    };
    let malformed = || CsrFault::Malformed("challengePassword is not one string".to_owned());
    let value = attribute.values.get(0).filter(|_| attribute.values.len() == 1).ok_or_else(malformed)?;
    if !matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String) {
        return Err(malformed());
    }
    std::str::from_utf8(value.value()).map(|text| Some(text.to_owned())).map_err(|_| malformed())
}

/// Requests for the tests of this and other rooms.
#[cfg(test)]
pub(crate) mod made {
    use crate::x509::algorithm::{KeySpec, ec_spki, oid};
    use crate::x509::tbs::join;
    use der::Encode;
    use der::asn1::SetOfVec;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use spki::SubjectPublicKeyInfoOwned;
    use std::str::FromStr;
    use x509_cert::name::Name;
    use x509_cert::request::{CertReqInfo, Version};

    /// DER of the part of a request that is signed.
    pub(crate) fn to_be_signed(subject: &str, spki: SubjectPublicKeyInfoOwned) -> Vec<u8> {
        let subject = Name::from_str(subject).expect("parses");
        let info = CertReqInfo { version: Version::V1, subject, public_key: spki, attributes: SetOfVec::default() };
        info.to_der().expect("encodes")
    }

    /// DER of a request with a fresh P-256 key.
    pub(crate) fn request(subject: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).expect("key");
        let tbs = to_be_signed(subject, ec_spki(oid::P256, key.public_key().as_ref()).expect("encodes"));
        let signature = key.sign(&random, &tbs).expect("signs");
        join(&tbs, KeySpec::EcP256.signature_algorithm(), signature.as_ref()).expect("encodes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::algorithm::{KeySpec, bare_spki, oid};
    use crate::x509::tbs::join;
    use ml_dsa::{MlDsa65, Signer, SigningKey};

    #[test]
    fn every_byte_of_a_request_is_protected() {
        let good = made::request("CN=sensor");
        assert!(VerifiedCsr::verify(&good).is_ok());
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert!(VerifiedCsr::verify(&bad).is_err(), "byte {index}");
        }
        for len in 0..good.len() {
            assert!(VerifiedCsr::verify(&good[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn possession_of_an_ml_dsa_key_is_proved() {
        let key = SigningKey::<MlDsa65>::from_seed(&[7; 32].into());
        let public = key.expanded_key().verifying_key().encode();
        let tbs = made::to_be_signed("CN=sensor", bare_spki(oid::ML_DSA_65, public.as_slice()).expect("encodes"));
        let signature = key.sign(&tbs).encode();
        let request =
            |signature: &[u8]| join(&tbs, KeySpec::MlDsa65.signature_algorithm(), signature).expect("encodes");
        assert!(VerifiedCsr::verify(&request(signature.as_slice())).is_ok());
        let mut forged = signature.to_vec();
        forged[100] ^= 1;
        assert!(matches!(VerifiedCsr::verify(&request(&forged)), Err(CsrFault::FalseSignature)));
        assert!(matches!(VerifiedCsr::verify(&request(&forged[1..])), Err(CsrFault::FalseSignature)));
    }

    #[test]
    fn a_signature_algorithm_that_does_not_fit_the_key_is_named() {
        let good = made::request("CN=sensor");
        // ecdsa-with-SHA256 becomes ecdsa-with-SHA512, which no row has for P-256.
        let oid = [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];
        let at = good.windows(8).position(|window| window == oid).expect("algorithm");
        let mut other = good;
        other[at + 7] = 4;
        assert!(matches!(VerifiedCsr::verify(&other), Err(CsrFault::Algorithm(_))));
    }

    #[test]
    fn host_names_are_judged() {
        for good in ["sensor-1.devices.example", "localhost", "a.b.c"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in [
            "",
            "*.example",
            "Sensor.example",
            "a..b",
            "example.",
            "-a.example",
            "a-.example",
            "10.0.0.1",
            "a\0b",
            "ä.example",
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }

    #[test]
    fn rubbish_is_malformed() {
        for rubbish in [&b""[..], b"hello", &[0x30, 0x00], &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]] {
            assert!(matches!(VerifiedCsr::verify(rubbish), Err(CsrFault::Malformed(_))), "{rubbish:?}");
        }
    }
}

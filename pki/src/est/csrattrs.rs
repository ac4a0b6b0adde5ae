//! /csrattrs: what a profile asks of a request, in both forms (RFC 9908): the attributes of RFC 8951 for clients of that time,
//! and the template of a request for newer ones, which use nothing else. Both are written from the profile, never by hand.

use super::codec::{CONTEXT_0, SEQUENCE, tagged};
use super::label::{ChannelBinding, Label};
use crate::profile::{KeyRule, Profile};
use crate::x509::algorithm::{KeyKind, oid};
use crate::x509::{extension, name};
use const_oid::{AssociatedOid, ObjectIdentifier};
use der::Encode;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;

/// challengePassword (RFC 2985 section 5.4.1).
const CHALLENGE_PASSWORD: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7");
/// id-ExtensionReq (RFC 2985 section 5.4.2).
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
/// id-aa-certificationRequestInfoTemplate (RFC 9908 section 3.4).
const TEMPLATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.61");
/// id-aa-extensionReqTemplate (RFC 9908 section 3.4).
const EXTENSION_TEMPLATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.62");
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const CONTEXT_1: u8 = 0xA1;

/// The DER of CsrAttrs for a label.
///
/// # Errors
/// A value without an encoding.
pub(crate) fn attributes(profile: &Profile, label: &Label) -> der::Result<Vec<u8>> {
    // What cannot sign cannot ask: where such a key is given, the server makes it, and the key of the request means nothing.
    let preferred = profile.keys.first().copied().filter(|rule| !matches!(rule, KeyRule::Exactly(KeyKind::MlKem(_))));
    let mut list = Vec::new();
    if label.channel_binding == ChannelBinding::Required {
        list.extend(CHALLENGE_PASSWORD.to_der()?);
    }
    if let Some(rule) = preferred {
        let (algorithm, parameters) = key_type(rule)?;
        list.extend(attribute(algorithm, &parameters)?);
        if let Some(signature) = signature_algorithm(rule) {
            list.extend(signature.to_der()?);
        }
    }
    let imposed = imposed(profile, profile.keys.first().copied())?;
    let mut extensions = Vec::new();
    for extension in &imposed {
        extensions.extend(extension.to_der()?);
    }
    list.extend(attribute(EXTENSION_REQUEST, &tagged(SEQUENCE, &extensions))?);
    list.extend(attribute(TEMPLATE, &template(profile, label, preferred, &imposed)?)?);
    Ok(tagged(SEQUENCE, &list))
}

/// The extensions whose values are known before the request.
fn imposed(profile: &Profile, preferred: Option<KeyRule>) -> der::Result<Vec<Extension>> {
    let kind = preferred.map(|rule| match rule {
        KeyRule::Exactly(kind) => kind,
        KeyRule::RsaFrom(_) => KeyKind::Rsa,
    });
    let mut list = vec![extension::key_usage(&profile.usages_of(kind))?];
    if !profile.purposes.is_empty() {
        list.push(extension::extended_key_usage(&profile.purposes)?);
    }
    Ok(list)
}

/// An attribute with one value, or none when the value is empty.
fn attribute(kind: ObjectIdentifier, value: &[u8]) -> der::Result<Vec<u8>> {
    Ok(tagged(SEQUENCE, &[kind.to_der()?, tagged(SET, value)].concat()))
}

/// A key type as an attribute: the algorithm, and the curve or the size.
fn key_type(rule: KeyRule) -> der::Result<(ObjectIdentifier, Vec<u8>)> {
    Ok(match rule {
        KeyRule::RsaFrom(bits) => (oid::RSA, bits.to_der()?),
        KeyRule::Exactly(KeyKind::Rsa) => (oid::RSA, Vec::new()),
        KeyRule::Exactly(kind) => match curve(kind) {
            Some(curve) => (oid::EC_PUBLIC_KEY, curve.to_der()?),
            None => (other_algorithm(kind), Vec::new()),
        },
    })
}

fn curve(kind: KeyKind) -> Option<ObjectIdentifier> {
    match kind {
        KeyKind::EcP256 => Some(oid::P256),
        KeyKind::EcP384 => Some(oid::P384),
        KeyKind::EcP521 => Some(oid::P521),
        _ => None,
    }
}

/// The algorithm of keys that have no parameters.
fn other_algorithm(kind: KeyKind) -> ObjectIdentifier {
    match kind {
        KeyKind::MlDsa(44) => oid::ML_DSA_44,
        KeyKind::MlDsa(65) => oid::ML_DSA_65,
        KeyKind::MlDsa(_) => oid::ML_DSA_87,
        _ => oid::ED25519,
    }
}

/// The signature of the request, where the key type leaves a choice.
fn signature_algorithm(rule: KeyRule) -> Option<ObjectIdentifier> {
    match rule {
        KeyRule::Exactly(KeyKind::EcP256) => Some(oid::ECDSA_SHA256),
        KeyRule::Exactly(KeyKind::EcP384) => Some(oid::ECDSA_SHA384),
        KeyRule::Exactly(KeyKind::EcP521) => Some(oid::ECDSA_SHA512),
        KeyRule::RsaFrom(_) | KeyRule::Exactly(KeyKind::Rsa) => Some(oid::RSA_SHA256),
        KeyRule::Exactly(_) => None,
    }
}

/// CertificationRequestInfoTemplate.
fn template(
    profile: &Profile,
    label: &Label,
    preferred: Option<KeyRule>,
    imposed: &[Extension],
) -> der::Result<Vec<u8>> {
    let mut parts = vec![tagged(INTEGER, &[0]), subject(profile)?];
    if let Some(rule) = preferred {
        parts.push(public_key(rule)?);
    }
    let mut extensions = Vec::new();
    for extension in imposed {
        extensions.extend(extension.to_der()?);
    }
    if profile.preset.row().needs_names {
        // Without a value: the client fills it in.
        extensions.extend(tagged(SEQUENCE, &SubjectAltName::OID.to_der()?));
    }
    let mut attributes = vec![attribute(EXTENSION_TEMPLATE, &tagged(SEQUENCE, &extensions))?];
    if label.channel_binding == ChannelBinding::Required {
        attributes.push(attribute(CHALLENGE_PASSWORD, &[])?);
    }
    attributes.sort();
    parts.push(tagged(CONTEXT_1, &attributes.concat()));
    Ok(tagged(SEQUENCE, &parts.concat()))
}

/// NameTemplate: the attributes that are imposed with their values, those that name the device without.
fn subject(profile: &Profile) -> der::Result<Vec<u8>> {
    let mut rdns = Vec::new();
    for fixed in &profile.subject_fixed {
        rdns.extend(tagged(SET, &fixed.to_der()?));
    }
    for wanted in naming(profile) {
        rdns.extend(tagged(SET, &tagged(SEQUENCE, &wanted.to_der()?)));
    }
    Ok(tagged(SEQUENCE, &rdns))
}

/// What a subject of this profile must have: the serialNumber if the preset needs it, and a commonName if it is honoured.
fn naming(profile: &Profile) -> Vec<ObjectIdentifier> {
    let honoured = |oid: ObjectIdentifier| profile.subject_attributes.contains(&oid);
    let needs_serial = profile.preset.row().needs_serial_number || !honoured(name::COMMON_NAME);
    let mut naming = Vec::new();
    if honoured(name::COMMON_NAME) {
        naming.push(name::COMMON_NAME);
    }
    if needs_serial && honoured(name::SERIAL_NUMBER) {
        naming.push(name::SERIAL_NUMBER);
    }
    naming
}

/// SubjectPublicKeyInfoTemplate: the algorithm, and for RSA a key of zeros that shows the size.
fn public_key(rule: KeyRule) -> der::Result<Vec<u8>> {
    let (algorithm, placeholder) = match rule {
        KeyRule::RsaFrom(bits) => {
            let identifier = [oid::RSA.to_der()?, vec![0x05, 0x00]].concat();
            let mut modulus = vec![0; usize::try_from(bits / 8).unwrap_or(256) + 1];
            if let Some(first) = modulus.get_mut(1) {
                *first = 0x80;
            }
            let key = tagged(SEQUENCE, &[tagged(INTEGER, &modulus), tagged(INTEGER, &[1, 0, 1])].concat());
            (identifier, tagged(BIT_STRING, &[vec![0], key].concat()))
        }
        KeyRule::Exactly(kind) => {
            let (algorithm, parameters) = key_type(KeyRule::Exactly(kind))?;
            ([algorithm.to_der()?, parameters].concat(), Vec::new())
        }
    };
    Ok(tagged(CONTEXT_0, &[tagged(SEQUENCE, &algorithm), placeholder].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::est::label;
    use crate::profile::written::{WrittenProfile, profiles};
    use der::{AnyRef, Decode};
    use std::collections::BTreeMap;

    fn profile(text: &str) -> Profile {
        let written: WrittenProfile = toml::from_str(text).expect("parses");
        let mut all = profiles(BTreeMap::from([("p".to_owned(), written)]), 1 << 40).expect("means");
        all.remove("p").expect("p")
    }

    fn holds(der: &[u8], part: &[u8]) -> bool {
        der.windows(part.len()).any(|window| window == part)
    }

    fn label(channel_binding: ChannelBinding) -> Label {
        Label { channel_binding, ..label::plain("p") }
    }

    #[test]
    fn the_example_of_rfc_8951_has_the_shape_that_ours_has() {
        let example = data_encoding::BASE64
            .decode(b"MEEGCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiMBYGCSqGSIb3DQEJDjEJBgcrBgEBAQEWBggqhkjOPQQDAw==")
            .expect("base64");
        let parts: Vec<AnyRef<'_>> = Vec::from_der(&example).expect("a SEQUENCE of attributes and identifiers");
        assert_eq!(parts.len(), 4);
        let ours = attributes(&profile("keys = [\"ec:P-384\"]"), &label(ChannelBinding::Required)).expect("encodes");
        for part in [CHALLENGE_PASSWORD.to_der(), oid::P384.to_der(), oid::ECDSA_SHA384.to_der()] {
            let part = part.expect("encodes");
            assert!(holds(&example, &part) && holds(&ours, &part));
        }
    }

    #[test]
    fn m51_the_binding_is_asked_for_only_when_it_is_required() {
        let wanted = CHALLENGE_PASSWORD.to_der().expect("encodes");
        for (binding, expected) in [(ChannelBinding::Required, true), (ChannelBinding::Optional, false)] {
            let der = attributes(&profile(""), &label(binding)).expect("encodes");
            assert_eq!(holds(&der, &wanted), expected);
        }
    }

    #[test]
    fn m52_m53_one_key_type_and_one_extension_request_with_distinct_extensions() {
        for keys in ["\"ec:P-256\"", "\"rsa:3072\", \"ec:P-256\"", "\"ed25519\"", "\"ml-dsa-65\""] {
            let text = format!("keys = [{keys}]");
            let der = attributes(&profile(&text), &label(ChannelBinding::Optional)).expect("encodes");
            let parts: Vec<AnyRef<'_>> = Vec::from_der(&der).expect("a SEQUENCE");
            let identifier = |part: &AnyRef<'_>| {
                let inner: Option<Vec<AnyRef<'_>>> = part.decode_as().ok();
                inner.and_then(|inner| inner.first().and_then(|first| first.decode_as::<ObjectIdentifier>().ok()))
            };
            let kinds: Vec<_> = parts.iter().filter_map(identifier).collect();
            let types = [oid::EC_PUBLIC_KEY, oid::RSA, oid::ED25519, oid::ML_DSA_65];
            assert_eq!(kinds.iter().filter(|kind| types.contains(kind)).count(), 1, "{keys}");
            assert_eq!(kinds.iter().filter(|kind| **kind == EXTENSION_REQUEST).count(), 1, "{keys}");
            assert_eq!(kinds.iter().filter(|kind| **kind == TEMPLATE).count(), 1, "{keys}");
        }
    }

    #[test]
    fn m54_to_m56_the_template_has_version_subject_key_and_attributes() {
        let der = attributes(
            &profile("subject_fixed = \"O=Acme\"\nkeys = [\"rsa:2048\"]\npreset = \"server\"\ndns_suffixes = [\"x.example\"]"),
            &label(ChannelBinding::Optional),
        )
        .expect("encodes");
        let parts: Vec<AnyRef<'_>> = Vec::from_der(&der).expect("a SEQUENCE");
        let last: Vec<AnyRef<'_>> = parts.last().and_then(|part| part.decode_as().ok()).expect("an attribute");
        assert_eq!(last[0].decode_as::<ObjectIdentifier>(), Ok(TEMPLATE));
        let template = AnyRef::from_der(last[1].value()).expect("one value");
        let fields: Vec<AnyRef<'_>> = template.decode_as().expect("fields");
        assert_eq!(fields.len(), 4);
        assert_eq!(fields[0].value(), [0]);
        // The modulus that shows the size: 2048 bits.
        assert!(holds(fields[2].value(), &[0x02, 0x82, 0x01, 0x01, 0x00, 0x80, 0x00]));
        // subjectAltName without a value.
        assert!(holds(fields[3].value(), &[0x30, 0x05, 0x06, 0x03, 0x55, 0x1D, 0x11]));
        assert!(!holds(fields[3].value(), &EXTENSION_REQUEST.to_der().expect("encodes")));
    }
}

//! Requests that openssl cannot write: put together byte by byte, signed with a key of their own.

use crate::world::World;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};

/// Tag, length and value.
pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut der = match length {
        0..0x80 => vec![tag, u8::try_from(length).expect("short")],
        0x80..0x100 => vec![tag, 0x81, u8::try_from(length).expect("one byte")],
        _ => {
            let [high, low] = u16::try_from(length).expect("two bytes").to_be_bytes();
            vec![tag, 0x82, high, low]
        }
    };
    der.extend_from_slice(value);
    der
}

/// DER of an object identifier.
pub(crate) fn oid(text: &str) -> Vec<u8> {
    ObjectIdentifier::new(text).expect("an object identifier").to_der().expect("encodes")
}

/// An attribute with one value.
pub(crate) fn attribute(kind: &str, value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[oid(kind), tlv(0x31, value)].concat())
}

/// DER of the subject of the certificate in `NAME.pem`.
pub(crate) fn subject_of(world: &World, name: &str) -> Vec<u8> {
    let der = world.tool("openssl", &["x509", "-in", &format!("{name}.pem"), "-outform", "DER"]);
    let certificate = x509_cert::Certificate::from_der(&der).expect("a certificate");
    certificate.tbs_certificate().subject().to_der().expect("encodes")
}

/// DER of the issuer of the certificate in `NAME.pem`.
pub(crate) fn issuer_of(world: &World, name: &str) -> Vec<u8> {
    let der = world.tool("openssl", &["x509", "-in", &format!("{name}.pem"), "-outform", "DER"]);
    let certificate = x509_cert::Certificate::from_der(&der).expect("a certificate");
    certificate.tbs_certificate().issuer().to_der().expect("encodes")
}

/// DER of a request with a fresh P-256 key.
pub(crate) fn request(subject: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("key");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).expect("key");
    let algorithm = tlv(0x30, &[oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")].concat());
    let bits = [&[0], key.public_key().as_ref()].concat();
    let spki = tlv(0x30, &[algorithm, tlv(0x03, &bits)].concat());
    let info = tlv(0x30, &[tlv(0x02, &[0]), subject.to_vec(), spki, tlv(0xA0, &attributes.concat())].concat());
    let signature = key.sign(&random, &info).expect("signs");
    let signature = [&[0], signature.as_ref()].concat();
    tlv(0x30, &[info, tlv(0x30, &oid("1.2.840.10045.4.3.2")), tlv(0x03, &signature)].concat())
}

/// One DER value.
pub(crate) fn is_der(bytes: &[u8]) -> bool {
    x509_cert::der::AnyRef::from_der(bytes).is_ok()
}

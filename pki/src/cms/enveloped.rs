//! EnvelopedData (RFC 5652 section 6) for one recipient, who is known by the identifier of a key: RSA (ktri), ECDH (kari, RFC 5753), ML-KEM
//! (RFC 9629, RFC 9936) or a secret that both have (kekri).

use super::{ENVELOPED_DATA, SHA_256, SIGNED_DATA, algorithm, content_info, oid};
use crate::x509::algorithm::{KeyKind, judge_key, oid as key};
use crate::x509::tlv::{self, INTEGER, SET, context};
use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::cipher::{self, DecryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::key_wrap::{self, AesKek, KeyWrap};
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::{hkdf, kem};
use const_oid::ObjectIdentifier;
use der::Encode;
use ring::digest;
use spki::SubjectPublicKeyInfoOwned;
use zeroize::Zeroizing;

const RSA_OAEP: ObjectIdentifier = oid("1.2.840.113549.1.1.7");
const MGF1: ObjectIdentifier = oid("1.2.840.113549.1.1.8");
const AES_128_CBC: ObjectIdentifier = oid("2.16.840.1.101.3.4.1.2");
const AES_128_WRAP: ObjectIdentifier = oid("2.16.840.1.101.3.4.1.5");
const AES_256_CBC: ObjectIdentifier = oid("2.16.840.1.101.3.4.1.42");
const AES_256_WRAP: ObjectIdentifier = oid("2.16.840.1.101.3.4.1.45");
/// id-ori-kem (RFC 9629 section 3).
const ORI_KEM: ObjectIdentifier = oid("1.2.840.113549.1.9.16.13.3");
/// id-alg-hkdf-with-sha256 (RFC 8619).
const HKDF_SHA_256: ObjectIdentifier = oid("1.2.840.113549.1.9.16.3.28");
const NULL: &[u8] = &[0x05, 0x00];

/// One curve: its kind of key, its agreement, the scheme (RFC 5753 section 7.1.4) and the digest of its key derivation.
type Curve = (KeyKind, &'static agreement::Algorithm, ObjectIdentifier, &'static digest::Algorithm);
const CURVES: &[Curve] = &[
    (KeyKind::EcP256, &agreement::ECDH_P256, oid("1.3.132.1.11.1"), &digest::SHA256),
    (KeyKind::EcP384, &agreement::ECDH_P384, oid("1.3.132.1.11.2"), &digest::SHA384),
    (KeyKind::EcP521, &agreement::ECDH_P521, oid("1.3.132.1.11.3"), &digest::SHA512),
];

/// The sets of ML-KEM: kind of key, and its encapsulation.
const KEMS: &[(KeyKind, &kem::Algorithm)] = &[
    (KeyKind::MlKem(512), &kem::ML_KEM_512),
    (KeyKind::MlKem(768), &kem::ML_KEM_768),
    (KeyKind::MlKem(1024), &kem::ML_KEM_1024),
];
/// Octets of the key that wraps a content key.
const KEK_LEN: u8 = 32;

/// How a content is encrypted, the preferred first: identifier, cipher, length of its key.
const CONTENT_CIPHERS: &[(ObjectIdentifier, &cipher::Algorithm, usize)] =
    &[(AES_256_CBC, &cipher::AES_256, 32), (AES_128_CBC, &cipher::AES_128, 16)];

/// [4] OtherRecipientInfo among the kinds of RecipientInfo.
const OTHER_RECIPIENT: u8 = context(4);

/// Why a message cannot be made for a recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvelopeFault {
    /// The recipient can do none of our ciphers.
    #[error("none of the algorithms in SMIMECapabilities can be used: AES-256-CBC or AES-128-CBC")]
    Capabilities,
    /// The recipient's key cannot be encrypted to.
    #[error(
        "the key to encrypt to is not RSA, not EC on P-256, P-384 or P-521, not ML-KEM, and not an AES key of 128 or 256 bits"
    )]
    Key,
    /// The library refuses the recipient's key.
    #[error("nothing can be encrypted to the key that the request names")]
    Refused,
}

impl From<aws_lc_rs::error::Unspecified> for EnvelopeFault {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Refused
    }
}

impl From<der::Error> for EnvelopeFault {
    fn from(_: der::Error) -> Self {
        Self::Refused
    }
}

/// What opens a message.
pub(crate) enum Recipient {
    /// A public key: RSA, EC or ML-KEM.
    Public(Box<SubjectPublicKeyInfoOwned>),
    /// A secret that both sides have.
    Secret(Zeroizing<Vec<u8>>),
}

/// Encrypts a SignedData to a recipient, whom the identifier names. `capabilities` are the algorithms that the recipient says it can do;
/// none when it says nothing.
///
/// # Errors
/// An [`EnvelopeFault`].
pub(crate) fn seal(
    signed_data: Zeroizing<Vec<u8>>,
    recipient: &Recipient,
    identifier: &[u8],
    capabilities: Option<&[ObjectIdentifier]>,
) -> Result<Vec<u8>, EnvelopeFault> {
    let can = |kind: &ObjectIdentifier| capabilities.is_none_or(|can| can.contains(kind));
    let &(kind, cipher, length) = CONTENT_CIPHERS.iter().find(|row| can(&row.0)).ok_or(EnvelopeFault::Capabilities)?;
    let mut content_key = Zeroizing::new(vec![0; length]);
    rand::fill(&mut content_key)?;
    let info = match recipient {
        Recipient::Secret(secret) => by_secret(secret, identifier, &content_key)?,
        Recipient::Public(spki) => match judge_key(spki).map_err(|_| EnvelopeFault::Key)? {
            KeyKind::Rsa => by_rsa(spki, identifier, &content_key, capabilities)?,
            kind @ KeyKind::MlKem(_) => by_encapsulation(kind, spki, identifier, &content_key)?,
            kind => by_agreement(kind, spki, identifier, &content_key)?,
        },
    };
    let encrypting = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(cipher, &content_key)?)?;
    // The content is encrypted where it lies; what the vector leaves behind when it grows by the padding is avoided by room for it.
    let mut content = Zeroizing::new(Vec::with_capacity(signed_data.len() + 16));
    content.extend_from_slice(&signed_data);
    let DecryptionContext::Iv128(iv) = encrypting.encrypt(&mut *content)? else { return Err(EnvelopeFault::Refused) };
    let iv: &[u8; 16] = iv.as_ref();
    let encrypted = tlv::write(
        tlv::SEQUENCE,
        &[
            &SIGNED_DATA.to_der()?,
            &algorithm(kind, &tlv::write(tlv::OCTET_STRING, &[iv]))?,
            // [0] IMPLICIT OCTET STRING
            &tlv::write(0x80, &[&content]),
        ],
    );
    // Version 3 where a recipient is of another kind than those of old (RFC 5652 section 6.1).
    let version = if info.first() == Some(&OTHER_RECIPIENT) { 3 } else { 2 };
    let parts: &[&[u8]] = &[&[INTEGER, 1, version], &tlv::write(SET, &[&info]), &encrypted];
    Ok(content_info(ENVELOPED_DATA, &tlv::write(tlv::SEQUENCE, parts))?)
}

/// KeyTransRecipientInfo: RSAES-OAEP with SHA-256 (RFC 4055), or PKCS #1 v1.5 for who can do nothing else.
fn by_rsa(
    spki: &SubjectPublicKeyInfoOwned,
    identifier: &[u8],
    content_key: &[u8],
    capabilities: Option<&[ObjectIdentifier]>,
) -> Result<Vec<u8>, EnvelopeFault> {
    let public = PublicEncryptingKey::from_der(&spki.to_der()?).map_err(|_| EnvelopeFault::Refused)?;
    let mut encrypted = vec![0; public.key_size_bytes()];
    let only_old = capabilities.is_some_and(|can| can.contains(&key::RSA) && !can.contains(&RSA_OAEP));
    let scheme = if only_old {
        Pkcs1PublicEncryptingKey::new(public)?.encrypt(content_key, &mut encrypted)?;
        algorithm(key::RSA, NULL)?
    } else {
        OaepPublicEncryptingKey::new(public)?.encrypt(&OAEP_SHA256_MGF1SHA256, content_key, &mut encrypted, None)?;
        let hash = algorithm(SHA_256, NULL)?;
        let mask = algorithm(MGF1, &hash)?;
        let parameters =
            tlv::write(tlv::SEQUENCE, &[&tlv::write(context(0), &[&hash]), &tlv::write(context(1), &[&mask])]);
        algorithm(RSA_OAEP, &parameters)?
    };
    // Version 2: the recipient is named by [0] subjectKeyIdentifier.
    let parts: &[&[u8]] =
        &[&[INTEGER, 1, 2], &tlv::write(0x80, &[identifier]), &scheme, &tlv::write(tlv::OCTET_STRING, &[&encrypted])];
    Ok(tlv::write(tlv::SEQUENCE, parts))
}

/// KeyAgreeRecipientInfo: ephemeral-static ECDH (RFC 5753 section 3.1).
fn by_agreement(
    kind: KeyKind,
    spki: &SubjectPublicKeyInfoOwned,
    identifier: &[u8],
    content_key: &[u8],
) -> Result<Vec<u8>, EnvelopeFault> {
    let &(_, agreement, scheme, digest) = CURVES.iter().find(|row| row.0 == kind).ok_or(EnvelopeFault::Key)?;
    let ephemeral = EphemeralPrivateKey::generate(agreement, &SystemRandom::new())?;
    let own = ephemeral.compute_public_key()?;
    let theirs = UnparsedPublicKey::new(agreement, spki.subject_public_key.raw_bytes());
    let wrap = algorithm(AES_256_WRAP, &[])?;
    let shared_info = shared_info(&wrap);
    let kek = agree_ephemeral(ephemeral, theirs, EnvelopeFault::Refused, |secret| {
        // One round of the derivation of ANSI X9.63 gives more than the 256 bits that are needed.
        let mut context = digest::Context::new(digest);
        context.update(secret);
        context.update(&[0, 0, 0, 1]);
        context.update(&shared_info);
        Ok(Zeroizing::new(context.finish().as_ref()[..32].to_vec()))
    })?;
    let encrypted = wrapped(&kek, content_key)?;
    let point = tlv::write(0x03, &[&[0], own.as_ref()]);
    let originator = tlv::write(context(1), &[&spki.algorithm.to_der()?, &point]);
    // rKeyId [0] IMPLICIT RecipientKeyIdentifier
    let recipient = tlv::write(context(0), &[&tlv::write(tlv::OCTET_STRING, &[identifier])]);
    let recipient = tlv::write(tlv::SEQUENCE, &[&recipient, &tlv::write(tlv::OCTET_STRING, &[&encrypted])]);
    let parts: &[&[u8]] = &[
        &[INTEGER, 1, 3],
        &tlv::write(context(0), &[&originator]),
        &algorithm(scheme, &wrap)?,
        &tlv::write(tlv::SEQUENCE, &[&recipient]),
    ];
    Ok(tlv::write(context(1), parts))
}

/// ECC-CMS-SharedInfo (RFC 5753 section 7.2): the wrapping algorithm, and the length of its key in bits.
fn shared_info(wrap: &[u8]) -> Vec<u8> {
    let bits = tlv::write(tlv::OCTET_STRING, &[&256u32.to_be_bytes()]);
    tlv::write(tlv::SEQUENCE, &[wrap, &tlv::write(context(2), &[&bits])])
}

/// OtherRecipientInfo with a KEMRecipientInfo (RFC 9629 section 3): ML-KEM, HKDF with SHA-256 and AES key wrap.
fn by_encapsulation(
    kind: KeyKind,
    spki: &SubjectPublicKeyInfoOwned,
    identifier: &[u8],
    content_key: &[u8],
) -> Result<Vec<u8>, EnvelopeFault> {
    let &(_, set) = KEMS.iter().find(|row| row.0 == kind).ok_or(EnvelopeFault::Key)?;
    let theirs = kem::EncapsulationKey::new(set, spki.subject_public_key.raw_bytes());
    let (ciphertext, secret) = theirs.map_err(|_| EnvelopeFault::Refused)?.encapsulate()?;
    let wrap = algorithm(AES_256_WRAP, &[])?;
    let kek = derived(secret.as_ref(), &wrap)?;
    let encrypted = wrapped(&kek, content_key)?;
    let info: &[&[u8]] = &[
        &[INTEGER, 1, 0],
        // [0] subjectKeyIdentifier
        &tlv::write(0x80, &[identifier]),
        &spki.algorithm.to_der()?,
        &tlv::write(tlv::OCTET_STRING, &[ciphertext.as_ref()]),
        &algorithm(HKDF_SHA_256, &[])?,
        &[INTEGER, 1, KEK_LEN],
        &wrap,
        &tlv::write(tlv::OCTET_STRING, &[&encrypted]),
    ];
    Ok(tlv::write(OTHER_RECIPIENT, &[&ORI_KEM.to_der()?, &tlv::write(tlv::SEQUENCE, info)]))
}

/// The key that wraps, from an encapsulated secret: HKDF without salt, with CMSORIforKEMOtherInfo as its context (RFC 9629 section 5).
fn derived(secret: &[u8], wrap: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeFault> {
    let other_info = tlv::write(tlv::SEQUENCE, &[wrap, &[INTEGER, 1, KEK_LEN]]);
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret);
    let mut kek = Zeroizing::new(vec![0; usize::from(KEK_LEN)]);
    // As long as the digest.
    extracted.expand(&[&other_info], hkdf::HKDF_SHA256)?.fill(&mut kek)?;
    Ok(kek)
}

/// KEKRecipientInfo, version 4.
fn by_secret(secret: &[u8], identifier: &[u8], content_key: &[u8]) -> Result<Vec<u8>, EnvelopeFault> {
    let scheme = match secret.len() {
        16 => algorithm(AES_128_WRAP, &[])?,
        32 => algorithm(AES_256_WRAP, &[])?,
        _ => return Err(EnvelopeFault::Key),
    };
    let encrypted = wrapped(secret, content_key)?;
    let parts: &[&[u8]] = &[
        &[INTEGER, 1, 4],
        &tlv::write(tlv::SEQUENCE, &[&tlv::write(tlv::OCTET_STRING, &[identifier])]),
        &scheme,
        &tlv::write(tlv::OCTET_STRING, &[&encrypted]),
    ];
    Ok(tlv::write(context(2), parts))
}

/// AES key wrap (RFC 3394).
fn wrapped(kek: &[u8], content_key: &[u8]) -> Result<Vec<u8>, EnvelopeFault> {
    let cipher = if kek.len() == 16 { &key_wrap::AES_128 } else { &key_wrap::AES_256 };
    let mut output = vec![0; content_key.len() + 8];
    AesKek::new(cipher, kek)?.wrap(content_key, &mut output)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(recipient: &Recipient, capabilities: Option<&[ObjectIdentifier]>) -> Result<Vec<u8>, EnvelopeFault> {
        seal(Zeroizing::new(b"something secret".to_vec()), recipient, b"key-1", capabilities)
    }

    #[test]
    fn the_cipher_is_one_that_the_recipient_can_do() {
        let recipient = Recipient::Secret(Zeroizing::new(vec![7; 32]));
        let has = |message: &[u8], kind: ObjectIdentifier| {
            let kind = kind.to_der().expect("encodes");
            message.windows(kind.len()).any(|window| window == kind)
        };
        let rows: &[(Option<&[ObjectIdentifier]>, Option<ObjectIdentifier>)] = &[
            (None, Some(AES_256_CBC)),
            (Some(&[AES_128_CBC, AES_256_CBC]), Some(AES_256_CBC)),
            (Some(&[AES_128_CBC]), Some(AES_128_CBC)),
            (Some(&[oid("1.2.840.113549.3.7")]), None),
            (Some(&[]), None),
        ];
        for (capabilities, expected) in rows {
            match (sealed(&recipient, *capabilities), expected) {
                (Ok(message), Some(kind)) => assert!(has(&message, *kind), "{capabilities:?}"),
                (Err(EnvelopeFault::Capabilities), None) => {}
                (other, _) => panic!("{capabilities:?}: {:?}", other.err()),
            }
        }
    }

    /// Opened as its recipient opens it, step by step.
    #[test]
    fn what_is_sealed_to_an_ml_kem_key_is_opened_with_it() {
        use crate::x509::algorithm::bare_spki;
        for (set, algorithm) in [(&kem::ML_KEM_512, key::ML_KEM_512), (&kem::ML_KEM_1024, key::ML_KEM_1024)] {
            let own = kem::DecapsulationKey::generate(set).expect("a key");
            let public = own.encapsulation_key().and_then(|public| public.key_bytes()).expect("a public key");
            let recipient = Recipient::Public(Box::new(bare_spki(algorithm, public.as_ref()).expect("encodes")));
            let message = sealed(&recipient, None).expect("seals");
            let inside = |der: &[u8]| -> Vec<(u8, Vec<u8>)> {
                tlv::elements(der).map(|element| (element.tag, element.content.to_vec())).collect()
            };
            let data = inside(&inside(&inside(&message)[0].1)[1].1);
            let [version, recipients, encrypted] = inside(&data[0].1).try_into().expect("EnvelopedData");
            assert_eq!(version.1, [3]);
            let [other] = inside(&recipients.1).try_into().expect("one recipient");
            assert_eq!(other.0, OTHER_RECIPIENT);
            let info = inside(&inside(&other.1)[1].1);
            assert_eq!((info[1].0, info[1].1.as_slice()), (0x80, &b"key-1"[..]));
            let secret = own.decapsulate(kem::Ciphertext::from(info[3].1.as_slice())).expect("a secret");
            let kek = derived(secret.as_ref(), &tlv::write(tlv::SEQUENCE, &[&info[6].1])).expect("a key");
            let mut content_key = vec![0; 32];
            let unwrapping = AesKek::new(&key_wrap::AES_256, &kek).expect("a key");
            unwrapping.unwrap(&info[7].1, &mut content_key).expect("the content key");
            let encrypted = inside(&encrypted.1);
            let iv: [u8; 16] = inside(&encrypted[1].1)[1].1.as_slice().try_into().expect("an IV");
            let decrypting = UnboundCipherKey::new(&cipher::AES_256, &content_key).expect("a key");
            let decrypting = cipher::PaddedBlockDecryptingKey::cbc_pkcs7(decrypting).expect("a cipher");
            let mut content = encrypted[2].1.clone();
            let opened = decrypting.decrypt(&mut content, DecryptionContext::Iv128(iv.into())).expect("opens");
            assert_eq!(opened, b"something secret", "{algorithm}");
        }
    }

    #[test]
    fn no_message_shows_its_content_and_a_secret_of_another_size_is_refused() {
        let message = sealed(&Recipient::Secret(Zeroizing::new(vec![7; 16])), None).expect("seals");
        assert!(!message.windows(9).any(|window| window == b"something"));
        for length in [0, 15, 24, 33] {
            let recipient = Recipient::Secret(Zeroizing::new(vec![7; length]));
            assert_eq!(sealed(&recipient, None).err(), Some(EnvelopeFault::Key), "{length}");
        }
    }
}

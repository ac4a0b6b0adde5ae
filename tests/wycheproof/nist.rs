//! NIST's own values for what Wycheproof lacks: the response files of the validation programme (CAVP) for AES in its modes, the
//! digests, CMAC and key wrap, and RFC 4231 for HMAC. The files come with PyPI's `cryptography_vectors`, which
//! scripts/install-test-tools brings; without it the tests skip themselves.
//!
//! Of a file with many cases every n-th is run, so that a file has about [`MOST`]; `NIST_ALL=1` runs them all. What is not run is
//! counted with its reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use acceptance::raw::Room;
use acceptance::raw::call::Parameter;
use acceptance::world::World;
use acceptance::{daemon, module_test, tools};
use cryptoki_sys::*;

use crate::bench::{Bench, readable};

/// The cases of one file that are run, about.
const MOST: usize = 60;

/// What a case says, by name in upper case, with what its section says.
type Case = BTreeMap<String, String>;

/// What the module did with a case: nothing to object, what is wrong, or why it was not run.
enum Saw {
    Right,
    Wrong(String),
    Skipped(&'static str),
}

type Try = fn(&Bench, CK_MECHANISM_TYPE, &Case) -> Saw;

/// Files of one kind: their directory, how their names begin, and what is done with a case.
struct Files {
    directory: &'static str,
    begins: &'static str,
    mechanism: CK_MECHANISM_TYPE,
    attempt: Try,
}

const fn files(directory: &'static str, begins: &'static str, mechanism: CK_MECHANISM_TYPE, attempt: Try) -> Files {
    Files { directory, begins, mechanism, attempt }
}

/// The cipher modes, over AES-128, 192 and 256.
const CIPHERS: [Files; 11] = [
    files("ciphers/AES/ECB", "ECB", CKM_AES_ECB, cipher),
    files("ciphers/AES/CBC", "CBC", CKM_AES_CBC, cipher),
    files("ciphers/AES/CTR", "aes", CKM_AES_CTR, cipher),
    files("ciphers/AES/XTS/tweak-128hexstr", "XTS", CKM_AES_XTS, xts),
    files("ciphers/AES/GCM", "gcm", CKM_AES_GCM, gcm),
    files("ciphers/AES/CCM", "VADT", CKM_AES_CCM, ccm),
    files("ciphers/AES/CCM", "VNT", CKM_AES_CCM, ccm),
    files("ciphers/AES/CCM", "VPT", CKM_AES_CCM, ccm),
    files("ciphers/AES/CCM", "VTT", CKM_AES_CCM, ccm),
    files("ciphers/AES/CCM", "DVPT", CKM_AES_CCM, ccm),
    files("CMAC", "nist-800-38b-aes", CKM_AES_CMAC, cmac),
];

const WRAPS: [Files; 4] = [
    files("keywrap/kwtestvectors", "KW_AE", CKM_AES_KEY_WRAP, wrap),
    files("keywrap/kwtestvectors", "KW_AD", CKM_AES_KEY_WRAP, unwrap),
    files("keywrap/kwtestvectors", "KWP_AE", CKM_AES_KEY_WRAP_KWP, wrap),
    files("keywrap/kwtestvectors", "KWP_AD", CKM_AES_KEY_WRAP_KWP, unwrap),
];

const DIGESTS: [Files; 16] = [
    files("hashes/SHA1", "SHA1", CKM_SHA_1, digest),
    files("hashes/SHA2", "SHA224", CKM_SHA224, digest),
    files("hashes/SHA2", "SHA256", CKM_SHA256, digest),
    files("hashes/SHA2", "SHA384", CKM_SHA384, digest),
    files("hashes/SHA2", "SHA512L", CKM_SHA512, digest),
    files("hashes/SHA2", "SHA512S", CKM_SHA512, digest),
    files("hashes/SHA2", "SHA512_224", CKM_SHA512_224, digest),
    files("hashes/SHA2", "SHA512_256", CKM_SHA512_256, digest),
    files("hashes/SHA3", "SHA3_224", CKM_SHA3_224, digest),
    files("hashes/SHA3", "SHA3_256", CKM_SHA3_256, digest),
    files("hashes/SHA3", "SHA3_384", CKM_SHA3_384, digest),
    files("hashes/SHA3", "SHA3_512", CKM_SHA3_512, digest),
    files("HMAC", "rfc-4231-sha224", CKM_SHA224_HMAC, hmac),
    files("HMAC", "rfc-4231-sha256", CKM_SHA256_HMAC, hmac),
    files("HMAC", "rfc-4231-sha384", CKM_SHA384_HMAC, hmac),
    files("HMAC", "rfc-4231-sha512", CKM_SHA512_HMAC, hmac),
];

module_test! {
    fn nist_ciphers(world) {
        run(world, "nist_ciphers", &CIPHERS);
    }
}

module_test! {
    fn nist_key_wrap(world) {
        run(world, "nist_key_wrap", &WRAPS);
    }
}

module_test! {
    fn nist_digests_and_macs(world) {
        run(world, "nist_digests_and_macs", &DIGESTS);
    }
}

fn run(world: &mut World, test: &str, table: &[Files]) {
    let Some(root) = vectors() else { return tools::skip(test, "cryptography_vectors not found") };
    let bench = Bench::new(world);
    for row in table {
        assert!(bench.lists(row.mechanism), "{:#x} is not listed", row.mechanism);
        let (mut run, mut skipped, mut wrong) = (0, BTreeMap::<&str, usize>::new(), Vec::new());
        for path in named(&root.join(row.directory), row.begins) {
            let cases = cases(&fs::read_to_string(&path).expect("a file of vectors"));
            assert!(!cases.is_empty(), "{}: no case was understood", path.display());
            let step = if std::env::var_os("NIST_ALL").is_some() { 1 } else { cases.len().div_ceil(MOST) };
            for case in cases.iter().step_by(step) {
                run += 1;
                match (row.attempt)(&bench, row.mechanism, case) {
                    Saw::Right => {}
                    Saw::Wrong(how) => wrong.push(format!("{}: {how}", path.display())),
                    Saw::Skipped(why) => *skipped.entry(why).or_default() += 1,
                }
            }
        }
        let left = skipped.values().sum::<usize>();
        println!("\nTABLE nist {:<28} run {:>5}  skipped {skipped:?}  wrong {}", row.begins, run - left, wrong.len());
        let shown = wrong.iter().take(5).map(|line| format!("\n  {line}")).collect::<String>();
        assert!(wrong.is_empty(), "{} {}: {} wrong answers:{shown}", row.directory, row.begins, wrong.len());
        assert!(run > left, "{} {}: nothing was run", row.directory, row.begins);
    }
}

/// Where pip has put the files.
fn vectors() -> Option<PathBuf> {
    let versions = fs::read_dir(daemon::workspace().join(".venv/lib")).ok()?;
    let places = versions.flatten().map(|version| version.path().join("site-packages/cryptography_vectors"));
    places.into_iter().find(|place| place.is_dir())
}

/// The response files whose names begin so, in order. Monte Carlo files chain a thousand operations, and those of the inverse cipher
/// (SP 800-38F section 5.1) are about a function that PKCS#11 does not have.
fn named(directory: &Path, begins: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let beside = path.extension().is_some_and(|end| end == "txt") && path.with_extension("rsp").exists();
            name.starts_with(begins) && !name.contains("Monte") && !name.contains("_inv") && !beside
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{}: no file begins with {begins}", directory.display());
    found
}

/// The cases of a file: lines of `NAME = value` between blank lines, the first being a count or a length; `[...]` and what stands
/// outside a case holds for the cases that follow.
fn cases(text: &str) -> Vec<Case> {
    let (mut section, mut cases, mut open) = (Case::new(), Vec::<Case>::new(), None::<Case>);
    for line in text.lines().map(str::trim).chain([""]) {
        if line.is_empty() {
            cases.extend(open.take());
        }
        let (is_section, inner) = match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => (true, inner),
            None => (false, line),
        };
        if inner.is_empty() || inner.starts_with('#') {
            continue;
        }
        for field in inner.split(',') {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let (name, value) = (name.trim().to_uppercase(), value.trim().to_owned());
            if !is_section && open.is_none() && (name == "COUNT" || name == "LEN") {
                open = Some(section.clone());
            }
            open.as_mut().filter(|_| !is_section).unwrap_or(&mut section).insert(name, value);
        }
    }
    cases
}

fn bytes(case: &Case, name: &str) -> Vec<u8> {
    let text = case.get(name).map_or("", String::as_str);
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn number(case: &Case, name: &str) -> usize {
    case.get(name).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} is no number: {case:?}"))
}

/// The first bytes of a value: of none at all the files write one.
fn first(case: &Case, name: &str, len: usize) -> Vec<u8> {
    let mut value = bytes(case, name);
    value.truncate(len);
    value
}

fn judge(what: &str, case: &Case, rv: CK_RV, got: &[u8], expected: &[u8]) -> Saw {
    match (rv, got == expected) {
        (CKR_OK, true) => Saw::Right,
        (CKR_OK, false) => Saw::Wrong(format!("{what} gives something else: {case:?}")),
        _ => Saw::Wrong(format!("{what}: {rv:#x}: {case:?}")),
    }
}

fn judge_refusal(case: &Case, rv: CK_RV) -> Saw {
    match rv {
        CKR_OK => Saw::Wrong(format!("accepted, and should not: {case:?}")),
        CKR_GENERAL_ERROR | CKR_DEVICE_ERROR | CKR_FUNCTION_FAILED => Saw::Wrong(format!("{rv:#x}: {case:?}")),
        _ => Saw::Right,
    }
}

/// Both directions of a cipher; a ciphertext that must not open does not.
fn both(
    bench: &Bench,
    (mechanism, key_type): (CK_MECHANISM_TYPE, CK_KEY_TYPE),
    case: &Case,
    key: &[u8],
    parameter: impl Fn() -> Parameter,
    [plain, sealed]: [&[u8]; 2],
) -> Saw {
    let key = bench.secret(key_type, key, &[CKA_ENCRYPT, CKA_DECRYPT]).expect("a key of the standard's size");
    let opened = bench.raw.decrypt_once(bench.session, mechanism, parameter(), key, sealed);
    let fails = case.contains_key("FAIL") || case.get("RESULT").is_some_and(|result| result.starts_with("Fail"));
    let saw = match fails {
        true => judge_refusal(case, opened.rv),
        false => judge("C_Decrypt", case, opened.rv, &opened.bytes, plain),
    };
    let saw = match saw {
        Saw::Right if !fails => {
            let done = bench.raw.encrypt_once(bench.session, mechanism, parameter(), key, plain);
            judge("C_Encrypt", case, done.rv, &done.bytes, sealed)
        }
        saw => saw,
    };
    bench.drop(key);
    saw
}

fn cipher(bench: &Bench, mechanism: CK_MECHANISM_TYPE, case: &Case) -> Saw {
    let iv = bytes(case, "IV");
    let parameter = || match (mechanism, iv.split_first_chunk::<8>()) {
        // The counter block lies in the structure itself.
        (CKM_AES_CTR, Some((high, low))) => {
            let low = low.try_into().expect("sixteen bytes");
            Parameter::words(&[32, CK_ULONG::from_ne_bytes(*high), CK_ULONG::from_ne_bytes(low)])
        }
        _ => Parameter::bytes(&iv),
    };
    let (plain, sealed) = (bytes(case, "PLAINTEXT"), bytes(case, "CIPHERTEXT"));
    both(bench, (mechanism, CKK_AES), case, &bytes(case, "KEY"), parameter, [&plain, &sealed])
}

fn xts(bench: &Bench, mechanism: CK_MECHANISM_TYPE, case: &Case) -> Saw {
    if !number(case, "DATAUNITLEN").is_multiple_of(8) {
        return Saw::Skipped("a data unit that is not of whole bytes");
    }
    let tweak = bytes(case, "I");
    let (plain, sealed) = (bytes(case, "PT"), bytes(case, "CT"));
    let parameter = || Parameter::bytes(&tweak);
    both(bench, (mechanism, CKK_AES_XTS), case, &bytes(case, "KEY"), parameter, [&plain, &sealed])
}

fn gcm(bench: &Bench, mechanism: CK_MECHANISM_TYPE, case: &Case) -> Saw {
    let (iv, aad, tag) = (bytes(case, "IV"), bytes(case, "AAD"), bytes(case, "TAG"));
    let bits = |bytes: &[u8]| bytes.len() as CK_ULONG * 8;
    let parameter = || Parameter::none().pointer_len(&iv).word(bits(&iv)).pointer_len(&aad).word(bits(&tag));
    let (plain, sealed) = (bytes(case, "PT"), [bytes(case, "CT"), tag.clone()].concat());
    both(bench, (mechanism, CKK_AES), case, &bytes(case, "KEY"), parameter, [&plain, &sealed])
}

fn ccm(bench: &Bench, mechanism: CK_MECHANISM_TYPE, case: &Case) -> Saw {
    let (nonce, aad) = (bytes(case, "NONCE"), first(case, "ADATA", number(case, "ALEN")));
    let (plain, sealed) = (first(case, "PAYLOAD", number(case, "PLEN")), bytes(case, "CT"));
    let (len, mac) = (number(case, "PLEN") as CK_ULONG, number(case, "TLEN") as CK_ULONG);
    let parameter = || Parameter::words(&[len]).pointer_len(&nonce).pointer_len(&aad).word(mac);
    both(bench, (mechanism, CKK_AES), case, &bytes(case, "KEY"), parameter, [&plain, &sealed])
}

fn cmac(bench: &Bench, mechanism: CK_MECHANISM_TYPE, case: &Case) -> Saw {
    signed(bench, (mechanism, CKK_AES), case, &bytes(case, "KEY"), [&bytes(case, "MESSAGE"), &bytes(case, "OUTPUT")])
}

fn hmac(bench: &Bench, mechanism: CK_MECHANISM_TYPE, case: &Case) -> Saw {
    let key = bytes(case, "KEY");
    signed(bench, (mechanism, CKK_GENERIC_SECRET), case, &key, [&bytes(case, "MSG"), &bytes(case, "MD")])
}

/// A MAC is made, of which the file may give the beginning only, and verified.
fn signed(
    bench: &Bench,
    (mechanism, key_type): (CK_MECHANISM_TYPE, CK_KEY_TYPE),
    case: &Case,
    key: &[u8],
    [data, mac]: [&[u8]; 2],
) -> Saw {
    let key = bench.secret(key_type, key, &[CKA_SIGN, CKA_VERIFY]).expect("a key");
    let done = bench.raw.sign_once(bench.session, mechanism, Parameter::none(), key, data);
    let saw = match judge("C_Sign", case, done.rv, done.bytes.get(..mac.len()).unwrap_or_default(), mac) {
        Saw::Right => match bench.verify(mechanism, Parameter::none(), key, data, &done.bytes) {
            CKR_OK => Saw::Right,
            rv => Saw::Wrong(format!("C_Verify: {rv:#x}: {case:?}")),
        },
        saw => saw,
    };
    bench.drop(key);
    saw
}

fn digest(bench: &Bench, mechanism: CK_MECHANISM_TYPE, case: &Case) -> Saw {
    let message = first(case, "MSG", number(case, "LEN") / 8);
    judge("C_Digest", case, CKR_OK, &bench.digest(mechanism, &message), &bytes(case, "MD"))
}

fn wrapping_key(bench: &Bench, case: &Case) -> CK_OBJECT_HANDLE {
    bench.secret(CKK_AES, &bytes(case, "K"), &[CKA_WRAP, CKA_UNWRAP]).expect("an AES key")
}

fn wrap(bench: &Bench, mechanism: CK_MECHANISM_TYPE, case: &Case) -> Saw {
    let key = wrapping_key(bench, case);
    let target = bench.secret(CKK_GENERIC_SECRET, &bytes(case, "P"), &[]).expect("a secret");
    let done = bench.raw.wrap_key(bench.session, mechanism, key, target);
    [key, target].into_iter().for_each(|key| bench.drop(key));
    judge("C_WrapKey", case, done.rv, &done.bytes, &bytes(case, "C"))
}

fn unwrap(bench: &Bench, mechanism: CK_MECHANISM_TYPE, case: &Case) -> Saw {
    let key = wrapping_key(bench, case);
    let template = readable(CKO_SECRET_KEY, CKK_GENERIC_SECRET);
    let made = bench.raw.unwrap_key(bench.session, mechanism, key, &bytes(case, "C"), template);
    bench.drop(key);
    if case.contains_key("FAIL") {
        return judge_refusal(case, made.err().unwrap_or(CKR_OK));
    }
    match made {
        Err(rv) => Saw::Wrong(format!("C_UnwrapKey: {rv:#x}: {case:?}")),
        Ok(key) => {
            let read = bench.raw.attribute(bench.session, key, CKA_VALUE, Room::Bytes(20_000));
            bench.drop(key);
            judge("C_UnwrapKey", case, read.rv, &read.bytes, &bytes(case, "P"))
        }
    }
}

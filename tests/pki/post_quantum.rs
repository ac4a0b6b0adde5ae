//! The post-quantum PKI: the demonstration is the test.

use std::process::Command;

use acceptance::daemon::binary;
use acceptance::tools::{available, run, skip};

#[test]
fn an_ml_dsa_device_enrols_renews_and_is_verified_by_an_implementation_of_others() {
    let test = "an_ml_dsa_device_enrols_renews_and_is_verified_by_an_implementation_of_others";
    if !["python3", "curl"].iter().all(|tool| available(test, tool)) {
        return;
    }
    let programs = binary("craton-pki").parent().expect("a folder").to_path_buf();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/demo-pq");
    let finished = run(Command::new(script).env("CRATON_BIN_DIR", programs).env_remove("PKCS11_MODULE"));
    if finished.status.code() == Some(77) {
        skip(test, "python cryptography with ML-DSA not found");
        return;
    }
    assert!(finished.status.success(), "{finished}");
    let said = String::from_utf8_lossy(&finished.stdout).into_owned();
    for line in ["signed with ML-DSA-87", "signed with ML-DSA-65", "a forged signature is refused", "demo-pq: done"] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

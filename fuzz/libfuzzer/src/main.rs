//! libFuzzer's entry: it plays the target that CRATON_FUZZ_TARGET names.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<&hsm_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("CRATON_FUZZ_TARGET").expect("CRATON_FUZZ_TARGET names a target");
    hsm_fuzz::target(&name).unwrap_or_else(|| panic!("there is no target {name}"))
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));

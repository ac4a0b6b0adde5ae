//! Mechanism lists and infos (PKCS#11 v3.0 §5.5.5 and §5.5.6): the documented table is what applications are told, and sizes are
//! such that clients which step through them come to an end.

use acceptance::module::{self, Token};
use acceptance::raw::Raw;
use acceptance::{daemon, module_test};
use cryptoki_sys::*;

/// Number, smallest key, largest key, policy: the rows of the page that are always there.
fn documented() -> Vec<(CK_MECHANISM_TYPE, String, String)> {
    let page = std::fs::read_to_string(daemon::workspace().join("docs/mechanisms.md")).expect("the page is there");
    let row = |line: &str| {
        let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        let number = u64::from_str_radix(cells.get(1)?.strip_prefix("0x")?, 16).ok()?;
        Some((number, cells.get(5)?.clone(), cells.get(8)?.clone()))
    };
    page.lines().filter_map(row).collect()
}

module_test! {
    fn the_documented_mechanisms_are_the_ones_listed(_world) {
        let token = Token::open();
        let raw = Raw::load(&module::path());
        let listed = raw.mechanisms(token.slot.id()).expect("the list");
        let documented = documented();
        assert!(documented.len() >= listed.len(), "{} documented, {} listed", documented.len(), listed.len());
        for number in &listed {
            let (_, sizes, _) = documented.iter().find(|row| row.0 == *number).unwrap_or_else(|| panic!("{number:#x} is not documented"));
            let (min, max, _) = raw.mechanism_info(token.slot.id(), *number).expect("its info");
            let told: Vec<u64> = sizes.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let expected = match told.as_slice() {
                [] => (0, 0),
                [one] => (*one, *one),
                [min, max, ..] => (*min, *max),
            };
            assert_eq!((min, max), expected, "{number:#x}");
        }
        for (number, _, policy) in documented.iter().filter(|row| row.2.starts_with("always")) {
            assert!(listed.contains(number), "{number:#x} is documented as {policy} and not listed");
        }
    }
}

module_test! {
    fn sizes_can_be_stepped_through(_world) {
        // A key management service steps from the smallest RSA key to the largest by 128 below 1024 bits and by 1024 above, and
        // over curves up to but without the largest: other bounds make it loop for ever, or lose a curve.
        let token = Token::open();
        let raw = Raw::load(&module::path());
        let info = |mechanism| raw.mechanism_info(token.slot.id(), mechanism).expect("a listed mechanism");
        for mechanism in [CKM_RSA_PKCS, CKM_RSA_PKCS_PSS, CKM_RSA_PKCS_KEY_PAIR_GEN] {
            let (min, max, _) = info(mechanism);
            assert!(min % 128 == 0 && max % 1024 == 0 && min < max, "{mechanism:#x}: {min} to {max}");
        }
        let (min, max, _) = info(CKM_ECDSA);
        assert!(min <= 256 && max == 521, "{min} to {max}");
    }
}

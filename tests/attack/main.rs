//! The attack table: every known way to get a secret out of a PKCS#11 token, or to use one as an oracle, one row each. A row is a
//! function that plays the attacker through the C functions. On the default profile no row may leak; each switch of the profile
//! "compat" opens its own rows and no other; and the same functions run against SoftHSM2, which shows that they can find something.

mod attributes;
mod derivation;
mod grants;
mod identity;
mod operations;
mod target;
mod wrapping;

use acceptance::world::World;
use acceptance::{module_test, tools};
use target::Target;

/// How an attack ended: nothing, or what was got.
pub(crate) type Verdict = Result<(), String>;

type Attack = fn(&Target) -> Verdict;

macro_rules! rows {
    ($($room:ident :: $name:ident)*) => {
        /// Every row that can be tried on any token.
        const ROWS: &[(&str, Attack)] = &[$((stringify!($name), $room::$name)),*];

        $(
            module_test! {
                fn $name(_world) {
                    $room::$name(&Target::craton()).unwrap_or_else(|leak| panic!("{leak}"));
                }
            }
        )*
    };
}

rows! {
    wrapping::a01_wrap_then_decrypt
    wrapping::a01b_turn_decrypt_on
    wrapping::a01c_copy_into_a_decrypting_key
    wrapping::a02_wrap_by_the_public_decrypt_by_the_private_half
    attributes::a03_read_a_secret
    attributes::a05_sensitive_cannot_be_downgraded
    wrapping::a06_inject_a_known_key
    wrapping::a07_unwrap_as_readable
    wrapping::a08_wrap_under_a_known_key
    wrapping::a09_aes_wraps_a_stronger_key
    wrapping::a09b_short_rsa_wraps
    wrapping::a09c_oaep_with_a_short_hash_wraps
    wrapping::a10_lose_wrap_with_trusted
    attributes::a11_user_sets_trusted
    derivation::a12_derive_as_extraction
    derivation::a12b_clone_a_key_for_other_uses
    operations::a13_invalid_points
    operations::a14_digest_a_sensitive_key
    operations::a15_short_macs
    operations::a17_short_gcm_tags
    operations::a18_raw_rsa
    wrapping::a19_pkcs1_unwrap_oracle
    wrapping::a19b_cbc_pad_unwrap_oracle
    attributes::a20_check_value_of_a_sensitive_key
    operations::a21_operations_outlive_the_logout
    operations::a22_weak_rsa
    operations::a22b_broken_rsa
    wrapping::a23_trojan_public_key
    attributes::a24_secrets_in_templates
    attributes::a25_escape_modifiable
    attributes::a26_forge_history
    operations::a29_allowed_mechanisms
}

/// The rows that leak on this target, by the number in their names. A row that finds no ground to stand on panics: on our token that is
/// a failure, on the control the row is left out.
fn leaking(target: &Target, every_row_must_run: bool) -> Vec<&'static str> {
    let mut leaking = Vec::new();
    for (name, attack) in ROWS {
        let number = name.split('_').next().unwrap_or(name);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(target))) {
            Ok(Ok(())) => println!("{number}: closed"),
            Ok(Err(leak)) => {
                println!("{number}: {leak}");
                leaking.push(number);
            }
            Err(_) => {
                assert!(!every_row_must_run, "{number} could not be tried");
                println!("{number}: cannot be tried here");
                target.begin_again();
            }
        }
    }
    leaking
}

/// Runs the daemon with one switch open and gives the rows that leak then.
fn leaking_with(world: &mut World, switch: &str) -> Vec<&'static str> {
    world.stop_daemon();
    world.configure(&format!("[policy]\nprofile = \"compat\"\n{switch}"));
    world.start_daemon();
    let target = Target::craton();
    let leaking = leaking(&target, true);
    if switch.starts_with("rsa_v15_unwrap") {
        wrapping::pkcs1_unwrap_has_one_outcome(&target);
    }
    if switch.starts_with("legacy_derive") {
        derivation::every_old_derivation_is_used(&target);
    }
    leaking
}

macro_rules! switches {
    ($($test:ident: $switch:literal => $rows:expr;)*) => {
        $(
            module_test! {
                fn $test(world) {
                    let expected: &[&str] = &$rows;
                    assert_eq!(leaking_with(world, $switch), expected);
                }
            }
        )*
    };
}

switches! {
    wrap_role_separation_opens_its_row: "wrap_role_separation = false" => ["a01"];
    usage_bits_settable_opens_its_rows: "usage_bits_settable = true" => ["a01b", "a01c"];
    wrap_public_requires_trusted_opens_its_rows: "wrap_public_requires_trusted = false" => ["a02", "a23"];
    cbc_unwrap_opens_its_rows: "cbc_unwrap = true" => ["a06", "a19b"];
    unwrap_secrecy_inherit_opens_its_row: "unwrap_secrecy_inherit = false" => ["a07"];
    wrap_requires_local_opens_its_row: "wrap_requires_local = false" => ["a08"];
    wrap_strength_check_opens_its_row: "wrap_strength_check = false" => ["a09"];
    wrap_rsa_min_opens_its_row: "wrap_rsa_min = 2048" => ["a09b"];
    wrap_oaep_any_hash_opens_its_row: "wrap_oaep_any_hash = true" => ["a09c"];
    legacy_derive_reads_nothing_and_opens_its_row: "legacy_derive = true" => ["a12b"];
    derived_key_check_opens_its_row: "derived_key_check = false" => ["a12"];
    digest_sensitive_opens_its_row: "digest_sensitive = true" => ["a14"];
    mac_min_bytes_opens_its_row: "mac_min_bytes = 1" => ["a15"];
    gcm_min_tag_bits_opens_its_row: "gcm_min_tag_bits = 32" => ["a17"];
    raw_rsa_opens_its_row: "raw_rsa = true" => ["a18"];
    rsa_v15_unwrap_opens_its_row: "rsa_v15_unwrap = true" => ["a19"];
    kcv_opens_its_row: "kcv = true" => ["a20"];
    allow_legacy_rsa_opens_its_row: "allow_legacy_rsa = true" => ["a22"];
}

module_test! {
    fn the_control_leaks(world) {
        let Some(library) = tools::softhsm() else {
            return tools::skip("the_control_leaks", "libsofthsm2.so not found");
        };
        let leaking = leaking(&Target::softhsm(world, &library), false);
        let known = ["a01", "a01b", "a01c", "a02", "a07", "a08", "a09", "a14", "a17", "a18", "a20", "a21", "a22", "a22b"];
        for row in known {
            assert!(leaking.contains(&row), "{row} finds nothing in SoftHSM2, where there is something: {leaking:?}");
        }
    }
}

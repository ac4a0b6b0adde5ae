//! `docs/mechanisms.md`, written from the mechanism table; this test fails when the page is stale.
//!
//! `CRATON_WRITE_DOCS=1 cargo test --workspace --lib mechanism::document` writes it anew.

use ck::flags::mechanism::*;
use ck::object::*;

use super::row::{Class, Row};
use super::table::TABLE;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mechanisms.md");

const HEAD: &str = "# Mechanisms

Written from the table that the token answers C_GetMechanismList and C_GetMechanismInfo from; do not edit.

Sizes are in the unit of PKCS#11 for the mechanism. \"Policy\" says when a row is there: `algorithms.*` and `policy.*` are keys of
`craton_hsm.toml`. With `algorithms.allow_weak_rsa` RSA begins at 1024 bits. Names beginning with ML and SLH, and their numbers, are
those of PKCS#11 3.2, the others those of PKCS#11 3.0.

| number | name | functions | keys | sizes | parameter | parts | policy |
| --- | --- | --- | --- | --- | --- | --- | --- |
";

const FUNCTIONS: [(u64, &str); 13] = [
    (CKF_ENCRYPT, "encrypt"),
    (CKF_DECRYPT, "decrypt"),
    (CKF_DIGEST, "digest"),
    (CKF_SIGN, "sign"),
    (CKF_SIGN_RECOVER, "sign-recover"),
    (CKF_VERIFY, "verify"),
    (CKF_VERIFY_RECOVER, "verify-recover"),
    (CKF_GENERATE, "generate"),
    (CKF_GENERATE_KEY_PAIR, "generate-pair"),
    (CKF_WRAP, "wrap"),
    (CKF_UNWRAP, "unwrap"),
    (CKF_DERIVE, "derive"),
    (CKF_ENCAPSULATE | CKF_DECAPSULATE, "encapsulate"),
];

fn line(row: &Row) -> String {
    let name = row.number.name().unwrap_or("vendor");
    let functions: Vec<&str> =
        FUNCTIONS.iter().filter(|(flag, _)| row.flags & flag != 0).map(|(_, name)| *name).collect();
    let keys: Vec<&str> = row.key_types.iter().map(|kind| kind.name().unwrap_or("?")).collect();
    let unit = match row.key_types.first() {
        Some(&(CKK_RSA | CKK_EC | CKK_EC_EDWARDS | CKK_EC_MONTGOMERY)) => "bits",
        _ => "bytes",
    };
    let sizes = match row.sizes {
        (0, 0) => String::new(),
        (min, max) if min == max => format!("{min} {unit}"),
        (min, max) => format!("{min} to {max} {unit}"),
    };
    let policy = match row.class {
        Class::Approved => "always".to_owned(),
        Class::VerifyOnly => "always; signing by `algorithms.allow_sha1_signing`".to_owned(),
        Class::PostQuantum => "`algorithms.enable_pqc`".to_owned(),
        Class::Legacy => "`algorithms.allow_legacy`".to_owned(),
        Class::RawRsa => "`policy.raw_rsa`".to_owned(),
        Class::LegacyDerive => "`policy.legacy_derive`".to_owned(),
        Class::PasswordKey => "`policy.cbc_unwrap`".to_owned(),
        Class::Unapproved => "always; FIPS 140-3 does not approve it".to_owned(),
    };
    let (parts, parameter) = (if row.multi_part { "many" } else { "one" }, format!("{:?}", row.parameter));
    let number = row.number.0;
    format!(
        "| {number:#010x} | {name} | {} | {} | {sizes} | {parameter} | {parts} | {policy} |\n",
        functions.join(", "),
        keys.join(", ")
    )
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test reads, and when asked to writes, a page of the documentation")]
fn the_page_is_what_the_table_says() {
    let mut rows: Vec<&Row> = TABLE.iter().collect();
    rows.sort_unstable_by_key(|row| row.number);
    let page = HEAD.to_owned() + &rows.into_iter().map(line).collect::<String>();
    if std::env::var_os("CRATON_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    let stale = "docs/mechanisms.md is stale: CRATON_WRITE_DOCS=1 cargo test --workspace --lib mechanism::document";
    assert!(written == page, "{stale}");
}

//! THE attribute table: which object may have which attribute, its default, and the standard's footnotes about it.
//!
//! Rows compose as the standard composes them: common, storage, key, public/private/secret key, then the key type
//! (PKCS#11 v3.0 §4.2 to §4.10, and the key objects of the mechanism chapters). Footnote numbers are those of §4.2, Table 11.
//! What a footnote *does* is written once, in `template.rs`.

use ck::attribute::*;
use ck::mechanism::CKM_SHA_1;
use ck::object::*;
use ck::{Attribute, KeyType, ObjectClass};

/// A set of footnotes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Notes(u32);

impl Notes {
    /// Whether any of `other` is set.
    pub(crate) const fn has(self, other: Notes) -> bool {
        self.0 & other.0 != 0
    }

    /// The union of two sets.
    pub(crate) const fn and(self, other: Notes) -> Notes {
        Notes(self.0 | other.0)
    }
}

/// No footnote.
pub(crate) const NONE: Notes = Notes(0);
/// 1: must be in the template of C_CreateObject.
pub(crate) const F1_ON_CREATE: Notes = Notes(1 << 1);
/// 2: must not be in the template of C_CreateObject.
pub(crate) const F2_NOT_CREATE: Notes = Notes(1 << 2);
/// 3: must be in the template of C_GenerateKey(Pair).
pub(crate) const F3_ON_GENERATE: Notes = Notes(1 << 3);
/// 4: must not be in the template of C_GenerateKey(Pair).
pub(crate) const F4_NOT_GENERATE: Notes = Notes(1 << 4);
/// 5: must be in the template of C_UnwrapKey. No row of the key types offered needs it; the number is kept free.
/// 6: must not be in the template of C_UnwrapKey, nor of C_DeriveKey.
pub(crate) const F6_NOT_UNWRAP: Notes = Notes(1 << 6);
/// 7: not revealed when CKA_SENSITIVE is true or CKA_EXTRACTABLE is false.
pub(crate) const F7_HIDDEN: Notes = Notes(1 << 7);
/// 8: may be changed by C_SetAttributeValue and in a copy.
pub(crate) const F8_MODIFIABLE: Notes = Notes(1 << 8);
/// 10: only the SO may set it to true.
pub(crate) const F10_SO_ONLY: Notes = Notes(1 << 10);
/// 11: once true it stays true.
pub(crate) const F11_STICKY_TRUE: Notes = Notes(1 << 11);
/// 12: once false it stays false.
pub(crate) const F12_STICKY_FALSE: Notes = Notes(1 << 12);
/// Ours: computed by the token; no template may carry it.
pub(crate) const COMPUTED: Notes = Notes(1 << 16);
/// Ours: may be given another value in a copy, though not set afterwards (PKCS#11 v3.0 §5.7.2).
pub(crate) const ON_COPY: Notes = Notes(1 << 17);

/// What an attribute is when the template does not say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Default {
    /// The object does not have the attribute.
    Absent,
    /// An empty value.
    Empty,
    /// A boolean.
    Bool(bool),
    /// A number.
    Ulong(u64),
    /// The public exponent 65537.
    F4,
    /// A usage attribute: on or off by key type.
    Usage,
}

/// One row.
pub(crate) struct Row {
    /// The attribute.
    pub(crate) kind: Attribute,
    /// Its value when nobody gives one.
    pub(crate) default: Default,
    /// Its footnotes.
    pub(crate) notes: Notes,
}

const fn row(kind: Attribute, default: Default, notes: Notes) -> Row {
    Row { kind, default, notes }
}

const TRUE: Default = Default::Bool(true);
const FALSE: Default = Default::Bool(false);
/// Part of the key's value: given at creation, made by generation, found by unwrapping.
const MATERIAL: Notes = F1_ON_CREATE.and(F4_NOT_GENERATE).and(F6_NOT_UNWRAP);
const SECRET_MATERIAL: Notes = MATERIAL.and(F7_HIDDEN);
/// As `MATERIAL`, but the token can do without it at creation.
const OPTIONAL_MATERIAL: Notes = F4_NOT_GENERATE.and(F6_NOT_UNWRAP);
const OPTIONAL_SECRET: Notes = OPTIONAL_MATERIAL.and(F7_HIDDEN);

/// §4.2 and §4.4: every object that can be stored.
const STORAGE: &[Row] = &[
    row(CKA_CLASS, Default::Absent, F1_ON_CREATE),
    row(CKA_TOKEN, FALSE, ON_COPY),
    row(CKA_PRIVATE, FALSE, ON_COPY.and(F11_STICKY_TRUE)),
    row(CKA_MODIFIABLE, TRUE, ON_COPY.and(F12_STICKY_FALSE)),
    row(CKA_LABEL, Default::Empty, F8_MODIFIABLE),
    row(CKA_COPYABLE, TRUE, F8_MODIFIABLE.and(F12_STICKY_FALSE)),
    row(CKA_DESTROYABLE, TRUE, F8_MODIFIABLE.and(ON_COPY)),
    row(CKA_UNIQUE_ID, Default::Absent, COMPUTED),
];

/// §4.5: data objects.
const DATA: &[Row] = &[
    row(CKA_APPLICATION, Default::Empty, F8_MODIFIABLE),
    row(CKA_OBJECT_ID, Default::Empty, F8_MODIFIABLE),
    row(CKA_VALUE, Default::Empty, F8_MODIFIABLE),
];

/// §4.6: certificates, and §4.6.3: X.509 public key certificates.
const CERTIFICATE: &[Row] = &[
    row(CKA_CERTIFICATE_TYPE, Default::Absent, F1_ON_CREATE),
    row(CKA_TRUSTED, FALSE, F8_MODIFIABLE.and(F10_SO_ONLY)),
    row(CKA_CERTIFICATE_CATEGORY, Default::Ulong(0), NONE),
    row(CKA_CHECK_VALUE, Default::Absent, NONE),
    row(CKA_START_DATE, Default::Empty, NONE),
    row(CKA_END_DATE, Default::Empty, NONE),
    row(CKA_PUBLIC_KEY_INFO, Default::Empty, NONE),
    row(CKA_SUBJECT, Default::Absent, F1_ON_CREATE),
    row(CKA_ID, Default::Empty, F8_MODIFIABLE),
    row(CKA_ISSUER, Default::Empty, F8_MODIFIABLE),
    row(CKA_SERIAL_NUMBER, Default::Empty, F8_MODIFIABLE),
    row(CKA_VALUE, Default::Empty, NONE),
    row(CKA_URL, Default::Empty, NONE),
    row(CKA_HASH_OF_SUBJECT_PUBLIC_KEY, Default::Empty, NONE),
    row(CKA_HASH_OF_ISSUER_PUBLIC_KEY, Default::Empty, NONE),
    row(CKA_JAVA_MIDP_SECURITY_DOMAIN, Default::Ulong(0), NONE),
    row(CKA_NAME_HASH_ALGORITHM, Default::Ulong(CKM_SHA_1.0), NONE),
];

/// §4.3, §4.12 and §4.13: what the token itself has. Nothing of it can be set.
const HARDWARE_FEATURE: &[Row] = &[
    row(CKA_HW_FEATURE_TYPE, Default::Absent, NONE),
    row(CKA_VALUE, Default::Absent, NONE),
    row(CKA_RESET_ON_INIT, Default::Absent, NONE),
    row(CKA_HAS_RESET, Default::Absent, NONE),
];
const MECHANISM: &[Row] = &[row(CKA_MECHANISM_TYPE, Default::Absent, NONE)];
const PROFILE: &[Row] = &[row(CKA_PROFILE_ID, Default::Absent, NONE)];

/// §4.7: every key.
const KEY: &[Row] = &[
    row(CKA_KEY_TYPE, Default::Absent, F1_ON_CREATE),
    row(CKA_ID, Default::Empty, F8_MODIFIABLE),
    row(CKA_START_DATE, Default::Empty, F8_MODIFIABLE),
    row(CKA_END_DATE, Default::Empty, F8_MODIFIABLE),
    row(CKA_LOCAL, Default::Absent, COMPUTED),
    row(CKA_KEY_GEN_MECHANISM, Default::Absent, COMPUTED),
    row(CKA_ALLOWED_MECHANISMS, Default::Absent, NONE),
];

/// §4.8: public keys.
const PUBLIC: &[Row] = &[
    row(CKA_SUBJECT, Default::Empty, F8_MODIFIABLE),
    row(CKA_TRUSTED, FALSE, F8_MODIFIABLE.and(F10_SO_ONLY)),
    row(CKA_WRAP_TEMPLATE, Default::Absent, NONE),
    row(CKA_ENCAPSULATE_TEMPLATE, Default::Absent, NONE),
    row(CKA_PUBLIC_KEY_INFO, Default::Absent, COMPUTED),
];

/// §4.9: private keys.
const PRIVATE: &[Row] = &[
    row(CKA_SUBJECT, Default::Empty, F8_MODIFIABLE),
    row(CKA_SENSITIVE, TRUE, F8_MODIFIABLE.and(F11_STICKY_TRUE)),
    row(CKA_EXTRACTABLE, FALSE, F8_MODIFIABLE.and(F12_STICKY_FALSE)),
    row(CKA_ALWAYS_SENSITIVE, Default::Absent, COMPUTED),
    row(CKA_NEVER_EXTRACTABLE, Default::Absent, COMPUTED),
    row(CKA_WRAP_WITH_TRUSTED, FALSE, F8_MODIFIABLE.and(F11_STICKY_TRUE)),
    row(CKA_UNWRAP_TEMPLATE, Default::Absent, NONE),
    row(CKA_DERIVE_TEMPLATE, Default::Absent, NONE),
    row(CKA_DECAPSULATE_TEMPLATE, Default::Absent, NONE),
    row(CKA_ALWAYS_AUTHENTICATE, FALSE, NONE),
    row(CKA_PUBLIC_KEY_INFO, Default::Absent, COMPUTED),
    // Ours: given at generation or never, and kept for ever.
    row(CKA_CRATON_ISSUANCE_POLICY, Default::Absent, F2_NOT_CREATE.and(F6_NOT_UNWRAP)),
    row(CKA_CRATON_SIGNATURE_COUNT, Default::Absent, COMPUTED),
];

/// §4.10: secret keys.
const SECRET: &[Row] = &[
    row(CKA_SENSITIVE, TRUE, F8_MODIFIABLE.and(F11_STICKY_TRUE)),
    row(CKA_EXTRACTABLE, FALSE, F8_MODIFIABLE.and(F12_STICKY_FALSE)),
    row(CKA_ALWAYS_SENSITIVE, Default::Absent, COMPUTED),
    row(CKA_NEVER_EXTRACTABLE, Default::Absent, COMPUTED),
    row(CKA_WRAP_WITH_TRUSTED, FALSE, F8_MODIFIABLE.and(F11_STICKY_TRUE)),
    row(CKA_TRUSTED, FALSE, F8_MODIFIABLE.and(F10_SO_ONLY)),
    row(CKA_WRAP_TEMPLATE, Default::Absent, NONE),
    row(CKA_UNWRAP_TEMPLATE, Default::Absent, NONE),
    row(CKA_DERIVE_TEMPLATE, Default::Absent, NONE),
    row(CKA_CHECK_VALUE, Default::Absent, NONE),
];

const RSA_PUBLIC: &[Row] = &[
    row(CKA_MODULUS, Default::Absent, MATERIAL),
    row(CKA_MODULUS_BITS, Default::Absent, F2_NOT_CREATE.and(F3_ON_GENERATE)),
    row(CKA_PUBLIC_EXPONENT, Default::F4, F1_ON_CREATE),
];

const RSA_PRIVATE: &[Row] = &[
    row(CKA_MODULUS, Default::Absent, MATERIAL),
    row(CKA_PUBLIC_EXPONENT, Default::Absent, OPTIONAL_MATERIAL),
    row(CKA_PRIVATE_EXPONENT, Default::Absent, SECRET_MATERIAL),
    row(CKA_PRIME_1, Default::Absent, OPTIONAL_SECRET),
    row(CKA_PRIME_2, Default::Absent, OPTIONAL_SECRET),
    row(CKA_EXPONENT_1, Default::Absent, OPTIONAL_SECRET),
    row(CKA_EXPONENT_2, Default::Absent, OPTIONAL_SECRET),
    row(CKA_COEFFICIENT, Default::Absent, OPTIONAL_SECRET),
];

/// Weierstrass, Edwards and Montgomery curves.
const EC_PUBLIC: &[Row] = &[
    row(CKA_EC_PARAMS, Default::Absent, F1_ON_CREATE.and(F3_ON_GENERATE)),
    row(CKA_EC_POINT, Default::Absent, MATERIAL),
];

const EC_PRIVATE: &[Row] = &[
    row(CKA_EC_PARAMS, Default::Absent, F1_ON_CREATE.and(F4_NOT_GENERATE).and(F6_NOT_UNWRAP)),
    row(CKA_VALUE, Default::Absent, SECRET_MATERIAL),
    row(CKA_EC_POINT, Default::Absent, OPTIONAL_MATERIAL),
];

/// ML-DSA, ML-KEM and SLH-DSA (PKCS#11 3.2).
const SEEDED_PUBLIC: &[Row] = &[
    row(CKA_PARAMETER_SET, Default::Absent, F1_ON_CREATE.and(F3_ON_GENERATE)),
    row(CKA_VALUE, Default::Absent, MATERIAL),
];

const SEEDED_PRIVATE: &[Row] = &[
    row(CKA_PARAMETER_SET, Default::Absent, F1_ON_CREATE.and(F4_NOT_GENERATE).and(F6_NOT_UNWRAP)),
    row(CKA_SEED, Default::Absent, OPTIONAL_SECRET),
    row(CKA_VALUE, Default::Absent, OPTIONAL_SECRET),
];

const SLH_DSA_PRIVATE: &[Row] = &[
    row(CKA_PARAMETER_SET, Default::Absent, F1_ON_CREATE.and(F4_NOT_GENERATE).and(F6_NOT_UNWRAP)),
    row(CKA_VALUE, Default::Absent, SECRET_MATERIAL),
];

/// Every secret key: AES, generic secrets and HMAC keys.
const SECRET_VALUE: &[Row] = &[
    row(CKA_VALUE, Default::Absent, SECRET_MATERIAL),
    row(CKA_VALUE_LEN, Default::Absent, F2_NOT_CREATE.and(F3_ON_GENERATE)),
];

/// A triple DES key, whose length is always the same.
const DES3_VALUE: &[Row] = &[row(CKA_VALUE, Default::Absent, SECRET_MATERIAL)];

/// HMAC key types: a generic secret that names its hash.
pub(crate) const HMAC_KEY_TYPES: [KeyType; 11] = [
    CKK_SHA_1_HMAC,
    CKK_SHA224_HMAC,
    CKK_SHA256_HMAC,
    CKK_SHA384_HMAC,
    CKK_SHA512_HMAC,
    CKK_SHA512_224_HMAC,
    CKK_SHA512_256_HMAC,
    CKK_SHA3_224_HMAC,
    CKK_SHA3_256_HMAC,
    CKK_SHA3_384_HMAC,
    CKK_SHA3_512_HMAC,
];

/// What a public key may be used for; on or off by key type.
const PUBLIC_USAGE: &[Row] = &[
    usage(CKA_ENCRYPT),
    usage(CKA_VERIFY),
    usage(CKA_VERIFY_RECOVER),
    usage(CKA_WRAP),
    usage(CKA_DERIVE),
    usage(CKA_ENCAPSULATE),
];

/// What a private key may be used for.
const PRIVATE_USAGE: &[Row] = &[
    usage(CKA_DECRYPT),
    usage(CKA_SIGN),
    usage(CKA_SIGN_RECOVER),
    usage(CKA_UNWRAP),
    usage(CKA_DERIVE),
    usage(CKA_DECAPSULATE),
];

/// What a secret key may be used for.
const SECRET_USAGE: &[Row] = &[
    usage(CKA_ENCRYPT),
    usage(CKA_DECRYPT),
    usage(CKA_SIGN),
    usage(CKA_VERIFY),
    usage(CKA_WRAP),
    usage(CKA_UNWRAP),
    usage(CKA_DERIVE),
];

/// A usage attribute: true by default where the key type can do it, because Java's keytool and other clients rely on it.
const fn usage(kind: Attribute) -> Row {
    row(kind, Default::Usage, F8_MODIFIABLE.and(F12_STICKY_FALSE))
}

/// The rows of one kind of object, in the order in which they compose; `None` for a kind that is not offered.
pub(crate) fn rows(class: ObjectClass, key_type: Option<KeyType>) -> Option<Schema> {
    let (parts, on) = match (class, key_type) {
        (CKO_DATA, _) => ([STORAGE, DATA, &[], &[], &[]], NOTHING),
        (CKO_CERTIFICATE, _) => ([STORAGE, CERTIFICATE, &[], &[], &[]], NOTHING),
        (CKO_HW_FEATURE, None) => ([STORAGE, HARDWARE_FEATURE, &[], &[], &[]], NOTHING),
        (CKO_MECHANISM, None) => ([STORAGE, MECHANISM, &[], &[], &[]], NOTHING),
        (CKO_PROFILE, None) => ([STORAGE, PROFILE, &[], &[], &[]], NOTHING),
        (CKO_PUBLIC_KEY, Some(kind)) => {
            let (material, on) = public(kind)?;
            ([STORAGE, KEY, PUBLIC, material, PUBLIC_USAGE], on)
        }
        (CKO_PRIVATE_KEY, Some(kind)) => {
            let (material, on) = private(kind)?;
            ([STORAGE, KEY, PRIVATE, material, PRIVATE_USAGE], on)
        }
        (CKO_SECRET_KEY, Some(CKK_DES3)) => ([STORAGE, KEY, SECRET, DES3_VALUE, SECRET_USAGE], secret(CKK_DES3)?),
        (CKO_SECRET_KEY, Some(kind)) => ([STORAGE, KEY, SECRET, SECRET_VALUE, SECRET_USAGE], secret(kind)?),
        _ => return None,
    };
    Some(Schema { class, parts, on })
}

/// Attributes that are true by default.
type On = &'static [Attribute];

const NOTHING: On = &[];

fn public(kind: KeyType) -> Option<(&'static [Row], On)> {
    match kind {
        CKK_RSA => Some((RSA_PUBLIC, &[CKA_ENCRYPT, CKA_VERIFY, CKA_VERIFY_RECOVER, CKA_WRAP])),
        CKK_EC => Some((EC_PUBLIC, &[CKA_VERIFY, CKA_DERIVE])),
        CKK_EC_EDWARDS => Some((EC_PUBLIC, &[CKA_VERIFY])),
        CKK_EC_MONTGOMERY => Some((EC_PUBLIC, &[CKA_DERIVE])),
        CKK_ML_DSA => Some((SEEDED_PUBLIC, &[CKA_VERIFY])),
        CKK_ML_KEM => Some((SEEDED_PUBLIC, &[CKA_ENCAPSULATE])),
        CKK_SLH_DSA => Some((SEEDED_PUBLIC, &[CKA_VERIFY])),
        _ => None,
    }
}

fn private(kind: KeyType) -> Option<(&'static [Row], On)> {
    match kind {
        CKK_RSA => Some((RSA_PRIVATE, &[CKA_DECRYPT, CKA_SIGN, CKA_SIGN_RECOVER, CKA_UNWRAP])),
        CKK_EC => Some((EC_PRIVATE, &[CKA_SIGN, CKA_DERIVE])),
        CKK_EC_EDWARDS => Some((EC_PRIVATE, &[CKA_SIGN])),
        CKK_EC_MONTGOMERY => Some((EC_PRIVATE, &[CKA_DERIVE])),
        CKK_ML_DSA => Some((SEEDED_PRIVATE, &[CKA_SIGN])),
        CKK_ML_KEM => Some((SEEDED_PRIVATE, &[CKA_DECAPSULATE])),
        CKK_SLH_DSA => Some((SLH_DSA_PRIVATE, &[CKA_SIGN])),
        _ => None,
    }
}

fn secret(kind: KeyType) -> Option<On> {
    match kind {
        CKK_AES => Some(&[CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP]),
        CKK_AES_XTS | CKK_DES3 => Some(&[CKA_ENCRYPT, CKA_DECRYPT]),
        CKK_GENERIC_SECRET => Some(&[CKA_SIGN, CKA_VERIFY, CKA_DERIVE]),
        CKK_HKDF => Some(&[CKA_DERIVE]),
        kind if HMAC_KEY_TYPES.contains(&kind) => Some(&[CKA_SIGN, CKA_VERIFY, CKA_DERIVE]),
        _ => None,
    }
}

/// The attributes of one kind of object.
#[derive(Clone, Copy)]
pub(crate) struct Schema {
    /// The class that the rows describe.
    pub(crate) class: ObjectClass,
    parts: [&'static [Row]; 5],
    on: On,
}

impl Schema {
    /// Every row.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static Row> + use<> {
        self.parts.into_iter().flatten()
    }

    /// The row of one attribute.
    pub(crate) fn row(&self, kind: Attribute) -> Option<&'static Row> {
        self.iter().find(|row| row.kind == kind)
    }

    /// Whether a usage attribute is true by default for this key type.
    pub(crate) fn is_on(&self, usage: Attribute) -> bool {
        self.on.contains(&usage)
    }

    /// CKA_PRIVATE when the template says nothing: keys that hold a secret are private (PKCS#11 v3.0 §4.4 leaves it to the token).
    pub(crate) fn private_by_default(&self) -> bool {
        matches!(self.class, CKO_PRIVATE_KEY | CKO_SECRET_KEY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attribute_has_two_rows_in_one_kind_of_object() {
        let key_types = [
            CKK_RSA,
            CKK_EC,
            CKK_EC_EDWARDS,
            CKK_EC_MONTGOMERY,
            CKK_ML_DSA,
            CKK_ML_KEM,
            CKK_AES,
            CKK_GENERIC_SECRET,
            CKK_SHA256_HMAC,
        ];
        let classes = [CKO_DATA, CKO_CERTIFICATE, CKO_PUBLIC_KEY, CKO_PRIVATE_KEY, CKO_SECRET_KEY];
        let offered = classes.iter().flat_map(|&class| key_types.map(|kind| (class, kind)));
        let offered: Vec<_> =
            offered.filter_map(|(class, kind)| Some((class, kind, rows(class, Some(kind))?))).collect();
        assert_eq!(offered.len(), 9 + 9 + 6 + 6 + 3);
        for (class, key_type, schema) in offered {
            let mut seen: Vec<_> = schema.iter().map(|row| row.kind).collect();
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), count, "{class} {key_type:?}");
        }
    }

    #[test]
    fn every_secret_part_of_a_key_is_hidden() {
        for key_type in [CKK_RSA, CKK_EC, CKK_EC_EDWARDS, CKK_EC_MONTGOMERY, CKK_ML_DSA, CKK_ML_KEM] {
            let schema = rows(CKO_PRIVATE_KEY, Some(key_type)).expect("offered");
            for row in schema.iter().filter(|row| row.kind.is_key_part()) {
                assert!(row.notes.has(F7_HIDDEN), "{key_type} {}", row.kind);
            }
            let hidden: Vec<_> = schema.iter().filter(|row| row.notes.has(F7_HIDDEN)).collect();
            assert!(!hidden.is_empty() && hidden.iter().all(|row| row.kind.is_key_part()), "{key_type}");
        }
    }
}

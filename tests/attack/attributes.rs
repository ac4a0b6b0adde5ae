//! Rows about what attributes tell and who changes them: A3 to A5, A11, A20, A24 to A26.

use acceptance::raw::key::{Call, Template, number};
use cryptoki_sys::*;

use crate::Verdict;
use crate::target::{Target, exposed, hidden, is, only, secret_key};

/// CKA_EC_PARAMS of P-256 and of Ed25519.
pub(crate) const P256: &[u8] = acceptance::module::P256;
const ED25519: &[u8] = acceptance::module::ED25519;

/// The attributes that hold a key's secret.
const SECRETS: [CK_ATTRIBUTE_TYPE; 8] = [
    CKA_VALUE,
    CKA_PRIVATE_EXPONENT,
    CKA_PRIME_1,
    CKA_PRIME_2,
    CKA_EXPONENT_1,
    CKA_EXPONENT_2,
    CKA_COEFFICIENT,
    CKA_SEED,
];

/// One key of every kind that the token makes, with these attributes.
fn keys_of_every_kind(target: &Target, secrecy: &Template) -> Vec<(&'static str, CK_OBJECT_HANDLE)> {
    let token = vec![is(CKA_TOKEN, false)];
    let private = [token.clone(), secrecy.clone()].concat();
    let mut keys = vec![("AES", target.aes(32, std::slice::from_ref(secrecy)))];
    let generic = [private.clone(), vec![(CKA_VALUE_LEN, number(32u64))]].concat();
    let generic = target.raw.generate(target.session, &Call::plain(CKM_GENERIC_SECRET_KEY_GEN), &generic);
    keys.push(("generic secret", generic.expect("a generic secret")));
    let pairs = [
        ("RSA", CKM_RSA_PKCS_KEY_PAIR_GEN, (CKA_MODULUS_BITS, number(2048u64))),
        ("EC", CKM_EC_KEY_PAIR_GEN, (CKA_EC_PARAMS, P256.to_vec())),
        ("Edwards", CKM_EC_EDWARDS_KEY_PAIR_GEN, (CKA_EC_PARAMS, ED25519.to_vec())),
        ("ML-DSA", CKM_ML_DSA_KEY_PAIR_GEN, (CKA_PARAMETER_SET, number(CKP_ML_DSA_44))),
    ];
    for (name, mechanism, parameter) in pairs {
        if target.lists(mechanism) {
            let mut public = [token.clone(), vec![parameter]].concat();
            if mechanism == CKM_RSA_PKCS_KEY_PAIR_GEN {
                public.push((CKA_PUBLIC_EXPONENT, vec![1, 0, 1]));
            }
            let pair = target.raw.generate_pair(target.session, &Call::plain(mechanism), &public, &private);
            keys.push((name, pair.unwrap_or_else(|rv| panic!("{name}: {rv:#x}")).1));
        }
    }
    keys
}

/// Read the secret of a key that is sensitive, or not extractable.
pub(crate) fn a03_read_a_secret(target: &Target) -> Verdict {
    for secrecy in [hidden(), vec![is(CKA_SENSITIVE, false), is(CKA_EXTRACTABLE, false)]] {
        for (name, key) in keys_of_every_kind(target, &secrecy) {
            for kind in SECRETS {
                if target.raw.get(target.session, key, kind).is_ok_and(|value| !value.is_empty()) {
                    return Err(format!("{kind:#x} of a {name} key is shown"));
                }
            }
        }
    }
    Ok(())
}

/// Downgrade what protects a key, by C_SetAttributeValue and by C_CopyObject.
pub(crate) fn a05_sensitive_cannot_be_downgraded(target: &Target) -> Verdict {
    let generated =
        || target.aes(32, &[vec![is(CKA_SENSITIVE, true), is(CKA_EXTRACTABLE, false), is(CKA_PRIVATE, true)]]);
    let imported = || target.import_aes(&[1; 32], &[vec![is(CKA_SENSITIVE, true), is(CKA_EXTRACTABLE, false)]]);
    let rows = [
        (CKA_SENSITIVE, false),
        (CKA_EXTRACTABLE, true),
        (CKA_PRIVATE, false),
        (CKA_ALWAYS_SENSITIVE, true),
        (CKA_NEVER_EXTRACTABLE, true),
        (CKA_LOCAL, true),
    ];
    for (kind, worse) in rows {
        let is_history = matches!(kind, CKA_ALWAYS_SENSITIVE | CKA_NEVER_EXTRACTABLE | CKA_LOCAL);
        let key = if is_history { imported().expect("an imported key") } else { generated() };
        assert_eq!(target.flag(key, kind), Some(!worse), "{kind:#x} to begin with");
        let rv = target.raw.set(target.session, key, &vec![is(kind, worse)]);
        if target.flag(key, kind) == Some(worse) {
            return Err(format!("{kind:#x} was set to {worse} ({rv:#x})"));
        }
        let copy = target.raw.copy(target.session, key, &vec![is(kind, worse)]);
        if copy.is_ok_and(|copy| target.flag(copy, kind) == Some(worse)) {
            return Err(format!("{kind:#x} of a copy is {worse}"));
        }
    }
    Ok(())
}

/// An ordinary user makes a key trusted.
pub(crate) fn a11_user_sets_trusted(target: &Target) -> Verdict {
    let trusted = vec![is(CKA_TRUSTED, true)];
    let session = target.session;
    let plain = target.wrapper(32);
    let value = target.aes(32, &[exposed()]);
    let wrapped = target.raw.wrap(session, &Call::plain(CKM_AES_KEY_WRAP), plain, value).expect("wraps a readable key");
    let derived = crate::operations::ecdh(target, &trusted);
    let set = target.raw.set(session, plain, &trusted);
    let child = [secret_key(CKK_AES), trusted.clone()].concat();
    let made = [
        ("generated", target.try_aes(32, std::slice::from_ref(&trusted))),
        ("created", target.import_aes(&[1; 32], std::slice::from_ref(&trusted))),
        ("set", if set == CKR_OK { Ok(plain) } else { Err(set) }),
        ("copied", target.raw.copy(session, plain, &trusted)),
        ("unwrapped", target.raw.unwrap(session, &Call::plain(CKM_AES_KEY_WRAP), plain, &wrapped, &child)),
        ("derived", derived),
    ];
    for (how, result) in made {
        if result.is_ok_and(|key| target.flag(key, CKA_TRUSTED) == Some(true)) {
            return Err(format!("a {how} key is trusted on the user's word"));
        }
    }
    Ok(())
}

/// Compare keys across tokens by their check value, or forge one.
pub(crate) fn a20_check_value_of_a_sensitive_key(target: &Target) -> Verdict {
    let prey = target.prey();
    match target.raw.get(target.session, prey, CKA_CHECK_VALUE) {
        Ok(value) if !value.is_empty() => {
            return Err(format!("the check value of a sensitive key is shown: {value:x?}"));
        }
        _ => {}
    }
    let forged = target.import_aes(&[0; 16], &[vec![(CKA_CHECK_VALUE, vec![1, 2, 3])]]);
    match forged.map(|key| target.raw.get(target.session, key, CKA_CHECK_VALUE)) {
        Ok(Ok(value)) if value == [1, 2, 3] => Err("a wrong check value was taken at its word".into()),
        _ => Ok(()),
    }
}

/// Bring a secret along in a template that must not carry one.
pub(crate) fn a24_secrets_in_templates(target: &Target) -> Verdict {
    let session = target.session;
    let wrapper = target.wrapper(32);
    let value = target.aes(32, &[exposed()]);
    let wrapped =
        target.raw.wrap(session, &Call::plain(CKM_AES_KEY_WRAP), wrapper, value).expect("wraps a readable key");
    for kind in SECRETS {
        let planted = vec![(kind, vec![0x42; 32])];
        let child = [secret_key(CKK_AES), planted.clone()].concat();
        let made = [
            ("C_GenerateKey", target.try_aes(32, &[exposed(), planted.clone()])),
            ("C_CopyObject", target.raw.copy(session, value, &planted)),
            ("C_UnwrapKey", target.raw.unwrap(session, &Call::plain(CKM_AES_KEY_WRAP), wrapper, &wrapped, &child)),
            ("C_DeriveKey", crate::operations::ecdh(target, &planted)),
        ];
        for (function, result) in made {
            if result.is_ok() {
                return Err(format!("{function} took {kind:#x} in its template"));
            }
        }
    }
    Ok(())
}

/// Escape CKA_MODIFIABLE, CKA_COPYABLE and CKA_DESTROYABLE.
pub(crate) fn a25_escape_modifiable(target: &Target) -> Verdict {
    let session = target.session;
    let label = vec![(CKA_LABEL, b"other".to_vec())];
    let fixed = target.aes(32, &[vec![is(CKA_MODIFIABLE, false)]]);
    if target.raw.set(session, fixed, &label) == CKR_OK {
        return Err("an object with CKA_MODIFIABLE false was modified".into());
    }
    let copy = target.raw.copy(session, fixed, &vec![is(CKA_MODIFIABLE, true)]);
    if copy.is_ok_and(|copy| target.flag(copy, CKA_MODIFIABLE) == Some(true)) {
        return Err("a copy may be modified, its original may not".into());
    }
    let single = target.aes(32, &[vec![is(CKA_COPYABLE, false)]]);
    if target.raw.copy(session, single, &vec![]).is_ok() {
        return Err("an object with CKA_COPYABLE false was copied".into());
    }
    if target.raw.set(session, single, &vec![is(CKA_COPYABLE, true)]) == CKR_OK {
        return Err("CKA_COPYABLE was turned on again".into());
    }
    if let Ok(lasting) = target.try_aes(32, &[vec![is(CKA_DESTROYABLE, false)]])
        && target.raw.destroy(session, lasting) == CKR_OK
    {
        return Err("an object with CKA_DESTROYABLE false was destroyed".into());
    }
    Ok(())
}

/// Forge a key's past when it is created.
pub(crate) fn a26_forge_history(target: &Target) -> Verdict {
    for kind in [CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE] {
        let forged = vec![is(CKA_SENSITIVE, true), is(CKA_EXTRACTABLE, false), is(kind, true)];
        let key = target.import_aes(&[1; 32], &[only(&[CKA_WRAP]), forged]);
        if key.is_ok_and(|key| target.flag(key, kind) == Some(true)) {
            return Err(format!("an imported key claims {kind:#x}"));
        }
    }
    Ok(())
}

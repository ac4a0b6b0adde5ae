//! Rows about keys that are computed from keys: A12. The old derivations give back their base key, or a piece of it, or what whoever
//! encrypts can compute; so what comes of a sensitive key must be as secret as the key, and never so short that it can be guessed.

use acceptance::raw::key::{Call, Parameter, Template, Use, number};
use cryptoki_sys::*;

use crate::Verdict;
use crate::target::{Target, exposed, hidden, is, only, secret_key};

/// A derivation, and how long what it gives of a key of 32 bytes is.
struct Derivation {
    call: Call,
    whole: u64,
}

/// The derivations that only `policy.legacy_derive` offers. The other key is one that the base key is joined with.
fn old(other: CK_OBJECT_HANDLE) -> Vec<Derivation> {
    let data = || Parameter::StringData(vec![0; 32]);
    let handle = Parameter::Bytes(number(other));
    [
        (CKM_CONCATENATE_BASE_AND_KEY, handle, 64),
        (CKM_CONCATENATE_BASE_AND_DATA, data(), 64),
        (CKM_CONCATENATE_DATA_AND_BASE, data(), 64),
        (CKM_XOR_BASE_AND_DATA, data(), 32),
        (CKM_EXTRACT_KEY_FROM_KEY, Parameter::Bytes(number(0u64)), 32),
        (CKM_AES_ECB_ENCRYPT_DATA, data(), 32),
        (CKM_AES_CBC_ENCRYPT_DATA, Parameter::CbcData([0; 16], vec![0; 32]), 32),
    ]
    .map(|(mechanism, parameter, whole)| Derivation { call: Call { mechanism, parameter }, whole })
    .into()
}

/// A generic secret of this length, with more in its template.
fn derive(
    target: &Target,
    derivation: &Derivation,
    base: CK_OBJECT_HANDLE,
    len: u64,
    more: &Template,
) -> Result<CK_OBJECT_HANDLE, CK_RV> {
    let template = [secret_key(CKK_GENERIC_SECRET), vec![(CKA_VALUE_LEN, number(len))], more.clone()].concat();
    target.raw.derive(target.session, &derivation.call, base, &template)
}

/// Keys to derive from that nobody may read. They do nothing else, so that no rule about other uses stands in the way.
fn bases(target: &Target) -> [CK_OBJECT_HANDLE; 2] {
    let inside = vec![is(CKA_SENSITIVE, true), is(CKA_EXTRACTABLE, false)];
    [hidden(), inside].map(|secrecy| target.aes(32, &[secrecy, only(&[CKA_DERIVE])]))
}

/// Read a sensitive key, or what it protects, out of what is derived from it.
pub(crate) fn a12_derive_as_extraction(target: &Target) -> Verdict {
    let known = target.aes(32, &[exposed(), only(&[CKA_DERIVE])]);
    let mut derivations = old(known);
    derivations.push(Derivation { call: Call::plain(CKM_SHA256_KEY_DERIVATION), whole: 32 });
    for base in bases(target) {
        let is_extractable = target.flag(base, CKA_EXTRACTABLE) == Some(true);
        for derivation in &derivations {
            let mechanism = derivation.call.mechanism;
            let children = [exposed(), vec![is(CKA_SENSITIVE, false)], vec![is(CKA_EXTRACTABLE, true)], vec![]];
            for more in &children {
                let Ok(child) = derive(target, derivation, base, derivation.whole, more) else { continue };
                if let Some(value) = target.value(child) {
                    return Err(format!("{mechanism:#x} gives a readable child: {value:x?}"));
                }
                if !is_extractable && target.flag(child, CKA_EXTRACTABLE) == Some(true) {
                    return Err(format!("{mechanism:#x} gives a child that may leave of a key that may not"));
                }
            }
            if derive(target, derivation, base, 1, &vec![]).is_ok() {
                return Err(format!("{mechanism:#x} gives a child of one byte, which can be guessed"));
            }
            // A piece of a digest tells nothing of the rest; a piece of a key, or one after known data, is guessed byte by byte.
            let is_digest = mechanism == CKM_SHA256_KEY_DERIVATION;
            for len in [derivation.whole / 2, derivation.whole / 2 + 1, derivation.whole - 1] {
                if !is_digest && derive(target, derivation, base, len, &vec![]).is_ok() {
                    return Err(format!("{mechanism:#x} cuts its result to {len} bytes"));
                }
            }
        }
    }
    derive_what_encryption_shows(target)
}

/// A key that encrypts shows what is "derived" by encryption.
fn derive_what_encryption_shows(target: &Target) -> Verdict {
    let base = target.aes(32, &[hidden(), only(&[CKA_DERIVE, CKA_ENCRYPT])]);
    for derivation in old(base).iter().filter(|derivation| derivation.call.mechanism == CKM_AES_ECB_ENCRYPT_DATA) {
        if derive(target, derivation, base, derivation.whole, &hidden()).is_ok() {
            let ecb = Call::plain(CKM_AES_ECB);
            let value = target.raw.apply(target.session, Use::Encrypt, &ecb, base, &[0; 32]);
            return Err(format!("C_Encrypt gives the value of a derived sensitive key: {value:x?}"));
        }
    }
    Ok(())
}

/// Give the secret of a key that only signs and derives to a key that decrypts: the same bytes, exclusive-or nothing.
pub(crate) fn a12b_clone_a_key_for_other_uses(target: &Target) -> Verdict {
    let base = target.aes(32, &[hidden(), only(&[CKA_SIGN, CKA_DERIVE])]);
    let call = Call { mechanism: CKM_XOR_BASE_AND_DATA, parameter: Parameter::StringData(vec![0; 32]) };
    let uses = only(&[CKA_SIGN, CKA_DECRYPT]);
    let template = [secret_key(CKK_AES), vec![(CKA_VALUE_LEN, number(32u64))], uses].concat();
    let Ok(child) = target.raw.derive(target.session, &call, base, &template) else { return Ok(()) };
    let mac =
        |key| target.raw.apply(target.session, Use::Sign, &Call::plain(CKM_AES_CMAC), key, b"data").expect("a MAC");
    if mac(base) == mac(child) && target.flag(child, CKA_DECRYPT) == Some(true) {
        return Err("a key that only signs and derives has a twin that decrypts".into());
    }
    Ok(())
}

/// With the switch open every old derivation works on a sensitive key, so that the row above was really tried with each.
pub(crate) fn every_old_derivation_is_used(target: &Target) {
    let known = target.aes(32, &[exposed(), only(&[CKA_DERIVE])]);
    for base in bases(target) {
        for derivation in old(known) {
            let mechanism = derivation.call.mechanism;
            let child = derive(target, &derivation, base, derivation.whole, &vec![]);
            let child = child.unwrap_or_else(|rv| panic!("{mechanism:#x}: {rv:#x}"));
            assert_eq!(target.flag(child, CKA_SENSITIVE), Some(true), "{mechanism:#x}");
            assert_eq!(target.flag(child, CKA_EXTRACTABLE), Some(false), "{mechanism:#x}");
        }
    }
}

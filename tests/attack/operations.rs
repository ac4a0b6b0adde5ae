//! Rows about what keys are used for: A13 to A18, A21, A22, A29.

use acceptance::raw::key::{Call, Parameter, Template, Use, flag, number};
use cryptoki_sys::*;

use crate::Verdict;
use crate::attributes::P256;
use crate::target::{Target, exposed, is, only, secret_key};

/// A new P-256 pair of session keys that derives.
fn ec_pair(target: &Target) -> (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE) {
    let public = vec![is(CKA_TOKEN, false), (CKA_EC_PARAMS, P256.to_vec())];
    let private = vec![is(CKA_TOKEN, false), is(CKA_DERIVE, true), is(CKA_SIGN, true)];
    target.raw.generate_pair(target.session, &Call::plain(CKM_EC_KEY_PAIR_GEN), &public, &private).expect("an EC pair")
}

fn ecdh_with(target: &Target, point: &[u8], extra: &Template) -> Result<CK_OBJECT_HANDLE, CK_RV> {
    let (_, private) = ec_pair(target);
    let template = [secret_key(CKK_GENERIC_SECRET), vec![(CKA_VALUE_LEN, number(32u64))], extra.clone()].concat();
    let call = Call { mechanism: CKM_ECDH1_DERIVE, parameter: Parameter::Ecdh(CKD_NULL, point.to_vec()) };
    target.raw.derive(target.session, &call, private, &template)
}

/// The bare point of a public key.
fn point(target: &Target, public: CK_OBJECT_HANDLE) -> Vec<u8> {
    let der = target.raw.get(target.session, public, CKA_EC_POINT).expect("a point");
    der[der.len() - 65..].to_vec()
}

/// A key agreed with a good partner, with more in its template.
pub(crate) fn ecdh(target: &Target, extra: &Template) -> Result<CK_OBJECT_HANDLE, CK_RV> {
    let (partner, _) = ec_pair(target);
    ecdh_with(target, &point(target, partner), extra)
}

/// Points that are on no curve, on another one, or nowhere.
pub(crate) fn a13_invalid_points(target: &Target) -> Verdict {
    assert!(ecdh(target, &exposed()).is_ok(), "a good point is taken");
    let (partner, _) = ec_pair(target);
    let good = point(target, partner);
    let mut off_curve = good.clone();
    off_curve[64] ^= 1;
    let swapped = [&[4], &good[33..65], &good[1..33]].concat();
    let beyond_the_field = [&[4], &[0xff; 32][..], &good[33..65]].concat();
    let compressed_without_a_root = (0..=255_u8).map(|last| [&[2][..], &[0; 31], &[last]].concat());
    let rows =
        [off_curve, swapped, beyond_the_field, vec![0], vec![4; 65], good[..64].to_vec(), [&good[..], &[0]].concat()];
    for bad in &rows {
        if ecdh_with(target, bad, &vec![]).is_ok() {
            return Err(format!("C_DeriveKey takes the point {bad:x?}"));
        }
        let template = vec![
            (CKA_CLASS, number(CKO_PUBLIC_KEY)),
            (CKA_KEY_TYPE, number(CKK_EC)),
            is(CKA_TOKEN, false),
            (CKA_EC_PARAMS, P256.to_vec()),
            (CKA_EC_POINT, [&[4, u8::try_from(bad.len()).expect("short")], &bad[..]].concat()),
        ];
        if target.raw.create(target.session, &template).is_ok() {
            return Err(format!("C_CreateObject takes the point {bad:x?}"));
        }
    }
    // About half of all abscissas have no point above them: a token that takes them all checks none.
    let taken = compressed_without_a_root.filter(|bad| ecdh_with(target, bad, &vec![]).is_ok()).take(200).count();
    if taken > 180 { Err("every compressed point is taken".into()) } else { Ok(()) }
}

/// Digest a sensitive key: a hash of it, or with a chosen prefix a MAC under it.
pub(crate) fn a14_digest_a_sensitive_key(target: &Target) -> Verdict {
    for prefix in [&b""[..], b"prefix"] {
        let prey = target.prey();
        let sha256 = Call::plain(CKM_SHA256);
        assert_eq!(target.raw.begin(target.session, Use::Digest, &sha256, 0), CKR_OK);
        if !prefix.is_empty() {
            assert_eq!(target.raw.update(target.session, Use::Digest, prefix), CKR_OK);
        }
        let rv = target.raw.digest_key(target.session, prey);
        let digest = target.raw.digest_final(target.session);
        if rv == CKR_OK {
            return Err(format!("the digest of a sensitive key: {digest:x?}"));
        }
    }
    Ok(())
}

/// MACs so short that they can be guessed.
pub(crate) fn a15_short_macs(target: &Target) -> Verdict {
    let aes = target.aes(32, &[only(&[CKA_SIGN, CKA_VERIFY])]);
    let generic = [vec![is(CKA_TOKEN, false), (CKA_VALUE_LEN, number(32u64))], only(&[CKA_SIGN, CKA_VERIFY])].concat();
    let generic = target.raw.generate(target.session, &Call::plain(CKM_GENERIC_SECRET_KEY_GEN), &generic);
    let generic = generic.expect("a generic secret");
    for (mechanism, key) in [(CKM_SHA256_HMAC_GENERAL, generic), (CKM_AES_CMAC_GENERAL, aes)] {
        if !target.lists(mechanism) {
            continue;
        }
        let whole = Call::with(mechanism, &number(16u64));
        assert!(
            target.raw.apply(target.session, Use::Sign, &whole, key, b"data").is_ok(),
            "16 bytes of {mechanism:#x}"
        );
        for len in 1..8_u64 {
            let call = Call::with(mechanism, &number(len));
            if let Ok(mac) = target.raw.apply(target.session, Use::Sign, &call, key, b"data") {
                return Err(format!("{mechanism:#x} gives a MAC of {} bytes", mac.len()));
            }
            let verifies = target.raw.begin(target.session, Use::Verify, &call, key);
            if verifies == CKR_OK
                && target.raw.verify(target.session, b"data", &vec![0; len as usize]) != CKR_MECHANISM_PARAM_INVALID
            {
                return Err(format!("{mechanism:#x} verifies MACs of {len} bytes"));
            }
        }
    }
    Ok(())
}

/// Tags so short that they can be guessed.
pub(crate) fn a17_short_gcm_tags(target: &Target) -> Verdict {
    let key = target.aes(32, &[only(&[CKA_ENCRYPT, CKA_DECRYPT])]);
    for (number, (bits, sound)) in [(96, true), (32, false), (64, false)].into_iter().enumerate() {
        let iv = vec![u8::try_from(number).expect("small"); 12];
        let call = Call { mechanism: CKM_AES_GCM, parameter: Parameter::Gcm(iv, bits) };
        let sealed = target.raw.apply(target.session, Use::Encrypt, &call, key, b"data");
        match (sound, sealed) {
            (true, sealed) => assert_eq!(sealed.map(|sealed| sealed.len()), Ok(16), "a tag of 96 bits"),
            (false, Ok(_)) => return Err(format!("a tag of {bits} bits is given")),
            (false, Err(_)) => {}
        }
    }
    Ok(())
}

/// RSA without padding: whoever may decrypt may sign, and the other way round.
pub(crate) fn a18_raw_rsa(target: &Target) -> Verdict {
    let (_, private) = target.rsa("raw", 2048, &vec![], &vec![is(CKA_DECRYPT, true), is(CKA_SIGN, true)]);
    for use_ in [Use::Decrypt, Use::Sign] {
        if target.raw.begin(target.session, use_, &Call::plain(CKM_RSA_X_509), private) == CKR_OK {
            // The operation is ended again, so that it is in nobody's way.
            let ended = target.raw.whole(target.session, use_, &[0x11; 256]);
            return Err(format!(
                "CKM_RSA_X_509 begins ({use_:?}), and gives {} bytes",
                ended.map_or(0, |out| out.len())
            ));
        }
    }
    Ok(())
}

/// What was begun before a logout goes on after it.
pub(crate) fn a21_operations_outlive_the_logout(target: &Target) -> Verdict {
    let lasting = |name: &str, uses: Template| {
        let kind = vec![(CKA_VALUE_LEN, number(32u64)), is(CKA_TOKEN, true), is(CKA_PRIVATE, true)];
        let template = [kind, vec![(CKA_LABEL, name.as_bytes().to_vec())], uses, exposed()].concat();
        target.raw.generate(target.session, &Call::plain(CKM_AES_KEY_GEN), &template).expect("an AES key")
    };
    // An operation that outlived the logout is in the way of a search; the old handle has outlived it too then.
    let again = |name: &str, old: CK_OBJECT_HANDLE| {
        let found = target.raw.find(target.session, &vec![(CKA_LABEL, name.as_bytes().to_vec())]);
        found.map_or(old, |found| found.last().copied().expect("the key is still there"))
    };
    let mut key = lasting("a21", only(&[CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_WRAP, CKA_UNWRAP]));
    let mut other = lasting("a21 other", only(&[CKA_ENCRYPT]));
    let (raw, session) = (&target.raw, target.session);
    let cbc = Call::with(CKM_AES_CBC, &[0; 16]);
    let cmac = Call::plain(CKM_AES_CMAC);
    let begun = [(Use::Encrypt, &cbc), (Use::Decrypt, &cbc), (Use::Sign, &cmac), (Use::Verify, &cmac)];
    let mut leaks = Vec::new();
    for (use_, call) in begun {
        for pieces in [false, true] {
            if pieces && use_ == Use::Decrypt || raw.begin(session, use_, call, key) != CKR_OK {
                continue;
            }
            if pieces {
                assert_eq!(raw.update(session, use_, &[1; 32]), CKR_OK, "{use_:?}");
            }
            assert_eq!(raw.logout(session), CKR_OK);
            let goes_on = match (use_, pieces) {
                (Use::Verify, true) => raw.verify_final(session, &[0; 16]) == CKR_SIGNATURE_INVALID,
                (Use::Verify, false) => raw.verify(session, &[1; 32], &[0; 16]) == CKR_SIGNATURE_INVALID,
                (use_, true) => raw.update(session, use_, &[1; 32]) == CKR_OK,
                (use_, false) => raw.whole(session, use_, &[1; 32]).is_ok(),
            };
            if goes_on {
                leaks.push(format!("{use_:?} in {} goes on after the logout", if pieces { "pieces" } else { "one" }));
            }
            assert_eq!(raw.login(session, acceptance::world::PIN), CKR_OK);
            // PKCS#11 v3.0 section 5.6.9: a private handle stays invalid when the user comes back.
            if raw.begin(session, Use::Sign, &cmac, key) == CKR_OK && raw.whole(session, Use::Sign, b"data").is_ok()
                || raw.get(session, other, CKA_VALUE).is_ok()
            {
                leaks.push("a private handle is good again after the next login".into());
            }
            (key, other) = (again("a21", key), again("a21 other", other));
        }
    }
    if raw.begin_search(session, &vec![(CKA_CLASS, number(CKO_SECRET_KEY))]) != CKR_OK {
        leaks.push("an operation begun before the logout is in the way of a search".into());
    }
    assert_eq!(raw.logout(session), CKR_OK);
    if raw.next_found(session).is_ok_and(|found| !found.is_empty()) {
        leaks.push("a search finds private objects after the logout".into());
    }
    let kw = Call::plain(CKM_AES_KEY_WRAP);
    if raw.wrap(session, &kw, key, other).is_ok() || raw.get(session, key, CKA_VALUE).is_ok() {
        leaks.push("a private handle is good after the logout".into());
    }
    if raw.begin(session, Use::Sign, &cmac, key) == CKR_OK && raw.whole(session, Use::Sign, b"data").is_ok() {
        leaks.push("a private key signs after the logout".into());
    }
    // Ended, so that the next search can begin.
    raw.find(session, &vec![]).ok();
    assert_eq!(raw.login(session, acceptance::world::PIN), CKR_OK);
    raw.find(session, &vec![]).ok();
    if leaks.is_empty() { Ok(()) } else { Err(leaks.join("; ")) }
}

fn rsa_pair(target: &Target, bits: u64, exponent: &[u8]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
    let public = vec![is(CKA_TOKEN, false), (CKA_MODULUS_BITS, number(bits)), (CKA_PUBLIC_EXPONENT, exponent.to_vec())];
    let private = vec![is(CKA_TOKEN, false)];
    target
        .raw
        .generate_pair(target.session, &Call::plain(CKM_RSA_PKCS_KEY_PAIR_GEN), &public, &private)
        .map(|pair| pair.0)
}

fn rsa_public(target: &Target, modulus: Vec<u8>, exponent: &[u8]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
    let template = vec![
        (CKA_CLASS, number(CKO_PUBLIC_KEY)),
        (CKA_KEY_TYPE, number(CKK_RSA)),
        is(CKA_TOKEN, false),
        (CKA_MODULUS, modulus),
        (CKA_PUBLIC_EXPONENT, exponent.to_vec()),
        is(CKA_WRAP, true),
    ];
    target.raw.create(target.session, &template)
}

/// Keys that can be factored.
pub(crate) fn a22_weak_rsa(target: &Target) -> Verdict {
    if rsa_pair(target, 1024, &[1, 0, 1]).is_ok() {
        return Err("RSA 1024 is generated".into());
    }
    let modulus = [&[0xc1][..], &[0x35; 126], &[0x37]].concat();
    if rsa_public(target, modulus, &[1, 0, 1]).is_ok() {
        return Err("RSA 1024 is imported".into());
    }
    Ok(())
}

/// Exponents under which "encrypted" is plain, and moduli of a generator that is known to be broken.
pub(crate) fn a22b_broken_rsa(target: &Target) -> Verdict {
    for (what, exponent) in [("1", &[1][..]), ("2", &[2]), ("65536", &[1, 0, 0]), ("0", &[0]), ("none", &[])] {
        if rsa_pair(target, 2048, exponent)
            .is_ok_and(|key| target.raw.get(target.session, key, CKA_PUBLIC_EXPONENT) == Ok(exponent.to_vec()))
        {
            return Err(format!("a pair with the exponent {what} is generated"));
        }
        let modulus = [&[0xc1][..], &[0x35; 254], &[0x37]].concat();
        if rsa_public(target, modulus, exponent).is_ok() {
            return Err(format!("a public key with the exponent {what} is imported"));
        }
    }
    if rsa_public(target, roca_modulus(), &[1, 0, 1]).is_ok() {
        return Err("a modulus with the fingerprint of CVE-2017-15361 is imported".into());
    }
    Ok(())
}

/// An odd number of 2048 bits that is 1 modulo every prime up to 167: so is 65537 to the power of zero.
fn roca_modulus() -> Vec<u8> {
    let primes = (3..=167_u64).filter(|n| (2..*n).all(|d| n % d != 0));
    // Little-endian bytes of 2 times the product of the primes.
    let mut product = vec![2_u8];
    for prime in primes {
        let mut carry = 0;
        for byte in &mut product {
            carry += u64::from(*byte) * prime;
            *byte = carry.to_le_bytes()[0];
            carry >>= 8;
        }
        while carry > 0 {
            product.push(carry.to_le_bytes()[0]);
            carry >>= 8;
        }
    }
    // Shifted up by whole bytes it stays a multiple; the multiple with the top bit set, plus one.
    let mut number = vec![0; 256 - product.len()];
    number.extend(&product);
    while number[255] < 0x80 {
        let mut carry = 0;
        for byte in &mut number {
            let doubled = u16::from(*byte) * 2 + carry;
            *byte = doubled.to_le_bytes()[0];
            carry = doubled >> 8;
        }
    }
    number[0] |= 1;
    number.reverse();
    number
}

/// One secret for several mechanisms, although the key says which it is for.
pub(crate) fn a29_allowed_mechanisms(target: &Target) -> Verdict {
    let allowed = vec![(CKA_ALLOWED_MECHANISMS, number(CKM_AES_GCM))];
    let uses = only(&[CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE]);
    let Ok(key) = target.try_aes(32, &[uses.clone(), allowed.clone(), exposed()]) else {
        return Err("a key cannot be bound to a mechanism".into());
    };
    let copy = target.raw.copy(target.session, key, &vec![]).expect("a copy");
    let other = target.aes(32, &[exposed()]);
    let gcm = Call { mechanism: CKM_AES_GCM, parameter: Parameter::Gcm(vec![1; 12], 128) };
    assert!(target.raw.apply(target.session, Use::Encrypt, &gcm, key, b"data").is_ok(), "GCM is allowed");
    for key in [key, copy] {
        let used = [
            ("ECB", target.raw.apply(target.session, Use::Encrypt, &Call::plain(CKM_AES_ECB), key, &[0; 16])),
            ("CBC", target.raw.apply(target.session, Use::Decrypt, &Call::with(CKM_AES_CBC, &[0; 16]), key, &[0; 16])),
            ("CMAC", target.raw.apply(target.session, Use::Sign, &Call::plain(CKM_AES_CMAC), key, b"data")),
            ("key wrap", target.raw.wrap(target.session, &Call::plain(CKM_AES_KEY_WRAP), key, other)),
        ];
        if let Some((what, _)) = used.iter().find(|(_, result)| result.is_ok()) {
            return Err(format!("a key for GCM is used for {what}"));
        }
    }
    let widened = vec![(CKA_ALLOWED_MECHANISMS, number(CKM_AES_ECB))];
    if target.raw.set(target.session, key, &widened) == CKR_OK || target.raw.copy(target.session, key, &widened).is_ok()
    {
        return Err("the list of allowed mechanisms was replaced".into());
    }
    let derives = [vec![is(CKA_TOKEN, false), (CKA_DERIVE, flag(true))], allowed].concat();
    let public = vec![is(CKA_TOKEN, false), (CKA_EC_PARAMS, P256.to_vec())];
    let pair = target.raw.generate_pair(target.session, &Call::plain(CKM_EC_KEY_PAIR_GEN), &public, &derives);
    let (public, private) = pair.expect("an EC pair");
    let call = Call { mechanism: CKM_ECDH1_DERIVE, parameter: Parameter::Ecdh(CKD_NULL, point(target, public)) };
    let template = [secret_key(CKK_GENERIC_SECRET), vec![(CKA_VALUE_LEN, number(32u64))]].concat();
    match target.raw.derive(target.session, &call, private, &template) {
        Ok(_) => Err("a key bound to another mechanism derives".into()),
        Err(_) => Ok(()),
    }
}

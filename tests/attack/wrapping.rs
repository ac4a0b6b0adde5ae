//! Rows about keys that leave wrapped and come back: A1, A2, A6 to A10, A19, A23.

use acceptance::raw::key::{Call, Parameter, Use, flag, number};
use cryptoki_sys::*;

use crate::Verdict;
use crate::target::{Target, exposed, hidden, is, only, secret_key};

/// CKM_CRATON_AEAD_WRAP.
const CRATON_AEAD_WRAP: CK_MECHANISM_TYPE = 0xC352_0001;

/// The symmetric mechanisms that a token may wrap with, with a parameter that they take.
fn symmetric_wraps(target: &Target) -> Vec<Call> {
    let known = [
        Call::plain(CKM_AES_KEY_WRAP),
        Call::plain(CKM_AES_KEY_WRAP_PAD),
        Call::plain(CKM_AES_KEY_WRAP_KWP),
        Call::plain(CRATON_AEAD_WRAP),
        Call::plain(CKM_AES_ECB),
        Call::with(CKM_AES_CBC, &[0; 16]),
        Call::with(CKM_AES_CBC_PAD, &[0; 16]),
        Call { mechanism: CKM_AES_GCM, parameter: Parameter::Gcm(vec![1; 12], 128) },
    ];
    let listed = target.mechanisms(CKF_WRAP | CKF_UNWRAP);
    known.into_iter().filter(|call| listed.contains(&call.mechanism)).collect()
}

fn oaep_sha256() -> Call {
    Call { mechanism: CKM_RSA_PKCS_OAEP, parameter: Parameter::Oaep(CKM_SHA256, CKG_MGF1_SHA256) }
}

/// OAEP as widely as it is offered: SoftHSM2 knows SHA-1 only.
fn any_oaep() -> [Call; 2] {
    [oaep_sha256(), Call { mechanism: CKM_RSA_PKCS_OAEP, parameter: Parameter::Oaep(CKM_SHA_1, CKG_MGF1_SHA1) }]
}

/// RFC 3394 §2.2.2, with a stranger's key: whoever may decrypt single blocks may open a key wrap.
fn open_key_wrap(target: &Target, key: CK_OBJECT_HANDLE, wrapped: &[u8]) -> Option<Vec<u8>> {
    let mut blocks: Vec<[u8; 8]> =
        wrapped.chunks_exact(8).map(|block| block.try_into().expect("eight bytes")).collect();
    let count = blocks.len() - 1;
    for step in (1..=6 * count).rev() {
        let at = 1 + (step - 1) % count;
        let mut head = u64::from_be_bytes(blocks[0]);
        head ^= step as u64;
        let joined = [head.to_be_bytes(), blocks[at]].concat();
        let opened = target.raw.apply(target.session, Use::Decrypt, &Call::plain(CKM_AES_ECB), key, &joined).ok()?;
        blocks[0] = opened[..8].try_into().expect("eight bytes");
        blocks[at] = opened[8..].try_into().expect("eight bytes");
    }
    (blocks[0] == [0xa6; 8]).then(|| blocks[1..].concat())
}

/// Wrap with a key that also decrypts, then decrypt.
pub(crate) fn a01_wrap_then_decrypt(target: &Target) -> Verdict {
    let prey = target.prey();
    let both =
        target.aes(32, &[only(&[CKA_WRAP, CKA_UNWRAP, CKA_ENCRYPT, CKA_DECRYPT]), vec![is(CKA_SENSITIVE, true)]]);
    let tried = symmetric_wraps(target);
    assert!(!tried.is_empty(), "the token wraps by nothing");
    for call in tried {
        let Ok(wrapped) = target.raw.wrap(target.session, &call, both, prey) else { continue };
        let opened = match call.mechanism {
            CKM_AES_KEY_WRAP => open_key_wrap(target, both, &wrapped),
            _ => target.raw.apply(target.session, Use::Decrypt, &call, both, &wrapped).ok(),
        };
        let read = opened.map_or("not decrypted".to_owned(), |value| format!("{} bytes of it decrypted", value.len()));
        return Err(format!("{:#x} wraps a sensitive key under a key that decrypts; {read}", call.mechanism));
    }
    Ok(())
}

/// Turn DECRYPT on later, or UNWRAP's sister, by C_SetAttributeValue.
pub(crate) fn a01b_turn_decrypt_on(target: &Target) -> Verdict {
    let wrapper = target.wrapper(32);
    for kind in [CKA_DECRYPT, CKA_ENCRYPT] {
        let rv = target.raw.set(target.session, wrapper, &vec![is(kind, true)]);
        if rv == CKR_OK || target.flag(wrapper, kind) == Some(true) {
            return Err(format!("{kind:#x} of a wrapping key was turned on ({rv:#x})"));
        }
    }
    Ok(())
}

/// Copy a wrapping key into one that decrypts.
pub(crate) fn a01c_copy_into_a_decrypting_key(target: &Target) -> Verdict {
    let wrapper = target.wrapper(32);
    match target.raw.copy(target.session, wrapper, &vec![is(CKA_DECRYPT, true)]) {
        Ok(copy) if target.flag(copy, CKA_DECRYPT) == Some(true) => Err("the copy of a wrapping key decrypts".into()),
        _ => Ok(()),
    }
}

/// Wrap with the public half, decrypt with the private half.
pub(crate) fn a02_wrap_by_the_public_decrypt_by_the_private_half(target: &Target) -> Verdict {
    let public = vec![is(CKA_WRAP, true), is(CKA_ENCRYPT, false), is(CKA_VERIFY, false)];
    let private = vec![is(CKA_DECRYPT, true), is(CKA_UNWRAP, true), is(CKA_SIGN, false)];
    let (public, private) = target.rsa("wraps and decrypts", 3072, &public, &private);
    let prey = target.prey();
    for call in [Call::plain(CKM_RSA_PKCS)].into_iter().chain(any_oaep()) {
        if let Ok(wrapped) = target.raw.wrap(target.session, &call, public, prey) {
            let opened = target.raw.apply(target.session, Use::Decrypt, &call, private, &wrapped);
            return Err(format!("{:#x} wraps; the private half decrypts {opened:x?}", call.mechanism));
        }
    }
    Ok(())
}

/// Encrypt a known key and unwrap the ciphertext: the token then trusts a key that the attacker knows.
pub(crate) fn a06_inject_a_known_key(target: &Target) -> Verdict {
    let both = target.aes(32, &[only(&[CKA_ENCRYPT, CKA_DECRYPT, CKA_UNWRAP]), vec![is(CKA_SENSITIVE, true)]]);
    let known = [0x5a; 32];
    for call in [Call::with(CKM_AES_CBC, &[0; 16]), Call::with(CKM_AES_CBC_PAD, &[0; 16]), Call::plain(CKM_AES_ECB)] {
        let Ok(blob) = target.raw.apply(target.session, Use::Encrypt, &call, both, &known) else { continue };
        let template = [secret_key(CKK_AES), only(&[CKA_ENCRYPT]), vec![is(CKA_SENSITIVE, true)]].concat();
        let Ok(injected) = target.raw.unwrap(target.session, &call, both, &blob, &template) else { continue };
        let own = target.import_aes(&known, &[only(&[CKA_ENCRYPT])]).expect("an imported key");
        let ecb = Call::plain(CKM_AES_ECB);
        let [one, two] = [injected, own].map(|key| target.raw.apply(target.session, Use::Encrypt, &ecb, key, &[0; 16]));
        return Err(format!("{:#x} unwraps what was encrypted; it is the known key: {}", call.mechanism, one == two));
    }
    Ok(())
}

/// Wrap a sensitive key and unwrap it as a readable one.
pub(crate) fn a07_unwrap_as_readable(target: &Target) -> Verdict {
    let trusted = target.trusted_rsa(3072);
    let prey = target.prey();
    let wrapper = target.wrapper(32);
    let symmetric = symmetric_wraps(target).into_iter().map(|call| (call, wrapper, wrapper));
    let asymmetric = any_oaep().into_iter().map(|call| (call, trusted.0, trusted.1));
    let mut tried = 0;
    for (call, wrapping, unwrapping) in symmetric.chain(asymmetric) {
        let Ok(wrapped) = target.raw.wrap(target.session, &call, wrapping, prey) else { continue };
        tried += 1;
        let template = [secret_key(CKK_AES), exposed()].concat();
        let child = target.raw.unwrap(target.session, &call, unwrapping, &wrapped, &template);
        if let Some(value) = child.ok().and_then(|child| target.value(child)) {
            return Err(format!(
                "{:#x}: {} bytes of a sensitive key are read after unwrapping",
                call.mechanism,
                value.len()
            ));
        }
    }
    assert!(tried >= 2, "only {tried} mechanisms wrapped");
    Ok(())
}

/// Wrap under a key that the attacker brought along.
pub(crate) fn a08_wrap_under_a_known_key(target: &Target) -> Verdict {
    let prey = target.prey();
    let known = target.import_aes(&[7; 32], &[only(&[CKA_WRAP, CKA_UNWRAP])]).expect("an imported key");
    for call in symmetric_wraps(target) {
        if target.raw.wrap(target.session, &call, known, prey).is_ok() {
            return Err(format!("{:#x} wraps a sensitive key under an imported one", call.mechanism));
        }
    }
    Ok(())
}

/// A weaker AES key wraps a stronger one.
pub(crate) fn a09_aes_wraps_a_stronger_key(target: &Target) -> Verdict {
    let (prey, weak, strong) = (target.prey(), target.wrapper(16), target.wrapper(32));
    let call = Call::plain(CKM_AES_KEY_WRAP);
    assert!(target.raw.wrap(target.session, &call, strong, prey).is_ok(), "AES-256 wraps AES-256");
    match target.raw.wrap(target.session, &call, weak, prey) {
        Ok(_) => Err("AES-128 wraps a sensitive AES-256 key".into()),
        Err(_) => Ok(()),
    }
}

/// A short RSA key wraps.
pub(crate) fn a09b_short_rsa_wraps(target: &Target) -> Verdict {
    let (weak, _) = target.trusted_rsa(2048);
    let (strong, _) = target.trusted_rsa(3072);
    let prey = target.prey();
    let wraps = |key| any_oaep().iter().any(|call| target.raw.wrap(target.session, call, key, prey).is_ok());
    assert!(wraps(strong), "RSA 3072, trusted, wraps");
    if wraps(weak) { Err("RSA 2048 wraps a sensitive key".into()) } else { Ok(()) }
}

/// OAEP with a hash that is weaker than the keys it carries.
pub(crate) fn a09c_oaep_with_a_short_hash_wraps(target: &Target) -> Verdict {
    let (trusted, _) = target.trusted_rsa(3072);
    let prey = target.prey();
    let wraps = |call: &Call| target.raw.wrap(target.session, call, trusted, prey).is_ok();
    let [long, short] = any_oaep();
    assert!(wraps(&long), "OAEP with SHA-256 wraps under a trusted key");
    if wraps(&short) { Err("OAEP with SHA-1 wraps a sensitive key".into()) } else { Ok(()) }
}

/// Lose CKA_WRAP_WITH_TRUSTED by a copy.
pub(crate) fn a10_lose_wrap_with_trusted(target: &Target) -> Verdict {
    let prey = target.aes(32, &[hidden(), vec![is(CKA_WRAP_WITH_TRUSTED, true)]]);
    let wrapper = target.wrapper(32);
    let copies = [vec![], vec![is(CKA_WRAP_WITH_TRUSTED, false)], vec![(CKA_LABEL, b"copy".to_vec())]];
    let copies = copies.iter().filter_map(|template| target.raw.copy(target.session, prey, template).ok());
    let set = target.raw.set(target.session, prey, &vec![(CKA_WRAP_WITH_TRUSTED, flag(false))]);
    for key in copies.chain([prey]) {
        if target.raw.wrap(target.session, &Call::plain(CKM_AES_KEY_WRAP), wrapper, key).is_ok() {
            return Err(format!("a key with CKA_WRAP_WITH_TRUSTED was wrapped by an untrusted one (set: {set:#x})"));
        }
    }
    Ok(())
}

/// PKCS#1 v1.5 as an unwrapping mechanism: every answer is an oracle.
pub(crate) fn a19_pkcs1_unwrap_oracle(target: &Target) -> Verdict {
    let (public, private) = unwrapping_pair(target);
    let outcomes: Vec<_> = pkcs1_blobs(target, public).iter().map(|blob| unwrap_pkcs1(target, private, blob)).collect();
    match outcomes.iter().all(Result::is_err) && outcomes.windows(2).all(|pair| pair[0] == pair[1]) {
        true => Ok(()),
        false => Err(format!("PKCS#1 v1.5 unwraps: {outcomes:x?}")),
    }
}

/// Where PKCS#1 v1.5 unwraps, it answers everything alike.
pub(crate) fn pkcs1_unwrap_has_one_outcome(target: &Target) {
    let (public, private) = unwrapping_pair(target);
    for blob in pkcs1_blobs(target, public) {
        unwrap_pkcs1(target, private, &blob).expect("a key comes out, whatever is inside");
    }
}

fn unwrapping_pair(target: &Target) -> (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE) {
    let public = vec![is(CKA_ENCRYPT, true)];
    target.rsa("unwraps", 2048, &public, &vec![is(CKA_UNWRAP, true), is(CKA_DECRYPT, false)])
}

/// A good blob, keys of two wrong lengths, no key at all, and two that do not open.
fn pkcs1_blobs(target: &Target, public: CK_OBJECT_HANDLE) -> Vec<Vec<u8>> {
    let sealed = [32, 31, 1].map(|len| {
        let call = Call::plain(CKM_RSA_PKCS);
        target.raw.apply(target.session, Use::Encrypt, &call, public, &vec![5; len]).expect("encrypts")
    });
    sealed.into_iter().chain([vec![0x17; 256], vec![0x2a; 256]]).collect()
}

fn unwrap_pkcs1(target: &Target, private: CK_OBJECT_HANDLE, blob: &[u8]) -> Result<(), CK_RV> {
    let template = [secret_key(CKK_AES), vec![(CKA_VALUE_LEN, number(32u64))]].concat();
    let plain = secret_key(CKK_AES);
    let call = Call::plain(CKM_RSA_PKCS);
    // SoftHSM2 takes no length here.
    let made = target.raw.unwrap(target.session, &call, private, blob, &template);
    made.or_else(|_| target.raw.unwrap(target.session, &call, private, blob, &plain)).map(drop)
}

/// CBC with padding as an unwrapping mechanism: malleable, and an oracle.
pub(crate) fn a19b_cbc_pad_unwrap_oracle(target: &Target) -> Verdict {
    let call = Call::with(CKM_AES_CBC_PAD, &[9; 16]);
    let both = target.aes(32, &[only(&[CKA_ENCRYPT, CKA_UNWRAP]), vec![is(CKA_SENSITIVE, true)]]);
    let blob = target.raw.apply(target.session, Use::Encrypt, &call, both, &[3; 32]).expect("encrypts");
    let changed = (0..blob.len()).map(|position| {
        let mut changed = blob.clone();
        changed[position] ^= 1;
        changed
    });
    for (number, blob) in [blob.clone()].into_iter().chain(changed).enumerate() {
        if target.raw.unwrap(target.session, &call, both, &blob, &secret_key(CKK_AES)).is_ok() {
            return Err(format!("CBC-PAD unwraps (blob {number}; every one after the first was changed)"));
        }
    }
    Ok(())
}

/// A public key that the attacker made.
pub(crate) fn a23_trojan_public_key(target: &Target) -> Verdict {
    let private = vec![is(CKA_DECRYPT, true)];
    let (own, private) = target.rsa("trojan", 3072, &vec![], &private);
    // The same numbers once more, as a stranger would bring them.
    let modulus = target.raw.get(target.session, own, CKA_MODULUS).expect("a modulus");
    let template = vec![
        (CKA_CLASS, number(CKO_PUBLIC_KEY)),
        (CKA_KEY_TYPE, number(CKK_RSA)),
        is(CKA_TOKEN, false),
        (CKA_MODULUS, modulus),
        (CKA_PUBLIC_EXPONENT, vec![1, 0, 1]),
        is(CKA_WRAP, true),
        is(CKA_ENCRYPT, false),
        is(CKA_VERIFY, false),
    ];
    let trojan = target.raw.create(target.session, &template).expect("a public key");
    let prey = target.prey();
    for call in [Call::plain(CKM_RSA_PKCS)].into_iter().chain(any_oaep()) {
        if let Ok(wrapped) = target.raw.wrap(target.session, &call, trojan, prey) {
            let opened = target.raw.apply(target.session, Use::Decrypt, &call, private, &wrapped);
            return Err(format!("{:#x} wraps under a stranger's key, who reads {opened:x?}", call.mechanism));
        }
    }
    Ok(())
}

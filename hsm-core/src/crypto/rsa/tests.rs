//! RSA keys and schemes: what is taken, what is refused, and that wrong paddings tell nothing.

use std::sync::LazyLock;

use super::strength::is_from_flawed_generator;
use super::*;

/// One generated key for the tests of this file: generation is the slow part.
static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(2048, F4).expect("a key"));

fn parts() -> Components {
    KEY.components().expect("parts")
}

fn none() -> SecretBytes {
    SecretBytes::zeroed(0)
}

fn padded(len: usize, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; len - body.len()];
    out.extend_from_slice(body);
    out
}

#[test]
fn a_generated_key_has_the_length_and_exponent_asked_for() {
    assert_eq!((KEY.modulus_bits(), KEY.modulus_len()), (2048, 256));
    assert_eq!(KEY.public().expect("public").exponent().expect("e"), F4);
    let other = PrivateKey::generate(1024, &[0, 1, 0, 3]).expect("65539 is odd and large enough");
    assert_eq!(other.public().expect("public").exponent().expect("e"), [1, 0, 3]);
}

#[test]
fn sizes_and_exponents_that_cannot_be_made_are_refused() {
    for bits in [0, 512, 1016, 2040, 2056, 8200, u32::MAX] {
        assert_eq!(PrivateKey::generate(bits, F4).err(), Some(Error::KeySize), "{bits}");
    }
    for exponent in [&[][..], &[1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
        assert_eq!(PrivateKey::generate(2048, exponent).err(), Some(Error::InvalidParameter), "{exponent:?}");
    }
}

#[test]
fn import_works_with_all_parts_with_primes_only_and_with_exponents_only() {
    let want = KEY.to_pkcs1_der().expect("der");
    let whole = PrivateKey::from_components(&parts()).expect("all parts");
    assert!(whole.to_pkcs1_der().expect("der") == want);
    let zeros = |bytes: &[u8]| SecretBytes::new(padded(bytes.len() + 3, bytes));
    let led = Components { d: zeros(parts().d.expose()), p: zeros(parts().p.expose()), ..parts() };
    assert!(PrivateKey::from_components(&led).expect("zeros lead").to_pkcs1_der().expect("der") == want);
    let primes = PrivateKey::from_components(&Components { dp: none(), ..parts() }).expect("primes only");
    assert!(primes.to_pkcs1_der().expect("der") == want);
    let bare = Components { p: none(), q: none(), dp: none(), dq: none(), qinv: none(), ..parts() };
    let bare = PrivateKey::from_components(&bare).expect("exponents only");
    assert_eq!(bare.public().expect("public").modulus(), Ok(parts().n));
    let digest = [7; 32];
    let signature = bare.sign_pkcs1(Hash::Sha256, &digest).expect("signature");
    assert_eq!(KEY.sign_pkcs1(Hash::Sha256, &digest), Ok(signature));
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let changed = |bytes: &[u8]| {
        let mut copy = bytes.to_vec();
        copy[40] ^= 4;
        SecretBytes::new(copy)
    };
    let rows = [
        ("n", Components { n: changed(&parts().n).expose().to_vec(), ..parts() }),
        ("d", Components { d: changed(parts().d.expose()), ..parts() }),
        ("p", Components { p: changed(parts().p.expose()), ..parts() }),
        ("q", Components { q: changed(parts().q.expose()), ..parts() }),
        ("dp", Components { dp: changed(parts().dp.expose()), ..parts() }),
        ("dq", Components { dq: changed(parts().dq.expose()), ..parts() }),
        ("qinv", Components { qinv: changed(parts().qinv.expose()), ..parts() }),
        ("e", Components { e: vec![1, 0, 3], ..parts() }),
        ("e even", Components { e: vec![1, 0, 0], ..parts() }),
        ("e small", Components { e: vec![3], ..parts() }),
        ("d alone", Components { d: changed(parts().d.expose()), p: none(), q: none(), ..parts() }),
        ("nothing", Components { n: vec![], e: vec![], d: none(), p: none(), q: none(), ..parts() }),
    ];
    for (name, wrong) in rows {
        assert_eq!(PrivateKey::from_components(&wrong).err(), Some(Error::InvalidKey), "{name}");
    }
}

#[test]
fn public_keys_are_judged_by_the_exponent_rule_and_the_size() {
    let n = parts().n;
    let read = |n: &[u8], e: &[u8], rule| PublicKey::from_components(n, e, rule).err();
    assert_eq!(read(&n, F4, ExponentRule::Modern), None);
    assert_eq!(read(&n, &[0, 0, 1, 0, 1], ExponentRule::Modern), None);
    assert_eq!(read(&n, &[3], ExponentRule::Modern), Some(Error::InvalidKey));
    assert_eq!(read(&n, &[3], ExponentRule::Legacy), None);
    for wrong in [&[][..], &[1], &[2], &[1, 0, 0], &[2, 0, 0, 0, 1], &[1; 9]] {
        assert_eq!(read(&n, wrong, ExponentRule::Legacy), Some(Error::InvalidKey), "{wrong:?}");
    }
    let mut even = n.clone();
    even[255] &= 0xfe;
    assert_eq!(read(&even, F4, ExponentRule::Modern), Some(Error::InvalidKey));
    assert_eq!(read(&n[192..], F4, ExponentRule::Modern), Some(Error::KeySize));
    let mut long = vec![1; 1025];
    long[1024] = 1;
    assert_eq!(read(&long, F4, ExponentRule::Modern), Some(Error::KeySize));
}

#[test]
fn moduli_of_the_flawed_generator_are_recognised() {
    assert!(is_from_flawed_generator(F4), "a power of 65537 lies in every subgroup");
    assert!(!is_from_flawed_generator(&parts().n));
}

#[test]
fn raw_pkcs1_signatures_take_any_bytes_that_fit() {
    let public = KEY.public().expect("public");
    for len in [0, 1, 19, 51, 245] {
        let data = vec![0xa5; len];
        let signature = KEY.sign_pkcs1_raw(&data).expect("signature");
        assert_eq!(public.verify_pkcs1_raw(&data, &signature), Ok(()), "{len}");
        assert_eq!(public.verify_pkcs1_raw(b"else", &signature), Err(Error::SignatureInvalid), "{len}");
    }
    assert_eq!(KEY.sign_pkcs1_raw(&[0; 246]), Err(Error::DataLength));
    assert_eq!(public.verify_pkcs1_raw(&[0; 246], &[0; 256]), Err(Error::DataLength));
    assert_eq!(public.verify_pkcs1_raw(b"", &[0; 255]), Err(Error::SignatureLength));
    assert_eq!(public.verify_pkcs1_raw(b"", &[0xff; 256]), Err(Error::SignatureInvalid));
}

#[test]
fn a_raw_signature_over_a_digest_info_is_the_signature_over_the_digest() {
    let digest = digest::digest(Hash::Sha256, b"abc");
    // RFC 8017, section 9.2, note 1: the DigestInfo prefix of SHA-256.
    let prefix = crate::crypto::testing::hex("3031300d060960864801650304020105000420");
    let raw = KEY.sign_pkcs1_raw(&[prefix, digest.clone()].concat()).expect("signature");
    assert_eq!(KEY.sign_pkcs1(Hash::Sha256, &digest), Ok(raw));
}

#[test]
fn the_bare_operation_takes_numbers_below_the_modulus() {
    let public = KEY.public().expect("public");
    let modulus = public.modulus().expect("modulus");
    let mut below = modulus.clone();
    below[0] >>= 1;
    for data in [&[2][..], &[0, 0, 7], &below] {
        let signature = KEY.sign_raw(data).expect("below the modulus");
        assert_eq!(public.verify_raw(data, &signature), Ok(()));
        assert_eq!(public.verify_raw(&[9; 9], &signature), Err(Error::SignatureInvalid));
        assert_eq!(public.verify_raw(data, &signature[1..]), Err(Error::SignatureLength));
        let opened = KEY.decrypt_raw(&public.encrypt_raw(data).expect("below the modulus")).expect("opens");
        assert_eq!(significant(opened.expose()), significant(data));
        assert_eq!(opened.len(), modulus.len());
    }
    for data in [vec![], vec![1]] {
        assert_eq!(KEY.sign_raw(&data), Err(Error::DataLength));
    }
    for data in [modulus.clone(), vec![0xff; modulus.len()], [vec![1], modulus.clone()].concat()] {
        assert_eq!(KEY.sign_raw(&data), Err(Error::DataLength));
        assert_eq!(public.encrypt_raw(&data), Err(Error::DataLength));
    }
    assert_eq!(public.verify_raw(b"x", &modulus), Err(Error::SignatureInvalid));
    assert_eq!(KEY.decrypt_raw(&modulus).err(), Some(Error::EncryptedDataInvalid));
    assert_eq!(KEY.decrypt_raw(&modulus[1..]).err(), Some(Error::EncryptedDataLength));
}

#[test]
fn every_hash_signs_and_a_digest_of_another_length_is_refused() {
    let public = KEY.public().expect("public");
    for &hash in Hash::ALL {
        let digest = vec![3; hash.output_len()];
        let signature = KEY.sign_pkcs1(hash, &digest).expect("signature");
        assert_eq!(public.verify_pkcs1(hash, &digest, &signature), Ok(()));
        assert_eq!(public.verify_pkcs1(hash, &digest, &signature[1..]), Err(Error::SignatureLength));
        assert_eq!(KEY.sign_pkcs1(hash, &digest[1..]), Err(Error::DataLength));
        let pss = Pss { hash, mgf: Hash::Sha1, salt_len: 11 };
        let signature = KEY.sign_pss(&pss, &digest).expect("signature");
        assert_eq!(public.verify_pss(&pss, &digest, &signature), Ok(()));
        let other_salt = Pss { salt_len: 12, ..pss };
        assert_eq!(public.verify_pss(&other_salt, &digest, &signature), Err(Error::SignatureInvalid));
        let other_mask = Pss { mgf: Hash::Sha512, ..pss };
        assert_eq!(public.verify_pss(&other_mask, &digest, &signature), Err(Error::SignatureInvalid));
        assert_eq!(KEY.sign_pss(&pss, &digest[1..]), Err(Error::DataLength));
    }
}

#[test]
fn a_pss_salt_may_be_empty_or_fill_the_modulus_but_not_more() {
    let (digest, public) = ([9; 32], KEY.public().expect("public"));
    let params = |salt_len| Pss { hash: Hash::Sha256, mgf: Hash::Sha256, salt_len };
    for salt_len in [0, 32, 222] {
        let signature = KEY.sign_pss(&params(salt_len), &digest).expect("fits");
        assert_eq!(public.verify_pss(&params(salt_len), &digest, &signature), Ok(()));
    }
    for salt_len in [223, 256, usize::MAX] {
        assert_eq!(KEY.sign_pss(&params(salt_len), &digest), Err(Error::InvalidParameter));
    }
}

#[test]
fn oaep_opens_only_with_the_same_hash_mask_and_label() {
    let public = KEY.public().expect("public");
    let params = Oaep { hash: Hash::Sha256, mgf: Hash::Sha1, label: b"label" };
    let longest = params.data_max(256).expect("fits");
    assert_eq!(longest, 190);
    for len in [0, 1, longest] {
        let data = vec![1; len];
        let ciphertext = public.encrypt_oaep(&params, &data).expect("fits");
        assert_eq!(KEY.decrypt_oaep(&params, &ciphertext).expect("opens").expose(), data);
    }
    let ciphertext = public.encrypt_oaep(&params, b"abc").expect("fits");
    let others = [
        Oaep { hash: Hash::Sha384, ..params },
        Oaep { mgf: Hash::Sha256, ..params },
        Oaep { label: b"", ..params },
        Oaep { label: b"Label", ..params },
    ];
    for other in others {
        assert_eq!(KEY.decrypt_oaep(&other, &ciphertext).err(), Some(Error::EncryptedDataInvalid));
    }
    assert_eq!(public.encrypt_oaep(&params, &[0; 191]), Err(Error::DataLength));
    assert_eq!(KEY.decrypt_oaep(&params, &ciphertext[1..]).err(), Some(Error::EncryptedDataLength));
    let long_label = vec![5; 4096];
    let params = Oaep { label: &long_label, ..params };
    let ciphertext = public.encrypt_oaep(&params, b"abc").expect("any label");
    assert_eq!(KEY.decrypt_oaep(&params, &ciphertext).expect("opens").expose(), b"abc");
}

#[test]
fn a_modulus_too_short_for_the_hash_is_refused() {
    let key = PrivateKey::generate(1024, F4).expect("a key");
    let params = Oaep { hash: Hash::Sha512, mgf: Hash::Sha512, label: &[] };
    assert_eq!(key.public().expect("public").encrypt_oaep(&params, b""), Err(Error::KeySize));
    assert_eq!(key.decrypt_oaep(&params, &[0; 128]).err(), Some(Error::KeySize));
}

#[test]
fn wrong_pkcs1_paddings_give_stable_messages_that_look_like_success() {
    let ciphertext = KEY.public().expect("public").encrypt_pkcs1(b"abc").expect("fits");
    assert_eq!(KEY.decrypt_pkcs1(&ciphertext).expect("opens").expose(), b"abc");
    let mut lengths = std::collections::BTreeSet::new();
    for byte in 0..32 {
        let mut wrong = ciphertext.clone();
        wrong[100 + byte] ^= 0x10;
        let first = KEY.decrypt_pkcs1(&wrong).expect("no padding is an error");
        let second = KEY.decrypt_pkcs1(&wrong).expect("no padding is an error");
        assert!(first == second, "the same ciphertext gives the same message");
        assert!(first.len() <= 245);
        lengths.insert(first.len());
    }
    assert!(lengths.len() > 8, "the invented lengths differ");
    assert_eq!(KEY.decrypt_pkcs1(&ciphertext[1..]).err(), Some(Error::EncryptedDataLength));
    assert_eq!(KEY.decrypt_pkcs1(&[0xff; 256]).err(), Some(Error::EncryptedDataInvalid));
    assert_eq!(KEY.public().expect("public").encrypt_pkcs1(&[0; 246]), Err(Error::DataLength));
}

#[test]
fn paddings_are_judged_byte_by_byte() {
    let key = hmac::Key::new(Hash::Sha256, b"k");
    let mut body = vec![2; 9];
    body.extend_from_slice(b"\0abc");
    let good = [vec![0], body.clone()].concat();
    assert_eq!(unpad_or_invent(&good, &key).expose(), b"abc");
    let mut short = good.clone();
    short[9] = 0;
    assert_ne!(unpad_or_invent(&short, &key).expose(), b"\0abc", "seven bytes of padding are too few");
    let endless = [vec![0], vec![2; 31]].concat();
    assert!(unpad_or_invent(&endless, &key).len() < endless.len() - 10, "no separator");
    assert_ne!(unpad_or_invent(&padded(32, &body), &key).expose(), b"abc", "a second zero");
}

#[test]
fn one_key_signs_in_many_threads_at_once() {
    let public = KEY.public().expect("public");
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let public = &public;
            scope.spawn(move || {
                for round in 0..8 {
                    let digest = [thread * 16 + round; 32];
                    let signature = KEY.sign_pkcs1(Hash::Sha256, &digest).expect("signature");
                    assert_eq!(public.verify_pkcs1(Hash::Sha256, &digest, &signature), Ok(()));
                }
            });
        }
    });
}

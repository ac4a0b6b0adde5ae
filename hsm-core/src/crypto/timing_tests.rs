//! What the time of this room's functions might tell: where a tag differs, whether a padding was right, whether a ciphertext was.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::rsa::{Oaep, PrivateKey};
use super::{Hash, MacStream, aes_gcm, cmac, hmac, ml_kem};
use crate::timing::{Dice, compare};

const QUICK: usize = 1_000_000;
const SLOW: usize = 20_000;

/// The tag with its first or its last byte wrong, always in the same place in memory.
fn wrong(tag: &[u8], buffer: &mut [u8], last: bool) {
    buffer.copy_from_slice(tag);
    buffer[if last { tag.len() - 1 } else { 0 }] ^= 1;
}

fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    black_box(run());
    begun.elapsed()
}

fn mac_row<S: MacStream>(what: &str, start: impl Fn() -> S) {
    let tag = {
        let mut stream = Box::new(start());
        stream.update(b"data");
        stream.finish()
    };
    let mut buffer = tag.clone();
    compare(what, QUICK, |last| {
        wrong(&tag, &mut buffer, last);
        let mut stream = Box::new(start());
        stream.update(b"data");
        timed(|| stream.verify(&buffer, buffer.len()))
    });
}

#[test]
#[ignore = "a measurement"]
fn timing_of_tags_with_the_first_or_the_last_byte_wrong() {
    let key = hmac::Key::new(Hash::Sha256, &[7; 32]);
    mac_row("HMAC, first or last byte of the tag wrong", || key.start());
    mac_row("CMAC, first or last byte of the tag wrong", || cmac::Stream::new(&[7; 32]).expect("a key"));
    let key = aes_gcm::Key::new(&[7; 32]).expect("a key");
    let params = aes_gcm::Params::new(&[1; 12], b"", 128).expect("good parameters");
    let sealed = key.encrypt(&params, &[3; 32]).expect("encrypts");
    let mut buffer = sealed.clone();
    compare("AES-GCM, first or last byte of the tag wrong", QUICK, |last| {
        buffer.copy_from_slice(&sealed);
        let at = if last { sealed.len() - 1 } else { sealed.len() - 16 };
        buffer[at] ^= 1;
        timed(|| key.decrypt(&params, &buffer).is_ok())
    });
}

/// Two pools of ciphertexts; one of a pool is copied to the same place and opened.
fn pools(what: &str, runs: usize, pools: [Vec<Vec<u8>>; 2], open: impl Fn(&[u8])) {
    let mut dice = Dice(1);
    let mut buffer = pools[0][0].clone();
    compare(what, runs, |second| {
        let pool = &pools[usize::from(second)];
        buffer.copy_from_slice(&pool[(dice.roll() % pool.len() as u64) as usize]);
        timed(|| open(&buffer))
    });
}

/// A padded block that is not what a decryption wants, in four ways.
fn misshapen(dice: &mut Dice, len: usize, shape: usize) -> Vec<u8> {
    let mut block: Vec<u8> = (0..len).map(|_| (dice.roll() % 255 + 1) as u8).collect();
    (block[0], block[1]) = (0, 2);
    block[len / 2] = 0;
    match shape {
        0 => block[0] = 1,
        1 => block[1] = 1,
        2 => block[5] = 0,
        _ => block[len / 2] = 9,
    }
    block
}

#[test]
#[ignore = "a measurement"]
fn timing_of_rsa_decryption_of_good_and_bad_ciphertexts() {
    let key = PrivateKey::generate(2048, &[1, 0, 1]).expect("a key");
    let public = key.public().expect("its public key");
    let mut dice = Dice(2);
    let message = |dice: &mut Dice| -> Vec<u8> { (0..dice.roll() % 200).map(|_| dice.roll() as u8).collect() };
    let good = || -> Vec<Vec<u8>> {
        (0..64).map(|turn| public.encrypt_pkcs1(&message(&mut Dice(turn))).expect("encrypts")).collect()
    };
    for (shape, name) in ["first byte", "block type", "a zero among the padding", "no separator"].iter().enumerate() {
        let bad = (0..64)
            .map(|_| public.encrypt_raw(&misshapen(&mut dice, 256, shape)).unwrap_or_else(|_| good()[0].clone()));
        let what = format!("RSA PKCS#1 v1.5, valid or wrong in: {name}");
        pools(&what, SLOW, [good(), bad.collect()], |text| drop(black_box(key.decrypt_pkcs1(text))));
    }
    let params = Oaep { hash: Hash::Sha256, mgf: Hash::Sha256, label: b"" };
    let oaep = (0..64).map(|turn| public.encrypt_oaep(&params, &Dice(turn).roll().to_le_bytes()).expect("encrypts"));
    let bad = (0..64).map(|_| public.encrypt_raw(&misshapen(&mut dice, 256, 3)).expect("below the modulus"));
    pools("RSA-OAEP, valid or not", SLOW, [oaep.collect(), bad.collect()], |text| {
        drop(black_box(key.decrypt_oaep(&params, text)));
    });
}

#[test]
#[ignore = "a measurement"]
fn timing_of_decapsulation_of_good_and_bad_ciphertexts() {
    let key = ml_kem::PrivateKey::generate(ml_kem::ParameterSet::MlKem768).expect("a key");
    let public = key.public().expect("its public key");
    let good: Vec<Vec<u8>> = (0..64).map(|_| public.encapsulate().expect("encapsulates").0).collect();
    let mut dice = Dice(3);
    let bad = good.iter().map(|text| {
        let mut text = text.clone();
        let at = (dice.roll() % text.len() as u64) as usize;
        text[at] ^= 1;
        text
    });
    let bad = bad.collect();
    pools("ML-KEM-768, valid or rejected", QUICK / 4, [good, bad], |text| drop(black_box(key.decapsulate(text))));
}

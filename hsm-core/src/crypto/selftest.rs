//! The power-on self-test: known answers per algorithm, a round trip where an answer is random, run before the first
//! listener opens. It takes milliseconds: no RSA key is generated.
//!
//! Sources stand beside the values; "checked" means that another implementation gave the same value.

use data_encoding::HEXLOWER;

use super::aes_cbc::{self, Padding};
use super::aes_wrap::{self, Form};
use super::ml_dsa::{Hedge, ParameterSet};
use super::rsa::{Oaep, Pss};
use super::{
    CipherStream, Curve, Direction, Error, Hash, MacStream, PreHash, PrivateKey, Result, Shake, aes_ccm, aes_gcm,
    aes_xts, cmac, des3, digest, ecdh, ecdsa, eddsa, hkdf, hmac, kbkdf, ml_dsa, ml_kem, pbkdf2, rng, rsa, slh_dsa,
    tls_prf, x25519,
};

/// The test that failed; the token must not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the self-test of {test} failed")]
pub(crate) struct Failure {
    /// Name of the test.
    pub(crate) test: &'static str,
}

/// Says whether the test passed; an error is a failure too.
type Test = fn() -> Result<bool>;

/// One row per test: its name, and its function.
const TESTS: &[(&str, Test)] = &[
    ("random generator", random),
    ("SHA-1, SHA-224, SHA-256, SHA-384, SHA-512", digests),
    ("HMAC", macs),
    ("AES-GCM", gcm),
    ("AES-CBC, AES-ECB, AES-CTR", modes),
    ("AES-CCM, AES-GMAC, AES-XTS", more_modes),
    ("AES key wrap", key_wrap),
    ("RSA signatures", rsa_signatures),
    ("RSA encryption", rsa_encryption),
    ("ECDSA", ecdsa_signatures),
    ("ECDH and X9.63 KDF", agreement),
    ("HKDF, SP 800-108, PBKDF2, TLS PRF, SHAKE", derivations),
    ("Ed25519", ed25519),
    ("Ed25519ph, Ed25519ctx", ed25519_variants),
    ("X25519", x25519_agreement),
    ("ML-DSA", ml_dsa_signatures),
    ("HashML-DSA", hash_ml_dsa_signatures),
    ("ML-KEM", ml_kem_encapsulation),
    ("SLH-DSA", slh_dsa_signatures),
    ("MD5, HMAC-MD5, triple DES", legacy),
];

/// Runs every test; gives the names of those that passed, in order.
///
/// # Errors
/// The first [`Failure`].
pub(crate) fn run() -> Result<Vec<&'static str>, Failure> {
    let mut passed = Vec::with_capacity(TESTS.len());
    for &(name, test) in TESTS {
        if test() != Ok(true) {
            return Err(Failure { test: name });
        }
        passed.push(name);
    }
    Ok(passed)
}

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).expect("the constants of this file are hexadecimal")
}

/// Whether the operation refused with this very error.
fn refused<T>(result: Result<T>, error: Error) -> bool {
    result.err() == Some(error)
}

/// A copy with one bit changed.
fn damaged(bytes: &[u8]) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    if let Some(last) = copy.last_mut() {
        *last ^= 1;
    }
    copy
}

/// The whole message through a stream.
fn through(mut stream: Box<dyn CipherStream>, input: &[u8]) -> Result<Vec<u8>> {
    let mut output = stream.update(input)?;
    output.extend(stream.finish()?);
    Ok(output)
}

/// Two draws differ and neither is constant: SP 800-90B, section 4.4 asks more of the entropy source, which tests itself.
fn random() -> Result<bool> {
    let (first, second) = (rng::secret(32)?, rng::secret(32)?);
    let constant = |bytes: &[u8]| bytes.iter().all(|&byte| byte == bytes[0]);
    Ok(first != second && !constant(first.expose()) && !constant(second.expose()))
}

/// "abc": the examples of FIPS 180-4 and FIPS 202.
fn digests() -> Result<bool> {
    const ROWS: [(Hash, &str); 11] = [
        (Hash::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (Hash::Sha224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
        (Hash::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            Hash::Sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            Hash::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (Hash::Sha512_224, "4634270f707b6a54daae7530460842e20e37ed265ceee9a43e8924aa"),
        (Hash::Sha512_256, "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"),
        (Hash::Sha3_224, "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf"),
        (Hash::Sha3_256, "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        (
            Hash::Sha3_384,
            "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25",
        ),
        (
            Hash::Sha3_512,
            "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e\
             10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
        ),
    ];
    Ok(ROWS.iter().all(|&(hash, answer)| digest::digest(hash, b"abc") == hex(answer)))
}

/// RFC 2202 section 3 (SHA-1) and RFC 4231 section 4.3: key "Jefe"; the other hashes with the same input from CPython's hashlib.
/// AES-CMAC: RFC 4493 section 4, example 2.
fn macs() -> Result<bool> {
    const ROWS: [(Hash, &str); 11] = [
        (Hash::Sha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (Hash::Sha224, "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44"),
        (Hash::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (
            Hash::Sha384,
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
        ),
        (
            Hash::Sha512,
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
             9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        ),
        (Hash::Sha512_224, "4a530b31a79ebcce36916546317c45f247d83241dfb818fd37254bde"),
        (Hash::Sha512_256, "6df7b24630d5ccb2ee335407081a87188c221489768fa2020513b2d593359456"),
        (Hash::Sha3_224, "7fdb8dd88bd2f60d1b798634ad386811c2cfc85bfaf5d52bbace5e66"),
        (Hash::Sha3_256, "c7d4072e788877ae3596bbb0da73b887c9171f93095b294ae857fbe2645e1ba5"),
        (
            Hash::Sha3_384,
            "f1101f8cbf9766fd6764d2ed61903f21ca9b18f57cf3e1a23ca13508a93243ce48c045dc007f26a21b3f5e0e9df4c20a",
        ),
        (
            Hash::Sha3_512,
            "5a4bfeab6166427c7a3647b747292b8384537cdb89afb3bf5665e4c5e709350b\
             287baec921fd7ca0ee7a0c31d022a95e1fc92ba9d77df883960275beb4e62024",
        ),
    ];
    let mut cmac = Box::new(cmac::Stream::new(&hex("2b7e151628aed2a6abf7158809cf4f3c"))?);
    cmac.update(&hex("6bc1bee22e409f96e93d7e117393172a"));
    let cmac_is_right = cmac.finish() == hex("070a16b46b4d4144f79bdd9dd04a287c");
    let hmac_is_right = ROWS.iter().all(|&(hash, answer)| {
        let mut stream = Box::new(hmac::Key::new(hash, b"Jefe").start());
        stream.update(b"what do ya want for nothing?");
        let len = hash.output_len();
        stream.clone().verify(&hex(answer), len).is_ok()
            && refused(stream.verify(&damaged(&hex(answer)), len), Error::SignatureInvalid)
    });
    Ok(cmac_is_right && hmac_is_right)
}

/// McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test case 16; checked.
fn gcm() -> Result<bool> {
    let key = aes_gcm::Key::new(&hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"))?;
    let (iv, aad) = (hex("cafebabefacedbaddecaf888"), hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"));
    let plaintext = hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
    let sealed = hex("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662\
         76fc6ece0f4e1768cddf8853bb2d551b");
    let params = aes_gcm::Params::new(&iv, &aad, 128)?;
    Ok(key.encrypt(&params, &plaintext)? == sealed
        && key.decrypt(&params, &sealed)?.expose() == plaintext
        && refused(key.decrypt(&params, &damaged(&sealed)), Error::AuthenticationFailed))
}

/// SP 800-38A, appendix F: F.1.1, F.2.1 and F.5.1, first two blocks; checked.
fn modes() -> Result<bool> {
    let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
    let plaintext = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
    let (iv, counter) = (hex("000102030405060708090a0b0c0d0e0f"), hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"));
    let cbc = hex("7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2");
    let ecb = hex("3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf");
    let ctr = hex("874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff");
    let padded = through(aes_cbc::cbc(Direction::Encrypt, Padding::Pkcs7, &key, &iv)?, &plaintext)?;
    let cbc_stream = |direction| aes_cbc::cbc(direction, Padding::None, &key, &iv);
    Ok(through(cbc_stream(Direction::Encrypt)?, &plaintext)? == cbc
        && through(cbc_stream(Direction::Decrypt)?, &cbc)? == plaintext
        && padded.starts_with(&cbc)
        && through(aes_cbc::cbc(Direction::Decrypt, Padding::Pkcs7, &key, &iv)?, &padded)? == plaintext
        && through(aes_cbc::ecb(Direction::Encrypt, &key)?, &plaintext)? == ecb
        && through(aes_cbc::ecb(Direction::Decrypt, &key)?, &ecb)? == plaintext
        && through(aes_cbc::ctr(Direction::Encrypt, &key, &counter, 128)?, &plaintext)? == ctr)
}

/// RFC 1321, appendix A.5; RFC 2202, section 2, test 2; the TDES-CBC example of the NIST; checked.
fn legacy() -> Result<bool> {
    let (key, iv) = (hex("0123456789abcdef23456789abcdef01456789abcdef0123"), hex("f69f2445df4f9b17"));
    let plaintext = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
    let ciphertext = hex("2079c3d53aa763e193b79e2569ab5262516570481f25b50f73c0bda85c8e0da7");
    let cbc = |direction| des3::cbc(direction, Padding::None, &key, &iv);
    let tag = hmac::Key::new(Hash::Md5, b"Jefe").sign(b"what do ya want for nothing?");
    Ok(digest::digest(Hash::Md5, b"abc") == hex("900150983cd24fb0d6963f7d28e17f72")
        && tag == hex("750c783e6ab0b503eaa86e310a5db738")
        && through(cbc(Direction::Encrypt)?, &plaintext)? == ciphertext
        && through(cbc(Direction::Decrypt)?, &ciphertext)? == plaintext)
}

/// SP 800-38C, appendix C, example 2; the GMAC of McGrew and Viega's test case 1, which is GCM of nothing; IEEE 1619-2007,
/// appendix B, vector 2.
fn more_modes() -> Result<bool> {
    let (nonce, aad) = (hex("1011121314151617"), hex("000102030405060708090a0b0c0d0e0f"));
    let ccm = aes_ccm::Params::new(&nonce, &aad, 6)?;
    let key = hex("404142434445464748494a4b4c4d4e4f");
    let (plaintext, sealed) =
        (hex("202122232425262728292a2b2c2d2e2f"), hex("d2a1f0e051ea5f62081a7792073d593d1fc64fbfaccd"));
    let ccm_is_right = aes_ccm::encrypt(&key, &ccm, &plaintext)? == sealed
        && aes_ccm::decrypt(&key, &ccm, &sealed)?.expose() == plaintext
        && refused(aes_ccm::decrypt(&key, &ccm, &damaged(&sealed)), Error::AuthenticationFailed);
    let gmac = aes_gcm::Gmac::new(&[0; 16], &aes_gcm::Params::new(&[0; 12], &[], 128)?)?;
    let gmac_is_right = Box::new(gmac).finish() == hex("58e2fccefa7e3061367f1d57a4e7455a");
    let xts_key = hex("1111111111111111111111111111111122222222222222222222222222222222");
    let unit: [u8; 16] = hex("33333333330000000000000000000000").try_into().map_err(|_| Error::Internal)?;
    let (clear, hidden) = ([0x44; 32], hex("c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0"));
    Ok(ccm_is_right
        && gmac_is_right
        && aes_xts::process(Direction::Encrypt, &xts_key, &unit, &clear)?.expose() == hidden
        && aes_xts::process(Direction::Decrypt, &xts_key, &unit, &hidden)?.expose() == clear)
}

/// RFC 5869, appendix A.1; NIST CAVS 14.4 for SP 800-108 (CMAC-AES128, counter of 8 bits before the input); RFC 6070, case 2; the
/// TLS 1.2 vector of the working group's list (SHA-256, 16 bytes); FIPS 202's message of no bits.
fn derivations() -> Result<bool> {
    let prk = hkdf::extract(Hash::Sha256, &hex("000102030405060708090a0b0c"), &[0x0b; 22]);
    let okm = hkdf::expand(Hash::Sha256, prk.expose(), &hex("f0f1f2f3f4f5f6f7f8f9"), 42)?;
    let fixed = hex("c16e6e02c5a3dcc8d78b9ac1306877761310455b4e41469951d9e6c2245a064b33fd8c3b01203a7824485bf0a64060c4\
                     648b707d2607935699316ea5");
    let fields = [kbkdf::Field::Counter(kbkdf::Format::new(false, 8)?), kbkdf::Field::Bytes(&fixed)];
    let key = hex("dff1e50ac0b69dc40f1051d46c2b069c");
    let counted = kbkdf::derive(kbkdf::Prf::AesCmac, &key, kbkdf::Mode::Counter, &fields, 1)?;
    let stretched = pbkdf2::derive(Hash::Sha1, b"password", b"salt", 2, 20)?;
    let secret = hex("9bbe436ba940f017b17652849a71db35");
    let tls = tls_prf::derive(Hash::Sha256, &secret, b"test label", &[&hex("a0ba9f936cda311827a6f796ffd5198c")], 16);
    Ok(okm.expose() == hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
        && counted.expose() == hex("8be8f0869b3c0ba97b71863d1b9f7813")
        && stretched.expose() == hex("ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957")
        && tls.expose() == hex("e3f229ba727be17b8d122620557cd453")
        && digest::shake(Shake::Shake128, b"", 16).expose() == hex("7f9c2ba4e88f827d616045507605853e"))
}

/// RFC 3394 section 4.6 and RFC 5649 section 6; checked.
fn key_wrap() -> Result<bool> {
    let kw_key = hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    let kwp_key = hex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8");
    let rows = [
        (
            Form::Kw,
            &kw_key,
            "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f",
            "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21",
        ),
        (Form::Kwp, &kwp_key, "466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"),
    ];
    for (form, wrapping_key, key, wrapped) in rows {
        let (key, wrapped) = (hex(key), hex(wrapped));
        let good = aes_wrap::wrap(form, wrapping_key, &key)? == wrapped
            && aes_wrap::unwrap(form, wrapping_key, &wrapped)?.expose() == key
            && refused(aes_wrap::unwrap(form, wrapping_key, &damaged(&wrapped)), Error::WrappedKeyInvalid);
        if !good {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The key that `testdata/README.md` describes: it protects nothing.
fn rsa_key() -> Result<rsa::PrivateKey> {
    match PrivateKey::from_pkcs8(include_bytes!("../../testdata/selftest_rsa_2048.pk8"))? {
        PrivateKey::Rsa(key) => Ok(key),
        _ => Err(Error::Internal),
    }
}

/// A deterministic PKCS#1 v1.5 signature; a PSS signature to verify and one to make (`testdata/README.md`).
fn rsa_signatures() -> Result<bool> {
    let (key, digest) = (rsa_key()?, digest::digest(Hash::Sha256, b"abc"));
    let public = key.public()?;
    let pkcs1 = include_bytes!("../../testdata/selftest_rsa_2048_pkcs1.sig");
    let pss = include_bytes!("../../testdata/selftest_rsa_2048_pss.sig");
    let params = Pss { hash: Hash::Sha256, mgf: Hash::Sha256, salt_len: 32 };
    Ok(key.sign_pkcs1(Hash::Sha256, &digest)? == pkcs1
        && public.verify_pkcs1(Hash::Sha256, &digest, pkcs1).is_ok()
        && refused(public.verify_pkcs1(Hash::Sha256, &digest, &damaged(pkcs1)), Error::SignatureInvalid)
        && public.verify_pss(&params, &digest, pss).is_ok()
        && public.verify_pss(&params, &digest, &key.sign_pss(&params, &digest)?).is_ok()
        && refused(public.verify_pss(&params, &digest, &damaged(pss)), Error::SignatureInvalid))
}

/// An OAEP ciphertext to open (`testdata/README.md`); a PKCS#1 v1.5 round trip.
fn rsa_encryption() -> Result<bool> {
    let key = rsa_key()?;
    let ciphertext = include_bytes!("../../testdata/selftest_rsa_2048_oaep.bin");
    let params = Oaep { hash: Hash::Sha256, mgf: Hash::Sha256, label: &[] };
    let pkcs1 = key.public()?.encrypt_pkcs1(b"abc")?;
    Ok(key.decrypt_oaep(&params, ciphertext)?.expose() == b"abc"
        && refused(key.decrypt_oaep(&params, &damaged(ciphertext)), Error::EncryptedDataInvalid)
        && key.decrypt_pkcs1(&pkcs1)?.expose() == b"abc")
}

/// RFC 6979, appendices A.2.5 to A.2.7, message "sample" with the curve's own hash: verified; then a round trip; checked.
fn ecdsa_signatures() -> Result<bool> {
    const ROWS: [(Curve, Hash, &str, &str); 3] = [
        (
            Curve::P256,
            Hash::Sha256,
            "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
            "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716\
             f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
        ),
        (
            Curve::P384,
            Hash::Sha384,
            "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5",
            "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46\
             99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8",
        ),
        (
            Curve::P521,
            Hash::Sha512,
            "00fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75\
             caa896eb32f1f47c70855836a6d16fcc1466f6d8fbec67db89ec0c08b0e996b83538",
            "00c328fafcbd79dd77850370c46325d987cb525569fb63c5d3bc53950e6d4c5f\
             174e25a1ee9017b5d450606add152b534931d7d4e8455cc91f9b15bf05ec36e377fa\
             00617cce7cf5064806c467f678d3b4080d6f1cc50af26ca209417308281b68af\
             282623eaa63e5b5c0723d8b8c37ff0777b1a20f8ccb1dccc43997f1ee0e44da4a67a",
        ),
    ];
    for (curve, hash, scalar, answer) in ROWS {
        let key = ecdsa::PrivateKey::from_scalar(curve, &hex(scalar), None)?;
        let (public, digest, answer) = (key.public()?, digest::digest(hash, b"sample"), hex(answer));
        let good = public.verify(&digest, &answer).is_ok()
            && public.verify(&digest, &key.sign(&digest)?).is_ok()
            && refused(public.verify(&digest, &damaged(&answer)), Error::SignatureInvalid);
        if !good {
            return Ok(false);
        }
    }
    Ok(true)
}

/// RFC 5903 section 8.1 (P-256); the derivation over 24 bytes as in the NIST CAVS set for ANSI X9.63-2001; checked.
fn agreement() -> Result<bool> {
    let scalar = hex("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433");
    let key = ecdsa::PrivateKey::from_scalar(Curve::P256, &scalar, None)?;
    let peer = hex("04d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63\
                    56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab");
    let secret = hex("d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de");
    let input = hex("96c05619d56c328ab95fe84b18264b08725b85e33fd34f08");
    let derived = ecdh::x963_kdf(Hash::Sha256, &input, &[], 16)?;
    Ok(ecdh::agree(&key, &peer)?.expose() == secret
        && refused(ecdh::agree(&key, &damaged(&peer)), Error::InvalidKey)
        && derived.expose() == hex("443024c3dae66b95e6f5670601558f71"))
}

/// RFC 8032, section 7.1, test 2; checked.
fn ed25519() -> Result<bool> {
    let key = eddsa::PrivateKey::from_seed(&hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))?;
    let signature = hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
    let public = key.public()?;
    Ok(public.as_bytes() == hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
        && key.sign(&[0x72])? == signature
        && public.verify(&[0x72], &signature).is_ok()
        && refused(public.verify(&[0x73], &signature), Error::SignatureInvalid))
}

/// RFC 8032, section 7.3, and section 7.2 (the test "foo").
fn ed25519_variants() -> Result<bool> {
    let hashed =
        eddsa::PrivateKey::from_seed(&hex("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42"))?;
    let hashed_answer = hex("98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
                             31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406");
    let bound = eddsa::PrivateKey::from_seed(&hex("0305334e381af78f141cb666f6199f57bc3495335a256a95bd2a55bf546663f6"))?;
    let message = hex("f726936d19c800494e3fdaff20b276a8");
    let bound_answer = hex("55a4cc2f70a54e04288c5f4cd1e45a7bb520b36292911876cada7323198dd87a\
                            8b36950b95130022907a7fb7c4e9b2d5f6cca685a587b4b21f4b888e4e7edb0d");
    let (one, other) = (eddsa::Variant::PreHash, eddsa::Variant::Context);
    Ok(hashed.sign_variant(one, b"abc", b"")? == hashed_answer
        && hashed.public()?.verify_variant(one, b"abc", b"", &hashed_answer).is_ok()
        && bound.sign_variant(other, &message, b"foo")? == bound_answer
        && bound.public()?.verify_variant(other, &message, b"foo", &bound_answer).is_ok()
        && refused(bound.public()?.verify_variant(other, &message, b"bar", &bound_answer), Error::SignatureInvalid))
}

/// RFC 7748, section 6.1: Bob's side; checked.
fn x25519_agreement() -> Result<bool> {
    let bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let alice = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let secret = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    let key = x25519::PrivateKey::from_scalar(&bob)?;
    Ok(key.agree(&alice)?.expose() == secret && refused(key.agree(&[0; 32]), Error::InvalidKey))
}

/// Wycheproof's first test of each parameter set (seed of 32 bytes 0x2a, no context): SHA-256 of the public key and of the
/// deterministic signature, which the other implementation makes and this one verifies; then a round trip.
fn ml_dsa_signatures() -> Result<bool> {
    const MESSAGE: &[u8] = b"Hello world";
    const ROWS: [(ParameterSet, &str, &str); 3] = [
        (
            ParameterSet::MlDsa44,
            "d87f8ca136ac1aa55e2d6c4521680efb3a378cbb9bc0bfb446e9c60893931ea3",
            "8cd6fc03daa72e87210a4e721523e84c14f27733789075e65736744d4787fdd5",
        ),
        (
            ParameterSet::MlDsa65,
            "b7acce2ddb11f8cc1aa46e2bafac6eacfa2b732ef192bd636ad8d3a56d649c66",
            "39fbbb0d97a52c79844213b325af823a7f16a174e00a5b3daeb3e6e6d1c89681",
        ),
        (
            ParameterSet::MlDsa87,
            "d43128fa8a8c785c1d44c9e7db538dbf9dd88fe6c8ad911a344bcec1017c6d54",
            "1ad45bd0419e694375bd38ec11d8e0c228ab9ffac2fce4adbe6218d9c949e293",
        ),
    ];
    for (set, public_digest, signature_digest) in ROWS {
        let key = ml_dsa::PrivateKey::from_seed(set, &[0x2a; ml_dsa::SEED_LEN])?;
        let public = key.public()?;
        let fixed = key.sign(MESSAGE, &[], Hedge::Deterministic)?;
        let hedged = key.sign(MESSAGE, b"context", Hedge::Random)?;
        let good = digest::digest(Hash::Sha256, &public.to_bytes()?) == hex(public_digest)
            && digest::digest(Hash::Sha256, &fixed) == hex(signature_digest)
            && public.verify(MESSAGE, &[], &fixed).is_ok()
            && public.verify(MESSAGE, b"context", &hedged).is_ok()
            && refused(public.verify(MESSAGE, &[], &hedged), Error::SignatureInvalid);
        if !good {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A digest signed by each implementation as the other one signs it: AWS-LC verifies what the `ml-dsa` crate signs over the same
/// representative; then a round trip.
fn hash_ml_dsa_signatures() -> Result<bool> {
    let hash = PreHash::Hash(Hash::Sha512);
    let key = ml_dsa::PrivateKey::from_seed(ParameterSet::MlDsa44, &[0x2a; ml_dsa::SEED_LEN])?;
    let (public, digest) = (key.public()?, digest::digest(Hash::Sha512, b"abc"));
    let fixed = key.sign_digest(hash, &digest, b"context", Hedge::Deterministic)?;
    let hedged = key.sign_digest(hash, &digest, b"context", Hedge::Random)?;
    Ok(public.verify_digest(hash, &digest, b"context", &fixed).is_ok()
        && public.verify_digest(hash, &digest, b"context", &hedged).is_ok()
        && refused(public.verify_digest(hash, &digest, b"", &fixed), Error::SignatureInvalid)
        && refused(public.verify(&digest, b"context", &fixed), Error::SignatureInvalid))
}

/// A signature that another implementation made (`testdata/README.md`); then a round trip with the fastest parameter set.
fn slh_dsa_signatures() -> Result<bool> {
    let public = hex("bea7ee79bc2521f29d83b471337a4fc85f3e0ad2ab5adf9cacc22db805577f1e");
    let public = slh_dsa::PublicKey::from_bytes(slh_dsa::ParameterSet::Sha2_128s, &public)?;
    let signature = include_bytes!("../../testdata/selftest_slh_dsa_sha2_128s.sig");
    let key = slh_dsa::PrivateKey::generate(slh_dsa::ParameterSet::Sha2_128f)?;
    let own = key.sign(b"abc", b"context", Hedge::Random)?;
    Ok(public.verify(b"Craton", b"", signature).is_ok()
        && refused(public.verify(b"Craton", b"", &damaged(signature)), Error::SignatureInvalid)
        && key.public()?.verify(b"abc", b"context", &own).is_ok()
        && refused(key.public()?.verify(b"abc", b"", &own), Error::SignatureInvalid))
}

/// Keys from a seed of 64 bytes 0x2a: SHA-256 of the public key as another implementation (kyber-py) makes it; then a round trip and a ciphertext
/// that was changed.
fn ml_kem_encapsulation() -> Result<bool> {
    const ROWS: [(ml_kem::ParameterSet, &str); 3] = [
        (ml_kem::ParameterSet::MlKem512, "d6c85eeed9316c7b8ea34cbe9ec3d9505e3d203da05a5f3efcc639464719f345"),
        (ml_kem::ParameterSet::MlKem768, "61478b1d7a03527d8a2fa89ff7de964779a8d8a83492060282da375068dec694"),
        (ml_kem::ParameterSet::MlKem1024, "3285d30238411f1b9e737fd02b27082a983a86b2b37bcd42a631b38b44f6dad0"),
    ];
    for (set, public_digest) in ROWS {
        let key = ml_kem::PrivateKey::from_seed(set, &[0x2a; ml_kem::SEED_LEN])?;
        let public = key.public()?;
        let (ciphertext, secret) = public.encapsulate()?;
        let good = digest::digest(Hash::Sha256, &public.to_bytes()?) == hex(public_digest)
            && key.decapsulate(&ciphertext)? == secret
            && key.decapsulate(&damaged(&ciphertext))? != secret;
        if !good {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_passes() {
        assert_eq!(run().expect("the library is sound").len(), TESTS.len());
    }

    #[test]
    fn a_failure_names_its_test() {
        assert_eq!(Failure { test: "AES-GCM" }.to_string(), "the self-test of AES-GCM failed");
    }
}

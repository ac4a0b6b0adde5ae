//! Dual-function operations (PKCS#11 v3.0 §5.17).

use acceptance::module::{Token, aes, hmac_key};
use acceptance::raw::{Memory, Raw};
use acceptance::{module, module_test};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki_sys::*;

module_test! {
    fn two_operations_see_the_same_plaintext(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let key = aes(&session, 16, &[Attribute::Encrypt(true), Attribute::Decrypt(true)]).expect("a key");
        let mac_key = hmac_key(&session, 32).expect("a key");
        let text = [0x37; 64];
        let sealed = session.encrypt(&Mechanism::AesCbc([5; 16]), key, &text).expect("encrypts");
        let digest = session.digest(&Mechanism::Sha256, &text).expect("digests");
        let mac = session.sign(&Mechanism::Sha256Hmac, mac_key, &text).expect("signs");
        let (h, iv) = (session.handle(), Memory::of(&[5; 16]));
        let cbc = Memory::words(&[CKM_AES_CBC, iv.address(), 16]);
        let plain = |number| Memory::words(&[number, 0, 0]);
        let (sha, hmac) = (plain(CKM_SHA256), plain(CKM_SHA256_HMAC));
        let (key, mac_key) = (key.handle(), mac_key.handle());
        // Init of the cipher and of the other, the function, what goes in and comes out, and what the other gives at its end.
        let rows = [
            ("C_EncryptInit", "C_DigestEncryptUpdate", "C_EncryptFinal", &text[..], &sealed[..]),
            ("C_EncryptInit", "C_SignEncryptUpdate", "C_EncryptFinal", &text[..], &sealed[..]),
            ("C_DecryptInit", "C_DecryptDigestUpdate", "C_DecryptFinal", &sealed[..], &text[..]),
            ("C_DecryptInit", "C_DecryptVerifyUpdate", "C_DecryptFinal", &sealed[..], &text[..]),
        ];
        for (init, update, finish, input, expected) in rows {
            let (data, out, len) = (Memory::of(input), Memory::zeroed(64), Memory::words(&[64]));
            let step = |from: usize, count: u64, out: u64| {
                raw.call(update, &[h, data.address() + from as u64, count, out, len.address()])
            };
            assert_eq!(step(0, 32, out.address()), CKR_OPERATION_NOT_INITIALIZED, "{update}");
            assert_eq!(raw.call(init, &[h, cbc.address(), key]), CKR_OK);
            assert_eq!(step(0, 32, out.address()), CKR_OPERATION_NOT_INITIALIZED, "{update} with one of two");
            match update {
                "C_SignEncryptUpdate" => assert_eq!(raw.call("C_SignInit", &[h, hmac.address(), mac_key]), CKR_OK),
                "C_DecryptVerifyUpdate" => assert_eq!(raw.call("C_VerifyInit", &[h, hmac.address(), mac_key]), CKR_OK),
                _ => assert_eq!(raw.call("C_DigestInit", &[h, sha.address()]), CKR_OK),
            }
            // Neither a question nor a buffer that is too small gives anything to the second operation.
            assert_eq!((step(0, 32, 0), len.word(0)), (CKR_OK, 32), "{update}");
            len.set(0, 8);
            assert_eq!(step(0, 32, out.address()), CKR_BUFFER_TOO_SMALL, "{update}");
            for from in [0, 32] {
                len.set(0, 64);
                assert_eq!(step(from, 32, out.address()), CKR_OK, "{update}");
                assert_eq!(out.bytes(32), expected[from..from + 32], "{update}");
            }
            len.set(0, 64);
            assert_eq!((raw.call(finish, &[h, out.address(), len.address()]), len.word(0)), (CKR_OK, 0), "{finish}");
            len.set(0, 64);
            match update {
                "C_SignEncryptUpdate" => {
                    assert_eq!(raw.call("C_SignFinal", &[h, out.address(), len.address()]), CKR_OK);
                    assert_eq!(out.bytes(32), mac);
                }
                "C_DecryptVerifyUpdate" => {
                    let mac = Memory::of(&mac);
                    assert_eq!(raw.call("C_VerifyFinal", &[h, mac.address(), 32]), CKR_OK);
                }
                _ => {
                    assert_eq!(raw.call("C_DigestFinal", &[h, out.address(), len.address()]), CKR_OK);
                    assert_eq!(out.bytes(32), digest);
                }
            }
        }
    }
}

//! Encryption and decryption (PKCS#11 v3.0 §5.8 and §5.9).

use acceptance::module::{SESSION, Token, aes, import_aes, refused};
use acceptance::raw::{Init, Memory, Raw, Room};
use acceptance::structure::Structure;
use acceptance::{module, module_test};
use cryptoki::error::RvError;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::Attribute;
use cryptoki_sys::*;
use data_encoding::HEXLOWER;

const BOTH: [Attribute; 2] = [Attribute::Encrypt(true), Attribute::Decrypt(true)];

fn gcm<'a>(iv: &'a mut [u8], aad: &'a [u8]) -> Mechanism<'a> {
    Mechanism::AesGcm(GcmParams::new(iv, aad, 128.into()).expect("lengths fit"))
}

module_test! {
    fn aes_gcm_round_trips_and_refuses_what_was_changed(_world) {
        let token = Token::open();
        let session = token.user();
        for len_bytes in [16, 24, 32] {
            let key = aes(&session, len_bytes, &BOTH).expect("a key");
            for (turn, text) in [&b""[..], b"x", &[7; 1000]].into_iter().enumerate() {
                let mut iv = [u8::try_from(turn).expect("small"); 12];
                let mut sealed = session.encrypt(&gcm(&mut iv, b"header"), key, text).expect("encrypts");
                assert_eq!(sealed.len(), text.len() + 16);
                assert_eq!(session.decrypt(&gcm(&mut iv, b"header"), key, &sealed).expect("decrypts"), text);
                assert_changed_is_refused(refused(session.decrypt(&gcm(&mut iv, b"other"), key, &sealed)));
                *sealed.last_mut().expect("a tag") ^= 1;
                assert_changed_is_refused(refused(session.decrypt(&gcm(&mut iv, b"header"), key, &sealed)));
            }
        }
    }
}

fn assert_changed_is_refused(rv: RvError) {
    // CKR_AEAD_DECRYPT_FAILED of PKCS#11 v3.0, for which the binding has no name.
    let aead = RvError::UnknownErrorCode(cryptoki_sys::CKR_AEAD_DECRYPT_FAILED);
    assert!(rv == aead || matches!(rv, RvError::EncryptedDataInvalid), "{rv:?}");
}

module_test! {
    fn aes_gcm_gives_the_published_answer(_world) {
        // Test case 4 of the GCM specification (McGrew and Viega): AES-128, 96-bit IV.
        let token = Token::open();
        let session = token.user();
        let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).expect("hex");
        let key = import_aes(&session, &hex("feffe9928665731c6d6a8f9467308308"), &BOTH).expect("a key");
        let text = hex(concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        ));
        let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let mut iv = hex("cafebabefacedbaddecaf888");
        let sealed = session.encrypt(&gcm(&mut iv, &aad), key, &text).expect("encrypts");
        let expected = concat!(
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e",
            "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
            "5bc94fbc3221a5db94fae95ae7121a47"
        );
        assert_eq!(HEXLOWER.encode(&sealed), expected);
    }
}

module_test! {
    fn aes_cbc_pad_round_trips_in_one_part_and_in_many(_world) {
        let token = Token::open();
        let session = token.user();
        let key = aes(&session, 32, &BOTH).expect("a key");
        let mechanism = Mechanism::AesCbcPad([9; 16]);
        for len in [0, 1, 15, 16, 17, 1000] {
            let text = vec![0x41; len];
            let sealed = session.encrypt(&mechanism, key, &text).expect("encrypts");
            assert_eq!(sealed.len(), (len / 16 + 1) * 16);
            assert_eq!(session.decrypt(&mechanism, key, &sealed).expect("decrypts"), text);
            session.encrypt_init(&mechanism, key).expect("init");
            let mut parts = Vec::new();
            for chunk in text.chunks(7) {
                parts.extend(session.encrypt_update(chunk).expect("update"));
            }
            parts.extend(session.encrypt_final().expect("final"));
            assert_eq!(parts, sealed, "{len} bytes in parts");
            session.decrypt_init(&mechanism, key).expect("init");
            let mut parts = Vec::new();
            for chunk in sealed.chunks(5) {
                parts.extend(session.decrypt_update(chunk).expect("update"));
            }
            parts.extend(session.decrypt_final().expect("final"));
            assert_eq!(parts, text, "{len} bytes in parts");
        }
    }
}

module_test! {
    fn cbc_ciphertext_of_a_wrong_length_is_refused(_world) {
        let token = Token::open();
        let session = token.user();
        let key = aes(&session, 16, &BOTH).expect("a key");
        for bad in [&[0; 15][..], &[0; 17]] {
            let rv = refused(session.decrypt(&Mechanism::AesCbcPad([0; 16]), key, bad));
            assert!(matches!(rv, RvError::EncryptedDataLenRange | RvError::EncryptedDataInvalid), "{}: {rv:?}", bad.len());
        }
    }
}

module_test! {
    fn a_size_query_and_a_small_buffer_keep_the_encryption(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let key = aes(&session, 16, &BOTH).expect("a key").handle();
        let handle = session.handle();
        assert_eq!(raw.encrypt_init(handle, CKM_AES_CBC_PAD, &[0; 16], key), CKR_OK);
        let query = raw.encrypt(handle, &[1; 20], Room::Query);
        assert!(query.rv == CKR_OK && query.len >= 32, "{query:?}");
        assert_eq!(raw.encrypt(handle, &[1; 20], Room::Bytes(8)).rv, CKR_BUFFER_TOO_SMALL);
        let sealed = raw.encrypt(handle, &[1; 20], Room::Bytes(query.len));
        assert_eq!((sealed.rv, sealed.len), (CKR_OK, 32));
        assert_eq!(raw.encrypt(handle, &[1; 20], Room::Bytes(64)).rv, CKR_OPERATION_NOT_INITIALIZED);
    }
}

module_test! {
    fn rsa_oaep_round_trips(_world) {
        let token = Token::open();
        let session = token.user();
        let (public, private) = module::rsa(&session, 2048, SESSION).expect("a key");
        let oaep = || {
            let params = PkcsOaepParams::new(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, PkcsOaepSource::empty());
            Mechanism::RsaPkcsOaep(params)
        };
        let sealed = session.encrypt(&oaep(), public, b"a session key").expect("encrypts");
        assert_eq!(session.decrypt(&oaep(), private, &sealed).expect("decrypts"), b"a session key");
        let mut changed = sealed;
        changed[100] ^= 1;
        let rv = refused(session.decrypt(&oaep(), private, &changed));
        assert!(matches!(rv, RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange), "{rv:?}");
    }
}

module_test! {
    fn a_key_without_the_flag_does_not_encrypt(_world) {
        let token = Token::open();
        let session = token.user();
        let key = aes(&session, 16, &[Attribute::Encrypt(false), Attribute::Decrypt(true)]).expect("a key");
        let rv = refused(session.encrypt(&Mechanism::AesCbcPad([0; 16]), key, b"no"));
        assert!(matches!(rv, RvError::KeyFunctionNotPermitted), "{rv:?}");
    }
}

module_test! {
    fn aes_ccm_gives_the_published_answer_and_refuses_what_was_changed(_world) {
        // SP 800-38C, appendix C, example 2.
        let token = Token::open();
        let session = token.user();
        let (raw, handle) = (Raw::load(&module::path()), session.handle());
        let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).expect("hex");
        let key = import_aes(&session, &hex("404142434445464748494a4b4c4d4e4f"), &BOTH).expect("a key").handle();
        let (nonce, aad, text) = (hex("1011121314151617"), hex("000102030405060708090a0b0c0d0e0f"), hex("202122232425262728292a2b2c2d2e2f"));
        // The example's tag has six bytes, which policy finds too short; the ciphertext is the same with a longer one.
        let short = raw.init(Init::Encrypt, handle, CKM_AES_CCM, Structure::Ccm(16, &nonce, &aad, 6), key);
        assert_eq!((short, raw.encrypt(handle, &text, Room::Bytes(64)).rv), (CKR_OK, CKR_MECHANISM_PARAM_INVALID));
        let init = |kind, len, aad| assert_eq!(raw.init(kind, handle, CKM_AES_CCM, Structure::Ccm(len, &nonce, aad, 8), key), CKR_OK);
        init(Init::Encrypt, 16, &aad);
        assert_eq!(raw.encrypt(handle, &text, Room::Query).len, 24);
        let sealed = raw.encrypt(handle, &text, Room::Bytes(64)).bytes;
        assert_eq!(HEXLOWER.encode(&sealed[..16]), "d2a1f0e051ea5f62081a7792073d593d");
        init(Init::Decrypt, 16, &aad);
        assert_eq!(raw.decrypt(handle, &sealed, Room::Bytes(64)).bytes, text);
        for at in [0, 15, 16, 23] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            init(Init::Decrypt, 16, &aad);
            let opened = raw.decrypt(handle, &changed, Room::Bytes(64));
            assert_eq!((opened.rv, opened.bytes.len()), (CKR_AEAD_DECRYPT_FAILED, 0), "byte {at}");
        }
        init(Init::Decrypt, 16, b"other");
        assert_eq!(raw.decrypt(handle, &sealed, Room::Bytes(64)).rv, CKR_AEAD_DECRYPT_FAILED);
        init(Init::Encrypt, 15, &aad);
        assert_eq!(raw.encrypt(handle, &text, Room::Bytes(64)).rv, CKR_DATA_LEN_RANGE);
        init(Init::Decrypt, 17, &aad);
        assert_eq!(raw.decrypt(handle, &sealed, Room::Bytes(64)).rv, CKR_ENCRYPTED_DATA_LEN_RANGE);
    }
}

module_test! {
    fn aead_gives_the_ciphertext_of_each_part_at_once_and_its_tag_at_the_end(_world) {
        // PyKCS11's users hand what C_EncryptUpdate gave to C_DecryptUpdate, and what C_EncryptFinal gave is the tag to them.
        let token = Token::open();
        let session = token.user();
        let (raw, h) = (Raw::load(&module::path()), session.handle());
        let key = aes(&session, 32, &BOTH).expect("a key").handle();
        let text: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for mechanism in [CKM_AES_GCM, CKM_AES_CCM] {
            let parameter = || match mechanism {
                CKM_AES_GCM => Structure::Gcm(&[7; 12], b"aad", 128),
                _ => Structure::Ccm(1000, &[7; 12], b"aad", 16),
            };
            assert_eq!(raw.init(Init::Encrypt, h, mechanism, parameter(), key), CKR_OK);
            let mut sealed = Vec::new();
            for part in text.chunks(333) {
                let (input, out, len) = (Memory::of(part), Memory::zeroed(340), Memory::words(&[part.len() as u64 - 1]));
                let update = || {
                    let arguments = [h, input.address(), part.len() as u64, out.address(), len.address()];
                    raw.call("C_EncryptUpdate", &arguments)
                };
                assert_eq!((update(), len.word(0) >= part.len() as u64), (CKR_BUFFER_TOO_SMALL, true));
                len.set(0, part.len() as u64);
                assert_eq!((update(), len.word(0)), (CKR_OK, part.len() as u64));
                sealed.extend(out.bytes(part.len()));
            }
            let (tag, len) = (Memory::zeroed(16), Memory::words(&[15]));
            let last = || raw.call("C_EncryptFinal", &[h, tag.address(), len.address()]);
            assert_eq!((last(), len.word(0)), (CKR_BUFFER_TOO_SMALL, 16));
            assert_eq!((last(), len.word(0)), (CKR_OK, 16));
            sealed.extend(tag.bytes(16));
            assert_eq!(raw.init(Init::Decrypt, h, mechanism, parameter(), key), CKR_OK);
            assert_eq!(raw.decrypt(h, &sealed, Room::Bytes(1000)).bytes, text);
        }
    }
}

module_test! {
    fn a_query_about_a_decryption_never_says_nought(_world) {
        // PyKCS11 makes as much room as it is told. No room is a NULL pointer, which asks again: the part was never taken, and an empty
        // plaintext's tag never checked.
        let token = Token::open();
        let session = token.user();
        let (raw, h) = (Raw::load(&module::path()), session.handle());
        let key = aes(&session, 32, &BOTH).expect("a key").handle();
        let gcm = || Structure::Gcm(&[7; 12], b"aad", 128);
        assert_eq!(raw.init(Init::Encrypt, h, CKM_AES_GCM, gcm(), key), CKR_OK);
        let tag = Memory::of(&raw.encrypt(h, b"", Room::Bytes(16)).bytes);
        let (len, out) = (Memory::words(&[0]), Memory::zeroed(64));
        let room = |rv: CK_RV| {
            assert!(rv == CKR_OK && (1..=64).contains(&len.word(0)), "{rv:#x}, {} bytes", len.word(0));
            out.address()
        };
        let decrypt = |out| raw.call("C_Decrypt", &[h, tag.address(), 16, out, len.address()]);
        let update = |out| raw.call("C_DecryptUpdate", &[h, tag.address(), 16, out, len.address()]);
        let last = |out| raw.call("C_DecryptFinal", &[h, out, len.address()]);
        assert_eq!(raw.init(Init::Decrypt, h, CKM_AES_GCM, gcm(), key), CKR_OK);
        assert_eq!((decrypt(room(decrypt(0))), len.word(0)), (CKR_OK, 0));
        assert_eq!(raw.init(Init::Decrypt, h, CKM_AES_GCM, gcm(), key), CKR_OK);
        assert_eq!((update(room(update(0))), len.word(0)), (CKR_OK, 0));
        assert_eq!((last(room(last(0))), len.word(0)), (CKR_OK, 0));
    }
}

module_test! {
    fn aes_gcm_takes_ivs_of_any_length_and_tags_from_96_bits(_world) {
        let token = Token::open();
        let session = token.user();
        let (raw, handle) = (Raw::load(&module::path()), session.handle());
        let key = aes(&session, 32, &BOTH).expect("a key").handle();
        for (iv_len, tag_bits) in [(1, 128), (8, 96), (12, 104), (13, 112), (60, 120), (256, 128), (4096, 128)] {
            let iv = vec![9; iv_len];
            let gcm = || Structure::Gcm(&iv, b"aad", tag_bits);
            assert_eq!(raw.init(Init::Encrypt, handle, CKM_AES_GCM, gcm(), key), CKR_OK);
            let sealed = raw.encrypt(handle, b"text", Room::Bytes(64)).bytes;
            assert_eq!(sealed.len() as u64, 4 + tag_bits / 8);
            assert_eq!(raw.init(Init::Decrypt, handle, CKM_AES_GCM, gcm(), key), CKR_OK);
            assert_eq!(raw.decrypt(handle, &sealed, Room::Bytes(64)).bytes, b"text", "{iv_len} {tag_bits}");
        }
        for (iv_len, tag_bits) in [(4097, 128), (12, 64), (12, 100), (12, 136)] {
            let iv = vec![9; iv_len];
            let begun = raw.init(Init::Encrypt, handle, CKM_AES_GCM, Structure::Gcm(&iv, b"", tag_bits), key);
            let rv = if begun == CKR_OK { raw.encrypt(handle, b"text", Room::Bytes(64)).rv } else { begun };
            assert_eq!(rv, CKR_MECHANISM_PARAM_INVALID, "{iv_len} {tag_bits}");
        }
    }
}

module_test! {
    fn aes_gmac_gives_the_published_answer_with_either_parameter(_world) {
        // Project Wycheproof, aes_gmac, test 4.
        let token = Token::open();
        let session = token.user();
        let (raw, handle) = (Raw::load(&module::path()), session.handle());
        let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).expect("hex");
        let both = [Attribute::Sign(true), Attribute::Verify(true)];
        let key = import_aes(&session, &hex("53107d29dc584d32d3ef321a85eec257"), &both).expect("a key").handle();
        let (iv, message, tag) = (hex("dd91a33dce809e7bfe68d843"), hex("039e0f5b"), hex("8c99cbf28c43f90fc3609126bdf30f4b"));
        for (parameter, len) in [(Structure::Bytes(&iv), 16), (Structure::Gcm(&iv, b"", 128), 16), (Structure::Gcm(&iv, b"", 96), 12)] {
            assert_eq!(raw.init(Init::Sign, handle, CKM_AES_GMAC, parameter, key), CKR_OK);
            assert_eq!(raw.sign(handle, &message, Room::Query).len, len);
            assert_eq!(raw.sign(handle, &message, Room::Bytes(16)).bytes, tag[..len]);
        }
        for (message, expected) in [(&message[..], CKR_OK), (b"other", CKR_SIGNATURE_INVALID)] {
            assert_eq!(raw.init(Init::Verify, handle, CKM_AES_GMAC, Structure::Bytes(&iv), key), CKR_OK);
            assert_eq!(raw.verify(handle, message, &tag), expected);
        }
    }
}

module_test! {
    fn aes_xts_gives_the_published_answer(_world) {
        // IEEE 1619-2007, appendix B, vector 15: a data unit of 17 bytes.
        let token = Token::open();
        let session = token.user();
        let (raw, handle) = (Raw::load(&module::path()), session.handle());
        let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).expect("hex");
        let import = |value: Vec<u8>| {
            let number = |number: CK_ULONG| number.to_ne_bytes().to_vec();
            let template = [
                (CKA_CLASS, number(CKO_SECRET_KEY)),
                (CKA_KEY_TYPE, number(CKK_AES_XTS)),
                (CKA_TOKEN, vec![0]),
                (CKA_VALUE, value),
            ];
            raw.create_from(handle, &template)
        };
        let key = import(hex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0")).expect("a key");
        let unit = hex("9a785634120000000000000000000000");
        let (clear, hidden) = (hex("000102030405060708090a0b0c0d0e0f10"), hex("6c1625db4671522d3d7599601de7ca09ed"));
        assert_eq!(raw.init(Init::Encrypt, handle, CKM_AES_XTS, Structure::Bytes(&unit), key), CKR_OK);
        assert_eq!(raw.encrypt(handle, &clear, Room::Bytes(17)).bytes, hidden);
        assert_eq!(raw.init(Init::Decrypt, handle, CKM_AES_XTS, Structure::Bytes(&unit), key), CKR_OK);
        assert_eq!(raw.decrypt(handle, &hidden, Room::Bytes(17)).bytes, clear);
        let same = import(vec![7; 32]).expect("the value is only judged when it is used");
        let begun = raw.init(Init::Encrypt, handle, CKM_AES_XTS, Structure::Bytes(&unit), same);
        let rv = if begun == CKR_OK { raw.encrypt(handle, &clear, Room::Bytes(17)).rv } else { begun };
        assert_ne!(rv, CKR_OK, "two equal keys");
    }
}

module_test! {
    fn key_wrap_encrypts_in_one_part_what_the_standards_give(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).expect("hex");
        // RFC 3394 section 4.1, RFC 5649 section 6.
        let rows = [
            (
                CKM_AES_KEY_WRAP,
                "000102030405060708090a0b0c0d0e0f",
                "00112233445566778899aabbccddeeff",
                "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5",
            ),
            (
                CKM_AES_KEY_WRAP_KWP,
                "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8",
                "c37b7e6492584340bed12207808941155068f738",
                "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
            ),
            (
                CKM_AES_KEY_WRAP_KWP,
                "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8",
                "466f7250617369",
                "afbeb0f07dfbf5419200f2ccb50bb24f",
            ),
        ];
        for (mechanism, key, text, sealed) in rows {
            let (text, sealed) = (hex(text), hex(sealed));
            let key = import_aes(&session, &hex(key), &BOTH).expect("a key").handle();
            let h = session.handle();
            assert_eq!(raw.init(Init::Encrypt, h, mechanism, Structure::Bytes(&[]), key), CKR_OK);
            let query = raw.encrypt(h, &text, Room::Query);
            assert_eq!((query.rv, query.len), (CKR_OK, sealed.len()));
            assert!(raw.encrypt(h, &text, Room::Bytes(64)).bytes == sealed, "{mechanism:#x}");
            assert_eq!(raw.init(Init::Decrypt, h, mechanism, Structure::Bytes(&[]), key), CKR_OK);
            assert!(raw.decrypt(h, &sealed, Room::Bytes(64)).bytes == text, "{mechanism:#x}");
            let changed: Vec<u8> = sealed.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 9)).collect();
            for (wrong, rv) in [(&changed[..], CKR_ENCRYPTED_DATA_INVALID), (&sealed[1..], CKR_ENCRYPTED_DATA_LEN_RANGE)] {
                assert_eq!(raw.init(Init::Decrypt, h, mechanism, Structure::Bytes(&[]), key), CKR_OK);
                assert_eq!(raw.decrypt(h, wrong, Room::Bytes(64)).rv, rv, "{mechanism:#x}");
            }
        }
        let key = import_aes(&session, &[1; 16], &BOTH).expect("a key").handle();
        assert_eq!(raw.init(Init::Encrypt, session.handle(), CKM_AES_KEY_WRAP, Structure::Bytes(&[]), key), CKR_OK);
        assert_eq!(raw.encrypt(session.handle(), &[1; 17], Room::Bytes(64)).rv, CKR_DATA_LEN_RANGE);
        // No other initial value than the standard's.
        assert_eq!(raw.init(Init::Encrypt, session.handle(), CKM_AES_KEY_WRAP, Structure::Bytes(&[7; 8]), key), CKR_OK);
        assert_eq!(raw.encrypt(session.handle(), &[1; 16], Room::Bytes(64)).rv, CKR_MECHANISM_PARAM_INVALID);
    }
}

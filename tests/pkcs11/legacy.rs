//! `algorithms.allow_legacy`: MD5 and triple DES for old applications, which nobody else is offered.

use acceptance::module_test;
use acceptance::raw::key::{Call, Use, flag, number};
use acceptance::raw::{Raw, Room};
use cryptoki_sys::*;
use data_encoding::HEXLOWER;

const LEGACY: [CK_MECHANISM_TYPE; 7] =
    [CKM_DES3_KEY_GEN, CKM_DES3_ECB, CKM_DES3_CBC, CKM_DES3_CBC_PAD, CKM_MD5, CKM_MD5_HMAC, CKM_MD5_HMAC_GENERAL];

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).expect("hex")
}

fn key_of(kind: CK_KEY_TYPE, value: &[u8], usage: &[CK_ATTRIBUTE_TYPE]) -> Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)> {
    let mut template = vec![
        (CKA_CLASS, number(CKO_SECRET_KEY)),
        (CKA_KEY_TYPE, number(kind)),
        (CKA_TOKEN, flag(false)),
        (CKA_VALUE, value.to_vec()),
    ];
    template.extend(usage.iter().map(|&usage| (usage, flag(true))));
    template
}

module_test! {
    fn legacy_mechanisms_are_neither_listed_nor_done_without_their_switch(_world) {
        let (raw, slot, session) = Raw::with_user();
        let listed = raw.mechanisms(slot).expect("the list");
        assert!(LEGACY.iter().all(|legacy| !listed.contains(legacy)));
        assert_eq!(raw.digest_init(session, CKM_MD5), CKR_MECHANISM_INVALID);
        let made = raw.generate(session, &Call::plain(CKM_DES3_KEY_GEN), &vec![(CKA_TOKEN, flag(false))]);
        assert_eq!(made, Err(CKR_MECHANISM_INVALID));
        let imported = raw.create(session, &key_of(CKK_DES3, &[1; 24], &[]));
        assert_eq!(imported, Err(CKR_ATTRIBUTE_VALUE_INVALID));
    }
}

module_test! {
    fn legacy_mechanisms_give_the_published_answers_with_their_switch(world) {
        world.stop_daemon();
        world.configure("[algorithms]\nallow_legacy = true");
        world.start_daemon();
        let (raw, slot, session) = Raw::with_user();
        let listed = raw.mechanisms(slot).expect("the list");
        assert!(LEGACY.iter().all(|legacy| listed.contains(legacy)));

        // RFC 1321, appendix A.5.
        assert_eq!(raw.digest_init(session, CKM_MD5), CKR_OK);
        assert_eq!(raw.digest(session, b"abc", Room::Bytes(16)).bytes, hex("900150983cd24fb0d6963f7d28e17f72"));
        // RFC 2202, section 2, test 2.
        let key = raw.create(session, &key_of(CKK_GENERIC_SECRET, b"Jefe", &[CKA_SIGN])).expect("a key");
        let text = b"what do ya want for nothing?";
        let tag = hex("750c783e6ab0b503eaa86e310a5db738");
        assert_eq!(raw.apply(session, Use::Sign, &Call::plain(CKM_MD5_HMAC), key, text), Ok(tag.clone()));
        let ten = Call::with(CKM_MD5_HMAC_GENERAL, &number(10u64));
        assert_eq!(raw.apply(session, Use::Sign, &ten, key, text), Ok(tag[..10].to_vec()));

        // The example for TDES in CBC mode of the NIST, and SP 800-67 Revision 1, appendix B.1.
        let value = hex("0123456789abcdef23456789abcdef01456789abcdef0123");
        let key = raw.create(session, &key_of(CKK_DES3, &value, &[CKA_ENCRYPT, CKA_DECRYPT])).expect("a key");
        let iv = hex("f69f2445df4f9b17");
        let long = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        let sealed = hex("2079c3d53aa763e193b79e2569ab5262516570481f25b50f73c0bda85c8e0da7");
        let quick = b"The qufck brown fox jump";
        let quick_sealed = hex("a826fd8ce53b855fcce21c8112256fe668d5c05dd9b6b900");
        for (call, text, sealed) in [
            (Call::with(CKM_DES3_CBC, &iv), &long[..], sealed),
            (Call::plain(CKM_DES3_ECB), &quick[..], quick_sealed),
        ] {
            assert_eq!(raw.apply(session, Use::Encrypt, &call, key, text), Ok(sealed.clone()));
            assert_eq!(raw.apply(session, Use::Decrypt, &call, key, &sealed), Ok(text.to_vec()));
        }
        for (len, padded) in [(0, 8), (7, 8), (8, 16), (20, 24)] {
            assert_eq!(raw.encrypt_init(session, CKM_DES3_CBC_PAD, &iv, key), CKR_OK);
            let query = raw.encrypt(session, &long[..len], Room::Query);
            assert_eq!((query.rv, query.len), (CKR_OK, padded), "{len}");
            let sealed = raw.encrypt(session, &long[..len], Room::Bytes(padded));
            assert_eq!((sealed.rv, sealed.len), (CKR_OK, padded), "{len}");
            let opened = raw.apply(session, Use::Decrypt, &Call::with(CKM_DES3_CBC_PAD, &iv), key, &sealed.bytes);
            assert_eq!(opened, Ok(long[..len].to_vec()));
        }
        let wrong_iv = Call::with(CKM_DES3_CBC, &[0; 16]);
        assert_eq!(raw.begin(session, Use::Encrypt, &wrong_iv, key), CKR_MECHANISM_PARAM_INVALID);
        let journal = std::fs::read_to_string(world.journal()).expect("the journal");
        assert!(journal.contains("allow_legacy"));
    }
}

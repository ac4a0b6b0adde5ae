//! `algorithms.fips_approved_only`: what is not approved is neither listed nor done, and the daemon says that it is so.

use acceptance::module;
use acceptance::module_test;
use acceptance::raw::Raw;
use acceptance::raw::key::{Call, Parameter, Use, flag, number};
use acceptance::world::PIN;
use cryptoki_sys::*;

module_test! {
    fn only_approved_mechanisms_and_sizes_are_left(world) {
        world.stop_daemon();
        world.configure("[algorithms]\nfips_approved_only = true");
        world.start_daemon();
        let raw = Raw::load(&module::path());
        assert_eq!(raw.initialize(), CKR_OK);
        let slot = raw.slots().expect("slots")[0];
        let listed = raw.mechanisms(slot).expect("mechanisms");
        for gone in [CKM_RSA_X_509, CKM_MD5, CKM_DES3_CBC, CKM_SHA256_KEY_DERIVATION] {
            assert!(!listed.contains(&gone), "{gone:#x}");
        }
        let flags = |mechanism| raw.mechanism_flags(slot, mechanism).expect("listed");
        for (mechanism, there, not_there) in [
            (CKM_RSA_PKCS, CKF_SIGN | CKF_VERIFY, CKF_DECRYPT | CKF_UNWRAP),
            (CKM_SHA1_RSA_PKCS, CKF_VERIFY, CKF_SIGN),
            (CKM_ECDSA_SHA1, CKF_VERIFY, CKF_SIGN),
            (CKM_AES_CBC, CKF_ENCRYPT, CKF_WRAP),
            (CKM_AES_KEY_WRAP, CKF_WRAP, 0),
        ] {
            let flags = flags(mechanism);
            assert_eq!((flags & there, flags & not_there), (there, 0), "{mechanism:#x}");
        }
        let session = raw.open_session(slot).expect("a session");
        assert_eq!(raw.login(session, PIN), CKR_OK);
        let secret = |mechanism, len: u64| {
            let template = vec![(CKA_TOKEN, flag(false)), (CKA_VALUE_LEN, number(len)), (CKA_SIGN, flag(true))];
            raw.generate(session, &Call::plain(mechanism), &template)
        };
        assert!(secret(CKM_AES_KEY_GEN, 16).is_ok());
        assert_eq!(secret(CKM_GENERIC_SECRET_KEY_GEN, 13), Err(CKR_KEY_SIZE_RANGE));
        let key = secret(CKM_GENERIC_SECRET_KEY_GEN, 14).expect("112 bits");
        let hmac = raw.apply(session, Use::Sign, &Call::plain(CKM_SHA256_HMAC), key, b"data").expect("a MAC");
        assert_eq!(hmac.len(), 32);
        let public = vec![(CKA_TOKEN, flag(false)), (CKA_MODULUS_BITS, number(2048u64))];
        let pair = raw.generate_pair(session, &Call::plain(CKM_RSA_PKCS_KEY_PAIR_GEN), &public, &vec![(CKA_TOKEN, flag(false))]);
        let (_, private) = pair.expect("RSA 2048");
        assert_eq!(raw.begin(session, Use::Decrypt, &Call::plain(CKM_RSA_PKCS), private), CKR_MECHANISM_INVALID);
        // secp256k1, 1.3.132.0.10; X25519, 1.3.101.110.
        for (mechanism, curve) in [
            (CKM_EC_KEY_PAIR_GEN, &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a][..]),
            (CKM_EC_MONTGOMERY_KEY_PAIR_GEN, &[0x06, 0x03, 0x2b, 0x65, 0x6e]),
        ] {
            let public = vec![(CKA_TOKEN, flag(false)), (CKA_EC_PARAMS, curve.to_vec())];
            let refused = raw.generate_pair(session, &Call::plain(mechanism), &public, &vec![(CKA_TOKEN, flag(false))]);
            assert!(refused.is_err(), "{mechanism:#x}");
        }
        let oaep = Call { mechanism: CKM_RSA_PKCS_OAEP, parameter: Parameter::Oaep(CKM_SHA256, CKG_MGF1_SHA256) };
        assert_eq!(raw.begin(session, Use::Decrypt, &oaep, private), CKR_OK);
        assert_eq!(world.admin_json(["status"])["approved_only"], true);
        let journal = std::fs::read_to_string(world.journal()).expect("the journal");
        assert!(journal.contains("approved_only"), "the journal does not say it");
    }
}

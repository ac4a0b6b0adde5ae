//! Signatures that carry their data (PKCS#11 v3.0 §5.13 and §5.15), and signatures that are known before the data
//! (C_VerifySignature* of 3.2).

use acceptance::module::{SESSION, Token};
use acceptance::raw::{Memory, Raw};
use acceptance::{module, module_test};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki_sys::*;

module_test! {
    fn what_was_signed_is_recovered(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (public, private) = module::rsa(&session, 2048, SESSION).expect("a key");
        let (h, mechanism) = (session.handle(), Memory::words(&[CKM_RSA_PKCS, 0, 0]));
        let flags = raw.mechanism_flags(token.slot.id(), CKM_RSA_PKCS).expect("the info");
        assert_eq!(flags & (CKF_SIGN_RECOVER | CKF_VERIFY_RECOVER), CKF_SIGN_RECOVER | CKF_VERIFY_RECOVER);
        let (text, signature, len) = (Memory::of(b"recover!"), Memory::zeroed(256), Memory::words(&[256]));
        let sign = |out: u64| raw.call("C_SignRecover", &[h, text.address(), 8, out, len.address()]);
        assert_eq!(sign(signature.address()), CKR_OPERATION_NOT_INITIALIZED);
        assert_eq!(raw.call("C_SignRecoverInit", &[h, mechanism.address(), public.handle()]), CKR_KEY_TYPE_INCONSISTENT);
        assert_eq!(raw.call("C_SignRecoverInit", &[h, mechanism.address(), private.handle()]), CKR_OK);
        assert_eq!((sign(0), len.word(0)), (CKR_OK, 256));
        assert_eq!(sign(signature.address()), CKR_OK);
        let (out, len) = (Memory::zeroed(256), Memory::words(&[0]));
        let recover = |signature_len: u64, out: u64| {
            raw.call("C_VerifyRecover", &[h, signature.address(), signature_len, out, len.address()])
        };
        let init = || raw.call("C_VerifyRecoverInit", &[h, mechanism.address(), public.handle()]);
        assert_eq!(init(), CKR_OK);
        assert_eq!((recover(256, 0), len.word(0)), (CKR_OK, 8));
        len.set(0, 7);
        assert_eq!((recover(256, out.address()), len.word(0)), (CKR_BUFFER_TOO_SMALL, 8));
        assert_eq!(recover(256, out.address()), CKR_OK);
        assert_eq!(out.bytes(8), b"recover!");
        assert_eq!(recover(256, out.address()), CKR_OPERATION_NOT_INITIALIZED);
        // What is no signature is said before a buffer is found too small.
        signature.set(0, signature.word(0) ^ 1);
        len.set(0, 1);
        assert_eq!(init(), CKR_OK);
        assert_eq!(recover(256, out.address()), CKR_SIGNATURE_INVALID);
        assert_eq!(init(), CKR_OK);
        assert_eq!(recover(255, out.address()), CKR_SIGNATURE_LEN_RANGE);
        assert_eq!(recover(256, out.address()), CKR_OPERATION_NOT_INITIALIZED);
    }
}

module_test! {
    fn a_signature_known_before_the_data_is_verified(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (public, private) = module::ec(&session, module::P256, SESSION).expect("a key");
        let made = session.sign(&Mechanism::EcdsaSha256, private, b"in two parts").expect("signs");
        let (h, mechanism, signature) = (session.handle(), Memory::words(&[CKM_ECDSA_SHA256, 0, 0]), Memory::of(&made));
        let text = Memory::of(b"in two parts");
        let init = |len: u64| {
            raw.call("C_VerifySignatureInit", &[h, mechanism.address(), public.handle(), signature.address(), len])
        };
        let verify = |len: u64| raw.call("C_VerifySignature", &[h, text.address(), len]);
        assert_eq!(verify(12), CKR_OPERATION_NOT_INITIALIZED);
        assert_eq!((init(64), init(64)), (CKR_OK, CKR_OPERATION_ACTIVE));
        assert_eq!(verify(12), CKR_OK);
        assert_eq!((init(64), verify(11)), (CKR_OK, CKR_SIGNATURE_INVALID));
        assert_eq!((init(63), verify(12)), (CKR_OK, CKR_SIGNATURE_LEN_RANGE));
        assert_eq!(init(64), CKR_OK);
        for part in [0, 6] {
            assert_eq!(raw.call("C_VerifySignatureUpdate", &[h, text.address() + part, 6]), CKR_OK);
        }
        assert_eq!(raw.call("C_VerifySignatureFinal", &[h]), CKR_OK);
        assert_eq!(raw.call("C_VerifySignatureFinal", &[h]), CKR_OPERATION_NOT_INITIALIZED);
        assert_eq!(raw.call("C_VerifySignatureInit", &[h, mechanism.address(), public.handle(), 0, 64]), CKR_ARGUMENTS_BAD);
        assert_eq!(verify(12), CKR_OPERATION_NOT_INITIALIZED, "a refused Init leaves nothing");
    }
}

module_test! {
    fn a_key_that_may_not_sign_does_not_sign_with_recovery(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let public = [Attribute::Token(false), Attribute::ModulusBits(2048.into()), Attribute::Verify(false)];
        let private = [Attribute::Token(false), Attribute::Sign(false)];
        let (public, private) =
            session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private).expect("a key that decrypts");
        let (h, mechanism) = (session.handle(), Memory::words(&[CKM_RSA_PKCS, 0, 0]));
        for (init, key) in [("C_SignRecoverInit", private), ("C_VerifyRecoverInit", public)] {
            let refused = raw.call(init, &[h, mechanism.address(), key.handle()]);
            assert_eq!(refused, CKR_KEY_FUNCTION_NOT_PERMITTED, "{init}");
        }
    }
}

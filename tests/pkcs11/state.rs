//! Operation state, cancelling, and what 3.0 and 3.2 ask of a session besides (PKCS#11 v3.0 §5.6).

use acceptance::module::{SESSION, Token};
use acceptance::raw::{Memory, Raw};
use acceptance::{module, module_test};
use cryptoki::mechanism::Mechanism;
use cryptoki_sys::*;

/// C_GetOperationState into a buffer of 64 bytes.
fn save(raw: &Raw, session: u64) -> Result<Vec<u8>, CK_RV> {
    let (state, len) = (Memory::zeroed(64), Memory::words(&[64]));
    match raw.call("C_GetOperationState", &[session, state.address(), len.address()]) {
        CKR_OK => Ok(state.bytes(usize::try_from(len.word(0)).expect("a length"))),
        rv => Err(rv),
    }
}

fn restore(raw: &Raw, session: u64, state: &[u8]) -> CK_RV {
    let memory = Memory::of(state);
    raw.call("C_SetOperationState", &[session, memory.address(), state.len() as u64, 0, 0])
}

module_test! {
    fn a_digest_is_saved_and_goes_on_elsewhere(_world) {
        let token = Token::open();
        let (session, other) = (token.user(), token.session());
        let raw = Raw::load(&module::path());
        let (h, elsewhere) = (session.handle(), other.handle());
        assert_eq!(save(&raw, h), Err(CKR_OPERATION_NOT_INITIALIZED));
        let part = Memory::of(b"saved in the middle");
        let update = |session: u64, from: u64, len: u64| {
            assert_eq!(raw.call("C_DigestUpdate", &[session, part.address() + from, len]), CKR_OK);
        };
        let finish = |session: u64| {
            let (out, len) = (Memory::zeroed(32), Memory::words(&[32]));
            (raw.call("C_DigestFinal", &[session, out.address(), len.address()]), out.bytes(32))
        };
        let expected = session.digest(&Mechanism::Sha256, b"saved in the middle").expect("digests");
        assert_eq!(raw.digest_init(h, CKM_SHA256), CKR_OK);
        let fresh = save(&raw, h).expect("a digest without data is one too");
        update(h, 0, 9);
        let len = Memory::words(&[0]);
        assert_eq!((raw.call("C_GetOperationState", &[h, 0, len.address()]), len.word(0)), (CKR_OK, 33));
        len.set(0, 32);
        assert_eq!(raw.call("C_GetOperationState", &[h, part.address(), len.address()]), CKR_BUFFER_TOO_SMALL);
        let state = save(&raw, h).expect("a state");
        update(h, 9, 10);
        assert_eq!(finish(h), (CKR_OK, expected.clone()), "saving does not end it");
        // As often as one likes, in any session of the application.
        for session in [h, elsewhere] {
            assert_eq!(restore(&raw, session, &state), CKR_OK);
            update(session, 9, 10);
            assert_eq!(finish(session), (CKR_OK, expected.clone()));
        }
        assert_eq!(restore(&raw, h, &fresh), CKR_OK);
        let digest = raw.digest(h, b"saved in the middle", acceptance::raw::Room::Bytes(32));
        assert_eq!((digest.rv, digest.bytes), (CKR_OK, expected), "nothing had been given to it");
        // What is no state is none, and changes nothing.
        let mut forged = state.clone();
        forged[20] ^= 1;
        for wrong in [&forged[..], &state[..32], &[0; 64], &[1]] {
            assert_eq!(restore(&raw, h, wrong), CKR_SAVED_STATE_INVALID);
        }
        let memory = Memory::of(&state);
        assert_eq!(raw.call("C_SetOperationState", &[h, memory.address(), 33, 1, 0]), CKR_KEY_NOT_NEEDED);
        assert_eq!(raw.call("C_SetOperationState", &[h, 0, 33, 0, 0]), CKR_ARGUMENTS_BAD);
        assert_eq!(finish(h).0, CKR_OPERATION_NOT_INITIALIZED);
    }
}

module_test! {
    fn an_operation_with_a_key_is_not_saved(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (_, private) = module::ec(&session, module::P256, SESSION).expect("a key");
        let h = session.handle();
        assert_eq!(raw.sign_init(h, CKM_ECDSA_SHA256, private.handle()), CKR_OK);
        assert_eq!(save(&raw, h), Err(CKR_STATE_UNSAVEABLE));
        assert_eq!(raw.digest_init(h, CKM_SHA256), CKR_OK);
        assert_eq!(save(&raw, h), Err(CKR_STATE_UNSAVEABLE));
        assert_eq!(raw.sign(h, b"goes on", acceptance::raw::Room::Bytes(64)).rv, CKR_OK);
        assert!(save(&raw, h).is_ok());
    }
}

module_test! {
    fn session_cancel_ends_each_kind_that_is_named(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (public, private) = module::rsa(&session, 2048, SESSION).expect("a key");
        let key = module::aes(&session, 16, &[]).expect("a key").handle();
        let (h, public, private) = (session.handle(), public.handle(), private.handle());
        let mechanism = |number| Memory::words(&[number, 0, 0]);
        let (rsa, hashed, sha, gcm) = (mechanism(CKM_RSA_PKCS), mechanism(CKM_SHA256_RSA_PKCS), mechanism(CKM_SHA256), mechanism(CKM_AES_GCM));
        let signature = Memory::zeroed(256);
        let rows: [(u64, &str, Vec<u64>); 13] = [
            (CKF_ENCRYPT, "C_EncryptInit", vec![h, rsa.address(), public]),
            (CKF_DECRYPT, "C_DecryptInit", vec![h, rsa.address(), private]),
            (CKF_DIGEST, "C_DigestInit", vec![h, sha.address()]),
            (CKF_SIGN, "C_SignInit", vec![h, rsa.address(), private]),
            (CKF_VERIFY, "C_VerifyInit", vec![h, rsa.address(), public]),
            (CKF_VERIFY, "C_VerifySignatureInit", vec![h, rsa.address(), public, signature.address(), 256]),
            (CKF_SIGN_RECOVER, "C_SignRecoverInit", vec![h, rsa.address(), private]),
            (CKF_VERIFY_RECOVER, "C_VerifyRecoverInit", vec![h, rsa.address(), public]),
            (CKF_MESSAGE_ENCRYPT, "C_MessageEncryptInit", vec![h, gcm.address(), key]),
            (CKF_MESSAGE_DECRYPT, "C_MessageDecryptInit", vec![h, gcm.address(), key]),
            (CKF_MESSAGE_SIGN, "C_MessageSignInit", vec![h, hashed.address(), private]),
            (CKF_MESSAGE_VERIFY, "C_MessageVerifyInit", vec![h, hashed.address(), public]),
            (CKF_FIND_OBJECTS, "C_FindObjectsInit", vec![h, 0, 0]),
        ];
        let all = rows.iter().fold(0, |all, (flag, ..)| all | flag);
        for (flag, init, arguments) in &rows {
            assert_eq!(raw.call(init, arguments), CKR_OK, "{init}");
            assert_eq!(raw.call("C_SessionCancel", &[h, all & !flag]), CKR_OK);
            assert_eq!(raw.call(init, arguments), CKR_OPERATION_ACTIVE, "{init} is still active");
            assert_eq!(raw.call("C_SessionCancel", &[h, *flag]), CKR_OK);
            assert_eq!(raw.call(init, arguments), CKR_OK, "{init} was cancelled");
            assert_eq!(raw.call("C_SessionCancel", &[h, *flag]), CKR_OK);
        }
        // NULL instead of a mechanism cancels too.
        for (_, init, arguments) in rows.iter().filter(|(_, init, _)| *init != "C_FindObjectsInit") {
            let mut cancel = arguments.clone();
            cancel[1] = 0;
            assert_eq!(raw.call(init, arguments), CKR_OK, "{init}");
            assert_eq!(raw.call(init, &cancel), CKR_OK, "{init}");
            assert_eq!(raw.call(init, &cancel), CKR_ARGUMENTS_BAD, "{init}: nothing left to cancel");
        }
    }
}

module_test! {
    fn nothing_is_asynchronous_and_nothing_is_validated(_world) {
        let token = Token::open();
        let session = token.session();
        let raw = Raw::load(&module::path());
        let (h, place, name) = (session.handle(), Memory::zeroed(64), Memory::of(b"C_Sign\0"));
        let flags = CKF_SERIAL_SESSION | CKF_ASYNC_SESSION;
        let open = [token.slot.id(), flags, 0, 0, place.address()];
        assert_eq!(raw.call("C_OpenSession", &open), CKR_SESSION_ASYNC_NOT_SUPPORTED);
        assert_eq!(raw.call("C_AsyncComplete", &[h, name.address(), place.address()]), CKR_FUNCTION_NOT_SUPPORTED);
        assert_eq!(raw.call("C_AsyncGetID", &[h, name.address(), place.address()]), CKR_FUNCTION_NOT_SUPPORTED);
        assert_eq!(raw.call("C_AsyncJoin", &[h, name.address(), 0, place.address(), 8]), CKR_FUNCTION_NOT_SUPPORTED);
        place.set(0, 7);
        assert_eq!(raw.call("C_GetSessionValidationFlags", &[h, CKS_LAST_VALIDATION_OK, place.address()]), CKR_OK);
        assert_eq!(place.word(0), 0);
        for name in ["C_GetFunctionStatus", "C_CancelFunction"] {
            assert_eq!(raw.call(name, &[h]), CKR_FUNCTION_NOT_PARALLEL, "{name}");
        }
    }
}

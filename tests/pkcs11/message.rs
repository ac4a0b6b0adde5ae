//! Message-based operations (PKCS#11 v3.0 §5.9, §5.11, §5.14, §5.16): AES-GCM and AES-CCM with the token's and the caller's IVs, and
//! signatures.

use std::collections::HashSet;

use acceptance::module::{SESSION, Token, aes, import_aes};
use acceptance::raw::{Init, Memory, Raw};
use acceptance::structure::Structure;
use acceptance::{module, module_test};
use cryptoki::object::Attribute;
use cryptoki_sys::*;
use data_encoding::HEXLOWER;

const BOTH: [Attribute; 2] = [Attribute::Encrypt(true), Attribute::Decrypt(true)];

/// CK_GCM_MESSAGE_PARAMS or CK_CCM_MESSAGE_PARAMS with its IV and tag.
struct Aead {
    iv: Memory,
    iv_len: usize,
    tag: Memory,
    params: Memory,
    params_len: u64,
}

impl Aead {
    fn gcm(iv: &[u8], fixed_bits: u64, generator: u64) -> Aead {
        let (held, tag) = (Memory::of(iv), Memory::zeroed(16));
        let params = [held.address(), iv.len() as u64, fixed_bits, generator, tag.address(), 128];
        Aead { iv: held, iv_len: iv.len(), tag, params: Memory::words(&params), params_len: 48 }
    }

    fn ccm(nonce: &[u8], generator: u64, data_len: usize, tag_len: u64) -> Aead {
        let (held, tag) = (Memory::of(nonce), Memory::zeroed(16));
        let params = [data_len as u64, held.address(), nonce.len() as u64, 0, generator, tag.address(), tag_len];
        Aead { iv: held, iv_len: nonce.len(), tag, params: Memory::words(&params), params_len: 56 }
    }

    fn argument(&self) -> [u64; 2] {
        [self.params.address(), self.params_len]
    }

    fn iv(&self) -> Vec<u8> {
        self.iv.bytes(self.iv_len)
    }

    fn set_iv(&self, iv: &[u8]) {
        let held = Memory::of(iv);
        (0..iv.len().div_ceil(8)).for_each(|word| self.iv.set(word, held.word(word)));
    }
}

/// The functions of one direction, in one session.
struct Side<'a> {
    raw: &'a Raw,
    session: u64,
    seals: bool,
    mechanism: u64,
}

impl Side<'_> {
    fn name(&self, form: &str) -> String {
        form.replace('*', if self.seals { "Encrypt" } else { "Decrypt" })
    }

    fn init(&self, key: u64) -> CK_RV {
        let mechanism = Memory::words(&[self.mechanism, 0, 0]);
        self.raw.call(&self.name("C_Message*Init"), &[self.session, mechanism.address(), key])
    }

    fn whole(&self, gcm: &Aead, aad: &[u8], data: &[u8]) -> (CK_RV, Vec<u8>) {
        let (aad, input, out, len) =
            (Memory::of(aad), Memory::of(data), Memory::zeroed(data.len() + 8), Memory::words(&[data.len() as u64]));
        let [p, pl] = gcm.argument();
        let aad_len = aad.bytes(usize::MAX).len() as u64;
        let arguments = [
            self.session,
            p,
            pl,
            aad.address(),
            aad_len,
            input.address(),
            data.len() as u64,
            out.address(),
            len.address(),
        ];
        let rv = self.raw.call(&self.name("C_*Message"), &arguments);
        (rv, out.bytes(usize::try_from(len.word(0)).expect("a length")))
    }

    fn begin(&self, gcm: &Aead, aad: &[u8]) -> CK_RV {
        let memory = Memory::of(aad);
        let [p, pl] = gcm.argument();
        let aad_len = memory.bytes(usize::MAX).len() as u64;
        self.raw.call(&self.name("C_*MessageBegin"), &[self.session, p, pl, memory.address(), aad_len])
    }

    fn next(&self, gcm: &Aead, data: &[u8], room: usize, flags: u64) -> (CK_RV, Vec<u8>) {
        let (input, out, len) = (Memory::of(data), Memory::zeroed(room + 8), Memory::words(&[room as u64]));
        let [p, pl] = gcm.argument();
        let arguments = [self.session, p, pl, input.address(), data.len() as u64, out.address(), len.address(), flags];
        let rv = self.raw.call(&self.name("C_*MessageNext"), &arguments);
        (rv, out.bytes(usize::try_from(len.word(0)).expect("a length")))
    }

    fn close(&self) -> CK_RV {
        self.raw.call(&self.name("C_Message*Final"), &[self.session])
    }
}

module_test! {
    fn sealed_messages_open_and_changed_ones_do_not(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let key = aes(&session, 32, &BOTH).expect("a key").handle();
        let seal = Side { raw: &raw, session: session.handle(), seals: true, mechanism: CKM_AES_GCM };
        let open = Side { seals: false, ..seal };
        assert_eq!((seal.init(key), open.init(key)), (CKR_OK, CKR_OK));
        assert_eq!(seal.init(key), CKR_OPERATION_ACTIVE);
        let gcm = Aead::gcm(&[0; 12], 0, CKG_GENERATE);
        let mut ivs = HashSet::new();
        for len in [0, 1, 16, 1000] {
            let text = vec![0x41; len];
            let (rv, sealed) = seal.whole(&gcm, b"header42", &text);
            assert_eq!((rv, sealed.len()), (CKR_OK, len));
            assert!(ivs.insert(gcm.iv()), "the token's IVs differ");
            assert_eq!(open.whole(&gcm, b"header42", &sealed), (CKR_OK, text.clone()));
            assert_eq!(open.whole(&gcm, b"header43", &sealed).0, CKR_AEAD_DECRYPT_FAILED);
            gcm.tag.set(0, gcm.tag.word(0) ^ 1);
            assert_eq!(open.whole(&gcm, b"header42", &sealed).0, CKR_AEAD_DECRYPT_FAILED, "a changed tag");
        }
        // A refused message ends nothing but itself.
        assert_eq!(seal.whole(&gcm, b"", b"still on").0, CKR_OK);
        assert_eq!((seal.close(), open.close()), (CKR_OK, CKR_OK));
        assert_eq!(seal.close(), CKR_OPERATION_NOT_INITIALIZED);
        assert_eq!(seal.whole(&gcm, b"", b"too late").0, CKR_OPERATION_NOT_INITIALIZED);
    }
}

module_test! {
    fn a_message_in_parts_is_the_message_in_one(_world) {
        // Test case 4 of the GCM specification (McGrew and Viega).
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).expect("hex");
        let key = import_aes(&session, &hex("feffe9928665731c6d6a8f9467308308"), &BOTH).expect("a key").handle();
        let text = hex(concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        ));
        let expected = concat!(
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e",
            "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
        );
        // 24 bytes, so that no padding to a word is taken for associated data.
        let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let seal = Side { raw: &raw, session: session.handle(), seals: true, mechanism: CKM_AES_GCM };
        let open = Side { seals: false, ..seal };
        let gcm = Aead::gcm(&hex("cafebabefacedbaddecaf888"), 0, CKG_NO_GENERATE);
        let begin = |side: &Side<'_>| {
            let memory = Memory::of(&aad);
            let [p, pl] = gcm.argument();
            raw.call(&side.name("C_*MessageBegin"), &[side.session, p, pl, memory.address(), aad.len() as u64])
        };
        assert_eq!(seal.init(key), CKR_OK);
        assert_eq!(seal.next(&gcm, b"x", 1, 0).0, CKR_OPERATION_NOT_INITIALIZED, "before the message has begun");
        assert_eq!(begin(&seal), CKR_OK);
        assert_eq!(begin(&seal), CKR_OPERATION_ACTIVE);
        assert_eq!(seal.whole(&gcm, b"", b"").0, CKR_OPERATION_ACTIVE);
        assert_eq!(seal.close(), CKR_OPERATION_ACTIVE);
        let (rv, first) = seal.next(&gcm, &text[..17], 17, 0);
        assert_eq!((rv, first.len()), (CKR_OK, 17));
        assert_eq!(seal.next(&gcm, &text[17..], 3, CKF_END_OF_MESSAGE).0, CKR_BUFFER_TOO_SMALL);
        let (rv, rest) = seal.next(&gcm, &text[17..], text.len(), CKF_END_OF_MESSAGE);
        assert_eq!(rv, CKR_OK);
        let sealed = [first, rest].concat();
        assert_eq!(HEXLOWER.encode(&sealed), expected);
        assert_eq!(HEXLOWER.encode(&gcm.tag.bytes(16)), "5bc94fbc3221a5db94fae95ae7121a47");
        assert_eq!(seal.close(), CKR_OK);
        assert_eq!(open.init(key), CKR_OK);
        assert_eq!(begin(&open), CKR_OK);
        let (rv, early) = open.next(&gcm, &sealed[..40], 60, 0);
        assert_eq!((rv, early.len()), (CKR_OK, 0), "nothing before the tag is checked");
        assert_eq!(open.next(&gcm, &sealed[40..], 60, CKF_END_OF_MESSAGE), (CKR_OK, text));
        assert_eq!(open.close(), CKR_OK);
    }
}

module_test! {
    fn ccm_messages_are_what_decrypt_opens(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let key = aes(&session, 16, &BOTH).expect("a key").handle();
        let seal = Side { raw: &raw, session: session.handle(), seals: true, mechanism: CKM_AES_CCM };
        let open = Side { seals: false, ..seal };
        assert_eq!((seal.init(key), open.init(key)), (CKR_OK, CKR_OK));
        let text = b"forty-two bytes, two blocks and some more.";
        for (nonce, tag_len) in [(&[7; 7][..], 16), (&[12; 12], 8), (&[13; 13], 10)] {
            let ccm = Aead::ccm(nonce, CKG_NO_GENERATE, text.len(), tag_len);
            let (rv, sealed) = seal.whole(&ccm, b"header42", text);
            assert_eq!((rv, sealed.len()), (CKR_OK, text.len()));
            assert_eq!(open.whole(&ccm, b"header42", &sealed), (CKR_OK, text.to_vec()));
            assert_eq!(open.whole(&ccm, b"header43", &sealed).0, CKR_AEAD_DECRYPT_FAILED);
            let joined = [sealed, ccm.tag.bytes(usize::try_from(tag_len).expect("small"))].concat();
            let parameter = Structure::Ccm(text.len() as u64, nonce, b"header42", tag_len);
            assert_eq!(raw.init(Init::Decrypt, session.handle(), CKM_AES_CCM, parameter, key), CKR_OK);
            let (input, out, len) = (Memory::of(&joined), Memory::zeroed(64), Memory::words(&[64]));
            let arguments =
                [session.handle(), input.address(), joined.len() as u64, out.address(), len.address()];
            assert_eq!(raw.call("C_Decrypt", &arguments), CKR_OK);
            assert_eq!(out.bytes(text.len()), text);
        }
        assert_eq!((seal.close(), open.close()), (CKR_OK, CKR_OK));
    }
}

module_test! {
    fn ccm_in_parts_has_the_length_that_was_announced(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let key = aes(&session, 32, &BOTH).expect("a key").handle();
        let seal = Side { raw: &raw, session: session.handle(), seals: true, mechanism: CKM_AES_CCM };
        let open = Side { seals: false, ..seal };
        assert_eq!((seal.init(key), open.init(key)), (CKR_OK, CKR_OK));
        let text = [0x42; 50];
        let ccm = Aead::ccm(&[0; 12], CKG_GENERATE, text.len(), 16);
        assert_eq!(seal.begin(&ccm, b"header42"), CKR_OK);
        let (rv, first) = seal.next(&ccm, &text[..17], 17, 0);
        assert_eq!((rv, first.len()), (CKR_OK, 17), "each part at once");
        let (rv, rest) = seal.next(&ccm, &text[17..], 33, CKF_END_OF_MESSAGE);
        assert_eq!((rv, rest.len()), (CKR_OK, 33));
        assert_eq!(open.begin(&ccm, b"header42"), CKR_OK);
        assert_eq!(open.next(&ccm, &first, 50, 0), (CKR_OK, Vec::new()), "nothing before the tag is checked");
        assert_eq!(open.next(&ccm, &rest, 50, CKF_END_OF_MESSAGE), (CKR_OK, text.to_vec()));
        let made = ccm.iv();
        assert_ne!(made, [0; 12]);
        assert_eq!(seal.whole(&Aead::ccm(&made, CKG_NO_GENERATE, 4, 16), b"", b"text").0, CKR_MECHANISM_PARAM_INVALID);
        for announced in [0, 3, 5, 4 << 30] {
            let wrong = Aead::ccm(&[0; 12], CKG_GENERATE, announced, 16);
            assert_eq!(seal.whole(&wrong, b"", b"text").0, CKR_DATA_LEN_RANGE, "{announced}");
            assert_eq!(open.whole(&wrong, b"", b"text").0, CKR_ENCRYPTED_DATA_LEN_RANGE, "{announced}");
        }
        // A part too many ends the message, and only it; so does a tag whose length is none.
        let short = Aead::ccm(&[0; 12], CKG_GENERATE, 4, 16);
        assert_eq!(seal.begin(&short, b""), CKR_OK);
        assert_eq!(seal.next(&short, b"five!", 5, 0).0, CKR_DATA_LEN_RANGE);
        for tag_len in [0, 4, 7, 9, 18, 1 << 61] {
            let wrong = Aead::ccm(&[0; 12], CKG_GENERATE, 4, tag_len);
            assert_eq!(seal.whole(&wrong, b"", b"text").0, CKR_MECHANISM_PARAM_INVALID, "{tag_len}");
        }
        assert_eq!(seal.whole(&short, b"", b"text").0, CKR_OK);
        assert_eq!((seal.close(), open.close()), (CKR_OK, CKR_OK));
    }
}

module_test! {
    fn a_caller_cannot_use_an_iv_twice_and_the_token_does_not(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let key = aes(&session, 16, &BOTH).expect("a key").handle();
        let seal = Side { raw: &raw, session: session.handle(), seals: true, mechanism: CKM_AES_GCM };
        assert_eq!(seal.init(key), CKR_OK);
        let own = Aead::gcm(&[7; 12], 0, CKG_NO_GENERATE);
        assert_eq!(seal.whole(&own, b"", b"once").0, CKR_OK);
        assert_eq!(seal.whole(&own, b"", b"twice").0, CKR_MECHANISM_PARAM_INVALID);
        assert_eq!(seal.begin(&own, b""), CKR_MECHANISM_PARAM_INVALID);
        let mut seen = HashSet::from([vec![7; 12]]);
        for generator in [CKG_GENERATE, CKG_GENERATE_COUNTER, CKG_GENERATE_RANDOM] {
            let gcm = Aead::gcm(&[0xee; 12], if generator == CKG_GENERATE_RANDOM { 0 } else { 32 }, generator);
            for _ in 0..50 {
                assert_eq!(seal.whole(&gcm, b"", b"text").0, CKR_OK, "{generator}");
                assert!(generator == CKG_GENERATE_RANDOM || gcm.iv()[..4] == [0xee; 4], "the fixed bits");
                assert!(seen.insert(gcm.iv()), "{generator}");
                gcm.set_iv(&[0xee; 12]);
            }
        }
        let made = seen.into_iter().find(|iv| iv[..4] == [0xee; 4]).expect("one of the token's");
        let again = Aead::gcm(&made, 0, CKG_NO_GENERATE);
        assert_eq!(seal.whole(&again, b"", b"the token's").0, CKR_MECHANISM_PARAM_INVALID);
    }
}

module_test! {
    fn parameters_that_make_no_sense_end_the_message_only(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let key = aes(&session, 16, &BOTH).expect("a key").handle();
        let seal = Side { raw: &raw, session: session.handle(), seals: true, mechanism: CKM_AES_GCM };
        assert_eq!(seal.init(key), CKR_OK);
        let (iv, tag) = (Memory::zeroed(16), Memory::zeroed(16));
        let (iv, tag) = (iv.address(), tag.address());
        let rows: [[u64; 6]; 11] = [
            [0, 12, 0, CKG_GENERATE, tag, 128],
            [iv, 0, 0, CKG_GENERATE, tag, 128],
            [iv, 0, 0, CKG_NO_GENERATE, tag, 128],
            [iv, u64::MAX, 0, CKG_GENERATE, tag, 128],
            [iv, 1 << 40, 0, CKG_NO_GENERATE, tag, 128],
            [iv, 12, 97, CKG_GENERATE, tag, 128],
            [iv, 12, 0, 5, tag, 128],
            [iv, 12, 0, CKG_GENERATE, 0, 128],
            [iv, 12, 0, CKG_GENERATE, tag, 129],
            [iv, 12, 0, CKG_GENERATE, tag, 32],
            [iv, 12, 0, CKG_GENERATE, tag, u64::MAX],
        ];
        let (data, out, len) = (Memory::of(b"sixteen bytes   "), Memory::zeroed(16), Memory::words(&[16]));
        let call = |params: &Memory, size: u64| {
            let arguments = [seal.session, params.address(), size, 0, 0, data.address(), 16, out.address(), len.address()];
            raw.call("C_EncryptMessage", &arguments)
        };
        for row in rows {
            assert_eq!(call(&Memory::words(&row), 48), CKR_MECHANISM_PARAM_INVALID, "{row:?}");
        }
        let good = Memory::words(&[iv, 12, 0, CKG_GENERATE, tag, 128]);
        for size in [0, 1, 47, 49, u64::MAX] {
            assert_eq!(call(&good, size), CKR_MECHANISM_PARAM_INVALID, "{size}");
        }
        assert_eq!(call(&good, 48), CKR_OK);
        assert_eq!(seal.close(), CKR_OK);
    }
}

module_test! {
    fn messages_are_signed_and_verified_one_after_the_other(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let (public, private) = module::ec(&session, module::P256, SESSION).expect("a key");
        let h = session.handle();
        let mechanism = Memory::words(&[CKM_ECDSA_SHA256, 0, 0]);
        assert_eq!(raw.call("C_MessageSignInit", &[h, mechanism.address(), private.handle()]), CKR_OK);
        assert_eq!(raw.call("C_MessageVerifyInit", &[h, mechanism.address(), public.handle()]), CKR_OK);
        let (text, signature, len) = (Memory::of(b"message!"), Memory::zeroed(64), Memory::words(&[0]));
        let sign = |out: u64| raw.call("C_SignMessage", &[h, 0, 0, text.address(), 8, out, len.address()]);
        let verify = |len: u64| {
            raw.call("C_VerifyMessage", &[h, 0, 0, text.address(), 8, signature.address(), len])
        };
        for _ in 0..3 {
            assert_eq!((sign(0), len.word(0)), (CKR_OK, 64));
            len.set(0, 63);
            assert_eq!((sign(signature.address()), len.word(0)), (CKR_BUFFER_TOO_SMALL, 64));
            assert_eq!(sign(signature.address()), CKR_OK);
            assert_eq!(verify(64), CKR_OK);
            signature.set(0, signature.word(0) ^ 1);
            assert_eq!(verify(64), CKR_SIGNATURE_INVALID);
            assert_eq!(verify(63), CKR_SIGNATURE_LEN_RANGE);
        }
        // In parts: the signature of "messagemessage!" is that of the two parts.
        let next = |name: &str, len: u64, last: [u64; 2]| raw.call(name, &[h, 0, 0, text.address(), len, last[0], last[1]]);
        assert_eq!(next("C_SignMessageNext", 7, [0, 0]), CKR_OPERATION_NOT_INITIALIZED);
        assert_eq!(raw.call("C_SignMessageBegin", &[h, 0, 0]), CKR_OK);
        assert_eq!(next("C_SignMessageNext", 7, [0, 0]), CKR_OK);
        len.set(0, 64);
        assert_eq!(next("C_SignMessageNext", 8, [signature.address(), len.address()]), CKR_OK);
        assert_eq!(raw.call("C_VerifyMessageBegin", &[h, 0, 0]), CKR_OK);
        assert_eq!(next("C_VerifyMessageNext", 7, [0, 0]), CKR_OK);
        assert_eq!(next("C_VerifyMessageNext", 8, [signature.address(), 64]), CKR_OK);
        let whole = Memory::of(b"messagemessage!");
        let one = [h, 0, 0, whole.address(), 15, signature.address(), 64];
        assert_eq!(raw.call("C_VerifyMessage", &one), CKR_OK);
        assert_eq!(raw.call("C_MessageSignFinal", &[h]), CKR_OK);
        assert_eq!(raw.call("C_MessageVerifyFinal", &[h]), CKR_OK);
        assert_eq!(sign(signature.address()), CKR_OPERATION_NOT_INITIALIZED);
    }
}

module_test! {
    fn the_tokens_ivs_outlive_a_crash(world) {
        // kill -9 between messages: the key has met none of what comes afterwards.
        let mut seen = HashSet::new();
        for turn in 0..3 {
            let token = Token::open();
            let session = token.user();
            let raw = Raw::load(&module::path());
            if turn == 0 {
                let place = [Attribute::Token(true), Attribute::Label("durable".into()), Attribute::ValueLen(32.into())];
                session.generate_key(&cryptoki::mechanism::Mechanism::AesKeyGen, &place).expect("a key");
            }
            let key = session.find_objects(&[Attribute::Label("durable".into())]).expect("finds")[0];
            let seal = Side { raw: &raw, session: session.handle(), seals: true, mechanism: CKM_AES_GCM };
            assert_eq!(seal.init(key.handle()), CKR_OK);
            let gcm = Aead::gcm(&[0; 12], 64, CKG_GENERATE_COUNTER);
            for _ in 0..20 {
                assert_eq!(seal.whole(&gcm, b"", b"text").0, CKR_OK);
                assert!(seen.insert(gcm.iv()), "turn {turn}");
            }
            // A copy is the same key.
            let copy = session.copy_object(key, &[Attribute::Token(false)]).expect("copies");
            assert_eq!((seal.close(), seal.init(copy.handle())), (CKR_OK, CKR_OK));
            assert_eq!(seal.whole(&gcm, b"", b"text").0, CKR_OK);
            assert!(seen.insert(gcm.iv()), "turn {turn}, copy");
            drop(session);
            token.pkcs11.finalize().expect("C_Finalize");
            world.crash_and_restart();
        }
    }
}

module_test! {
    fn an_iv_of_encrypt_is_taken_once(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let key = aes(&session, 16, &BOTH).expect("a key");
        let copy = session.copy_object(key, &[Attribute::Label("copy".into())]).expect("copies");
        let (iv, h) = (Memory::of(&[9; 12]), session.handle());
        let gcm = Memory::words(&[iv.address(), 12, 96, 0, 0, 128]);
        let counter = Memory::words(&[128, 7, 7]);
        let ccm = Memory::words(&[16, iv.address(), 12, 0, 0, 16]);
        let rows = [(CKM_AES_GCM, &gcm, 48), (CKM_AES_CTR, &counter, 24), (CKM_AES_CCM, &ccm, 48)]
            .map(|(mechanism, parameter, len)| Memory::words(&[mechanism, parameter.address(), len]));
        let (data, out, len) = (Memory::zeroed(16), Memory::zeroed(32), Memory::zeroed(8));
        let encrypt = |mechanism: &Memory, key: u64| {
            assert_eq!(raw.call("C_EncryptInit", &[h, mechanism.address(), key]), CKR_OK);
            // A question about the length and a buffer that is too small use nothing up.
            let call = |out: u64| raw.call("C_Encrypt", &[h, data.address(), 16, out, len.address()]);
            assert_eq!(call(0), CKR_OK);
            len.set(0, 1);
            assert_eq!(call(out.address()), CKR_BUFFER_TOO_SMALL);
            len.set(0, 32);
            call(out.address())
        };
        for mechanism in &rows {
            assert_eq!(encrypt(mechanism, key.handle()), CKR_OK);
            for again in [key, copy] {
                assert_eq!(encrypt(mechanism, again.handle()), CKR_MECHANISM_PARAM_INVALID);
            }
            // In parts too, and decryption takes it as often as it likes.
            assert_eq!(raw.call("C_EncryptInit", &[h, mechanism.address(), key.handle()]), CKR_OK);
            let update = raw.call("C_EncryptUpdate", &[h, data.address(), 16, out.address(), len.address()]);
            assert_eq!(update, CKR_MECHANISM_PARAM_INVALID);
        }
        for _ in 0..2 {
            len.set(0, 32);
            assert_eq!(raw.call("C_DecryptInit", &[h, rows[1].address(), key.handle()]), CKR_OK);
            assert_eq!(raw.call("C_Decrypt", &[h, data.address(), 16, out.address(), len.address()]), CKR_OK);
        }
    }
}

module_test! {
    fn a_key_is_wrapped_with_associated_data(_world) {
        let token = Token::open();
        let session = token.user();
        let raw = Raw::load(&module::path());
        let exposed = [Attribute::Sensitive(false), Attribute::Extractable(true)];
        let target = aes(&session, 32, &exposed).expect("a key");
        let guarded = aes(&session, 32, &[Attribute::Sensitive(true), Attribute::Extractable(true)]).expect("a key");
        let wrapping = aes(&session, 32, &exposed).expect("a key").handle();
        let gcm = Aead::gcm(&[0; 12], 0, CKG_GENERATE);
        let [params, size] = gcm.argument();
        let (h, mechanism, aad) = (session.handle(), Memory::words(&[CKM_AES_GCM, params, size]), Memory::of(b"who and why"));
        let (out, len) = (Memory::zeroed(64), Memory::words(&[0]));
        let wrap = |key: u64, out: u64| {
            raw.call("C_WrapKeyAuthenticated", &[h, mechanism.address(), wrapping, key, aad.address(), 11, out, len.address()])
        };
        assert_eq!((wrap(target.handle(), 0), len.word(0)), (CKR_OK, 32));
        assert_eq!(wrap(guarded.handle(), out.address()), CKR_KEY_NOT_WRAPPABLE, "no attribute is bound to it");
        assert_eq!(wrap(target.handle(), out.address()), CKR_OK);
        assert_ne!(gcm.iv(), [0; 12]);
        let (class, kind, place) = (Memory::words(&[CKO_SECRET_KEY]), Memory::words(&[CKK_AES]), Memory::zeroed(8));
        let no = Memory::zeroed(1);
        let template = Memory::words(&[CKA_CLASS, class.address(), 8, CKA_KEY_TYPE, kind.address(), 8, CKA_SENSITIVE, no.address(), 1]);
        let unwrap = |aad_len: u64| {
            let (m, t) = (mechanism.address(), template.address());
            let arguments = [h, m, wrapping, out.address(), 32, t, 3, aad.address(), aad_len, place.address()];
            raw.call("C_UnwrapKeyAuthenticated", &arguments)
        };
        assert_eq!(unwrap(10), CKR_WRAPPED_KEY_INVALID, "other associated data");
        assert_eq!(unwrap(11), CKR_OK);
        let came_back = place.word(0);
        let seal = |key: u64| {
            let (iv, ecb, len) = (Memory::zeroed(16), Memory::words(&[CKM_AES_ECB, 0, 0]), Memory::words(&[16]));
            assert_eq!(raw.call("C_EncryptInit", &[h, ecb.address(), key]), CKR_OK);
            assert_eq!(raw.call("C_Encrypt", &[h, iv.address(), 16, iv.address(), len.address()]), CKR_OK);
            iv.bytes(16)
        };
        assert_eq!(seal(came_back), seal(target.handle()), "the same key");
        gcm.tag.set(1, gcm.tag.word(1) ^ 1);
        assert_eq!(unwrap(11), CKR_WRAPPED_KEY_INVALID, "another tag");
    }
}

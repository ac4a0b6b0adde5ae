//! What a broken caller passes: every C function with NULL in each place, absurd lengths, handles of nothing, contradictions. None
//! is answered with CKR_OK, none ends the process, and none leaves anything behind: not an operation that was not begun, and not an
//! object or a session. What was active before has ended as the standard says, or goes on.

use acceptance::arguments::{ABSURD, Abuse, Keys, ROOM, Stage, before};
use acceptance::functions::FUNCTIONS;
use acceptance::module;
use acceptance::module_test;
use acceptance::raw::key::{Call, Template, flag, number};
use acceptance::raw::{Memory, Raw};
use acceptance::world::PIN;
use cryptoki_sys::*;

/// The module, a session with the user logged in, and keys.
pub(crate) struct Setting {
    pub(crate) raw: Raw,
    pub(crate) slot: CK_SLOT_ID,
    pub(crate) session: CK_SESSION_HANDLE,
    pub(crate) stage: Stage,
}

/// A token key that may do some things and that nobody can destroy.
fn token_key(usage: &[CK_ATTRIBUTE_TYPE]) -> Template {
    let mut template = vec![(CKA_TOKEN, flag(true)), (CKA_DESTROYABLE, flag(false))];
    template.extend(usage.iter().map(|usage| (*usage, flag(true))));
    template
}

pub(crate) fn login(raw: &Raw) -> (CK_SLOT_ID, CK_SESSION_HANDLE) {
    assert_eq!(raw.initialize(), CKR_OK);
    let slot = raw.slots().expect("slots")[0];
    let session = raw.open_session(slot).expect("a session");
    assert_eq!(raw.login(session, PIN), CKR_OK);
    (slot, session)
}

pub(crate) fn keys(raw: &Raw, session: CK_SESSION_HANDLE) -> Keys {
    let aes = |usage: &[CK_ATTRIBUTE_TYPE]| {
        let mut template = token_key(usage);
        let others = [CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE];
        template.extend(others.iter().filter(|other| !usage.contains(other)).map(|other| (*other, flag(false))));
        template.push((CKA_VALUE_LEN, number(16u64)));
        // What may leave the token may be read: it is not what is tried here.
        template.push((CKA_SENSITIVE, flag(!usage.contains(&CKA_EXTRACTABLE))));
        raw.generate(session, &Call::plain(CKM_AES_KEY_GEN), &template).expect("an AES key")
    };
    let mut secret = token_key(&[CKA_SIGN, CKA_VERIFY, CKA_DERIVE]);
    secret.push((CKA_VALUE_LEN, number(32u64)));
    let mac = raw.generate(session, &Call::plain(CKM_GENERIC_SECRET_KEY_GEN), &secret).expect("a secret");
    let mut public = token_key(&[CKA_VERIFY, CKA_VERIFY_RECOVER]);
    public.push((CKA_MODULUS_BITS, number(2048u64)));
    let private = token_key(&[CKA_SIGN, CKA_SIGN_RECOVER]);
    let rsa = raw.generate_pair(session, &Call::plain(CKM_RSA_PKCS_KEY_PAIR_GEN), &public, &private);
    let mut public = token_key(&[CKA_ENCAPSULATE]);
    public.push((CKA_PARAMETER_SET, number(CKP_ML_KEM_768)));
    let private = token_key(&[CKA_DECAPSULATE]);
    let kem = raw.generate_pair(session, &Call::plain(CKM_ML_KEM_KEY_PAIR_GEN), &public, &private);
    let data = vec![(CKA_CLASS, number(CKO_DATA)), (CKA_TOKEN, flag(true)), (CKA_DESTROYABLE, flag(false))];
    Keys {
        cipher: aes(&[CKA_ENCRYPT, CKA_DECRYPT]),
        mac,
        wrapping: aes(&[CKA_WRAP, CKA_UNWRAP]),
        target: aes(&[CKA_EXTRACTABLE]),
        rsa: rsa.expect("an RSA pair"),
        kem: kem.expect("an ML-KEM pair"),
        data: raw.create(session, &data).expect("a data object"),
    }
}

impl Setting {
    pub(crate) fn new() -> Setting {
        let raw = Raw::load(&module::path());
        let (slot, session) = login(&raw);
        let keys = keys(&raw, session);
        let wrapped = raw.wrap(session, &Call::plain(CKM_AES_KEY_WRAP_KWP), keys.wrapping, keys.target);
        let stage = Stage::new(slot, keys, &wrapped.expect("a wrapped key"));
        Setting { raw, slot, session, stage }
    }

    fn objects(&self) -> usize {
        self.raw.find(self.session, &Template::new()).expect("a search").len()
    }

    /// Sessions of the token, as C_GetTokenInfo counts them.
    fn sessions(&self) -> u64 {
        let info = Memory::zeroed(ROOM);
        assert_eq!(self.raw.call("C_GetTokenInfo", &[self.slot, info.address()]), CKR_OK);
        // Behind the label, two names, a serial number and the flags stand the most sessions and the sessions.
        info.word((32 + 32 + 16 + 16) / 8 + 2)
    }
}

/// What the good arguments give where that is not CKR_OK; nothing where the call would end the story.
fn good_answer(name: &str) -> Option<CK_RV> {
    Some(match name {
        "C_Initialize" => CKR_CRYPTOKI_ALREADY_INITIALIZED,
        "C_Finalize" | "C_InitToken" | "C_SetPIN" | "C_CloseSession" | "C_CloseAllSessions" | "C_Logout" => {
            return None;
        }
        "C_InitPIN" => CKR_USER_NOT_LOGGED_IN,
        "C_Login" | "C_LoginUser" => CKR_USER_ALREADY_LOGGED_IN,
        "C_SetOperationState" => CKR_SAVED_STATE_INVALID,
        "C_DestroyObject" => CKR_ACTION_PROHIBITED,
        "C_Verify" | "C_VerifyFinal" | "C_VerifyRecover" | "C_VerifySignature" | "C_VerifySignatureFinal" => {
            CKR_SIGNATURE_INVALID
        }
        "C_VerifyMessage" | "C_VerifyMessageNext" => CKR_SIGNATURE_INVALID,
        "C_DecryptMessage" => CKR_AEAD_DECRYPT_FAILED,
        "C_UnwrapKeyAuthenticated" => CKR_WRAPPED_KEY_INVALID,
        "C_DigestKey" => CKR_KEY_INDIGESTIBLE,
        "C_GetFunctionStatus" | "C_CancelFunction" => CKR_FUNCTION_NOT_PARALLEL,
        "C_WaitForSlotEvent" => CKR_NO_EVENT,
        "C_AsyncComplete" | "C_AsyncGetID" | "C_AsyncJoin" => CKR_FUNCTION_NOT_SUPPORTED,
        _ => CKR_OK,
    })
}

module_test! {
    fn the_three_function_lists_hold_the_same_functions(_world) {
        let raw = Raw::load(&module::path());
        let lists = raw.function_lists();
        assert_eq!(lists.each_ref().map(Vec::len), [68, 92, FUNCTIONS.len()]);
        for list in &lists {
            assert_eq!(list[..], lists[2][..list.len()]);
        }
    }
}

module_test! {
    fn the_good_arguments_are_good(_world) {
        // Else the bad ones would be refused for another reason than the one that is tried.
        let setting = Setting::new();
        for (name, _) in FUNCTIONS {
            let Some(expected) = good_answer(name) else { continue };
            let session = setting.raw.open_session(setting.slot).expect("a session");
            setting.stage.prepare(&setting.raw, name, session);
            assert_eq!(setting.raw.call(name, &setting.stage.good(name, session)), expected, "{name}");
            assert_eq!(setting.raw.close_session(session), CKR_OK, "{name}");
        }
    }
}

/// Whether the function ends the operation that it works on when it fails; of messages only the message, and a search not at all.
fn ends_its_operation(name: &str) -> bool {
    !name.contains("Message") && !name.starts_with("C_FindObjects") && name != "C_GetOperationState"
}

/// What is wrong after the abuse of a function in a session of its own.
fn complaint(setting: &Setting, abuse: &Abuse, session: CK_SESSION_HANDLE) -> Option<String> {
    let rv = setting.raw.call(abuse.name, &abuse.arguments);
    if !abuse.answers.contains(&rv) {
        return Some(format!("{}: {rv:#x}, not one of {:#x?}", abuse.what, abuse.answers));
    }
    let begun = before(abuse.name).first().copied();
    let init = begun.unwrap_or(abuse.name);
    if !init.ends_with("Init") {
        return None;
    }
    let goes_on = begun.is_some() && (abuse.elsewhere || !ends_its_operation(abuse.name));
    let expected = if goes_on { CKR_OPERATION_ACTIVE } else { CKR_OK };
    let rv = setting.raw.call(init, &setting.stage.good(init, session));
    (rv != expected).then(|| format!("{}: then {init} is {rv:#x}, not {expected:#x}", abuse.what))
}

module_test! {
    fn no_function_takes_bad_arguments_or_leaves_anything_behind(_world) {
        let setting = Setting::new();
        let (objects, sessions) = (setting.objects(), setting.sessions());
        let mut complaints = Vec::new();
        let mut tried = 0;
        for (name, _) in FUNCTIONS {
            // Each row has a session of its own, so the rows are made anew for each.
            let count = setting.stage.abuses(name, setting.session).len();
            for row in 0..count {
                let session = setting.raw.open_session(setting.slot).expect("a session");
                setting.stage.prepare(&setting.raw, name, session);
                let abuse = setting.stage.abuses(name, session).swap_remove(row);
                complaints.extend(complaint(&setting, &abuse, session));
                assert_eq!(setting.raw.close_session(session), CKR_OK, "{}", abuse.what);
                tried += 1;
            }
        }
        assert!(complaints.is_empty(), "{} of {tried}:\n{}", complaints.len(), complaints.join("\n"));
        assert!(tried > 700, "{tried}");
        assert_eq!((setting.objects(), setting.sessions()), (objects, sessions));
    }
}

/// The functions that take a mechanism, with the flag that says which mechanisms they take.
const TAKES_MECHANISM: &[(&str, CK_FLAGS)] = &[
    ("C_EncryptInit", CKF_ENCRYPT),
    ("C_DecryptInit", CKF_DECRYPT),
    ("C_DigestInit", CKF_DIGEST),
    ("C_SignInit", CKF_SIGN),
    ("C_SignRecoverInit", CKF_SIGN_RECOVER),
    ("C_VerifyInit", CKF_VERIFY),
    ("C_VerifyRecoverInit", CKF_VERIFY_RECOVER),
    ("C_VerifySignatureInit", CKF_VERIFY),
    ("C_MessageSignInit", CKF_SIGN),
    ("C_MessageVerifyInit", CKF_VERIFY),
    ("C_MessageEncryptInit", CKF_MESSAGE_ENCRYPT),
    ("C_MessageDecryptInit", CKF_MESSAGE_DECRYPT),
    ("C_GenerateKey", CKF_GENERATE),
    ("C_GenerateKeyPair", CKF_GENERATE_KEY_PAIR),
    ("C_WrapKey", CKF_WRAP),
    ("C_UnwrapKey", CKF_UNWRAP),
    ("C_DeriveKey", CKF_DERIVE),
    ("C_EncapsulateKey", CKF_ENCAPSULATE),
    ("C_DecapsulateKey", CKF_DECAPSULATE),
];

module_test! {
    fn no_mechanism_takes_a_parameter_of_a_wrong_length(_world) {
        let setting = Setting::new();
        let parameter = Memory::zeroed(ROOM);
        let mechanisms = setting.raw.mechanisms(setting.slot).expect("mechanisms");
        let mut complaints = Vec::new();
        for mechanism in mechanisms {
            let (.., flags) = setting.raw.mechanism_info(setting.slot, mechanism).expect("info");
            for (name, _) in TAKES_MECHANISM.iter().filter(|(_, flag)| flags & flag != 0) {
                // No structure, IV or number has any of these lengths; NULL has none at all.
                let wrong = [1, 3, 5, 7, 13, 4095].into_iter().chain(ABSURD).map(|len| (parameter.address(), len));
                let null = [1, 8, 12, 16, 24, 40, 48].into_iter().chain(ABSURD).map(|len| (0, len));
                for (address, len) in wrong.chain(null) {
                    let mut arguments = setting.stage.good(name, setting.session);
                    let given = Memory::words(&[mechanism, address, len]);
                    arguments[1] = given.address();
                    let rv = setting.raw.call(name, &arguments);
                    if rv != CKR_MECHANISM_PARAM_INVALID {
                        complaints.push(format!("{name} of {mechanism:#x} with {len:#x} bytes at {address:#x}: {rv:#x}"));
                    }
                }
                if name.ends_with("Init") {
                    let init = setting.stage.good(name, setting.session);
                    assert_eq!(setting.raw.call(name, &init), CKR_OK, "{name} after what was refused for {mechanism:#x}");
                    let every = [setting.session, CK_ULONG::MAX];
                    assert_eq!(setting.raw.call("C_SessionCancel", &every), CKR_OK);
                }
            }
        }
        assert!(complaints.is_empty(), "{}:\n{}", complaints.len(), complaints.join("\n"));
    }
}

/// The functions that take a template which makes or changes an object.
const TAKES_TEMPLATE: [&str; 9] = [
    "C_CreateObject",
    "C_CopyObject",
    "C_SetAttributeValue",
    "C_GenerateKey",
    "C_GenerateKeyPair",
    "C_UnwrapKey",
    "C_DeriveKey",
    "C_EncapsulateKey",
    "C_DecapsulateKey",
];

module_test! {
    fn no_template_with_something_wrong_makes_an_object(_world) {
        let setting = Setting::new();
        let objects = setting.objects();
        let (yes, two) = (Memory::of(&[1]), Memory::of(&[1, 1]));
        let (label, other, words) = (Memory::of(b"label"), Memory::of(b"other"), Memory::zeroed(64));
        let long = Memory::zeroed(5 << 20);
        let inner = Memory::words(&[CKA_ENCRYPT, yes.address(), 1]);
        let deep = Memory::words(&[CKA_WRAP_TEMPLATE, inner.address(), 24]);
        let row = |kind: CK_ATTRIBUTE_TYPE, value: &Memory, len: u64| [kind, value.address(), len];
        let value = [CKR_ATTRIBUTE_VALUE_INVALID];
        let unknown = [CKR_ATTRIBUTE_TYPE_INVALID];
        let twice = [CKR_TEMPLATE_INCONSISTENT];
        let fixed = [CKR_ATTRIBUTE_READ_ONLY, CKR_TEMPLATE_INCONSISTENT, CKR_ATTRIBUTE_TYPE_INVALID];
        let nested = [CKR_ATTRIBUTE_VALUE_INVALID, CKR_ATTRIBUTE_TYPE_INVALID];
        type Case<'a> = (&'a str, Vec<[u64; 3]>, &'a [CK_RV]);
        let mut cases: Vec<Case<'_>> = vec![
            ("a label twice", vec![row(CKA_LABEL, &label, 5), row(CKA_LABEL, &other, 5)], &twice),
            ("an unknown attribute", vec![row(0x7fff_1234, &label, 5)], &unknown),
            ("a truth of two bytes", vec![row(CKA_MODIFIABLE, &two, 2)], &value),
            ("a truth of no bytes", vec![[CKA_MODIFIABLE, yes.address(), 0]], &value),
            ("a label that is too long", vec![row(CKA_LABEL, &long, 5 << 20)], &value),
            ("labels that are too long together", vec![row(CKA_LABEL, &long, 3 << 20), row(CKA_LABEL, &long, 3 << 20)], &value),
            ("a NULL value with a length", vec![[CKA_LABEL, 0, 5]], &value),
            ("a class of three bytes", vec![row(CKA_CLASS, &words, 3)], &value),
            ("a template cut in two", vec![row(CKA_WRAP_TEMPLATE, &inner, 23)], &nested),
            ("a template in a template in a template", vec![row(CKA_WRAP_TEMPLATE, &deep, 24)], &nested),
            ("a unique id", vec![row(CKA_UNIQUE_ID, &label, 5)], &fixed),
        ];
        for len in ABSURD {
            cases.push(("a value of absurd length", vec![row(CKA_LABEL, &label, len)], &value));
        }
        let mut complaints = Vec::new();
        for name in TAKES_TEMPLATE {
            let at = FUNCTIONS.iter().find(|(of, _)| *of == name).map(|(_, letters)| letters.replace(' ', "").find('t'));
            let at = at.flatten().expect("it takes a template");
            for (what, rows, answers) in &cases {
                let mut arguments = setting.stage.good(name, setting.session);
                // Behind the rows that would do.
                let good = setting.stage.rows(name);
                let all: Vec<u64> = good.iter().copied().chain(rows.concat()).collect();
                let template = Memory::words(&all);
                (arguments[at], arguments[at + 1]) = (template.address(), (all.len() / 3) as u64);
                let rv = setting.raw.call(name, &arguments);
                // A label is in some of the templates already.
                let inconsistent = rv == CKR_TEMPLATE_INCONSISTENT && good.contains(&CKA_LABEL);
                if !answers.contains(&rv) && !inconsistent {
                    complaints.push(format!("{name} with {what}: {rv:#x}"));
                }
            }
        }
        assert!(complaints.is_empty(), "{}:\n{}", complaints.len(), complaints.join("\n"));
        assert_eq!(setting.objects(), objects, "nothing was made");
    }
}

module_test! {
    fn a_gigabyte_at_once_is_refused_and_what_is_longer_than_a_message_is_carried_in_pieces(_world) {
        let setting = Setting::new();
        let (raw, h) = (&setting.raw, setting.session);
        let long = Memory::zeroed(9 << 20);
        let len = 9 << 20;
        // A MAC over nine megabytes at once is the one over them in three parts.
        let (once, parts, room) = (Memory::zeroed(32), Memory::zeroed(32), Memory::words(&[32]));
        assert_eq!(raw.call("C_SignInit", &setting.stage.good("C_SignInit", h)), CKR_OK);
        assert_eq!(raw.call("C_Sign", &[h, long.address(), len, once.address(), room.address()]), CKR_OK);
        assert_eq!(raw.call("C_SignInit", &setting.stage.good("C_SignInit", h)), CKR_OK);
        for _ in 0..3 {
            assert_eq!(raw.call("C_SignUpdate", &[h, long.address(), len / 3]), CKR_OK);
        }
        assert_eq!(raw.call("C_SignFinal", &[h, parts.address(), room.address()]), CKR_OK);
        assert_eq!(once.bytes(32), parts.bytes(32));
        assert_eq!(raw.call("C_VerifyInit", &setting.stage.good("C_VerifyInit", h)), CKR_OK);
        assert_eq!(raw.call("C_Verify", &[h, long.address(), len, once.address(), 32]), CKR_OK);
        // One byte more than a gigabyte; and less, where there is no such memory.
        for (len, answer) in [((1 << 30) + 1, CKR_DATA_LEN_RANGE), (1 << 30, CKR_ARGUMENTS_BAD)] {
            assert_eq!(raw.call("C_SignInit", &setting.stage.good("C_SignInit", h)), CKR_OK);
            assert_eq!(raw.call("C_Sign", &[h, long.address(), len, once.address(), room.address()]), answer);
            assert_eq!(raw.call("C_SignUpdate", &[h, long.address(), 1]), CKR_OPERATION_NOT_INITIALIZED);
        }
        assert_eq!(raw.call("C_DecryptInit", &setting.stage.good("C_DecryptInit", h)), CKR_OK);
        let decrypted = raw.call("C_Decrypt", &[h, long.address(), 1 << 31, once.address(), room.address()]);
        assert_eq!(decrypted, CKR_ENCRYPTED_DATA_LEN_RANGE);
        assert_eq!(raw.call("C_GenerateRandom", &[h, once.address(), 1 << 30]), CKR_ARGUMENTS_BAD);
    }
}

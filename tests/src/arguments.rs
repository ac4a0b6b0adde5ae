//! Arguments for every C function: good ones, and what a broken caller passes. Made from the letters of the function table, so that
//! a function that is added is abused with the others.
//!
//! Every address and length is either true or so wrong that the module must refuse it unread: the memory that lengths speak of is
//! [`ROOM`] bytes, and a length that is not true is absurd ([`ABSURD`]).

use cryptoki_sys::*;

use crate::functions::FUNCTIONS;
use crate::raw::{Memory, Raw};

/// How much memory every good address leads to.
pub const ROOM: usize = 8192;
/// Lengths and counts that no caller means.
pub const ABSURD: [CK_ULONG; 3] = [1 << 31, 1 << 40, CK_ULONG::MAX];
/// The length of the input that is given where none is prescribed.
const INPUT: CK_ULONG = 32;

/// What must have been called before a function can do its work.
pub const BEFORE: &[(&str, &[&str])] = &[
    ("C_GetOperationState", &["C_DigestInit"]),
    ("C_FindObjects", &["C_FindObjectsInit"]),
    ("C_FindObjectsFinal", &["C_FindObjectsInit"]),
    ("C_Encrypt", &["C_EncryptInit"]),
    ("C_EncryptUpdate", &["C_EncryptInit"]),
    ("C_EncryptFinal", &["C_EncryptInit"]),
    ("C_Decrypt", &["C_DecryptInit"]),
    ("C_DecryptUpdate", &["C_DecryptInit"]),
    ("C_DecryptFinal", &["C_DecryptInit"]),
    ("C_Digest", &["C_DigestInit"]),
    ("C_DigestUpdate", &["C_DigestInit"]),
    ("C_DigestKey", &["C_DigestInit"]),
    ("C_DigestFinal", &["C_DigestInit"]),
    ("C_Sign", &["C_SignInit"]),
    ("C_SignUpdate", &["C_SignInit"]),
    ("C_SignFinal", &["C_SignInit"]),
    ("C_SignRecover", &["C_SignRecoverInit"]),
    ("C_Verify", &["C_VerifyInit"]),
    ("C_VerifyUpdate", &["C_VerifyInit"]),
    ("C_VerifyFinal", &["C_VerifyInit"]),
    ("C_VerifyRecover", &["C_VerifyRecoverInit"]),
    ("C_DigestEncryptUpdate", &["C_EncryptInit", "C_DigestInit"]),
    ("C_DecryptDigestUpdate", &["C_DecryptInit", "C_DigestInit"]),
    ("C_SignEncryptUpdate", &["C_EncryptInit", "C_SignInit"]),
    ("C_DecryptVerifyUpdate", &["C_DecryptInit", "C_VerifyInit"]),
    ("C_EncryptMessage", &["C_MessageEncryptInit"]),
    ("C_EncryptMessageBegin", &["C_MessageEncryptInit"]),
    ("C_EncryptMessageNext", &["C_MessageEncryptInit", "C_EncryptMessageBegin"]),
    ("C_MessageEncryptFinal", &["C_MessageEncryptInit"]),
    ("C_DecryptMessage", &["C_MessageDecryptInit"]),
    ("C_DecryptMessageBegin", &["C_MessageDecryptInit"]),
    ("C_DecryptMessageNext", &["C_MessageDecryptInit", "C_DecryptMessageBegin"]),
    ("C_MessageDecryptFinal", &["C_MessageDecryptInit"]),
    ("C_SignMessage", &["C_MessageSignInit"]),
    ("C_SignMessageBegin", &["C_MessageSignInit"]),
    ("C_SignMessageNext", &["C_MessageSignInit", "C_SignMessageBegin"]),
    ("C_MessageSignFinal", &["C_MessageSignInit"]),
    ("C_VerifyMessage", &["C_MessageVerifyInit"]),
    ("C_VerifyMessageBegin", &["C_MessageVerifyInit"]),
    ("C_VerifyMessageNext", &["C_MessageVerifyInit", "C_VerifyMessageBegin"]),
    ("C_MessageVerifyFinal", &["C_MessageVerifyInit"]),
    ("C_VerifySignature", &["C_VerifySignatureInit"]),
    ("C_VerifySignatureUpdate", &["C_VerifySignatureInit"]),
    ("C_VerifySignatureFinal", &["C_VerifySignatureInit"]),
];

/// What has to be called before `name`.
pub fn before(name: &str) -> &'static [&'static str] {
    BEFORE.iter().find(|(of, _)| *of == name).map_or(&[], |(_, steps)| steps)
}

/// Keys that the good arguments name.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// An AES key that encrypts and decrypts.
    pub cipher: CK_OBJECT_HANDLE,
    /// A generic secret that signs, verifies and derives.
    pub mac: CK_OBJECT_HANDLE,
    /// An AES key that wraps and unwraps and does nothing else.
    pub wrapping: CK_OBJECT_HANDLE,
    /// An AES key that may leave the token.
    pub target: CK_OBJECT_HANDLE,
    /// An RSA pair that signs and verifies with recovery.
    pub rsa: (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE),
    /// An ML-KEM-768 pair.
    pub kem: (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE),
    /// No key: a data object.
    pub data: CK_OBJECT_HANDLE,
}

/// A call with something wrong in it.
pub struct Abuse {
    /// The function.
    pub name: &'static str,
    /// What is wrong, for people.
    pub what: String,
    /// Its arguments.
    pub arguments: Vec<CK_ULONG>,
    /// The answers that are right.
    pub answers: Vec<CK_RV>,
    /// Whether it names another session, so that nothing can have happened to this one.
    pub elsewhere: bool,
}

/// Which kind of thing an argument is, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Argument {
    letter: char,
    at: usize,
    /// Which argument of its letter it is.
    nth: usize,
}

/// What arguments point at. Inputs, outputs and structures have memory of their own, so that no output overwrites a structure.
pub struct Stage {
    /// The slot with the token.
    pub slot: CK_SLOT_ID,
    keys: Keys,
    input: Memory,
    outputs: [Memory; 3],
    lengths: [Memory; 3],
    /// Values of attributes and parameters, which nobody writes.
    _values: Vec<Memory>,
    mechanisms: Vec<(&'static str, Memory)>,
    templates: Vec<(&'static str, Memory, CK_ULONG)>,
    message: Memory,
    wrapped: Memory,
    wrapped_len: CK_ULONG,
    name: Memory,
}

/// Where a wrong answer may come from: an input that is too long for its kind.
const LENGTHS: [CK_RV; 7] = [
    CKR_ARGUMENTS_BAD,
    CKR_DATA_LEN_RANGE,
    CKR_ENCRYPTED_DATA_LEN_RANGE,
    CKR_SIGNATURE_LEN_RANGE,
    CKR_WRAPPED_KEY_LEN_RANGE,
    CKR_PIN_LEN_RANGE,
    CKR_SAVED_STATE_INVALID,
];

/// The mechanism of each function that takes one, and the keys that it works on.
const MECHANISMS: &[(&str, CK_MECHANISM_TYPE)] = &[
    ("C_EncryptInit", CKM_AES_CBC),
    ("C_DecryptInit", CKM_AES_CBC),
    ("C_DigestInit", CKM_SHA256),
    ("C_SignInit", CKM_SHA256_HMAC),
    ("C_SignRecoverInit", CKM_RSA_PKCS),
    ("C_VerifyInit", CKM_SHA256_HMAC),
    ("C_VerifyRecoverInit", CKM_RSA_PKCS),
    ("C_GenerateKey", CKM_AES_KEY_GEN),
    ("C_GenerateKeyPair", CKM_EC_KEY_PAIR_GEN),
    ("C_WrapKey", CKM_AES_KEY_WRAP_KWP),
    ("C_UnwrapKey", CKM_AES_KEY_WRAP_KWP),
    ("C_DeriveKey", CKM_SHA256_KEY_DERIVATION),
    ("C_MessageEncryptInit", CKM_AES_GCM),
    ("C_MessageDecryptInit", CKM_AES_GCM),
    ("C_MessageSignInit", CKM_SHA256_HMAC),
    ("C_MessageVerifyInit", CKM_SHA256_HMAC),
    ("C_EncapsulateKey", CKM_ML_KEM),
    ("C_DecapsulateKey", CKM_ML_KEM),
    ("C_VerifySignatureInit", CKM_SHA256_HMAC),
    ("C_WrapKeyAuthenticated", CKM_AES_GCM),
    ("C_UnwrapKeyAuthenticated", CKM_AES_GCM),
];

/// The object identifier of P-256.
const P256: &[u8] = crate::module::P256;

fn word(value: usize) -> CK_ULONG {
    CK_ULONG::try_from(value).expect("a word")
}

/// Attributes and their values.
type Rows<'a> = &'a [(CK_ATTRIBUTE_TYPE, &'a [u8])];

/// Bytes with as much memory behind them as lengths speak of.
fn padded(bytes: &[u8]) -> Memory {
    let mut room = bytes.to_vec();
    room.resize(ROOM, 0);
    Memory::of(&room)
}

/// A template as C sees it; `values` keeps what its rows point at.
fn template(values: &mut Vec<Memory>, rows: Rows<'_>) -> (Memory, CK_ULONG) {
    let mut words = Vec::new();
    for (kind, value) in rows {
        let held = Memory::of(value);
        words.extend([*kind, held.address(), word(value.len())]);
        values.push(held);
    }
    (Memory::words(&words), word(rows.len()))
}

impl Stage {
    /// The stage for a token of a module whose user is logged in.
    pub fn new(slot: CK_SLOT_ID, keys: Keys, wrapped: &[u8]) -> Stage {
        let mut values = vec![Memory::zeroed(16)];
        let iv = values[0].address();
        let (message_iv, message_tag) = (Memory::zeroed(16), Memory::zeroed(16));
        let message = Memory::words(&[message_iv.address(), 12, 0, CKG_GENERATE, message_tag.address(), 128]);
        values.extend([message_iv, message_tag]);
        let mechanisms = MECHANISMS.iter().map(|(name, mechanism)| {
            let parameter = match *mechanism {
                CKM_AES_CBC => [iv, 16],
                CKM_AES_GCM if name.contains("Authenticated") => [message.address(), 48],
                _ => [0, 0],
            };
            (*name, Memory::words(&[*mechanism, parameter[0], parameter[1]]))
        });
        let mechanisms = mechanisms.collect();
        let no = [0u8];
        let number = |value: CK_ULONG| value.to_ne_bytes();
        let (sixteen, secret, generic, aes) =
            (number(16), number(CKO_SECRET_KEY), number(CKK_GENERIC_SECRET), number(CKK_AES));
        let derived = [(CKA_CLASS, &secret[..]), (CKA_KEY_TYPE, &generic[..]), (CKA_TOKEN, &no[..])];
        let unwrapped = [(CKA_CLASS, &secret[..]), (CKA_KEY_TYPE, &aes[..]), (CKA_TOKEN, &no[..])];
        let class = number(CKO_DATA);
        let label = [(CKA_LABEL, &b"abuse"[..])];
        let rows: &[(&str, Rows<'_>)] = &[
            ("C_CreateObject", &[(CKA_CLASS, &class), (CKA_TOKEN, &no), (CKA_VALUE, b"data")]),
            ("C_CopyObject", &label),
            ("C_GetAttributeValue", &[(CKA_LABEL, &[0; 64])]),
            ("C_SetAttributeValue", &label),
            ("C_FindObjectsInit", &label),
            ("C_GenerateKey", &[(CKA_TOKEN, &no), (CKA_VALUE_LEN, &sixteen)]),
            ("C_GenerateKeyPair", &[(CKA_TOKEN, &no), (CKA_EC_PARAMS, P256)]),
            ("C_GenerateKeyPair private", &[(CKA_TOKEN, &no)]),
            ("C_UnwrapKey", &unwrapped),
            ("C_DeriveKey", &derived),
            ("C_EncapsulateKey", &derived),
            ("C_DecapsulateKey", &derived),
            ("C_UnwrapKeyAuthenticated", &unwrapped),
        ];
        let mut templates = Vec::new();
        for (name, rows) in rows {
            let (memory, count) = template(&mut values, rows);
            templates.push((*name, memory, count));
        }
        Stage {
            slot,
            keys,
            input: Memory::zeroed(ROOM),
            outputs: [(); 3].map(|()| Memory::zeroed(ROOM)),
            lengths: [(); 3].map(|()| Memory::zeroed(8)),
            _values: values,
            mechanisms,
            templates,
            message,
            wrapped: padded(wrapped),
            wrapped_len: word(wrapped.len()),
            name: Memory::of(b"PKCS 11\0"),
        }
    }

    fn mechanism(&self, name: &str) -> CK_ULONG {
        self.mechanisms.iter().find(|(of, _)| *of == name).map_or(0, |(_, memory)| memory.address())
    }

    fn template_of(&self, name: &str, nth: usize) -> (CK_ULONG, CK_ULONG) {
        let suffix = if nth == 0 { "" } else { " private" };
        let of = format!("{name}{suffix}");
        self.templates.iter().find(|(of_row, ..)| *of_row == of).map_or((0, 0), |(_, memory, n)| (memory.address(), *n))
    }

    fn key(&self, name: &str, nth: usize) -> CK_ULONG {
        let keys = &self.keys;
        match (name, nth) {
            ("C_SignRecoverInit", _) => keys.rsa.1,
            ("C_VerifyRecoverInit", _) => keys.rsa.0,
            ("C_EncapsulateKey", _) => keys.kem.0,
            ("C_DecapsulateKey", _) => keys.kem.1,
            ("C_WrapKey" | "C_WrapKeyAuthenticated", 0) | ("C_UnwrapKey" | "C_UnwrapKeyAuthenticated", _) => {
                keys.wrapping
            }
            ("C_WrapKey" | "C_WrapKeyAuthenticated", _) => keys.target,
            ("C_CopyObject" | "C_DestroyObject" | "C_GetObjectSize", _) => keys.data,
            ("C_GetAttributeValue" | "C_SetAttributeValue", _) => keys.data,
            ("C_EncryptInit" | "C_DecryptInit" | "C_MessageEncryptInit" | "C_MessageDecryptInit", _) => keys.cipher,
            _ => keys.mac,
        }
    }

    fn number(name: &str) -> CK_ULONG {
        match name {
            "C_GetMechanismInfo" => CKM_SHA256,
            "C_OpenSession" => CKF_SERIAL_SESSION | CKF_RW_SESSION,
            "C_Login" | "C_LoginUser" => CKU_USER,
            "C_WaitForSlotEvent" => CKF_DONT_BLOCK,
            "C_GetSessionValidationFlags" => 1,
            "C_FindObjects" => 8,
            _ => 0,
        }
    }

    /// Input and its length.
    fn input_of(&self, name: &str) -> (CK_ULONG, CK_ULONG) {
        match name {
            "C_UnwrapKey" => (self.wrapped.address(), self.wrapped_len),
            "C_VerifyRecover" => (self.input.address(), 256),
            "C_DecapsulateKey" => (self.input.address(), 1088),
            "C_SetOperationState" => (self.input.address(), 33),
            _ => (self.input.address(), INPUT),
        }
    }

    /// Arguments that are right, for a session.
    pub fn good(&self, name: &str, session: CK_SESSION_HANDLE) -> Vec<CK_ULONG> {
        self.lengths.iter().for_each(|length| length.set(0, word(ROOM)));
        let arguments = arguments(name);
        let value = |argument: &Argument| {
            let nth = argument.nth.min(2);
            match argument.letter {
                'h' => session,
                's' => self.slot,
                'k' => self.key(name, argument.nth),
                '#' => Self::number(name),
                'm' => self.mechanism(name),
                't' => self.template_of(name, argument.nth).0,
                'c' => self.template_of(name, argument.nth).1,
                'i' => self.input_of(name).0,
                'n' if name == "C_GenerateRandom" => INPUT,
                'n' => self.input_of(name).1,
                'o' => self.outputs[0].address(),
                'l' => self.lengths[0].address(),
                'p' if name.contains("crypt") => self.message.address(),
                'q' if name.contains("crypt") => 48,
                'r' if name == "C_GetInterface" && argument.nth < 2 => [self.name.address(), 0][argument.nth],
                // Any place but the one where the output's length or the output goes.
                'r' => self.outputs[1 + nth.min(1)].address(),
                _ => 0,
            }
        };
        let mut good: Vec<CK_ULONG> = arguments.iter().map(value).collect();
        if name == "C_LoginUser" {
            // No user has a name.
            good[4..6].copy_from_slice(&[0, 0]);
        }
        good
    }

    /// The words of the template that is right for `name`.
    pub fn rows(&self, name: &str) -> Vec<CK_ULONG> {
        let found = self.templates.iter().find(|(of, ..)| *of == name);
        found.map_or_else(Vec::new, |(_, memory, count)| {
            (0..3 * usize::try_from(*count).unwrap_or(0)).map(|at| memory.word(at)).collect()
        })
    }

    /// Calls what has to come before `name`.
    ///
    /// # Panics
    /// When that is refused.
    pub fn prepare(&self, raw: &Raw, name: &str, session: CK_SESSION_HANDLE) {
        for step in before(name) {
            assert_eq!(raw.call(step, &self.good(step, session)), CKR_OK, "{step}, before {name}");
        }
    }

    /// Everything that can be wrong with one argument of `name`.
    pub fn abuses(&self, name: &'static str, session: CK_SESSION_HANDLE) -> Vec<Abuse> {
        let all = arguments(name);
        let mut abuses = Vec::new();
        let mut row = |what: &str, changes: &[(usize, CK_ULONG)], answers: &[CK_RV], elsewhere: bool| {
            let mut arguments = self.good(name, session);
            changes.iter().for_each(|(at, value)| arguments[*at] = *value);
            let what = format!("{name}: {what}, {changes:x?}");
            abuses.push(Abuse { name, what, arguments, answers: answers.to_vec(), elsewhere });
        };
        for argument in &all {
            let at = argument.at;
            match argument.letter {
                'h' => {
                    for dead in [0, 0xdead_beef, CK_ULONG::MAX] {
                        row("a session that is not", &[(at, dead)], &[CKR_SESSION_HANDLE_INVALID], true);
                    }
                }
                's' => {
                    for slot in [4096, CK_ULONG::MAX] {
                        row("a slot that is not", &[(at, slot)], &[CKR_SLOT_ID_INVALID], false);
                    }
                }
                'k' => {
                    let answer = handle_answer(name, argument.nth);
                    for key in [0, 0xdead_beef, CK_ULONG::MAX] {
                        row("an object that is not", &[(at, key)], &[answer], false);
                    }
                    if answer != CKR_OBJECT_HANDLE_INVALID {
                        row("an object that is no key", &[(at, self.keys.data)], &[answer], false);
                    }
                }
                'm' => row("no mechanism", &[(at, 0)], &[CKR_ARGUMENTS_BAD], false),
                't' => {
                    row("no template with a count", &[(at, 0), (at + 1, 1)], &[CKR_ARGUMENTS_BAD], false);
                    for count in ABSURD {
                        row("a template of absurd length", &[(at + 1, count)], &[CKR_ARGUMENTS_BAD], false);
                    }
                }
                'i' => input_abuses(name, argument, &mut row),
                'o' if all.get(at + 1).is_some_and(|next| next.letter == 'l') => {
                    let more_to_come = name == "C_SignMessageNext";
                    if !more_to_come {
                        row("no place for the length", &[(at + 1, 0)], &[CKR_ARGUMENTS_BAD], false);
                        row("no place at all", &[(at, 0), (at + 1, 0)], &[CKR_ARGUMENTS_BAD], false);
                    }
                }
                'o' => {
                    let refused = [CKR_ARGUMENTS_BAD, CKR_FUNCTION_NOT_SUPPORTED];
                    row("no buffer with a length", &[(at, 0), (at + 1, 8)], &refused, false);
                    if name == "C_GenerateRandom" {
                        for len in ABSURD {
                            row("absurdly much", &[(at + 1, len)], &[CKR_ARGUMENTS_BAD], false);
                        }
                    }
                }
                'p' if name.contains("crypt") && !name.ends_with("Next") => {
                    let answers = [CKR_MECHANISM_PARAM_INVALID, CKR_ARGUMENTS_BAD];
                    for (start, len) in [(0, 0), (0, 48), (1, 0), (1, 1), (1, 47), (1, 49)] {
                        let start = start * self.message.address();
                        row("a wrong parameter", &[(at, start), (at + 1, len)], &answers, false);
                    }
                    for len in ABSURD {
                        row("a parameter of absurd length", &[(at + 1, len)], &answers, false);
                    }
                }
                'p' if !name.contains("crypt") => {
                    let answers = [CKR_MECHANISM_PARAM_INVALID];
                    if !name.ends_with("Next") {
                        row("no parameter with a length", &[(at, 0), (at + 1, 8)], &answers, false);
                    }
                }
                'r' if name == "C_InitToken" => {
                    row("no label", &[(at, 0)], &[CKR_ARGUMENTS_BAD], false);
                }
                'r' if name == "C_GetInterface" && argument.nth < 2 => {}
                'r' => {
                    row("no place", &[(at, 0)], &[CKR_ARGUMENTS_BAD, CKR_FUNCTION_NOT_SUPPORTED], false);
                }
                'z' if ["C_Finalize", "C_WaitForSlotEvent"].contains(&name) => {
                    row("what is reserved", &[(at, self.input.address())], &[CKR_ARGUMENTS_BAD], false);
                }
                '#' => number_abuses(name, argument, &mut row),
                _ => {}
            }
        }
        abuses
    }

    /// Arguments of which some are wrong, chosen by `pick`, which gives a number below its argument.
    pub fn chosen(
        &self,
        name: &str,
        sessions: &[CK_SESSION_HANDLE],
        objects: &[CK_OBJECT_HANDLE],
        pick: &mut dyn FnMut(usize) -> usize,
    ) -> Vec<CK_ULONG> {
        let mut chosen = self.good(name, sessions[pick(sessions.len())]);
        if pick(3) > 0 {
            return chosen;
        }
        let all = arguments(name);
        for _ in 0..=pick(3) {
            if all.is_empty() {
                break;
            }
            let argument = all[pick(all.len())];
            let lengths = [0, 1, 7, 8, 15, 16, 31, 33, 256, 4096, ABSURD[0], ABSURD[1], ABSURD[2]];
            let any = |values: &[CK_ULONG], pick: &mut dyn FnMut(usize) -> usize| values[pick(values.len())];
            chosen[argument.at] = match argument.letter {
                'h' => any(&[0, 1, 0xdead_beef, CK_ULONG::MAX, sessions[0]], pick),
                's' => any(&[0, 1, 2, CK_ULONG::MAX], pick),
                'k' if pick(2) == 0 && !objects.is_empty() => any(objects, pick),
                'k' => any(&[0, self.keys.mac, self.keys.rsa.0, self.keys.kem.1, CK_ULONG::MAX], pick),
                'm' if pick(4) > 0 => {
                    let (_, memory) = &self.mechanisms[pick(self.mechanisms.len())];
                    memory.address()
                }
                't' if pick(4) > 0 => {
                    let (_, memory, count) = &self.templates[pick(self.templates.len())];
                    chosen[argument.at + 1] = *count;
                    memory.address()
                }
                // Every template has a row.
                'c' => any(&[0, 1, ABSURD[0], ABSURD[1], ABSURD[2]], pick),
                'n' | 'q' => any(&lengths, pick),
                'i' | 'o' | 'l' | 'r' | 'p' | 'm' | 't' => 0,
                'b' => any(&[0, 1, 255], pick),
                // Without the flag it waits for an event that does not come.
                '#' if name == "C_WaitForSlotEvent" => CKF_DONT_BLOCK,
                '#' if name == "C_FindObjects" => any(&[0, 1, 64, 1000], pick),
                '#' => any(&[0, 1, 2, 4, 8, 0xff, 1 << 32, CK_ULONG::MAX], pick),
                _ => chosen[argument.at],
            };
        }
        chosen
    }

    /// The first handle that a call wrote.
    pub fn made(&self) -> CK_ULONG {
        self.outputs[1].word(0)
    }
}

type AddRow<'a> = dyn FnMut(&str, &[(usize, CK_ULONG)], &[CK_RV], bool) + 'a;

fn input_abuses(name: &str, argument: &Argument, row: &mut AddRow<'_>) {
    let at = argument.at;
    let mut answers = LENGTHS.to_vec();
    if name == "C_LoginUser" {
        answers.push(CKR_FUNCTION_NOT_SUPPORTED);
        row("no name with a length", &[(4, 0), (5, 8)], &answers, false);
    }
    row("no input with a length", &[(at, 0), (at + 1, 8)], &answers, false);
    for len in ABSURD {
        row("an input of absurd length", &[(at + 1, len)], &answers, false);
        row("no input of absurd length", &[(at, 0), (at + 1, len)], &answers, false);
    }
}

fn number_abuses(name: &str, argument: &Argument, row: &mut AddRow<'_>) {
    let at = argument.at;
    let rows: &[(CK_ULONG, CK_RV)] = match name {
        "C_GetMechanismInfo" => &[(0x7fff_ffff, CKR_MECHANISM_INVALID), (CK_ULONG::MAX, CKR_MECHANISM_INVALID)],
        "C_OpenSession" => &[
            (0, CKR_SESSION_PARALLEL_NOT_SUPPORTED),
            (CKF_RW_SESSION, CKR_SESSION_PARALLEL_NOT_SUPPORTED),
            (CKF_SERIAL_SESSION | 8, CKR_SESSION_ASYNC_NOT_SUPPORTED),
        ],
        "C_Login" | "C_LoginUser" => &[(3, CKR_USER_TYPE_INVALID), (CK_ULONG::MAX, CKR_USER_TYPE_INVALID)],
        "C_EncryptMessageNext" | "C_DecryptMessageNext" => {
            &[(2, CKR_ARGUMENTS_BAD), (CK_ULONG::MAX, CKR_ARGUMENTS_BAD)]
        }
        "C_GetSessionValidationFlags" => &[(0, CKR_ARGUMENTS_BAD), (CK_ULONG::MAX, CKR_ARGUMENTS_BAD)],
        "C_GetInterface" => &[(1, CKR_FUNCTION_FAILED), (CK_ULONG::MAX, CKR_FUNCTION_FAILED)],
        _ => &[],
    };
    for (value, answer) in rows {
        row("a number without a meaning", &[(at, *value)], &[*answer], false);
    }
}

/// What a handle that names nothing is called.
fn handle_answer(name: &str, nth: usize) -> CK_RV {
    match (name, nth) {
        ("C_CopyObject" | "C_DestroyObject" | "C_GetObjectSize" | "C_GetAttributeValue" | "C_SetAttributeValue", _) => {
            CKR_OBJECT_HANDLE_INVALID
        }
        ("C_WrapKey" | "C_WrapKeyAuthenticated", 0) => CKR_WRAPPING_KEY_HANDLE_INVALID,
        ("C_UnwrapKey" | "C_UnwrapKeyAuthenticated", _) => CKR_UNWRAPPING_KEY_HANDLE_INVALID,
        _ => CKR_KEY_HANDLE_INVALID,
    }
}

/// The arguments of a function, in order.
fn arguments(name: &str) -> Vec<Argument> {
    let (_, letters) = FUNCTIONS.iter().find(|(of, _)| *of == name).unwrap_or_else(|| panic!("no {name}"));
    let letters: Vec<char> = letters.chars().filter(|letter| *letter != ' ').collect();
    let nth = |at: usize| letters[..at].iter().filter(|other| **other == letters[at]).count();
    letters.iter().enumerate().map(|(at, letter)| Argument { letter: *letter, at, nth: nth(at) }).collect()
}

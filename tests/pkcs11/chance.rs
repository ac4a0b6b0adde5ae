//! Calls by chance: sequences of C functions with good arguments and wrong ones, in several sessions of a real daemon. The process
//! lives, every answer is one of the standard's and none says that something broke, and after each sequence the module works as on
//! the first day. `FUZZ_SECONDS` sets the time, `FUZZ_SEED` the sequences.

use std::time::{Duration, Instant};

use acceptance::functions::FUNCTIONS;
use acceptance::module_test;
use acceptance::raw::Raw;
use acceptance::raw::key::flag;
use cryptoki_sys::*;

use crate::abuse::{Setting, login};

/// How long, unless FUZZ_SECONDS says otherwise; the process may take less than four minutes.
const SECONDS: u64 = 10;
const MOST_SECONDS: u64 = 200;
/// Calls between C_Initialize and C_Finalize.
const CALLS: usize = 400;

/// What would end the story instead of going on with it: it takes the token away, or locks a PIN.
const LEFT_OUT: [&str; 7] =
    ["C_Finalize", "C_InitToken", "C_SetPIN", "C_CloseAllSessions", "C_Logout", "C_Login", "C_LoginUser"];

/// Answers that say that something broke, which nothing here can.
const BROKEN: [CK_RV; 5] =
    [CKR_GENERAL_ERROR, CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_DEVICE_MEMORY, CKR_TOKEN_NOT_PRESENT];
/// The largest return value that version 3.2 names.
const LAST: CK_RV = CKR_PARAMETER_SET_NOT_SUPPORTED;

/// A xorshift generator: the sequences come from the seed alone.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound.max(1)
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// One sequence in sessions that are opened for it; how many calls succeeded.
fn sequence(setting: &Setting, main: CK_SESSION_HANDLE, chance: &mut Chance) -> usize {
    let (raw, stage) = (&setting.raw, &setting.stage);
    let mut sessions = vec![main, raw.open_session(setting.slot).expect("a session")];
    let mut objects = Vec::new();
    let mut worked = 0;
    for _ in 0..CALLS {
        let (name, _) = FUNCTIONS[chance.below(FUNCTIONS.len())];
        if LEFT_OUT.contains(&name) || (name == "C_CloseSession" && sessions.len() < 2) {
            continue;
        }
        let session = sessions[chance.below(sessions.len())];
        if chance.below(2) == 0 {
            for step in acceptance::arguments::before(name) {
                // It may be active already, or begun with another mechanism.
                raw.call(step, &stage.good(step, session));
            }
        }
        let arguments = stage.chosen(name, &sessions, &objects, &mut |bound| chance.below(bound));
        if name == "C_CloseSession" && arguments[0] == main {
            continue;
        }
        let rv = raw.call(name, &arguments);
        assert!(rv <= LAST, "{name}{arguments:x?}: {rv:#x} is no answer of the standard");
        assert!(!BROKEN.contains(&rv), "{name}{arguments:x?}: {rv:#x}");
        if rv != CKR_OK {
            continue;
        }
        worked += 1;
        match name {
            "C_OpenSession" => sessions.push(stage.made()),
            "C_CloseSession" => sessions.retain(|session| *session != arguments[0]),
            "C_CreateObject" | "C_CopyObject" | "C_GenerateKey" | "C_DeriveKey" | "C_UnwrapKey" => {
                objects.push(stage.made());
            }
            _ => {}
        }
        if sessions.len() > 6 {
            let closed = sessions.remove(1);
            assert_eq!(raw.close_session(closed), CKR_OK);
        }
        objects.truncate(32);
    }
    worked
}

/// The module does its work, whatever came before.
fn works(setting: &Setting, session: CK_SESSION_HANDLE) {
    let (raw, stage) = (&setting.raw, &setting.stage);
    assert_eq!(raw.call("C_SessionCancel", &[session, CK_ULONG::MAX]), CKR_OK);
    for (init, rest) in [("C_EncryptInit", "C_Encrypt"), ("C_SignInit", "C_Sign"), ("C_DigestInit", "C_Digest")] {
        assert_eq!(raw.call(init, &stage.good(init, session)), CKR_OK, "{init}");
        assert_eq!(raw.call(rest, &stage.good(rest, session)), CKR_OK, "{rest}");
    }
}

/// Session objects that this application sees. Token objects may stay: copies of token objects are such.
fn session_objects(raw: &Raw, session: CK_SESSION_HANDLE) -> usize {
    raw.find(session, &vec![(CKA_TOKEN, flag(false))]).expect("a search").len()
}

module_test! {
    fn no_sequence_of_calls_breaks_the_module(_world) {
        let time = Duration::from_secs(number("FUZZ_SECONDS", SECONDS).min(MOST_SECONDS));
        let mut chance = Chance(number("FUZZ_SEED", 20_261_122).max(1));
        let mut setting = Setting::new();
        let start = Instant::now();
        let (mut sequences, mut worked) = (0, 0);
        // One sequence at least, however slow the machine.
        while sequences == 0 || start.elapsed() < time {
            worked += sequence(&setting, setting.session, &mut chance);
            works(&setting, setting.session);
            assert_eq!(setting.raw.finalize(), CKR_OK);
            // Another application with the same token: nothing of the old one is left.
            (setting.slot, setting.session) = login(&setting.raw);
            assert_eq!(session_objects(&setting.raw, setting.session), 0, "after {sequences} sequences");
            sequences += 1;
        }
        println!("{sequences} sequences of {CALLS} calls, of which {worked} succeeded");
        assert!(worked > 0, "nothing succeeded in {sequences} sequences");
    }
}

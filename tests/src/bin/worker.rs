//! The other process of the acceptance tests: an application that has loaded the module and obeys lines on its standard input.
//! One line in, one line out (`create` says one line for every key): `ok ...` or `error NAME`.

use std::io::{BufRead, Write};
use std::path::Path;

use acceptance::module::{self, Token};
use acceptance::raw::key::{Call, Template, Use, flag};
use acceptance::raw::{Memory, Raw};
use acceptance::secrets;
use acceptance::tbs::{Certificate, bound, long_day, name, policy};
use acceptance::world::{LABEL, PIN, SO_PIN};
use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki_sys::{
    CK_ATTRIBUTE_TYPE, CK_ULONG, CKA_EC_PARAMS, CKA_LABEL, CKA_TOKEN, CKA_VERIFY, CKM_EC_KEY_PAIR_GEN, CKM_ECDSA_SHA256,
};
use data_encoding::HEXLOWER;

fn main() {
    let mut worker =
        Worker { pkcs11: module::load(), raw: Raw::load(&module::path()), sessions: Vec::new(), across: Vec::new() };
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let words: Vec<&str> = line.split_whitespace().collect();
        match worker.obey(&words) {
            Ok(answer) => say(&format!("ok {answer}")),
            Err(error) => say(&format!("error {error}")),
        }
    }
}

/// One line, written at once: what was not written whole was not said.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A test that no longer listens has seen what it wanted.
    if out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// A PIN that came in hexadecimal digits with every bit turned over. It is overwritten when it is dropped.
struct Masked {
    memory: Memory,
    words: usize,
    len: u64,
}

impl Masked {
    fn of(digits: &str) -> Masked {
        let turned = HEXLOWER.decode(digits.as_bytes()).expect("hexadecimal digits");
        let memory = Memory::zeroed(turned.len());
        for (index, chunk) in turned.chunks(8).enumerate() {
            // Words, never the bytes in one piece anywhere else.
            let byte = |(place, byte): (usize, &u8)| u64::from(!byte) << (8 * place);
            memory.set(index, chunk.iter().enumerate().map(byte).sum());
        }
        Masked { memory, words: turned.len().div_ceil(8), len: turned.len().try_into().expect("a PIN is short") }
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        (0..self.words).for_each(|index| self.memory.set(index, 0));
        std::hint::black_box(&self.memory);
    }
}

struct Worker {
    pkcs11: Pkcs11,
    raw: Raw,
    sessions: Vec<Session>,
    // Of `begin-across`: the sessions that search, update and have begun to sign.
    across: Vec<Session>,
}

impl Worker {
    fn obey(&mut self, words: &[&str]) -> Result<String, Error> {
        match words {
            // A new session: its handle.
            ["open"] => {
                self.sessions.push(self.pkcs11.open_rw_session(self.slot()?)?);
                Ok(self.session()?.handle().to_string())
            }
            ["login"] => self.session()?.login(UserType::User, Some(&module::pin(PIN))).map(|()| String::new()),
            // C_Login with NULL_PTR for the PIN, as that user: the return value. Whether the token says that this is the way.
            ["login-without-pin", user] => {
                let session = self.session()?.handle();
                Ok(format!("rv {:#x}", self.raw.call("C_Login", &[session, number(user), 0, 0])))
            }
            ["protected-path"] => {
                Ok(self.pkcs11.get_token_info(self.slot()?)?.protected_authentication_path().to_string())
            }
            ["logout"] => self.session()?.logout().map(|()| String::new()),
            ["state"] => Ok(format!("{:?}", self.session()?.get_session_info()?.session_state())),
            // The state of any session handle, as a number, or the CKR.
            ["state-of", handle] => Ok(match self.raw.session_state(number(handle)) {
                Ok(state) => format!("state {state}"),
                Err(rv) => format!("rv {rv:#x}"),
            }),
            // A session object that no other application may see.
            ["session-object", label] => {
                let (_, private) = module::ec(self.session()?, module::P256, module::Place { token: false, label })?;
                Ok(private.handle().to_string())
            }
            ["token-key", label] => {
                let (_, private) = module::ec(self.session()?, module::P256, module::token_object(label))?;
                Ok(private.handle().to_string())
            }
            // Both halves of a pair.
            ["destroy", label] => {
                let pair = self.session()?.find_objects(&[Attribute::Label(label.as_bytes().into())])?;
                pair.into_iter().try_for_each(|half| self.session()?.destroy_object(half)).map(|()| String::new())
            }
            ["count", label] => {
                Ok(self.session()?.find_objects(&[Attribute::Label(label.as_bytes().into())])?.len().to_string())
            }
            ["sign-with-handle", handle] => {
                let session = self.session()?.handle();
                let rv = self.raw.sign_init(session, cryptoki_sys::CKM_ECDSA, number(handle));
                Ok(format!("rv {:#x}", if rv == 0 { self.raw.sign(session, &[7; 32], ROOM).rv } else { rv }))
            }
            ["sign", label, threads, count] => self.sign(label, number(threads), number(count)),
            // As `sign`, for as long as a file is there: the number of signatures.
            ["sign-while", file, label, threads] => self.sign_while(Path::new(file), label, number(threads)),
            // Creates so many keys; the labels of those that the module has acknowledged.
            ["create-some", prefix, count] => self.create_some(prefix, number(count)),
            // Signs so often; how often the module gave a signature.
            ["sign-some", label, count] => self.sign_some(label, number(count)),
            // Begins a search, a signature in parts and a signature at once, and later ends them.
            ["begin-across", label] => self.begin_across(label),
            ["end-across"] => Ok(self.end_across()),
            // Creates keys until it cannot; says every label after the module has acknowledged it.
            ["create", prefix] => self.create(prefix),
            // Threads that make, change, copy, destroy and use keys until they cannot: `try` before each change, `did` after it.
            ["busy", prefix, threads] => self.busy(prefix, number(threads)),
            // As `busy` by one thread and for so many keys, `failed NAME` for each call that failed, to the end unless the daemon is gone.
            ["turns", prefix, count] => self.turns(prefix, number(count)),
            // Signs so often, whatever fails: how often there was a signature.
            ["try-sign", label, count] => self.try_sign(label, number(count)),
            // Makes an authority's key; signs so many certificates with it.
            ["guard", label] => self.guard(label),
            ["issue", label, count] => self.issue(label, number(count)),
            // Makes, uses and destroys so many token keys.
            ["churn", prefix, count] => self.churn(prefix, number(count)),
            // CKA_ID of every private key of the token, by label.
            ["ids"] => self.ids(),
            // A login with a wrong PIN: what the module answers.
            ["wrong-pin"] => {
                let answer = self.session()?.login(UserType::User, Some(&module::pin("not the PIN")));
                Ok(answer.map_or_else(said, |()| "ok".to_owned()))
            }
            // A login, as "user" or "so": what the module answers.
            ["login-with", who, pin] => {
                let who = if *who == "so" { UserType::So } else { UserType::User };
                let answer = self.session()?.login(who, Some(&module::pin(pin)));
                Ok(answer.map_or_else(said, |()| "ok".to_owned()))
            }
            ["init-pin", pin] => self.session()?.init_pin(&module::pin(pin)).map(|()| String::new()),
            ["set-pin", old, new] => {
                self.session()?.set_pin(&module::pin(old), &module::pin(new)).map(|()| String::new())
            }
            // C_Login and C_SetPIN by PINs that come masked, so that this process holds them during the call only: the return value.
            ["masked-login", user, pin] => {
                let (pin, session) = (Masked::of(pin), self.session()?.handle());
                let rv = self.raw.call("C_Login", &[session, number(user), pin.memory.address(), pin.len]);
                Ok(format!("rv {rv:#x}"))
            }
            ["masked-set-pin", old, new] => {
                let (old, new, session) = (Masked::of(old), Masked::of(new), self.session()?.handle());
                let pins = [session, old.memory.address(), old.len, new.memory.address(), new.len];
                Ok(format!("rv {:#x}", self.raw.call("C_SetPIN", &pins)))
            }
            // A signature by a key that wants the PIN for each, which comes masked.
            ["context-login", pin] => self.context_login(&Masked::of(pin)),
            // Keys of every type and origin, made and used: the secret parts of each by name, in hexadecimal digits.
            ["secrets"] => {
                let all = secrets::make(self.session()?)?;
                Ok(all
                    .iter()
                    .map(|(name, bytes)| format!("{name}={}", HEXLOWER.encode(bytes)))
                    .collect::<Vec<_>>()
                    .join(" "))
            }
            // What becomes of each call that a grant may refuse.
            ["calls"] => Ok(self.calls()),
            // The labels of all private keys of the token.
            ["labels"] => self.labels(),
            _ => Ok("unknown line".to_owned()),
        }
    }

    fn context_login(&self, pin: &Masked) -> Result<String, Error> {
        let public = [Attribute::Token(false), Attribute::EcParams(module::P256.into())];
        let private = [Attribute::Token(false), Attribute::Sign(true), Attribute::AlwaysAuthenticate(true)];
        let (_, key) = self.session()?.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
        let session = self.session()?.handle();
        let begun = self.raw.sign_init(session, cryptoki_sys::CKM_ECDSA, key.handle());
        let context = [session, cryptoki_sys::CKU_CONTEXT_SPECIFIC, pin.memory.address(), pin.len];
        let entered = self.raw.call("C_Login", &context);
        let signed = self.raw.sign(session, &[7; 32], ROOM).rv;
        Ok(format!("rv {begun:#x} {entered:#x} {signed:#x}"))
    }

    fn slot(&self) -> Result<Slot, Error> {
        for slot in self.pkcs11.get_slots_with_initialized_token()? {
            if self.pkcs11.get_token_info(slot)?.label().trim_end() == LABEL {
                return Ok(slot);
            }
        }
        Err(Error::InvalidValue)
    }

    fn session(&self) -> Result<&Session, Error> {
        self.sessions.last().ok_or(Error::InvalidValue)
    }

    /// `threads` threads with a session each make `count` signatures each; every one is verified by another implementation.
    fn sign(&self, label: &str, threads: u64, count: u64) -> Result<String, Error> {
        let find =
            |class| self.session()?.find_objects(&[Attribute::Class(class), Attribute::Label(label.as_bytes().into())]);
        let private = find(ObjectClass::PRIVATE_KEY)?[0];
        let point = module::ec_point(self.session()?, find(ObjectClass::PUBLIC_KEY)?[0]);
        let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point);
        let token = Token { pkcs11: self.pkcs11.clone(), slot: self.slot()? };
        let verified = std::thread::scope(|scope| {
            let one = |thread: u64| {
                let (token, public) = (&token, &public);
                move || -> Result<u64, Error> {
                    let session = token.session();
                    for turn in 0..count {
                        let message = format!("process {} thread {thread} turn {turn}", std::process::id());
                        let signature = session.sign(&Mechanism::EcdsaSha256, private, message.as_bytes())?;
                        public.verify(message.as_bytes(), &signature).map_err(|_| Error::InvalidValue)?;
                    }
                    Ok(count)
                }
            };
            let running: Vec<_> = (0..threads).map(|thread| scope.spawn(one(thread))).collect();
            running
                .into_iter()
                .map(|thread| thread.join().expect("a signing thread does not panic"))
                .sum::<Result<u64, Error>>()
        });
        verified.map(|count| count.to_string())
    }

    fn sign_while(&self, file: &Path, label: &str, threads: u64) -> Result<String, Error> {
        let private = self.key(label)?;
        let token = Token { pkcs11: self.pkcs11.clone(), slot: self.slot()? };
        let one = || -> Result<u64, Error> {
            let session = token.pkcs11.open_rw_session(token.slot)?;
            let mut count = 0;
            // One at least, also where the file is gone before a busy machine comes to it.
            loop {
                session.sign(&Mechanism::EcdsaSha256, private, b"on and on")?;
                count += 1;
                if !file.exists() {
                    return Ok(count);
                }
            }
        };
        let signed: Result<u64, Error> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            running.into_iter().map(|thread| thread.join().expect("a signing thread does not panic")).sum()
        });
        signed.map(|count| count.to_string())
    }

    fn key(&self, label: &str) -> Result<ObjectHandle, Error> {
        let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(label.as_bytes().into())];
        self.session()?.find_objects(&template)?.first().copied().ok_or(Error::InvalidValue)
    }

    fn create_some(&self, prefix: &str, count: u64) -> Result<String, Error> {
        let session = self.session()?;
        let mut made = Vec::new();
        for turn in 0..count {
            let label = format!("{prefix}-{turn}");
            match module::ec(session, module::P256, module::token_object(&label)) {
                Ok(_) => made.push(label),
                // Nobody knows whether it was made.
                Err(Error::Pkcs11(RvError::DeviceError, _)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(made.join(" "))
    }

    fn sign_some(&self, label: &str, count: u64) -> Result<String, Error> {
        let (session, key) = (self.session()?, self.key(label)?);
        let mut signed = 0;
        for _ in 0..count {
            match session.sign(&Mechanism::EcdsaSha256, key, b"some") {
                Ok(_) => signed += 1,
                Err(Error::Pkcs11(RvError::DeviceError, _)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(signed.to_string())
    }

    fn begin_across(&mut self, label: &str) -> Result<String, Error> {
        let key = self.key(label)?.handle();
        let slot = self.slot()?;
        self.across = (0..3).map(|_| self.pkcs11.open_rw_session(slot)).collect::<Result<_, _>>()?;
        let [search, update, sign] = self.across_handles();
        let begun = [
            self.raw.find_init(search),
            self.raw.sign_init(update, cryptoki_sys::CKM_ECDSA_SHA256, key),
            self.raw.sign_update(update, b"first part"),
            self.raw.sign_init(sign, cryptoki_sys::CKM_ECDSA, key),
        ];
        Ok(format!("{begun:x?}"))
    }

    fn end_across(&self) -> String {
        let [search, update, sign] = self.across_handles();
        let mut found = 0;
        while self.raw.find_next(search).is_ok_and(|handle| handle.is_some()) {
            found += 1;
        }
        let update = match self.raw.sign_update(update, b"second part") {
            cryptoki_sys::CKR_OPERATION_NOT_INITIALIZED => "CKR_OPERATION_NOT_INITIALIZED".to_owned(),
            rv => format!("{rv:#x}"),
        };
        let sign = match self.raw.sign(sign, &[7; 32], ROOM).rv {
            0 => "ok".to_owned(),
            rv => format!("{rv:#x}"),
        };
        format!("found {found} update {update} sign {sign}")
    }

    fn across_handles(&self) -> [u64; 3] {
        [0, 1, 2].map(|index| self.across.get(index).map_or(0, Session::handle))
    }

    fn create(&self, prefix: &str) -> Result<String, Error> {
        let session = self.session()?;
        for turn in 0u64.. {
            let label = format!("{prefix}-{turn}");
            module::ec(session, module::P256, module::token_object(&label))?;
            say(&label);
        }
        Ok(String::new())
    }

    fn busy(&self, prefix: &str, threads: u64) -> Result<String, Error> {
        let token = Token { pkcs11: self.pkcs11.clone(), slot: self.slot()? };
        let first = self.key("first")?;
        let one = |thread: u64| -> Result<(), Error> {
            let session = token.pkcs11.open_rw_session(token.slot)?;
            (0u64..).try_for_each(|turn| life(&session, first, &format!("{prefix}t{thread}n{turn}"), turn % 3 != 0))
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
            running.into_iter().try_for_each(|thread| thread.join().expect("a busy thread does not panic"))
        })?;
        Ok(String::new())
    }

    fn turns(&self, prefix: &str, count: u64) -> Result<String, Error> {
        let (session, first) = (self.session()?, self.key("first")?);
        for turn in 0..count {
            if let Err(error) = life(session, first, &format!("{prefix}n{turn}"), turn % 2 == 0) {
                let gone = is_gone(&error);
                say(&format!("failed {}", said(error)));
                if gone {
                    break;
                }
            }
        }
        Ok(String::new())
    }

    fn try_sign(&self, label: &str, count: u64) -> Result<String, Error> {
        let (session, key) = (self.session()?, self.key(label)?);
        let mut signed = 0;
        for _ in 0..count {
            match session.sign(&Mechanism::EcdsaSha256, key, b"some") {
                Ok(_) => signed += 1,
                Err(error) if is_gone(&error) => break,
                Err(_) => {}
            }
        }
        Ok(signed.to_string())
    }

    /// A key of an authority, whose signatures the token counts.
    fn guard(&self, label: &str) -> Result<String, Error> {
        let rules = [
            &bound(0, &name("Issuing CA"))[..],
            &bound(2, &[2, 1, 90]),
            &bound(3, &long_day("20400101")),
            &bound(5, &[2, 1, 8]),
        ];
        let public: Template =
            vec![(CKA_EC_PARAMS, module::P256.to_vec()), (CKA_TOKEN, flag(true)), (CKA_VERIFY, flag(true))];
        let private = vec![(CKA_TOKEN, flag(true)), (CKA_LABEL, label.into()), (POLICY, policy(CERTIFICATES, &rules))];
        let call = Call::plain(CKM_EC_KEY_PAIR_GEN);
        let made = self.raw.generate_pair(self.session()?.handle(), &call, &public, &private);
        Ok(made.map_or_else(|rv| format!("rv {rv:#x}"), |_| "made".to_owned()))
    }

    /// How many of so many certificates were signed, and the key's count afterwards.
    fn issue(&self, label: &str, count: u64) -> Result<String, Error> {
        let (session, key) = (self.session()?.handle(), self.key(label)?.handle());
        let mut message = Certificate::device("Issuing CA");
        message.extensions.clear();
        let sign =
            |_: &u64| self.raw.apply(session, Use::Sign, &Call::plain(CKM_ECDSA_SHA256), key, &message.der()).is_ok();
        let signed = (0..count).filter(sign).count();
        let counted = self.raw.get(session, key, COUNT).ok().and_then(|value| value.try_into().ok());
        Ok(format!("{signed} {}", counted.map_or("-".to_owned(), |value| CK_ULONG::from_ne_bytes(value).to_string())))
    }

    fn churn(&self, prefix: &str, count: u64) -> Result<String, Error> {
        let session = self.session()?;
        for turn in 0..count {
            let label = format!("{prefix}-{turn}");
            let (public, private) = module::ec(session, module::P256, module::token_object(&label))?;
            session.sign(&Mechanism::EcdsaSha256, private, b"churn")?;
            session.destroy_object(private)?;
            session.destroy_object(public)?;
        }
        Ok(count.to_string())
    }

    fn ids(&self) -> Result<String, Error> {
        let session = self.session()?;
        let mut said = Vec::new();
        for key in session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true)])? {
            let (mut label, mut id) = (String::new(), String::new());
            for attribute in session.get_attributes(key, &[AttributeType::Label, AttributeType::Id])? {
                match attribute {
                    Attribute::Label(bytes) => label = String::from_utf8_lossy(&bytes).into_owned(),
                    Attribute::Id(bytes) => id = bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                    _ => {}
                }
            }
            said.push(format!("{label}={id}"));
        }
        Ok(said.join(" "))
    }

    /// One word for each call, `name=outcome`.
    fn calls(&self) -> String {
        let Ok(slot) = self.slot() else { return "token=none".to_owned() };
        let Ok(session) = self.pkcs11.open_rw_session(slot) else { return "token=refused".to_owned() };
        let offered = self.pkcs11.get_mechanism_list(slot).map_or(0, |list| list.len());
        let key = |label: &str| -> Result<ObjectHandle, Error> {
            let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(label.as_bytes().into())];
            session.find_objects(&template)?.first().copied().ok_or(Error::InvalidValue)
        };
        let make = |token, label| module::ec(&session, module::P256, module::Place { token, label });
        let sign = |label: &str, mechanism| session.sign(&mechanism, key(label)?, &[7; 32]).map(drop);
        let relabel = |from: &str, to: &str| session.update_attributes(key(from)?, &[Attribute::Label(to.into())]);
        let so = || -> Result<(), Error> {
            session.logout()?;
            session.login(UserType::So, Some(&module::pin(SO_PIN)))
        };
        let pin = |pin: &str| session.set_pin(&module::pin(pin), &module::pin(PIN));
        [
            ("login", session.login(UserType::User, Some(&module::pin(PIN)))),
            ("ecdsa", sign("web-1", Mechanism::Ecdsa)),
            ("ecdsa-sha256", sign("web-1", Mechanism::EcdsaSha256)),
            ("other-key", sign("other-1", Mechanism::Ecdsa)),
            ("session-pair", make(false, "mine").map(drop)),
            ("token-pair", make(true, "web-2").map(drop)),
            ("token-pair-of-others", make(true, "other-2").map(drop)),
            ("relabel", relabel("web-2", "other-3")),
            ("destroy", key("web-2").and_then(|key| session.destroy_object(key))),
            ("set-pin", pin(PIN)),
            ("so", so()),
        ]
        .into_iter()
        .map(|(name, outcome)| format!("{name}={}", outcome.map_or_else(said, |()| "ok".to_owned())))
        .chain([format!("mechanisms={}", if offered > 5 { "many" } else { "few" })])
        .collect::<Vec<_>>()
        .join(" ")
    }

    fn labels(&self) -> Result<String, Error> {
        let session = self.session()?;
        let mut labels = Vec::new();
        for key in session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Token(true)])? {
            for attribute in session.get_attributes(key, &[AttributeType::Label])? {
                if let Attribute::Label(label) = attribute {
                    labels.push(String::from_utf8_lossy(&label).into_owned());
                }
            }
        }
        Ok(labels.join(" "))
    }
}

/// A key is made, used, changed, copied, and destroyed unless it is to stay: `try` before each change, `did` after it.
fn life(session: &Session, first: ObjectHandle, key: &str, ends: bool) -> Result<(), Error> {
    let named = |label: &str, id: &str| [Attribute::Label(label.into()), Attribute::Id(id.into())];
    let copy = format!("{key}c");
    say(&format!("try {key} 31"));
    let made = module::ec(session, module::P256, module::Place { token: false, label: key })?.1;
    // One call makes it last, so that there is one moment at which it begins to be there.
    let lasting = [&named(key, "1")[..], &[Attribute::Token(true)]].concat();
    let made = session.copy_object(made, &lasting)?;
    say(&format!("did {key} 31"));
    session.sign(&Mechanism::EcdsaSha256, first, b"busy")?;
    say("signed");
    say(&format!("try {key} 32"));
    session.update_attributes(made, &[Attribute::Id("2".into())])?;
    say(&format!("did {key} 32"));
    say(&format!("try {copy} 33"));
    session.copy_object(made, &named(&copy, "3"))?;
    say(&format!("did {copy} 33"));
    if ends {
        say(&format!("try {key} -"));
        session.destroy_object(made)?;
        say(&format!("did {key} -"));
    }
    Ok(())
}

/// Whether the daemon, or what the application had there, is gone.
fn is_gone(error: &Error) -> bool {
    let gone = [RvError::SessionHandleInvalid, RvError::DeviceRemoved, RvError::TokenNotPresent];
    matches!(error, Error::Pkcs11(rv, _) if gone.contains(rv))
}

/// CKA_CRATON_ISSUANCE_POLICY and CKA_CRATON_SIGNATURE_COUNT (docs/guard.md).
const POLICY: CK_ATTRIBUTE_TYPE = 0xC352_0001;
const COUNT: CK_ATTRIBUTE_TYPE = 0xC352_0002;
/// Of a policy: certificates of end entities.
const CERTIFICATES: u8 = 1;

/// The return value's name, or that the key is not found.
fn said(error: Error) -> String {
    match error {
        Error::Pkcs11(rv, _) => format!("{rv:?}"),
        _ => "unseen".to_owned(),
    }
}

const ROOM: acceptance::raw::Room = acceptance::raw::Room::Bytes(256);

fn number(word: &str) -> u64 {
    word.parse().expect("the tests say numbers")
}

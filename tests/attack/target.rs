//! The token under attack, by its C functions: ours in any profile, or SoftHSM2 as the control.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use acceptance::raw::Raw;
use acceptance::raw::key::{Call, Template, flag, number};
use acceptance::world::{PIN, SO_PIN, World};
use acceptance::{control, module};
use cryptoki_sys::*;

/// A logged-in session, and what the attacker has made so far.
pub(crate) struct Target {
    pub(crate) raw: Raw,
    pub(crate) slot: CK_SLOT_ID,
    pub(crate) session: CK_SESSION_HANDLE,
    pairs: RefCell<HashMap<String, (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)>>,
}

/// Usage attributes of a symmetric key.
pub(crate) const USES: [CK_ATTRIBUTE_TYPE; 7] =
    [CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE];

/// These usage attributes true and every other one false.
pub(crate) fn only(uses: &[CK_ATTRIBUTE_TYPE]) -> Template {
    USES.iter().map(|kind| (*kind, flag(uses.contains(kind)))).collect()
}

/// A boolean attribute.
pub(crate) fn is(kind: CK_ATTRIBUTE_TYPE, value: bool) -> (CK_ATTRIBUTE_TYPE, Vec<u8>) {
    (kind, flag(value))
}

/// What a secret key's template begins with.
pub(crate) fn secret_key(key_type: CK_KEY_TYPE) -> Template {
    vec![(CKA_CLASS, number(CKO_SECRET_KEY)), (CKA_KEY_TYPE, number(key_type)), is(CKA_TOKEN, false)]
}

/// Sensitive, and may be wrapped: what an attacker wants to read.
pub(crate) fn hidden() -> Template {
    vec![is(CKA_SENSITIVE, true), is(CKA_EXTRACTABLE, true)]
}

/// Readable, if the token lets it.
pub(crate) fn exposed() -> Template {
    vec![is(CKA_SENSITIVE, false), is(CKA_EXTRACTABLE, true)]
}

impl Target {
    /// The world's own token.
    pub(crate) fn craton() -> Target {
        let raw = Raw::load(&module::path());
        assert_eq!(raw.initialize(), CKR_OK);
        let slot = raw.slots().expect("slots")[0];
        Target::enter(raw, slot)
    }

    /// SoftHSM2 with a token of its own in the world's directory.
    pub(crate) fn softhsm(world: &World, library: &Path) -> Target {
        let (raw, slot) = control::softhsm(world, library);
        Target::enter(raw, slot)
    }

    fn enter(raw: Raw, slot: CK_SLOT_ID) -> Target {
        let session = raw.open_session(slot).expect("a session");
        assert_eq!(raw.login(session, PIN), CKR_OK);
        Target { raw, slot, session, pairs: RefCell::default() }
    }

    /// The user, logged in, with no operation active: whatever a row left behind.
    pub(crate) fn begin_again(&self) {
        self.raw.logout(self.session);
        assert_eq!(self.raw.login(self.session, PIN), CKR_OK);
    }

    /// Logs in as the SO for the time of `work`. Private session objects are gone afterwards.
    pub(crate) fn as_so<T>(&self, work: impl FnOnce() -> T) -> T {
        assert_eq!(self.raw.logout(self.session), CKR_OK);
        assert_eq!(self.raw.login_as(self.session, CKU_SO, SO_PIN), CKR_OK);
        let result = work();
        assert_eq!(self.raw.logout(self.session), CKR_OK);
        assert_eq!(self.raw.login(self.session, PIN), CKR_OK);
        result
    }

    /// The mechanisms that the token lists with any of these flags.
    pub(crate) fn mechanisms(&self, flags: CK_FLAGS) -> Vec<CK_MECHANISM_TYPE> {
        let mut listed = self.raw.mechanisms(self.slot).expect("mechanisms");
        listed
            .retain(|mechanism| self.raw.mechanism_flags(self.slot, *mechanism).is_ok_and(|found| found & flags != 0));
        listed
    }

    /// Whether the token lists a mechanism.
    pub(crate) fn lists(&self, mechanism: CK_MECHANISM_TYPE) -> bool {
        self.raw.mechanisms(self.slot).expect("mechanisms").contains(&mechanism)
    }

    /// A generated AES session key.
    pub(crate) fn aes(&self, len_bytes: u64, parts: &[Template]) -> CK_OBJECT_HANDLE {
        self.try_aes(len_bytes, parts).unwrap_or_else(|rv| panic!("an AES key of {len_bytes} bytes: {rv:#x}"))
    }

    /// As [`Target::aes`].
    pub(crate) fn try_aes(&self, len_bytes: u64, parts: &[Template]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let base = vec![is(CKA_TOKEN, false), (CKA_VALUE_LEN, number(len_bytes))];
        let template = [&[base], parts].concat().concat();
        self.raw.generate(self.session, &Call::plain(CKM_AES_KEY_GEN), &template)
    }

    /// An AES session key of a known value.
    pub(crate) fn import_aes(&self, value: &[u8], parts: &[Template]) -> Result<CK_OBJECT_HANDLE, CK_RV> {
        let base = [secret_key(CKK_AES), vec![(CKA_VALUE, value.to_vec())]].concat();
        self.raw.create(self.session, &[&[base], parts].concat().concat())
    }

    /// The key that every attack wants: AES-256, sensitive, extractable.
    pub(crate) fn prey(&self) -> CK_OBJECT_HANDLE {
        self.aes(32, &[hidden(), only(&[CKA_ENCRYPT, CKA_DECRYPT])])
    }

    /// A key that was made for wrapping and for nothing else.
    pub(crate) fn wrapper(&self, len_bytes: u64) -> CK_OBJECT_HANDLE {
        self.aes(len_bytes, &[only(&[CKA_WRAP, CKA_UNWRAP]), vec![is(CKA_SENSITIVE, true), is(CKA_EXTRACTABLE, false)]])
    }

    /// An RSA pair of token objects, made once; the handles are looked up each time, because a logout may have taken them.
    pub(crate) fn rsa(
        &self,
        name: &str,
        bits: u64,
        public: &Template,
        private: &Template,
    ) -> (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE) {
        if !self.pairs.borrow().contains_key(name) {
            let id = (CKA_ID, name.as_bytes().to_vec());
            let open = vec![
                id.clone(),
                is(CKA_TOKEN, true),
                is(CKA_PRIVATE, false),
                (CKA_MODULUS_BITS, number(bits)),
                (CKA_PUBLIC_EXPONENT, vec![1, 0, 1]),
            ];
            let closed = vec![id, is(CKA_TOKEN, true), is(CKA_PRIVATE, true), is(CKA_SENSITIVE, true)];
            let call = Call::plain(CKM_RSA_PKCS_KEY_PAIR_GEN);
            let open = [open, public.clone()].concat();
            let closed = [closed, private.clone()].concat();
            let pair = self.raw.generate_pair(self.session, &call, &open, &closed);
            let pair = pair.unwrap_or_else(|rv| panic!("an RSA pair of {bits} bits: {rv:#x}"));
            self.pairs.borrow_mut().insert(name.to_owned(), pair);
        }
        let half = |class: CK_OBJECT_CLASS| {
            let template = vec![(CKA_CLASS, number(class)), (CKA_ID, name.as_bytes().to_vec())];
            self.raw.find(self.session, &template).expect("find").first().copied().expect("the pair is there")
        };
        (half(CKO_PUBLIC_KEY), half(CKO_PRIVATE_KEY))
    }

    /// An RSA pair that wraps and unwraps, trusted by the SO.
    pub(crate) fn trusted_rsa(&self, bits: u64) -> (CK_OBJECT_HANDLE, CK_OBJECT_HANDLE) {
        let name = format!("trusted {bits}");
        let is_new = !self.pairs.borrow().contains_key(&name);
        let public = vec![is(CKA_WRAP, true), is(CKA_ENCRYPT, false), is(CKA_VERIFY, false)];
        let private = vec![is(CKA_UNWRAP, true), is(CKA_DECRYPT, false), is(CKA_SIGN, false)];
        let (public_key, _) = self.rsa(&name, bits, &public, &private);
        if is_new {
            // SoftHSM2 lets nobody; there every key wraps without being trusted.
            self.as_so(|| self.raw.set(self.session, public_key, &vec![is(CKA_TRUSTED, true)]));
        }
        self.rsa(&name, bits, &public, &private)
    }

    /// A boolean attribute, if the object shows it.
    pub(crate) fn flag(&self, object: CK_OBJECT_HANDLE, kind: CK_ATTRIBUTE_TYPE) -> Option<bool> {
        self.raw.get(self.session, object, kind).ok().map(|value| value == [1])
    }

    /// The value of a key, if the token shows it.
    pub(crate) fn value(&self, key: CK_OBJECT_HANDLE) -> Option<Vec<u8>> {
        self.raw.get(self.session, key, CKA_VALUE).ok().filter(|value| !value.is_empty())
    }
}

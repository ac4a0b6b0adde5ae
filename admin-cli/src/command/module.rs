//! Another PKCS#11 module, whose key opens the store key. It is loaded into this tool, never into the daemon.

use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use hsm_core::SecretBytes;
use hsm_core::store_key::ModuleKey;

use crate::failure::Failure;

/// Authenticated with the secret, so that nothing else that the key encrypted is taken for it.
const AAD: &[u8] = b"craton-hsm store key";
const IV_LEN: usize = 12;
const SECRET_LEN: usize = 32;

/// A session on the other token, logged in.
pub(crate) struct OtherToken {
    session: Session,
    token: String,
}

impl OtherToken {
    /// Loads the module, finds the token and logs in.
    ///
    /// # Errors
    ///
    /// What the module says.
    pub(crate) fn open(module: &Path, token: &str, pin: &SecretBytes) -> Result<Self, Failure> {
        let failed = |what: &str| Failure::new(format!("the module {}: {what}", module.display()));
        let said = |error: cryptoki::error::Error| failed(&error.to_string());
        let context = Pkcs11::new(module).map_err(said)?;
        context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(said)?;
        let slots = context.get_slots_with_initialized_token().map_err(said)?;
        let is_it = |slot: &cryptoki::slot::Slot| {
            context.get_token_info(*slot).is_ok_and(|info| info.label().trim_end() == token)
        };
        let slot = slots.into_iter().find(is_it).ok_or_else(|| failed(&format!("it has no token {token:?}")))?;
        let session = context.open_ro_session(slot).map_err(said)?;
        let text = core::str::from_utf8(pin.expose()).map_err(|_| failed("its PIN is no text"))?;
        session.login(UserType::User, Some(&AuthPin::from(text.to_owned()))).map_err(said)?;
        Ok(OtherToken { session, token: token.to_owned() })
    }

    /// A new secret, encrypted by the key of this label and decrypted again to see that it can be.
    ///
    /// # Errors
    ///
    /// What the module says.
    pub(crate) fn new_secret(&self, label: &str) -> Result<(ModuleKey, SecretBytes), Failure> {
        let mut random = SecretBytes::zeroed(IV_LEN + SECRET_LEN);
        let filled = rustix::rand::getrandom(random.expose_mut(), rustix::rand::GetRandomFlags::empty());
        if filled != Ok(IV_LEN + SECRET_LEN) {
            return Err(Failure::new("no random bytes from the system"));
        }
        let (iv, secret) = random.expose().split_at(IV_LEN);
        let (iv, secret) = (iv.to_vec(), SecretBytes::copy_from(secret));
        let key = self.key(label)?;
        let ciphertext = self.with_gcm(&iv, |mechanism| self.session.encrypt(mechanism, key, secret.expose()))?;
        let made = ModuleKey { token: self.token.clone(), label: label.to_owned(), iv, ciphertext };
        if made.ciphertext.len() != SECRET_LEN + 16 || self.secret(&made)? != secret {
            return Err(Failure::new(format!("the key {label:?} does not decrypt what it encrypts")));
        }
        Ok((made, secret))
    }

    /// The secret that a key of this token encrypted.
    ///
    /// # Errors
    ///
    /// What the module says.
    pub(crate) fn secret(&self, sealed: &ModuleKey) -> Result<SecretBytes, Failure> {
        let key = self.key(&sealed.label)?;
        let ciphertext = &sealed.ciphertext;
        self.with_gcm(&sealed.iv, |mechanism| self.session.decrypt(mechanism, key, ciphertext)).map(SecretBytes::new)
    }

    fn key(&self, label: &str) -> Result<ObjectHandle, Failure> {
        let wanted = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(label.as_bytes().to_vec())];
        let found = self.session.find_objects(&wanted).map_err(|error| self.said(&error))?;
        match found.as_slice() {
            [key] => Ok(*key),
            keys => Err(Failure::new(format!("the token {:?} has {} keys {label:?}, not one", self.token, keys.len()))),
        }
    }

    fn with_gcm(
        &self,
        iv: &[u8],
        run: impl FnOnce(&Mechanism<'_>) -> cryptoki::error::Result<Vec<u8>>,
    ) -> Result<Vec<u8>, Failure> {
        let mut iv = iv.to_vec();
        let done = GcmParams::new(&mut iv, AAD, 128.into()).and_then(|params| run(&Mechanism::AesGcm(params)));
        done.map_err(|error| self.said(&error))
    }

    fn said(&self, error: &cryptoki::error::Error) -> Failure {
        Failure::new(format!("the token {:?}: {error}", self.token))
    }
}

//! A store key that is not there when the daemon starts: wrapped for a passphrase, shares, a key pair or a key in another module, in
//! the file where the plain key would be (`format.md` section 1).

use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::seal::{self, Key};
use crate::crypto::password::PasswordFunction;
use crate::envelope::{Credential, Envelope, For, ModuleKey, Purpose, Recipient};
use crate::error::{Error, Kind, Result};
use crate::share::ShareSet;

/// First word of the file; then one JSON object and a line feed.
const WORD: &str = "craton-sealed-key-1";
/// No such file is longer.
const MAX_BYTES: usize = 1 << 16;
/// Ways to open it; each may cost a password derivation.
const MAX_RECIPIENTS: usize = 8;

/// A wrapped store key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedKey {
    salt: [u8; 32],
    check: [u8; 32],
    recipients: Vec<Recipient>,
}

/// The fields in byte order of their names, which is the canonical order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    check: String,
    recipients: Vec<Recipient>,
    salt: String,
}

impl SealedKey {
    /// Wraps a key.
    pub(crate) fn seal(key: &Key, whom: &[For], function: PasswordFunction) -> Result<SealedKey> {
        if whom.is_empty() || whom.len() > MAX_RECIPIENTS {
            return Err(Error::new(
                Kind::ArgumentsBad,
                format!("a store key is sealed for 1 to {MAX_RECIPIENTS} recipients"),
            ));
        }
        let mut salt = [0; 32];
        seal::fill_random(&mut salt)?;
        let envelope = Envelope { purpose: Purpose::StoreKey, salt: &salt };
        let secret = key.to_secret();
        let recipients = whom.iter().map(|whom| envelope.wrap_for(&secret, whom, function)).collect::<Result<_>>()?;
        Ok(SealedKey { salt, check: check_of(key, &salt), recipients })
    }

    /// Reads the file; nothing if it is another one.
    pub(crate) fn parse(text: &[u8]) -> Option<SealedKey> {
        let json = text.trim_ascii().strip_prefix(WORD.as_bytes())?.strip_prefix(b" ")?;
        let written: Written = serde_json::from_slice(json).ok().filter(|_| text.len() <= MAX_BYTES)?;
        let bytes = |text: &str| HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok();
        let (salt, check) = (bytes(&written.salt)?, bytes(&written.check)?);
        let count = written.recipients.len();
        (1..=MAX_RECIPIENTS).contains(&count).then_some(SealedKey { salt, check, recipients: written.recipients })
    }

    /// The file.
    pub(crate) fn to_text(&self) -> Result<String> {
        let written = Written {
            check: HEXLOWER.encode(&self.check),
            recipients: self.recipients.clone(),
            salt: HEXLOWER.encode(&self.salt),
        };
        let json = serde_json::to_string(&written).map_err(|_| Error::from(Kind::Internal))?;
        Ok(format!("{WORD} {json}\n"))
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`Kind::PinIncorrect`] when the credential does not open it; [`Kind::DataInvalid`] for damage and for shares that are no quorum.
    pub(crate) fn open(&self, credential: &Credential) -> Result<Key> {
        let secret = self.envelope().open(&self.recipients, &str::to_owned, credential)?;
        let key = Key::from_slice(secret.expose()).filter(|key| self.fits(key));
        key.ok_or_else(|| Error::new(Kind::DataInvalid, "the sealed store key is damaged: it does not hold its key"))
    }

    /// Whether it holds this key.
    pub(crate) fn fits(&self, key: &Key) -> bool {
        check_of(key, &self.salt).ct_eq(&self.check).into()
    }

    /// What opens it, in words.
    pub(crate) fn openers(&self) -> Result<Vec<String>> {
        self.envelope().openers(&self.recipients, &str::to_owned)
    }

    /// The keys of other modules that open it.
    pub(crate) fn modules(&self) -> Result<Vec<ModuleKey>> {
        self.envelope().modules(&self.recipients)
    }

    /// The sets of shares that open it.
    pub(crate) fn share_sets(&self) -> Result<Vec<ShareSet>> {
        self.envelope().share_sets(&self.recipients)
    }

    fn envelope(&self) -> Envelope<'_> {
        Envelope { purpose: Purpose::StoreKey, salt: &self.salt }
    }
}

/// Names the key without telling anything about it: a restore finds out whether the file holds the key of its archive.
fn check_of(key: &Key, salt: &[u8; 32]) -> [u8; 32] {
    let mut check = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), key.expose())
        .expand(b"craton-hsm store key check", &mut check)
        .expect("32 bytes are one block");
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretBytes;
    use crate::share::new_shares;

    const FUNCTION: PasswordFunction = PasswordFunction::Pbkdf2 { iterations: 2 };

    fn phrase(text: &str) -> SecretBytes {
        SecretBytes::copy_from(text.as_bytes())
    }

    fn module() -> (ModuleKey, SecretBytes) {
        let key = ModuleKey { token: "t".into(), label: "k".into(), iv: vec![1; 12], ciphertext: vec![2; 48] };
        (key, SecretBytes::copy_from(&[9; 32]))
    }

    #[test]
    fn every_way_opens_the_key_and_no_other_does() {
        let key = Key::random().unwrap();
        let (quorum, shares) = new_shares(2, 3).unwrap();
        let (name, secret) = module();
        let whom = [
            For::Passphrase(phrase("open")),
            For::Shares(shares[0].set(), quorum),
            For::Module(name.clone(), secret.duplicate()),
        ];
        let sealed = SealedKey::seal(&key, &whom, FUNCTION).unwrap();
        let read = SealedKey::parse(sealed.to_text().unwrap().as_bytes()).unwrap();
        assert_eq!(read, sealed);
        assert_eq!(read.modules().unwrap(), [name]);
        assert_eq!(read.share_sets().unwrap(), [shares[0].set()]);
        let mut shares = shares;
        shares.pop();
        let good = [Credential::Passphrase(phrase("open")), Credential::Shares(shares), Credential::Module(secret)];
        for credential in &good {
            assert_eq!(read.open(credential).unwrap().expose(), key.expose());
        }
        let (_, others) = new_shares(2, 2).unwrap();
        let bad = [
            Credential::Passphrase(phrase("shut")),
            Credential::SoPin(phrase("open")),
            Credential::Shares(others),
            Credential::Module(SecretBytes::copy_from(&[8; 32])),
        ];
        for credential in &bad {
            assert_eq!(read.open(credential).map(drop).unwrap_err().kind(), Kind::PinIncorrect);
        }
        assert!(read.fits(&key) && !read.fits(&Key::random().unwrap()));
    }

    #[test]
    fn every_flipped_byte_is_refused() {
        let key = Key::random().unwrap();
        let sealed = SealedKey::seal(&key, &[For::Passphrase(phrase("open"))], FUNCTION).unwrap();
        let good = sealed.to_text().unwrap();
        for at in 0..good.len() - 1 {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            let opened = SealedKey::parse(&bytes).map(|read| read.open(&Credential::Passphrase(phrase("open"))));
            assert!(!matches!(opened, Some(Ok(_))), "byte {at}");
        }
    }

    #[test]
    fn nobody_is_no_recipient() {
        assert_eq!(SealedKey::seal(&Key::random().unwrap(), &[], FUNCTION).unwrap_err().kind(), Kind::ArgumentsBad);
    }
}

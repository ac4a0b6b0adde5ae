//! Where the store key comes from: a systemd credential, or a private file, which holds it plain or sealed. It is made only together
//! with an empty store.

use super::OpenError;
use super::seal::Key;
use super::sealed_key::SealedKey;
use crate::config::{Config, StoreConfig};
use crate::crypto::password::PasswordFunction;
use crate::envelope::{Credential, For, ModuleKey};
use crate::error::{Error, Kind};
use crate::secret::SecretBytes;
use crate::sys;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// First word of a key file; then 64 hexadecimal digits and a line feed.
const WORD: &str = "craton-store-key-1";
const CREDENTIAL: &str = "craton-store-key";
/// The systemd credential with a passphrase that opens a sealed key.
const PASSPHRASE_CREDENTIAL: &str = "craton-store-passphrase";
const FILE_NAME: &str = "store.key";

/// Where the key of a store is looked for.
pub(crate) enum KeySource {
    /// Made by systemd for this service; never written by us.
    Credential(PathBuf),
    /// A private file.
    File(PathBuf),
}

impl KeySource {
    /// The credential if systemd passes one, else the configured file, else the file beside the store.
    pub(crate) fn of(config: &StoreConfig) -> KeySource {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        let credential = credentials.map(|directory| Path::new(&directory).join(CREDENTIAL));
        match credential.filter(|path| path.is_file()) {
            Some(path) => KeySource::Credential(path),
            None => KeySource::File(config.key_file.clone().unwrap_or_else(|| config.path.join(FILE_NAME))),
        }
    }

    /// For messages.
    pub(crate) fn path(&self) -> &Path {
        match self {
            KeySource::Credential(path) | KeySource::File(path) => path,
        }
    }

    /// Reads what is there.
    pub(crate) fn load(&self) -> Result<Found, OpenError> {
        let path = self.path();
        let text = match std::fs::read(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(OpenError::io(path, &error)),
        };
        if let KeySource::File(path) = self {
            check_private(path, 0o600)?;
        }
        if let Some(key) = parse(&text) {
            return Ok(Found::Key(key));
        }
        SealedKey::parse(&text).map(Found::Sealed).ok_or_else(|| OpenError::KeyMalformed(path.to_owned()))
    }

    /// Writes a key, durably; fails if there is one.
    pub(crate) fn save(&self, key: &Key) -> Result<(), OpenError> {
        self.save_text(key_line(key).as_bytes())
    }

    /// Writes the file, plain or sealed, durably; fails if there is one.
    pub(crate) fn save_text(&self, text: &[u8]) -> Result<(), OpenError> {
        let path = self.path();
        sys::write_durably(path, text).map_err(|error| OpenError::io(path, &error))
    }

    /// Puts another file in the place of the one that is there, in one step; the old bytes are overwritten as far as the file system
    /// lets us.
    fn replace(&self, text: &[u8]) -> Result<(), OpenError> {
        let KeySource::File(path) = self else {
            let why = "the key is a credential of systemd: seal or change it where the credential is made";
            return Err(Error::new(Kind::ArgumentsBad, why).into());
        };
        let failed = |error: std::io::Error| OpenError::io(path, &error);
        let (new, old) = (path.with_extension("replacing"), path.with_extension("replaced"));
        for left in [&new, &old] {
            match std::fs::remove_file(left) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        sys::write_durably(&new, text).map_err(failed)?;
        std::fs::hard_link(path, &old).map_err(failed)?;
        sys::replace_durably(&new, path).map_err(failed)?;
        let len = old.metadata().map_err(failed)?.len();
        let mut file = std::fs::OpenOptions::new().write(true).open(&old).map_err(failed)?;
        file.write_all(&vec![0; usize::try_from(len).unwrap_or_default()]).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::remove_file(&old).map_err(failed)
    }
}

/// What the key's place holds.
pub(crate) enum Found {
    Nothing,
    Key(Key),
    Sealed(SealedKey),
}

impl Found {
    /// Whether it is this key, plain or sealed; `None` if there is nothing.
    pub(crate) fn is(&self, key: &Key) -> Option<bool> {
        match self {
            Found::Nothing => None,
            Found::Key(found) => Some(found.expose() == key.expose()),
            Found::Sealed(sealed) => Some(sealed.fits(key)),
        }
    }
}

/// The key, if it is plain or a passphrase for it was passed by systemd; else the sentence that says what is missing.
pub(crate) fn usable_key(source: &KeySource, store: &Path) -> Result<Option<Key>, OpenError> {
    let sealed = match source.load()? {
        Found::Nothing => return Ok(None),
        Found::Key(key) => return Ok(Some(key)),
        Found::Sealed(sealed) => sealed,
    };
    if let Some(phrase) = passed_passphrase() {
        return Ok(Some(sealed.open(&Credential::Passphrase(phrase))?));
    }
    Err(OpenError::Locked { store: store.to_owned(), opens: sealed.openers()? })
}

fn passed_passphrase() -> Option<SecretBytes> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")?;
    let text = std::fs::read(Path::new(&directory).join(PASSPHRASE_CREDENTIAL)).ok().map(Zeroizing::new)?;
    Some(SecretBytes::copy_from(text.trim_ascii_end()))
}

/// The sealed key of a store, if that is what its key's place holds.
pub(crate) fn sealed_key(config: &StoreConfig) -> Result<Option<SealedKey>, OpenError> {
    match KeySource::of(config).load()? {
        Found::Sealed(sealed) => Ok(Some(sealed)),
        Found::Nothing | Found::Key(_) => Ok(None),
    }
}

/// How a store's key is kept.
#[derive(Clone, Debug, Serialize)]
pub struct KeyState {
    /// Where.
    pub path: PathBuf,
    /// Whether something is needed to open it.
    pub sealed: bool,
    /// What opens it, in words.
    pub opens_with: Vec<String>,
}

/// How the store's key is kept.
///
/// # Errors
/// [`OpenError`] when there is no key, or it cannot be read.
pub fn key_state(config: &Config) -> Result<KeyState, OpenError> {
    let source = KeySource::of(&config.store);
    let path = source.path().to_owned();
    match source.load()? {
        Found::Nothing => Err(missing(&source)),
        Found::Key(_) => Ok(KeyState { path, sealed: false, opens_with: Vec::new() }),
        Found::Sealed(sealed) => Ok(KeyState { path, sealed: true, opens_with: sealed.openers()? }),
    }
}

/// The keys of other modules that open the store's sealed key.
///
/// # Errors
/// [`OpenError`] when the key cannot be read.
pub fn module_keys(config: &Config) -> Result<Vec<ModuleKey>, OpenError> {
    sealed_key(&config.store)?.map_or(Ok(Vec::new()), |sealed| Ok(sealed.modules()?))
}

/// Seals the store's key: from now on a start needs one of those it was sealed for. `by` opens a key that is sealed already.
///
/// # Errors
/// [`OpenError`] when there is no key or it cannot be replaced; the old file is untouched then.
pub fn seal_store_key(
    config: &Config,
    whom: &[For],
    function: PasswordFunction,
    by: Option<&Credential>,
) -> Result<KeyState, OpenError> {
    let source = KeySource::of(&config.store);
    let key = opened(&source, by)?;
    let sealed = SealedKey::seal(&key, whom, function)?;
    source.replace(sealed.to_text()?.as_bytes())?;
    key_state(config)
}

/// Makes the store's key plain again: a start needs nothing but the file.
///
/// # Errors
/// As [`seal_store_key`].
pub fn open_store_key(config: &Config, by: &Credential) -> Result<KeyState, OpenError> {
    let source = KeySource::of(&config.store);
    let key = opened(&source, Some(by))?;
    source.replace(key_line(&key).as_bytes())?;
    key_state(config)
}

fn opened(source: &KeySource, by: Option<&Credential>) -> Result<Key, OpenError> {
    match (source.load()?, by) {
        (Found::Nothing, _) => Err(missing(source)),
        (Found::Key(key), _) => Ok(key),
        (Found::Sealed(sealed), Some(credential)) => Ok(sealed.open(credential)?),
        (Found::Sealed(_), None) => {
            Err(Error::new(Kind::ArgumentsBad, "the key is sealed already: say what opens it").into())
        }
    }
}

fn missing(source: &KeySource) -> OpenError {
    let error = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no store key");
    OpenError::io(source.path(), &error)
}

/// The plain file.
fn key_line(key: &Key) -> Zeroizing<String> {
    let digits = Zeroizing::new(data_encoding::HEXLOWER.encode(key.expose()));
    Zeroizing::new(format!("{WORD} {}\n", digits.as_str()))
}

fn parse(text: &[u8]) -> Option<Key> {
    let digits = text.trim_ascii().strip_prefix(WORD.as_bytes())?.strip_prefix(b" ")?;
    let bytes = Zeroizing::new(data_encoding::HEXLOWER.decode(digits).ok()?);
    Key::from_slice(&bytes)
}

/// Refuses a file or directory of somebody else, or one with more permissions than `wanted`.
pub(crate) fn check_private(path: &Path, wanted: u32) -> Result<(), OpenError> {
    let (owner, mode) = sys::owner_and_mode(path).map_err(|error| OpenError::io(path, &error))?;
    if owner != rustix::process::geteuid().as_raw() {
        return Err(OpenError::Owner { path: path.to_owned(), owner });
    }
    if mode & !wanted & 0o777 != 0 {
        return Err(OpenError::Permissions { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_key_line_is_a_key() {
        let good = format!("{WORD} {}\n", "0f".repeat(32));
        assert_eq!(parse(good.as_bytes()).unwrap().expose(), [0x0f; 32]);
        let rows = ["", "craton-store-key-1", "craton-store-key-2 00", "0f0f"];
        for text in rows {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(parse(&good.as_bytes()[..good.len() - 2]).is_none(), "a digit short");
        assert!(parse(good.replace("0f", "zz").as_bytes()).is_none(), "not hexadecimal");
    }
}

//! Where the store key comes from: a systemd credential, or a private file. It is made only together with an empty store.

use super::OpenError;
use super::seal::Key;
use crate::config::StoreConfig;
use crate::sys;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// First word of a key file; then 64 hexadecimal digits and a line feed.
const WORD: &str = "craton-store-key-1";
const CREDENTIAL: &str = "craton-store-key";
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

    /// Reads the key; `None` if there is none.
    pub(crate) fn load(&self) -> Result<Option<Key>, OpenError> {
        let path = self.path();
        let text = match std::fs::read(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::io(path, &error)),
        };
        if let KeySource::File(path) = self {
            check_private(path, 0o600)?;
        }
        parse(&text).map(Some).ok_or_else(|| OpenError::KeyMalformed(path.to_owned()))
    }

    /// Writes a key, durably; fails if there is one.
    pub(crate) fn save(&self, key: &Key) -> Result<(), OpenError> {
        let path = self.path();
        let digits = Zeroizing::new(data_encoding::HEXLOWER.encode(key.expose()));
        let text = Zeroizing::new(format!("{WORD} {}\n", digits.as_str()));
        sys::write_durably(path, text.as_bytes()).map_err(|error| OpenError::io(path, &error))
    }
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

//! Public keys that are known to be compromised: a file of SHA-256 values, one a line, read again whenever it changes. Nothing is certified
//! for a key on it. A list that cannot be read stops every issuance: what it would say is not known.

use super::CaError;
use crate::x509::hex;
use data_encoding::HEXLOWER_PERMISSIVE;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The keys of a file as they were read last.
#[derive(Debug, Default)]
pub(crate) struct Blocklist {
    path: Option<PathBuf>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Time of change and length of the file that was read.
    stamp: Option<(SystemTime, u64)>,
    keys: HashSet<[u8; 32]>,
}

impl Blocklist {
    /// The list in a file; without one, an empty list.
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self { path, held: Mutex::default() }
    }

    /// Refuses a key that is on the list.
    ///
    /// # Errors
    /// [`CaError::KeyBlocked`], or [`CaError::File`] when the list cannot be read.
    pub(crate) fn judge(&self, spki_sha256: &[u8]) -> Result<(), CaError> {
        let Some(path) = &self.path else { return Ok(()) };
        let unreadable = |fault: std::io::Error| CaError::File(format!("{}: {fault}", path.display()));
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        let stamp = (metadata.modified().map_err(unreadable)?, metadata.len());
        let mut held = self.held.lock();
        if held.stamp != Some(stamp) {
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            let keys = parse(&text, path)?;
            tracing::info!(event = "compromised_keys_read", keys = keys.len());
            *held = Held { stamp: Some(stamp), keys };
        }
        let is_held = <[u8; 32]>::try_from(spki_sha256).is_ok_and(|key| held.keys.contains(&key));
        if is_held { Err(CaError::KeyBlocked(hex(spki_sha256))) } else { Ok(()) }
    }
}

fn parse(text: &str, path: &Path) -> Result<HashSet<[u8; 32]>, CaError> {
    let lines = text.lines().map(str::trim).enumerate();
    let values = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    values
        .map(|(index, line)| {
            let decoded = HEXLOWER_PERMISSIVE.decode(line.as_bytes()).ok().and_then(|key| key.try_into().ok());
            decoded.ok_or_else(|| {
                let (file, number) = (path.display(), index.saturating_add(1));
                CaError::File(format!(
                    "{file}, line {number}: not the SHA-256 of a public key in 64 hexadecimal digits"
                ))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_key_is_refused_and_a_list_that_cannot_be_read_refuses_all() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("keys");
        let list = Blocklist::new(Some(path.clone()));
        assert!(matches!(list.judge(&[7; 32]), Err(CaError::File(_))), "missing");
        std::fs::write(&path, format!("# lost in May\n\n{}\n", "07".repeat(32).to_uppercase())).expect("writes");
        assert_eq!(list.judge(&[7; 32]), Err(CaError::KeyBlocked("07".repeat(32))));
        assert_eq!(list.judge(&[8; 32]), Ok(()));
        std::fs::write(&path, format!("{}\n{}\n", "07".repeat(32), "08".repeat(32))).expect("writes");
        assert_eq!(list.judge(&[8; 32]), Err(CaError::KeyBlocked("08".repeat(32))), "read again");
        std::fs::write(&path, "not a key\n").expect("writes");
        assert!(matches!(list.judge(&[9; 32]), Err(CaError::File(_))), "malformed");
        assert_eq!(Blocklist::new(None).judge(&[7; 32]), Ok(()));
    }
}

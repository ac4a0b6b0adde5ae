//! Stores, journals and key files of every format that was ever written: every later version opens them.

use super::layout::Role;
use super::seal::Key;
use super::{SealedKey, Vault};
use crate::audit::{Files, Journal, Level, Options, visit_file};
use crate::config::{PinConfig, StoreConfig};
use crate::envelope::Credential;
use crate::share::Share;
use crate::{SecretBytes, SystemClock};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata")).join(name)).unwrap()
}

/// A file of mode 0600.
fn private(path: &Path, bytes: &[u8]) {
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The file of which the blocks are kept that are not zero.
fn unpacked(blocks: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let mut file = vec![0; number(blocks)];
    for block in blocks[8..].chunks(8 + 512) {
        file[number(block)..][..512].copy_from_slice(&block[8..]);
    }
    file
}

#[test]
fn golden_stores_of_all_formats_open_with_their_journals() {
    for name in ["store_format_1"] {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig { path: folder.path().join("store"), key_file: None };
        std::fs::create_dir(&config.path).unwrap();
        std::fs::set_permissions(&config.path, std::fs::Permissions::from_mode(0o700)).unwrap();
        private(&config.path.join("vault.redb"), &unpacked(&data(&format!("{name}.redb_blocks"))));
        private(&config.path.join("store.key"), &data(&format!("{name}.key")));
        let path = folder.path().join("audit.jsonl");
        private(&path, &data(&format!("{name}.jsonl")));
        let verified = visit_file(&path, |_| Ok(())).unwrap();
        assert!(verified.signatures.checkpoints > 0, "{name}: the journal is signed");
        let options = Options {
            path: path.clone(),
            level: Level::All,
            known: None,
            anchor: None,
            witnesses: Vec::new(),
            files: Files::default(),
        };
        let journal = Arc::new(Journal::open(options, Arc::new(SystemClock)).unwrap());
        let vault = Vault::open(&config, &PinConfig::default(), journal, Arc::new(SystemClock)).unwrap();
        let token = vault.token_in_slot(0).unwrap();
        assert_eq!((token.label.as_str(), token.serial.as_str()), ("golden token", "1f2cd27cb8135d22"));
        assert_eq!(vault.pin_state(token.id, Role::User).unwrap().failed, 1);
        for (role, pin) in [(Role::So, "87654321"), (Role::User, "12345678")] {
            let tmk = vault.unlock(token.id, role, &SecretBytes::copy_from(pin.as_bytes()), "test").unwrap();
            assert_eq!(vault.load_objects(token.id, Some(&tmk)).unwrap().len(), 3, "{name}");
        }
        assert_eq!(vault.load_objects(token.id, None).unwrap().len(), 3, "{name}");
        drop(vault);
        assert!(visit_file(&path, |_| Ok(())).unwrap().records > verified.records, "{name}: the journal goes on");
    }
}

#[test]
fn golden_sealed_keys_open_with_passphrase_and_shares() {
    let sealed = SealedKey::parse(&data("store_format_1.sealed_key")).unwrap();
    let text = String::from_utf8(data("store_format_1.shares")).unwrap();
    let shares = text.lines().map(|line| Share::parse(line).unwrap()).collect();
    let plain = String::from_utf8(data("store_format_1.key")).unwrap();
    let (_, digits) = plain.trim_end().split_once(' ').unwrap();
    let key = Key::from_slice(&data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap()).unwrap();
    let phrase = Credential::Passphrase(SecretBytes::copy_from(b"golden passphrase"));
    for credential in [phrase, Credential::Shares(shares)] {
        assert!(sealed.open(&credential).unwrap().expose() == key.expose());
    }
}

//! Who opens an archive and who does not; archives of earlier formats.

use std::path::Path;
use std::sync::Arc;

use super::tests::{SO_PIN, archive_for, config, journal, pins, restore_with, secret, so_pin, with_right_check_sum};
use super::{
    BackupPublicKey, BackupSecretKey, Credential, For, Replace, Share, combine_shares, inspect, new_shares, verify,
};
use crate::config::PinConfig;
use crate::store::{Role, Vault};
use crate::{Kind, SystemClock};

const PHRASE: &[u8] = b"a long way to tip a rare eel";

fn public(secret: &BackupSecretKey) -> BackupPublicKey {
    BackupPublicKey::from_bytes(secret.public().as_bytes()).unwrap()
}

fn key(secret: &BackupSecretKey) -> Credential {
    let copy = BackupSecretKey::parse(&secret.to_text().unwrap()).unwrap();
    Credential::SecretKey(Box::new(copy))
}

fn some(shares: &[Share], indexes: &[u8]) -> Credential {
    let chosen = indexes.iter().map(|index| {
        let share = shares.iter().find(|share| share.index() == *index).unwrap();
        Share::parse(&share.to_text()).unwrap()
    });
    Credential::Shares(chosen.collect())
}

fn refusal(input: &Path, credential: &Credential) -> (Kind, String) {
    let error = verify(input, credential).unwrap_err();
    (error.kind(), error.detail().unwrap().to_owned())
}

#[test]
fn every_recipient_opens_the_archive_and_restores_it() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (BackupSecretKey::generate().unwrap(), BackupSecretKey::generate().unwrap());
    let (quorum, shares) = new_shares(2, 3).unwrap();
    let others = [
        For::Passphrase(secret(PHRASE)),
        For::PublicKey(public(&one)),
        For::PublicKey(public(&two)),
        For::Shares(shares[0].set(), quorum),
    ];
    let input = archive_for(folder.path(), &[32, 0], &others);
    let set = shares[0].set().name_hex();
    let told = inspect(&input).unwrap();
    assert_eq!(told.audit_first_key.as_deref(), Some("ab".repeat(32).as_str()));
    assert_eq!(
        told.opened_by,
        [
            "the SO PIN of \"backup test\" (serial 0001)".to_owned(),
            "a passphrase".to_owned(),
            format!("the secret key of {}", one.public().name()),
            format!("the secret key of {}", two.public().name()),
            format!("2 of 3 shares of set {set}"),
        ]
    );
    let openers = [
        so_pin(SO_PIN),
        Credential::Passphrase(secret(PHRASE)),
        key(&one),
        key(&two),
        some(&shares, &[1, 2]),
        some(&shares, &[3, 1]),
        some(&shares, &[3, 2, 1]),
    ];
    for (number, credential) in openers.iter().enumerate() {
        let config = config(&folder.path().join(format!("host {number}")));
        let restored = restore_with(&config, &input, credential, Replace::Never).unwrap();
        let journal = journal(&config.audit.log_path);
        let vault = Vault::open(&config.store, &pins(), journal, Arc::new(SystemClock)).unwrap();
        assert_eq!(vault.generation(), restored.generation, "credential {number}");
    }
}

#[test]
fn whoever_was_not_named_is_refused_and_told_who_was() {
    let folder = tempfile::tempdir().unwrap();
    let (own, stranger) = (BackupSecretKey::generate().unwrap(), BackupSecretKey::generate().unwrap());
    let (quorum, shares) = new_shares(3, 4).unwrap();
    let (_, foreign) = new_shares(3, 4).unwrap();
    let others = [For::Passphrase(secret(PHRASE)), For::PublicKey(public(&own)), For::Shares(shares[0].set(), quorum)];
    let input = archive_for(folder.path(), &[9], &others);
    let rows: [(Credential, Kind, &str); 9] = [
        (so_pin(PHRASE), Kind::PinIncorrect, "not the SO PIN"),
        (Credential::Passphrase(secret(SO_PIN)), Kind::PinIncorrect, "passphrase does not open"),
        (key(&stranger), Kind::PinIncorrect, "does not open"),
        (some(&foreign, &[1, 2, 3]), Kind::PinIncorrect, "3 of 4 shares of set"),
        (some(&shares, &[1, 2]), Kind::DataInvalid, "2 of 3 shares are there"),
        (some(&shares, &[1, 2, 2]), Kind::DataInvalid, "share 2 of set"),
        (some(&shares, &[]), Kind::DataInvalid, "no share"),
        (mixed(&shares, &foreign), Kind::DataInvalid, "belongs to set"),
        (forged(&shares), Kind::PinIncorrect, "the shares do not open"),
    ];
    for (credential, kind, words) in rows {
        let (found, sentence) = refusal(&input, &credential);
        assert!(found == kind && sentence.contains(words), "{found:?} {sentence}");
    }
}

fn mixed(one: &[Share], other: &[Share]) -> Credential {
    let Credential::Shares(mut shares) = some(one, &[1, 2]) else { unreachable!("it was made of shares") };
    let Credential::Shares(foreign) = some(other, &[3]) else { unreachable!("it was made of shares") };
    shares.extend(foreign);
    Credential::Shares(shares)
}

/// A share with another value and a check sum that fits.
fn forged(shares: &[Share]) -> Credential {
    let Credential::Shares(mut chosen) = some(shares, &[1, 2, 3]) else { unreachable!("it was made of shares") };
    let text = chosen[2].to_text();
    let digits = text.split_once(' ').unwrap().1.to_ascii_uppercase();
    let mut bytes = data_encoding::BASE32_NOPAD.decode(digits.as_bytes()).unwrap();
    bytes[20] ^= 1;
    let sum = <sha2::Sha256 as sha2::Digest>::digest([&b"craton-hsm share v1"[..], &bytes[..43]].concat());
    bytes[43..].copy_from_slice(&sum[..4]);
    let text = format!("craton-share-1 {}", data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase());
    chosen[2] = Share::parse(&text).unwrap();
    assert!(combine_shares(&chosen).is_ok(), "a forged share is only found out by the archive");
    Credential::Shares(chosen)
}

#[test]
fn every_flipped_byte_of_a_header_with_all_kinds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let own = BackupSecretKey::generate().unwrap();
    let (quorum, shares) = new_shares(2, 2).unwrap();
    let others = [For::Passphrase(secret(PHRASE)), For::PublicKey(public(&own)), For::Shares(shares[0].set(), quorum)];
    let input = archive_for(folder.path(), &[1], &others);
    let good = std::fs::read(&input).unwrap();
    let header = 12 + u32::from_le_bytes(good[8..12].try_into().unwrap()) as usize;
    let openers = [so_pin(SO_PIN), Credential::Passphrase(secret(PHRASE)), key(&own), some(&shares, &[1, 2])];
    let edited = folder.path().join("edited.enc");
    for at in 0..header + 32 {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&edited, with_right_check_sum(bytes)).unwrap();
        let number = at / 8 % openers.len();
        let kind = verify(&edited, &openers[number]).map(drop).unwrap_err().kind();
        assert!(matches!(kind, Kind::DataInvalid | Kind::PinIncorrect), "byte {at}, opener {number}: {kind:?}");
    }
}

/// Archives made by released formats, with SO PIN 87654321 and user PIN 12345678: every later version opens them.
#[test]
fn golden_archives_of_all_formats_restore() {
    let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata"));
    let text = |name: &str| std::fs::read_to_string(data.join(name)).unwrap();
    let shares = text("backup_format_2.shares");
    let shares = shares.lines().map(|line| Share::parse(line).unwrap()).collect();
    let rows = [
        (1, "backup_format_1.enc", so_pin(b"87654321")),
        (2, "backup_format_2.enc", so_pin(b"87654321")),
        (2, "backup_format_2.enc", Credential::Passphrase(secret(b"golden passphrase"))),
        (
            2,
            "backup_format_2.enc",
            Credential::SecretKey(Box::new(BackupSecretKey::parse(&text("backup_format_2.secret_key")).unwrap())),
        ),
        (2, "backup_format_2.enc", Credential::Shares(shares)),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (number, (format, file, credential)) in rows.iter().enumerate() {
        let manifest = verify(&data.join(file), credential).unwrap();
        assert_eq!((manifest.format, manifest.tokens[0].label.as_str()), (*format, "golden token"));
        let config = config(&folder.path().join(number.to_string()));
        restore_with(&config, &data.join(file), credential, Replace::Never).unwrap();
        let clock = Arc::new(SystemClock);
        let vault = Vault::open(&config.store, &PinConfig::default(), journal(&config.audit.log_path), clock).unwrap();
        let token = vault.token_in_slot(0).unwrap();
        let user = vault.unlock(token.id, Role::User, &secret(b"12345678"), "test").unwrap();
        let count = vault.load_objects(token.id, Some(&user)).unwrap().len();
        assert_eq!(count, 3, "{file}, opener {number}");
    }
}

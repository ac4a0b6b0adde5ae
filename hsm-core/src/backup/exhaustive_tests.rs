//! Archives of a hundred objects changed in every byte, large ones in every chunk, and archives that were made while the store changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::body::{CHUNK_LEN, TAG_LEN};
use super::tests::{
    LABEL, SO_PIN, USER_PIN, archive, body, config, journal, pins, restore_to, restore_with, secret, so_pin,
    with_right_check_sum,
};
use super::{MAC_LEN, PREFIX_LEN, Replace, Request, TRAILER_LEN, write};
use crate::audit::{Category, Client, Entry, Fact, Journal, visit_file};
use crate::clock::Clock;
use crate::store::{Change, ObjectPut, Role, Vault};
use crate::{Error, Kind, ObjectId, SecretBytes, SystemClock};

/// An archive on the disk of which single bytes are changed and changed back, which costs less than writing it anew.
struct Edited {
    good: Vec<u8>,
    path: PathBuf,
    file: File,
    target: PathBuf,
}

impl Edited {
    fn new(folder: &Path, sizes: &[usize]) -> Self {
        let path = archive(folder, sizes);
        let file = File::options().write(true).open(&path).unwrap();
        Edited { good: std::fs::read(&path).unwrap(), path, file, target: folder.join("target") }
    }

    /// Why the archive is refused with this bit flipped, as it is and with a check sum that fits; nothing is made either time.
    fn refusals(&self, at: usize, bit: u64) -> Vec<Error> {
        let mut bytes = self.good.clone();
        bytes[at] ^= 1 << bit;
        let end = bytes.len() - 32;
        let mut refusals = vec![self.refused(&bytes, at)];
        if at < end {
            refusals.push(self.refused(&with_right_check_sum(bytes), at));
        }
        self.file.write_all_at(&self.good[at..=at], at as u64).unwrap();
        self.file.write_all_at(&self.good[end..], end as u64).unwrap();
        refusals
    }

    fn refused(&self, bytes: &[u8], at: usize) -> Error {
        let end = bytes.len() - 32;
        self.file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        self.file.write_all_at(&bytes[end..], end as u64).unwrap();
        let refused = restore_to(&self.target, &self.path, SO_PIN).unwrap_err();
        assert!(!self.target.exists(), "something was made before the archive was refused");
        refused
    }
}

/// A small generator (SplitMix64), so that a failing run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

#[test]
fn every_changed_byte_of_a_hundred_objects_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let sizes: Vec<usize> = (0..100).collect();
    let edited = Edited::new(folder.path(), &sizes);
    let mut dice = Dice(1);
    for at in 0..edited.good.len() {
        let refusals = edited.refusals(at, dice.roll(8));
        assert_eq!(refusals[0].kind(), Kind::DataInvalid, "byte {at}");
        let kind = refusals.last().unwrap().kind();
        assert!(matches!(kind, Kind::DataInvalid | Kind::PinIncorrect), "byte {at}, check sum right: {kind:?}");
    }
    restore_to(&edited.target, &edited.path, SO_PIN).unwrap();
}

#[test]
fn sixty_four_random_bits_of_every_chunk_of_a_large_archive_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let edited = Edited::new(folder.path(), &[150_000, 1, 150_000]);
    let good = &edited.good;
    let header_len = u32::from_le_bytes(good[8..12].try_into().unwrap()) as usize;
    let (start, end) = (PREFIX_LEN + header_len + MAC_LEN, good.len() - TRAILER_LEN);
    let mut dice = Dice(2);
    let (mut from, mut chunks) = (start, 0);
    while from < end {
        let to = (from + CHUNK_LEN + TAG_LEN).min(end);
        for _ in 0..64 {
            let at = from + dice.roll((to - from) as u64) as usize;
            let refusals = edited.refusals(at, dice.roll(8));
            let refused = refusals.last().unwrap();
            assert_eq!(refused.kind(), Kind::DataInvalid, "byte {at}");
            let named = format!("chunk {chunks} ");
            assert!(refused.detail().unwrap().contains(&named), "byte {at} is in {named}: {refused}");
        }
        (from, chunks) = (to, chunks + 1);
    }
    assert!(chunks >= 4, "{chunks} chunks");
}

/// Threads that write, and objects of each.
const WRITERS: u64 = 4;
const OBJECTS: u64 = 40;

/// What one write does: the object, and its text if it is not destroyed.
fn plan(writer: u64, turn: u64) -> (u64, Option<(bool, String)>) {
    let mut dice = Dice(writer << 32 | turn);
    let object = writer * OBJECTS + dice.roll(OBJECTS);
    let lives = dice.roll(4) > 0;
    (object, lives.then(|| (dice.roll(2) == 0, format!("{writer}:{turn}"))))
}

/// Which write a journal's record is of.
fn entry(writer: u64, turn: u64) -> Vec<u8> {
    let entry = Entry::new(Category::Admin, "test", Client::Daemon);
    entry.with_fact("turn", Fact::number(turn)).with_fact("writer", Fact::number(writer)).encode()
}

type Objects = BTreeMap<u64, (bool, String)>;

/// What the journal says must be there at a generation.
fn model(journal: &Path, generation: u64) -> Objects {
    let mut writes = BTreeMap::new();
    visit_file(journal, |line| {
        let number = |name: &str| match line.record.detail.get(name) {
            Some(Fact::Number(number)) => Some(*number),
            _ => None,
        };
        if let (Some(writer), Some(turn), Some(true)) = (number("writer"), number("turn"), line.record.change) {
            assert_eq!(writes.insert(line.record.generation, (writer, turn)), None, "two changes of one generation");
        }
        Ok(())
    })
    .unwrap();
    let mut objects = Objects::new();
    for (_, (writer, turn)) in writes.range(..=generation) {
        match plan(*writer, *turn) {
            (object, Some(state)) => objects.insert(object, state),
            (object, None) => objects.remove(&object),
        };
    }
    objects
}

fn id(object: u64) -> ObjectId {
    ObjectId(u128::from(object).to_be_bytes())
}

/// What a restored store holds.
fn held(vault: &Vault<Journal>) -> Objects {
    let token = vault.token_in_slot(0).unwrap().id;
    let tmk = vault.unlock(token, Role::User, &secret(USER_PIN), "test").unwrap();
    let mut objects = Objects::new();
    for (private, tmk) in [(false, None), (true, Some(&*tmk))] {
        for object in vault.load_objects(token, tmk).unwrap() {
            let text = String::from_utf8(object.plaintext.expose().to_vec()).unwrap();
            let number = u64::try_from(u128::from_be_bytes(object.id.0)).unwrap();
            assert_eq!(objects.insert(number, (private, text)), None, "object {number} is there twice");
        }
    }
    objects
}

/// 5,000 writes of four threads (new objects, new states, changes between private and public, destructions), archives all the while:
/// each restores to exactly what the journal says there was at the generation in its header.
#[test]
fn a_backup_during_five_thousand_writes_is_the_store_at_its_generation() {
    let turns = 1250;
    let folder = tempfile::tempdir().unwrap();
    let source = config(&folder.path().join("source"));
    std::fs::create_dir(folder.path().join("source")).unwrap();
    let book = journal(&source.audit.log_path);
    let vault = Vault::open(&source.store, &pins(), Arc::clone(&book), Arc::new(SystemClock)).unwrap();
    vault.ensure_slot(0, "empty", Some("0001")).unwrap();
    let (token, _) = vault.init_token(0, LABEL, &secret(SO_PIN), "test", |_| body()).unwrap();
    let so = vault.unlock(token.id, Role::So, &secret(SO_PIN), "test").unwrap();
    let _user = vault.init_user_pin(&so, &secret(USER_PIN), &body()).unwrap();
    let (done, pin) = (AtomicBool::new(false), secret(SO_PIN));
    let archives = std::thread::scope(|scope| {
        let writer = |writer| {
            let (vault, so) = (&vault, &so);
            move || {
                for turn in 0..turns {
                    let mut change = Change::default();
                    match plan(writer, turn) {
                        (object, None) => change.deletes.push((token.id, id(object))),
                        (object, Some((private, text))) => {
                            let plaintext = SecretBytes::new(text.into_bytes());
                            change.puts.push(ObjectPut { token: token.id, id: id(object), private, plaintext });
                        }
                    }
                    let _receipt = vault.commit(change, Some(so), &entry(writer, turn)).unwrap();
                }
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|number| scope.spawn(writer(number))).collect();
        let reader = scope.spawn(|| {
            let mut archives = Vec::new();
            while !done.load(Ordering::Relaxed) && archives.len() < 12 {
                let snapshot = vault.snapshot_for_backup().unwrap();
                let (so, function) = (Some((token.id, &pin)), pins().function);
                let request = Request { so, others: &[], function, created: 0, audit: book.head(), first_key: None };
                let mut bytes = Vec::new();
                let written = write(&snapshot, &request, &|id| vault.object_count(id), &mut bytes).unwrap();
                archives.push((written.generation, bytes));
                // From the first writes to the last.
                let next = written.generation + WRITERS * turns / 12;
                while vault.generation() < next && !done.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
            }
            archives
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    let last = vault.generation();
    drop(vault);
    book.sync().unwrap();
    let between = archives.iter().filter(|(generation, _)| *generation < last).count();
    assert!(between >= 6, "{between} archives were made while others wrote");
    for (number, (generation, bytes)) in archives.iter().enumerate() {
        let input = folder.path().join(format!("{number}.enc"));
        std::fs::write(&input, bytes).unwrap();
        let target = folder.path().join(format!("host {number}"));
        let restored = restore_to(&target, &input, SO_PIN).unwrap();
        assert_eq!(restored.archive.generation, *generation);
        let place = config(&target);
        let vault = Vault::open(&place.store, &pins(), journal(&place.audit.log_path), Arc::new(SystemClock)).unwrap();
        let expected = model(&source.audit.log_path, *generation);
        assert!(held(&vault) == expected, "archive {number} is not the store at generation {generation}");
    }
}

/// A clock that runs elsewhere.
struct Later(u64);

impl Clock for Later {
    fn now_unix_nanos(&self) -> u64 {
        SystemClock.now_unix_nanos() + self.0
    }
}

#[test]
fn an_archive_restores_twice_on_other_hosts_four_hundred_days_later() {
    let folder = tempfile::tempdir().unwrap();
    let input = archive(folder.path(), &[32, 64]);
    for host in ["one", "two"] {
        let place = config(&folder.path().join(host));
        let clock = Arc::new(Later(400 * 86_400_000_000_000));
        let request = super::Restore {
            input: &input,
            credential: &so_pin(SO_PIN),
            config: &place,
            uid: 1000,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            replace: Replace::Never,
        };
        super::restore(&request).unwrap();
        let vault = Vault::open(&place.store, &pins(), journal(&place.audit.log_path), clock).unwrap();
        let token = vault.token_in_slot(0).unwrap().id;
        let tmk = vault.unlock(token, Role::User, &secret(USER_PIN), "test").unwrap();
        assert_eq!(vault.load_objects(token, Some(&tmk)).unwrap().len(), 2, "{host}");
        drop(vault);
        // And back on a host whose clock is right: the archive is from its past, the journal from its future.
        restore_with(&place, &input, &so_pin(SO_PIN), Replace::NewerStore("rehearsal".into())).unwrap();
    }
}

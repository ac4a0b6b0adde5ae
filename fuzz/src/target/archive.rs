//! Files that come back from a disk that somebody else had: a journal, a backup archive, a store. A changed one is not taken for the original.

use std::cell::RefCell;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ck::attribute::*;
use ck::flags::{session as sf, user};
use hsm_core::audit::{self, Head, Note, PublicKey, Trust};
use hsm_core::backup::Credential;
use hsm_core::config::{Config, Profile};
use hsm_core::{Attr, Hsm, SecretBytes, TokenName, backup};
use tempfile::TempDir;

use crate::feedback;
use crate::input::Input;
use crate::presets::IMPORTS;
use crate::stage::{self, SO_PIN, USER_PIN};

/// What there is to change, made once per thread.
struct Originals {
    journal: Vec<u8>,
    head: Head,
    /// Its newest checkpoint as a note, and the key that made the two signatures of that.
    note: String,
    key: PublicKey,
    backup: Vec<u8>,
    /// The files of a store: names below its folder, and bytes.
    store: Vec<(PathBuf, Vec<u8>)>,
    config: Config,
    folder: TempDir,
}

thread_local! {
    static ORIGINALS: RefCell<Option<Originals>> = RefCell::default();
}

fn with(act: impl FnOnce(&Originals)) {
    let originals = ORIGINALS.take().unwrap_or_else(originals);
    act(&originals);
    ORIGINALS.set(Some(originals));
}

/// A token on a disk with an object of every kind, and what it leaves there.
fn originals() -> Originals {
    let folder = stage::folder();
    let mut config = stage::configuration(Profile::Safe, &folder);
    config.token.persist_objects = true;
    config.store.path = folder.path().join("store");
    config.audit.suite = audit::Suite::WithMlDsa44;
    let hsm = stage::open(&config);
    let caller = hsm.attach(stage::peer(5), "maker").expect("attaches");
    let session = hsm.open_session(&caller, 0, sf::CKF_SERIAL_SESSION | sf::CKF_RW_SESSION).expect("opens");
    hsm.login(&caller, session, user::CKU_USER, SecretBytes::copy_from(USER_PIN)).expect("logs in");
    for import in &IMPORTS {
        let label = [Attr::flag(CKA_TOKEN, true), Attr::bytes(CKA_LABEL, import.name)];
        let template = [(import.template)(), label.to_vec()].concat();
        hsm.create_object(&caller, session, template).expect("makes");
    }
    let mut backup = Vec::new();
    let pin = || SecretBytes::copy_from(SO_PIN);
    hsm.admin_backup(&stage::peer(1), &TokenName::default(), pin(), &[], &mut backup).expect("backs up");
    drop(caller);
    hsm.close();
    drop(hsm);
    let journal = std::fs::read(&config.audit.log_path).expect("the journal");
    let head = audit::verify(Cursor::new(&journal), &[]).expect("the journal is good").head;
    let (signed, key) =
        audit::newest_checkpoint(&config.audit.log_path, Trust::default()).expect("the journal has a checkpoint");
    let store = files(&config.store.path);
    Originals { journal, head, note: signed.note(&key), key, backup, store, config, folder }
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("the store's folder").map(|entry| entry.expect("an entry").path());
    let file = |path: PathBuf| {
        let name = path.file_name().expect("a name").into();
        (name, std::fs::read(&path).expect("a file of the store"))
    };
    entries.filter(|path| path.is_file()).map(file).collect()
}

/// Changes bytes here and there, cuts, repeats, or removes.
pub(crate) fn change(input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    for _ in 0..=input.below(4) {
        let at = (input.number() as usize).checked_rem(bytes.len()).unwrap_or_default();
        match input.below(8) {
            0..=2 if at < bytes.len() => bytes[at] = input.byte(),
            3 if at < bytes.len() => bytes[at] ^= 1 << input.below(8),
            4 => bytes.truncate(at),
            5 => {
                let end = (at + input.below(200)).min(bytes.len());
                bytes.drain(at..end);
            }
            6 => {
                let end = (at + input.below(200)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let new = input.bytes(60);
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
}

/// Whole lines of the journal, in another order or number.
fn shuffle(input: &mut Input<'_>, journal: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = journal.split_inclusive(|byte| *byte == b'\n').collect();
    for _ in 0..=input.below(3) {
        let (one, other) = (input.below(lines.len()), input.below(lines.len()));
        match input.below(3) {
            0 => lines.swap(one, other),
            1 => drop(lines.remove(one)),
            _ => lines.insert(one, lines[other]),
        }
        if lines.is_empty() {
            break;
        }
    }
    lines.concat()
}

/// A journal with anything changed is not the journal.
pub(crate) fn journal(bytes: &[u8]) {
    with(|originals| {
        let mut input = Input::new(bytes);
        if input.one_in(4) {
            return note(&mut input, originals);
        }
        let mut changed = originals.journal.clone();
        if input.one_in(2) {
            changed = shuffle(&mut input, &changed);
        } else {
            change(&mut input, &mut changed);
        }
        let verdict = audit::verify(Cursor::new(&changed), &[originals.head]);
        feedback::note(("journal", verdict.as_ref().err().map(|finding| format!("{:?}", finding.wrong).len())));
        assert_eq!(verdict.is_ok(), changed == originals.journal, "{verdict:?}");
        // Without the remembered head, the beginning of a journal is a journal.
        if let Ok(summary) = audit::verify(Cursor::new(&changed), &[]) {
            assert!(originals.journal.starts_with(&changed), "a forged journal of {} records", summary.records);
        }
    });
}

/// A note that says anything else has not both signatures of the key.
fn note(input: &mut Input<'_>, originals: &Originals) {
    let mut changed = originals.note.clone().into_bytes();
    change(input, &mut changed);
    let text = String::from_utf8_lossy(&changed);
    let known = audit::witnessed(&text).len();
    let read = Note::parse(&text);
    let by = read.as_ref().is_some_and(|note| note.is_by(&originals.key));
    feedback::note(("note", known, read.is_some(), by));
    let original = Note::parse(&originals.note).map(|note| note.checkpoint);
    assert!(!by || read.map(|note| note.checkpoint) == original, "a forged checkpoint");
}

/// An archive with anything changed does not open, also when its check sum was made again.
pub(crate) fn archive(bytes: &[u8]) {
    with(|originals| {
        let mut input = Input::new(bytes);
        let mut changed = originals.backup.clone();
        let way = input.byte();
        change(&mut input, &mut changed);
        if way & 1 == 0 {
            sum_again(&mut changed);
        }
        let path = originals.folder.path().join("changed.hsmb");
        std::fs::write(&path, &changed).expect("written");
        let looked = backup::inspect(&path);
        let verified = backup::verify(&path, &Credential::SoPin(SecretBytes::copy_from(SO_PIN)));
        let kinds = (looked.as_ref().err().map(hsm_core::Error::rv), verified.as_ref().err().map(hsm_core::Error::rv));
        feedback::note(("archive", kinds));
        feedback::note(
            verified
                .as_ref()
                .err()
                .and_then(|why| why.detail())
                .map(|why| why.chars().filter(|c| !c.is_numeric()).collect::<String>()),
        );
        assert_eq!(verified.is_ok(), changed == originals.backup, "a changed archive verifies");
    });
}

/// The trailer ends with the SHA-256 of everything before it (`hsm-core/src/backup/format.md`).
fn sum_again(archive: &mut [u8]) {
    use sha2::{Digest, Sha256};
    if let Some(at) = archive.len().checked_sub(32) {
        let sum = Sha256::digest(&archive[..at]);
        archive[at..].copy_from_slice(&sum);
    }
}

/// A store with anything changed is refused, or shows what it always showed.
pub(crate) fn store(bytes: &[u8]) {
    with(|originals| {
        let mut input = Input::new(bytes);
        let folder = stage::folder();
        let mut config = originals.config.clone();
        config.store.path = folder.path().join("store");
        config.audit.log_path = folder.path().join("audit.jsonl");
        stage::private_folder(&config.store.path);
        stage::private_file(&config.audit.log_path, &originals.journal);
        let chosen = input.below(originals.store.len());
        for (at, (name, bytes)) in originals.store.iter().enumerate() {
            let mut bytes = bytes.clone();
            if at == chosen {
                change(&mut input, &mut bytes);
            }
            stage::private_file(&config.store.path.join(name), &bytes);
        }
        let folder = Kept(Some(folder));
        match Hsm::open(&config, Arc::new(hsm_core::SystemClock)) {
            Err(why) => {
                let sentence = why.to_string().replace(&folder.place(), "");
                feedback::note(("store", sentence.chars().filter(|c| c.is_alphabetic()).take(60).collect::<String>()));
            }
            Ok(hsm) if hsm.status().sealed => feedback::note("sealed"),
            Ok(hsm) => look(&hsm),
        }
    });
}

/// A store's keys are random, so an input alone does not bring a finding back: the files of one stay.
struct Kept(Option<TempDir>);

impl Kept {
    fn place(&self) -> String {
        self.0.as_ref().map(|folder| folder.path().display().to_string()).unwrap_or_default()
    }
}

impl Drop for Kept {
    #[expect(clippy::print_stderr, reason = "where a finding's files are")]
    fn drop(&mut self) {
        if let Some(folder) = self.0.take().filter(|_| std::thread::panicking()) {
            eprintln!("the changed store is in {}", folder.keep().display());
        }
    }
}

/// What is read must be what was written.
fn look(hsm: &Hsm) {
    let caller = hsm.attach(stage::peer(6), "reader").expect("attaches");
    let Ok(session) = hsm.open_session(&caller, 0, sf::CKF_SERIAL_SESSION) else { return feedback::note("no session") };
    if hsm.login(&caller, session, user::CKU_USER, SecretBytes::copy_from(USER_PIN)).is_err() {
        return feedback::note("no login");
    }
    let Ok(found) = hsm.find(&caller, session, Vec::new(), 0) else { return feedback::note("no search") };
    feedback::note(("opened", found.objects.len()));
    let names: Vec<&[u8]> = IMPORTS.iter().map(|import| import.name.as_bytes()).collect();
    for object in found.objects {
        let read = hsm.get_attributes(&caller, session, object, &[CKA_LABEL.0]).expect("reads");
        let label = read[0].attribute.value.as_bytes().unwrap_or_default();
        assert!(names.contains(&label), "an object that was never made: {label:?}");
    }
}

//! Loss of power under a whole program: what it does to files and names is written down (`testdata/faults.c`), and a model of a file system
//! says what a disk may hold if the power goes after any of these steps.
//!
//! The model is as bad as POSIX lets a file system be, but for one thing: names of one directory change in the order in which the program
//! changed them, which journaling file systems keep. What no fsync has been done for is there, or not, or in parts of 512 bytes; the new
//! length of a file comes without its bytes, and the bytes without the length; a new name may be lost though the file was synced. After
//! an fsync that failed, what was to be written is never written.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;
/// Length of a header in the file that the library writes.
const HEADER: usize = 40;
/// The kind of a record that the test itself adds.
const MARK: u32 = 100;

/// Something that a program did, or that a test noted.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Step {
    /// A file was made.
    Create { path: PathBuf, inode: u64 },
    /// Bytes were written.
    Write { inode: u64, at: usize, data: Vec<u8> },
    /// A file was given a length.
    Length { inode: u64, length: usize },
    /// fsync or fdatasync of a file or directory.
    Sync { inode: u64, failed: bool },
    /// A name was changed.
    Rename { inode: u64, from: PathBuf, to: PathBuf },
    /// A second name.
    Link { inode: u64, to: PathBuf },
    /// A name was removed, of a file or of an empty directory.
    Remove { path: PathBuf },
    /// A directory was made.
    MakeDirectory { path: PathBuf, inode: u64 },
    /// A test's note.
    Mark(String),
}

/// A file in which a program's steps are written down.
pub struct Trace {
    file: PathBuf,
    below: PathBuf,
}

impl Trace {
    /// Of what happens below this directory.
    pub fn of(below: &Path) -> Trace {
        let mut file = below.as_os_str().to_owned();
        file.push(".trace");
        let file = PathBuf::from(file);
        fs::write(&file, "").expect("beside our own directory");
        Trace { file, below: below.to_owned() }
    }

    /// The variables that a program is started with, beside those of the library.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("FAULTS_TRACE", self.file.clone()), ("FAULTS_BELOW", self.below.clone())]
    }

    /// Notes something: it came after all that the program had done when it answered.
    pub fn mark(&self, text: &str) {
        let mut record = Vec::new();
        record.extend_from_slice(&MARK.to_ne_bytes());
        record.extend_from_slice(&[0; 20]);
        record.extend_from_slice(&(text.len() as u64).to_ne_bytes());
        record.extend_from_slice(&[0; 8]);
        record.extend_from_slice(text.as_bytes());
        let mut file = fs::OpenOptions::new().append(true).open(&self.file).expect("our own file");
        file.write_all(&record).expect("our own file");
    }

    /// All steps so far; the next ones begin anew.
    pub fn take(&self) -> Vec<Step> {
        let bytes = fs::read(&self.file).expect("our own file");
        fs::write(&self.file, "").expect("our own file");
        let mut rest = &bytes[..];
        let mut steps = Vec::new();
        while let Some((header, after)) = rest.split_at_checked(HEADER) {
            let number = |at: usize| u64::from_ne_bytes(header[at..at + 8].try_into().expect("eight bytes"));
            let (first, second) = (number(24) as usize, number(32) as usize);
            // The last one may have been under way when the program was killed.
            let Some((first, after)) = after.split_at_checked(first) else { break };
            let Some((second, after)) = after.split_at_checked(second) else { break };
            rest = after;
            let kind = u32::from_ne_bytes(header[..4].try_into().expect("four bytes"));
            let failed = header[4..8] != [0; 4];
            steps.push(step(kind, failed, number(8), number(16) as usize, first, second));
        }
        steps
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        fs::remove_file(&self.file).unwrap_or_default();
    }
}

fn step(kind: u32, failed: bool, inode: u64, at: usize, first: &[u8], second: &[u8]) -> Step {
    let path = |bytes: &[u8]| {
        let name: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(bytes);
        PathBuf::from(name)
    };
    match kind {
        1 => Step::Create { path: path(first), inode },
        2 => Step::Write { inode, at, data: first.to_vec() },
        3 => Step::Length { inode, length: at },
        4 => Step::Sync { inode, failed },
        5 => Step::Rename { inode, from: path(first), to: path(second) },
        6 => Step::Link { inode, to: path(second) },
        7 | 9 => Step::Remove { path: path(first) },
        8 => Step::MakeDirectory { path: path(first), inode },
        MARK => Step::Mark(String::from_utf8_lossy(first).into_owned()),
        _ => panic!("a record of kind {kind}"),
    }
}

/// What is on the disk of what was not synced when the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    Nothing,
    /// None of it.
    Everything,
    /// All names, and no bytes.
    Bytes,
    /// All bytes, and no names.
    Names,
    /// Some sectors, some lengths, and of each directory the first so many changes.
    Some,
}

impl Loss {
    /// Every way.
    pub const ALL: [Loss; 5] = [Loss::Nothing, Loss::Everything, Loss::Bytes, Loss::Names, Loss::Some];
}

#[derive(Clone, Debug)]
enum Change {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug)]
enum Node {
    File { durable: Vec<u8>, pending: Vec<Change> },
    Directory { durable: BTreeMap<String, usize>, seen: BTreeMap<String, usize> },
}

/// Names that change together: directory, name, and the file that has it from then on.
type Names = Vec<(usize, String, Option<usize>)>;

/// A file system of which a disk may hold less than programs see.
#[derive(Clone)]
pub struct Model {
    root: PathBuf,
    nodes: Vec<Node>,
    by_inode: BTreeMap<u64, usize>,
    names: Vec<Names>,
}

impl Model {
    /// A directory as it is, all of it durable. `concerns` says which names in it belong to the story.
    pub fn of(root: &Path, concerns: impl Fn(&str) -> bool) -> Model {
        let empty = Node::Directory { durable: BTreeMap::new(), seen: BTreeMap::new() };
        let mut model =
            Model { root: root.to_owned(), nodes: vec![empty], by_inode: BTreeMap::new(), names: Vec::new() };
        model.by_inode.insert(fs::metadata(root).expect("our own directory").ino(), 0);
        model.scan(0, root, &concerns);
        model
    }

    fn scan(&mut self, directory: usize, path: &Path, concerns: &dyn Fn(&str) -> bool) {
        for entry in fs::read_dir(path).expect("our own directory").map(|entry| entry.expect("an entry").path()) {
            let name = entry.file_name().expect("a name").to_string_lossy().into_owned();
            let found = fs::symlink_metadata(&entry).expect("our own file");
            if !concerns(&name) || !(found.is_file() || found.is_dir()) {
                continue;
            }
            let known = self.by_inode.get(&found.ino()).copied();
            let node = known.unwrap_or_else(|| {
                self.nodes.push(match found.is_dir() {
                    true => Node::Directory { durable: BTreeMap::new(), seen: BTreeMap::new() },
                    false => Node::File { durable: fs::read(&entry).expect("our own file"), pending: Vec::new() },
                });
                self.nodes.len() - 1
            });
            self.by_inode.insert(found.ino(), node);
            if let Node::Directory { durable, seen } = &mut self.nodes[directory] {
                durable.insert(name.clone(), node);
                seen.insert(name, node);
            }
            if found.is_dir() && known.is_none() {
                self.scan(node, &entry, &|_| true);
            }
        }
    }

    /// The directory of a path and its last name.
    fn place(&self, path: &Path) -> Option<(usize, String)> {
        let below = path.strip_prefix(&self.root).ok()?;
        let name = below.file_name()?.to_string_lossy().into_owned();
        let mut at = 0;
        for part in below.parent()?.iter() {
            let Node::Directory { seen, .. } = &self.nodes[at] else { return None };
            at = *seen.get(&*part.to_string_lossy())?;
        }
        Some((at, name))
    }

    fn node_at(&self, path: &Path) -> Option<usize> {
        let (directory, name) = self.place(path)?;
        let Node::Directory { seen, .. } = &self.nodes[directory] else { return None };
        seen.get(&name).copied()
    }

    fn change_names(&mut self, names: Names) {
        for (directory, name, node) in &names {
            if let Node::Directory { seen, .. } = &mut self.nodes[*directory] {
                match node {
                    Some(node) => seen.insert(name.clone(), *node),
                    None => seen.remove(name),
                };
            }
        }
        self.names.push(names);
    }

    fn add(&mut self, node: Node, path: &Path, inode: u64) {
        let Some((directory, name)) = self.place(path) else { return };
        self.nodes.push(node);
        let new = self.nodes.len() - 1;
        self.by_inode.insert(inode, new);
        self.change_names(vec![(directory, name, Some(new))]);
    }

    fn pending(&mut self, inode: u64) -> Option<&mut Vec<Change>> {
        let node = *self.by_inode.get(&inode)?;
        match &mut self.nodes[node] {
            Node::File { pending, .. } => Some(pending),
            Node::Directory { .. } => None,
        }
    }

    /// Two names that changed places in one step (renameat2(2), which no library call is made for) are seen at the next step that names them.
    fn exchanged(&mut self, path: &Path, inode: u64) {
        let (Some(here), Some(wanted)) = (self.node_at(path), self.by_inode.get(&inode).copied()) else { return };
        if here == wanted {
            return;
        }
        let Some((directory, name)) = self.place(path) else { return };
        let other = self.nodes.iter().enumerate().find_map(|(at, node)| match node {
            Node::Directory { seen, .. } => {
                seen.iter().find(|(_, node)| **node == wanted).map(|(name, _)| (at, name.clone()))
            }
            Node::File { .. } => None,
        });
        let (elsewhere, other) = other.expect("what was renamed had a name");
        self.change_names(vec![(directory, name, Some(wanted)), (elsewhere, other, Some(here))]);
    }

    /// What happens next.
    pub fn play(&mut self, step: &Step) {
        match step {
            Step::Create { path, inode } => {
                self.add(Node::File { durable: Vec::new(), pending: Vec::new() }, path, *inode)
            }
            Step::MakeDirectory { path, inode } => {
                self.add(Node::Directory { durable: BTreeMap::new(), seen: BTreeMap::new() }, path, *inode);
            }
            Step::Write { inode, at, data } => {
                if let Some(pending) = self.pending(*inode) {
                    pending.push(Change::Bytes(*at, data.clone()));
                }
            }
            Step::Length { inode, length } => {
                if let Some(pending) = self.pending(*inode) {
                    pending.push(Change::Length(*length));
                }
            }
            Step::Sync { inode, failed } => self.sync(*inode, *failed),
            Step::Rename { inode, from, to } => {
                self.exchanged(from, *inode);
                let (Some(node), Some((old, name)), Some((new, other))) =
                    (self.node_at(from), self.place(from), self.place(to))
                else {
                    return;
                };
                self.change_names(vec![(old, name, None), (new, other, Some(node))]);
            }
            Step::Link { inode, to } => {
                if let (Some(node), Some((directory, name))) = (self.by_inode.get(inode).copied(), self.place(to)) {
                    self.change_names(vec![(directory, name, Some(node))]);
                }
            }
            Step::Remove { path } => {
                if self.node_at(path).is_some()
                    && let Some((directory, name)) = self.place(path)
                {
                    self.change_names(vec![(directory, name, None)]);
                }
            }
            Step::Mark(_) => {}
        }
    }

    fn sync(&mut self, inode: u64, failed: bool) {
        let Some(node) = self.by_inode.get(&inode).copied() else { return };
        match &mut self.nodes[node] {
            Node::File { pending, .. } if failed => pending.clear(),
            Node::File { durable, pending } => {
                for change in pending.drain(..) {
                    apply(durable, &change);
                }
            }
            Node::Directory { .. } if failed => {}
            Node::Directory { .. } => {
                // What concerns this directory, and all before it that concerns the same names elsewhere.
                let (done, left): (Vec<Names>, Vec<Names>) =
                    self.names.drain(..).partition(|names| names.iter().any(|(directory, ..)| *directory == node));
                self.names = left;
                done.into_iter().for_each(|names| set(&mut self.nodes, names));
            }
        }
    }

    /// Whether the power could take anything now.
    pub fn is_in_doubt(&self) -> bool {
        let unsynced = |node: &Node| matches!(node, Node::File { pending, .. } if !pending.is_empty());
        !self.names.is_empty() || self.nodes.iter().any(unsynced)
    }

    /// Replaces what belongs to the story by what the disk holds after the power went like that.
    pub fn lose(&self, loss: Loss, seed: u64, concerns: impl Fn(&str) -> bool) {
        let mut dice = Dice(seed);
        let mut nodes = self.nodes.clone();
        let mut ended: Vec<usize> = Vec::new();
        for names in &self.names {
            let directories = || names.iter().map(|(directory, ..)| *directory);
            let kept = match loss {
                Loss::Nothing | Loss::Bytes => true,
                Loss::Everything | Loss::Names => false,
                Loss::Some => directories().all(|directory| !ended.contains(&directory)) && dice.below(3) > 0,
            };
            if kept {
                set(&mut nodes, names.clone());
            } else {
                ended.extend(directories());
            }
        }
        for entry in fs::read_dir(&self.root).expect("our own directory").map(|entry| entry.expect("an entry")) {
            if concerns(&entry.file_name().to_string_lossy()) {
                let path = entry.path();
                let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                gone.expect("our own file");
            }
        }
        let mut written = BTreeMap::new();
        write(&nodes, 0, &self.root, loss, &mut dice, &mut written, &concerns);
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => content.resize(*length, 0),
        Change::Bytes(at, data) => {
            if content.len() < at + data.len() {
                content.resize(at + data.len(), 0);
            }
            content[*at..at + data.len()].copy_from_slice(data);
        }
    }
}

fn set(nodes: &mut [Node], names: Names) {
    for (directory, name, node) in names {
        if let Node::Directory { durable, .. } = &mut nodes[directory] {
            match node {
                Some(node) => durable.insert(name, node),
                None => durable.remove(&name),
            };
        }
    }
}

/// What a disk holds of a file.
fn content(durable: &[u8], pending: &[Change], loss: Loss, dice: &mut Dice) -> Vec<u8> {
    let mut content = durable.to_vec();
    match loss {
        Loss::Nothing | Loss::Names => pending.iter().for_each(|change| apply(&mut content, change)),
        Loss::Everything | Loss::Bytes => {}
        Loss::Some => {
            // The lengths that the file had one after the other: it has one of them.
            let mut length = content.len();
            let mut lengths = vec![length];
            for change in pending {
                length = match change {
                    Change::Length(to) => *to,
                    Change::Bytes(at, data) => length.max(at + data.len()),
                };
                lengths.push(length);
            }
            let length = lengths[if dice.below(2) == 0 { lengths.len() - 1 } else { dice.below(lengths.len()) }];
            content.resize(length, 0);
            for change in pending {
                let Change::Bytes(at, data) = change else { continue };
                // Sectors of the file, not of the call.
                let mut from = 0;
                while from < data.len() {
                    let to = data.len().min(from + SECTOR - (at + from) % SECTOR);
                    let end = length.min(at + to);
                    if dice.below(2) == 0 && at + from < end {
                        content[at + from..end].copy_from_slice(&data[from..end - at]);
                    }
                    from = to;
                }
            }
        }
    }
    content
}

fn write(
    nodes: &[Node],
    directory: usize,
    path: &Path,
    loss: Loss,
    dice: &mut Dice,
    written: &mut BTreeMap<usize, PathBuf>,
    concerns: &dyn Fn(&str) -> bool,
) {
    let Node::Directory { durable, .. } = &nodes[directory] else { return };
    for (name, node) in durable.iter().filter(|(name, _)| concerns(name)) {
        let path = path.join(name);
        match &nodes[*node] {
            Node::Directory { .. } => {
                fs::DirBuilder::new().mode(0o700).create(&path).expect("our own directory");
                write(nodes, *node, &path, loss, dice, written, &|_| true);
            }
            Node::File { durable, pending } => match written.get(node) {
                Some(first) => fs::hard_link(first, &path).expect("our own directory"),
                None => {
                    let mut options = fs::OpenOptions::new();
                    let mut file =
                        options.write(true).create_new(true).mode(0o600).open(&path).expect("our own directory");
                    file.write_all(&content(durable, pending, loss, dice)).expect("our own file");
                    written.insert(*node, path);
                }
            },
        }
    }
}

/// A small generator (SplitMix64), so that a failing run can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }
}

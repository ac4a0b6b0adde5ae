//! Where a path lies: on a volume that this machine encrypts, on one that it does not, or on one of which nobody here can tell.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is known of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Volume {
    /// All of it lies behind dm-crypt.
    Encrypted,
    /// A part of it does not.
    Plain,
    /// Why nobody can tell.
    Unknown(String),
}

/// Where the kernel tells of its devices and mounts.
const DEVICES: &str = "/sys/dev/block";
const MOUNTS: &str = "/proc/self/mountinfo";
/// A device lies on others, those on others again; deeper than this is a loop.
const DEPTH: usize = 8;

impl Volume {
    /// The volume that a path lies on.
    pub(super) fn of(path: &Path) -> Self {
        let mounts = fs::read_to_string(MOUNTS).unwrap_or_default();
        let Ok(found) = fs::metadata(path) else { return Volume::Unknown("it cannot be looked at".to_owned()) };
        judge(Path::new(DEVICES), &mounts, &device(found.dev()))
    }

    /// As the end of a sentence.
    pub(super) fn sentence(&self) -> String {
        match self {
            Volume::Encrypted => "that volume is encrypted".to_owned(),
            Volume::Plain => "that volume is not encrypted by this machine".to_owned(),
            Volume::Unknown(why) => format!("whether that volume is encrypted cannot be told: {why}"),
        }
    }
}

/// As the kernel writes it.
fn device(number: u64) -> String {
    format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number))
}

/// A file system without a block device of its own names the one it lies on, or what it is.
fn judge(devices: &Path, mounts: &str, device: &str) -> Volume {
    let node = devices.join(device);
    if node.exists() {
        return block(&node, DEPTH);
    }
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    let mut lines = mounts.lines().map(fields);
    let Some(mount) = lines.find(|line| line.get(2).is_some_and(|found| found == device)) else {
        return Volume::Unknown("it is on no mount that is seen from here".to_owned());
    };
    let after = mount.iter().position(|field| field == "-").unwrap_or(mount.len());
    let (Some(kind), Some(source)) = (mount.get(after + 1), mount.get(after + 2)) else {
        return Volume::Unknown("the list of mounts is not understood".to_owned());
    };
    match fs::metadata(source).ok().filter(|_| source.starts_with("/dev/")) {
        Some(found) => block(&devices.join(self::device(found.rdev())), DEPTH),
        None => Volume::Unknown(format!("it is of the kind {kind}")),
    }
}

/// A device is encrypted if it is dm-crypt's, or if all that it lies on is.
fn block(node: &Path, depth: usize) -> Volume {
    if !node.exists() || depth == 0 {
        return Volume::Unknown("its device is not known".to_owned());
    }
    let mapped = fs::read_to_string(node.join("dm/uuid")).unwrap_or_default();
    if mapped.starts_with("CRYPT-") {
        return Volume::Encrypted;
    }
    if node.join("loop").exists() {
        return Volume::Unknown("it is a file on another volume".to_owned());
    }
    let below: Vec<PathBuf> =
        node.join("slaves").read_dir().into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path()).collect();
    let mut found = below.iter().map(|node| block(node, depth - 1));
    match found.find(|volume| *volume != Volume::Encrypted) {
        Some(other) => other,
        None if below.is_empty() => Volume::Plain,
        None => Volume::Encrypted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTED: &str = "30 1 0:40 / /cloud rw - nfs4 server:/x rw\n31 1 0:41 / /ram rw shared:3 - tmpfs tmpfs rw\n";

    #[test]
    fn a_volume_is_encrypted_when_all_that_it_lies_on_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let node = |device: &str, uuid: Option<&str>, below: &[&str]| {
            let at = folder.path().join(device);
            fs::create_dir_all(at.join("slaves")).expect("a folder");
            if let Some(uuid) = uuid {
                fs::create_dir(at.join("dm")).expect("a folder");
                fs::write(at.join("dm/uuid"), format!("{uuid}\n")).expect("a file");
            }
            for other in below {
                std::os::unix::fs::symlink(folder.path().join(other), at.join("slaves").join(other)).expect("a link");
            }
        };
        node("8:1", None, &[]);
        node("8:2", None, &[]);
        node("253:0", Some("CRYPT-LUKS2-00ff-disk"), &["8:1"]);
        node("253:1", Some("LVM-abc"), &["253:0"]);
        node("253:2", Some("LVM-def"), &["253:0", "8:2"]);
        node("253:3", Some("LVM-loop"), &["253:3"]);
        fs::create_dir_all(folder.path().join("7:0/loop")).expect("a folder");
        let unknown = |why: &str| Volume::Unknown(why.to_owned());
        let rows = [
            ("8:1", Volume::Plain),
            ("253:0", Volume::Encrypted),
            ("253:1", Volume::Encrypted),
            ("253:2", Volume::Plain),
            ("253:3", unknown("its device is not known")),
            ("7:0", unknown("it is a file on another volume")),
            ("0:40", unknown("it is of the kind nfs4")),
            ("0:41", unknown("it is of the kind tmpfs")),
            ("0:99", unknown("it is on no mount that is seen from here")),
        ];
        for (device, due) in rows {
            assert_eq!(judge(folder.path(), MOUNTED, device), due, "{device}");
        }
    }

    #[test]
    fn the_volume_of_this_folder_is_judged_and_the_sentence_says_how() {
        let sentence = Volume::of(Path::new(".")).sentence();
        assert!(sentence.contains("encrypted"), "{sentence}");
        assert_ne!(Volume::of(Path::new("/nowhere/at/all")), Volume::Plain);
    }
}

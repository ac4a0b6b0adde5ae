//! The Unix socket's place in the file system: a private folder, a private file, and nobody else's socket. A group may be let in.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// What keeps a listener from starting: one sentence that names the address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoListener(pub(crate) String);

/// The Unix socket's file, which is removed at the end if it is still this daemon's.
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = self.path.symlink_metadata().is_ok_and(|now| (now.dev(), now.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file cannot be removed");
        }
    }
}

/// Opens the Unix socket: in a folder that only the daemon's user or the superuser controls, after taking over the file
/// of a daemon that is gone. The members of `group` may connect beside the daemon's user; a folder that is made here lets them pass.
///
/// # Errors
/// [`NoListener`] when the place is not safe, another daemon listens there, or the daemon's user may not use the group.
pub(crate) fn listen_locally(path: &Path, group: Option<u32>) -> Result<(UnixListener, SocketFile), NoListener> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let fails = |what: &str, error: io::Error| NoListener(format!("{what} {}: {error}", path.display()));
    let is_new = !folder.exists();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|e| NoListener(format!("the folder {} of the socket cannot be made: {e}", folder.display())))?;
    judge_folder(folder)?;
    take_over(path)?;
    let listener = UnixListener::bind(path).map_err(|e| fails("cannot listen on", e))?;
    let protect = |path: &Path, mode: u32| {
        let given = group.map_or(Ok(()), |group| chown(path, None, Some(group)));
        given.and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
    };
    protect(path, if group.is_some() { 0o660 } else { 0o600 }).map_err(|e| fails("cannot protect", e))?;
    if is_new && group.is_some() {
        protect(folder, 0o710).map_err(|e| fails("cannot let the group pass to", e))?;
    }
    let metadata = path.symlink_metadata().map_err(|e| fails("cannot find", e))?;
    Ok((listener, SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) }))
}

/// The number of a group: written as a number, or looked up by its name in `/etc/group`.
pub(crate) fn group(name: &str) -> Option<u32> {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    };
    name.parse().ok().or_else(|| fs::read_to_string("/etc/group").ok()?.lines().find_map(of_line))
}

/// Whoever may rename files in the folder may put his own socket in our place.
fn judge_folder(folder: &Path) -> Result<(), NoListener> {
    let metadata = folder
        .metadata()
        .map_err(|e| NoListener(format!("the folder {} of the socket cannot be examined: {e}", folder.display())))?;
    let ours = rustix::process::geteuid().as_raw();
    let (owner, mode) = (metadata.uid(), metadata.mode());
    if owner != 0 && owner != ours {
        return Err(NoListener(format!("the folder {} of the socket belongs to user {owner}", folder.display())));
    }
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(NoListener(format!(
            "the folder {} of the socket can be written by others (mode {:04o})",
            folder.display(),
            mode & 0o7777
        )));
    }
    Ok(())
}

/// Removes the socket file of a daemon that is gone; refuses anything else that is in the way.
fn take_over(path: &Path) -> Result<(), NoListener> {
    let refuse = |why: &str| Err(NoListener(format!("{} {why}", path.display())));
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return refuse(&format!("cannot be examined: {error}")),
        Ok(metadata) => metadata,
    };
    if metadata.file_type().is_symlink() {
        return refuse("is a symbolic link: name the socket itself");
    }
    if !metadata.file_type().is_socket() {
        return refuse("exists and is not a socket");
    }
    let owner = metadata.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return refuse(&format!("belongs to user {owner}"));
    }
    match UnixStream::connect(path) {
        Ok(_) => refuse("is in use: another daemon is listening on it"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "taking over the socket file of a daemon that is gone");
            fs::remove_file(path).or_else(|e| refuse(&format!("is stale and cannot be removed: {e}")))
        }
        Err(error) => refuse(&format!("exists and does not answer: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("temporary folder")
    }

    #[test]
    fn the_socket_and_its_new_folder_are_private_and_the_file_goes_away() {
        let folder = folder();
        let path = folder.path().join("run/deep/hsm.sock");
        let (_listener, file) = listen_locally(&path, None).expect("listening");
        let mode = |path: &Path| path.symlink_metadata().expect("there").mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("parent"))), (0o600, 0o700));
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn the_group_may_pass_the_new_folder_and_connect() {
        let folder = folder();
        let path = folder.path().join("run/hsm.sock");
        let group = rustix::process::getegid().as_raw();
        let (_listener, _file) = listen_locally(&path, Some(group)).expect("listening");
        let mode = |path: &Path| path.symlink_metadata().map(|it| (it.gid(), it.mode() & 0o777)).expect("there");
        assert_eq!((mode(&path), mode(path.parent().expect("parent"))), ((group, 0o660), (group, 0o710)));
    }

    #[test]
    fn a_folder_that_was_there_is_left_as_it_is() {
        let folder = folder();
        let before = folder.path().metadata().expect("there").mode();
        let group = rustix::process::getegid().as_raw();
        let (_listener, _file) = listen_locally(&folder.path().join("hsm.sock"), Some(group)).expect("listening");
        assert_eq!(folder.path().metadata().expect("there").mode(), before);
    }

    #[test]
    fn a_group_is_known_by_number_and_by_name() {
        assert_eq!(group("4711"), Some(4711));
        assert_eq!(group("root"), Some(0));
        assert_eq!(group("no such group"), None);
    }

    #[test]
    fn a_stale_socket_is_taken_over_and_a_live_one_is_not() {
        let folder = folder();
        let path = folder.path().join("hsm.sock");
        drop(UnixListener::bind(&path).expect("bound"));
        let (_listener, _file) = listen_locally(&path, None).expect("taken over");
        let refused = listen_locally(&path, None).err().expect("refused").to_string();
        assert!(refused.contains("another daemon is listening"), "{refused}");
    }

    #[test]
    fn what_is_in_the_way_is_not_removed() {
        let folder = folder();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "precious").expect("written");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).expect("linked");
        for (path, expected) in [(&file, "not a socket"), (&link, "symbolic link")] {
            let refused = listen_locally(path, None).err().expect("refused").to_string();
            assert!(refused.contains(expected), "{refused}");
            assert!(path.symlink_metadata().is_ok());
        }
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused_unless_names_in_it_are_protected() {
        let folder = folder();
        for (mode, fits) in [(0o755, true), (0o777, false), (0o770, false), (0o1777, true)] {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).expect("changed");
            assert_eq!(listen_locally(&folder.path().join("hsm.sock"), None).is_ok(), fits, "{mode:o}");
        }
    }

    /// Only the superuser can give a file to somebody else, so only his tests see this.
    #[test]
    fn what_another_user_made_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = folder();
        let path = folder.path().join("hsm.sock");
        drop(UnixListener::bind(&path).expect("bound"));
        chown(&path, Some(54_321), None).expect("given");
        let refused = listen_locally(&path, None).err().expect("refused").to_string();
        assert!(refused.contains("belongs to user 54321") && path.symlink_metadata().is_ok(), "{refused}");
        fs::remove_file(&path).expect("removed");
        chown(folder.path(), Some(54_321), None).expect("given");
        let refused = listen_locally(&path, None).err().expect("refused").to_string();
        assert!(refused.contains("the folder") && refused.contains("belongs to user 54321"), "{refused}");
    }
}

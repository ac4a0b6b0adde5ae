//! Faults of the operating system, injected into a running program: system calls that fail and a clock that runs elsewhere. The other
//! half is `testdata/faults.c`, which is compiled here and loaded beside the daemon by LD_PRELOAD.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::daemon::workspace;
use crate::tools::{available, run};

/// What a call answers that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// EIO: the disk is broken.
    BrokenDisk,
    /// ENOSPC: the disk is full.
    FullDisk,
    /// EROFS: the disk takes no more writes, as a file system goes on after an error.
    ReadOnly,
}

impl Errno {
    fn number(self) -> i32 {
        match self {
            Errno::BrokenDisk => 5,
            Errno::FullDisk => 28,
            Errno::ReadOnly => 30,
        }
    }
}

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// write, pwrite, writev.
    Write,
    /// fsync, fdatasync.
    Sync,
    /// ftruncate, fallocate.
    Length,
    /// rename, link, unlink, mkdir, rmdir.
    Name,
    /// open for writing, which may make a file.
    Open,
}

impl Calls {
    fn offset(self) -> u64 {
        match self {
            Calls::Write => 0,
            Calls::Sync => 4,
            Calls::Length => 8,
            Calls::Name => 124,
            Calls::Open => 136,
        }
    }
}

const SPARE: u64 = 12;
const SECONDS: u64 = 16;
const FAILED: u64 = 24;
const PATH: u64 = 32;
/// What stands for a kill where an errno would stand.
const KILL: i32 = -9;
/// Where the instant lies at which the clock stands still.
const FROZEN: u64 = 128;
const LEN: usize = 140;

/// The switchboard of one daemon's faults.
pub struct Faults {
    library: PathBuf,
    board: PathBuf,
    file: File,
}

impl Faults {
    /// Compiles the library into a directory; without a C compiler the test is skipped by name.
    ///
    /// # Panics
    /// When the compiler refuses it.
    pub fn prepare(test: &str, dir: &Path) -> Option<Faults> {
        if !available(test, "cc") {
            return None;
        }
        let library = dir.join("faults.so");
        let source = workspace().join("tests/testdata/faults.c");
        run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl")).ok();
        let board = dir.join("faults");
        std::fs::write(&board, [0; LEN]).expect("the world's directory is writable");
        let file = File::options().read(true).write(true).open(&board).expect("our own file");
        Some(Faults { library, board, file })
    }

    /// The variables that the daemon is started with.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("LD_PRELOAD", self.library.clone()), ("FAULTS", self.board.clone())]
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset).expect("our own file");
    }

    /// From now on these calls fail on files whose path holds `part`, after `spare` more that succeed.
    pub fn fail(&self, calls: Calls, errno: Errno, part: &str, spare: i32) {
        let mut path = part.as_bytes().to_vec();
        path.push(0);
        self.put(PATH, &path);
        self.put(SPARE, &spare.to_ne_bytes());
        self.put(calls.offset(), &errno.number().to_ne_bytes());
    }

    /// From now on the program is killed at the first call that changes a file or a name whose path holds `part`, after `spare` more
    /// that succeed.
    pub fn kill(&self, part: &str, spare: i32) {
        self.fail(Calls::Write, Errno::BrokenDisk, part, spare);
        for calls in [Calls::Write, Calls::Sync, Calls::Length, Calls::Name] {
            self.put(calls.offset(), &KILL.to_ne_bytes());
        }
    }

    /// How many calls may still succeed.
    pub fn spare(&self) -> i32 {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, SPARE).expect("our own file");
        i32::from_ne_bytes(bytes)
    }

    /// Everything succeeds again.
    pub fn heal(&self) {
        self.put(0, &[0; 16]);
        self.put(Calls::Name.offset(), &[0; 4]);
        self.put(Calls::Open.offset(), &[0; 4]);
    }

    /// Seconds by which the daemon's wall clock runs ahead of ours.
    pub fn shift_clock(&self, seconds: i64) {
        self.put(SECONDS, &seconds.to_ne_bytes());
    }

    /// The programs' wall clock stands still at an instant; `None` lets it run.
    ///
    /// # Panics
    /// When the clock of this machine stands before 1970.
    pub fn freeze_clock(&self, at: Option<SystemTime>) {
        let since = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        self.put(FROZEN, &at.map_or(0, since).to_ne_bytes());
    }

    /// How many calls have failed so far.
    pub fn failed(&self) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, FAILED).expect("our own file");
        u64::from_ne_bytes(bytes)
    }
}

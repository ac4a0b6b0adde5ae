//! Room on the journal's disk: a warning when little is free, and a stop while there still is some, so that the disk never is full.
//!
//! The records that say so have room of their own: the file's next megabyte, which was set aside while there was enough.

use std::time::{Duration, Instant};

use super::Shared;
use super::pen::{Pen, Room, State};
use crate::audit::entry::{Category, Client, Entry, Fact};

/// What is set aside beyond the end of the file.
const SET_ASIDE: u64 = 1 << 20;
/// How often the disk is looked at while records are written.
const LOOK: Duration = Duration::from_secs(1);
/// Of what is to be free, below this part nothing but the journal's own records is written any more.
const STOP_PART: u64 = 8;

impl Shared {
    /// How much is free, and what that means; nothing if nobody wants to know, or nobody can tell.
    fn room(&self) -> Option<(u64, State)> {
        let wanted = Some(self.files.min_free).filter(|wanted| *wanted > 0)?;
        let free = self.medium.free()?;
        let state = match free {
            free if free < wanted / STOP_PART => State::Short,
            free if free < wanted => State::Low,
            _ => State::Enough,
        };
        Some((free, state))
    }

    /// Looks at the disk, at most once a second, while nobody makes lines or makes them durable. What has changed is recorded; when
    /// too little is free, the journal refuses records from then on.
    pub(super) fn look_at_room(&self, pen: &mut Pen) {
        let recently = pen.room.looked.is_some_and(|looked| looked.elapsed() < LOOK);
        if recently || pen.syncing || pen.forming || pen.failed.is_some() || pen.tail_dirty {
            return;
        }
        pen.room.looked = Some(Instant::now());
        let Some((free, state)) = self.room() else { return };
        if state == State::Enough {
            self.set_aside(pen);
        }
        if state == pen.room.state {
            return;
        }
        pen.room.state = state;
        let op = match state {
            State::Enough => "space_again",
            State::Low => "space_low",
            State::Short => "space_short",
        };
        tracing::warn!(free, wanted = self.files.min_free, op, "free bytes on the journal's disk");
        let entry = Entry::new(Category::Journal, op, Client::Daemon)
            .with_fact("free", Fact::number(free))
            .with_fact("wanted", Fact::number(self.files.min_free));
        let told = self.write_entry(pen, &entry).and_then(|()| self.sync_alone(pen));
        if let Err(error) = told {
            tracing::error!(error = error.detail(), "the journal cannot say so");
        }
        if state == State::Short {
            // The sentence of an error that came before tells more.
            pen.failed.get_or_insert_with(|| format!("only {free} bytes are free on the journal's disk"));
            self.settled.notify_all();
        }
    }

    /// Whether records stay refused because too little is free. They are taken again at twice the amount at which they were refused.
    pub(super) fn is_short_of_room(&self, pen: &mut Pen) -> bool {
        if pen.room.state != State::Short {
            return false;
        }
        let enough = self.files.min_free / STOP_PART * 2;
        let still = self.medium.free().is_some_and(|free| free < enough);
        if !still {
            // The next look says what there is now.
            pen.room = Room { state: State::Low, ..Room::default() };
        }
        still
    }

    fn set_aside(&self, pen: &mut Pen) {
        let (least, most) = (pen.written_len + SET_ASIDE / 2, pen.written_len + SET_ASIDE);
        if !(least..=most).contains(&pen.room.set_aside_to) && self.medium.set_aside(pen.written_len, SET_ASIDE).is_ok()
        {
            pen.room.set_aside_to = most;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use parking_lot::Mutex;

    use super::*;
    use crate::Kind;
    use crate::audit::chain::Head;
    use crate::audit::file::Medium;
    use crate::audit::tests::{TestClock, entry, options};
    use crate::audit::{Durability, Files, Journal, Options};

    /// A disk that is as full as a test says: it takes writes as long as they fit into what was set aside or is free.
    #[derive(Default)]
    struct Disk {
        bytes: Mutex<Vec<u8>>,
        free: AtomicU64,
        set_aside_to: AtomicU64,
    }

    impl Medium for Arc<Disk> {
        fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
            let mut file = self.bytes.lock();
            let end = position + bytes.len() as u64;
            let beyond = end.saturating_sub(self.set_aside_to.load(Ordering::SeqCst).max(file.len() as u64));
            if beyond > self.free.load(Ordering::SeqCst) {
                return Err(io::Error::other("no space left on device"));
            }
            self.free.fetch_sub(beyond, Ordering::SeqCst);
            file.truncate(usize::try_from(position).unwrap());
            file.extend_from_slice(bytes);
            Ok(())
        }

        fn truncate(&self, length: u64) -> io::Result<()> {
            self.bytes.lock().truncate(usize::try_from(length).unwrap());
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn remember(&self, _: &Head) {}

        fn begin_another(&self, _: u64) -> io::Result<()> {
            Err(io::Error::other("one file only"))
        }

        fn free(&self) -> Option<u64> {
            Some(self.free.load(Ordering::SeqCst))
        }

        fn set_aside(&self, position: u64, bytes: u64) -> io::Result<()> {
            self.set_aside_to.store(position + bytes, Ordering::SeqCst);
            Ok(())
        }
    }

    const MIB: u64 = 1 << 20;

    /// How often each record of the journal about its room was written.
    fn told(disk: &Disk) -> [usize; 3] {
        let text = String::from_utf8(disk.bytes.lock().clone()).unwrap();
        ["space_low", "space_short", "space_again"]
            .map(|op| text.lines().filter(|line| line.contains(&format!("\"op\":\"{op}\""))).count())
    }

    /// Writes records until the journal has said so, or takes or refuses them as wanted.
    fn until(journal: &Journal, wanted: impl Fn(bool) -> bool) {
        let begun = Instant::now();
        while !wanted(journal.append(entry(1), 0, Durability::Written).is_ok()) {
            assert!(begun.elapsed().as_secs() < 60, "{:?}", journal.failure());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn little_room_is_told_and_too_little_refuses_records_until_there_is_more() {
        let disk = Arc::new(Disk::default());
        disk.free.store(100 * MIB, Ordering::SeqCst);
        let options = options(std::path::Path::new(""));
        let options = Options { files: Files { min_free: 64 * MIB, ..options.files }, ..options };
        let pen = crate::audit::journal::Pen::empty();
        let journal = Journal::start(Box::new(Arc::clone(&disk)), TestClock::at(0), "00".into(), options, pen);
        until(&journal, |taken| taken && disk.set_aside_to.load(Ordering::SeqCst) >= MIB);
        assert_eq!(told(&disk), [0; 3]);
        disk.free.store(40 * MIB, Ordering::SeqCst);
        until(&journal, |taken| taken && told(&disk) == [1, 0, 0]);
        // From here on not one byte is free: the record that says so goes where room was set aside.
        disk.free.store(0, Ordering::SeqCst);
        until(&journal, |taken| !taken);
        let refused = journal.append(entry(1), 0, Durability::Durable).unwrap_err();
        assert_eq!(refused.kind(), Kind::Device);
        assert!(refused.detail().unwrap().contains("only 0 bytes are free"), "{refused}");
        assert!(journal.failure().is_some(), "the daemon's health tells");
        assert_eq!(told(&disk), [1, 1, 0]);
        // A little more is not enough, or it would come and go.
        disk.free.store(9 * MIB, Ordering::SeqCst);
        assert!(journal.append(entry(1), 0, Durability::Written).is_err());
        disk.free.store(100 * MIB, Ordering::SeqCst);
        until(&journal, |taken| taken && told(&disk) == [1, 1, 1]);
        drop(journal);
        let bytes = disk.bytes.lock().clone();
        crate::audit::chain::verify(bytes.as_slice(), &[]).unwrap();
    }
}

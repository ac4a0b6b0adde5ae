//! A disk in memory for tests: its power goes at any operation, and then it keeps, drops, tears or reorders what was not synced; or one
//! operation fails.

use parking_lot::Mutex;
use std::io::{Error as IoError, Result as IoResult};
use std::sync::Arc;

/// The unit in which a disk writes or does not write.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Pending {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Pending::Length(length) => image.resize(*length, 0),
            Pending::Write(at, data) => image[*at..*at + data.len()].copy_from_slice(data),
        }
    }
}

/// What the platter holds of the unsynced operations once the power is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Everything had been written.
    Nothing,
    /// Nothing had.
    Everything,
    /// Each sector had or had not.
    Some,
    /// The same, and of two writes to one place the older came last.
    Reordered,
    /// All bytes within the length that the file had; it did not become longer.
    Length,
}

impl Loss {
    pub(super) const ALL: [Loss; 5] = [Loss::Nothing, Loss::Everything, Loss::Some, Loss::Reordered, Loss::Length];
}

/// How one operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// EIO.
    Broken,
    /// ENOSPC.
    Full,
    /// Half of a write is done, then ENOSPC.
    Short,
}

impl Fault {
    pub(super) const ALL: [Fault; 3] = [Fault::Broken, Fault::Full, Fault::Short];

    fn error(self) -> IoError {
        IoError::from_raw_os_error(if self == Fault::Broken { 5 } else { 28 })
    }
}

/// What an observer sees before each operation.
#[derive(Default)]
pub(super) struct State {
    durable: Vec<u8>,
    /// What a reader sees while the power is on.
    seen: Vec<u8>,
    pending: Vec<Pending>,
    /// Operations until the power goes; `None` is never.
    left: Option<usize>,
    /// Operations until one fails.
    fault: Option<(usize, Fault)>,
    done: usize,
    watch: Option<Watch>,
}

type Watch = Box<dyn FnMut(usize, &State) + Send>;

impl State {
    /// What the platter holds if the power goes now.
    pub(super) fn crashed(&self, loss: Loss, dice: &mut Dice) -> Vec<u8> {
        let mut image = self.durable.clone();
        let length = image.len();
        let mut pending: Vec<Pending> = self.pending.iter().flat_map(sectors).collect();
        if loss == Loss::Reordered {
            // Lengths first, in their order: what was written early has room.
            let (lengths, mut writes): (Vec<_>, Vec<_>) =
                pending.into_iter().partition(|one| matches!(one, Pending::Length(_)));
            (1..writes.len()).for_each(|at| writes.swap(at, dice.below(at + 1)));
            pending = [lengths, writes].concat();
        }
        for one in pending {
            let keep = match (loss, &one) {
                (Loss::Nothing, _) => true,
                (Loss::Everything, _) => false,
                (Loss::Some | Loss::Reordered, _) => dice.below(2) == 0,
                (Loss::Length, Pending::Length(_)) => false,
                (Loss::Length, Pending::Write(at, data)) => at + data.len() <= length,
            };
            let fits = match &one {
                Pending::Write(at, data) => at + data.len() <= image.len(),
                Pending::Length(_) => true,
            };
            if keep && fits {
                one.apply(&mut image);
            }
        }
        image
    }

    fn step(&mut self) -> IoResult<Option<Fault>> {
        if let Some(mut watch) = self.watch.take() {
            watch(self.done, self);
            self.watch = Some(watch);
        }
        self.done += 1;
        match &mut self.left {
            None => {}
            Some(0) => return Err(IoError::other("the power is gone")),
            Some(left) => *left -= 1,
        }
        match &mut self.fault {
            None => Ok(None),
            Some((0, fault)) => {
                let fault = *fault;
                self.fault = None;
                Ok(Some(fault))
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(None)
            }
        }
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        self.seen[at..at + data.len()].copy_from_slice(data);
        self.pending.push(Pending::Write(at, data.to_vec()));
    }
}

/// An operation in parts that are done or not.
fn sectors(one: &Pending) -> Vec<Pending> {
    match one {
        Pending::Length(length) => vec![Pending::Length(*length)],
        Pending::Write(at, data) => {
            let chunk = |(number, bytes): (usize, &[u8])| Pending::Write(at + number * SECTOR, bytes.to_vec());
            data.chunks(SECTOR).enumerate().map(chunk).collect()
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl core::fmt::Debug for Disk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    pub(super) fn with(image: Vec<u8>) -> Disk {
        Disk(Arc::new(Mutex::new(State { durable: image.clone(), seen: image, ..State::default() })))
    }

    pub(super) fn operations(&self) -> usize {
        self.0.lock().done
    }

    /// The power goes after so many operations.
    pub(super) fn stop_after(&self, operations: usize) {
        self.0.lock().left = Some(operations);
    }

    /// After so many operations one fails.
    pub(super) fn fail_after(&self, operations: usize, fault: Fault) {
        self.0.lock().fault = Some((operations, fault));
    }

    /// Whether the operation that was to fail has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.0.lock().fault.is_none()
    }

    /// Has every operation observed before it is done.
    pub(super) fn watch(&self, watch: impl FnMut(usize, &State) + Send + 'static) {
        self.0.lock().watch = Some(Box::new(watch));
    }

    /// Nobody observes it any more.
    pub(super) fn unwatched(&self) {
        drop(self.0.lock().watch.take());
    }

    /// The disk after the power has gone: all that was not synced is there, or nothing of it.
    pub(super) fn after_crash(&self, keep: bool) -> Disk {
        Disk::with(self.crash(&mut || keep))
    }

    /// What the next process finds while the power stays on.
    pub(super) fn seen(&self) -> Vec<u8> {
        self.0.lock().seen.clone()
    }

    /// What the platter holds after the power has gone like that.
    pub(super) fn crashed(&self, loss: Loss, dice: &mut Dice) -> Vec<u8> {
        self.0.lock().crashed(loss, dice)
    }

    /// What the platter holds after the crash: of the unsynced sectors, those that `keep` says.
    pub(super) fn crash(&self, keep: &mut dyn FnMut() -> bool) -> Vec<u8> {
        let state = self.0.lock();
        let mut image = state.durable.clone();
        for one in state.pending.iter().flat_map(sectors) {
            let kept = keep();
            let fits = !matches!(&one, Pending::Write(at, data) if at + data.len() > image.len());
            if kept && fits {
                one.apply(&mut image);
            }
        }
        image
    }
}

impl ::redb::StorageBackend for Disk {
    fn len(&self) -> IoResult<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> IoResult<()> {
        let state = self.0.lock();
        let at = usize::try_from(offset).unwrap();
        let bytes = state.seen.get(at..at + out.len()).ok_or_else(|| IoError::other("beyond the end"))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> IoResult<()> {
        let mut state = self.0.lock();
        if let Some(fault) = state.step()? {
            return Err(fault.error());
        }
        let len = usize::try_from(len).unwrap();
        state.seen.resize(len, 0);
        state.pending.push(Pending::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> IoResult<()> {
        let mut state = self.0.lock();
        if let Some(fault) = state.step()? {
            return Err(fault.error());
        }
        let state = &mut *state;
        for one in state.pending.drain(..) {
            one.apply(&mut state.durable);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> IoResult<()> {
        let mut state = self.0.lock();
        let at = usize::try_from(offset).unwrap();
        match state.step()? {
            None => state.write(at, data),
            Some(fault) => {
                if fault == Fault::Short {
                    state.write(at, &data[..data.len() / 2]);
                }
                return Err(fault.error());
            }
        }
        Ok(())
    }
}

/// A small generator (SplitMix64), so that a failing run can be repeated.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn of(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }
}

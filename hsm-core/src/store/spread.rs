//! The same work on many rows, spread over the processors: opening and checking a row costs far more than reading it. A few rows are
//! done where they are; the threads exist only while there is work.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use parking_lot::Mutex;

use super::{StoreError, Visit};

/// So many rows go to a worker at once.
const BATCH: usize = 512;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Runs `work` on every row that `scan` visits, in any order, each worker on a sum of its own that `fresh` makes: the sums.
///
/// # Errors
/// What `work` refused first, as far as that can be said; else what stopped the scan.
pub(super) fn over_rows<T: Send, E: Send + From<StoreError>>(
    scan: impl FnOnce(Visit<'_>) -> Result<(), StoreError>,
    fresh: impl Fn() -> T + Sync,
    work: impl Fn(&mut T, &[u8], &[u8]) -> Result<(), E> + Sync,
) -> Result<Vec<T>, E> {
    let (sender, receiver) = sync_channel::<Rows>(8);
    let receiver = Mutex::new(receiver);
    let one = |receiver: &Mutex<Receiver<Rows>>| {
        let mut sum = fresh();
        let mut outcome = Ok(());
        // After a refusal the rest is taken and dropped, so that the scan need not wait for ever.
        while let Ok(rows) = { receiver.lock().recv() } {
            if outcome.is_ok() {
                outcome = rows.iter().try_for_each(|(key, row)| work(&mut sum, key, row));
            }
        }
        outcome.map(|()| sum)
    };
    thread::scope(|scope| {
        let mut workers = Vec::new();
        let mut rows = Rows::new();
        let scanned = scan(&mut |key, row| {
            if rows.len() == BATCH {
                if workers.is_empty() {
                    let processors = thread::available_parallelism().map_or(1, usize::from);
                    workers.extend((0..processors).map(|_| scope.spawn(|| one(&receiver))));
                }
                // Whoever could refuse the rows ends after the sender.
                sender.send(std::mem::take(&mut rows)).map_err(|_| StoreError::Corrupt("a worker ended".into()))?;
            }
            rows.push((key.to_vec(), row.to_vec()));
            Ok(())
        });
        drop(sender);
        let mut sum = fresh();
        let rest = rows.iter().try_for_each(|(key, row)| work(&mut sum, key, row)).map(|()| sum);
        let mut sums = Vec::with_capacity(workers.len() + 1);
        for worker in workers {
            sums.push(worker.join().map_err(|_| StoreError::Corrupt("a worker panicked".into()))??);
        }
        sums.push(rest?);
        scanned?;
        Ok(sums)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(count: u32) -> impl FnOnce(Visit<'_>) -> Result<(), StoreError> {
        move |visit| (0..count).try_for_each(|number| visit(&number.to_be_bytes(), b"row"))
    }

    fn sum(count: u32, bad: Option<u32>) -> Result<u64, StoreError> {
        let add = |sum: &mut u64, key: &[u8], _: &[u8]| {
            let number = u32::from_be_bytes(key.try_into().expect("four bytes"));
            *sum += u64::from(number);
            if Some(number) == bad { Err(StoreError::Corrupt(format!("row {number}"))) } else { Ok(()) }
        };
        over_rows(scan(count), || 0, add).map(|sums| sums.into_iter().sum())
    }

    #[test]
    fn every_row_is_worked_on_once() {
        for count in [0, 1, 511, 512, 513, 5000, 20_000] {
            assert_eq!(sum(count, None).expect("no refusal"), (0..u64::from(count)).sum::<u64>(), "{count} rows");
        }
    }

    #[test]
    fn a_refusal_is_told_wherever_the_row_is() {
        for (count, bad) in [(3, 1), (5000, 0), (5000, 4999), (20_000, 700)] {
            let error = sum(count, Some(bad)).expect_err("refused").to_string();
            assert!(error.contains(&format!("row {bad}")), "{error}");
        }
    }

    #[test]
    fn a_scan_that_fails_is_told() {
        let broken = |visit: Visit<'_>| visit(b"key", b"row").and(Err(StoreError::Corrupt("torn".into())));
        let outcome = over_rows::<u32, StoreError>(broken, || 0, |_, _, _| Ok(()));
        assert!(outcome.is_err_and(|error| error.to_string().contains("torn")));
    }
}

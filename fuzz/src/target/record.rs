//! The smallest things that come back from a disk or from paper: one record of a store, one share of a key.

use std::cell::OnceCell;

use hsm_core::SecretBytes;
use hsm_core::backup::{Share, combine_shares, new_shares};
use hsm_core::door::{Opened, Records};

use super::archive::change;
use crate::feedback;
use crate::input::Input;

thread_local! {
    static RECORDS: OnceCell<Records> = const { OnceCell::new() };
    static SHARES: OnceCell<(SecretBytes, Vec<String>)> = const { OnceCell::new() };
}

/// Only the original opens, at its own place.
pub(crate) fn record(bytes: &[u8]) {
    RECORDS.with(|records| {
        let records = records.get_or_init(|| Records::new().expect("random numbers"));
        let mut input = Input::new(bytes);
        match input.below(8) {
            0 => return feedback::note(("bodies", records.read_bodies(input.rest()))),
            1 => return manifest(&mut input, records),
            _ => {}
        }
        let (from, at, summed) = (input.below(records.count()), input.below(records.count()), input.one_in(2));
        let (mut key, mut row) = (records.original(from).0.to_vec(), records.original(from).1.to_vec());
        match input.below(4) {
            0 => change(&mut input, &mut key),
            1 => key = records.original(at).0.to_vec(),
            _ => {}
        }
        match input.below(4) {
            // As it is, perhaps elsewhere.
            0 => {}
            // Into the header, which is short.
            1 => {
                let place = input.below(136).min(row.len() - 1);
                row[place] = input.byte();
            }
            2 => row = input.rest().to_vec(),
            _ => change(&mut input, &mut row),
        }
        let opened = records.open(at, &key, &row, summed);
        let (own_key, own_row) = records.original(at);
        // The element of the sum was made again: what it was before does not matter.
        let compared = own_row.len() - if summed { 32 } else { 0 };
        let is_original = key == own_key && row.len() == own_row.len() && row[..compared] == own_row[..compared];
        if let Opened::Refused(why) = &opened {
            feedback::note(("record", at, summed, why.chars().filter(|c| c.is_alphabetic()).collect::<String>()));
        }
        assert_eq!(matches!(opened, Opened::Taken(_)), is_original, "{opened:?}");
    });
}

fn manifest(input: &mut Input<'_>, records: &Records) {
    let mut row = records.manifest().to_vec();
    change(input, &mut row);
    let taken = records.is_manifest(&row);
    feedback::note(("manifest", taken, row.len() == records.manifest().len()));
    assert_eq!(taken, row == records.manifest(), "a changed manifest");
}

/// A slip is found; who changes a share and its check sum gets another key.
pub(crate) fn share(bytes: &[u8]) {
    SHARES.with(|shares| {
        let (key, texts) = shares.get_or_init(|| {
            let (key, shares) = new_shares(2, 3).expect("random numbers");
            (key, shares.iter().map(|share| share.to_text().to_string()).collect())
        });
        let mut input = Input::new(bytes);
        let (mine, other) = (input.below(3), input.below(3));
        let mut text = texts[mine].clone().into_bytes();
        match input.below(4) {
            0 => text = input.rest().to_vec(),
            1 => text.make_ascii_uppercase(),
            _ => change(&mut input, &mut text),
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let Ok(share) = Share::parse(&text) else { return feedback::note(("no share", text.len() / 16)) };
        let again = Share::parse(&share.to_text()).expect("what was written is read");
        assert!(again.set() == share.set() && again.index() == share.index());
        let (set, index) = (share.set(), share.index());
        let is_mine = share.to_text().as_str() == texts[mine];
        let other_share = Share::parse(&texts[other]).expect("an original");
        let combined = combine_shares(&[share, other_share]);
        feedback::note(("share", is_mine, index, set.threshold, combined.is_ok()));
        assert_eq!(combined.is_ok_and(|(_, found)| found == *key), is_mine && mine != other);
    });
}

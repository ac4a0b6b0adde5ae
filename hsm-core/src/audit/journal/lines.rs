//! Lines that are written and not known to be durable, and the hashes of their leaves.

use crate::audit::chain::Head;
use crate::audit::draft::{Draft, Stamp};
use crate::audit::merkle::{Hash, Tree};

/// How much room a line of usual facts needs.
const USUAL: usize = 640;
/// What is kept of the room of a group: that of some thousand lines. A disk that keeps an fsync waiting makes a group that is much larger, once.
const KEPT_BYTES: usize = 4 << 20;

/// Lines, one after another, as they are in the file.
#[derive(Default)]
pub(super) struct Lines {
    text: Vec<u8>,
    leaves: Vec<Hash>,
}

impl Lines {
    /// The lines, each with its line feed.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The length of the text.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Makes room for so many lines.
    pub(super) fn reserve(&mut self, count: usize) {
        self.text.reserve(count * USUAL);
        self.leaves.reserve(count);
    }

    /// Appends one line with its line feed, and gives its head.
    pub(super) fn push(&mut self, draft: &Draft, stamp: &Stamp<'_>) -> Head {
        let hash = draft.stamp(stamp, &mut self.text);
        self.text.push(b'\n');
        self.leaves.push(hash);
        Head { seq: stamp.seq, hash }
    }

    /// Takes back the last line, which began there.
    pub(super) fn take_back(&mut self, start: usize) {
        self.text.truncate(start);
        self.leaves.pop();
    }

    /// Appends later lines.
    pub(super) fn extend(&mut self, later: &Lines) {
        self.text.extend_from_slice(&later.text);
        self.leaves.extend_from_slice(&later.leaves);
    }

    /// Forgets the lines and keeps their room.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.leaves.clear();
        self.text.shrink_to(KEPT_BYTES);
        self.leaves.shrink_to(KEPT_BYTES / USUAL);
    }

    /// Adds the lines to the tree.
    pub(super) fn grow(&self, tree: &mut Tree) {
        self.leaves.iter().for_each(|leaf| tree.push(*leaf));
    }

    /// Adds the last line to the tree.
    pub(super) fn grow_by_last(&self, tree: &mut Tree) {
        self.leaves.last().into_iter().for_each(|leaf| tree.push(*leaf));
    }
}

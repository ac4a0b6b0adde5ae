//! The Merkle tree over the journal's lines (RFC 6962, section 2.1): leaf hash of a line, root, and proofs that a line is in the tree.
//!
//! [`Tree`] is a compact range: of any number of leaves it keeps the roots of the perfect subtrees, one per bit of the count,
//! which is all that the next leaf and the root need. A tree of all leaves is built nowhere; a proof reads the lines again.

use sha2::{Digest, Sha256};

/// A hash of the tree.
pub(super) type Hash = [u8; 32];

/// The hash of a leaf: a line without its line feed.
pub(super) fn leaf(line: &[u8]) -> Hash {
    LeafHasher::new().chain(line).finish()
}

/// The hash of a leaf of which not all is there yet.
#[derive(Clone)]
pub(super) struct LeafHasher(Sha256);

impl LeafHasher {
    pub(super) fn new() -> Self {
        LeafHasher(Sha256::new().chain_update([0]))
    }

    /// With a further part of the line.
    pub(super) fn chain(self, part: &[u8]) -> Self {
        LeafHasher(self.0.chain_update(part))
    }

    pub(super) fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The tree of the lines so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    size: u64,
    /// Roots of the perfect subtrees from left to right: one for each bit that is set in `size`, the highest first.
    peaks: Vec<Hash>,
}

impl Tree {
    /// How many leaves there are.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The subtree roots, as a segment's first record carries them.
    pub(super) fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// A tree from its size and subtree roots; `None` if their number does not fit the size.
    pub(super) fn from_peaks(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (usize::try_from(size.count_ones()).ok() == Some(peaks.len())).then_some(Tree { size, peaks })
    }

    /// Adds a leaf's hash.
    pub(super) fn push(&mut self, leaf: Hash) {
        let mut joined = leaf;
        // A set bit at the low end is a subtree as large as the one that is being added: the two become one.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                joined = node(&left, &joined);
            }
        }
        self.peaks.push(joined);
        self.size += 1;
    }

    /// Adds the leaves of a range that begins where the tree ends; false, and nothing is added, if these hashes are not those of one.
    pub(super) fn extend(&mut self, end: u64, hashes: &[Hash]) -> bool {
        let Some(levels) = levels(self.size, end).filter(|levels| levels.len() == hashes.len()) else { return false };
        for (level, hash) in levels.into_iter().zip(hashes) {
            let mut joined = *hash;
            for _ in 0..(self.size >> level).trailing_ones() {
                if let Some(left) = self.peaks.pop() {
                    joined = node(&left, &joined);
                }
            }
            self.peaks.push(joined);
            self.size += 1 << level;
        }
        true
    }

    /// The root; of a tree without leaves, the hash of nothing.
    pub(super) fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Sha256::digest([]).into() };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// The leaves from one on, as the roots of the largest subtrees that lie wholly among them: what a tree that ends where they begin needs to
/// become the tree that ends where they end, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    begin: u64,
    end: u64,
    /// Level and root, from left to right; a subtree of level n has 2^n leaves.
    nodes: Vec<(u32, Hash)>,
}

impl Range {
    /// No leaves yet; the first will be the one with this index.
    pub(super) fn begin_at(begin: u64) -> Self {
        Range { begin, end: begin, nodes: Vec::new() }
    }

    /// All leaves of a tree.
    pub(super) fn of(tree: &Tree) -> Self {
        let levels = levels(0, tree.size).unwrap_or_default();
        Range { begin: 0, end: tree.size, nodes: levels.into_iter().zip(tree.peaks.iter().copied()).collect() }
    }

    /// The index of the first leaf.
    pub(super) fn begin(&self) -> u64 {
        self.begin
    }

    /// The index after the last leaf.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Adds a leaf's hash.
    pub(super) fn push(&mut self, leaf: Hash) {
        let (mut level, mut start, mut joined) = (0, self.end, leaf);
        self.end += 1;
        while let Some((last, left)) = self.nodes.last() {
            let before = start - (1 << level).min(start);
            if *last != level || before % (2 << level) != 0 {
                break;
            }
            joined = node(left, &joined);
            self.nodes.pop();
            (level, start) = (level + 1, before);
        }
        self.nodes.push((level, joined));
    }

    /// The roots.
    pub(super) fn hashes(&self) -> Vec<Hash> {
        self.nodes.iter().map(|(_, hash)| *hash).collect()
    }
}

/// The levels of the largest subtrees between two leaves, from left to right; `None` when the end is before the beginning.
fn levels(begin: u64, end: u64) -> Option<Vec<u32>> {
    let mut rest = end.checked_sub(begin)?;
    let (mut at, mut levels) = (begin, Vec::new());
    while rest > 0 {
        let level = at.trailing_zeros().min(rest.ilog2());
        levels.push(level);
        at += 1 << level;
        rest -= 1 << level;
    }
    Some(levels)
}

/// The proof that the leaf at `index` (from 0) is in the tree of these leaves, from the leaf upward (RFC 6962, section 2.1.1);
/// `None` when there is no such leaf.
pub(super) fn inclusion(index: usize, leaves: &[Hash]) -> Option<Vec<Hash>> {
    leaves.get(index)?;
    let mut path = Vec::new();
    let (mut index, mut part) = (index, leaves);
    // From the root downward: the half without the leaf belongs to the proof.
    while part.len() > 1 {
        let (left, right) = part.split_at(part.len().next_power_of_two() / 2);
        if index < left.len() {
            path.push(root_of(right));
            part = left;
        } else {
            path.push(root_of(left));
            index -= left.len();
            part = right;
        }
    }
    path.reverse();
    Some(path)
}

fn root_of(leaves: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

/// The root that a leaf and its proof lead to; `None` for a proof of the wrong length (RFC 9162, section 2.1.3.2).
pub(super) fn root_by(path: &[Hash], index: u64, size: u64, leaf: Hash) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            hash = node(sibling, &hash);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            hash = node(&hash, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|number| leaf(&number.to_be_bytes())).collect()
    }

    /// RFC 6962 section 2.1, as it is written there.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [only] => *only,
            many => {
                let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
                node(&defined(left), &defined(right))
            }
        }
    }

    #[test]
    fn the_root_is_the_one_that_is_defined() {
        let all = leaves(130);
        let mut tree = Tree::default();
        for count in 0..all.len() {
            assert_eq!(tree.root(), defined(&all[..count]), "{count} leaves");
            assert_eq!(Tree::from_peaks(tree.size(), tree.peaks().to_vec()), Some(tree.clone()));
            tree.push(all[count]);
        }
        assert_eq!(Tree::from_peaks(3, vec![[0; 32]]), None);
    }

    #[test]
    fn a_proof_leads_from_its_leaf_to_the_root_and_from_no_other() {
        for size in 1..=33 {
            let all = leaves(size);
            let root = defined(&all);
            for index in 0..size {
                let path = inclusion(index as usize, &all).unwrap();
                assert_eq!(root_by(&path, index, size, all[index as usize]), Some(root), "{index} of {size}");
                assert_ne!(root_by(&path, index, size, leaf(b"another")), Some(root));
                if let Some((_, shorter)) = path.split_first() {
                    assert_ne!(root_by(shorter, index, size, all[index as usize]), Some(root));
                }
                let other = (index + 1) % size;
                if size > 1 {
                    assert_ne!(root_by(&path, other, size, all[index as usize]), Some(root));
                }
            }
            assert_eq!(inclusion(size as usize, &all), None);
        }
    }

    #[test]
    fn a_tree_grows_by_any_range_to_the_tree_of_all_leaves() {
        let all = leaves(70);
        let tree_of = |count: usize| {
            let mut tree = Tree::default();
            all[..count].iter().for_each(|leaf| tree.push(*leaf));
            tree
        };
        for begin in 0..all.len() {
            let mut range = Range::begin_at(begin as u64);
            for (end, leaf) in all.iter().enumerate().skip(begin) {
                let mut tree = tree_of(begin);
                assert!(tree.extend(end as u64, &range.hashes()), "{begin}..{end}");
                assert_eq!(tree, tree_of(end), "{begin}..{end}");
                assert!(!tree_of(begin).extend(end as u64, &[range.hashes(), vec![[0; 32]]].concat()));
                range.push(*leaf);
            }
            assert_eq!(Range::of(&tree_of(begin)).hashes(), tree_of(begin).peaks());
        }
        assert!(!tree_of(3).extend(2, &[]));
        assert!(!tree_of(3).extend(u64::MAX, &[]));
    }
}

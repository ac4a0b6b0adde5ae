//! The Merkle tree of the journal (RFC 6962 section 2.1): hashes of leaves and nodes, the root of any size, and the proofs that a leaf
//! is in the tree and that a tree goes on from an earlier one.
//!
//! The tree keeps the root of every perfect subtree, each written once and never changed, so that a root or a proof reads as many
//! of them as the tree is high.
//!
//! The token's journal has a tree of the same kind (`hsm-core/src/audit/merkle.rs`). The pki links nothing of the token, so this one is written
//! for itself; what it says is checked by `verify_journal.py`, which shares no line with either.

use super::StoreError;
use sha2::{Digest, Sha256};

/// A hash of the tree.
pub(crate) type Hash = [u8; 32];

/// The hash of a leaf.
pub(crate) fn leaf(line: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(line).finalize().into()
}

/// The hash of a node.
pub(crate) fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Where the roots of the perfect subtrees are: the one at `index` of `level` stands above 2^level leaves.
pub(crate) trait Nodes {
    /// The root of a perfect subtree.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, StoreError>;
}

/// The root of the tree of the first `size` leaves; of none, the hash of nothing.
///
/// # Errors
/// When a subtree cannot be read.
pub(crate) fn root(nodes: &impl Nodes, size: u64) -> Result<Hash, StoreError> {
    if size == 0 { Ok(Sha256::digest([]).into()) } else { range(nodes, 0, size) }
}

/// The largest power of two below a number above 1.
fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// The root over the leaves from `begin`, which is a multiple of the largest subtree inside.
fn range(nodes: &impl Nodes, begin: u64, count: u64) -> Result<Hash, StoreError> {
    if count.is_power_of_two() {
        let level = u8::try_from(count.trailing_zeros()).expect("a 64-bit number has at most 64 bits");
        return nodes.subtree(level, begin / count);
    }
    let left = split(count);
    Ok(node(&range(nodes, begin, left)?, &range(nodes, begin + left, count - left)?))
}

/// The proof that the leaf at `index` is in the tree of `size` leaves, from the leaf upward; `None` when it is not (RFC 6962 section
/// 2.1.1).
///
/// # Errors
/// When a subtree cannot be read.
pub(crate) fn inclusion(nodes: &impl Nodes, index: u64, size: u64) -> Result<Option<Vec<Hash>>, StoreError> {
    if index >= size {
        return Ok(None);
    }
    let (mut begin, mut count, mut path) = (0, size, Vec::new());
    while count > 1 {
        let left = split(count);
        if index < begin + left {
            path.push(range(nodes, begin + left, count - left)?);
            count = left;
        } else {
            path.push(range(nodes, begin, left)?);
            (begin, count) = (begin + left, count - left);
        }
    }
    path.reverse();
    Ok(Some(path))
}

/// The proof that the tree of `size` leaves begins with the `earlier` leaves; `None` when there are not so many (RFC 6962 section
/// 2.1.2).
///
/// # Errors
/// When a subtree cannot be read.
pub(crate) fn consistency(nodes: &impl Nodes, earlier: u64, size: u64) -> Result<Option<Vec<Hash>>, StoreError> {
    if earlier > size {
        return Ok(None);
    }
    if earlier == 0 || earlier == size {
        return Ok(Some(Vec::new()));
    }
    let (mut begin, mut count, mut wanted, mut path) = (0, size, earlier, Vec::new());
    // Down to the subtree that ends where the earlier tree ended.
    while wanted < count {
        let left = split(count);
        if wanted <= left {
            path.push(range(nodes, begin + left, count - left)?);
            count = left;
        } else {
            path.push(range(nodes, begin, left)?);
            (begin, count, wanted) = (begin + left, count - left, wanted - left);
        }
    }
    // Who knows the earlier root knows that subtree, when it is the whole earlier tree.
    if begin > 0 {
        path.push(range(nodes, begin, count)?);
    }
    path.reverse();
    Ok(Some(path))
}

/// The root that a leaf and its proof lead to; `None` for a proof of the wrong length (RFC 9162 section 2.1.3.2).
pub(crate) fn root_by(path: &[Hash], index: u64, size: u64, leaf: Hash) -> Option<Hash> {
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
            while at.is_multiple_of(2) && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            hash = node(&hash, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    (last == 0).then_some(hash)
}

/// Whether a proof shows that the tree of `size` leaves goes on from the tree of `earlier` (RFC 9162 section 2.1.4.2).
pub(crate) fn goes_on(path: &[Hash], earlier: (u64, Hash), later: (u64, Hash)) -> bool {
    let ((first, first_root), (second, second_root)) = (earlier, later);
    if first == 0 || first > second {
        return first == 0 && path.is_empty();
    }
    if first == second {
        return path.is_empty() && first_root == second_root;
    }
    let mut hashes = path.iter();
    let (mut at, mut last) = (first - 1, second - 1);
    while at % 2 == 1 {
        (at, last) = (at / 2, last / 2);
    }
    let begin = if first.is_power_of_two() { Some(&first_root) } else { hashes.next() };
    let Some(begin) = begin else { return false };
    let (mut old, mut new) = (*begin, *begin);
    for sibling in hashes {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            (old, new) = (node(sibling, &old), node(sibling, &new));
            while at.is_multiple_of(2) && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            new = node(&new, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    last == 0 && old == first_root && new == second_root
}

/// The subtrees that become complete with one more leaf at `index`: their places and roots, from the leaf upward.
///
/// # Errors
/// When a subtree to the left cannot be read.
pub(crate) fn grown(nodes: &impl Nodes, index: u64, leaf: Hash) -> Result<Vec<(u8, u64, Hash)>, StoreError> {
    let (mut level, mut at, mut hash) = (0u8, index, leaf);
    let mut grown = vec![(level, at, hash)];
    while at % 2 == 1 {
        hash = node(&nodes.subtree(level, at - 1)?, &hash);
        (level, at) = (level + 1, at / 2);
        grown.push((level, at, hash));
    }
    Ok(grown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Memory(BTreeMap<(u8, u64), Hash>);

    impl Nodes for Memory {
        fn subtree(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
            self.0.get(&(level, index)).copied().ok_or_else(|| StoreError::Damaged("no such subtree".to_owned()))
        }
    }

    fn tree(size: u64) -> Memory {
        let mut memory = Memory::default();
        for index in 0..size {
            for (level, at, hash) in grown(&memory, index, leaf(&index.to_be_bytes())).expect("grows") {
                memory.0.insert((level, at), hash);
            }
        }
        memory
    }

    /// RFC 6962 section 2.1, as it is written there.
    fn defined(begin: u64, count: u64) -> Hash {
        match count {
            0 => Sha256::digest([]).into(),
            1 => leaf(&begin.to_be_bytes()),
            count => {
                let left = split(count);
                node(&defined(begin, left), &defined(begin + left, count - left))
            }
        }
    }

    #[test]
    fn the_root_is_the_one_that_is_defined() {
        let memory = tree(70);
        for size in 0..=70 {
            assert_eq!(root(&memory, size), Ok(defined(0, size)), "{size}");
        }
    }

    #[test]
    fn a_leaf_is_proved_into_its_tree_and_no_other() {
        let memory = tree(40);
        for size in 1..=40 {
            for index in 0..size {
                let path = inclusion(&memory, index, size).expect("reads").expect("is there");
                let (this, wanted) = (leaf(&index.to_be_bytes()), Some(defined(0, size)));
                assert_eq!(root_by(&path, index, size, this), wanted, "{index} of {size}");
                assert_ne!(root_by(&path, index, size, leaf(b"another")), wanted);
                if size > 1 {
                    assert_ne!(root_by(&path[1..], index, size, this), wanted);
                    assert_ne!(root_by(&path, (index + 1) % size, size, this), wanted);
                }
            }
            assert_eq!(inclusion(&memory, size, size), Ok(None));
        }
    }

    #[test]
    fn a_tree_is_proved_to_go_on_from_an_earlier_one() {
        let memory = tree(40);
        for size in 1..=40 {
            for earlier in 1..=size {
                let path = consistency(&memory, earlier, size).expect("reads").expect("is there");
                let (old, new) = ((earlier, defined(0, earlier)), (size, defined(0, size)));
                assert!(goes_on(&path, old, new), "{earlier} to {size}");
                assert!(!goes_on(&path, (earlier, [7; 32]), new), "{earlier} to {size}");
                assert!(!goes_on(&path, old, (size, [7; 32])), "{earlier} to {size}");
                if let Some((_, shorter)) = path.split_first() {
                    assert!(!goes_on(shorter, old, new), "{earlier} to {size}");
                }
            }
            assert_eq!(consistency(&memory, size + 1, size), Ok(None));
        }
    }
}

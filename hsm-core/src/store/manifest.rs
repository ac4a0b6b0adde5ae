//! The manifest: one row that says how the whole store must look (`format.md` section 6).
//!
//! The set hash is an exclusive or of one keyed hash per record. Such a sum alone could be forged by its linearity; here
//! it is safe because the manifest's tag covers it together with the generation.

use super::layout;
use super::seal::StoreKeys;
use subtle::ConstantTimeEq;

const MAGIC: &[u8; 4] = b"HSMF";
const FORMAT: u8 = 1;
const FIELDS_LEN: usize = 128;
const LEN: usize = FIELDS_LEN + 32;

/// An entry's place in the journal's chain; sequence 0 stands for the empty journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LedgerHead {
    /// Its sequence number.
    pub(crate) sequence: u64,
    /// The chain's hash up to and including it.
    pub(crate) hash: [u8; 32],
}

/// What the store must add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Rises by one with every change; several changes may share a transaction.
    pub(crate) generation: u64,
    /// Sealed records in all tables.
    pub(crate) records: u64,
    /// No write so far had this number or a higher one.
    pub(crate) next_version: u64,
    /// Exclusive or of the records' set elements.
    pub(crate) set: [u8; 32],
    /// The newest journal entry known to be durable when this was written.
    pub(crate) journal: LedgerHead,
    /// Rises with every restore.
    pub(crate) restores: u32,
    /// The same numbers as in the format row, which has no tag of its own.
    pub(crate) format: u16,
    pub(crate) min_reader: u16,
}

impl Manifest {
    /// Of a store without records.
    pub(crate) fn empty() -> Manifest {
        Manifest {
            generation: 0,
            records: 0,
            next_version: 1,
            set: [0; 32],
            journal: LedgerHead::default(),
            restores: 0,
            format: layout::FORMAT,
            min_reader: layout::FORMAT,
        }
    }

    /// Adds a record to the set, or takes it out: the operation is its own inverse.
    pub(crate) fn toggle(&mut self, element: &[u8; 32]) {
        for (sum, byte) in self.set.iter_mut().zip(element) {
            *sum ^= byte;
        }
    }

    pub(crate) fn encode(&self, keys: &StoreKeys) -> Vec<u8> {
        let mut row = Vec::with_capacity(LEN);
        row.extend_from_slice(MAGIC);
        row.extend_from_slice(&[FORMAT, 0, 0, 0]);
        row.extend_from_slice(&keys.store_id());
        for number in [self.generation, self.records, self.next_version] {
            row.extend_from_slice(&number.to_le_bytes());
        }
        row.extend_from_slice(&self.set);
        row.extend_from_slice(&self.journal.sequence.to_le_bytes());
        row.extend_from_slice(&self.journal.hash);
        row.extend_from_slice(&self.restores.to_le_bytes());
        row.extend_from_slice(&self.format.to_le_bytes());
        row.extend_from_slice(&self.min_reader.to_le_bytes());
        let tag = keys.manifest_tag(&row);
        row.extend_from_slice(&tag);
        row
    }

    /// `None` if it is not a manifest of this store under these keys.
    pub(crate) fn decode(row: &[u8], keys: &StoreKeys) -> Option<Manifest> {
        if row.len() != LEN || row[..4] != MAGIC[..] || row[4] != FORMAT {
            return None;
        }
        let (fields, tag) = row.split_at(FIELDS_LEN);
        if !bool::from(keys.manifest_tag(fields).ct_eq(tag)) || fields[8..24] != keys.store_id() {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(fields.get(at..at + 8)?.try_into().ok()?));
        Some(Manifest {
            generation: number(24)?,
            records: number(32)?,
            next_version: number(40)?,
            set: fields[48..80].try_into().ok()?,
            journal: LedgerHead { sequence: number(80)?, hash: fields[88..120].try_into().ok()? },
            restores: u32::from_le_bytes(fields[120..124].try_into().ok()?),
            format: u16::from_le_bytes([fields[124], fields[125]]),
            min_reader: u16::from_le_bytes([fields[126], fields[127]]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::Key;
    use super::*;

    fn keys() -> StoreKeys {
        StoreKeys::new(Key::from_slice(&[1; 32]).unwrap(), [2; 16])
    }

    #[test]
    fn manifest_survives_its_codec() {
        let mut manifest = Manifest::empty();
        manifest.generation = 77;
        manifest.journal = LedgerHead { sequence: 5, hash: [9; 32] };
        manifest.restores = 2;
        manifest.toggle(&[3; 32]);
        assert_eq!(Manifest::decode(&manifest.encode(&keys()), &keys()), Some(manifest));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let row = Manifest::empty().encode(&keys());
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::decode(&flipped, &keys()), None, "bit {bit}");
        }
    }

    #[test]
    fn a_manifest_of_another_key_is_refused() {
        let other = StoreKeys::new(Key::from_slice(&[7; 32]).unwrap(), [2; 16]);
        assert_eq!(Manifest::decode(&Manifest::empty().encode(&keys()), &other), None);
    }
}

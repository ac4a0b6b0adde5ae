//! The image of a store: what a backup holds. It is independent of the back end's file, and made from one snapshot while the store is
//! in use.
//!
//! Numbers are big endian.
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | `CRATPKI` and the format, 1 |
//! | 8 | when the snapshot was taken, seconds since 1970 |
//! | 8, 32 | how many records the journal had, and the root of its tree |
//! | 32 | SHA-256 of the root authority's certificate, zeros when there is none |
//! | .. | records: 1 byte length of the table's name, name; 4 bytes length of the key, key; 4 bytes length of the value, value |
//! | 1 | 0: the end of the records |
//! | 8 | how many records |
//! | 32 | SHA-256 over every byte before |

use super::StoreError;
use crate::clock::instant;
use crate::x509::hex;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};

const MAGIC: &[u8; 8] = b"CRATPKI\x01";
/// Longest key: a device's name and a sequence, with room.
const MAX_KEY_BYTES: u32 = 1 << 16;
/// Longest value: the CRL of ten million certificates.
const MAX_VALUE_BYTES: u32 = 1 << 29;

/// What an image says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// When the snapshot was taken.
    pub(crate) taken_at: i64,
    /// How many records the journal had.
    pub(crate) journal_size: u64,
    /// The root of its tree.
    pub(crate) journal_root: [u8; 32],
    /// SHA-256 of the root authority's certificate.
    pub(crate) root_sha256: [u8; 32],
}

impl Facts {
    /// For people and programs.
    pub(crate) fn view(&self) -> serde_json::Value {
        serde_json::json!({
            "taken_at": instant(self.taken_at),
            "journal_records": self.journal_size,
            "journal_root": hex(&self.journal_root),
            "root_sha256": hex(&self.root_sha256),
        })
    }
}

fn broken(fault: impl std::fmt::Display) -> StoreError {
    StoreError::Backend(format!("the backup cannot be read or written: {fault}"))
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(format!("the backup: {what}"))
}

/// Writes an image.
pub(crate) struct Writer<W> {
    out: W,
    digest: Sha256,
    records: u64,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(crate) fn new(out: W, facts: &Facts) -> Result<Self, StoreError> {
        let mut writer = Self { out, digest: Sha256::new(), records: 0 };
        writer.put(MAGIC)?;
        writer.put(&facts.taken_at.to_be_bytes())?;
        writer.put(&facts.journal_size.to_be_bytes())?;
        writer.put(&facts.journal_root)?;
        writer.put(&facts.root_sha256)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.digest.update(bytes);
        self.out.write_all(bytes).map_err(broken)
    }

    /// Writes a record.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn record(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let too_long = |_| damaged("a record is too long");
        self.put(&[u8::try_from(table.len()).map_err(too_long)?])?;
        self.put(table.as_bytes())?;
        for bytes in [key, value] {
            self.put(&u32::try_from(bytes.len()).map_err(too_long)?.to_be_bytes())?;
            self.put(bytes)?;
        }
        self.records += 1;
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.put(&[0])?;
        self.put(&self.records.to_be_bytes())?;
        let digest = self.digest.finalize();
        self.out.write_all(&digest).and_then(|()| self.out.flush()).map_err(broken)
    }
}

/// A record of an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ImageRecord {
    /// Name of its table.
    pub(crate) table: String,
    /// Its key.
    pub(crate) key: Vec<u8>,
    /// Its value.
    pub(crate) value: Vec<u8>,
}

/// Reads an image. What it gives is to be believed only after the last record.
pub(crate) struct Reader<R> {
    input: R,
    digest: Sha256,
    records: u64,
    /// What it says of itself.
    pub(crate) facts: Facts,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for what is no image.
    pub(crate) fn new(input: R) -> Result<Self, StoreError> {
        let facts = Facts { taken_at: 0, journal_size: 0, journal_root: [0; 32], root_sha256: [0; 32] };
        let mut reader = Self { input, digest: Sha256::new(), records: 0, facts };
        let magic: [u8; 8] = reader.array()?;
        if magic[..7] != MAGIC[..7] {
            return Err(damaged("it is not one of a craton-pki"));
        }
        if magic != *MAGIC {
            return Err(StoreError::Version { found: magic[7].into(), known: MAGIC[7].into() });
        }
        reader.facts = Facts {
            taken_at: i64::from_be_bytes(reader.array()?),
            journal_size: u64::from_be_bytes(reader.array()?),
            journal_root: reader.array()?,
            root_sha256: reader.array()?,
        };
        Ok(reader)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|fault| match fault.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
            _ => broken(fault),
        })?;
        self.digest.update(bytes);
        Ok(bytes)
    }

    /// Bytes of this length; no more memory is taken than there are bytes.
    fn bytes(&mut self, len: u32) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(len.into()).read_to_end(&mut bytes).map_err(broken)?;
        if u32::try_from(read) != Ok(len) {
            return Err(damaged("it ends too early"));
        }
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn counted(&mut self, limit: u32) -> Result<Vec<u8>, StoreError> {
        let len = u32::from_be_bytes(self.array()?);
        if len > limit {
            return Err(damaged("a record is too long"));
        }
        self.bytes(len)
    }

    /// The next record; none after the last, when the whole was found right.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub(crate) fn next(&mut self) -> Result<Option<ImageRecord>, StoreError> {
        let [len] = self.array()?;
        if len == 0 {
            let records = u64::from_be_bytes(self.array()?);
            let expected: [u8; 32] = self.digest.clone().finalize().into();
            if self.array()? != expected || records != self.records {
                return Err(damaged("its check sum does not match"));
            }
            if self.input.read(&mut [0]).map_err(broken)? != 0 {
                return Err(damaged("something follows its end"));
            }
            return Ok(None);
        }
        let table = String::from_utf8(self.bytes(len.into())?).map_err(|_| damaged("a table has no name"))?;
        let (key, value) = (self.counted(MAX_KEY_BYTES)?, self.counted(MAX_VALUE_BYTES)?);
        self.records += 1;
        Ok(Some(ImageRecord { table, key, value }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts { taken_at: 7, journal_size: 2, journal_root: [1; 32], root_sha256: [2; 32] };

    fn image() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &FACTS).expect("begins");
        writer.record("devices", b"a", b"value").expect("writes");
        writer.record("queue", b"", b"").expect("writes");
        writer.finish().expect("ends");
        bytes
    }

    fn read(bytes: &[u8]) -> Result<usize, StoreError> {
        let mut reader = Reader::new(bytes)?;
        assert_eq!(reader.facts, FACTS);
        let mut count = 0;
        while reader.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn an_image_comes_back_as_it_was() {
        let bytes = image();
        assert_eq!(read(&bytes), Ok(2));
        let mut reader = Reader::new(bytes.as_slice()).expect("begins");
        let first = reader.next().expect("reads").expect("a record");
        assert_eq!((first.table.as_str(), first.key, first.value), ("devices", b"a".to_vec(), b"value".to_vec()));
    }

    #[test]
    fn every_cut_and_every_flip_after_the_facts_is_refused() {
        let good = image();
        for at in 0..good.len() {
            assert!(Reader::new(&good[..at]).and_then(|_| read(&good[..at])).is_err(), "cut at {at}");
        }
        for at in 88..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            assert!(read(&bytes).is_err(), "byte {at}");
        }
        assert!(read(&[good.as_slice(), &[0]].concat()).is_err(), "something follows");
        let mut newer = good;
        newer[7] = 2;
        assert_eq!(Reader::new(newer.as_slice()).err(), Some(StoreError::Version { found: 2, known: 1 }));
    }
}

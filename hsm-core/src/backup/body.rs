//! The archive's body: items in chunks, each chunk sealed under its number and its place (first to last).
//!
//! The chunking is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its
//! Nonce-Reuse Misuse-Resistance", 2015): nonce = counter and last-chunk flag.

use std::io::{Read, Write};

use zeroize::Zeroizing;

use super::{damaged, io};
use crate::crypto::aes_gcm::{Key, Params};
use crate::store::RawRecord;
use crate::{Error, Kind, Result};

/// Plaintext bytes of every chunk but the last.
pub(super) const CHUNK_LEN: usize = 64 * 1024;
pub(super) const TAG_LEN: usize = 16;
/// No item is longer: a length that says more is a lie.
const MAX_ITEM_BYTES: usize = 128 << 20;

/// What the body is made of.
pub(super) enum Item {
    Manifest(Vec<u8>),
    StoreKey(Zeroizing<Vec<u8>>),
    Record(RawRecord),
    File { name: String, part: Vec<u8> },
    End { records: u64 },
}

/// Longest name of a file.
const MAX_NAME: usize = 1024;

/// A file's name leads to a place below the directory that it is extracted to.
pub(super) fn check_name(name: &str) -> Result<()> {
    let parts = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    match parts && name.len() <= MAX_NAME && !name.contains(['\0', '\n']) {
        true => Ok(()),
        false => Err(Error::new(Kind::ArgumentsBad, format!("{name:?} is no name for a file in a backup"))),
    }
}

const MANIFEST: u8 = 1;
const STORE_KEY: u8 = 2;
const RECORD: u8 = 3;
const FILE: u8 = 4;
const END: u8 = 255;

/// Whether a chunk is the last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Inner,
    Last,
}

fn nonce(number: u64, place: Place) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(place == Place::Last);
    nonce
}

/// Cuts plaintext into chunks and seals them.
pub(super) struct Sealer<W> {
    key: Key,
    out: W,
    buffer: Zeroizing<Vec<u8>>,
    number: u64,
}

impl<W: Write> Sealer<W> {
    pub(super) fn new(key: Key, out: W) -> Self {
        Sealer { key, out, buffer: Zeroizing::new(Vec::with_capacity(CHUNK_LEN)), number: 0 }
    }

    pub(super) fn manifest(&mut self, row: &[u8]) -> Result<()> {
        self.item(MANIFEST, &[row])
    }

    pub(super) fn store_key(&mut self, key: &[u8]) -> Result<()> {
        self.item(STORE_KEY, &[key])
    }

    pub(super) fn record(&mut self, table: &str, key: &[u8], row: &[u8]) -> Result<()> {
        let name = u8::try_from(table.len()).map_err(|_| too_long())?;
        let key_len = u32::try_from(key.len()).map_err(|_| too_long())?;
        self.item(RECORD, &[&[name], table.as_bytes(), &key_len.to_le_bytes(), key, row])
    }

    /// The next part of a file.
    pub(super) fn file(&mut self, name: &str, part: &[u8]) -> Result<()> {
        let len = u16::try_from(name.len()).map_err(|_| too_long())?;
        self.item(FILE, &[&len.to_le_bytes(), name.as_bytes(), part])
    }

    /// The last item, the last chunk; gives the output back.
    pub(super) fn finish(mut self, records: u64) -> Result<W> {
        self.item(END, &[&records.to_le_bytes()])?;
        self.seal(Place::Last)?;
        Ok(self.out)
    }

    fn item(&mut self, kind: u8, parts: &[&[u8]]) -> Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let len = u32::try_from(len).ok().filter(|_| len <= MAX_ITEM_BYTES).ok_or_else(too_long)?;
        self.push(&[kind])?;
        self.push(&len.to_le_bytes())?;
        parts.iter().try_for_each(|part| self.push(part))
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            // A full chunk waits for more: only then is it known not to be the last.
            if self.buffer.len() == CHUNK_LEN {
                self.seal(Place::Inner)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_LEN - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn seal(&mut self, place: Place) -> Result<()> {
        let iv = nonce(self.number, place);
        let sealed = Params::new(&iv, &[], 128)
            .and_then(|params| self.key.encrypt(&params, &self.buffer))
            .map_err(|_| Error::new(Kind::Internal, "a chunk could not be sealed"))?;
        self.number += 1;
        self.buffer.clear();
        self.out.write_all(&sealed).map_err(|error| io("the backup cannot be written", &error))
    }
}

/// Opens chunks, one at a time, and reads items from them.
pub(super) struct Opener<R> {
    key: Key,
    input: R,
    /// Sealed bytes not yet read.
    remaining: u64,
    plain: Zeroizing<Vec<u8>>,
    at: usize,
    number: u64,
}

impl<R: Read> Opener<R> {
    /// `len` is the length in bytes of the sealed body, at which `input` stands.
    pub(super) fn new(key: Key, input: R, len: u64) -> Self {
        Opener { key, input, remaining: len, plain: Zeroizing::new(Vec::new()), at: 0, number: 0 }
    }

    /// The next item. After [`Item::End`] comes nothing.
    pub(super) fn item(&mut self) -> Result<Item> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let [kind, a, b, c, d] = head;
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| too_long())?;
        if len > MAX_ITEM_BYTES {
            return Err(too_long());
        }
        let mut content = Zeroizing::new(vec![0; len]);
        self.fill(&mut content)?;
        match kind {
            MANIFEST => Ok(Item::Manifest(core::mem::take(&mut *content))),
            STORE_KEY => Ok(Item::StoreKey(content)),
            RECORD => parse_record(&content).map(Item::Record).ok_or_else(|| damaged("a record is malformed")),
            FILE => parse_file(&content).ok_or_else(|| damaged("a file is malformed")),
            END => {
                let records = content.as_slice().try_into().map_err(|_| damaged("its last item is malformed"))?;
                if self.at < self.plain.len() || self.remaining > 0 {
                    return Err(damaged("something follows its last item"));
                }
                Ok(Item::End { records: u64::from_le_bytes(records) })
            }
            _ => Err(damaged("an item is of an unknown kind")),
        }
    }

    fn fill(&mut self, mut out: &mut [u8]) -> Result<()> {
        while !out.is_empty() {
            if self.at == self.plain.len() {
                self.open_chunk()?;
            }
            let count = out.len().min(self.plain.len() - self.at);
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&self.plain[self.at..self.at + count]);
            self.at += count;
            out = later;
        }
        Ok(())
    }

    fn open_chunk(&mut self) -> Result<()> {
        let full = (CHUNK_LEN + TAG_LEN) as u64;
        let (len, place) = match self.remaining {
            0 => return Err(damaged("its body ends too early")),
            last if last <= full => (last, Place::Last),
            _ => (full, Place::Inner),
        };
        self.remaining -= len;
        let mut sealed = vec![0; usize::try_from(len).map_err(|_| too_long())?];
        self.input.read_exact(&mut sealed).map_err(|error| io("the backup cannot be read", &error))?;
        let iv = nonce(self.number, place);
        let plain = Params::new(&iv, &[], 128)
            .and_then(|params| self.key.decrypt(&params, &sealed))
            .map_err(|_| damaged(&format!("chunk {} does not verify", self.number)))?;
        self.number += 1;
        self.plain.clear();
        self.plain.extend_from_slice(plain.expose());
        self.at = 0;
        Ok(())
    }
}

fn parse_record(content: &[u8]) -> Option<RawRecord> {
    let (name_len, rest) = content.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
    let (key_len, rest) = rest.split_first_chunk::<4>()?;
    let (key, value) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*key_len)).ok()?)?;
    let table = String::from_utf8(name.to_vec()).ok()?;
    Some(RawRecord { table, key: key.to_vec(), value: value.to_vec() })
}

fn parse_file(content: &[u8]) -> Option<Item> {
    let (len, rest) = content.split_first_chunk::<2>()?;
    let (name, part) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    Some(Item::File { name: String::from_utf8(name.to_vec()).ok()?, part: part.to_vec() })
}

fn too_long() -> Error {
    damaged("an item is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "/etc/passwd", "../x", "a/../../b", "a//b", ".", "a\0b"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        check_name("a/b.c").unwrap();
    }
}

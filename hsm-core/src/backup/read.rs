//! Reading an archive: nothing is believed before it is verified, and nothing is given out before the whole is.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::body::{Item, Opener, check_name};
use super::header::{Header, MAX_HEADER_BYTES, TokenLine};
use super::keys::FileKey;
use super::{DIGEST_LEN, FORMAT, MAC_LEN, MAGIC, PREFIX_LEN, TRAILER_LEN, TRAILER_MAGIC, damaged, io, of_files};
use crate::envelope::{Credential, Envelope, Purpose};
use crate::store::RawRecord;
use crate::{Error, Kind, Result, SecretBytes};

/// What an archive says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Length of the file.
    pub bytes: u64,
    /// SHA-256 of the whole file, as `sha256sum` prints it.
    pub sha256: String,
    /// The archive's format.
    pub format: u16,
    /// Version of the program that wrote it.
    pub program: String,
    /// When the snapshot was taken, nanoseconds since the Unix epoch.
    pub created: u64,
    /// The store's identifier, hexadecimal.
    pub store: String,
    /// The store's generation.
    pub generation: u64,
    /// Number of sealed records.
    pub records: u64,
    /// Newest durable journal record at the time.
    pub audit_seq: u64,
    /// Its hash, hexadecimal.
    pub audit_head: String,
    /// The public key that the journal named first, hexadecimal: what a verifier needs.
    pub audit_first_key: Option<String>,
    /// In an archive of files: how many. Absent in a token's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// What opens the archive, in words.
    pub opened_by: Vec<String>,
    /// The tokens in it.
    pub tokens: Vec<TokenLine>,
}

/// Whether the file begins like an archive; what follows is not looked at.
pub fn looks_like_archive(path: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == MAGIC
}

/// What the archive says of itself, after its check sum was found right. Without a PIN nobody can tell whether an
/// attacker wrote it: [`verify`] can.
///
/// # Errors
///
/// [`Kind::DataInvalid`] when the file is damaged, of a newer format, or no archive.
pub fn inspect(path: &Path) -> Result<Manifest> {
    Frame::read(path)?.manifest()
}

/// Verifies all of an archive with a credential that opens it.
///
/// # Errors
///
/// As [`inspect`]; [`Kind::PinIncorrect`] when the credential does not open it.
pub fn verify(path: &Path, credential: &Credential) -> Result<Manifest> {
    Archive::open(path, credential)?.verify()
}

/// The parts of an archive file whose check sum is right.
struct Frame {
    file: File,
    format: u16,
    head: Vec<u8>,
    header: Header,
    body_len: u64,
    bytes: u64,
    records: u64,
    sha256: [u8; 32],
}

impl Frame {
    fn read(path: &Path) -> Result<Self> {
        let unreadable = |error: std::io::Error| io(&format!("{} cannot be read", path.display()), &error);
        let mut file = File::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        let (format, head) = read_head(&mut file)?;
        let fixed = (head.len() + MAC_LEN + TRAILER_LEN) as u64;
        let body_len = bytes.checked_sub(fixed).ok_or_else(|| damaged("it is too short"))?;
        file.rewind().map_err(unreadable)?;
        let (records, sha256) = check_sum(&file, bytes)?;
        let header = Header::decode(&head[PREFIX_LEN..])?;
        if header.records != records {
            return Err(damaged("its record counts differ"));
        }
        Ok(Frame { file, format, head, header, body_len, bytes, records, sha256 })
    }

    fn manifest(&self) -> Result<Manifest> {
        let header = &self.header;
        Ok(Manifest {
            bytes: self.bytes,
            sha256: HEXLOWER.encode(&self.sha256),
            format: self.format,
            program: header.program.clone(),
            created: header.created,
            store: header.store.clone(),
            generation: header.generation,
            records: header.records,
            audit_seq: header.audit.seq,
            audit_head: header.audit.hash.clone(),
            files: header.files.as_ref().map(|files| files.count),
            audit_first_key: header.audit.first_key.clone(),
            opened_by: envelope(self.format, &super::header::unhex(&header.file)?)
                .openers(&header.recipients, &|id| header.token_name(id))?,
            tokens: header.tokens.clone(),
        })
    }
}

/// The format, and everything before the MAC.
fn read_head(file: &mut File) -> Result<(u16, Vec<u8>)> {
    let mut head = vec![0; PREFIX_LEN];
    file.read_exact(&mut head).map_err(|_| no_archive())?;
    if !head.starts_with(MAGIC) {
        return Err(no_archive());
    }
    let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let (format, min_reader) = (number(4), number(6));
    if min_reader > FORMAT {
        let sentence = format!(
            "the backup has format {format} and needs a program that reads format {min_reader}; this one reads up to \
             format {FORMAT}: restore with a newer version"
        );
        return Err(Error::new(Kind::DataInvalid, sentence));
    }
    let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if len > MAX_HEADER_BYTES {
        return Err(damaged("its header is too long"));
    }
    let len = usize::try_from(len).map_err(|_| damaged("its header is too long"))?;
    head.resize(PREFIX_LEN + len, 0);
    file.read_exact(&mut head[PREFIX_LEN..]).map_err(|_| damaged("it ends within its header"))?;
    Ok((format, head))
}

/// Reads the whole file once: compares its check sum, gives the trailer's record count and the file's digest.
fn check_sum(file: &File, bytes: u64) -> Result<(u64, [u8; 32])> {
    let unreadable = |error: std::io::Error| io("the backup cannot be read", &error);
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    let mut left = bytes - TRAILER_LEN as u64;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(chunk.len()).min(chunk.len());
        reader.read_exact(&mut chunk[..now]).map_err(unreadable)?;
        digest.update(&chunk[..now]);
        left -= now as u64;
    }
    let mut trailer = [0; TRAILER_LEN];
    reader.read_exact(&mut trailer).map_err(unreadable)?;
    let (fixed, expected) = trailer.split_at(TRAILER_LEN - DIGEST_LEN);
    digest.update(fixed);
    if digest.clone().finalize().as_slice() != expected || !fixed.starts_with(TRAILER_MAGIC) {
        return Err(damaged("its check sum does not match: it was changed, or is not complete"));
    }
    digest.update(expected);
    let records = fixed[TRAILER_MAGIC.len()..].try_into().map_err(|_| damaged("its trailer is malformed"))?;
    Ok((u64::from_le_bytes(records), digest.finalize().into()))
}

/// An archive whose header is authentic.
pub(super) struct Archive {
    frame: Frame,
    key: FileKey,
}

impl Archive {
    pub(super) fn open(path: &Path, credential: &Credential) -> Result<Self> {
        let mut frame = Frame::read(path)?;
        let file = super::header::unhex(&frame.header.file)?;
        let envelope = envelope(frame.format, &file);
        let names = |id: &str| frame.header.token_name(id);
        let key = FileKey { key: envelope.open(&frame.header.recipients, &names, credential)?, file };
        let mut mac = [0; MAC_LEN];
        frame
            .file
            .seek(SeekFrom::Start(frame.head.len() as u64))
            .and_then(|_| frame.file.read_exact(&mut mac))
            .map_err(|error| io("the backup cannot be read", &error))?;
        if !bool::from(key.header_mac(&frame.head).ct_eq(&mac)) {
            return Err(damaged("its header does not verify"));
        }
        Ok(Archive { frame, key })
    }

    /// Opens every chunk and looks at every item.
    pub(super) fn verify(&mut self) -> Result<Manifest> {
        if self.frame.header.files.is_some() {
            self.each_part(|_, _| Ok(()))?;
            return self.frame.manifest();
        }
        let mut contents = self.contents()?;
        for record in &mut contents.records {
            record?;
        }
        self.frame.manifest()
    }

    /// The manifest row, the store key, and the records one by one.
    pub(super) fn contents(&mut self) -> Result<Contents<'_>> {
        if self.frame.header.files.is_some() {
            return Err(of_files());
        }
        let expected = self.frame.records;
        let mut body = self.body()?;
        let Item::Manifest(manifest) = body.item()? else {
            return Err(damaged("the store's manifest is missing"));
        };
        let Item::StoreKey(store_key) = body.item()? else {
            return Err(damaged("the store's key is missing"));
        };
        let store_key = store_key_of(store_key)?;
        let records = Records { body, expected, seen: 0, done: false };
        Ok(Contents { manifest, store_key, records })
    }

    /// Shows every part of every file of an archive of files, with the file's name.
    pub(super) fn each_part(&mut self, mut see: impl FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
        let expected = self.frame.header.files.as_ref().map_or(0, |files| files.count);
        let (mut seen, mut last) = (0, None);
        let mut body = self.body()?;
        loop {
            match body.item()? {
                Item::File { name, part } => {
                    check_name(&name).map_err(|_| damaged("a file in it has a name that leads elsewhere"))?;
                    if last.as_ref() != Some(&name) {
                        seen += 1;
                    }
                    see(&name, &part)?;
                    last = Some(name);
                }
                Item::End { records: 0 } if seen == expected => return Ok(()),
                _ => return Err(damaged("its items do not add up")),
            }
        }
    }

    /// The items, from the first.
    fn body(&self) -> Result<Opener<BufReader<&File>>> {
        let start = (self.frame.head.len() + MAC_LEN) as u64;
        let mut file = &self.frame.file;
        file.seek(SeekFrom::Start(start)).map_err(|error| io("the backup cannot be read", &error))?;
        let input = BufReader::with_capacity(1 << 16, file);
        Ok(Opener::new(self.key.body(&self.frame.head)?, input, self.frame.body_len))
    }

    /// What the archive says of itself; authentic.
    pub(super) fn header(&self) -> &Header {
        &self.frame.header
    }

    /// The archive's key.
    pub(super) fn key(&self) -> &FileKey {
        &self.key
    }

    /// The store's identifier.
    pub(super) fn store_id(&self) -> Result<[u8; 16]> {
        super::header::unhex(&self.frame.header.store)
    }
}

fn store_key_of(mut bytes: Zeroizing<Vec<u8>>) -> Result<SecretBytes> {
    if bytes.len() != 32 {
        return Err(damaged("the store's key is malformed"));
    }
    Ok(SecretBytes::new(core::mem::take(&mut *bytes)))
}

/// What an archive holds.
pub(super) struct Contents<'a> {
    pub(super) manifest: Vec<u8>,
    pub(super) store_key: SecretBytes,
    pub(super) records: Records<'a>,
}

/// The records of an archive; the last answer is an error unless the body ends as its header says.
pub(super) struct Records<'a> {
    body: Opener<BufReader<&'a File>>,
    expected: u64,
    seen: u64,
    done: bool,
}

impl Iterator for Records<'_> {
    type Item = Result<RawRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.body.item() {
            Ok(Item::Record(record)) => {
                self.seen += 1;
                Some(Ok(record))
            }
            Ok(Item::End { records }) if records == self.seen && records == self.expected => {
                self.done = true;
                None
            }
            Ok(_) => {
                self.done = true;
                Some(Err(damaged("its items do not add up")))
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}

fn envelope(format: u16, file: &[u8; 32]) -> Envelope<'_> {
    Envelope { purpose: Purpose::Backup { format }, salt: file }
}

fn no_archive() -> Error {
    Error::new(Kind::DataInvalid, "the file is not a backup archive of this program")
}

//! The sealed form of an image: an archive of files in the format of the token's backups (`hsm-core/src/backup/format.md`, format 2), with
//! one file, [`NAME`], and a passphrase. So `craton-hsm-admin backup` lists, verifies and extracts it too, and this program opens what the
//! document says. The format is written twice on purpose (`hsm-core/src/backup/body.rs`): the pki links nothing of the token, and the
//! tests hold both to the document.
//!
//! It writes and reads the recipient `passphrase` with PBKDF2. Archives with others are opened by `craton-hsm-admin backup extract`.

use crate::ca::serial;
use crate::store::image::Facts;
use crate::x509::{hex, sha256};
use data_encoding::HEXLOWER;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac, pbkdf2};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The name of the image in the archive.
pub(crate) const NAME: &str = "craton-pki/store.image";

const MAGIC: &[u8; 4] = b"HSMB";
const TRAILER_MAGIC: &[u8; 4] = b"BMSH";
const FORMAT: u16 = 2;
const PREFIX_LEN: usize = 12;
const MAC_LEN: usize = 32;
const TRAILER_LEN: usize = 4 + 8 + 32;
const MAX_HEADER_BYTES: usize = 1 << 20;
const CHUNK_LEN: usize = 64 * 1024;
const TAG_LEN: usize = 16;
const PART_LEN: usize = 1 << 20;
const FILE: u8 = 4;
const END: u8 = 255;
const KEY_LEN: usize = 32;
const PBKDF2: &str = "PBKDF2-HMAC-SHA256";
const PASSPHRASE: &str = "passphrase";
/// What deriving a key from a passphrase costs whoever guesses; tests guess often.
const ITERATIONS: u32 = if cfg!(test) { 1000 } else { 600_000 };
/// Recipients that a header may name; each costs a derivation.
const MAX_RECIPIENTS: usize = 8;
/// The cost comes from the file: a larger one would only stop the reader.
const MAX_ITERATIONS: u32 = 10_000_000;

/// Why an archive was not written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// Reading or writing failed.
    #[error("the backup cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// It is not as the format says.
    #[error("the backup is damaged: {0}")]
    Damaged(&'static str),
    /// It opens with something else.
    #[error("the passphrase does not open the backup")]
    WrongPassphrase,
    /// It has no passphrase that this program could use.
    #[error("the backup opens with something else than a passphrase: `craton-hsm-admin backup extract` opens it")]
    OtherRecipients,
    /// The operating system's randomness failed.
    #[error("no randomness can be had from the operating system")]
    Randomness,
}

use ArchiveError::Damaged;

/// The members in the order of their names, which is the canonical one.
#[derive(Clone, Serialize, Deserialize)]
struct Recipient {
    commitment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    iterations: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kdf: Option<String>,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    wrapped: String,
}

#[derive(Serialize, Deserialize)]
struct Audit {
    hash: String,
    seq: u64,
}

#[derive(Serialize, Deserialize)]
struct Files {
    count: u64,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    audit: Audit,
    created: u64,
    file: String,
    files: Files,
    generation: u64,
    program: String,
    recipients: Vec<Recipient>,
    records: u64,
    store: String,
    tokens: Vec<serde_json::Value>,
}

/// The length of what HKDF gives.
struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand<const N: usize>(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(ikm);
    let expanded = extracted.expand(info, Len(N)).and_then(|okm| okm.fill(&mut out[..]));
    expanded.expect("64 bytes are fewer than the 255 blocks that HKDF can make");
    out
}

fn stretched(passphrase: &[u8], salt: &[u8], iterations: u32) -> Result<Zeroizing<[u8; KEY_LEN]>, ArchiveError> {
    let rounds = NonZeroU32::new(iterations).filter(|_| iterations <= MAX_ITERATIONS);
    let rounds = rounds.ok_or(Damaged("the cost of its password function is out of range"))?;
    let mut out = Zeroizing::new([0; KEY_LEN]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase, &mut out[..]);
    Ok(out)
}

fn cipher(key: &[u8; KEY_LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes"))
}

fn unhex<const N: usize>(text: &str) -> Result<[u8; N], ArchiveError> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Damaged("a field of its header is malformed"))
}

/// What a recipient's part is bound to, and the key and commitment that its secret gives.
fn recipient_keys(
    recipient: &Recipient,
    file: &[u8; 32],
    secret: &[u8; KEY_LEN],
) -> Result<(Vec<u8>, Zeroizing<[u8; 64]>), ArchiveError> {
    let bare = Recipient { commitment: String::new(), wrapped: String::new(), ..recipient.clone() };
    let bound = sha256(&serde_json::to_vec(&bare).map_err(|_| Damaged("a recipient does not encode"))?);
    let keys = expand(file, secret, &[b"craton-hsm backup v2 recipient", &bound]);
    Ok(([MAGIC, &FORMAT.to_le_bytes()[..], file, &bound].concat(), keys))
}

fn halves(keys: &[u8; 64]) -> (Zeroizing<[u8; KEY_LEN]>, [u8; 32]) {
    let (mut first, mut second) = (Zeroizing::new([0; KEY_LEN]), [0; 32]);
    first.copy_from_slice(&keys[..KEY_LEN]);
    second.copy_from_slice(&keys[KEY_LEN..]);
    (first, second)
}

fn wrap(key: &[u8; KEY_LEN], file: &[u8; 32], passphrase: &[u8]) -> Result<Recipient, ArchiveError> {
    let salt = random::<32>()?;
    let mut made = Recipient {
        commitment: String::new(),
        iterations: Some(ITERATIONS),
        kdf: Some(PBKDF2.to_owned()),
        kind: PASSPHRASE.to_owned(),
        salt: Some(hex(&salt)),
        wrapped: String::new(),
    };
    let (aad, keys) = recipient_keys(&made, file, &*stretched(passphrase, &salt, ITERATIONS)?)?;
    let (kek, commitment) = halves(&keys);
    let mut wrapped = key.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    cipher(&kek)
        .seal_in_place_append_tag(nonce, Aad::from(aad), &mut wrapped)
        .map_err(|_| Damaged("the key could not be wrapped"))?;
    (made.commitment, made.wrapped) = (hex(&commitment), hex(&wrapped));
    Ok(made)
}

/// The file key, if the passphrase is this recipient's.
fn unwrap(
    recipient: &Recipient,
    file: &[u8; 32],
    passphrase: &[u8],
) -> Result<Option<Zeroizing<[u8; KEY_LEN]>>, ArchiveError> {
    let (Some(salt), Some(iterations)) = (&recipient.salt, recipient.iterations) else {
        return Err(Damaged("a recipient lacks a field of its kind"));
    };
    let secret = stretched(passphrase, &unhex::<32>(salt)?, iterations)?;
    let (aad, keys) = recipient_keys(recipient, file, &secret)?;
    let (kek, commitment) = halves(&keys);
    if !bool::from(commitment.ct_eq(&unhex::<32>(&recipient.commitment)?)) {
        return Ok(None);
    }
    let mut wrapped = Zeroizing::new(unhex::<48>(&recipient.wrapped)?);
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let opened = cipher(&kek).open_in_place(nonce, Aad::from(aad), &mut wrapped[..]);
    let opened = opened.map_err(|_| Damaged("its wrapped key does not open"))?;
    let mut key = Zeroizing::new([0; KEY_LEN]);
    key.copy_from_slice(opened);
    Ok(Some(key))
}

fn random<const N: usize>() -> Result<[u8; N], ArchiveError> {
    let bytes = serial::random(N).map_err(|_| ArchiveError::Randomness)?;
    bytes.try_into().map_err(|_| ArchiveError::Randomness)
}

fn header_mac(key: &[u8; KEY_LEN], file: &[u8; 32]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &expand::<KEY_LEN>(file, key, &[b"craton-hsm backup v1 header"])[..])
}

fn body_cipher(key: &[u8; KEY_LEN], file: &[u8; 32], head: &[u8]) -> LessSafeKey {
    cipher(&expand::<KEY_LEN>(file, key, &[b"craton-hsm backup v1 body", &sha256(head)]))
}

fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut bytes = [0; 12];
    bytes[3..11].copy_from_slice(&number.to_be_bytes());
    bytes[11] = u8::from(is_last);
    Nonce::assume_unique_for_key(bytes)
}

/// Seals what is written to it. [`Self::finish`] ends the archive.
pub(crate) struct Sealing<W: Write> {
    out: W,
    digest: Sha256,
    cipher: LessSafeKey,
    number: u64,
    chunk: Vec<u8>,
    part: Vec<u8>,
    parts: u64,
}

impl<W: Write> Sealing<W> {
    /// Begins an archive that opens with a passphrase.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(crate) fn new(out: W, passphrase: &[u8], facts: &Facts) -> Result<Self, ArchiveError> {
        let (key, file) = (Zeroizing::new(random::<KEY_LEN>()?), random::<32>()?);
        let header = Header {
            audit: Audit { hash: hex(&facts.journal_root), seq: facts.journal_size },
            created: u64::try_from(facts.taken_at).unwrap_or(0).saturating_mul(1_000_000_000),
            file: hex(&file),
            files: Files { count: 1, salt: hex(&random::<32>()?) },
            generation: facts.journal_size,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            recipients: vec![wrap(&key, &file, passphrase)?],
            records: 0,
            store: hex(&facts.root_sha256[..16]),
            tokens: Vec::new(),
        };
        let json = serde_json::to_vec(&header).map_err(|_| Damaged("the header does not encode"))?;
        let len = u32::try_from(json.len()).map_err(|_| Damaged("the header is too long"))?;
        let head = [MAGIC, &FORMAT.to_le_bytes()[..], &FORMAT.to_le_bytes(), &len.to_le_bytes(), &json].concat();
        let cipher = body_cipher(&key, &file, &head);
        let mac = hmac::sign(&header_mac(&key, &file), &head);
        let (chunk, part) = (Vec::with_capacity(CHUNK_LEN + TAG_LEN), Vec::with_capacity(PART_LEN));
        let mut sealing = Self { out, digest: Sha256::new(), cipher, number: 0, chunk, part, parts: 0 };
        sealing.put(&head)?;
        sealing.put(mac.as_ref())?;
        Ok(sealing)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.out.write_all(bytes)
    }

    fn item(&mut self, kind: u8, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let len = u32::try_from(len).map_err(io::Error::other)?;
        self.push(&[kind])?;
        self.push(&len.to_le_bytes())?;
        parts.iter().try_for_each(|part| self.push(part))
    }

    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // A full chunk waits for more: only then is it known not to be the last.
            if self.chunk.len() == CHUNK_LEN {
                self.seal(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_LEN - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        let mut chunk = std::mem::take(&mut self.chunk);
        let nonce = nonce(self.number, is_last);
        self.cipher
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut chunk)
            .map_err(|_| io::Error::other("a chunk could not be sealed"))?;
        self.number += 1;
        self.put(&chunk)?;
        chunk.clear();
        self.chunk = chunk;
        Ok(())
    }

    fn end_part(&mut self) -> io::Result<()> {
        let part = std::mem::take(&mut self.part);
        let len = u16::try_from(NAME.len()).map_err(io::Error::other)?;
        self.item(FILE, &[&len.to_le_bytes(), NAME.as_bytes(), &part])?;
        self.parts += 1;
        self.part = part;
        self.part.clear();
        Ok(())
    }

    /// Ends the archive and gives the output back.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if !self.part.is_empty() || self.parts == 0 {
            self.end_part()?;
        }
        self.item(END, &[&0u64.to_le_bytes()])?;
        self.seal(true)?;
        self.put(TRAILER_MAGIC)?;
        self.put(&0u64.to_le_bytes())?;
        let digest = self.digest.finalize();
        self.out.write_all(&digest)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PART_LEN - self.part.len());
        self.part.extend_from_slice(&bytes[..count]);
        if self.part.len() == PART_LEN {
            self.end_part()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a file begins like an archive.
pub(crate) fn looks_like_archive(file: &mut File) -> io::Result<bool> {
    let mut magic = [0; MAGIC.len()];
    let count = file.read(&mut magic)?;
    file.rewind()?;
    Ok(count == magic.len() && &magic == MAGIC)
}

/// Opens what was sealed, chunk by chunk; reading it gives the image. What it gives is to be believed only when it ends without an
/// error.
pub(crate) struct Opening {
    input: BufReader<File>,
    cipher: LessSafeKey,
    /// Sealed bytes that are not read yet.
    remaining: u64,
    number: u64,
    plain: Vec<u8>,
    at: usize,
    /// What is left of the part that is being read.
    in_part: usize,
    is_ended: bool,
}

impl Opening {
    /// Opens an archive by its passphrase. Its check sum, header and length are verified.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) fn new(mut file: File, passphrase: &[u8]) -> Result<Self, ArchiveError> {
        let bytes = file.metadata()?.len();
        let head = read_head(&mut file)?;
        let fixed = u64::try_from(head.len() + MAC_LEN + TRAILER_LEN).map_err(io::Error::other)?;
        let remaining = bytes.checked_sub(fixed).ok_or(Damaged("it is too short"))?;
        file.rewind()?;
        check_sum(&mut file, bytes)?;
        let json = &head[PREFIX_LEN..];
        let header: Header = serde_json::from_slice(json).map_err(|_| Damaged("it is not an archive of files"))?;
        if header.recipients.len() > MAX_RECIPIENTS {
            return Err(Damaged("its header names too many recipients"));
        }
        let own: [u8; 32] = unhex(&header.file)?;
        let ours = |recipient: &&Recipient| recipient.kind == PASSPHRASE && recipient.kdf.as_deref() == Some(PBKDF2);
        let mut ours = header.recipients.iter().filter(ours).peekable();
        if ours.peek().is_none() {
            return Err(ArchiveError::OtherRecipients);
        }
        let mut key = None;
        for recipient in ours {
            key = key.or(unwrap(recipient, &own, passphrase)?);
        }
        let key = key.ok_or(ArchiveError::WrongPassphrase)?;
        let mut mac = [0; MAC_LEN];
        file.seek(SeekFrom::Start(u64::try_from(head.len()).map_err(io::Error::other)?))?;
        file.read_exact(&mut mac)?;
        hmac::verify(&header_mac(&key, &own), &head, &mac).map_err(|_| Damaged("its header does not verify"))?;
        let (cipher, input) = (body_cipher(&key, &own, &head), BufReader::new(file));
        let (plain, at, in_part) = (Vec::new(), 0, 0);
        Ok(Self { input, cipher, remaining, number: 0, plain, at, in_part, is_ended: false })
    }

    fn open_chunk(&mut self) -> Result<(), ArchiveError> {
        let full = CHUNK_LEN + TAG_LEN;
        let len = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(full);
        if len < TAG_LEN {
            return Err(Damaged("its body ends too early"));
        }
        self.remaining -= u64::try_from(len).map_err(io::Error::other)?;
        self.plain.resize(len, 0);
        self.input.read_exact(&mut self.plain)?;
        let nonce = nonce(self.number, self.remaining == 0);
        let opened = self.cipher.open_in_place(nonce, Aad::empty(), &mut self.plain);
        let opened = opened.map_err(|_| Damaged("a chunk does not verify"))?.len();
        self.plain.truncate(opened);
        (self.at, self.number) = (0, self.number + 1);
        Ok(())
    }

    fn fill(&mut self, mut out: &mut [u8]) -> Result<(), ArchiveError> {
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

    /// Reads the head of the next item.
    fn next_item(&mut self) -> Result<(), ArchiveError> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if head[0] == END && len == 8 {
            self.fill(&mut [0; 8])?;
            if self.at < self.plain.len() || self.remaining > 0 {
                return Err(Damaged("something follows its last item"));
            }
            self.is_ended = true;
            return Ok(());
        }
        let (mut name_len, mut name) = ([0; 2], [0; NAME.len()]);
        if head[0] != FILE || len < 2 + NAME.len() {
            return Err(Damaged("it holds something else than the image of a craton-pki"));
        }
        self.fill(&mut name_len)?;
        self.fill(&mut name)?;
        if usize::from(u16::from_le_bytes(name_len)) != NAME.len() || name != *NAME.as_bytes() {
            return Err(Damaged("it holds something else than the image of a craton-pki"));
        }
        self.in_part = len - 2 - NAME.len();
        Ok(())
    }

    fn some(&mut self, out: &mut [u8]) -> Result<usize, ArchiveError> {
        while self.in_part == 0 && !self.is_ended {
            self.next_item()?;
        }
        let count = out.len().min(self.in_part);
        self.fill(&mut out[..count])?;
        self.in_part -= count;
        Ok(count)
    }
}

impl Read for Opening {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.some(out).map_err(|fault| match fault {
            ArchiveError::Io(fault) => fault,
            fault => io::Error::other(fault),
        })
    }
}

/// Everything before the header's MAC.
fn read_head(file: &mut File) -> Result<Vec<u8>, ArchiveError> {
    let mut head = vec![0; PREFIX_LEN];
    file.read_exact(&mut head).map_err(|_| Damaged("it is too short"))?;
    if !head.starts_with(MAGIC) {
        return Err(Damaged("it is no archive"));
    }
    if u16::from_le_bytes([head[6], head[7]]) > FORMAT || u16::from_le_bytes([head[4], head[5]]) < FORMAT {
        return Err(Damaged("it has a format that this program does not know"));
    }
    let len = usize::try_from(u32::from_le_bytes([head[8], head[9], head[10], head[11]])).map_err(io::Error::other)?;
    if len > MAX_HEADER_BYTES {
        return Err(Damaged("its header is too long"));
    }
    head.resize(PREFIX_LEN + len, 0);
    file.read_exact(&mut head[PREFIX_LEN..]).map_err(|_| Damaged("it ends within its header"))?;
    Ok(head)
}

fn check_sum(file: &mut File, bytes: u64) -> Result<(), ArchiveError> {
    let mut digest = Sha256::new();
    let mut covered = BufReader::new(&mut *file).take(bytes.saturating_sub(32));
    let mut chunk = vec![0; CHUNK_LEN];
    loop {
        match covered.read(&mut chunk)? {
            0 => break,
            count => digest.update(&chunk[..count]),
        }
    }
    let mut trailer = [0; TRAILER_LEN];
    file.seek(SeekFrom::Start(bytes.saturating_sub(u64::try_from(TRAILER_LEN).map_err(io::Error::other)?)))?;
    file.read_exact(&mut trailer)?;
    let found: [u8; 32] = digest.finalize().into();
    let (fixed, expected) = trailer.split_at(TRAILER_LEN - 32);
    if found != expected || !fixed.starts_with(TRAILER_MAGIC) || fixed[TRAILER_MAGIC.len()..] != [0; 8] {
        return Err(Damaged("its check sum does not match: it was changed, or is not complete"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts { taken_at: 7, journal_size: 2, journal_root: [1; 32], root_sha256: [2; 32] };

    fn sealed(content: &[u8]) -> Vec<u8> {
        let mut sealing = Sealing::new(Vec::new(), b"a good passphrase", &FACTS).expect("begins");
        sealing.write_all(content).expect("writes");
        sealing.finish().expect("ends")
    }

    fn opened(bytes: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, String> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("writes");
        file.rewind().expect("rewinds");
        let mut content = Vec::new();
        let mut opening = Opening::new(file, passphrase).map_err(|fault| fault.to_string())?;
        opening.read_to_end(&mut content).map_err(|fault| fault.to_string())?;
        Ok(content)
    }

    /// With the check sum made right again, so that only the sealing can tell.
    fn with_right_check_sum(mut bytes: Vec<u8>) -> Vec<u8> {
        let at = bytes.len() - 32;
        let digest = sha256(&bytes[..at]);
        bytes[at..].copy_from_slice(&digest);
        bytes
    }

    #[test]
    fn what_was_sealed_comes_back_whatever_its_length() {
        for len in [0, 1, CHUNK_LEN - 37, CHUNK_LEN, PART_LEN, PART_LEN + 1, 3 * PART_LEN + 17] {
            let content: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).expect("a byte")).collect();
            assert!(opened(&sealed(&content), b"a good passphrase").expect("opens") == content, "{len} bytes");
        }
    }

    #[test]
    fn an_archive_made_from_the_document_alone_opens() {
        let archive = include_bytes!("../../testdata/archive_format_2.backup");
        assert_eq!(opened(archive, b"known answer"), Ok(b"an image that came in two parts".to_vec()));
    }

    #[test]
    fn a_header_with_more_recipients_than_the_format_allows_costs_no_derivation() {
        let good = sealed(&[7; 200]);
        let end = PREFIX_LEN + usize::from(u16::from_le_bytes([good[8], good[9]]));
        let mut header: Header = serde_json::from_slice(&good[PREFIX_LEN..end]).expect("a header");
        header.recipients = vec![header.recipients[0].clone(); MAX_RECIPIENTS + 1];
        let json = serde_json::to_vec(&header).expect("encodes");
        let len = u32::try_from(json.len()).expect("short").to_le_bytes();
        let bytes = with_right_check_sum([&good[..8], &len, &json, &good[end..]].concat());
        let refused = Err(Damaged("its header names too many recipients").to_string());
        assert_eq!(opened(&bytes, b"a good passphrase"), refused);
    }

    #[test]
    fn another_passphrase_a_flip_or_a_cut_gives_nothing() {
        let good = sealed(&[7; 200]);
        assert_eq!(opened(&good, b"another"), Err(ArchiveError::WrongPassphrase.to_string()));
        for at in (0..good.len()).step_by(41).chain(good.len() - 60..good.len()) {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            assert!(opened(&bytes, b"a good passphrase").is_err(), "byte {at}");
            if at < good.len() - 32 {
                assert!(opened(&with_right_check_sum(bytes), b"a good passphrase").is_err(), "byte {at}, summed");
            }
        }
        for len in [0, 3, 12, 100, good.len() - 45, good.len() - 1] {
            assert!(opened(&good[..len], b"a good passphrase").is_err(), "cut at {len}");
        }
    }
}

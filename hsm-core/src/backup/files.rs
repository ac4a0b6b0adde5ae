//! What belongs beside a token's archive, in an archive of its own: configuration, TLS material, the journal's files, the PKI's store.
//! It opens with what opens the token's archive, because it has the same file key and recipients.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::body::{Sealer, check_name};
use super::header::{FilesLine, Header};
use super::read::Archive;
use super::write::{Counted, head};
use super::{TRAILER_MAGIC, io};
use crate::crypto::rng;
use crate::envelope::Credential;
use crate::{Error, Kind, Result, sys};

/// Bytes of a file per item.
const PART: usize = 1 << 20;

/// A file in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileLine {
    /// Its path in the archive: relative, without `..`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// Puts files into an archive beside a token's archive. Each is read once, up to the length that it had at the beginning, so that a
/// journal may grow meanwhile.
///
/// # Errors
///
/// [`Kind::PinIncorrect`] when the credential does not open the token's archive; [`Kind::Device`] when a file cannot be read or the
/// output takes no more.
pub fn write_files(
    token_archive: &Path,
    credential: &Credential,
    created: u64,
    files: &[(String, PathBuf)],
    out: &mut dyn Write,
) -> Result<Vec<FileLine>> {
    let archive = Archive::open(token_archive, credential)?;
    let mut salt = [0; 32];
    rng::fill(&mut salt)?;
    let line = FilesLine { count: files.len() as u64, salt: HEXLOWER.encode(&salt) };
    let own = Header { created, files: Some(line), records: 0, tokens: Vec::new(), ..archive.header().clone() };
    let head = head(&own.encode()?)?;
    let mut out = Counted { out, digest: Sha256::new(), bytes: 0 };
    let unwritable = |error: std::io::Error| io("the backup cannot be written", &error);
    out.write_all(&head).map_err(unwritable)?;
    out.write_all(&archive.key().header_mac(&head)).map_err(unwritable)?;
    let mut body = Sealer::new(archive.key().body(&head)?, out);
    let lines = files.iter().map(|(name, path)| put(&mut body, name, path)).collect::<Result<Vec<_>>>()?;
    let mut out = body.finish(0)?;
    out.write_all(TRAILER_MAGIC).map_err(unwritable)?;
    out.write_all(&0_u64.to_le_bytes()).map_err(unwritable)?;
    let digest = out.digest.clone().finalize();
    out.write_all(&digest).map_err(unwritable)?;
    out.flush().map_err(unwritable)?;
    Ok(lines)
}

fn put<W: Write>(body: &mut Sealer<W>, name: &str, path: &Path) -> Result<FileLine> {
    check_name(name)?;
    let unreadable = |error: std::io::Error| io(&format!("{} cannot be read", path.display()), &error);
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let mut reader = BufReader::new(file).take(bytes);
    let (mut digest, mut part, mut seen) = (Sha256::new(), vec![0; PART], 0);
    loop {
        let count = fill(&mut reader, &mut part).map_err(unreadable)?;
        // An empty file is one empty part.
        if count > 0 || seen == 0 {
            body.file(name, &part[..count])?;
            digest.update(&part[..count]);
            seen += count as u64;
        }
        if count < PART {
            break;
        }
    }
    if seen != bytes {
        return Err(Error::new(Kind::Device, format!("{} became shorter while it was read", path.display())));
    }
    Ok(FileLine { name: name.to_owned(), bytes, sha256: HEXLOWER.encode(&digest.finalize()) })
}

fn fill(reader: &mut impl Read, part: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < part.len() {
        match reader.read(&mut part[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Writes the files of an archive below a directory that is empty or not there, after the whole archive was verified.
///
/// # Errors
///
/// [`Kind::PinIncorrect`], [`Kind::DataInvalid`]: nothing was written. [`Kind::Device`] when the directory is not empty or cannot be
/// written.
pub fn extract(path: &Path, credential: &Credential, directory: &Path) -> Result<Vec<FileLine>> {
    let mut archive = Archive::open(path, credential)?;
    if archive.header().files.is_none() {
        let sentence = "it is an archive of a store, not of files: see `craton-hsm-admin restore`";
        return Err(Error::new(Kind::DataInvalid, sentence));
    }
    archive.verify()?;
    let unwritable = |error: std::io::Error| io(&format!("{} cannot be written", directory.display()), &error);
    sys::create_private_dir(directory).map_err(unwritable)?;
    if std::fs::read_dir(directory).map_err(unwritable)?.next().is_some() {
        return Err(Error::new(Kind::Device, format!("{} is not empty", directory.display())));
    }
    let mut lines: Vec<(FileLine, Sha256)> = Vec::new();
    let mut open: Option<BufWriter<File>> = None;
    archive.each_part(|name, part| {
        if lines.last().is_none_or(|(line, _)| line.name != name) {
            if let Some(done) = open.take() {
                done.into_inner().map_err(|error| unwritable(error.into_error()))?.sync_all().map_err(unwritable)?;
            }
            let place = directory.join(name);
            sys::create_private_dir(place.parent().unwrap_or(directory)).map_err(unwritable)?;
            open = Some(BufWriter::new(sys::create_private_file(&place).map_err(unwritable)?));
            lines.push((FileLine { name: name.to_owned(), bytes: 0, sha256: String::new() }, Sha256::new()));
        }
        if let (Some((line, digest)), Some(file)) = (lines.last_mut(), &mut open) {
            line.bytes += part.len() as u64;
            digest.update(part);
            file.write_all(part).map_err(unwritable)?;
        }
        Ok(())
    })?;
    if let Some(done) = open.take() {
        done.into_inner().map_err(|error| unwritable(error.into_error()))?.sync_all().map_err(unwritable)?;
    }
    let finished =
        |(line, digest): (FileLine, Sha256)| FileLine { sha256: HEXLOWER.encode(&digest.finalize()), ..line };
    Ok(lines.into_iter().map(finished).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SO_PIN, archive_for, so_pin, with_right_check_sum};
    use super::super::{inspect, restore, verify};
    use super::*;

    fn made(folder: &Path, files: &[(&str, Vec<u8>)]) -> (PathBuf, Vec<FileLine>) {
        let token = archive_for(folder, &[5], &[]);
        let sources: Vec<(String, PathBuf)> = files
            .iter()
            .enumerate()
            .map(|(number, (name, content))| {
                let path = folder.join(format!("source {number}"));
                std::fs::write(&path, content).unwrap();
                ((*name).to_owned(), path)
            })
            .collect();
        let mut bytes = Vec::new();
        let lines = write_files(&token, &so_pin(SO_PIN), 7, &sources, &mut bytes).unwrap();
        let path = folder.join("backup.files");
        std::fs::write(&path, bytes).unwrap();
        (path, lines)
    }

    #[test]
    fn files_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let large: Vec<u8> = (0..3 * PART + 17).map(|at| (at % 251) as u8).collect();
        let files = [
            ("a.toml", b"x = 1".to_vec()),
            ("journal/empty", Vec::new()),
            ("journal/large", large),
            ("z", vec![0; PART]),
        ];
        let (path, lines) = made(folder.path(), &files);
        assert_eq!(inspect(&path).unwrap().files, Some(4));
        verify(&path, &so_pin(SO_PIN)).unwrap();
        let to = folder.path().join("out");
        assert_eq!(extract(&path, &so_pin(SO_PIN), &to).unwrap(), lines);
        for (name, content) in &files {
            assert!(std::fs::read(to.join(name)).unwrap() == *content, "{name}");
        }
        assert!(extract(&path, &so_pin(SO_PIN), &to).unwrap_err().detail().unwrap().contains("not empty"));
        assert!(extract(&path, &so_pin(b"wrong pin"), &folder.path().join("new")).is_err());
        assert!(!folder.path().join("new").exists());
    }

    #[test]
    fn an_archive_of_files_is_no_store_and_a_store_is_no_archive_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = made(folder.path(), &[("a", vec![1])]);
        let config = super::super::tests::config(&folder.path().join("host"));
        let credential = so_pin(SO_PIN);
        let clock = std::sync::Arc::new(crate::SystemClock);
        let request = super::super::Restore {
            input: &path,
            credential: &credential,
            config: &config,
            uid: 1,
            clock,
            replace: super::super::Replace::Never,
        };
        let refused = restore(&request).unwrap_err();
        assert!(refused.detail().unwrap().contains("extract"), "{refused}");
        assert!(!folder.path().join("host").exists());
        let refused = extract(&folder.path().join("backup.enc"), &credential, &folder.path().join("x")).unwrap_err();
        assert_eq!(refused.kind(), Kind::DataInvalid);
        let sentence = refused.detail().unwrap();
        assert!(sentence.contains("restore") && !sentence.contains("damaged"), "{sentence}");
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = made(folder.path(), &[("a", vec![7; 50]), ("b", vec![8; 3])]);
        let good = std::fs::read(&path).unwrap();
        let to = folder.path().join("out");
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            for bytes in [with_right_check_sum(bytes.clone()), bytes, good[..at].to_vec()] {
                if bytes == good {
                    continue; // the flip was in the check sum
                }
                std::fs::write(&path, bytes).unwrap();
                assert!(extract(&path, &so_pin(SO_PIN), &to).is_err(), "byte {at}");
                assert!(!to.exists());
            }
        }
    }
}

//! Writing an archive: from one snapshot of the store, while the store goes on.

use std::io::{self as stdio, Write};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::body::Sealer;
use super::header::{AuditHead, Header, MAX_RECIPIENTS, TokenLine};
use super::keys::FileKey;
use super::{FORMAT, MAGIC, TRAILER_MAGIC, io};
use crate::audit::{Head, Pin};
use crate::crypto::password::PasswordFunction;
use crate::envelope::{Envelope, For, Purpose, Recipient};
use crate::store::BackupSnapshot;
use crate::{Error, Kind, Result, SecretBytes, TokenId};

/// For whom and when an archive is made.
pub(crate) struct Request<'a> {
    /// The token whose SO PIN opens the archive, and that PIN. The caller has verified it.
    pub(crate) so: Option<(TokenId, &'a SecretBytes)>,
    /// Who else may open it.
    pub(crate) others: &'a [For],
    /// For the SO PIN and passphrases.
    pub(crate) function: PasswordFunction,
    /// Nanoseconds since the Unix epoch.
    pub(crate) created: u64,
    /// The newest durable record of the journal.
    pub(crate) audit: Head,
    /// The public key that the journal named first.
    pub(crate) first_key: Option<Pin>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Length of the archive.
    pub(crate) bytes: u64,
    /// Records in it.
    pub(crate) records: u64,
    /// The generation of the snapshot.
    pub(crate) generation: u64,
}

/// Writes the archive. `objects` counts a token's objects, for the header's list.
///
/// # Errors
///
/// [`Kind::ArgumentsBad`] if the snapshot has no such token, or nobody could open the archive; [`Kind::Device`] if the output takes no more or the
/// snapshot does not hold what it says.
pub(crate) fn write(
    snapshot: &BackupSnapshot,
    request: &Request<'_>,
    objects: &dyn Fn(TokenId) -> u64,
    out: &mut dyn Write,
) -> Result<Written> {
    let is_there = |id: TokenId| snapshot.tokens().iter().any(|token| token.id == id && token.initialized);
    if request.so.is_some_and(|(token, _)| !is_there(token)) {
        return Err(Error::new(Kind::ArgumentsBad, "the backup has no such initialised token"));
    }
    let file_key = FileKey::random()?;
    let header = header(snapshot, request, objects, &file_key)?.encode()?;
    let head = head(&header)?;
    let mut out = Counted { out, digest: Sha256::new(), bytes: 0 };
    let unwritable = |error: stdio::Error| io("the backup cannot be written", &error);
    out.write_all(&head).map_err(unwritable)?;
    out.write_all(&file_key.header_mac(&head)).map_err(unwritable)?;
    let mut body = Sealer::new(file_key.body(&head)?, out);
    body.manifest(&snapshot.manifest)?;
    body.store_key(snapshot.store_key.expose())?;
    let mut records = 0;
    snapshot.for_each(&mut |table, key, row| {
        records += 1;
        body.record(table, key, row)
    })?;
    if records != snapshot.records {
        return Err(Error::new(Kind::Device, "the store's record count does not hold: no backup was made"));
    }
    let mut out = body.finish(records)?;
    out.write_all(TRAILER_MAGIC).map_err(unwritable)?;
    out.write_all(&records.to_le_bytes()).map_err(unwritable)?;
    let digest = out.digest.clone().finalize();
    out.write_all(&digest).map_err(unwritable)?;
    out.flush().map_err(unwritable)?;
    Ok(Written { bytes: out.bytes, records, generation: snapshot.generation })
}

/// Everything before the MAC.
pub(super) fn head(header: &[u8]) -> Result<Vec<u8>> {
    let len = u32::try_from(header.len()).map_err(|_| Error::from(Kind::Internal))?;
    Ok([&MAGIC[..], &FORMAT.to_le_bytes(), &FORMAT.to_le_bytes(), &len.to_le_bytes(), header].concat())
}

fn header(
    snapshot: &BackupSnapshot,
    request: &Request<'_>,
    objects: &dyn Fn(TokenId) -> u64,
    file_key: &FileKey,
) -> Result<Header> {
    let tokens = snapshot.tokens().iter().map(|token| TokenLine {
        id: token.id.to_string(),
        initialized: token.initialized,
        label: token.label.clone(),
        objects: objects(token.id),
        serial: token.serial.clone(),
        slot: token.slot,
    });
    Ok(Header {
        audit: AuditHead {
            first_key: request.first_key.map(|key| key.to_string()),
            hash: HEXLOWER.encode(&request.audit.hash),
            seq: request.audit.seq,
        },
        created: request.created,
        file: file_key.file_hex(),
        files: None,
        generation: snapshot.generation,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        recipients: recipients(request, file_key)?,
        records: snapshot.records,
        store: HEXLOWER.encode(&snapshot.store_id),
        tokens: tokens.collect(),
    })
}

fn recipients(request: &Request<'_>, file_key: &FileKey) -> Result<Vec<Recipient>> {
    let envelope = Envelope { purpose: Purpose::Backup { format: FORMAT }, salt: &file_key.file };
    let (key, function) = (&file_key.key, request.function);
    let so = request.so.map(|(token, pin)| envelope.wrap_for_so(key, pin, token, function));
    let others = request.others.iter().map(|whom| envelope.wrap_for(key, whom, function));
    let recipients: Vec<Recipient> = so.into_iter().chain(others).collect::<Result<_>>()?;
    match recipients.len() {
        1..=MAX_RECIPIENTS => Ok(recipients),
        _ => Err(Error::new(Kind::ArgumentsBad, format!("a backup has 1 to {MAX_RECIPIENTS} recipients"))),
    }
}

/// Counts and digests what passes.
pub(super) struct Counted<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) digest: Sha256,
    pub(super) bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> stdio::Result<usize> {
        let count = self.out.write(bytes)?;
        self.digest.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> stdio::Result<()> {
        self.out.flush()
    }
}

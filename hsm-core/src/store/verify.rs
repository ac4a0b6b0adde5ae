//! The check of a whole store: every row, then the sum of all rows against the manifest.

use super::layout::{self, FORMAT, FormatRow, Table, TokenRecord};
use super::manifest::Manifest;
use super::seal::{self, Label, Place, SealError, StoreKeys};
use super::spread::over_rows;
use super::{OpenError, Snapshot, StoreError};
use crate::id::{ObjectId, TokenId};
use std::collections::HashMap;
use std::path::Path;

/// What a verified store holds.
pub(crate) struct Verified {
    pub(crate) manifest: Manifest,
    pub(crate) tokens: Vec<TokenRecord>,
    pub(crate) objects: HashMap<TokenId, u64>,
    /// Generation and entry of each outbox row, in order.
    pub(crate) outbox: Vec<(u64, Vec<u8>)>,
}

/// Reads the plain format row and refuses what this version cannot read.
pub(crate) fn format_row(snapshot: &dyn Snapshot, path: &Path) -> Result<FormatRow, OpenError> {
    let row = snapshot.row(Table::Meta, layout::FORMAT_KEY).map_err(|error| OpenError::store(path, error))?;
    let row = row.as_deref().and_then(FormatRow::decode).ok_or(OpenError::ManifestBroken("format row"))?;
    if row.min_reader > FORMAT {
        return Err(OpenError::FormatNewer { found: row.format, supported: FORMAT });
    }
    Ok(row)
}

/// Verifies every record and the manifest; the first that fails is named.
pub(crate) fn verify(snapshot: &dyn Snapshot, keys: &StoreKeys, path: &Path) -> Result<Verified, OpenError> {
    let format = format_row(snapshot, path)?;
    let row = snapshot.row(Table::Meta, layout::MANIFEST_KEY).map_err(|error| OpenError::store(path, error))?;
    let manifest = row.and_then(|row| Manifest::decode(&row, keys)).ok_or(OpenError::ManifestBroken("manifest"))?;
    if (format.format, format.min_reader) != (manifest.format, manifest.min_reader) {
        return Err(OpenError::ManifestBroken("format row"));
    }
    let mut tally = Tally::new();
    for table in Table::SEALED {
        let add = |tally: &mut Tally, key: &[u8], row: &[u8]| {
            tally.add(keys, Place { table, key }, row).map_err(|error| {
                Trouble::Record(OpenError::RecordBroken { record: name(table, key), reason: error.to_string() })
            })
        };
        let sums = over_rows(|visit| snapshot.scan(table, &[], visit), Tally::new, add);
        for sum in sums.map_err(|trouble| trouble.at(path))? {
            tally.merge(sum);
        }
    }
    tally.outbox.sort_unstable_by_key(|(generation, _)| *generation);
    if tally.manifest.set != manifest.set || tally.manifest.records != manifest.records {
        return Err(mismatch(snapshot, &tally.manifest, &manifest, path));
    }
    Ok(Verified { manifest, tokens: tally.tokens, objects: tally.objects, outbox: tally.outbox })
}

/// Every record is good, and the sum is not. One record too many is what the two sums differ by.
fn mismatch(snapshot: &dyn Snapshot, found: &Manifest, expected: &Manifest, path: &Path) -> OpenError {
    let mut difference = found.clone();
    difference.toggle(&expected.set);
    for table in Table::SEALED {
        let mut added = None;
        let mut visit = |key: &[u8], row: &[u8]| {
            if seal::split_row(row).is_some_and(|(_, element)| *element == difference.set) {
                added = Some(name(table, key));
            }
            Ok(())
        };
        if let Err(error) = snapshot.scan(table, &[], &mut visit) {
            return OpenError::store(path, error);
        }
        if let Some(record) = added {
            let reason = "it had been removed, and was put back".to_owned();
            return OpenError::RecordBroken { record, reason };
        }
    }
    OpenError::SetMismatch { found: found.records, expected: expected.records }
}

/// Why a table does not verify.
enum Trouble {
    Record(OpenError),
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Trouble::Store(error)
    }
}

impl Trouble {
    fn at(self, path: &Path) -> OpenError {
        match self {
            Trouble::Record(broken) => broken,
            Trouble::Store(error) => OpenError::store(path, error),
        }
    }
}

struct Tally {
    manifest: Manifest,
    tokens: Vec<TokenRecord>,
    objects: HashMap<TokenId, u64>,
    outbox: Vec<(u64, Vec<u8>)>,
}

impl Tally {
    fn new() -> Self {
        Tally { manifest: Manifest::empty(), tokens: vec![], objects: HashMap::new(), outbox: vec![] }
    }

    /// Takes over what another one has counted; the set's sum does not depend on the order.
    fn merge(&mut self, other: Tally) {
        self.manifest.toggle(&other.manifest.set);
        self.manifest.records += other.manifest.records;
        self.tokens.extend(other.tokens);
        self.outbox.extend(other.outbox);
        for (token, count) in other.objects {
            *self.objects.entry(token).or_default() += count;
        }
    }

    fn add(&mut self, keys: &StoreKeys, place: Place<'_>, row: &[u8]) -> Result<(), SealError> {
        let (label, element) = keys.verify_row(place, row)?;
        check_place(&label, place)?;
        self.manifest.toggle(element);
        self.manifest.records += 1;
        match place.table {
            Table::PublicObject | Table::PrivateObject => *self.objects.entry(label.token).or_default() += 1,
            Table::Token => {
                let (_, body) = keys.open_row(None, place, row)?;
                self.tokens.push(TokenRecord::decode(body.expose()).ok_or(SealError::NotARecord)?);
            }
            Table::Outbox => {
                let (_, body) = keys.open_row(None, place, row)?;
                let generation = place.key.try_into().map_err(|_| SealError::Misplaced)?;
                self.outbox.push((u64::from_be_bytes(generation), body.expose().to_vec()));
            }
            _ => (),
        }
        Ok(())
    }
}

/// The header names the token and the object that the key names.
pub(crate) fn check_place(label: &Label, place: Place<'_>) -> Result<(), SealError> {
    let same = match place.table {
        Table::PublicObject | Table::PrivateObject => place.key == layout::object_key(label.token, label.object),
        Table::Pin | Table::Attempts => place.key.len() == 17 && place.key[..16] == label.token.0,
        _ => true,
    };
    if same { Ok(()) } else { Err(SealError::Misplaced) }
}

/// A record's name for people.
fn name(table: Table, key: &[u8]) -> String {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    match (table, key.split_first_chunk::<16>()) {
        (Table::PublicObject | Table::PrivateObject, Some((token, object))) if object.len() == 16 => {
            format!("{} {} of token {}", table.name(), hex(object), TokenId(*token))
        }
        (Table::Pin | Table::Attempts, Some((token, [role]))) => {
            format!(
                "{} {} of token {}",
                table.name(),
                ["so", "user", "link", "auto"].get(usize::from(*role)).unwrap_or(&"unknown"),
                TokenId(*token)
            )
        }
        _ => format!("{} {}", table.name(), hex(key)),
    }
}

/// Zero, for records that belong to no object.
pub(crate) const NO_OBJECT: ObjectId = ObjectId([0; 16]);
/// Zero, for records that belong to no token.
pub(crate) const NO_TOKEN: TokenId = TokenId([0; 16]);

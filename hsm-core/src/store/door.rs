//! Single records, opened as the store opens them, for the fuzz targets: nobody else has a record without its store.

use super::layout::{
    self, Attempts, ClientRow, FormatRow, KeyLink, PinSlot, Reserved, ReservedIvs, Role, SignatureCount, Table,
    TokenRecord,
};
use super::manifest::Manifest;
use super::seal::{self, Key, Place, SealError, StoreKeys};
use super::verify;
use crate::crypto::password::PasswordFunction;
use crate::error::Result;
use crate::id::{ObjectId, TokenId};
use prost::Message;

/// A record of each table and the manifest of a store, under keys of their own.
pub struct Records {
    keys: StoreKeys,
    master: Key,
    rows: Vec<Original>,
    manifest: Vec<u8>,
}

struct Original {
    table: Table,
    key: Vec<u8>,
    row: Vec<u8>,
}

/// What became of bytes in the place of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// The reason.
    Refused(String),
    /// They are taken, and this is what they hold.
    Taken(Vec<u8>),
}

impl Records {
    /// New records under new keys.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn new() -> Result<Records> {
        let keys = StoreKeys::new(Key::random()?, seal::random_id()?);
        let (token, object) = (TokenId([0x22; 16]), ObjectId([0x33; 16]));
        let none = (TokenId([0; 16]), ObjectId([0; 16]));
        let master = Key::random()?;
        let record = TokenRecord {
            id: token,
            slot: 1,
            label: "label".into(),
            serial: "00".into(),
            created_ns: 1,
            initialized: true,
        };
        let wrapped = seal::wrapped_label(keys.store_id(), token, 1, 1);
        let pin_key = layout::pin_key(token, Role::User);
        let wrapped = seal::seal(&master, &wrapped, Place { table: Table::Pin, key: &pin_key }, master.expose())?;
        let function = PasswordFunction::Pbkdf2 { iterations: 10 };
        let slot = PinSlot { wrapped, ..PinSlot::new(function, vec![7; 32], 1) };
        let object_key = layout::object_key(token, object).to_vec();
        let bodies = [
            (Table::Token, layout::token_key(1).to_vec(), none, record.encode()),
            (Table::Pin, pin_key.to_vec(), (token, none.1), slot.encode_to_vec()),
            (Table::Attempts, pin_key.to_vec(), (token, none.1), Attempts { failed: 3 }.encode_to_vec()),
            (Table::Reserved, layout::HANDLE_KEY.to_vec(), none, Reserved { next: 7 }.encode_to_vec()),
            (Table::PublicObject, object_key.clone(), (token, object), b"a certificate".to_vec()),
            (Table::PrivateObject, object_key, (token, object), b"a private key".to_vec()),
            (Table::Outbox, layout::outbox_key(9).to_vec(), none, b"an entry".to_vec()),
        ];
        let mut manifest = Manifest::empty();
        let mut rows = Vec::new();
        for (version, (table, key, (token, object), body)) in (1..).zip(bodies) {
            let mut label = seal::table_label(table, keys.store_id(), token, object, version);
            let place = Place { table, key: &key };
            let row = match table {
                Table::PrivateObject => {
                    label.epoch = 1;
                    keys.seal_row_under(&master, &label, place, &body)?
                }
                _ => keys.seal_row(&label, place, &body)?,
            };
            manifest.toggle(&keys.row_element(table, &key, &row));
            manifest.records += 1;
            rows.push(Original { table, key, row });
        }
        let manifest = manifest.encode(&keys);
        Ok(Records { keys, master, rows, manifest })
    }

    /// How many records there are.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// A record's key in its table, and its row.
    pub fn original(&self, at: usize) -> (&[u8], &[u8]) {
        let original = &self.rows[at % self.rows.len()];
        (&original.key, &original.row)
    }

    /// The manifest's row.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Looks at a row under a key in the table of record `at` as a start does, then opens it as a login or an operation does. With
    /// `summed`, its element of the store's sum was made again by somebody who could, so that only the sealing itself protects it.
    pub fn open(&self, at: usize, key: &[u8], row: &[u8], summed: bool) -> Opened {
        let table = self.rows[at % self.rows.len()].table;
        let place = Place { table, key };
        let mut row = row.to_vec();
        if summed && let Some(record) = row.len().checked_sub(32) {
            let element = self.keys.set_element(table, key, &row[..record]);
            row[record..].copy_from_slice(&element);
        }
        match self.look(place, &row) {
            Ok(body) => Opened::Taken(body),
            Err(why) => Opened::Refused(why.to_string()),
        }
    }

    fn look(&self, place: Place<'_>, row: &[u8]) -> core::result::Result<Vec<u8>, SealError> {
        let (label, _) = self.keys.verify_row(place, row)?;
        verify::check_place(&label, place)?;
        let key = (place.table == Table::PrivateObject).then_some(&self.master);
        let (label, body) = self.keys.open_row(key, place, row)?;
        verify::check_place(&label, place)?;
        Ok(body.expose().to_vec())
    }

    /// Whether bytes are taken for this store's manifest.
    pub fn is_manifest(&self, row: &[u8]) -> bool {
        Manifest::decode(row, &self.keys).is_some()
    }

    /// Reads bytes as what each kind of record may hold; says which of them they could be. Whoever has the store's key can seal anything.
    pub fn read_bodies(&self, bytes: &[u8]) -> [bool; 9] {
        let slot = PinSlot::decode(bytes);
        if let Ok(slot) = &slot {
            let wrapped = Place { table: Table::Pin, key: b"" };
            drop((slot.function(), seal::open(&self.master, wrapped, &slot.wrapped)));
        }
        [
            slot.is_ok(),
            TokenRecord::decode(bytes).is_some(),
            Attempts::decode(bytes).is_ok(),
            Reserved::decode(bytes).is_ok(),
            ReservedIvs::decode(bytes).is_ok(),
            SignatureCount::decode(bytes).is_ok(),
            ClientRow::decode(bytes).is_ok(),
            KeyLink::decode(bytes).is_ok(),
            FormatRow::decode(bytes).is_some(),
        ]
    }
}

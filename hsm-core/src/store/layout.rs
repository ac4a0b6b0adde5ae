//! Tables, keys and the plaintext codecs of `format.md` sections 2 and 5. Sealing is not done here.

use crate::crypto::password::PasswordFunction;
use crate::id::{ObjectId, TokenId};
use prost::Message;

/// The format this code writes, and the newest it reads.
pub(crate) const FORMAT: u16 = 1;

/// The tables. The names are part of the format: they are in every record's authenticated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    /// The format row and the manifest: the only rows that are not sealed records.
    Meta,
    /// One record per slot that ever held a token.
    Token,
    /// PIN slots: the token master key, wrapped.
    Pin,
    /// Failed attempts, per PIN.
    Attempts,
    /// Numbers given out in blocks.
    Reserved,
    /// Objects with CKA_PRIVATE false.
    PublicObject,
    /// Objects with CKA_PRIVATE true.
    PrivateObject,
    /// Journal entries committed with their change and not yet known to be durable in the journal.
    Outbox,
}

impl Table {
    /// Every table that holds sealed records, that is, all that the manifest counts.
    pub(crate) const SEALED: [Table; 7] = [
        Table::Token,
        Table::Pin,
        Table::Attempts,
        Table::Reserved,
        Table::PublicObject,
        Table::PrivateObject,
        Table::Outbox,
    ];

    /// The name on disk.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Token => "token",
            Table::Pin => "pin",
            Table::Attempts => "attempts",
            Table::Reserved => "reserved",
            Table::PublicObject => "object.public",
            Table::PrivateObject => "object.private",
            Table::Outbox => "outbox",
        }
    }

    /// The table of that name.
    pub(crate) fn from_name(name: &str) -> Option<Table> {
        Table::SEALED.into_iter().chain([Table::Meta]).find(|table| table.name() == name)
    }

    /// The record type written in the header of this table's records.
    pub(crate) const fn record_type(self) -> u8 {
        match self {
            Table::Meta => 0,
            Table::Token => 1,
            Table::Pin => 2,
            Table::Attempts => 4,
            Table::Reserved => 5,
            Table::PublicObject => 6,
            Table::PrivateObject => 7,
            Table::Outbox => 8,
        }
    }
}

/// The record type of the wrapped token master key inside a PIN record.
pub(crate) const WRAPPED_KEY_TYPE: u8 = 3;

/// The record type of what stands in a PIN slot whose PIN does not open the master key.
pub(crate) const PROOF_TYPE: u8 = 9;

/// Key of the format row in [`Table::Meta`].
pub(crate) const FORMAT_KEY: &[u8] = b"format";
/// Key of the manifest row in [`Table::Meta`].
pub(crate) const MANIFEST_KEY: &[u8] = b"manifest";
/// Key of the next free object handle in [`Table::Reserved`].
pub(crate) const HANDLE_KEY: &[u8] = b"handle";

/// Whose PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// The security officer.
    So,
    /// The normal user.
    User,
}

impl Role {
    /// The number on disk; the same as CKU_SO and CKU_USER.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Role::So => 0,
            Role::User => 1,
        }
    }
}

/// Key of a token record: the slot number, so that a slot cannot hold two tokens.
pub(crate) fn token_key(slot: u64) -> [u8; 8] {
    slot.to_be_bytes()
}

/// Key of a PIN slot and of its attempt counter.
pub(crate) fn pin_key(token: TokenId, role: Role) -> [u8; 17] {
    let mut key = [0; 17];
    key[..16].copy_from_slice(&token.0);
    key[16] = role.number();
    key
}

/// Key of a token's key link in [`Table::Pin`].
pub(crate) fn link_key(token: TokenId) -> [u8; 17] {
    let mut key = [2; 17];
    key[..16].copy_from_slice(&token.0);
    key
}

/// Key of a token's AUTO slot in [`Table::Pin`].
pub(crate) fn auto_key(token: TokenId) -> [u8; 17] {
    let mut key = [3; 17];
    key[..16].copy_from_slice(&token.0);
    key
}

/// Key of an object record.
pub(crate) fn object_key(token: TokenId, object: ObjectId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&token.0);
    key[16..].copy_from_slice(&object.0);
    key
}

/// What the keys of all reserved IVs begin with.
pub(crate) const IV_PREFIX: &[u8] = b"iv";

/// Key of a key's reserved IVs in [`Table::Reserved`].
pub(crate) fn iv_key(name: &[u8; 16]) -> Vec<u8> {
    [IV_PREFIX, name].concat()
}

/// Key of the signature count of a guarded key in [`Table::Reserved`].
pub(crate) fn count_key(token: TokenId, object: ObjectId) -> Vec<u8> {
    [count_prefix(token).as_slice(), &object.0].concat()
}

/// What the keys of a token's signature counts begin with.
pub(crate) fn count_prefix(token: TokenId) -> Vec<u8> {
    [b"count".as_slice(), &token.0].concat()
}

/// Key of what is remembered of a client that gave wrong PINs of a token, in [`Table::Reserved`].
pub(crate) fn client_key(token: TokenId, name: &[u8; 16]) -> Vec<u8> {
    [client_prefix(token).as_slice(), name].concat()
}

/// What the keys of a token's clients begin with.
pub(crate) fn client_prefix(token: TokenId) -> Vec<u8> {
    [CLIENT_PREFIX, &token.0].concat()
}

/// What the keys of all clients begin with.
pub(crate) const CLIENT_PREFIX: &[u8] = b"client";

/// The object id in a key made by [`object_key`].
pub(crate) fn object_of_key(key: &[u8]) -> Option<ObjectId> {
    let id: [u8; 16] = key.get(16..)?.try_into().ok()?;
    Some(ObjectId(id))
}

/// Key of an outbox row: big endian, so that a scan is in order of generation.
pub(crate) fn outbox_key(generation: u64) -> [u8; 8] {
    generation.to_be_bytes()
}

/// A token and the slot it sits in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRecord {
    /// New at every initialisation.
    pub(crate) id: TokenId,
    /// The slot number.
    pub(crate) slot: u64,
    /// The label, without padding.
    pub(crate) label: String,
    /// The serial number; it outlives initialisation.
    pub(crate) serial: String,
    /// When it was initialised, in nanoseconds since the Unix epoch.
    pub(crate) created_ns: u64,
    /// Whether C_InitToken has been done.
    pub(crate) initialized: bool,
}

#[derive(Clone, PartialEq, Message)]
struct TokenBody {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(uint64, tag = "2")]
    slot: u64,
    #[prost(string, tag = "3")]
    label: String,
    #[prost(string, tag = "4")]
    serial: String,
    #[prost(uint64, tag = "5")]
    created_ns: u64,
    #[prost(bool, tag = "6")]
    initialized: bool,
}

impl TokenRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = TokenBody {
            id: self.id.0.to_vec(),
            slot: self.slot,
            label: self.label.clone(),
            serial: self.serial.clone(),
            created_ns: self.created_ns,
            initialized: self.initialized,
        };
        body.encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<TokenRecord> {
        let body = TokenBody::decode(bytes).ok()?;
        Some(TokenRecord {
            id: TokenId(body.id.try_into().ok()?),
            slot: body.slot,
            label: body.label,
            serial: body.serial,
            created_ns: body.created_ns,
            initialized: body.initialized,
        })
    }
}

/// A PIN slot: how to turn the PIN into a key, and the token master key wrapped under that key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PinSlot {
    /// 1 = PBKDF2-HMAC-SHA256, 2 = Argon2id.
    #[prost(uint32, tag = "1")]
    pub(crate) kdf: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) iterations: u32,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) salt: Vec<u8>,
    /// Rises with every change of this PIN.
    #[prost(uint64, tag = "4")]
    pub(crate) version: u64,
    /// A record of type [`WRAPPED_KEY_TYPE`]; nothing where there is a proof.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) wrapped: Vec<u8>,
    /// The cost of Argon2id; zero for PBKDF2.
    #[prost(uint32, tag = "6")]
    pub(crate) memory_kib: u32,
    #[prost(uint32, tag = "7")]
    pub(crate) passes: u32,
    #[prost(uint32, tag = "8")]
    pub(crate) lanes: u32,
    /// A record of type [`PROOF_TYPE`], which holds nothing: the PIN opens this and not the master key.
    #[prost(bytes = "vec", tag = "9")]
    pub(crate) proof: Vec<u8>,
}

/// [`PinSlot::kdf`] of PBKDF2-HMAC-SHA256.
const PBKDF2: u32 = 1;
/// [`PinSlot::kdf`] of Argon2id.
const ARGON2ID: u32 = 2;

impl PinSlot {
    /// An unlocked slot's fields, with the function that stretches its PIN.
    pub(crate) fn new(function: PasswordFunction, salt: Vec<u8>, version: u64) -> PinSlot {
        let slot = PinSlot { salt, version, ..PinSlot::default() };
        match function {
            PasswordFunction::Pbkdf2 { iterations } => PinSlot { kdf: PBKDF2, iterations, ..slot },
            PasswordFunction::Argon2id { memory_kib, passes, lanes } => {
                PinSlot { kdf: ARGON2ID, memory_kib, passes, lanes, ..slot }
            }
        }
    }

    /// The function that stretches its PIN; nothing if this version does not know it.
    pub(crate) fn function(&self) -> Option<PasswordFunction> {
        match self.kdf {
            PBKDF2 => Some(PasswordFunction::Pbkdf2 { iterations: self.iterations }),
            ARGON2ID => {
                let (memory_kib, passes, lanes) = (self.memory_kib, self.passes, self.lanes);
                Some(PasswordFunction::Argon2id { memory_kib, passes, lanes })
            }
            _ => None,
        }
    }
}

/// While a token's master key is being replaced: the new one under the old one and the other way round. Both are records of type
/// [`WRAPPED_KEY_TYPE`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyLink {
    /// The number of the old key.
    #[prost(uint32, tag = "1")]
    pub(crate) from: u32,
    /// The number of the new key.
    #[prost(uint32, tag = "2")]
    pub(crate) to: u32,
    /// The new key under the old one, as long as a PIN slot holds the old one.
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) forward: Vec<u8>,
    /// The old key under the new one, as long as an object is sealed under the old one.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) backward: Vec<u8>,
}

/// The token master key under a key that the store key gives: no PIN opens it and none is needed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AutoSlot {
    /// The write's number, as that of [`AutoSlot::wrapped`].
    #[prost(uint64, tag = "1")]
    pub(crate) version: u64,
    /// A record of type [`WRAPPED_KEY_TYPE`].
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) wrapped: Vec<u8>,
}

/// How many attempts with one PIN have been made since the last that succeeded.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Attempts {
    #[prost(uint32, tag = "1")]
    pub(crate) failed: u32,
}

/// A number given out in blocks: the first that is still free.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Reserved {
    #[prost(uint64, tag = "1")]
    pub(crate) next: u64,
}

/// How many signatures of a guarded key may have been given out.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct SignatureCount {
    #[prost(uint64, tag = "1")]
    pub(crate) count: u64,
}

/// The wrong PINs of one client at one token.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClientRow {
    /// The client's canonical name.
    #[prost(string, tag = "1")]
    pub(crate) client: String,
    /// Wrong PINs since the last that was right, or since the last wait.
    #[prost(uint32, tag = "2")]
    pub(crate) failed: u32,
    /// How often it had to wait.
    #[prost(uint32, tag = "3")]
    pub(crate) blocks: u32,
    /// Until when it has to wait, in nanoseconds since the Unix epoch.
    #[prost(uint64, tag = "4")]
    pub(crate) blocked_until_ns: u64,
    /// When it was last heard of.
    #[prost(uint64, tag = "5")]
    pub(crate) seen_ns: u64,
    /// Until when it has to wait, in nanoseconds since the machine was started.
    #[prost(uint64, tag = "6")]
    pub(crate) blocked_until_up_ns: u64,
}

/// The numbers reserved for the IVs of one key.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ReservedIvs {
    /// The first that is still free.
    #[prost(uint64, tag = "1")]
    pub(crate) next: u64,
    /// What the numbers are XORed with; absent until the first is given out.
    #[prost(uint32, optional, tag = "2")]
    pub(crate) mask: Option<u32>,
    /// How often the store had been restored when the row was written.
    #[prost(uint32, tag = "3")]
    pub(crate) restores: u32,
}

/// The plain row that lets a reader refuse before it needs a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FormatRow {
    /// The format of the store.
    pub(crate) format: u16,
    /// The oldest format number a reader must know to read it.
    pub(crate) min_reader: u16,
    /// Unique for all time; kept by a restore.
    pub(crate) store_id: [u8; 16],
    /// Names the store key without telling anything about it.
    pub(crate) key_id: [u8; 16],
}

const FORMAT_MAGIC: &[u8; 4] = b"HSDB";

impl FormatRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = FORMAT_MAGIC.to_vec();
        row.extend_from_slice(&self.format.to_le_bytes());
        row.extend_from_slice(&self.min_reader.to_le_bytes());
        row.extend_from_slice(&self.store_id);
        row.extend_from_slice(&self.key_id);
        row
    }

    /// Reads the row. A newer format may have a longer row: only the first eight bytes are promised for ever.
    pub(crate) fn decode(row: &[u8]) -> Option<FormatRow> {
        if row.len() < 40 || row[..4] != FORMAT_MAGIC[..] {
            return None;
        }
        Some(FormatRow {
            format: u16::from_le_bytes([row[4], row[5]]),
            min_reader: u16::from_le_bytes([row[6], row[7]]),
            store_id: row[8..24].try_into().ok()?,
            key_id: row[24..40].try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_lead_back_to_their_tables() {
        for table in Table::SEALED {
            assert_eq!(Table::from_name(table.name()), Some(table));
        }
        assert_eq!(Table::from_name("no such table"), None);
    }

    #[test]
    fn record_types_are_distinct() {
        let mut seen = vec![WRAPPED_KEY_TYPE, PROOF_TYPE];
        for table in Table::SEALED {
            assert!(!seen.contains(&table.record_type()), "{}", table.name());
            seen.push(table.record_type());
        }
    }

    #[test]
    fn token_record_survives_its_codec() {
        let token = TokenRecord {
            id: TokenId([7; 16]),
            slot: 3,
            label: "Prüfstand".into(),
            serial: "00ff".into(),
            created_ns: 9,
            initialized: true,
        };
        assert_eq!(TokenRecord::decode(&token.encode()), Some(token));
        assert_eq!(TokenRecord::decode(b"\x0a\x01x"), None);
    }
}

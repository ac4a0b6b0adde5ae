//! The sealed record: keys derived from the store key, one AES-256-GCM key per write, and the header as authenticated
//! data (`format.md` sections 3 and 4). It knows neither tables' contents nor files.
//!
//! HKDF is RFC 5869, GCM is SP 800-38D; the commitment makes a record openable under one key only.

use super::layout::{self, Role, Table};
use crate::crypto::password::PasswordFunction;
use crate::error::{Error, Kind, Result};
use crate::id::{ObjectId, TokenId};
use crate::secret::SecretBytes;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use parking_lot::RwLock;
use sha2::Sha256;
use std::sync::Arc;
use subtle::ConstantTimeEq;

const MAGIC: &[u8; 4] = b"HSR1";
const FORMAT: u8 = 1;
/// HKDF-SHA256 + AES-256-GCM + commitment.
const SUITE: u8 = 1;
const HEADER_LEN: usize = 136;
const TAG_LEN: usize = 16;
/// No record is longer: a length field that says more is a lie.
const MAX_PLAINTEXT: usize = 64 << 20;

/// A 32-byte key of the hierarchy. It lives on the heap, so that moving it leaves no copy behind.
pub(crate) struct Key(SecretBytes);

const KEY_LEN: usize = 32;

impl Key {
    /// A second copy, made on purpose.
    pub(crate) fn to_secret(&self) -> SecretBytes {
        self.0.duplicate()
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Key> {
        (bytes.len() == KEY_LEN).then(|| Key(SecretBytes::copy_from(bytes)))
    }

    pub(crate) fn random() -> Result<Key> {
        let mut key = SecretBytes::zeroed(KEY_LEN);
        fill_random(key.expose_mut())?;
        Ok(Key(key))
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// HKDF-SHA256 with `self` as input keying material.
    pub(crate) fn derive(&self, salt: &[u8], info: &[&[u8]]) -> Key {
        let mut out = SecretBytes::zeroed(KEY_LEN);
        expand(salt, self.expose(), info, out.expose_mut());
        Key(out)
    }
}

pub(crate) fn fill_random(out: &mut [u8]) -> Result<()> {
    crate::crypto::rng::fill(out).map_err(|_| Error::new(Kind::Device, "the random number generator failed"))
}

pub(crate) fn random_id() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    fill_random(&mut id)?;
    Ok(id)
}

fn expand(salt: &[u8], ikm: &[u8], info: &[&[u8]], out: &mut [u8]) {
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand_multi_info(info, out)
        .expect("64 bytes are fewer than the 255 blocks that HKDF can make");
}

/// The store key and what is derived from it.
pub(crate) struct StoreKeys {
    store_key: Key,
    store_id: [u8; 16],
    public: Key,
    system: Key,
    set: Key,
    manifest: Key,
    iv: Key,
    client: Key,
}

impl StoreKeys {
    pub(crate) fn new(store_key: Key, store_id: [u8; 16]) -> StoreKeys {
        let system = store_key.derive(&store_id, &[b"craton-hsm store v1 sys"]);
        StoreKeys {
            public: store_key.derive(&store_id, &[b"craton-hsm store v1 pub"]),
            set: system.derive(&store_id, &[b"set"]),
            manifest: system.derive(&store_id, &[b"manifest"]),
            iv: system.derive(&store_id, &[b"iv"]),
            client: system.derive(&store_id, &[b"client"]),
            system,
            store_id,
            store_key,
        }
    }

    /// Names the key in the plain format row, so that a wrong key is told from a damaged store.
    pub(crate) fn key_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        expand(&self.store_id, self.store_key.expose(), &[b"craton-hsm store v1 key id"], &mut id);
        id
    }

    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    /// A copy for the backup, which wraps it.
    pub(crate) fn store_key(&self) -> SecretBytes {
        self.store_key.to_secret()
    }

    /// Seals the journal's signing key, which lies beside the journal.
    pub(crate) fn journal_key(&self) -> SecretBytes {
        self.store_key.derive(&self.store_id, &[b"craton-hsm store v1 audit"]).0
    }

    /// Names a key value without telling anything about it.
    pub(crate) fn iv_name(&self, key_value: &[u8]) -> [u8; 16] {
        name_under(&self.iv, key_value)
    }

    /// Names a client without telling who it is.
    pub(crate) fn client_name(&self, client: &str) -> [u8; 16] {
        name_under(&self.client, client.as_bytes())
    }

    fn pepper(&self, token: TokenId) -> Key {
        self.store_key.derive(&self.store_id, &[b"craton-hsm store v1 pepper", &token.0])
    }

    /// The key of a PIN slot, from the output of the password function.
    pub(crate) fn pin_key(&self, stretched: &Key, token: TokenId, role: Role, version: u64) -> Key {
        let role = [role.number()];
        let version = version.to_le_bytes();
        let info: [&[u8]; 5] = [b"kek", &self.store_id, &token.0, &role, &version];
        stretched.derive(self.pepper(token).expose(), &info)
    }

    /// The key of a token's AUTO slot.
    pub(crate) fn auto_key(&self, token: TokenId, version: u64) -> Key {
        self.store_key.derive(&self.store_id, &[b"craton-hsm store v1 auto", &token.0, &version.to_le_bytes()])
    }

    /// The key that seals a table's records; private objects are sealed under their token's master key instead.
    pub(crate) fn for_table(&self, table: Table) -> Option<&Key> {
        match table {
            Table::Token | Table::Pin | Table::PublicObject => Some(&self.public),
            Table::Attempts | Table::Reserved | Table::Outbox => Some(&self.system),
            Table::Meta | Table::PrivateObject => None,
        }
    }

    /// Seals a row under the store's own key for its table.
    pub(crate) fn seal_row(&self, label: &Label, place: Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>> {
        let key = self.for_table(place.table);
        let key = key.ok_or_else(|| Error::new(Kind::Internal, "this table's records have a key of their own"))?;
        self.seal_row_under(key, label, place, plaintext)
    }

    /// Seals a row under another key: a token master key. A row is the record and its set element, so that a damaged
    /// row is found, and named, without the key that opens it.
    pub(crate) fn seal_row_under(
        &self,
        key: &Key,
        label: &Label,
        place: Place<'_>,
        plaintext: &[u8],
    ) -> Result<Vec<u8>> {
        let mut row = seal(key, label, place, plaintext)?;
        let element = self.set_element(place.table, place.key, &row);
        row.extend_from_slice(&element);
        Ok(row)
    }

    /// The set element at the end of a row, as written; not verified.
    pub(crate) fn row_element(&self, table: Table, key: &[u8], row: &[u8]) -> [u8; 32] {
        match split_row(row) {
            Some((_, element)) => *element,
            None => self.set_element(table, key, row),
        }
    }

    /// Whether the row was written at this place by the holder of the store key.
    pub(crate) fn verify_row<'a>(&self, place: Place<'_>, row: &'a [u8]) -> Result<(Label, &'a [u8; 32]), SealError> {
        let (record, element) = split_row(row).ok_or(SealError::NotARecord)?;
        let label = read_label(record)?;
        if !bool::from(self.set_element(place.table, place.key, record).ct_eq(element)) {
            return Err(SealError::Changed);
        }
        if label.store_id != self.store_id || label.record_type != place.table.record_type() {
            return Err(SealError::Misplaced);
        }
        Ok((label, element))
    }

    /// Opens a row; `key` is the token master key for private objects and `None` for all others.
    pub(crate) fn open_row(
        &self,
        key: Option<&Key>,
        place: Place<'_>,
        row: &[u8],
    ) -> Result<(Label, SecretBytes), SealError> {
        let (record, _) = split_row(row).ok_or(SealError::NotARecord)?;
        let key = key.or_else(|| self.for_table(place.table)).ok_or(SealError::WrongKey)?;
        let (label, plaintext) = open(key, place, record)?;
        if label.store_id != self.store_id || label.record_type != place.table.record_type() {
            return Err(SealError::Misplaced);
        }
        Ok((label, plaintext))
    }

    /// A record's share in the set hash of the manifest.
    pub(super) fn set_element(&self, table: Table, key: &[u8], record: &[u8]) -> [u8; 32] {
        use sha2::Digest;
        let mut mac = mac(&self.set);
        for field in [table.name().as_bytes(), key] {
            mac.update(&(field.len() as u64).to_le_bytes());
            mac.update(field);
        }
        mac.update(&Sha256::digest(record));
        mac.finalize().into_bytes().into()
    }

    /// The tag over the manifest's fields.
    pub(crate) fn manifest_tag(&self, fields: &[u8]) -> [u8; 32] {
        let mut mac = mac(&self.manifest);
        mac.update(fields);
        mac.finalize().into_bytes().into()
    }
}

/// A row's record and the set element after it.
pub(crate) fn split_row(row: &[u8]) -> Option<(&[u8], &[u8; 32])> {
    row.split_last_chunk()
}

fn name_under(key: &Key, value: &[u8]) -> [u8; 16] {
    let mut mac = mac(key);
    mac.update(value);
    let name: [u8; 32] = mac.finalize().into_bytes().into();
    let mut first = [0; 16];
    first.copy_from_slice(&name[..16]);
    first
}

fn mac(key: &Key) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length")
}

/// The keys that seal a token's private objects: one, or two while the second replaces the first. They exist in memory only between
/// login and logout, and everybody who is logged in shares them.
pub(crate) struct TokenMasterKey {
    token: TokenId,
    ring: RwLock<Ring>,
}

struct Ring {
    epoch: u32,
    key: Arc<Key>,
    previous: Option<(u32, Arc<Key>)>,
}

impl TokenMasterKey {
    pub(crate) fn from_parts(token: TokenId, epoch: u32, key: Key) -> TokenMasterKey {
        TokenMasterKey { token, ring: RwLock::new(Ring { epoch, key: Arc::new(key), previous: None }) }
    }

    /// The token whose objects they seal.
    pub(crate) fn token(&self) -> TokenId {
        self.token
    }

    /// The newest key and its number.
    pub(crate) fn current(&self) -> (u32, Arc<Key>) {
        let ring = self.ring.read();
        (ring.epoch, Arc::clone(&ring.key))
    }

    /// The key of this number.
    pub(crate) fn of_epoch(&self, epoch: u32) -> Option<Arc<Key>> {
        let ring = self.ring.read();
        if ring.epoch == epoch {
            return Some(Arc::clone(&ring.key));
        }
        ring.previous.as_ref().filter(|(previous, _)| *previous == epoch).map(|(_, key)| Arc::clone(key))
    }

    /// Puts a new key in the place of the newest, which stays at hand.
    pub(crate) fn advance(&self, epoch: u32, key: Key) {
        let mut ring = self.ring.write();
        let old = core::mem::replace(&mut ring.key, Arc::new(key));
        ring.previous = Some((ring.epoch, old));
        ring.epoch = epoch;
    }

    /// Whether the key before the newest is still at hand.
    pub(crate) fn is_rotating(&self) -> bool {
        self.ring.read().previous.is_some()
    }

    /// Nothing is sealed under the key before the newest any more.
    pub(crate) fn forget_previous(&self) {
        self.ring.write().previous = None;
    }
}

impl core::fmt::Debug for TokenMasterKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "TokenMasterKey({})", self.token)
    }
}

/// What a header says about its record, beside the salt and the commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) record_type: u8,
    pub(crate) store_id: [u8; 16],
    /// Zero where a record belongs to no token.
    pub(crate) token: TokenId,
    /// Zero where a record is no object.
    pub(crate) object: ObjectId,
    /// The write's number: unique in the life of the store.
    pub(crate) version: u64,
    pub(crate) epoch: u32,
}

/// Where a record is stored; part of its authenticated data.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) table: Table,
    pub(crate) key: &'a [u8],
}

impl Place<'_> {
    fn authenticated(&self, header: &[u8]) -> Vec<u8> {
        [header, self.table.name().as_bytes(), self.key].concat()
    }
}

/// Why a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// It is too short, has other magic bytes, or its length field is wrong.
    #[error("it is not a record")]
    NotARecord,
    /// A newer version wrote it.
    #[error("its format {format} or suite {suite} is not known to this version")]
    Unknown { format: u8, suite: u8 },
    /// The key is another one, or the record was changed where the commitment is made.
    #[error("it does not belong to this key")]
    WrongKey,
    /// The authentication tag does not match.
    #[error("it was changed")]
    Changed,
    /// It is another record than the one expected here.
    #[error("it belongs to another place")]
    Misplaced,
}

/// Seals `plaintext`; a fresh salt gives every write its own AES key, so the nonce can be constant.
pub(crate) fn seal(parent: &Key, label: &Label, place: Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>> {
    let mut salt = [0; 32];
    fill_random(&mut salt)?;
    seal_with_salt(parent, label, place, plaintext, &salt)
}

fn seal_with_salt(parent: &Key, label: &Label, place: Place<'_>, plaintext: &[u8], salt: &[u8; 32]) -> Result<Vec<u8>> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(Error::new(Kind::ResourceExceeded, "the record is longer than 64 MiB"));
    }
    let ciphertext_len = u32::try_from(plaintext.len()).expect("at most MAX_PLAINTEXT");
    let mut record = Vec::with_capacity(HEADER_LEN + plaintext.len() + TAG_LEN);
    record.extend_from_slice(MAGIC);
    record.extend_from_slice(&[FORMAT, SUITE, label.record_type, 0]);
    record.extend_from_slice(&label.store_id);
    record.extend_from_slice(&label.token.0);
    record.extend_from_slice(&label.object.0);
    record.extend_from_slice(&label.version.to_le_bytes());
    record.extend_from_slice(&label.epoch.to_le_bytes());
    let keys = record_keys(parent, salt, &record);
    record.extend_from_slice(salt);
    record.extend_from_slice(&keys.expose()[KEY_LEN..]);
    record.extend_from_slice(&ciphertext_len.to_le_bytes());
    let aad = place.authenticated(&record);
    record.extend_from_slice(plaintext);
    let tag = cipher(&keys)
        .encrypt_inout_detached(&Nonce::default(), &aad, record[HEADER_LEN..].as_mut().into())
        .map_err(|_| Error::new(Kind::Internal, "AES-GCM refused a record within its length limit"))?;
    record.extend_from_slice(&tag);
    Ok(record)
}

/// Opens a record that must lie at `place` and carry the label `expect` accepts.
pub(crate) fn open(parent: &Key, place: Place<'_>, record: &[u8]) -> Result<(Label, SecretBytes), SealError> {
    let label = read_label(record)?;
    let salt = &record[68..100];
    let keys = record_keys(parent, salt, &record[..68]);
    if !bool::from(keys.expose()[KEY_LEN..].ct_eq(&record[100..132])) {
        return Err(SealError::WrongKey);
    }
    let (body, tag) = record[HEADER_LEN..].split_at(record.len() - HEADER_LEN - TAG_LEN);
    let tag = Tag::try_from(tag).map_err(|_| SealError::NotARecord)?;
    let mut plaintext = SecretBytes::copy_from(body);
    cipher(&keys)
        .decrypt_inout_detached(
            &Nonce::default(),
            &place.authenticated(&record[..HEADER_LEN]),
            plaintext.expose_mut().into(),
            &tag,
        )
        .map_err(|_| SealError::Changed)?;
    Ok((label, plaintext))
}

/// The header's fields, unauthenticated until the record is opened.
pub(crate) fn read_label(record: &[u8]) -> Result<Label, SealError> {
    if record.len() < HEADER_LEN + TAG_LEN || record[..4] != MAGIC[..] {
        return Err(SealError::NotARecord);
    }
    if record[4] != FORMAT || record[5] != SUITE {
        return Err(SealError::Unknown { format: record[4], suite: record[5] });
    }
    let length = u32::from_le_bytes(field(record, 132)) as usize;
    if length != record.len() - HEADER_LEN - TAG_LEN {
        return Err(SealError::NotARecord);
    }
    Ok(Label {
        record_type: record[6],
        store_id: field(record, 8),
        token: TokenId(field(record, 24)),
        object: ObjectId(field(record, 40)),
        version: u64::from_le_bytes(field(record, 56)),
        epoch: u32::from_le_bytes(field(record, 64)),
    })
}

/// The number of the master key that a row is sealed under.
pub(super) fn epoch_of(row: &[u8]) -> Option<u32> {
    let (record, _) = split_row(row)?;
    read_label(record).ok().map(|label| label.epoch)
}

fn field<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
    record[at..at + N].try_into().expect("the caller has checked that the header is complete")
}

/// 32 bytes of AES key, then 32 bytes of commitment.
fn record_keys(parent: &Key, salt: &[u8], head: &[u8]) -> SecretBytes {
    let mut keys = SecretBytes::zeroed(2 * KEY_LEN);
    expand(salt, parent.expose(), &[b"rec", head], keys.expose_mut());
    keys
}

fn cipher(keys: &SecretBytes) -> Aes256Gcm {
    Aes256Gcm::new_from_slice(&keys.expose()[..KEY_LEN]).expect("32 bytes are an AES-256 key")
}

/// 32 bytes of a PIN.
pub(crate) fn stretch(pin: &SecretBytes, salt: &[u8], function: PasswordFunction) -> Result<Key> {
    let out = function.stretch(pin, salt);
    out.map(Key).map_err(|_| Error::new(Kind::Device, "the cost of the PIN's password function is out of range"))
}

/// The label of a record of `table`.
pub(crate) fn table_label(table: Table, store_id: [u8; 16], token: TokenId, object: ObjectId, version: u64) -> Label {
    Label { record_type: table.record_type(), store_id, token, object, version, epoch: 0 }
}

/// The label of the wrapped master key inside a PIN record.
pub(crate) fn wrapped_label(store_id: [u8; 16], token: TokenId, version: u64, epoch: u32) -> Label {
    Label { record_type: layout::WRAPPED_KEY_TYPE, store_id, token, object: ObjectId([0; 16]), version, epoch }
}

/// The label of the proof in a PIN record whose PIN does not open the master key.
pub(crate) fn proof_label(store_id: [u8; 16], token: TokenId, version: u64) -> Label {
    Label { record_type: layout::PROOF_TYPE, ..wrapped_label(store_id, token, version, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    fn sample() -> (Key, Label, Place<'static>) {
        let label = Label {
            record_type: 7,
            store_id: [0x11; 16],
            token: TokenId([0x22; 16]),
            object: ObjectId([0x33; 16]),
            version: 0x0102_0304_0506_0708,
            epoch: 1,
        };
        (Key::from_slice(&[0x44; 32]).unwrap(), label, Place { table: Table::PrivateObject, key: b"key" })
    }

    /// Made by an independent implementation of `format.md` section 4 (Python, hashlib and OpenSSL's AES-GCM).
    #[test]
    fn record_format_1_has_its_known_answer() {
        let (key, label, place) = sample();
        let record = seal_with_salt(&key, &label, place, b"a private key", &[0x55; 32]).unwrap();
        assert_eq!(record, hex(KNOWN_RECORD));
        let (found, plaintext) = open(&key, place, &hex(KNOWN_RECORD)).unwrap();
        assert_eq!((found, plaintext.expose()), (label, &b"a private key"[..]));
    }

    #[test]
    fn the_hierarchy_has_its_known_answers() {
        let keys = StoreKeys::new(Key::from_slice(&[0x44; 32]).unwrap(), [0x11; 16]);
        let stretched =
            stretch(&SecretBytes::copy_from(b"1234"), &[0x55; 32], PasswordFunction::Pbkdf2 { iterations: 1000 })
                .unwrap();
        let pin_key = keys.pin_key(&stretched, TokenId([0x22; 16]), Role::User, 3);
        let set = keys.set_element(Table::Token, b"key", b"record");
        let auto = keys.auto_key(TokenId([0x22; 16]), 3);
        let rows: [(&str, &[u8], &str); 8] = [
            ("auto", auto.expose(), KNOWN_AUTO),
            ("pub", keys.public.expose(), KNOWN_PUB),
            ("sys", keys.system.expose(), KNOWN_SYS),
            ("key id", &keys.key_id(), KNOWN_KEY_ID),
            ("pin", pin_key.expose(), KNOWN_PIN),
            ("set", &set, KNOWN_SET),
            ("manifest", &keys.manifest_tag(b"fields"), KNOWN_MANIFEST),
            ("client", &keys.client_name("uid:1000"), KNOWN_CLIENT),
        ];
        for (name, found, known) in rows {
            assert_eq!(data_encoding::HEXLOWER.encode(found), known, "{name}");
        }
    }

    /// By the same program.
    #[test]
    fn the_record_in_an_auto_slot_has_its_known_answer() {
        let keys = StoreKeys::new(Key::from_slice(&[0x44; 32]).unwrap(), [0x11; 16]);
        let token = TokenId([0x22; 16]);
        let (kek, label) = (keys.auto_key(token, 3), wrapped_label([0x11; 16], token, 3, 1));
        let key = layout::auto_key(token);
        let record =
            seal_with_salt(&kek, &label, Place { table: Table::Pin, key: &key }, &[0x66; 32], &[0x55; 32]).unwrap();
        assert!(record == hex(KNOWN_AUTO_RECORD));
    }

    #[test]
    fn a_record_opens_only_where_it_was_sealed() {
        let (key, label, place) = sample();
        let record = seal(&key, &label, place, b"x").unwrap();
        let elsewhere =
            [Place { table: Table::PublicObject, key: b"key" }, Place { table: Table::PrivateObject, key: b"other" }];
        for place in elsewhere {
            assert_eq!(open(&key, place, &record).err(), Some(SealError::Changed));
        }
        let other = Key::from_slice(&[0x45; 32]).unwrap();
        assert_eq!(open(&other, place, &record).err(), Some(SealError::WrongKey));
    }

    #[test]
    fn two_writes_of_one_record_share_neither_salt_nor_ciphertext() {
        let (key, label, place) = sample();
        let [a, b] = [(); 2].map(|()| seal(&key, &label, place, b"the same bytes").unwrap());
        assert_ne!(a[68..100], b[68..100]);
        assert_ne!(a[HEADER_LEN..], b[HEADER_LEN..]);
    }

    #[test]
    fn unknown_formats_are_named() {
        let (key, label, place) = sample();
        let mut record = seal(&key, &label, place, b"x").unwrap();
        record[4] = 2;
        let refused = open(&key, place, &record).err();
        assert_eq!(refused, Some(SealError::Unknown { format: 2, suite: 1 }));
        assert!(refused.unwrap().to_string().contains("format 2"));
    }

    const KNOWN_RECORD: &str = concat!(
        "4853523101010700111111111111111111111111111111112222222222222222222222222222222233333333333333333333",
        "3333333333330807060504030201010000005555555555555555555555555555555555555555555555555555555555555555",
        "7ecae6e41e21c632c4f7d6b34eaf510df997e0b055e3d0332fbabecddcdc53300d000000f94ed0482b0012eaf0365421d7d9",
        "7a46685ec57cd9c70e539caf900982",
    );
    const KNOWN_AUTO_RECORD: &str = concat!(
        "4853523101010300111111111111111111111111111111112222222222222222222222222222222200000000000000000000",
        "0000000000000300000000000000010000005555555555555555555555555555555555555555555555555555555555555555",
        "5be7c5c482261d3561b0cca37710fce8fc38273561c160b2285780ae7de55856200000005b4d50059da874cc5f8c6cc18cb6",
        "45603acdce1db13fb5e6c5031563fd40f633175316af4146e1039ec4358bc53b1020",
    );
    const KNOWN_AUTO: &str = "82b62975eab00e401a328affc13654eb11e717fc81bdab1867e0ce42b92b9615";
    const KNOWN_PUB: &str = "3cd9e54a847ea67f991deb6a5c80e5e9a2f133051d753b571f378aac0cf2ccba";
    const KNOWN_SYS: &str = "75878b4b209aa9620576b74d1aa597e55a7e64e13d997f377b34176ff8dddbbf";
    const KNOWN_KEY_ID: &str = "b575e3f57857bc2bc24dec1081ad25e2";
    const KNOWN_PIN: &str = "0db468f1241748030cc426876eca938a47a17c156ea13bf4b76ed0a0a6005997";
    const KNOWN_SET: &str = "22b2ccc9b3fddea642af945754872171e205e4c78dc5bdf58ac6334c40318b5d";
    const KNOWN_CLIENT: &str = "6651dfb6bea641e3fa4bac73458d363f";
    const KNOWN_MANIFEST: &str = "831499f9a041534d1ea0fd3881bc0ac00e96f65cfbfb3edf159d80ab92b0dc79";
}

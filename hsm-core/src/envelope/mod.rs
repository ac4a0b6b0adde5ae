//! A key of 32 bytes wrapped for those who may have it, and for nobody else: the SO PIN, a passphrase, a pair of keys, a quorum of
//! shares, a key in another PKCS#11 module. An archive's file key and a sealed store key are kept so. The fields of each kind and the
//! keys are in `backup/format.md`, "Recipients" and "Keys".

mod key_pair;

pub use key_pair::{BackupPublicKey, BackupSecretKey};

use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::crypto::password::PasswordFunction;
use crate::crypto::{aes_gcm, rng};
use crate::share::{Share, ShareSet, combine_shares};
use crate::{Error, Kind, Result, SecretBytes, TokenId};

const ZERO_IV: [u8; 12] = [0; 12];
const SO_PIN: &str = "so_pin";
const PASSPHRASE: &str = "passphrase";
const PUBLIC_KEY: &str = "public_key";
const SHARES: &str = "shares";
const PBKDF2: &str = "PBKDF2-HMAC-SHA256";
const ARGON2ID: &str = "Argon2id";
const MODULE: &str = "module";
const KEY_LEN: usize = 32;
/// The only format of archives whose recipients were bound by their token alone.
const FIRST_FORMAT: u16 = 1;

/// What the wrapped key is for; nothing wrapped for one purpose opens for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The file key of an archive of this format.
    Backup { format: u16 },
    /// The store key.
    StoreKey,
}

impl Purpose {
    fn noun(self) -> &'static str {
        match self {
            Purpose::Backup { .. } => "the backup",
            Purpose::StoreKey => "the sealed store key",
        }
    }

    fn label(self) -> &'static [u8] {
        match self {
            Purpose::Backup { .. } => b"craton-hsm backup v2 recipient",
            Purpose::StoreKey => b"craton-hsm store key v1 recipient",
        }
    }

    fn prefix(self) -> Vec<u8> {
        match self {
            Purpose::Backup { format } => [&b"HSMB"[..], &format.to_le_bytes()].concat(),
            Purpose::StoreKey => b"HSSK\x01\x00".to_vec(),
        }
    }

    fn is_first_format(self) -> bool {
        self == Purpose::Backup { format: FIRST_FORMAT }
    }

    fn damaged(self, what: &str) -> Error {
        Error::new(Kind::DataInvalid, format!("{} is damaged: {what}", self.noun()))
    }
}

/// One who may have the key, in the canonical order of the fields. Which there are depends on `kind`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Recipient {
    pub(crate) commitment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encapsulated: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ephemeral: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iterations: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kdf: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lanes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_kib: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) passes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) salt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) set: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) threshold: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    pub(crate) wrapped: String,
}

/// Who is to open an archive, beside the SO.
pub enum For {
    /// Whoever knows a passphrase.
    Passphrase(SecretBytes),
    /// Whoever has the secret half of this key.
    PublicKey(BackupPublicKey),
    /// Whoever brings enough shares of this key of 32 bytes.
    Shares(ShareSet, SecretBytes),
    /// Whoever can use a key of another PKCS#11 module.
    Module(ModuleKey, SecretBytes),
}

/// A secret of 32 bytes that an AES key of another PKCS#11 module has encrypted with AES-GCM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleKey {
    /// The label of the token that the key is in.
    pub token: String,
    /// The key's label.
    pub label: String,
    /// 12 bytes.
    pub iv: Vec<u8>,
    /// The encrypted secret with its tag: 48 bytes.
    pub ciphertext: Vec<u8>,
}

/// What somebody brings to open an archive.
pub enum Credential {
    /// The SO PIN that a token had when it was backed up.
    SoPin(SecretBytes),
    /// A passphrase.
    Passphrase(SecretBytes),
    /// The secret half of a key.
    SecretKey(Box<BackupSecretKey>),
    /// Shares.
    Shares(Vec<Share>),
    /// What the other module decrypted.
    Module(SecretBytes),
}

/// Turns a token's identifier into a name for people.
type Names<'a> = &'a dyn Fn(&str) -> String;

/// A way to the key.
enum Way {
    SoPin { token: TokenId, function: PasswordFunction, salt: [u8; 32] },
    Passphrase { function: PasswordFunction, salt: [u8; 32] },
    PublicKey { key: String, ephemeral: Vec<u8>, encapsulated: Vec<u8> },
    Shares(ShareSet),
    Module(ModuleKey),
}

impl Way {
    fn recipient(&self) -> Recipient {
        let mut made = Recipient { kind: self.kind().to_owned(), ..Recipient::default() };
        match self {
            Way::SoPin { token, function, salt } => {
                made.token = Some(token.to_string());
                put_function(&mut made, *function, salt);
            }
            Way::Passphrase { function, salt } => put_function(&mut made, *function, salt),
            Way::PublicKey { key, ephemeral, encapsulated } => {
                made.key = Some(key.clone());
                made.ephemeral = Some(HEXLOWER.encode(ephemeral));
                made.encapsulated = Some(HEXLOWER.encode(encapsulated));
            }
            Way::Shares(set) => {
                made.set = Some(set.name_hex());
                made.threshold = Some(set.threshold);
                made.count = Some(set.count);
            }
            Way::Module(module) => {
                made.token = Some(module.token.clone());
                made.key = Some(module.label.clone());
                made.ephemeral = Some(HEXLOWER.encode(&module.iv));
                made.encapsulated = Some(HEXLOWER.encode(&module.ciphertext));
            }
        }
        made
    }

    fn kind(&self) -> &'static str {
        match self {
            Way::SoPin { .. } => SO_PIN,
            Way::Passphrase { .. } => PASSPHRASE,
            Way::PublicKey { .. } => PUBLIC_KEY,
            Way::Shares(_) => SHARES,
            Way::Module(_) => MODULE,
        }
    }

    /// Reads the fields of the recipient's kind, and refuses others.
    fn of(recipient: &Recipient, purpose: Purpose) -> Result<Way> {
        let missing = || purpose.damaged("a recipient lacks a field of its kind");
        let text = |field: &Option<String>| field.clone().ok_or_else(missing);
        let way = match recipient.kind.as_str() {
            SO_PIN => {
                let (function, salt) = function_of(recipient, purpose)?;
                Way::SoPin { token: TokenId(unhex(purpose, &text(&recipient.token)?)?), function, salt }
            }
            PASSPHRASE => {
                let (function, salt) = function_of(recipient, purpose)?;
                Way::Passphrase { function, salt }
            }
            PUBLIC_KEY => Way::PublicKey {
                key: text(&recipient.key)?,
                ephemeral: unhex::<32>(purpose, &text(&recipient.ephemeral)?)?.to_vec(),
                encapsulated: unhex::<1088>(purpose, &text(&recipient.encapsulated)?)?.to_vec(),
            },
            SHARES => Way::Shares(ShareSet {
                name: ShareSet::parse_name(&text(&recipient.set)?).ok_or_else(missing)?,
                threshold: recipient.threshold.ok_or_else(missing)?,
                count: recipient.count.ok_or_else(missing)?,
            }),
            MODULE => Way::Module(ModuleKey {
                token: text(&recipient.token)?,
                label: text(&recipient.key)?,
                iv: unhex::<12>(purpose, &text(&recipient.ephemeral)?)?.to_vec(),
                ciphertext: unhex::<48>(purpose, &text(&recipient.encapsulated)?)?.to_vec(),
            }),
            _ => return Err(purpose.damaged("it names a kind of recipient that there is none of")),
        };
        let mut whole = way.recipient();
        whole.commitment.clone_from(&recipient.commitment);
        whole.wrapped.clone_from(&recipient.wrapped);
        if whole != *recipient {
            return Err(purpose.damaged("a recipient has a field of another kind"));
        }
        if purpose.is_first_format() && !matches!(way, Way::SoPin { function: PasswordFunction::Pbkdf2 { .. }, .. }) {
            return Err(purpose.damaged("it names a recipient or a password function that format 1 does not have"));
        }
        Ok(way)
    }

    /// For messages: what opens the archive.
    fn describe(&self, names: Names<'_>) -> String {
        match self {
            Way::SoPin { token, .. } => format!("the SO PIN of {}", names(&token.to_string())),
            Way::Passphrase { .. } => "a passphrase".to_owned(),
            Way::PublicKey { key, .. } => format!("the secret key of {key}"),
            Way::Shares(set) => format!("{} of {} shares of set {}", set.threshold, set.count, set.name_hex()),
            Way::Module(module) => {
                format!("the key {:?} of the token {:?} in another module", module.label, module.token)
            }
        }
    }

    /// What the credential makes of this way, or nothing if it is for another.
    fn secret(&self, purpose: Purpose, credential: &Credential) -> Result<Option<SecretBytes>> {
        let stretch = |function: &PasswordFunction, password: &SecretBytes, salt: &[u8; 32]| {
            let stretched = function.stretch(password, salt);
            stretched.map(Some).map_err(|_| purpose.damaged("the cost of its password function is out of range"))
        };
        match (self, credential) {
            (Way::SoPin { function, salt, .. }, Credential::SoPin(pin)) => stretch(function, pin, salt),
            (Way::Passphrase { function, salt }, Credential::Passphrase(phrase)) => stretch(function, phrase, salt),
            (Way::PublicKey { key, ephemeral, encapsulated }, Credential::SecretKey(own))
                if *key == own.public().name() =>
            {
                own.decapsulate(ephemeral, encapsulated).map(Some)
            }
            (Way::Shares(set), Credential::Shares(shares)) => {
                let (found, secret) = combine_shares(shares)?;
                Ok((found == *set).then_some(secret))
            }
            (Way::Module(_), Credential::Module(secret)) => Ok(Some(secret.duplicate())),
            _ => Ok(None),
        }
    }
}

fn put_function(made: &mut Recipient, function: PasswordFunction, salt: &[u8; 32]) {
    made.salt = Some(HEXLOWER.encode(salt));
    match function {
        PasswordFunction::Pbkdf2 { iterations } => {
            made.kdf = Some(PBKDF2.to_owned());
            made.iterations = Some(iterations);
        }
        PasswordFunction::Argon2id { memory_kib, passes, lanes } => {
            made.kdf = Some(ARGON2ID.to_owned());
            (made.memory_kib, made.passes, made.lanes) = (Some(memory_kib), Some(passes), Some(lanes));
        }
    }
}

fn function_of(recipient: &Recipient, purpose: Purpose) -> Result<(PasswordFunction, [u8; 32])> {
    let missing = || purpose.damaged("a recipient lacks a field of its password function");
    let salt = unhex(purpose, recipient.salt.as_deref().ok_or_else(missing)?)?;
    let function = match recipient.kdf.as_deref() {
        Some(PBKDF2) => PasswordFunction::Pbkdf2 { iterations: recipient.iterations.ok_or_else(missing)? },
        Some(ARGON2ID) => PasswordFunction::Argon2id {
            memory_kib: recipient.memory_kib.ok_or_else(missing)?,
            passes: recipient.passes.ok_or_else(missing)?,
            lanes: recipient.lanes.ok_or_else(missing)?,
        },
        _ => return Err(purpose.damaged("it names a password function that there is none of")),
    };
    Ok((function, salt))
}

/// A key that is being wrapped, or opened.
#[derive(Clone, Copy)]
pub(crate) struct Envelope<'a> {
    /// What the key is for.
    pub(crate) purpose: Purpose,
    /// 32 random bytes that make this envelope's keys its own.
    pub(crate) salt: &'a [u8; 32],
}

impl Envelope<'_> {
    /// Wraps the key for the SO of a token.
    ///
    /// # Errors
    /// [`Kind::Device`] if there is no randomness.
    pub(crate) fn wrap_for_so(
        self,
        key: &SecretBytes,
        pin: &SecretBytes,
        token: TokenId,
        function: PasswordFunction,
    ) -> Result<Recipient> {
        let salt = random_salt()?;
        let stretched = function.stretch(pin, &salt)?;
        self.wrap(key, &Way::SoPin { token, function, salt }, &stretched)
    }

    /// Wraps the key for another recipient.
    ///
    /// # Errors
    /// [`Kind::Device`] if there is no randomness.
    pub(crate) fn wrap_for(self, key: &SecretBytes, whom: &For, function: PasswordFunction) -> Result<Recipient> {
        match whom {
            For::Passphrase(phrase) => {
                let salt = random_salt()?;
                let stretched = function.stretch(phrase, &salt)?;
                self.wrap(key, &Way::Passphrase { function, salt }, &stretched)
            }
            For::PublicKey(public) => {
                let made = public.encapsulate()?;
                let (ephemeral, encapsulated) = (made.ephemeral, made.ciphertext);
                self.wrap(key, &Way::PublicKey { key: public.name(), ephemeral, encapsulated }, &made.secrets)
            }
            For::Shares(set, secret) => self.wrap(key, &Way::Shares(*set), secret),
            For::Module(module, secret) => self.wrap(key, &Way::Module(module.clone()), secret),
        }
    }

    fn wrap(self, key: &SecretBytes, way: &Way, secret: &SecretBytes) -> Result<Recipient> {
        let mut made = way.recipient();
        let bound = self.bound(way, &made)?;
        let keys = bound.keys(secret, self.salt);
        let (kek, commitment) = keys.split_at(KEY_LEN);
        let wrapped = gcm(kek, &bound.aad)
            .and_then(|(cipher, params)| cipher.encrypt(&params, key.expose()))
            .map_err(|_| Error::new(Kind::Internal, "the key could not be wrapped"))?;
        made.commitment = HEXLOWER.encode(commitment);
        made.wrapped = HEXLOWER.encode(&wrapped);
        Ok(made)
    }

    /// Opens the key. `names` turns a token's identifier into a name for people.
    ///
    /// # Errors
    /// [`Kind::PinIncorrect`] when the credential is no recipient's; [`Kind::DataInvalid`] for damage, and for shares that are no
    /// quorum.
    pub(crate) fn open(
        self,
        recipients: &[Recipient],
        names: Names<'_>,
        credential: &Credential,
    ) -> Result<SecretBytes> {
        let ways = self.ways(recipients)?;
        for (way, recipient) in ways.iter().zip(recipients) {
            if let Some(secret) = way.secret(self.purpose, credential)?
                && let Some(key) = self.open_one(way, recipient, &secret)?
            {
                return Ok(key);
            }
        }
        let opens: Vec<String> = ways.iter().map(|way| way.describe(names)).collect();
        let (opens, noun) = (opens.join(", or "), self.purpose.noun());
        let tried = match credential {
            Credential::SoPin(_) => {
                let sentence = "it is not the SO PIN that the token had when it was backed up";
                return Err(Error::new(Kind::PinIncorrect, format!("{sentence}; {noun} opens with {opens}")));
            }
            Credential::Passphrase(_) => "the passphrase does".to_owned(),
            Credential::SecretKey(key) => format!("the secret key of {} does", key.public().name()),
            Credential::Shares(_) => "the shares do".to_owned(),
            Credential::Module(_) => "the other module's key does".to_owned(),
        };
        Err(Error::new(Kind::PinIncorrect, format!("{tried} not open {noun}; it opens with {opens}")))
    }

    fn open_one(self, way: &Way, recipient: &Recipient, secret: &SecretBytes) -> Result<Option<SecretBytes>> {
        let commitment: [u8; 32] = unhex(self.purpose, &recipient.commitment)?;
        let wrapped: [u8; KEY_LEN + 16] = unhex(self.purpose, &recipient.wrapped)?;
        let bound = self.bound(way, &way.recipient())?;
        let keys = bound.keys(secret, self.salt);
        let (kek, expected) = keys.split_at(KEY_LEN);
        if !bool::from(expected.ct_eq(&commitment)) {
            return Ok(None);
        }
        gcm(kek, &bound.aad)
            .and_then(|(cipher, params)| cipher.decrypt(&params, &wrapped))
            .map(Some)
            .map_err(|_| self.purpose.damaged("its wrapped key does not open"))
    }

    /// What opens it, in words.
    ///
    /// # Errors
    /// [`Kind::DataInvalid`] when a recipient is malformed.
    pub(crate) fn openers(self, recipients: &[Recipient], names: Names<'_>) -> Result<Vec<String>> {
        Ok(self.ways(recipients)?.iter().map(|way| way.describe(names)).collect())
    }

    /// The keys of other modules among the recipients.
    ///
    /// # Errors
    /// As [`Envelope::openers`].
    pub(crate) fn modules(self, recipients: &[Recipient]) -> Result<Vec<ModuleKey>> {
        let ways = self.ways(recipients)?.into_iter();
        Ok(ways.filter_map(|way| if let Way::Module(module) = way { Some(module) } else { None }).collect())
    }

    /// The sets of shares among the recipients.
    ///
    /// # Errors
    /// As [`Envelope::openers`].
    pub(crate) fn share_sets(self, recipients: &[Recipient]) -> Result<Vec<ShareSet>> {
        let ways = self.ways(recipients)?.into_iter();
        Ok(ways.filter_map(|way| if let Way::Shares(set) = way { Some(set) } else { None }).collect())
    }

    fn ways(self, recipients: &[Recipient]) -> Result<Vec<Way>> {
        recipients.iter().map(|recipient| Way::of(recipient, self.purpose)).collect()
    }

    /// What a recipient's keys are bound to: all of its own fields. `bare` is it without commitment and wrapped key.
    fn bound(self, way: &Way, bare: &Recipient) -> Result<Bound> {
        let (label, name): (&[u8], Vec<u8>) = match way {
            Way::SoPin { token, .. } if self.purpose.is_first_format() => {
                (b"craton-hsm backup v1 recipient", token.0.to_vec())
            }
            _ => {
                let json = serde_json::to_vec(bare).map_err(|_| Error::from(Kind::Internal))?;
                (self.purpose.label(), Sha256::digest(&json).to_vec())
            }
        };
        let aad = [&self.purpose.prefix()[..], self.salt, &name].concat();
        Ok(Bound { info: [label, &name].concat(), aad })
    }
}

struct Bound {
    info: Vec<u8>,
    aad: Vec<u8>,
}

impl Bound {
    fn keys(&self, secret: &SecretBytes, salt: &[u8; 32]) -> Zeroizing<[u8; 2 * KEY_LEN]> {
        let mut keys = Zeroizing::new([0; 2 * KEY_LEN]);
        Hkdf::<Sha256>::new(Some(salt), secret.expose())
            .expand(&self.info, &mut keys[..])
            .expect("64 bytes are fewer than the 255 blocks that HKDF can make");
        keys
    }
}

fn random_salt() -> Result<[u8; 32]> {
    let mut salt = [0; 32];
    let filled = rng::fill(&mut salt);
    filled.map(|()| salt).map_err(|_| Error::new(Kind::Device, "the random number generator failed"))
}

/// Lower-case hexadecimal of exactly `N` bytes.
fn unhex<const N: usize>(purpose: Purpose, text: &str) -> Result<[u8; N]> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| purpose.damaged("a field of a recipient is malformed"))
}

/// AES-256-GCM with a 96-bit IV of zeros and a 128-bit tag: each key is used once.
fn gcm<'a>(key: &[u8], aad: &'a [u8]) -> Result<(aes_gcm::Key, aes_gcm::Params<'a>), crate::crypto::Error> {
    Ok((aes_gcm::Key::new(key)?, aes_gcm::Params::new(&ZERO_IV, aad, 128)?))
}

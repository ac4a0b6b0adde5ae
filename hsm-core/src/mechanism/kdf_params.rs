//! The parameters of derivations as the doors hand them over: PKCS#11 3.2 §6.40 (TLS), §6.42 (SP 800-108), §6.62 (HKDF) and the
//! password-based generation of §6.37. Numbers are those of PKCS#11; lengths are bytes unless the name says bits.

use zeroize::Zeroizing;

use crate::object::Attr;

/// `CK_HKDF_PARAMS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HkdfParams {
    /// Whether the extract step is done.
    pub extract: bool,
    /// Whether the expand step is done.
    pub expand: bool,
    /// CKM number of the hash.
    pub hash: u64,
    /// CKF_HKDF_SALT_*: where the salt comes from.
    pub salt_type: u64,
    /// The salt, for CKF_HKDF_SALT_DATA.
    pub salt: Vec<u8>,
    /// The salt's handle, for CKF_HKDF_SALT_KEY.
    pub salt_key: u64,
    /// The info of the expand step.
    pub info: Vec<u8>,
}

/// One element of the array `CK_PRF_DATA_PARAM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KbkdfField {
    /// CK_SP800_108_ITERATION_VARIABLE; the format is there in counter mode only.
    Iteration(Option<KbkdfCounter>),
    /// CK_SP800_108_COUNTER.
    Counter(KbkdfCounter),
    /// CK_SP800_108_DKM_LENGTH.
    Length {
        /// CK_SP800_108_DKM_LENGTH_SUM_OF_*.
        method: u64,
        /// How the length is written.
        format: KbkdfCounter,
    },
    /// CK_SP800_108_BYTE_ARRAY.
    Bytes(Vec<u8>),
    /// CK_SP800_108_KEY_HANDLE.
    Key(u64),
}

/// How a number becomes bytes: `CK_SP800_108_COUNTER_FORMAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KbkdfCounter {
    /// Least significant byte first.
    pub little_endian: bool,
    /// Width in bits.
    pub width_bits: u64,
}

/// `CK_SP800_108_KDF_PARAMS` and `CK_SP800_108_FEEDBACK_KDF_PARAMS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KbkdfParams {
    /// CKM number of the pseudorandom function.
    pub prf: u64,
    /// The fields of its input, in order.
    pub fields: Vec<KbkdfField>,
    /// The initial value of the feedback mode; may be empty.
    pub iv: Vec<u8>,
    /// The templates of the keys that are derived besides the first.
    pub additional: Vec<Vec<Attr>>,
}

/// A password: wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Zeroizing<Vec<u8>>);

impl core::fmt::Debug for Password {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// `CK_PKCS5_PBKD2_PARAMS` and `CK_PKCS5_PBKD2_PARAMS2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pbkdf2Params {
    /// CKZ number: where the salt comes from.
    pub salt_source: u64,
    /// The salt.
    pub salt: Vec<u8>,
    /// Rounds.
    pub iterations: u64,
    /// CKP_PKCS5_PBKD2_HMAC_*.
    pub prf: u64,
    /// Data of the pseudorandom function; none of those offered takes any.
    pub prf_data: Vec<u8>,
    /// The password.
    pub password: Password,
}

/// The randoms of both sides of a TLS handshake: `CK_SSL3_RANDOM_DATA`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRandoms {
    /// The client's.
    pub client: Vec<u8>,
    /// The server's.
    pub server: Vec<u8>,
}

/// What makes a master secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMasterSeed {
    /// `CK_TLS12_MASTER_KEY_DERIVE_PARAMS`: both randoms.
    Randoms(TlsRandoms),
    /// `CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS`: the hash of the handshake.
    SessionHash(Vec<u8>),
}

/// The parameter of the master-secret derivations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsMasterParams {
    /// CKM number of the hash.
    pub hash: u64,
    /// What goes in.
    pub seed: TlsMasterSeed,
    /// Whether the caller wants the version that a pre-master secret begins with.
    pub wants_version: bool,
}

/// `CK_TLS12_KEY_MAT_PARAMS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsKeysParams {
    /// Length of each MAC key in bits.
    pub mac_bits: u64,
    /// Length of each cipher key in bits.
    pub key_bits: u64,
    /// Length of each IV in bits.
    pub iv_bits: u64,
    /// Whether an export cipher suite is meant; none is offered.
    pub export: bool,
    /// Both randoms.
    pub randoms: TlsRandoms,
    /// CKM number of the hash.
    pub hash: u64,
}

/// `CK_TLS_KDF_PARAMS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsKdfParams {
    /// CKM number of the hash.
    pub hash: u64,
    /// The label.
    pub label: Vec<u8>,
    /// Both randoms.
    pub randoms: TlsRandoms,
    /// The context, if there is one.
    pub context: Option<Vec<u8>>,
}

/// `CK_TLS_MAC_PARAMS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsMacParams {
    /// CKM number of the hash.
    pub hash: u64,
    /// Length of the MAC.
    pub len: u64,
    /// 1 for the server's "finished", 2 for the client's.
    pub side: u64,
}

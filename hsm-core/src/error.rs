//! What can go wrong in the token: one line per variant gives its meaning and its PKCS#11 return value.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ck::rv::{self, Rv};

macro_rules! errors {
    ($($(#[$doc:meta])* $variant:ident => $rv:ident;)*) => {
        /// Why an operation was refused or failed; `rv()` is the only map to PKCS#11 return values.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])* $variant,)*
        }

        impl Kind {
            /// The PKCS#11 return value that tells an application the same thing.
            pub const fn rv(self) -> Rv {
                match self {
                    $(Kind::$variant => rv::$rv,)*
                }
            }

            /// Every kind, for tests and documents.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),*];
        }
    };
}

errors! {
    /// An argument is missing or contradicts another.
    ArgumentsBad => CKR_ARGUMENTS_BAD;
    /// There is no such slot.
    NoSuchSlot => CKR_SLOT_ID_INVALID;
    /// The slot's token is not initialised.
    TokenNotInitialized => CKR_TOKEN_NOT_RECOGNIZED;
    /// The store key is missing: the daemon runs sealed.
    Sealed => CKR_TOKEN_NOT_PRESENT;
    /// No such session in this application.
    NoSuchSession => CKR_SESSION_HANDLE_INVALID;
    /// The application or the token has as many sessions as are allowed.
    TooManySessions => CKR_SESSION_COUNT;
    /// A session with the token is open, so it cannot be initialised.
    SessionExists => CKR_SESSION_EXISTS;
    /// The session is read-only and the operation writes.
    SessionReadOnly => CKR_SESSION_READ_ONLY;
    /// The client was not given the role that this change of the token needs.
    TokenWriteProtected => CKR_TOKEN_WRITE_PROTECTED;
    /// A read-only session is open, so the SO cannot log in.
    ReadOnlySessionExists => CKR_SESSION_READ_ONLY_EXISTS;
    /// The SO is logged in, so no read-only session can be opened.
    SoSessionExists => CKR_SESSION_READ_WRITE_SO_EXISTS;
    /// Parallel (legacy) sessions are not offered.
    ParallelSession => CKR_SESSION_PARALLEL_NOT_SUPPORTED;
    /// This user is logged in already.
    AlreadyLoggedIn => CKR_USER_ALREADY_LOGGED_IN;
    /// The other user is logged in.
    OtherUserLoggedIn => CKR_USER_ANOTHER_ALREADY_LOGGED_IN;
    /// The operation needs a login that has not happened.
    NotLoggedIn => CKR_USER_NOT_LOGGED_IN;
    /// No such user type, or not for this operation.
    UserTypeInvalid => CKR_USER_TYPE_INVALID;
    /// The SO has not set the user PIN.
    UserPinNotInitialized => CKR_USER_PIN_NOT_INITIALIZED;
    /// The PIN is wrong.
    PinIncorrect => CKR_PIN_INCORRECT;
    /// The PIN is locked by too many wrong attempts.
    PinLocked => CKR_PIN_LOCKED;
    /// The PIN is shorter or longer than allowed.
    PinLength => CKR_PIN_LEN_RANGE;
    /// Too many wrong PINs from this client, or too many logins waiting: try again later.
    LoginBackoff => CKR_FUNCTION_FAILED;
    /// No such object visible to this session.
    NoSuchObject => CKR_OBJECT_HANDLE_INVALID;
    /// No such key visible to this session.
    NoSuchKey => CKR_KEY_HANDLE_INVALID;
    /// No such wrapping key visible to this session.
    NoSuchWrappingKey => CKR_WRAPPING_KEY_HANDLE_INVALID;
    /// No such unwrapping key visible to this session.
    NoSuchUnwrappingKey => CKR_UNWRAPPING_KEY_HANDLE_INVALID;
    /// The object forbids the action (CKA_COPYABLE, CKA_DESTROYABLE, CKA_MODIFIABLE) or the policy does.
    ActionProhibited => CKR_ACTION_PROHIBITED;
    /// The attribute cannot be set by this function, or not in this direction.
    AttributeReadOnly => CKR_ATTRIBUTE_READ_ONLY;
    /// The attribute is sensitive.
    AttributeSensitive => CKR_ATTRIBUTE_SENSITIVE;
    /// The object has no such attribute.
    AttributeType => CKR_ATTRIBUTE_TYPE_INVALID;
    /// The value is malformed or out of range for the attribute.
    AttributeValue => CKR_ATTRIBUTE_VALUE_INVALID;
    /// The template lacks something that the object needs.
    TemplateIncomplete => CKR_TEMPLATE_INCOMPLETE;
    /// The template contradicts itself, the mechanism or the policy.
    TemplateInconsistent => CKR_TEMPLATE_INCONSISTENT;
    /// The curve is not offered.
    CurveNotSupported => CKR_CURVE_NOT_SUPPORTED;
    /// What should name a curve is malformed.
    DomainParams => CKR_DOMAIN_PARAMS_INVALID;
    /// The post-quantum parameter set is not offered.
    ParameterSetNotSupported => CKR_PARAMETER_SET_NOT_SUPPORTED;
    /// The public key is not a valid one.
    PublicKeyInvalid => CKR_PUBLIC_KEY_INVALID;
    /// No such mechanism, or not for this function.
    MechanismInvalid => CKR_MECHANISM_INVALID;
    /// The mechanism's parameter is malformed or out of range.
    MechanismParam => CKR_MECHANISM_PARAM_INVALID;
    /// The key's type does not go with the mechanism.
    KeyType => CKR_KEY_TYPE_INCONSISTENT;
    /// The key's size does not go with the mechanism.
    KeySize => CKR_KEY_SIZE_RANGE;
    /// The key's usage attributes do not permit the operation.
    KeyFunction => CKR_KEY_FUNCTION_NOT_PERMITTED;
    /// The key may not be wrapped under this key or by this mechanism.
    KeyNotWrappable => CKR_KEY_NOT_WRAPPABLE;
    /// The key is not extractable.
    KeyUnextractable => CKR_KEY_UNEXTRACTABLE;
    /// The key's value may not be digested.
    KeyIndigestible => CKR_KEY_INDIGESTIBLE;
    /// The wrapping key's type does not go with the mechanism.
    WrappingKeyType => CKR_WRAPPING_KEY_TYPE_INCONSISTENT;
    /// The unwrapping key's type does not go with the mechanism.
    UnwrappingKeyType => CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT;
    /// The wrapped key or the encapsulation has a length the key and mechanism do not take.
    WrappedKeyLength => CKR_WRAPPED_KEY_LEN_RANGE;
    /// The wrapped key does not open, or is not a key.
    WrappedKeyInvalid => CKR_WRAPPED_KEY_INVALID;
    /// An operation of this kind is active in the session.
    OperationActive => CKR_OPERATION_ACTIVE;
    /// Only a digest without a key can be saved.
    StateUnsaveable => CKR_STATE_UNSAVEABLE;
    /// The saved state is not one of this application, or no longer kept.
    SavedStateInvalid => CKR_SAVED_STATE_INVALID;
    /// No operation of this kind is active in the session.
    OperationNotInitialized => CKR_OPERATION_NOT_INITIALIZED;
    /// The input is not valid for the mechanism.
    DataInvalid => CKR_DATA_INVALID;
    /// The input's length is not one the mechanism takes.
    DataLength => CKR_DATA_LEN_RANGE;
    /// The ciphertext does not open.
    EncryptedDataInvalid => CKR_ENCRYPTED_DATA_INVALID;
    /// The ciphertext's length is not one the mechanism takes.
    EncryptedDataLength => CKR_ENCRYPTED_DATA_LEN_RANGE;
    /// The authentication tag does not match.
    AeadFailed => CKR_AEAD_DECRYPT_FAILED;
    /// The signature does not verify.
    SignatureInvalid => CKR_SIGNATURE_INVALID;
    /// The signature's length is not one the key produces.
    SignatureLength => CKR_SIGNATURE_LEN_RANGE;
    /// The output does not fit the caller's buffer; nothing was consumed.
    BufferTooSmall => CKR_BUFFER_TOO_SMALL;
    /// The message is outside the issuance policy of the key.
    IssuanceRefused => CKR_FUNCTION_REJECTED;
    /// The function is not offered.
    NotSupported => CKR_FUNCTION_NOT_SUPPORTED;
    /// The token holds as much of something as it is allowed to.
    ResourceExceeded => CKR_TOKEN_RESOURCE_EXCEEDED;
    /// The store or the journal could not be written or does not verify.
    Device => CKR_DEVICE_ERROR;
    /// A defect: an invariant of this code did not hold.
    Internal => CKR_GENERAL_ERROR;
}

/// An error: its kind and, where it helps the reader, a sentence. The sentence carries facts, never secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    detail: Option<Box<str>>,
    needed: Option<u64>,
    switch: Option<&'static str>,
}

/// The result of every operation of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    /// An error with a sentence that says which thing and what to do.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Error { kind, detail: Some(detail.into().into_boxed_str()), needed: None, switch: None }
    }

    /// A refusal that a switch of the configuration would lift; the sentence ends with its name.
    pub fn closed(kind: Kind, switch: &'static str, detail: impl core::fmt::Display) -> Self {
        Error { switch: Some(switch), ..Error::new(kind, format!("{detail} ({switch})")) }
    }

    /// [`Kind::BufferTooSmall`] with the length in bytes that would do.
    pub fn buffer_too_small(needed: usize) -> Self {
        Error { kind: Kind::BufferTooSmall, detail: None, needed: Some(needed as u64), switch: None }
    }

    /// What happened.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The PKCS#11 return value.
    pub fn rv(&self) -> Rv {
        self.kind.rv()
    }

    /// The sentence, if there is one.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The key of the configuration that refused.
    pub fn switch(&self) -> Option<&'static str> {
        self.switch
    }

    /// For [`Kind::BufferTooSmall`]: the length in bytes that would do.
    pub fn needed(&self) -> Option<u64> {
        self.needed
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Error { kind, detail: None, needed: None, switch: None }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self.rv().sentence()),
            None => f.write_str(self.rv().sentence()),
        }
    }
}

impl core::fmt::Debug for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}

impl std::error::Error for Error {}

/// Runs a part of an operation in which a defect is answered as an error and not passed on; `Err` is that error.
pub(crate) fn caught<T>(part: impl FnOnce() -> T) -> Result<T> {
    // The panic hook has logged where.
    catch_unwind(AssertUnwindSafe(part)).map_err(|_| Error::new(Kind::Internal, "a defect in the daemon: see its log"))
}

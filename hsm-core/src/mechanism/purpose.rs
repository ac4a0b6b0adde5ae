//! What a mechanism and a key are to be used for: one word per function of the C interface, with its flag and its usage attribute.

use ck::attribute::*;
use ck::{Attribute, flags};

use super::params::ParameterKind;
use super::row::Row;
use crate::error::Kind;

/// What is to be done: the function's flag in the mechanism table and the key's usage attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// C_Encrypt*.
    Encrypt,
    /// C_Decrypt*.
    Decrypt,
    /// C_Sign*.
    Sign,
    /// C_Verify*.
    Verify,
    /// C_Digest*, without a key.
    Digest,
    /// C_WrapKey, of the wrapping key.
    Wrap,
    /// C_UnwrapKey, of the unwrapping key.
    Unwrap,
    /// C_DeriveKey, of the base key.
    Derive,
    /// C_GenerateKey.
    Generate,
    /// C_GenerateKeyPair.
    GeneratePair,
    /// C_EncapsulateKey, of the public key.
    Encapsulate,
    /// C_DecapsulateKey, of the private key.
    Decapsulate,
    /// C_SignRecover*.
    SignRecover,
    /// C_VerifyRecover*.
    VerifyRecover,
    /// C_MessageEncrypt*.
    MessageEncrypt,
    /// C_MessageDecrypt*.
    MessageDecrypt,
    /// C_MessageSign*.
    MessageSign,
    /// C_MessageVerify*.
    MessageVerify,
    /// C_WrapKeyAuthenticated, of the wrapping key.
    WrapAuthenticated,
    /// C_UnwrapKeyAuthenticated, of the unwrapping key.
    UnwrapAuthenticated,
}

impl Use {
    /// One row per use: mechanism flag, usage attribute, and the error for a key of another type.
    pub(super) const fn row(self) -> (u64, Option<Attribute>, Kind) {
        use flags::mechanism::*;
        match self {
            Use::Encrypt => (CKF_ENCRYPT, Some(CKA_ENCRYPT), Kind::KeyType),
            Use::Decrypt => (CKF_DECRYPT, Some(CKA_DECRYPT), Kind::KeyType),
            Use::Sign => (CKF_SIGN, Some(CKA_SIGN), Kind::KeyType),
            Use::Verify => (CKF_VERIFY, Some(CKA_VERIFY), Kind::KeyType),
            Use::Digest => (CKF_DIGEST, None, Kind::KeyType),
            Use::Wrap => (CKF_WRAP, Some(CKA_WRAP), Kind::WrappingKeyType),
            Use::Unwrap => (CKF_UNWRAP, Some(CKA_UNWRAP), Kind::UnwrappingKeyType),
            Use::Derive => (CKF_DERIVE, Some(CKA_DERIVE), Kind::KeyType),
            Use::Generate => (CKF_GENERATE, None, Kind::KeyType),
            Use::GeneratePair => (CKF_GENERATE_KEY_PAIR, None, Kind::KeyType),
            Use::Encapsulate => (CKF_ENCAPSULATE, Some(CKA_ENCAPSULATE), Kind::KeyType),
            Use::Decapsulate => (CKF_DECAPSULATE, Some(CKA_DECAPSULATE), Kind::KeyType),
            Use::SignRecover => (CKF_SIGN_RECOVER, Some(CKA_SIGN_RECOVER), Kind::KeyType),
            Use::VerifyRecover => (CKF_VERIFY_RECOVER, Some(CKA_VERIFY_RECOVER), Kind::KeyType),
            Use::MessageEncrypt => (CKF_MESSAGE_ENCRYPT, Some(CKA_ENCRYPT), Kind::KeyType),
            Use::MessageDecrypt => (CKF_MESSAGE_DECRYPT, Some(CKA_DECRYPT), Kind::KeyType),
            Use::MessageSign => (CKF_MESSAGE_SIGN, Some(CKA_SIGN), Kind::KeyType),
            Use::MessageVerify => (CKF_MESSAGE_VERIFY, Some(CKA_VERIFY), Kind::KeyType),
            Use::WrapAuthenticated => (CKF_WRAP, Some(CKA_WRAP), Kind::WrappingKeyType),
            Use::UnwrapAuthenticated => (CKF_UNWRAP, Some(CKA_UNWRAP), Kind::UnwrappingKeyType),
        }
    }

    /// What the mechanism's parameter must be for this use: messages and authenticated wrapping have structures of their own.
    pub(super) fn parameter(self, row: &Row) -> ParameterKind {
        match self {
            Use::MessageEncrypt | Use::MessageDecrypt | Use::WrapAuthenticated | Use::UnwrapAuthenticated => {
                ParameterKind::AeadMessage
            }
            _ => row.parameter,
        }
    }
}

//! The kinds of operation, and what each asks of mechanism and key.

use crate::mechanism::purpose::Use;

/// The kinds of operation that a session can have active, one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// C_Encrypt*.
    Encrypt,
    /// C_Decrypt*.
    Decrypt,
    /// C_Digest*.
    Digest,
    /// C_Sign*.
    Sign,
    /// C_Verify*.
    Verify,
    /// C_SignRecover*.
    SignRecover,
    /// C_VerifyRecover*.
    VerifyRecover,
    /// C_VerifySignature*.
    VerifySignature,
    /// One message of C_MessageEncrypt*.
    MessageEncrypt,
    /// One message of C_MessageDecrypt*.
    MessageDecrypt,
    /// One message of C_MessageSign*.
    MessageSign,
    /// One message of C_MessageVerify*.
    MessageVerify,
}

/// How many kinds there are.
pub(super) const KINDS: usize = OperationKind::MessageVerify.index() + 1;

impl OperationKind {
    /// What the kind asks of mechanism and key, and what it does with the data: two columns of one table.
    const fn row(self) -> (Use, OperationKind) {
        match self {
            OperationKind::Encrypt => (Use::Encrypt, OperationKind::Encrypt),
            OperationKind::Decrypt => (Use::Decrypt, OperationKind::Decrypt),
            OperationKind::Digest => (Use::Digest, OperationKind::Digest),
            OperationKind::Sign => (Use::Sign, OperationKind::Sign),
            OperationKind::Verify => (Use::Verify, OperationKind::Verify),
            OperationKind::SignRecover => (Use::SignRecover, OperationKind::SignRecover),
            OperationKind::VerifyRecover => (Use::VerifyRecover, OperationKind::VerifyRecover),
            OperationKind::VerifySignature => (Use::Verify, OperationKind::Verify),
            OperationKind::MessageEncrypt => (Use::MessageEncrypt, OperationKind::Encrypt),
            OperationKind::MessageDecrypt => (Use::MessageDecrypt, OperationKind::Decrypt),
            OperationKind::MessageSign => (Use::MessageSign, OperationKind::Sign),
            OperationKind::MessageVerify => (Use::MessageVerify, OperationKind::Verify),
        }
    }

    /// What the kind asks of mechanism and key.
    pub(crate) fn purpose(self) -> Use {
        self.row().0
    }

    /// What is done with the data: the kind of a single operation.
    pub(crate) fn form(self) -> OperationKind {
        self.row().1
    }

    /// Its place among the kinds.
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

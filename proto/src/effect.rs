//! What a request does to the token, as far as both ends of a connection must agree on it: whose outcome is kept, and what takes long.
//! One list for the daemon, which keeps outcomes, and for the module, which asks for them.

use crate::v1::request::Op;

impl Op {
    /// Whether the request's effect is left when its application has ended.
    pub fn changes_the_token(&self) -> bool {
        matches!(
            self,
            Op::InitToken(_)
                | Op::InitPin(_)
                | Op::SetPin(_)
                | Op::CreateObject(_)
                | Op::CopyObject(_)
                | Op::DestroyObject(_)
                | Op::SetAttributes(_)
                | Op::GenerateKey(_)
                | Op::GenerateKeyPair(_)
                | Op::UnwrapKey(_)
                | Op::UnwrapAuthenticated(_)
                | Op::DeriveKey(_)
                | Op::EncapsulateKey(_)
                | Op::DecapsulateKey(_)
        )
    }

    /// Whether the outcome is kept, so that it may be asked for when the reply was lost: the request changes something, and its reply
    /// holds no secret.
    pub fn has_kept_outcome(&self) -> bool {
        let changes_its_application = matches!(
            self,
            Op::OpenSession(_) | Op::CloseSession(_) | Op::CloseAllSessions(_) | Op::Login(_) | Op::Logout(_)
        );
        self.changes_the_token() || changes_its_application
    }

    /// Whether the request waits for a disk, a PIN's derivation or a generator.
    pub fn waits(&self) -> bool {
        self.changes_the_token() || matches!(self, Op::Login(_) | Op::WrapKey(_) | Op::WrapAuthenticated(_))
    }
}

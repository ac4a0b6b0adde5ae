//! What a request does to the token, as far as both ends of a connection must agree on it: whose outcome is kept, and what takes long.
//! One list for the daemon, which keeps outcomes, and for the module, which asks for them.

use crate::v1;
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

/// What a request is, in words that statistics may show: of a bounded set, and without anything that a client chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The operation: `sign`, `generate_key_pair`.
    pub operation: &'static str,
    /// The mechanism's number, where the request says one.
    pub mechanism: Option<u64>,
}

fn named(operation: &'static str, mechanism: Option<&v1::Mechanism>) -> Subject {
    Subject { operation, mechanism: mechanism.map(|mechanism| mechanism.r#type) }
}

fn begun(kind: v1::OperationKind, begin: Option<&v1::Begin>) -> Subject {
    named(kind.word(), begin.and_then(|begin| begin.mechanism.as_ref()))
}

impl v1::OperationKind {
    /// The kind as one word in lower case.
    pub fn word(self) -> &'static str {
        match self {
            Self::OperationNone => "none",
            Self::OperationEncrypt => "encrypt",
            Self::OperationDecrypt => "decrypt",
            Self::OperationDigest => "digest",
            Self::OperationSign => "sign",
            Self::OperationVerify => "verify",
            Self::OperationSignRecover => "sign_recover",
            Self::OperationVerifyRecover => "verify_recover",
            Self::OperationVerifySignature => "verify_signature",
            Self::OperationMessageEncrypt => "message_encrypt",
            Self::OperationMessageDecrypt => "message_decrypt",
            Self::OperationMessageSign => "message_sign",
            Self::OperationMessageVerify => "message_verify",
        }
    }
}

impl Op {
    /// What the request is.
    pub fn subject(&self) -> Subject {
        match self {
            Op::Attach(_) => named("attach", None),
            Op::ListSlots(_) => named("list_slots", None),
            Op::Mechanisms(_) => named("mechanisms", None),
            Op::InitToken(_) => named("init_token", None),
            Op::InitPin(_) => named("init_pin", None),
            Op::SetPin(_) => named("set_pin", None),
            Op::OpenSession(_) => named("open_session", None),
            Op::CloseSession(_) => named("close_session", None),
            Op::CloseAllSessions(_) => named("close_all_sessions", None),
            Op::SessionInfo(_) => named("session_info", None),
            Op::Login(_) => named("login", None),
            Op::Logout(_) => named("logout", None),
            Op::CreateObject(_) => named("create_object", None),
            Op::CopyObject(_) => named("copy_object", None),
            Op::DestroyObject(_) => named("destroy_object", None),
            Op::ObjectSize(_) => named("object_size", None),
            Op::GetAttributes(_) => named("get_attributes", None),
            Op::SetAttributes(_) => named("set_attributes", None),
            Op::Find(_) => named("find", None),
            Op::Snapshot(_) => named("snapshot", None),
            Op::OneShot(r) => begun(r.kind(), r.begin.as_ref()),
            Op::Update(r) => begun(r.kind(), r.begin.as_ref()),
            Op::Final(r) => begun(r.kind(), r.begin.as_ref()),
            Op::Message(r) => begun(r.kind(), r.begin.as_ref()),
            Op::DigestKey(r) => named("digest_key", r.begin.as_ref().and_then(|begin| begin.mechanism.as_ref())),
            Op::Cancel(_) => named("cancel", None),
            Op::Check(_) => named("check", None),
            Op::Random(_) => named("random", None),
            Op::SeedRandom(_) => named("seed_random", None),
            Op::GenerateKey(r) => named("generate_key", r.mechanism.as_ref()),
            Op::GenerateKeyPair(r) => named("generate_key_pair", r.mechanism.as_ref()),
            Op::WrapKey(r) => named("wrap_key", r.mechanism.as_ref()),
            Op::UnwrapKey(r) => named("unwrap_key", r.mechanism.as_ref()),
            Op::DeriveKey(r) => named("derive_key", r.mechanism.as_ref()),
            Op::EncapsulateKey(r) => named("encapsulate_key", r.mechanism.as_ref()),
            Op::DecapsulateKey(r) => named("decapsulate_key", r.mechanism.as_ref()),
            Op::Outcome(_) => named("outcome", None),
            Op::ResumeSession(_) => named("resume_session", None),
            Op::SaveState(_) => named("save_state", None),
            Op::RestoreState(_) => named("restore_state", None),
            Op::WrapAuthenticated(r) => named("wrap_authenticated", r.mechanism.as_ref()),
            Op::UnwrapAuthenticated(r) => named("unwrap_authenticated", r.mechanism.as_ref()),
        }
    }
}

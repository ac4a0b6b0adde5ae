//! The meaning of the token: slots, sessions, objects, mechanisms, crypto, the sealed store, the journal and backups.
//!
//! Every operation is written once, here. This crate knows neither C nor gRPC: the doors translate and call [`Hsm`].

mod act;
mod application;
pub mod audit;
pub mod backup;
mod clock;
pub mod config;
mod crypto;
mod envelope;
mod error;
pub mod failpoint;
mod grant;
mod hsm;
mod id;
pub mod issuance;
mod mechanism;
mod object;
mod observe;
mod peer;
mod perform;
mod secret;
mod session;
mod share;
mod store;
pub mod sys;
#[cfg(test)]
mod timing;
mod token;

pub use clock::{Clock, SystemClock};
pub use error::{Error, Kind, Result};
pub use grant::{ClientRole, Grant, Patterns};
pub use hsm::{
    AttributeRead, Caller, Derived, Errand, Found, Hsm, KeyRotation, KeySummary, Message, MessagePart, MessagePiece,
    SealState, SecretRefused, SelfTestFailure, SlotView, StartError, Status, StreamStatus, TokenName, TokenSummary,
    TokenView, Unsealing,
};
pub use id::{ObjectId, TokenId};
pub use mechanism::{
    HkdfParams, KbkdfCounter, KbkdfField, KbkdfParams, MechanismCall, MechanismView, OutputRule, Parameter, Password,
    Pbkdf2Params, TlsKdfParams, TlsKeysParams, TlsMacParams, TlsMasterParams, TlsMasterSeed, TlsRandoms, signs_slowly,
};
pub use object::{Attr, Snapshot, Value};
pub use observe::{Observer, Wait};
pub use peer::{Identity, Peer};
pub use secret::SecretBytes;
pub use session::SessionView;
pub use session::kind::OperationKind;
pub use session::operation::Begin;
pub use store::OpenError;

/// For the fuzz targets, which knock where no caller does.
pub mod door {
    pub use crate::store::{Opened, Records};
}

/// How the store's key is kept: offline, on its file.
pub mod store_key {
    pub use crate::envelope::ModuleKey;
    pub use crate::store::{KeyState, key_state, module_keys, open_store_key, seal_store_key};
}

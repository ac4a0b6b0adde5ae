//! The meaning of the token: slots, sessions, objects, mechanisms, crypto, the sealed store, the journal and backups.
//!
//! Every operation is written once, here. This crate knows neither C nor gRPC: the doors translate and call [`Hsm`].

pub mod audit;
pub mod backup;
mod clock;
mod crypto;
mod error;
mod id;
mod secret;
mod store;
mod sys;
mod token;

pub use clock::{Clock, SystemClock};
pub use error::{Error, Kind, Result};
pub use id::{ObjectId, TokenId};
pub use secret::SecretBytes;

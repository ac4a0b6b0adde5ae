//! A new master key for a token while it is used: the operator's side. How it is done is the store's business (`store/rotate.rs`).

use std::sync::Arc;

use super::Hsm;
use super::admin::TokenName;
use crate::act;
use crate::error::{Kind, Result};
use crate::peer::Peer;
use crate::secret::SecretBytes;
use crate::store::{Rotated, TokenMasterKey};

/// What a rotation came to.
#[derive(Clone, Copy, Debug)]
pub struct KeyRotation {
    /// The number of the token's key now; 1 is the first.
    pub epoch: u32,
    /// Private objects sealed again.
    pub objects: u64,
    /// Whether nothing opens the old key any more; else the user has to log in once.
    pub complete: bool,
}

impl From<Rotated> for KeyRotation {
    fn from(Rotated { epoch, objects, complete }: Rotated) -> Self {
        KeyRotation { epoch, objects, complete }
    }
}

impl Hsm {
    /// Gives the token a new master key and seals its private objects again; whoever is logged in goes on.
    ///
    /// # Errors
    /// [`Kind::PinIncorrect`] and its kin for either PIN; [`Kind::ArgumentsBad`] if the user PIN is needed; [`Kind::Device`] if the
    /// store cannot be written: what is left is done at the next login.
    pub fn admin_rotate_key(
        &self,
        peer: &Peer,
        token: &TokenName,
        so_pin: &SecretBytes,
        user_pin: Option<&SecretBytes>,
    ) -> Result<KeyRotation> {
        let slot = self.named_for(&act::ROTATE_KEY, peer, token)?;
        let tmk = self.administer(&act::ROTATE_KEY, peer, &slot, |entry| {
            let (client, body) = (peer.canonical(), self.body(entry));
            let begun = self.vault()?.begin_rotation(slot.token_id(), so_pin, user_pin, &client, &body)?;
            Ok((begun.0, begun.1.receipt))
        })?;
        Ok(self.vault()?.finish_rotation(&tmk)?.into())
    }

    /// A rotation that a crash interrupted goes on beside the login that brought the key.
    pub(super) fn go_on_rotating(&self, tmk: &Arc<TokenMasterKey>) {
        if !tmk.is_rotating() {
            return;
        }
        let (me, tmk) = (self.me.clone(), Arc::clone(tmk));
        let go_on = move || {
            let hsm = me.upgrade().ok_or(Kind::Internal)?;
            hsm.vault()?.finish_rotation(&tmk)
        };
        let started = std::thread::Builder::new().name("rotation".into()).spawn(move || match go_on() {
            Ok(done) => tracing::info!(epoch = done.epoch, objects = done.objects, "a rotation was finished"),
            Err(error) => tracing::error!(%error, "a rotation cannot be finished now"),
        });
        if let Err(error) = started {
            tracing::error!(%error, "no thread to finish a rotation");
        }
    }
}

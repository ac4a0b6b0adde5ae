//! C_WrapKeyAuthenticated and C_UnwrapKeyAuthenticated (PKCS#11 3.2 section 5.18): the key is a message, sealed with associated data.
//! No attribute is bound to it, so a sensitive key does not leave this way.

use std::sync::Arc;

use super::crypto::admitted_key;
use super::message::Message;
use super::{Caller, Hsm};
use crate::act;
use crate::error::{Error, Kind, Result};
use crate::grant::ClientRole;
use crate::mechanism::admit;
use crate::mechanism::params::MechanismCall;
use crate::mechanism::purpose::Use;
use crate::object::{Attr, Snapshot};
use crate::secret::SecretBytes;
use crate::session::kind::OperationKind;
use crate::session::operation::Operation;

impl Hsm {
    /// C_WrapKeyAuthenticated: the wrapped key, the IV and the tag. The secret-target rule is that of C_WrapKey.
    ///
    /// # Errors
    /// As [`Hsm::wrap_key`]; [`Kind::MechanismParam`].
    pub fn wrap_authenticated(
        &self,
        caller: &Caller,
        session: u64,
        call: MechanismCall,
        wrapping: u64,
        key: u64,
        capacity: Option<u64>,
    ) -> Result<Message> {
        self.perform(caller, &act::WRAP_KEY, session, |work| {
            work.right.grant.check(ClientRole::Manage)?;
            let row = self.admit(work, &call, Use::WrapAuthenticated)?;
            admit::parameter(row, Use::WrapAuthenticated, &call.parameter, &self.config().policy)?;
            let (wrapping, target) = self.wrap_pair(work, row, (&call, Use::WrapAuthenticated), wrapping, key)?;
            let secret = target.material().ok_or(Kind::KeyNotWrappable)?;
            work.check_room(capacity, secret.len())?;
            let (parameter, made) = self.resolve_iv(row, &wrapping, call.parameter)?;
            let call = MechanismCall { kind: call.kind, parameter };
            let operation = Operation::new(OperationKind::MessageEncrypt, row, call, Some(wrapping))?;
            let mut operation = if made { operation.with_own_iv() } else { operation };
            self.spend_iv(&mut operation)?;
            let iv = operation.iv().to_vec();
            let output = operation.update(secret, None)?;
            Ok(Message { output, iv, tag: operation.seal()? })
        })
    }

    /// C_UnwrapKeyAuthenticated.
    ///
    /// # Errors
    /// As [`Hsm::unwrap_key`].
    #[expect(clippy::too_many_arguments, reason = "the arguments of the C function")]
    pub fn unwrap_authenticated(
        &self,
        caller: &Caller,
        session: u64,
        call: MechanismCall,
        unwrapping: u64,
        wrapped: &[u8],
        tag: &[u8],
        template: Vec<Attr>,
    ) -> Result<Snapshot> {
        self.perform(caller, &act::UNWRAP_KEY, session, |work| {
            let purpose = Use::UnwrapAuthenticated;
            work.right.grant.check(ClientRole::Manage)?;
            let row = self.admit(work, &call, purpose)?;
            admit::parameter(row, purpose, &call.parameter, &self.config().policy)?;
            let unwrapping = admitted_key(work, row, unwrapping, purpose, Kind::NoSuchUnwrappingKey)?;
            work.with(&unwrapping);
            let kind = OperationKind::MessageDecrypt;
            let (parameter, _) = self.message_parameter(kind, row, &unwrapping, call.parameter)?;
            let call = MechanismCall { kind: call.kind, parameter };
            let mut operation = Operation::new(kind, row, call, Some(Arc::clone(&unwrapping)))?;
            operation.check_tag_len(tag)?;
            operation.update(wrapped, None)?;
            operation.update(tag, None)?;
            self.put_unwrapped(work, &unwrapping, None, template, |_| {
                let opened = operation.finish(kind);
                opened.map(SecretBytes::new).map_err(|error| Error::new(Kind::WrappedKeyInvalid, error.to_string()))
            })
        })
    }
}

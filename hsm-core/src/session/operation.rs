//! Active operations: Init, Update and Final, written once for all kinds.
//!
//! An operation is taken out of its session by value; what is not put back is over. So success and every error end it, and only
//! an output that does not fit the caller's buffer leaves it as it was.

use std::sync::Arc;

use ck::Mechanism;
use ck::attribute::CKA_ALWAYS_AUTHENTICATE;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::kind::{KINDS, OperationKind};
use super::scheme::{
    ccm, check_context, cipher, decrypt, eddsa_variant, encrypt, gcm, gmac, mac_len, recover, sealer, sign,
    sign_guarded, signature_len, tls_mac, verify, verify_data, wrap_form,
};
use crate::crypto::{CipherStream, MacStream, PublicKey, SealStream, aes_gcm, aes_xts, cmac, digest, hmac, prehash};
use crate::error::{Error, Kind, Result};
use crate::issuance::algorithm;
use crate::mechanism::params::{self, MechanismCall, Parameter};
use crate::mechanism::row::{Row, Scheme};
use crate::object::Object;

/// What an Init call names.
#[derive(Debug)]
pub struct Begin {
    /// Mechanism and parameter.
    pub mechanism: MechanismCall,
    /// The key's handle; not used by digests.
    pub key: u64,
}

/// The active operations of one session, and whether the user has authenticated for the next one.
#[derive(Default)]
pub(crate) struct Operations {
    active: [Option<Operation>; KINDS],
    pub(crate) context: Context,
}

/// What a login with CKU_CONTEXT_SPECIFIC is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Context {
    #[default]
    None,
    /// For an operation.
    Entered,
    /// For the same operation again, which has told no more than how long its output is. It is not given back twice: how long a plaintext
    /// is must not be asked of ciphertext after ciphertext.
    GivenBack,
}

impl Operations {
    /// Takes the active operation out.
    ///
    /// # Errors
    /// [`Kind::OperationNotInitialized`].
    pub(crate) fn take(&mut self, kind: OperationKind) -> Result<Operation> {
        self.active[kind.index()].take().ok_or_else(|| Kind::OperationNotInitialized.into())
    }

    /// Puts an operation in that goes on.
    pub(crate) fn put(&mut self, kind: OperationKind, operation: Operation) {
        self.active[kind.index()] = Some(operation);
    }

    /// Whether an operation of the kind is active.
    pub(crate) fn is_active(&self, kind: OperationKind) -> bool {
        self.active[kind.index()].is_some()
    }

    /// Forgets the active operation, if there is one.
    pub(crate) fn cancel(&mut self, kind: OperationKind) {
        self.active[kind.index()] = None;
    }

    /// Whether an operation that uses a key is active.
    pub(crate) fn has_keyed(&self) -> bool {
        self.active.iter().flatten().any(|operation| operation.key.is_some())
    }

    /// Forgets everything: what logout does.
    pub(crate) fn clear(&mut self) {
        *self = Operations::default();
    }
}

/// The longest message in bytes that is gathered for an operation that needs it whole.
const GATHER_MAX: usize = 64 * 1024 * 1024;

/// One operation, ready for data.
pub(crate) struct Operation {
    /// The row that it runs by.
    pub(crate) row: &'static Row,
    /// The key, except for digests.
    pub(crate) key: Option<Arc<Object>>,
    parameter: Parameter,
    state: State,
    /// Whether the parameter's IV is still to be entered as used.
    spends: bool,
}

enum State {
    Digest(digest::Stream),
    PreHash(prehash::Stream),
    Mac(Box<dyn MacStream>, usize),
    Whole(Zeroizing<Vec<u8>>),
    Cipher(Box<dyn CipherStream>),
    /// An AEAD encryption that gives its ciphertext at once and its tag apart.
    Seal(Box<dyn SealStream>),
    /// The work is done and the result waits for a buffer that holds it.
    Done(Zeroizing<Vec<u8>>),
}

/// What limits the output of a call.
pub(crate) type Capacity = Option<u64>;

/// Refuses an output that does not fit.
pub(crate) fn check_capacity(capacity: Capacity, len: usize) -> Result<()> {
    match capacity {
        Some(capacity) if (len as u64) > capacity => Err(Error::buffer_too_small(len)),
        _ => Ok(()),
    }
}

impl Operation {
    /// Sets an operation up. Mechanism, key and policy have been admitted.
    ///
    /// # Errors
    /// [`Kind::MechanismParam`] and what the crypto room says of the key.
    pub(crate) fn new(
        kind: OperationKind,
        row: &'static Row,
        call: MechanismCall,
        key: Option<Arc<Object>>,
    ) -> Result<Self> {
        let state = match (row.scheme, &key) {
            // The whole message is judged before it is signed.
            (scheme, Some(key)) if key.issuance_policy().is_some() => {
                algorithm::identifiers(scheme, &call.parameter, key)?;
                State::Whole(Zeroizing::default())
            }
            (Scheme::Digest(hash), _) => State::Digest(digest::Stream::new(hash)),
            (Scheme::Hmac(hash), Some(key)) => {
                let stream = hmac::Key::new(hash, key.secret()?).start();
                State::Mac(Box::new(stream), mac_len(hash.output_len(), &call.parameter)?)
            }
            (Scheme::AesGmac, Some(key)) => {
                let (params, len) = gmac(&call.parameter)?;
                State::Mac(Box::new(aes_gcm::Gmac::new(key.secret()?, &params)?), len)
            }
            (Scheme::AesCmac, Some(key)) => {
                let stream = cmac::Stream::new(key.secret()?)?;
                State::Mac(Box::new(stream), mac_len(cmac::MAC_LEN, &call.parameter)?)
            }
            (Scheme::RsaPkcs1(Some(hash)) | Scheme::RsaPss(Some(hash)) | Scheme::Ecdsa(Some(hash)), Some(_)) => {
                State::Digest(digest::Stream::new(hash))
            }
            (Scheme::HashMlDsa(Some(hash)) | Scheme::HashSlhDsa(Some(hash)), Some(_)) => {
                State::PreHash(prehash::Stream::new(hash))
            }
            (Scheme::AesGcm | Scheme::AesCcm, Some(key)) if kind.form() == OperationKind::Encrypt => {
                State::Seal(sealer(key.secret()?, &call.parameter)?)
            }
            (
                Scheme::AesEcb | Scheme::AesCtr | Scheme::AesCbc { .. } | Scheme::Des3Ecb | Scheme::Des3Cbc { .. },
                Some(key),
            ) => State::Cipher(cipher(row.scheme, kind.form(), key.secret()?, &call.parameter)?),
            (_, Some(_)) => State::Whole(Zeroizing::default()),
            (_, None) => return Err(Kind::Internal.into()),
        };
        let spends = kind.form() == OperationKind::Encrypt;
        let operation = Operation { row, key, parameter: call.parameter, state, spends };
        operation.check_parameter(kind.form())?;
        Ok(operation)
    }

    /// A digest that goes on from a saved state.
    pub(crate) fn resumed(row: &'static Row, stream: digest::Stream) -> Self {
        let state = State::Digest(stream);
        Operation { row, key: None, parameter: Parameter::None, state, spends: false }
    }

    /// A copy of the digest so far.
    ///
    /// # Errors
    /// [`Kind::StateUnsaveable`] for every other operation.
    pub(crate) fn saved(&self) -> Result<digest::Stream> {
        match (&self.state, &self.key) {
            (State::Digest(stream), None) => Ok(stream.clone()),
            _ => Err(Kind::StateUnsaveable.into()),
        }
    }

    /// The parameter, when this is an encryption (or a MAC) whose IV the caller chose: to be asked once, before anything leaves
    /// the operation.
    pub(crate) fn spend_iv(&mut self) -> Option<&Parameter> {
        core::mem::take(&mut self.spends).then_some(&self.parameter)
    }

    /// Whether the data are as long as the parameter announced: to be asked before an IV is spent on them.
    ///
    /// # Errors
    /// [`Kind::DataLength`].
    pub(crate) fn check_len(&self) -> Result<()> {
        match &self.state {
            State::Seal(sealer) => Ok(sealer.check_len()?),
            _ => Ok(()),
        }
    }

    /// The token made the IV: it is nobody's to be checked.
    pub(crate) fn with_own_iv(mut self) -> Self {
        self.spends = false;
        self
    }

    /// A tag must have the length that the parameter names.
    ///
    /// # Errors
    /// [`Kind::MechanismParam`].
    pub(crate) fn check_tag_len(&self, tag: &[u8]) -> Result<()> {
        let right = self.tag_len() == Some(tag.len());
        let refused = || Error::new(Kind::MechanismParam, "the tag has not the length that the parameter names");
        if right { Ok(()) } else { Err(refused()) }
    }

    /// The IV of an AEAD operation.
    pub(crate) fn iv(&self) -> &[u8] {
        match &self.parameter {
            Parameter::Gcm { iv, .. } | Parameter::Ccm { nonce: iv, .. } => iv,
            _ => &[],
        }
    }

    /// Checks those parameters whose fault should show at Init and not at Final.
    fn check_parameter(&self, kind: OperationKind) -> Result<()> {
        match self.row.scheme {
            Scheme::RsaPss(hash) => params::pss(hash, &self.parameter).map(drop),
            Scheme::RsaOaep => params::oaep(&self.parameter).map(drop),
            Scheme::AesGcm => gcm(&self.parameter).map(drop),
            Scheme::EdDsa => eddsa_variant(&self.parameter).map(drop),
            Scheme::AesCcm => ccm(&self.parameter, None).map(drop),
            Scheme::AesWrap { pad } => wrap_form(pad, &self.parameter).map(drop),
            Scheme::TlsMac => tls_mac(&self.parameter).map(drop),
            Scheme::AesXts => aes_xts::split(self.secret()?).map(drop).map_err(Error::from),
            Scheme::MlDsa | Scheme::SlhDsa => check_context(kind, &self.parameter),
            Scheme::HashMlDsa(hash) | Scheme::HashSlhDsa(hash) => {
                params::pre_hash(hash, &self.parameter)?;
                check_context(kind, &self.parameter)
            }
            _ => Ok(()),
        }
    }

    fn secret(&self) -> Result<&[u8]> {
        present(&self.key)?.secret()
    }

    /// An operation whose result waits to be fetched.
    pub(crate) fn done(row: &'static Row, key: Option<Arc<Object>>, output: Vec<u8>) -> Self {
        let state = State::Done(Zeroizing::new(output));
        Operation { row, key, parameter: Parameter::None, state, spends: false }
    }

    /// Whether the key wants a login of its own for every operation.
    pub(crate) fn needs_context_login(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.attributes.flag(CKA_ALWAYS_AUTHENTICATE))
    }

    /// The mechanism.
    pub(crate) fn mechanism(&self) -> Mechanism {
        self.row.number
    }

    /// Feeds a secret key's value into a digest.
    pub(crate) fn digest_secret(&mut self, value: &[u8]) -> Result<()> {
        match &mut self.state {
            State::Digest(stream) => {
                stream.update(value);
                Ok(())
            }
            _ => Err(Kind::OperationNotInitialized.into()),
        }
    }

    /// Feeds data and gives what comes out already.
    ///
    /// # Errors
    /// [`Kind::BufferTooSmall`] before anything is consumed; otherwise the operation is to be dropped.
    pub(crate) fn update(&mut self, data: &[u8], capacity: Capacity) -> Result<Vec<u8>> {
        match &mut self.state {
            State::Digest(stream) => stream.update(data),
            State::PreHash(stream) => stream.update(data),
            State::Mac(stream, _) => stream.update(data),
            State::Whole(gathered) => {
                if gathered.len().saturating_add(data.len()) > GATHER_MAX {
                    return Err(Error::new(
                        Kind::DataLength,
                        format!("more than {GATHER_MAX} bytes for one operation"),
                    ));
                }
                append(gathered, data);
            }
            State::Cipher(stream) => {
                check_capacity(capacity, stream.output_len_for(data.len()))?;
                return Ok(stream.update(data)?);
            }
            State::Seal(sealer) => {
                check_capacity(capacity, data.len())?;
                return Ok(sealer.update(data)?);
            }
            State::Done(_) => return Err(Kind::OperationNotInitialized.into()),
        }
        Ok(Vec::new())
    }

    /// How many bytes a message's last part gives beside its tag, where that is known before the work is done.
    pub(crate) fn message_len(&self, kind: OperationKind, more: usize) -> Option<usize> {
        match (&self.state, kind.form()) {
            (State::Seal(_), _) => Some(more),
            (State::Whole(gathered), OperationKind::Decrypt) => Some(gathered.len() + more),
            (State::Done(output), _) => Some(output.len()),
            _ => self.final_len(kind),
        }
    }

    /// Ends an AEAD encryption whose ciphertext has been given: its tag.
    ///
    /// # Errors
    /// What the crypto room says.
    pub(crate) fn seal(self) -> Result<Vec<u8>> {
        match self.state {
            State::Seal(sealer) => Ok(sealer.finish()?),
            _ => Err(Kind::Internal.into()),
        }
    }

    /// How many bytes the end will give, where that is known before the work is done.
    pub(crate) fn final_len(&self, kind: OperationKind) -> Option<usize> {
        let kind = kind.form();
        match (&self.state, kind) {
            (_, OperationKind::Verify | OperationKind::VerifyRecover) => None,
            (State::Mac(_, len), _) => Some(*len),
            (State::Cipher(stream), OperationKind::Encrypt) => Some(stream.finish_len()),
            (State::Seal(_), _) => self.tag_len(),
            (State::Whole(gathered), OperationKind::Encrypt | OperationKind::Decrypt)
                if self.row.scheme == Scheme::AesXts =>
            {
                Some(gathered.len())
            }
            (State::Whole(gathered), OperationKind::Decrypt) if self.tag_len().is_some() => {
                self.tag_len().map(|tag| gathered.len().saturating_sub(tag))
            }
            (State::Whole(_), OperationKind::Sign) if self.row.scheme == Scheme::TlsMac => {
                tls_mac(&self.parameter).ok().map(|(_, params)| params.1)
            }
            _ => self.key_output_len(kind),
        }
    }

    /// How much longer than its plaintext a ciphertext is, for the modes that authenticate.
    fn tag_len(&self) -> Option<usize> {
        match self.row.scheme {
            Scheme::AesGcm => gcm(&self.parameter).ok().map(|params| params.tag_len()),
            Scheme::AesCcm => ccm(&self.parameter, None).ok().map(|params| params.tag_len()),
            _ => None,
        }
    }

    fn key_output_len(&self, kind: OperationKind) -> Option<usize> {
        if let (Scheme::Digest(hash), OperationKind::Digest) = (self.row.scheme, kind) {
            return Some(hash.output_len());
        }
        let key = self.key.as_ref()?;
        match kind {
            OperationKind::Sign | OperationKind::SignRecover => signature_len(key.private_key().ok()?),
            OperationKind::Encrypt => match key.public_key().ok()? {
                PublicKey::Rsa(key) => Some(key.modulus_len()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Ends a digest, signature or MAC, encryption or decryption.
    ///
    /// # Errors
    /// What the crypto room says.
    pub(crate) fn finish(self, kind: OperationKind) -> Result<Vec<u8>> {
        let Operation { row, key, parameter, state, .. } = self;
        if let Some(key) = key.as_deref().filter(|key| key.issuance_policy().is_some()) {
            return match (state, kind) {
                (State::Done(output), OperationKind::Sign) => Ok(output.to_vec()),
                (State::Whole(message), OperationKind::Sign) => sign_guarded(row, &parameter, key, &message),
                _ => Err(Kind::KeyFunction.into()),
            };
        }
        match (state, kind.form()) {
            (State::Done(output), _) => Ok(output.to_vec()),
            (State::Digest(stream), OperationKind::Digest) => Ok(stream.finish()),
            (State::Mac(stream, len), OperationKind::Sign) => {
                let mut mac = stream.finish();
                mac.truncate(len);
                Ok(mac)
            }
            (State::Whole(data), OperationKind::Sign) if row.scheme == Scheme::TlsMac => {
                verify_data(&parameter, present(&key)?, &data)
            }
            (State::Digest(stream), OperationKind::Sign) => sign(row, &parameter, present(&key)?, &stream.finish()),
            (State::PreHash(stream), OperationKind::Sign) => sign(row, &parameter, present(&key)?, &stream.finish()),
            (State::Whole(data), OperationKind::Sign | OperationKind::SignRecover) => {
                sign(row, &parameter, present(&key)?, &data)
            }
            (State::Whole(signature), OperationKind::VerifyRecover) => recover(row, present(&key)?, &signature),
            (State::Cipher(stream), OperationKind::Encrypt | OperationKind::Decrypt) => Ok(stream.finish()?),
            (State::Seal(sealer), OperationKind::Encrypt) => Ok(sealer.finish()?),
            (State::Whole(data), OperationKind::Encrypt) => encrypt(row, &parameter, present(&key)?, &data),
            (State::Whole(data), OperationKind::Decrypt) => decrypt(row, &parameter, present(&key)?, &data),
            _ => Err(Kind::Internal.into()),
        }
    }

    /// Ends a verification.
    ///
    /// # Errors
    /// [`Kind::SignatureInvalid`] or [`Kind::SignatureLength`] for a wrong signature, nothing else.
    pub(crate) fn verify(self, signature: &[u8]) -> Result<()> {
        let Operation { row, key, parameter, state, .. } = self;
        match state {
            State::Mac(stream, len) => Ok(stream.verify(signature, len)?),
            State::Whole(data) if row.scheme == Scheme::TlsMac => {
                let expected = verify_data(&parameter, present(&key)?, &data)?;
                if signature.len() != expected.len() {
                    return Err(Kind::SignatureLength.into());
                }
                if expected.ct_eq(signature).into() { Ok(()) } else { Err(Kind::SignatureInvalid.into()) }
            }
            State::Digest(stream) => verify(row, &parameter, present(&key)?, &stream.finish(), signature),
            State::PreHash(stream) => verify(row, &parameter, present(&key)?, &stream.finish(), signature),
            State::Whole(data) => verify(row, &parameter, present(&key)?, &data, signature),
            State::Cipher(_) | State::Seal(_) | State::Done(_) => Err(Kind::Internal.into()),
        }
    }
}

/// Appends without leaving an unwiped copy behind when the buffer has to grow.
fn append(gathered: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    let needed = gathered.len() + data.len();
    if gathered.capacity() < needed {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
        larger.extend_from_slice(gathered);
        *gathered = larger;
    }
    gathered.extend_from_slice(data);
}

fn present(key: &Option<Arc<Object>>) -> Result<&Object> {
    key.as_deref().ok_or_else(|| Kind::Internal.into())
}

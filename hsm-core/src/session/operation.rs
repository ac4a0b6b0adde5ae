//! Active operations: Init, Update and Final, written once for all kinds.
//!
//! An operation is taken out of its session by value; what is not put back is over. So success and every error end it, and only
//! an output that does not fit the caller's buffer leaves it as it was.

use std::sync::Arc;

use ck::Mechanism;
use ck::attribute::{CKA_ALWAYS_AUTHENTICATE, CKA_PUBLIC_KEY_INFO};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::crypto::{
    CipherStream, Direction, Hash, MacStream, PrivateKey, PublicKey, SealStream, aes_cbc, aes_ccm, aes_gcm, aes_wrap,
    aes_xts, cmac, des3, digest, eddsa, hmac, prehash, rsa, tls_prf,
};
use crate::error::{Error, Kind, Result};
use crate::issuance::{self, Breach, Policy, Signer, algorithm};
use crate::mechanism::params::{self, MechanismCall, Parameter};
use crate::mechanism::purpose::Use;
use crate::mechanism::table::{Row, Scheme};
use crate::object::Object;
use crate::secret::SecretBytes;

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
const KINDS: usize = OperationKind::MessageVerify.index() + 1;

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

    const fn index(self) -> usize {
        self as usize
    }
}

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
            Scheme::RsaPss(hash) => pss(hash, &self.parameter).map(drop),
            Scheme::RsaOaep => oaep(&self.parameter).map(drop),
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

/// The verify data of a handshake whose messages have this digest: callers hash them themselves.
fn verify_data(parameter: &Parameter, key: &Object, handshake: &[u8]) -> Result<Vec<u8>> {
    let (hash, (label, len)) = tls_mac(parameter)?;
    Ok(tls_prf::derive(hash, key.secret()?, label, &[handshake], len).expose().to_vec())
}

/// How many bytes of the MAC are kept.
fn mac_len(whole: usize, parameter: &Parameter) -> Result<usize> {
    match parameter {
        Parameter::MacLen(len) => {
            let len = usize::try_from(*len).map_err(|_| Kind::MechanismParam)?;
            if len == 0 || len > whole {
                return Err(Error::new(Kind::MechanismParam, format!("a MAC has 1 to {whole} bytes")));
            }
            Ok(len)
        }
        _ => Ok(whole),
    }
}

fn cipher(scheme: Scheme, kind: OperationKind, key: &[u8], parameter: &Parameter) -> Result<Box<dyn CipherStream>> {
    let direction = if kind == OperationKind::Encrypt { Direction::Encrypt } else { Direction::Decrypt };
    let padding = |pad| if pad { aes_cbc::Padding::Pkcs7 } else { aes_cbc::Padding::None };
    let stream = match (scheme, parameter) {
        (Scheme::AesEcb, _) => aes_cbc::ecb(direction, key)?,
        (Scheme::AesCtr, Parameter::Ctr { counter_bits, block }) => aes_cbc::ctr(direction, key, block, *counter_bits)?,
        (Scheme::AesCbc { pad }, Parameter::Bytes(iv)) => aes_cbc::cbc(direction, padding(pad), key, iv)?,
        (Scheme::Des3Ecb, _) => des3::ecb(direction, key)?,
        (Scheme::Des3Cbc { pad }, Parameter::Bytes(iv)) => des3::cbc(direction, padding(pad), key, iv)?,
        _ => return Err(Kind::MechanismParam.into()),
    };
    Ok(stream)
}

/// The PSS parameters of a mechanism parameter.
pub(crate) fn pss(hash: Option<Hash>, parameter: &Parameter) -> Result<rsa::Pss> {
    let Parameter::RsaPss { hash: number, mgf, salt_len } = parameter else { return Err(Kind::MechanismParam.into()) };
    let named = params::hash(*number)?;
    if hash.is_some_and(|hash| hash != named) {
        return Err(Error::new(Kind::MechanismParam, "the parameter names another hash than the mechanism"));
    }
    let salt_len = usize::try_from(*salt_len).map_err(|_| Kind::MechanismParam)?;
    Ok(rsa::Pss { hash: named, mgf: params::mgf1(*mgf)?, salt_len })
}

/// The OAEP parameters of a mechanism parameter.
pub(crate) fn oaep(parameter: &Parameter) -> Result<rsa::Oaep<'_>> {
    let (Parameter::RsaOaep { hash, mgf, source, label } | Parameter::RsaAesWrap { hash, mgf, source, label, .. }) =
        parameter
    else {
        return Err(Kind::MechanismParam.into());
    };
    // Source 0 with no data is what some clients send for "no label"; it means the same.
    let specified = ck::parameter::OaepSource(*source) == ck::parameter::CKZ_DATA_SPECIFIED;
    let unlabelled = *source == 0 && label.is_empty();
    if !specified && !unlabelled {
        return Err(Error::new(Kind::MechanismParam, "the label's source is not CKZ_DATA_SPECIFIED"));
    }
    Ok(rsa::Oaep { hash: params::hash(*hash)?, mgf: params::mgf1(*mgf)?, label })
}

/// The form of an AES key wrap, and that its initial value, if one is given, is the one of the form.
pub(crate) fn wrap_form(pad: bool, parameter: &Parameter) -> Result<aes_wrap::Form> {
    // RFC 3394 §2.2.3.1 and RFC 5649 §3: the default initial values.
    if pad {
        check_default_iv(parameter, &[0xa6, 0x59, 0x59, 0xa6])?;
        Ok(aes_wrap::Form::Kwp)
    } else {
        check_default_iv(parameter, &[0xa6; 8])?;
        Ok(aes_wrap::Form::Kw)
    }
}

fn check_default_iv(parameter: &Parameter, default: &[u8]) -> Result<()> {
    match parameter {
        Parameter::Bytes(iv) if iv.as_slice() != default => {
            Err(Error::new(Kind::MechanismParam, "only the default initial value of the key wrap is offered"))
        }
        _ => Ok(()),
    }
}

/// An AEAD encryption that is fed piece by piece.
fn sealer(key: &[u8], parameter: &Parameter) -> Result<Box<dyn SealStream>> {
    match parameter {
        Parameter::Ccm { data_len, .. } => {
            let len = usize::try_from(*data_len).map_err(|_| Kind::DataLength)?;
            Ok(Box::new(aes_ccm::Sealer::new(key, &ccm(parameter, None)?, len)?))
        }
        _ => Ok(Box::new(aes_gcm::Key::new(key)?.seal(&gcm(parameter)?)?)),
    }
}

/// The GCM parameters of a mechanism parameter.
pub(crate) fn gcm(parameter: &Parameter) -> Result<aes_gcm::Params<'_>> {
    let Parameter::Gcm { iv, aad, tag_bits } = parameter else { return Err(Kind::MechanismParam.into()) };
    let tag_bits = u32::try_from(*tag_bits).map_err(|_| Kind::MechanismParam)?;
    Ok(aes_gcm::Params::new(iv, aad, tag_bits)?)
}

/// The parameters of a GMAC, and how many bytes of it are kept.
fn gmac(parameter: &Parameter) -> Result<(aes_gcm::Params<'_>, usize)> {
    match parameter {
        Parameter::Bytes(iv) => Ok((aes_gcm::Params::new(iv, &[], 128)?, aes_gcm::TAG_MAX)),
        other => gcm(other).map(|params| (params, params.tag_len())),
    }
}

/// The parameters of AES-CCM. The length that they announce must be that of the plaintext, where that is known already.
fn ccm(parameter: &Parameter, plaintext_len: Option<usize>) -> Result<aes_ccm::Params<'_>> {
    let Parameter::Ccm { data_len, nonce, aad, mac_len } = parameter else { return Err(Kind::MechanismParam.into()) };
    if plaintext_len.is_some_and(|len| len as u64 != *data_len) {
        return Err(Error::new(Kind::DataLength, format!("ulDataLen announces {data_len} bytes")));
    }
    let mac_len = usize::try_from(*mac_len).map_err(|_| Kind::MechanismParam)?;
    Ok(aes_ccm::Params::new(nonce, aad, mac_len)?)
}

/// The label of a TLS "finished" message and the length of its verify data (RFC 5246, section 7.4.9).
type Finished = (&'static [u8], usize);

fn tls_mac(parameter: &Parameter) -> Result<(Hash, Finished)> {
    let Parameter::TlsMac(asked) = parameter else { return Err(Kind::MechanismParam.into()) };
    let label: &[u8] = match asked.side {
        1 => b"server finished",
        2 => b"client finished",
        other => return Err(Error::new(Kind::MechanismParam, format!("{other} is neither server nor client"))),
    };
    let len = usize::try_from(asked.len).ok().filter(|len| (12..=64).contains(len));
    let len = len.ok_or_else(|| Error::new(Kind::MechanismParam, "verify data has 12 to 64 bytes"))?;
    Ok((params::hash(asked.hash)?, (label, len)))
}

/// The variant of EdDSA that the parameter asks for, with its context; no parameter is the pure one (PKCS#11 3.2, EdDSA: "Mapping to
/// RFC 8032 Signature Schemes").
fn eddsa_variant(parameter: &Parameter) -> Result<Option<(eddsa::Variant, &[u8])>> {
    let Parameter::EdDsa { prehash, context } = parameter else { return Ok(None) };
    let longest = eddsa::CONTEXT_MAX;
    if context.len() > longest {
        return Err(Error::new(Kind::MechanismParam, format!("the context has at most {longest} bytes")));
    }
    if !prehash && context.is_empty() {
        // RFC 8032, section 5.1, does not want an empty context. Who fills the structure with nothing means the pure form.
        return Ok(None);
    }
    let variant = if *prehash { eddsa::Variant::PreHash } else { eddsa::Variant::Context };
    Ok(Some((variant, context)))
}

/// What the parameter of a post-quantum signature says; a verifier's hedge is ignored, as the standard has it.
fn check_context(kind: OperationKind, parameter: &Parameter) -> Result<()> {
    if kind == OperationKind::Sign {
        params::hedge(parameter)?;
    }
    params::context(parameter).map(drop)
}

fn signature_len(key: &PrivateKey) -> Option<usize> {
    Some(match key {
        PrivateKey::Rsa(key) => key.modulus_len(),
        PrivateKey::Ec(key) => key.curve().signature_len(),
        PrivateKey::Edwards(_) => eddsa::SIGNATURE_LEN,
        PrivateKey::MlDsa(key) => key.set().signature_len(),
        PrivateKey::SlhDsa(key) => key.set().signature_len(),
        PrivateKey::MlKem(_) | PrivateKey::Montgomery(_) => return None,
    })
}

/// Signs a message that is inside the issuance policy of the key.
fn sign_guarded(row: &Row, parameter: &Parameter, key: &Object, message: &[u8]) -> Result<Vec<u8>> {
    let refused = |breach: Breach| {
        Error::new(Kind::IssuanceRefused, format!("the key's issuance policy does not allow this message: {breach}"))
    };
    let policy = Policy::read(key.issuance_policy().unwrap_or_default()).map_err(refused)?;
    let algorithms = algorithm::identifiers(row.scheme, parameter, key)?;
    let spki = key.attributes.bytes(CKA_PUBLIC_KEY_INFO);
    issuance::judge(&policy, &Signer { algorithms, spki }, message).map_err(refused)?;
    sign(row, parameter, key, &algorithm::digested(row.scheme, message))
}

/// Signs data, or the digest of it where the mechanism hashes.
fn sign(row: &Row, parameter: &Parameter, key: &Object, data: &[u8]) -> Result<Vec<u8>> {
    let signature = match (row.scheme, key.private_key()?) {
        (Scheme::RsaRaw, PrivateKey::Rsa(key)) => key.sign_raw(data)?,
        (Scheme::RsaPkcs1(None), PrivateKey::Rsa(key)) => key.sign_pkcs1_raw(data)?,
        (Scheme::RsaPkcs1(Some(hash)), PrivateKey::Rsa(key)) => key.sign_pkcs1(hash, data)?,
        (Scheme::RsaPss(hash), PrivateKey::Rsa(key)) => key.sign_pss(&pss(hash, parameter)?, data)?,
        (Scheme::Ecdsa(_), PrivateKey::Ec(key)) => key.sign(data)?,
        (Scheme::EdDsa, PrivateKey::Edwards(key)) => match eddsa_variant(parameter)? {
            None => key.sign(data)?,
            Some((variant, context)) => key.sign_variant(variant, data, context)?,
        },
        (Scheme::MlDsa, PrivateKey::MlDsa(key)) => {
            key.sign(data, params::context(parameter)?, params::hedge(parameter)?)?
        }
        (Scheme::SlhDsa, PrivateKey::SlhDsa(key)) => {
            key.sign(data, params::context(parameter)?, params::hedge(parameter)?)?
        }
        (Scheme::HashSlhDsa(hash), PrivateKey::SlhDsa(key)) => {
            let hash = params::pre_hash(hash, parameter)?;
            key.sign_digest(hash, data, params::context(parameter)?, params::hedge(parameter)?)?
        }
        (Scheme::HashMlDsa(hash), PrivateKey::MlDsa(key)) => {
            let hash = params::pre_hash(hash, parameter)?;
            key.sign_digest(hash, data, params::context(parameter)?, params::hedge(parameter)?)?
        }
        _ => return Err(Kind::KeyType.into()),
    };
    Ok(signature)
}

fn verify(row: &Row, parameter: &Parameter, key: &Object, data: &[u8], signature: &[u8]) -> Result<()> {
    match (row.scheme, key.public_key()?) {
        (Scheme::RsaRaw, PublicKey::Rsa(key)) => key.verify_raw(data, signature)?,
        (Scheme::RsaPkcs1(None), PublicKey::Rsa(key)) => key.verify_pkcs1_raw(data, signature)?,
        (Scheme::RsaPkcs1(Some(hash)), PublicKey::Rsa(key)) => key.verify_pkcs1(hash, data, signature)?,
        (Scheme::RsaPss(hash), PublicKey::Rsa(key)) => key.verify_pss(&pss(hash, parameter)?, data, signature)?,
        (Scheme::Ecdsa(_), PublicKey::Ec(key)) => key.verify(data, signature)?,
        (Scheme::EdDsa, PublicKey::Edwards(key)) => match eddsa_variant(parameter)? {
            None => key.verify(data, signature)?,
            Some((variant, context)) => key.verify_variant(variant, data, context, signature)?,
        },
        (Scheme::MlDsa, PublicKey::MlDsa(key)) => key.verify(data, params::context(parameter)?, signature)?,
        (Scheme::SlhDsa, PublicKey::SlhDsa(key)) => key.verify(data, params::context(parameter)?, signature)?,
        (Scheme::HashSlhDsa(hash), PublicKey::SlhDsa(key)) => {
            let hash = params::pre_hash(hash, parameter)?;
            key.verify_digest(hash, data, params::context(parameter)?, signature)?;
        }
        (Scheme::HashMlDsa(hash), PublicKey::MlDsa(key)) => {
            let hash = params::pre_hash(hash, parameter)?;
            key.verify_digest(hash, data, params::context(parameter)?, signature)?;
        }
        _ => return Err(Kind::KeyType.into()),
    }
    Ok(())
}

/// What an RSA signature carries.
fn recover(row: &Row, key: &Object, signature: &[u8]) -> Result<Vec<u8>> {
    match (row.scheme, key.public_key()?) {
        (Scheme::RsaRaw, PublicKey::Rsa(key)) => Ok(key.recover_raw(signature)?),
        (Scheme::RsaPkcs1(None), PublicKey::Rsa(key)) => Ok(key.recover_pkcs1(signature)?),
        _ => Err(Kind::KeyType.into()),
    }
}

fn encrypt(row: &Row, parameter: &Parameter, key: &Object, data: &[u8]) -> Result<Vec<u8>> {
    match row.scheme {
        Scheme::AesXts => Ok(xts(Direction::Encrypt, parameter, key, data)?.expose().to_vec()),
        Scheme::AesWrap { pad } => Ok(aes_wrap::wrap(wrap_form(pad, parameter)?, key.secret()?, data)?),
        Scheme::RsaRaw | Scheme::RsaPkcs1(None) | Scheme::RsaOaep => match key.public_key()? {
            PublicKey::Rsa(key) if row.scheme == Scheme::RsaOaep => Ok(key.encrypt_oaep(&oaep(parameter)?, data)?),
            PublicKey::Rsa(key) if row.scheme == Scheme::RsaRaw => Ok(key.encrypt_raw(data)?),
            PublicKey::Rsa(key) => Ok(key.encrypt_pkcs1(data)?),
            _ => Err(Kind::KeyType.into()),
        },
        _ => Err(Kind::Internal.into()),
    }
}

fn xts(direction: Direction, parameter: &Parameter, key: &Object, data: &[u8]) -> Result<SecretBytes> {
    let Parameter::Bytes(unit) = parameter else { return Err(Kind::MechanismParam.into()) };
    let unit = unit.as_slice().try_into().map_err(|_| Kind::MechanismParam)?;
    Ok(aes_xts::process(direction, key.secret()?, unit, data)?)
}

fn decrypt(row: &Row, parameter: &Parameter, key: &Object, data: &[u8]) -> Result<Vec<u8>> {
    let plaintext = match row.scheme {
        Scheme::AesGcm => aes_gcm::Key::new(key.secret()?)?.decrypt(&gcm(parameter)?, data)?,
        Scheme::AesCcm => {
            let tag_len = ccm(parameter, None)?.tag_len();
            let len = data.len().checked_sub(tag_len).ok_or(Kind::EncryptedDataLength)?;
            let params = ccm(parameter, Some(len)).map_err(|error| match error.kind() {
                Kind::DataLength => Error::new(Kind::EncryptedDataLength, "ulDataLen announces another length"),
                _ => error,
            })?;
            aes_ccm::decrypt(key.secret()?, &params, data)?
        }
        Scheme::AesXts => xts(Direction::Decrypt, parameter, key, data)?,
        Scheme::AesWrap { pad } => {
            let invalid = |error| match error {
                crate::crypto::Error::WrappedKeyInvalid => Kind::EncryptedDataInvalid.into(),
                other => Error::from(other),
            };
            aes_wrap::unwrap(wrap_form(pad, parameter)?, key.secret()?, data).map_err(invalid)?
        }
        Scheme::RsaRaw | Scheme::RsaPkcs1(None) | Scheme::RsaOaep => match key.private_key()? {
            PrivateKey::Rsa(key) if row.scheme == Scheme::RsaOaep => key.decrypt_oaep(&oaep(parameter)?, data)?,
            PrivateKey::Rsa(key) if row.scheme == Scheme::RsaRaw => key.decrypt_raw(data)?,
            PrivateKey::Rsa(key) => key.decrypt_pkcs1(data)?,
            _ => return Err(Kind::KeyType.into()),
        },
        _ => return Err(Kind::Internal.into()),
    };
    Ok(plaintext.expose().to_vec())
}

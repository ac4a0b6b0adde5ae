//! The active operation: how it begins, how long its output is, and the one rule for its end.
//!
//! Success and every error but `CKR_BUFFER_TOO_SMALL` end an operation; a NULL length query does not
//! (PKCS#11 v3.0 section 5.2). Of a message-based operation they end the message, and only C_Message*Final the operation.
//! [`step`] is that rule, and no operation is ended anywhere else but by C_SessionCancel and an Init with a NULL mechanism.
//! An operation that is carried out in one message never exists at the daemon.

use ck::attribute::{CKA_EC_PARAMS, CKA_MODULUS, CKA_MODULUS_BITS, CKA_PARAMETER_SET};
use ck::mechanism::{CKM_AES_CBC, CKM_AES_ECB, CKM_DES3_CBC, CKM_DES3_ECB};
use ck::object::*;
use ck::rv::{
    CKR_BUFFER_TOO_SMALL, CKR_DATA_LEN_RANGE, CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_OPERATION_ACTIVE,
    CKR_OPERATION_NOT_INITIALIZED, CKR_SIGNATURE_LEN_RANGE,
};
use ck::{Attribute, Mechanism, Rv};
use hsm_proto::v1::mechanism::Parameter;
use hsm_proto::v1::request::Op;
use hsm_proto::v1::{self, OperationKind, OutputRule};

use crate::ffi::claim::{InBytes, MAX_CALL, OutBuf, Room, append};
use crate::library::{Refusal, Run, expect_answer};
use crate::mirror::Snapshot;
use crate::session::Session;

/// The longest output of a block: what padding and a tag add, where nothing better is known.
const BLOCK: u64 = 16;

/// What a query about a length that is not known exactly is answered at least: who is told 0 and makes room for as much has a NULL pointer
/// in some languages, and would ask again where the work should be done.
const LEAST: u64 = 1;

/// An operation between its Init and its end.
pub(crate) struct Operation {
    pub(crate) kind: OperationKind,
    begin: v1::Begin,
    rule: Rule,
    pub(crate) multi_part: bool,
    /// An Update has been called: C_Sign and the like are too late. Of a message-based operation: a message has begun.
    pub(crate) updated: bool,
    /// The daemon has it.
    pub(crate) opened: bool,
    taken: u64,
    given: u64,
    /// Of C_VerifySignature*: what was given at its beginning.
    signature: Vec<u8>,
}

/// How long the output is, as far as the mechanism and the key tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Fixed(u64),
    InputPlus(u64),
    InputMinus(u64),
    Padded(u64),
    Input,
    AtMost(u64),
    AtMostInput,
    Unknown,
}

/// The length of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Exactly(u64),
    AtMost(u64),
    Unknown,
}

/// What becomes of the operation after a step that succeeded.
pub(crate) enum Next {
    Keep,
    End,
}

impl Operation {
    /// An operation that Init has admitted.
    pub(crate) fn new(
        kind: OperationKind,
        mechanism: v1::Mechanism,
        key: u64,
        row: &v1::MechanismRow,
        snapshot: Option<&Snapshot>,
    ) -> Self {
        let rule = Rule::of(kind, row, &mechanism, snapshot);
        let begin = v1::Begin { mechanism: Some(mechanism), key };
        let multi_part = row.multi_part;
        let signature = Vec::new();
        Operation { kind, begin, rule, multi_part, updated: false, opened: false, taken: 0, given: 0, signature }
    }

    /// The operation with the signature that it will verify.
    pub(crate) fn with_signature(self, signature: Vec<u8>) -> Self {
        Operation { signature, ..self }
    }

    /// A digest that the daemon has restored.
    pub(crate) fn restored(mechanism: u64, row: &v1::MechanismRow, updated: bool) -> Self {
        let mechanism = v1::Mechanism { r#type: mechanism, parameter: None };
        let begun = Operation::new(OperationKind::OperationDigest, mechanism, 0, row, None);
        Operation { updated, opened: true, ..begun }
    }

    /// Whether it goes on from message to message.
    pub(crate) fn is_message_based(&self) -> bool {
        use OperationKind::*;
        matches!(
            self.kind,
            OperationMessageEncrypt | OperationMessageDecrypt | OperationMessageSign | OperationMessageVerify
        )
    }

    /// What Init said, with the parameter of one message if it has one of its own.
    pub(crate) fn begin_with(&self, mechanism: Option<v1::Mechanism>) -> v1::Begin {
        v1::Begin { mechanism: mechanism.or_else(|| self.begin.mechanism.clone()), key: self.begin.key }
    }

    /// The mechanism's number.
    pub(crate) fn mechanism(&self) -> u64 {
        self.begin.mechanism.as_ref().map_or(0, |mechanism| mechanism.r#type)
    }

    /// So much has gone in and come out.
    pub(crate) fn count(&mut self, taken: usize, given: usize) {
        self.taken = self.taken.saturating_add(taken as u64);
        self.given = self.given.saturating_add(given as u64);
    }

    /// The message is over.
    pub(crate) fn end_message(&mut self) {
        (self.updated, self.opened, self.taken, self.given) = (false, false, 0, 0);
    }

    /// Whether the daemon has it.
    pub(crate) fn is_opened(&self) -> bool {
        self.opened
    }

    /// The length of everything that comes out after `more` bytes.
    fn total(&self, more: u64) -> Length {
        let input = self.taken.saturating_add(more);
        match self.rule {
            Rule::Fixed(len) => Length::Exactly(len),
            Rule::InputPlus(tag) => Length::Exactly(input.saturating_add(tag)),
            Rule::Padded(block) => Length::Exactly((input / block).saturating_add(1).saturating_mul(block)),
            Rule::Input => Length::Exactly(input),
            Rule::InputMinus(tag) => Length::AtMost(input.saturating_sub(tag)),
            Rule::AtMost(len) => Length::AtMost(len),
            Rule::AtMostInput => Length::AtMost(input),
            Rule::Unknown => Length::Unknown,
        }
    }

    /// The length of what the end of the operation gives, after `more` bytes.
    pub(crate) fn rest(&self, more: u64) -> Length {
        match self.total(more) {
            Length::Exactly(len) => Length::Exactly(len.saturating_sub(self.given)),
            Length::AtMost(len) => Length::AtMost(len.saturating_sub(self.given)),
            Length::Unknown => Length::Unknown,
        }
    }

    /// Whether `more` bytes can be the last: a mode without padding takes whole blocks, and says so before it says a length.
    fn check_blocks(&self, more: u64) -> Result<(), Rv> {
        let block = WHOLE_BLOCKS.iter().find(|(mechanism, _)| mechanism.0 == self.mechanism()).map(|(_, block)| *block);
        match (block, self.kind) {
            (Some(block), kind) if !self.taken.saturating_add(more).is_multiple_of(block) => Err(match kind {
                OperationKind::OperationDecrypt => CKR_ENCRYPTED_DATA_LEN_RANGE,
                _ => CKR_DATA_LEN_RANGE,
            }),
            _ => Ok(()),
        }
    }

    /// The signature to verify: the caller's, which cannot be missing, or the one that came with Init.
    fn signature(&self, given: Option<InBytes<'_>>) -> Result<Vec<u8>, Rv> {
        given.map_or_else(|| Ok(self.signature.clone()), |signature| present(signature, CKR_SIGNATURE_LEN_RANGE))
    }

    /// The begin that goes with a message: only while the daemon does not have the operation.
    pub(crate) fn begin(&self) -> Option<v1::Begin> {
        (!self.opened).then(|| self.begin.clone())
    }
}

impl Rule {
    fn of(kind: OperationKind, row: &v1::MechanismRow, mechanism: &v1::Mechanism, key: Option<&Snapshot>) -> Self {
        let exact = match row.output() {
            // A ciphertext's length is asked of the daemon, with everything else about it.
            OutputRule::OutputNone | OutputRule::OutputMlKem => None,
            OutputRule::OutputFixed => Some(Rule::Fixed(row.output_len)),
            OutputRule::OutputModulus => key.and_then(modulus_len).map(Rule::Fixed),
            OutputRule::OutputTwiceField => key.and_then(order_len).map(|len| Rule::Fixed(2 * len)),
            OutputRule::OutputMlDsa => key.and_then(ml_dsa_len).map(Rule::Fixed),
            OutputRule::OutputSlhDsa => key.and_then(slh_dsa_len).map(Rule::Fixed),
            OutputRule::OutputInputPlusTag => Some(Rule::InputPlus(tag_len(row, mechanism))),
            OutputRule::OutputPaddedBlock => {
                Some(Rule::Padded(if row.output_len == 0 { BLOCK } else { row.output_len }))
            }
            OutputRule::OutputInput => Some(Rule::Input),
            OutputRule::OutputAtMostInput => Some(Rule::AtMostInput),
            OutputRule::OutputMacLen => mac_len(mechanism).map(Rule::Fixed),
        };
        match (exact, kind) {
            // Unpadded by the daemon, which says first whether the signature is one.
            (_, OperationKind::OperationVerifyRecover) => Rule::Unknown,
            // A message's tag goes its own way.
            (_, OperationKind::OperationMessageEncrypt | OperationKind::OperationMessageDecrypt) => Rule::Input,
            (Some(Rule::Fixed(len)), OperationKind::OperationDecrypt) => Rule::AtMost(len),
            (Some(Rule::InputPlus(tag)), OperationKind::OperationDecrypt) => Rule::InputMinus(tag),
            (Some(_), OperationKind::OperationDecrypt) => Rule::AtMostInput,
            (rule, _) => rule.unwrap_or(Rule::Unknown),
        }
    }
}

fn modulus_len(key: &Snapshot) -> Option<u64> {
    let modulus = |attribute: Attribute| key.bytes(attribute).map(|m| m.iter().skip_while(|&&byte| byte == 0).count());
    let bits = || key.number(CKA_MODULUS_BITS).map(|bits| bits.div_ceil(8));
    modulus(CKA_MODULUS).filter(|&len| len > 0).map(|len| len as u64).or_else(bits)
}

/// Ciphers that take whole blocks, and the block in bytes.
const WHOLE_BLOCKS: [(Mechanism, u64); 4] =
    [(CKM_AES_ECB, 16), (CKM_AES_CBC, 16), (CKM_DES3_ECB, 8), (CKM_DES3_CBC, 8)];

/// The named curves by the DER of their object identifiers (RFC 5480 section 2.1.1.1; SEC 2 for secp256k1; RFC 5639 for
/// Brainpool) and by their printable names, with the length of the order in bytes.
const CURVES: [(&[u8], &str, u64); 9] = [
    (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21], "secp224r1", 28),
    (&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], "secp256r1", 32),
    (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a], "secp256k1", 32),
    (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22], "secp384r1", 48),
    (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23], "secp521r1", 66),
    (&[0x06, 0x09, 0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07], "brainpoolP256r1", 32),
    (&[0x06, 0x09, 0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x09], "brainpoolP320r1", 40),
    (&[0x06, 0x09, 0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0b], "brainpoolP384r1", 48),
    (&[0x06, 0x09, 0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0d], "brainpoolP512r1", 64),
];

fn order_len(key: &Snapshot) -> Option<u64> {
    let params = key.bytes(CKA_EC_PARAMS)?;
    // A printable name is a PrintableString: tag 0x13, one byte of length.
    let name = params.strip_prefix(&[0x13]).and_then(|rest| rest.get(1..));
    CURVES.iter().find(|(oid, text, _)| *oid == params || name == Some(text.as_bytes())).map(|(.., len)| *len)
}

/// Signature lengths of FIPS 204, table 2.
fn ml_dsa_len(key: &Snapshot) -> Option<u64> {
    let rows = [(CKP_ML_DSA_44, 2420), (CKP_ML_DSA_65, 3309), (CKP_ML_DSA_87, 4627)];
    let set = key.number(CKA_PARAMETER_SET)?;
    rows.iter().find(|(known, _)| known.0 == set).map(|(_, len)| *len)
}

/// Signature lengths of FIPS 205, table 2.
fn slh_dsa_len(key: &Snapshot) -> Option<u64> {
    let rows = [
        ([CKP_SLH_DSA_SHA2_128S, CKP_SLH_DSA_SHAKE_128S], 7856),
        ([CKP_SLH_DSA_SHA2_128F, CKP_SLH_DSA_SHAKE_128F], 17088),
        ([CKP_SLH_DSA_SHA2_192S, CKP_SLH_DSA_SHAKE_192S], 16224),
        ([CKP_SLH_DSA_SHA2_192F, CKP_SLH_DSA_SHAKE_192F], 35664),
        ([CKP_SLH_DSA_SHA2_256S, CKP_SLH_DSA_SHAKE_256S], 29792),
        ([CKP_SLH_DSA_SHA2_256F, CKP_SLH_DSA_SHAKE_256F], 49856),
    ];
    let set = key.number(CKA_PARAMETER_SET)?;
    rows.iter().find(|(known, _)| known.iter().any(|known| known.0 == set)).map(|(_, len)| *len)
}

fn tag_len(row: &v1::MechanismRow, mechanism: &v1::Mechanism) -> u64 {
    match &mechanism.parameter {
        Some(Parameter::Gcm(gcm)) => gcm.tag_bits.div_ceil(8),
        Some(Parameter::Ccm(ccm)) => ccm.mac_len,
        _ => row.output_len,
    }
}

fn mac_len(mechanism: &v1::Mechanism) -> Option<u64> {
    match &mechanism.parameter {
        Some(Parameter::MacLen(len)) => Some(*len),
        Some(Parameter::TlsMac(mac)) => Some(mac.len),
        Some(Parameter::Gcm(gcm)) => Some(gcm.tag_bits.div_ceil(8)),
        // AES-GMAC with nothing but an IV gives its whole tag.
        Some(Parameter::Iv(_)) => Some(BLOCK),
        _ => None,
    }
}

// --- the end of an operation -----------------------------------------------------------------------------------------

/// One C call on the active operation of a kind: takes it out, and puts it back only if it goes on.
pub(crate) fn step(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    body: impl FnOnce(&mut Operation) -> Result<Next, Refusal>,
) -> Result<(), Rv> {
    let mut operation = session.take(kind)?;
    match body(&mut operation) {
        Ok(Next::Keep) => session.put(operation),
        Ok(Next::End) => {}
        Err(refusal) if refusal.rv == CKR_BUFFER_TOO_SMALL => {
            session.put(operation);
            return Err(refusal.rv);
        }
        Err(refusal) if operation.is_message_based() => {
            // A call at the wrong moment changes nothing; another error ends the message and leaves the operation.
            if ![CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED].contains(&refusal.rv) {
                abandon(run, session, &operation);
                operation.end_message();
            }
            session.put(operation);
            return Err(refusal.rv);
        }
        Err(refusal) => {
            abandon(run, session, &operation);
            return Err(refusal.rv);
        }
    }
    Ok(())
}

/// Ends an operation that the daemon may still have; it has ended it already if the error was its own.
pub(crate) fn abandon(run: &Run, session: &Session, operation: &Operation) {
    if operation.opened {
        let cancel = v1::CancelRequest { session: session.daemon_handle, kind: operation.kind.into() };
        // The operation has ended here whatever comes of it.
        run.command(session, Op::Cancel(cancel)).ok();
    }
}

// --- steps -----------------------------------------------------------------------------------------------------------

/// C_Sign, C_Encrypt, C_Decrypt, C_Digest: everything in one message.
pub(crate) fn one_shot(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    data: InBytes<'_>,
    out: &mut OutBuf<'_>,
) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        single(operation)?;
        let room = out.room()?;
        let data = limited(kind, data)?;
        operation.check_blocks(data.len())?;
        let capacity = match answer_length(operation.rest(data.len()), room, out)? {
            Answered::Query => return Ok(Next::Keep),
            Answered::Capacity(capacity) => capacity,
        };
        // A restored digest is at the daemon already.
        if data.len() > run.link.max_data() || operation.opened {
            let whole = in_parts(run, session, operation, data)?;
            out.put(&whole)?;
            return Ok(Next::End);
        }
        let request = v1::OneShotRequest {
            session: session.daemon_handle,
            kind: kind.into(),
            begin: operation.begin(),
            data: data.to_vec()?,
            signature: Vec::new(),
            capacity,
        };
        deliver(run.ask(session, Op::OneShot(request)), room, out)
    })
}

/// C_Verify and C_VerifySignature; the signature of the latter came with its Init.
pub(crate) fn verify(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    data: InBytes<'_>,
    signature: Option<InBytes<'_>>,
) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        single(operation)?;
        let signature = operation.signature(signature)?;
        let data = limited(kind, data)?;
        if data.len() > run.link.max_data() {
            in_pieces(operation)?;
            feed(run, session, operation, data, None)?;
            return finish_verify(run, session, operation, signature);
        }
        let request = v1::OneShotRequest {
            session: session.daemon_handle,
            kind: kind.into(),
            begin: operation.begin(),
            data: data.to_vec()?,
            signature,
            capacity: None,
        };
        run.ask(session, Op::OneShot(request)).map(|_| Next::End)
    })
}

/// The Updates that give no output: C_SignUpdate, C_VerifyUpdate, C_DigestUpdate.
pub(crate) fn absorb(run: &Run, session: &Session, kind: OperationKind, data: InBytes<'_>) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        let data = limited(kind, data)?;
        operation.updated = true;
        feed(run, session, operation, data, None)?;
        Ok(Next::Keep)
    })
}

/// C_EncryptUpdate and C_DecryptUpdate: what came out, unless only its length was asked.
pub(crate) fn update(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    data: InBytes<'_>,
    out: &mut OutBuf<'_>,
) -> Result<Option<Vec<u8>>, Rv> {
    let mut given = None;
    step(run, session, kind, |operation| {
        let room = out.room()?;
        let data = limited(kind, data)?;
        let most = match operation.rest(data.len()) {
            Length::Exactly(len) => len,
            Length::AtMost(len) => len.max(LEAST),
            Length::Unknown => data.len().saturating_add(BLOCK),
        };
        let capacity = match room {
            Room::Query => {
                out.set_len(most);
                return Ok(Next::Keep);
            }
            // In one message the daemon knows better; over several there would be no way back.
            Room::Bytes(room) if data.len() > run.link.max_data() && room < most => {
                out.set_len(most);
                return Err(CKR_BUFFER_TOO_SMALL.into());
            }
            Room::Bytes(room) => room,
        };
        operation.updated = true;
        match feed(run, session, operation, data, Some(capacity)) {
            Ok(output) => {
                out.put(&output)?;
                given = Some(output);
                Ok(Next::Keep)
            }
            Err(refusal) => too_small(refusal, room, out),
        }
    })?;
    Ok(given)
}

/// C_SignFinal, C_EncryptFinal, C_DecryptFinal, C_DigestFinal.
pub(crate) fn finish(run: &Run, session: &Session, kind: OperationKind, out: &mut OutBuf<'_>) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        let room = out.room()?;
        operation.check_blocks(0)?;
        let capacity = match answer_length(operation.rest(0), room, out)? {
            Answered::Query => return Ok(Next::Keep),
            Answered::Capacity(capacity) => capacity,
        };
        let request = final_request(session, operation, Vec::new(), capacity);
        let answer = run.ask(session, Op::Final(request));
        ended_there(operation, &answer);
        deliver(answer, room, out)
    })
}

/// C_VerifyFinal and C_VerifySignatureFinal.
pub(crate) fn verify_final(
    run: &Run,
    session: &Session,
    kind: OperationKind,
    signature: Option<InBytes<'_>>,
) -> Result<(), Rv> {
    step(run, session, kind, |operation| {
        let signature = operation.signature(signature)?;
        finish_verify(run, session, operation, signature)
    })
}

/// C_DigestKey.
pub(crate) fn digest_key(run: &Run, session: &Session, key: u64) -> Result<(), Rv> {
    step(run, session, OperationKind::OperationDigest, |operation| {
        operation.updated = true;
        let request = v1::DigestKeyRequest { session: session.daemon_handle, begin: operation.begin(), key };
        let answer = run.ask(session, Op::DigestKey(request));
        ended_there(operation, &answer);
        answer?;
        operation.opened = true;
        Ok(Next::Keep)
    })
}

// --- what steps share ------------------------------------------------------------------------------------------------

/// A single-part call after an Update has no operation to work on.
fn single(operation: &Operation) -> Result<(), Rv> {
    if operation.updated { Err(CKR_OPERATION_NOT_INITIALIZED) } else { Ok(()) }
}

/// Data of a call: what is longer than a call takes is refused by its length, before it is read.
pub(crate) fn limited(kind: OperationKind, data: InBytes<'_>) -> Result<InBytes<'_>, Rv> {
    let data = data.at_most(MAX_CALL, too_long(kind))?;
    data.get()?;
    Ok(data)
}

/// How data of a kind are refused for their length.
fn too_long(kind: OperationKind) -> Rv {
    match kind {
        OperationKind::OperationDecrypt | OperationKind::OperationMessageDecrypt => CKR_ENCRYPTED_DATA_LEN_RANGE,
        OperationKind::OperationVerifyRecover => CKR_SIGNATURE_LEN_RANGE,
        _ => CKR_DATA_LEN_RANGE,
    }
}

/// Data that are longer than a message take a mechanism that works in pieces.
pub(crate) fn in_pieces(operation: &Operation) -> Result<(), Rv> {
    if operation.multi_part { Ok(()) } else { Err(too_long(operation.kind)) }
}

/// Bytes that cannot be missing and go into one message: a signature to verify, a wrapped key, a ciphertext.
pub(crate) fn present(bytes: InBytes<'_>, too_long: Rv) -> Result<Vec<u8>, Rv> {
    if bytes.is_null() { Err(ck::rv::CKR_ARGUMENTS_BAD) } else { bytes.short(too_long) }
}

/// The capacity for an output whose length only the daemon knows: none at all makes it say the length.
pub(crate) fn capacity(room: Room) -> Option<u64> {
    Some(if let Room::Bytes(capacity) = room { capacity } else { 0 })
}

pub(crate) enum Answered {
    /// The length was asked and has been said.
    Query,
    /// Go on, with this limit for the daemon.
    Capacity(Option<u64>),
}

/// Answers a length query, and refuses a buffer that cannot do, without a message where the length is known.
pub(crate) fn answer_length(len: Length, room: Room, out: &mut OutBuf<'_>) -> Result<Answered, Rv> {
    match (len, room) {
        (Length::Exactly(len), Room::Query) => {
            out.set_len(len);
            Ok(Answered::Query)
        }
        (Length::AtMost(len), Room::Query) => {
            out.set_len(len.max(LEAST));
            Ok(Answered::Query)
        }
        (Length::Exactly(len), Room::Bytes(room)) if room < len => {
            out.set_len(len);
            Err(CKR_BUFFER_TOO_SMALL)
        }
        (Length::Exactly(_), Room::Bytes(_)) => Ok(Answered::Capacity(None)),
        // The daemon refuses whatever is longer than nothing and says how long it is.
        (Length::Unknown, Room::Query) => Ok(Answered::Capacity(Some(0))),
        (Length::AtMost(_) | Length::Unknown, Room::Bytes(room)) => Ok(Answered::Capacity(Some(room))),
    }
}

/// Hands the output of the last message over.
fn deliver(answer: Result<v1::reply::Result, Refusal>, room: Room, out: &mut OutBuf<'_>) -> Result<Next, Refusal> {
    match answer {
        Ok(answer) => {
            out.put(&expect_answer!(answer, Output)?.output)?;
            Ok(Next::End)
        }
        Err(refusal) => too_small(refusal, room, out),
    }
}

/// `CKR_BUFFER_TOO_SMALL` from the daemon: the length is said; to a query that is the answer.
pub(crate) fn too_small(refusal: Refusal, room: Room, out: &mut OutBuf<'_>) -> Result<Next, Refusal> {
    if refusal.rv != CKR_BUFFER_TOO_SMALL {
        return Err(refusal);
    }
    out.set_len(refusal.needed);
    if room == Room::Query { Ok(Next::Keep) } else { Err(refusal) }
}

/// An error of the daemon's own has ended the operation there.
pub(crate) fn ended_there(operation: &mut Operation, answer: &Result<v1::reply::Result, Refusal>) {
    if answer.as_ref().is_err_and(|refusal| refusal.rv != CKR_BUFFER_TOO_SMALL) {
        operation.opened = false;
    }
}

/// Sends data as one Update, or as several when it is longer than a message.
fn feed(
    run: &Run,
    session: &Session,
    operation: &mut Operation,
    data: InBytes<'_>,
    capacity: Option<u64>,
) -> Result<Vec<u8>, Refusal> {
    let mut output = Vec::new();
    let piece = usize::try_from(run.link.max_data()).unwrap_or(usize::MAX).max(1);
    for part in data.get()?.chunks(piece) {
        let request = v1::UpdateRequest {
            session: session.daemon_handle,
            kind: operation.kind.into(),
            begin: operation.begin(),
            data: crate::ffi::claim::copied(part)?,
            capacity: capacity.map(|capacity| capacity.saturating_sub(output.len() as u64)),
        };
        let answer = run.ask(session, Op::Update(request));
        ended_there(operation, &answer);
        let got = match answer? {
            v1::reply::Result::Output(got) => got.output,
            v1::reply::Result::Done(_) => Vec::new(),
            _ => return Err(ck::rv::CKR_DEVICE_ERROR.into()),
        };
        operation.opened = true;
        operation.taken = operation.taken.saturating_add(part.len() as u64);
        operation.given = operation.given.saturating_add(got.len() as u64);
        if output.is_empty() {
            output = got;
        } else {
            append(&mut output, &got)?;
        }
    }
    Ok(output)
}

/// A single-part call whose data is longer than a message.
fn in_parts(run: &Run, session: &Session, operation: &mut Operation, data: InBytes<'_>) -> Result<Vec<u8>, Refusal> {
    in_pieces(operation)?;
    let mut output = feed(run, session, operation, data, None)?;
    let request = final_request(session, operation, Vec::new(), None);
    let answer = run.ask(session, Op::Final(request));
    ended_there(operation, &answer);
    append(&mut output, &expect_answer!(answer?, Output)?.output)?;
    Ok(output)
}

fn finish_verify(run: &Run, session: &Session, operation: &mut Operation, signature: Vec<u8>) -> Result<Next, Refusal> {
    let request = final_request(session, operation, signature, None);
    let answer = run.ask(session, Op::Final(request));
    ended_there(operation, &answer);
    answer.map(|_| Next::End)
}

fn final_request(
    session: &Session,
    operation: &Operation,
    signature: Vec<u8>,
    capacity: Option<u64>,
) -> v1::FinalRequest {
    let begin = operation.begin();
    v1::FinalRequest { session: session.daemon_handle, kind: operation.kind.into(), begin, signature, capacity }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(kind: OperationKind, output: OutputRule, output_len: u64, gcm: Option<u64>) -> Operation {
        let row = v1::MechanismRow { output: output.into(), output_len, ..Default::default() };
        let parameter = gcm.map(|tag_bits| Parameter::Gcm(v1::Gcm { tag_bits, ..Default::default() }));
        Operation::new(kind, v1::Mechanism { r#type: 1, parameter }, 0, &row, None)
    }

    #[test]
    fn lengths_follow_from_the_rule() {
        use OperationKind::*;
        use OutputRule::*;
        let rows = [
            (OperationDigest, OutputFixed, 32, None, 5, Length::Exactly(32)),
            (OperationEncrypt, OutputInputPlusTag, 0, Some(128), 5, Length::Exactly(21)),
            (OperationDecrypt, OutputInputPlusTag, 0, Some(128), 21, Length::AtMost(5)),
            (OperationDecrypt, OutputInputPlusTag, 0, Some(128), 3, Length::AtMost(0)),
            (OperationEncrypt, OutputPaddedBlock, 0, None, 16, Length::Exactly(32)),
            (OperationEncrypt, OutputPaddedBlock, 0, None, 15, Length::Exactly(16)),
            (OperationEncrypt, OutputPaddedBlock, 8, None, 16, Length::Exactly(24)),
            (OperationDecrypt, OutputPaddedBlock, 0, None, 32, Length::AtMost(32)),
            (OperationEncrypt, OutputInput, 0, None, 7, Length::Exactly(7)),
            (OperationSign, OutputModulus, 0, None, 7, Length::Unknown),
            (OperationEncrypt, OutputPaddedBlock, 0, None, u64::MAX, Length::Exactly(u64::MAX)),
        ];
        for (kind, rule, len, gcm, input, expected) in rows {
            assert_eq!(operation(kind, rule, len, gcm).total(input), expected, "{kind:?} {rule:?} {input}");
        }
    }

    #[test]
    fn the_end_gives_what_the_updates_did_not() {
        let mut padded = operation(OperationKind::OperationEncrypt, OutputRule::OutputPaddedBlock, 0, None);
        (padded.taken, padded.given) = (20, 16);
        assert_eq!(padded.rest(0), Length::Exactly(16));
    }
}

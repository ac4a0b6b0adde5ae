//! The active operation: how it begins, and how long its output is. What a call does with it is in [`crate::step`].
//!
//! An operation that is carried out in one message never exists at the daemon.

use ck::attribute::{CKA_EC_PARAMS, CKA_MODULUS, CKA_MODULUS_BITS, CKA_PARAMETER_SET};
use ck::mechanism::{CKM_AES_CBC, CKM_AES_ECB, CKM_DES3_CBC, CKM_DES3_ECB};
use ck::object::*;
use ck::rv::{CKR_DATA_LEN_RANGE, CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_SIGNATURE_LEN_RANGE};
use ck::{Attribute, Mechanism, Rv};
use hsm_proto::v1::mechanism::Parameter;
use hsm_proto::v1::{self, OperationKind, OutputRule};

use crate::ffi::claim::InBytes;
use crate::mirror::Snapshot;

/// The longest output of a block: what padding and a tag add, where nothing better is known.
pub(crate) const BLOCK: u64 = 16;

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
    pub(crate) fn check_blocks(&self, more: u64) -> Result<(), Rv> {
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
    pub(crate) fn signature(&self, given: Option<InBytes<'_>>) -> Result<Vec<u8>, Rv> {
        given.map_or_else(|| Ok(self.signature.clone()), |signature| signature.present(CKR_SIGNATURE_LEN_RANGE))
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

//! Between the wire's messages and the core's types: nothing is decided here, and what may be secret is moved, never
//! copied.

// By its path, because the fuzz targets take this file in by its path too.
#[path = "convert/kdf.rs"]
mod kdf;

use hsm_core::{
    Attr, AttributeRead, Begin, Derived, MechanismCall, MechanismView, OperationKind, OutputRule, Parameter,
};
use hsm_core::{Message, MessagePart, MessagePiece};
use hsm_core::{SlotView, Snapshot, Value};
use hsm_proto::v1;
use zeroize::Zeroizing;

/// Why a request gets no result: the fault that the reply will carry.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) v1::Fault);

impl Refusal {
    /// A fault with a sentence.
    pub(crate) fn new(rv: ck::Rv, sentence: &str) -> Self {
        Refusal(v1::Fault::new(rv, sentence))
    }

    fn missing(what: &str) -> Self {
        Refusal(v1::Fault::new(ck::rv::CKR_ARGUMENTS_BAD, format!("the request has no {what}")))
    }
}

impl From<hsm_core::Error> for Refusal {
    fn from(error: hsm_core::Error) -> Self {
        let detail = error.detail().unwrap_or_default().to_owned();
        Refusal(v1::Fault { rv: error.rv().0, detail, needed: error.needed().unwrap_or_default() })
    }
}

/// A template; an absent one is empty.
pub(crate) fn template(template: Option<v1::Template>) -> Vec<Attr> {
    template.unwrap_or_default().attributes.into_iter().map(attr).collect()
}

fn attr(attribute: v1::Attribute) -> Attr {
    use v1::attribute::Value as Wire;
    let value = match attribute.value {
        None => Value::Empty,
        Some(Wire::Flag(flag)) => Value::Bool(flag),
        Some(Wire::Number(number)) => Value::Ulong(number),
        Some(Wire::Bytes(bytes)) => Value::Bytes(Zeroizing::new(bytes)),
        Some(Wire::Numbers(numbers)) => Value::Ulongs(numbers.values),
        Some(Wire::Template(inner)) => Value::Template(template(Some(inner))),
    };
    Attr { kind: ck::Attribute(attribute.r#type), value }
}

fn attribute(attr: Attr) -> v1::Attribute {
    use v1::attribute::Value as Wire;
    let value = match attr.value {
        Value::Empty => None,
        Value::Bool(flag) => Some(Wire::Flag(flag)),
        Value::Ulong(number) => Some(Wire::Number(number)),
        Value::Bytes(mut bytes) => Some(Wire::Bytes(core::mem::take(&mut *bytes))),
        Value::Ulongs(values) => Some(Wire::Numbers(v1::Numbers { values })),
        Value::Template(inner) => {
            Some(Wire::Template(v1::Template { attributes: inner.into_iter().map(attribute).collect() }))
        }
    };
    v1::Attribute { r#type: attr.kind.0, value }
}

/// A mechanism with its parameter.
pub(crate) fn mechanism(mechanism: Option<v1::Mechanism>) -> Result<MechanismCall, Refusal> {
    use v1::mechanism::Parameter as Wire;
    let mechanism = mechanism.ok_or_else(|| Refusal::missing("mechanism"))?;
    let parameter = match mechanism.parameter {
        None => Parameter::None,
        Some(Wire::Iv(bytes)) => Parameter::Bytes(bytes),
        Some(Wire::Pss(pss)) => Parameter::RsaPss { hash: pss.hash, mgf: pss.mgf, salt_len: pss.salt_len },
        Some(Wire::Oaep(oaep)) => {
            Parameter::RsaOaep { hash: oaep.hash, mgf: oaep.mgf, source: oaep.source, label: oaep.label }
        }
        Some(Wire::Gcm(gcm)) => Parameter::Gcm { iv: gcm.iv, aad: gcm.aad, tag_bits: gcm.tag_bits },
        Some(Wire::Ecdh1(ecdh)) => {
            Parameter::Ecdh1 { kdf: ecdh.kdf, shared_data: ecdh.shared_data, public_data: ecdh.public_data }
        }
        Some(Wire::Eddsa(eddsa)) => Parameter::EdDsa { prehash: eddsa.prehash, context: eddsa.context },
        Some(Wire::SignContext(sign)) => Parameter::SignContext { hedge: sign.hedge, context: sign.context },
        Some(Wire::HashSignContext(sign)) => {
            Parameter::HashSignContext { hedge: sign.hedge, context: sign.context, hash: sign.hash }
        }
        Some(Wire::Ctr(ctr)) => Parameter::Ctr { counter_bits: ctr.counter_bits, block: ctr.block },
        Some(Wire::MacLen(len)) => Parameter::MacLen(len),
        Some(Wire::RsaAesWrap(wrap)) => {
            let v1::RsaOaep { hash, mgf, source, label } =
                wrap.oaep.ok_or_else(|| Refusal::missing("OAEP parameter"))?;
            Parameter::RsaAesWrap { aes_bits: wrap.aes_bits, hash, mgf, source, label }
        }
        Some(Wire::EcdhAesWrap(wrap)) => {
            Parameter::EcdhAesWrap { aes_bits: wrap.aes_bits, kdf: wrap.kdf, shared_data: wrap.shared_data }
        }
        Some(Wire::AeadMessage(message)) => Parameter::AeadMessage {
            iv: message.iv,
            fixed_bits: message.fixed_bits,
            generator: message.generator,
            tag_bits: message.tag_bits,
            aad: message.aad,
            data_len: message.data_len,
        },
        Some(derivation) => kdf::parameter(derivation)?,
    };
    Ok(MechanismCall { kind: ck::Mechanism(mechanism.r#type), parameter })
}

/// What an Init call says.
pub(crate) fn begin(begin: Option<v1::Begin>) -> Result<Begin, Refusal> {
    let begin = begin.ok_or_else(|| Refusal::missing("mechanism"))?;
    Ok(Begin { mechanism: mechanism(begin.mechanism)?, key: begin.key })
}

/// What an Init call says, if the request opens an operation.
pub(crate) fn maybe_begin(wire: Option<v1::Begin>) -> Result<Option<Begin>, Refusal> {
    wire.map(|wire| begin(Some(wire))).transpose()
}

/// The kind of an operation.
pub(crate) fn operation_kind(kind: i32) -> Result<OperationKind, Refusal> {
    match v1::OperationKind::try_from(kind) {
        Ok(v1::OperationKind::OperationEncrypt) => Ok(OperationKind::Encrypt),
        Ok(v1::OperationKind::OperationDecrypt) => Ok(OperationKind::Decrypt),
        Ok(v1::OperationKind::OperationDigest) => Ok(OperationKind::Digest),
        Ok(v1::OperationKind::OperationSign) => Ok(OperationKind::Sign),
        Ok(v1::OperationKind::OperationVerify) => Ok(OperationKind::Verify),
        Ok(v1::OperationKind::OperationSignRecover) => Ok(OperationKind::SignRecover),
        Ok(v1::OperationKind::OperationVerifyRecover) => Ok(OperationKind::VerifyRecover),
        Ok(v1::OperationKind::OperationVerifySignature) => Ok(OperationKind::VerifySignature),
        Ok(v1::OperationKind::OperationMessageEncrypt) => Ok(OperationKind::MessageEncrypt),
        Ok(v1::OperationKind::OperationMessageDecrypt) => Ok(OperationKind::MessageDecrypt),
        Ok(v1::OperationKind::OperationMessageSign) => Ok(OperationKind::MessageSign),
        Ok(v1::OperationKind::OperationMessageVerify) => Ok(OperationKind::MessageVerify),
        Ok(v1::OperationKind::OperationNone) | Err(_) => Err(Refusal::missing("kind of operation")),
    }
}

/// A message, or a part of one.
pub(crate) fn message_piece(request: &mut v1::MessageRequest) -> Result<MessagePiece<'_>, Refusal> {
    let part = match v1::MessagePart::try_from(request.part) {
        Ok(v1::MessagePart::MessageWhole) => MessagePart::Whole,
        Ok(v1::MessagePart::MessageBegin) => MessagePart::Begin,
        Ok(v1::MessagePart::MessageNext) => MessagePart::Next,
        Ok(v1::MessagePart::MessageEnd) => MessagePart::End,
        Err(_) => return Err(Refusal::missing("part of a message")),
    };
    let (kind, begin) = (operation_kind(request.kind)?, maybe_begin(request.begin.take())?);
    Ok(MessagePiece { kind, part, begin, data: &request.data, check: &request.check, capacity: request.capacity })
}

/// What came of a message, or of a part of one.
pub(crate) fn message(message: Message) -> v1::MessageReply {
    v1::MessageReply { output: message.output, iv: message.iv, tag: message.tag }
}

/// An object's readable attributes.
pub(crate) fn snapshot(snapshot: Snapshot) -> v1::ObjectSnapshot {
    v1::ObjectSnapshot {
        object: snapshot.object,
        attributes: snapshot.attributes.into_iter().map(attribute).collect(),
        complete: snapshot.complete,
    }
}

/// A new object.
pub(crate) fn object(made: Snapshot) -> v1::ObjectReply {
    v1::ObjectReply { object: made.object, snapshot: Some(snapshot(made)) }
}

/// Derived keys, and what comes with them.
pub(crate) fn derived(made: Derived) -> v1::DeriveKeyReply {
    v1::DeriveKeyReply {
        keys: made.keys.into_iter().map(|key| key.map(object).unwrap_or_default()).collect(),
        client_iv: made.client_iv,
        server_iv: made.server_iv,
        version: made.version.map(|version| u32::from(u16::from_be_bytes(version))),
    }
}

/// One requested attribute.
pub(crate) fn attribute_result(read: AttributeRead) -> v1::AttributeResult {
    v1::AttributeResult { rv: read.rv.0, attribute: Some(attribute(read.attribute)) }
}

/// A slot and its token.
pub(crate) fn slot(slot: SlotView) -> v1::SlotInfo {
    let token = slot.token;
    v1::SlotInfo {
        slot: slot.slot,
        description: slot.description,
        flags: slot.flags,
        token: Some(v1::TokenInfo {
            label: token.label,
            model: token.model,
            serial: token.serial,
            flags: token.flags,
            sessions: token.sessions,
            rw_sessions: token.rw_sessions,
            pin_min_len: token.pin_min_len,
            pin_max_len: token.pin_max_len,
            max_sessions: token.max_sessions,
            max_rw_sessions: token.max_rw_sessions,
        }),
    }
}

/// One row of the mechanism table.
pub(crate) fn mechanism_row(row: MechanismView) -> v1::MechanismRow {
    let output_len = if let OutputRule::Fixed(len) | OutputRule::PaddedBlock(len) = row.output { len } else { 0 };
    v1::MechanismRow {
        r#type: row.number,
        min_key_size: row.min,
        max_key_size: row.max,
        flags: row.flags,
        output: output_rule(row.output).into(),
        output_len,
        key_types: row.key_types,
        multi_part: row.multi_part,
    }
}

fn output_rule(rule: OutputRule) -> v1::OutputRule {
    match rule {
        OutputRule::None => v1::OutputRule::OutputNone,
        OutputRule::Fixed(_) => v1::OutputRule::OutputFixed,
        OutputRule::Modulus => v1::OutputRule::OutputModulus,
        OutputRule::TwiceField => v1::OutputRule::OutputTwiceField,
        OutputRule::MlDsa => v1::OutputRule::OutputMlDsa,
        OutputRule::InputPlusTag => v1::OutputRule::OutputInputPlusTag,
        OutputRule::PaddedBlock(_) => v1::OutputRule::OutputPaddedBlock,
        OutputRule::Input => v1::OutputRule::OutputInput,
        OutputRule::AtMostInput => v1::OutputRule::OutputAtMostInput,
        OutputRule::MacLen => v1::OutputRule::OutputMacLen,
        OutputRule::SlhDsa => v1::OutputRule::OutputSlhDsa,
        OutputRule::MlKem => v1::OutputRule::OutputMlKem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_survives_both_ways() {
        use v1::attribute::Value as Wire;
        let inner = v1::Attribute { r#type: 0, value: Some(Wire::Number(3)) };
        let rows = [
            None,
            Some(Wire::Flag(true)),
            Some(Wire::Number(u64::MAX)),
            Some(Wire::Bytes(vec![1, 2, 3])),
            Some(Wire::Bytes(Vec::new())),
            Some(Wire::Numbers(v1::Numbers { values: vec![1, 2] })),
            Some(Wire::Template(v1::Template { attributes: vec![inner] })),
        ];
        for value in rows {
            let wire = v1::Attribute { r#type: 0x161, value };
            assert_eq!(attribute(attr(wire.clone())), wire);
        }
    }

    #[test]
    fn a_buffer_that_is_too_small_travels_with_the_length_that_would_do() {
        let Refusal(fault) = hsm_core::Error::buffer_too_small(77).into();
        assert_eq!((fault.rv, fault.needed), (ck::rv::CKR_BUFFER_TOO_SMALL.0, 77));
    }

    #[test]
    fn a_request_without_its_parts_is_refused() {
        let bad = ck::rv::CKR_ARGUMENTS_BAD.0;
        assert_eq!(mechanism(None).map_err(|Refusal(fault)| fault.rv).err(), Some(bad));
        assert_eq!(begin(None).map_err(|Refusal(fault)| fault.rv).err(), Some(bad));
        for kind in [0, 6, -1] {
            assert_eq!(operation_kind(kind).map_err(|Refusal(fault)| fault.rv).err(), Some(bad), "{kind}");
        }
    }
}

//! Messages out of an input: by the fields that the `.proto` files name, with values that get past the first checks more often than not.

use ck::attribute::*;
use ck::object::*;
use ck::{Attribute, KeyType, ObjectClass};
use hsm_core::{Attr, Value};
use hsm_proto::v1;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::input::Input;
use crate::messages::{Field, Kind, Messages};
use crate::presets::{CURVES, ED25519_PUBLIC, IMPORTS, INNER_MECHANISMS, NUMBERS, P256_POINT};
use crate::stage::{Known, SO_PIN, USER_PIN};

/// How deep templates nest in what is made here; the wire's own limit is tried by raw bytes.
const DEEPEST: usize = 4;
const LONGEST_BYTES: usize = 200;

/// Makes messages.
pub(crate) struct Generator<'a> {
    pub(crate) messages: &'a Messages,
    pub(crate) known: &'a Known,
}

impl Generator<'_> {
    /// A message's bytes.
    pub(crate) fn message(&self, input: &mut Input<'_>, name: &str) -> Vec<u8> {
        if name == "Template" {
            return self.template(input, 0).encode_to_vec();
        }
        let mut out = Vec::new();
        let fields = self.messages.fields(name);
        for field in fields.iter().filter(|field| field.one_of.is_none()) {
            let times = if field.repeated { input.below(4) } else { usize::from(!self.leaves_out(input, field)) };
            for _ in 0..times {
                self.field(input, name, field, &mut out);
            }
        }
        let choices: Vec<&Field> = fields.iter().filter(|field| field.one_of.is_some()).collect();
        if !choices.is_empty() && !input.one_in(8) {
            let choice = *input.pick(&choices);
            self.field(input, name, choice, &mut out);
        }
        out
    }

    fn leaves_out(&self, input: &mut Input<'_>, field: &Field) -> bool {
        if field.optional { !input.one_in(4) } else { input.one_in(16) }
    }

    /// One field with its key.
    pub(crate) fn field(&self, input: &mut Input<'_>, message: &str, field: &Field, out: &mut Vec<u8>) {
        let delimited = |bytes: &[u8], out: &mut Vec<u8>| {
            encode_key(field.tag, WireType::LengthDelimited, out);
            encode_varint(bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        };
        let varint = |number, out: &mut Vec<u8>| {
            encode_key(field.tag, WireType::Varint, out);
            encode_varint(number, out);
        };
        match &field.kind {
            Kind::Number => varint(self.number(input, message, &field.name), out),
            Kind::Bool => varint(u64::from(input.byte() & 1), out),
            Kind::Enum(values) => varint(if input.one_in(16) { input.number() } else { *input.pick(values) }, out),
            Kind::Bytes => delimited(&self.bytes(input, &field.name), out),
            Kind::Text => delimited(String::from_utf8_lossy(input.bytes(40)).as_bytes(), out),
            Kind::Message(inner) => delimited(&self.message(input, inner), out),
        }
    }

    fn number(&self, input: &mut Input<'_>, message: &str, field: &str) -> u64 {
        let one_of = |input: &mut Input<'_>, of: &[u64]| match of {
            [] => input.number(),
            _ if input.one_in(16) => *input.pick(&NUMBERS),
            _ => *input.pick(of),
        };
        match (message, field) {
            (_, "session") => one_of(input, &self.known.sessions),
            (_, "object") => one_of(input, &self.known.objects),
            (_, name) if name.ends_with("key") => one_of(input, &self.known.objects),
            ("Mechanism", "type") => self.mechanism(input),
            (_, "types") => self.attribute(input).0,
            (_, "slot") => one_of(input, &[0, 0, 0, 1]),
            (_, "flags") => one_of(input, &[6, 4]),
            (_, "user") => one_of(input, &[1, 0, 2]),
            (_, "protocol") => one_of(input, &[1]),
            (_, "hash" | "prf" | "prf_hash") => {
                let inner = INNER_MECHANISMS.map(|mechanism| mechanism.0);
                one_of(input, &inner)
            }
            _ if input.one_in(8) => input.pick(&INNER_MECHANISMS).0,
            _ => *input.pick(&NUMBERS),
        }
    }

    fn mechanism(&self, input: &mut Input<'_>) -> u64 {
        match input.byte() {
            0..=15 => input.pick(ck::Mechanism::ALL).0,
            16..=19 => input.number(),
            _ if self.known.mechanisms.is_empty() => input.pick(ck::Mechanism::ALL).0,
            _ => *input.pick(&self.known.mechanisms),
        }
    }

    fn bytes(&self, input: &mut Input<'_>, field: &str) -> Vec<u8> {
        if field.ends_with("pin") {
            return match input.byte() {
                0..=127 => USER_PIN.to_vec(),
                128..=200 => SO_PIN.to_vec(),
                _ => input.bytes(80).to_vec(),
            };
        }
        match input.byte() {
            0..=19 if !self.known.outputs.is_empty() => input.pick(&self.known.outputs).clone(),
            20..=29 if !self.known.outputs.is_empty() => {
                let mut bytes = input.pick(&self.known.outputs).clone();
                if !bytes.is_empty() {
                    let at = input.below(bytes.len());
                    bytes[at] ^= 1 << input.below(8);
                }
                bytes
            }
            30..=39 => P256_POINT.to_vec(),
            40..=44 => [&[4, 65][..], &P256_POINT].concat(),
            45..=49 => ED25519_PUBLIC.to_vec(),
            50..=69 => vec![input.byte(); 16],
            70..=79 => vec![input.byte(); 12],
            80..=89 => vec![input.byte(); 32],
            90..=94 => vec![input.byte(); 256],
            95..=97 => vec![input.byte(); 4096],
            _ => input.bytes(LONGEST_BYTES).to_vec(),
        }
    }

    /// A template: often a whole object with something wrong or additional, sometimes anything.
    pub(crate) fn template(&self, input: &mut Input<'_>, depth: usize) -> v1::Template {
        let mut attributes: Vec<v1::Attribute> = match input.byte() {
            0..=119 => (input.pick(&IMPORTS).template)().into_iter().map(wire).collect(),
            120..=179 => self.made(input).into_iter().map(wire).collect(),
            _ => Vec::new(),
        };
        for _ in 0..input.below(6) {
            let kind = self.attribute(input);
            let value = self.value(input, kind, depth);
            attributes.push(v1::Attribute { r#type: kind.0, value });
        }
        if !attributes.is_empty() && input.one_in(8) {
            let at = input.below(attributes.len());
            attributes.swap_remove(at);
        }
        v1::Template { attributes }
    }

    /// What a generation, a derivation or an unwrapping is told.
    fn made(&self, input: &mut Input<'_>) -> Vec<Attr> {
        let class = [CKO_SECRET_KEY, CKO_SECRET_KEY, CKO_PRIVATE_KEY, CKO_PUBLIC_KEY];
        let kinds =
            [CKK_AES, CKK_GENERIC_SECRET, CKK_EC, CKK_RSA, CKK_ML_DSA, CKK_EC_EDWARDS, CKK_HKDF, CKK_SHA256_HMAC];
        let mut attrs = Vec::new();
        if input.one_in(2) {
            attrs.push(Attr::number(CKA_CLASS, input.pick(&class).0));
            attrs.push(Attr::number(CKA_KEY_TYPE, input.pick(&kinds).0));
        }
        match input.below(4) {
            0 => attrs.push(Attr::number(CKA_VALUE_LEN, *input.pick(&[16, 32, 24, 48, 64]))),
            1 => attrs.push(Attr::bytes(CKA_EC_PARAMS, *input.pick(&CURVES))),
            2 => attrs.push(Attr::number(CKA_PARAMETER_SET, 1 + u64::from(input.byte() % 3))),
            _ => {}
        }
        for (kind, value) in [(CKA_SENSITIVE, false), (CKA_EXTRACTABLE, true)] {
            if input.one_in(3) {
                attrs.push(Attr::flag(kind, value));
            }
        }
        attrs
    }

    fn attribute(&self, input: &mut Input<'_>) -> Attribute {
        match input.byte() {
            0..=3 => Attribute(input.number()),
            4..=60 => *input.pick(&[
                CKA_TOKEN,
                CKA_PRIVATE,
                CKA_SENSITIVE,
                CKA_EXTRACTABLE,
                CKA_LABEL,
                CKA_ID,
                CKA_MODIFIABLE,
            ]),
            _ => *input.pick(Attribute::ALL),
        }
    }

    fn value(&self, input: &mut Input<'_>, kind: Attribute, depth: usize) -> Option<v1::attribute::Value> {
        use ck::attribute::Kind as Shape;
        use v1::attribute::Value as Wire;
        let shapes = [Shape::Bool, Shape::Ulong, Shape::Bytes, Shape::Mechanisms, Shape::Template];
        let shape = if input.one_in(16) { *input.pick(&shapes) } else { kind.kind() };
        Some(match shape {
            _ if input.one_in(32) => return None,
            Shape::Bool => Wire::Flag(input.one_in(2)),
            Shape::Ulong => Wire::Number(number_for(input, kind)),
            Shape::Date => {
                Wire::Bytes((*input.pick(&[&b"20261122"[..], b"19700101", b"20261331", b"99991231", b""])).to_vec())
            }
            Shape::Mechanisms => {
                let values = (0..input.below(4)).map(|_| self.mechanism(input)).collect();
                Wire::Numbers(v1::Numbers { values })
            }
            Shape::Template if depth < DEEPEST => Wire::Template(self.template(input, depth + 1)),
            _ => match kind {
                CKA_EC_PARAMS if !input.one_in(8) => Wire::Bytes((*input.pick(&CURVES)).to_vec()),
                _ => Wire::Bytes(self.bytes(input, "")),
            },
        })
    }
}

fn number_for(input: &mut Input<'_>, kind: Attribute) -> u64 {
    match kind {
        CKA_CLASS => input.pick(ObjectClass::ALL).0,
        CKA_KEY_TYPE => input.pick(KeyType::ALL).0,
        CKA_VALUE_LEN => *input.pick(&[16, 24, 32, 48, 64, 1, 0, 15, 512, 513, 1 << 20, u64::MAX]),
        // A longer key is as good as this one and takes seconds to find.
        CKA_MODULUS_BITS => *input.pick(&[0, 512, 1024, 1025, 2047, 2048, u64::MAX]),
        CKA_PARAMETER_SET => u64::from(input.byte() % 14),
        _ => *input.pick(&NUMBERS),
    }
}

/// An attribute as the wire carries it.
pub(crate) fn wire(attr: Attr) -> v1::Attribute {
    use v1::attribute::Value as Wire;
    let value = match attr.value {
        Value::Empty => None,
        Value::Bool(flag) => Some(Wire::Flag(flag)),
        Value::Ulong(number) => Some(Wire::Number(number)),
        Value::Bytes(bytes) => Some(Wire::Bytes(bytes.to_vec())),
        Value::Ulongs(values) => Some(Wire::Numbers(v1::Numbers { values })),
        Value::Template(inner) => {
            Some(Wire::Template(v1::Template { attributes: inner.into_iter().map(wire).collect() }))
        }
    };
    v1::Attribute { r#type: attr.kind.0, value }
}

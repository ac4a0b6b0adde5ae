//! Which messages hold a secret: a PIN, a password, the value of a key. One table for the clients, which seal them, and for the daemon, which
//! may refuse them when they are plain.
//!
//! The data of an application (what is encrypted, signed or digested, and data objects among the attributes of a reply) is not sealed; what is
//! decrypted is, because a token also decrypts keys.

use ck::Attribute;
use ck::attribute::CKA_CLASS;
use ck::object::{CKO_CERTIFICATE, CKO_DOMAIN_PARAMETERS, CKO_PUBLIC_KEY};

use crate::v1;
use crate::v1::attribute::Value;
use crate::v1::mechanism::Parameter;
use crate::v1::request::Op;

/// What a request is sealed for ([`v1::SealedExchange`]).
pub const REQUEST: &[u8] = b"craton.hsm.v1.Request";

/// What a reply is sealed for.
pub const REPLY: &[u8] = b"craton.hsm.v1.Reply";

/// The classes whose values are public.
const PUBLIC: [ck::ObjectClass; 3] = [CKO_CERTIFICATE, CKO_PUBLIC_KEY, CKO_DOMAIN_PARAMETERS];

/// Whether the template says the value of something that is not public.
fn tells(template: Option<&v1::Template>) -> bool {
    let attributes = template.map(|template| template.attributes.as_slice()).unwrap_or_default();
    let public = attributes.iter().any(|attribute| {
        attribute.r#type == CKA_CLASS.0
            && matches!(attribute.value, Some(Value::Number(class)) if PUBLIC.iter().any(|public| public.0 == class))
    });
    let told = |attribute: &v1::Attribute| {
        Attribute(attribute.r#type).is_key_part() && matches!(attribute.value, Some(Value::Bytes(_)))
    };
    !public && attributes.iter().any(told)
}

fn parameter(mechanism: Option<&v1::Mechanism>) -> Option<&Parameter> {
    mechanism.and_then(|mechanism| mechanism.parameter.as_ref())
}

impl Op {
    /// Whether the request holds a secret.
    pub fn carries_secret(&self) -> bool {
        match self {
            Op::InitToken(_) | Op::InitPin(_) | Op::SetPin(_) | Op::Login(_) | Op::SeedRandom(_) => true,
            Op::CreateObject(r) => tells(r.template.as_ref()),
            Op::CopyObject(r) => tells(r.template.as_ref()),
            Op::SetAttributes(r) => tells(r.template.as_ref()),
            Op::Find(r) => tells(r.template.as_ref()),
            Op::GenerateKey(r) => matches!(parameter(r.mechanism.as_ref()), Some(Parameter::Pbkdf2(_))),
            // Bytes that are joined with the base key, or added to it, are a part of the new one.
            Op::DeriveKey(r) => matches!(parameter(r.mechanism.as_ref()), Some(Parameter::Iv(_))),
            _ => false,
        }
    }

    /// Whether the reply may hold a secret.
    pub fn gives_secret(&self) -> bool {
        use v1::OperationKind::{OperationDecrypt, OperationMessageDecrypt};
        match self {
            Op::GetAttributes(r) => r.types.iter().any(|kind| Attribute(*kind).is_key_part()),
            Op::OneShot(r) => r.kind() == OperationDecrypt,
            Op::Update(r) => r.kind() == OperationDecrypt,
            Op::Final(r) => r.kind() == OperationDecrypt,
            Op::Message(r) => r.kind() == OperationMessageDecrypt,
            // Applications make keys of it.
            Op::Random(_) => true,
            _ => false,
        }
    }
}

/// A message of an operator's that may be sealed.
pub trait Sealable: prost::Message + Default {
    /// What it is sealed for.
    const PURPOSE: &'static [u8];

    /// The place of its sealed form.
    fn sealed(&mut self) -> &mut Option<v1::Sealed>;

    /// Whether it says a secret in plain words.
    fn is_plain(&self) -> bool;
}

/// One line per message: its rpc, and the fields of which one says a secret.
macro_rules! sealable {
    ($($message:ident $rpc:literal $($secret:ident)*;)*) => {
        $(
            impl Sealable for v1::$message {
                const PURPOSE: &'static [u8] = concat!("craton.hsm.v1.Admin/", $rpc).as_bytes();

                fn sealed(&mut self) -> &mut Option<v1::Sealed> {
                    &mut self.sealed
                }

                fn is_plain(&self) -> bool {
                    // What is not there is equal to what a message without it has.
                    let without = Self::default();
                    false $(|| self.$secret != without.$secret)*
                }
            }
        )*
    };
}

// The build script finds them: every rpc of the operators whose message has a field of bytes, or of messages that have one.
include!(concat!(env!("OUT_DIR"), "/sealable.rs"));

#[cfg(test)]
mod tests {
    use ck::attribute::{CKA_PRIME_2, CKA_SEED, CKA_VALUE};

    use super::*;

    fn template(class: u64, kind: ck::Attribute, value: Value) -> Option<v1::Template> {
        let class = v1::Attribute { r#type: CKA_CLASS.0, value: Some(Value::Number(class)) };
        Some(v1::Template { attributes: vec![class, v1::Attribute { r#type: kind.0, value: Some(value) }] })
    }

    #[test]
    fn values_of_what_is_public_need_no_seal() {
        let bytes = || Value::Bytes(vec![1]);
        let rows = [
            (ck::object::CKO_SECRET_KEY, CKA_VALUE, bytes(), true),
            (ck::object::CKO_PRIVATE_KEY, CKA_PRIME_2, bytes(), true),
            (ck::object::CKO_PRIVATE_KEY, CKA_SEED, bytes(), true),
            (ck::object::CKO_DATA, CKA_VALUE, bytes(), true),
            (CKO_CERTIFICATE, CKA_VALUE, bytes(), false),
            (CKO_PUBLIC_KEY, CKA_VALUE, bytes(), false),
            (ck::object::CKO_SECRET_KEY, ck::attribute::CKA_LABEL, bytes(), false),
            (ck::object::CKO_SECRET_KEY, CKA_VALUE, Value::Flag(true), false),
        ];
        for (class, kind, value, secret) in rows {
            let request = v1::CreateObjectRequest { session: 1, template: template(class.0, kind, value) };
            assert_eq!(Op::CreateObject(request).carries_secret(), secret, "{class} {kind}");
        }
    }

    #[test]
    fn what_gives_values_out_is_known_by_what_it_asks_for() {
        let asked = |kind: ck::Attribute| {
            Op::GetAttributes(v1::GetAttributesRequest { session: 1, object: 1, types: vec![CKA_CLASS.0, kind.0] })
        };
        assert!(asked(CKA_VALUE).gives_secret() && !asked(ck::attribute::CKA_LABEL).gives_secret());
        let shot =
            |kind: v1::OperationKind| Op::OneShot(v1::OneShotRequest { kind: kind.into(), ..Default::default() });
        assert!(shot(v1::OperationKind::OperationDecrypt).gives_secret());
        assert!(!shot(v1::OperationKind::OperationSign).gives_secret());
        assert!(!shot(v1::OperationKind::OperationSign).carries_secret());
    }

    #[test]
    fn what_operators_say_is_sealed_for_its_rpc() {
        assert_eq!(v1::AdminInitTokenRequest::PURPOSE, b"craton.hsm.v1.Admin/InitToken");
        let recipient = v1::BackupRecipient::default();
        assert!(v1::BackupRequest { recipients: vec![recipient], ..Default::default() }.is_plain());
        assert!(v1::RotateKeyRequest { user_pin: vec![1], ..Default::default() }.is_plain());
        let brought = Some(v1::unseal_request::Brought::Share(vec![1]));
        assert!(v1::UnsealRequest { brought, ..Default::default() }.is_plain());
    }

    #[test]
    fn a_message_without_a_pin_is_not_plain() {
        let mut list = v1::ListKeysRequest::default();
        assert!(!list.is_plain());
        list.user_pin = vec![1];
        assert!(list.is_plain());
        assert!(!v1::UnsealRequest::default().is_plain());
    }
}

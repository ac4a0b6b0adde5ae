//! Keys from outside: components by C_CreateObject, PKCS#8 structures by C_UnwrapKey, points of other parties by ECDH. What is taken for a key
//! works as one.

use std::sync::Arc;

use ck::attribute::*;
use ck::mechanism::*;
use ck::object::*;
use hsm_core::{Attr, Caller, Hsm, Kind, MechanismCall, OperationKind, Parameter, Value};
use hsm_core::{Begin, Snapshot};

use crate::feedback;
use crate::input::Input;
use crate::presets::{ED25519_PUBLIC, IMPORTS, P256_POINT};
use crate::stage;

/// PKCS#8 (RFC 5958) around a P-256 key (RFC 5915) without its public half, and around an Ed25519 key (RFC 8410); the value is to follow.
const P256_PKCS8: &[u8] = &[
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20,
];
const ED25519_PKCS8: &[u8] =
    &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Plays an input: its first byte says by which way the key comes.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let way = input.byte();
    stage::play(false, |stage, actor| {
        let caller = Arc::clone(actor.client.caller().expect("attached"));
        let desk = Door { hsm: stage.door.hsm(), caller: &caller, session: actor.session };
        match way % 3 {
            0 => desk.components(&mut input),
            1 => desk.pkcs8(stage, &mut input),
            _ => desk.point(stage, &mut input),
        }
    });
}

struct Door<'a> {
    hsm: &'a Hsm,
    caller: &'a Caller,
    session: u64,
}

/// Changes a few bytes of a value, or its length.
fn change(input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    for _ in 0..input.below(4) {
        let at = input.below(bytes.len().max(1));
        match input.below(6) {
            0 | 1 if at < bytes.len() => bytes[at] = *input.pick(&[0, 1, 2, 4, 0x30, 0x7f, 0x80, 0x81, 0x84, 0xff]),
            2 if at < bytes.len() => bytes[at] = input.byte(),
            3 => bytes.truncate(at),
            4 => drop(bytes.splice(at..at, input.bytes(20).iter().copied())),
            _ => bytes.fill(input.byte()),
        }
    }
}

fn plain(kind: ck::Mechanism) -> MechanismCall {
    MechanismCall { kind, parameter: Parameter::None }
}

impl Door<'_> {
    fn judge<T>(&self, what: &str, outcome: Result<T, hsm_core::Error>) -> Option<T> {
        if let Err(error) = &outcome {
            assert!(!matches!(error.kind(), Kind::Internal | Kind::Device), "{what}: {error:?}");
            feedback::note((what, error.rv().0, error.detail().map(str::len)));
        }
        outcome.ok()
    }

    fn components(&self, input: &mut Input<'_>) {
        let import = input.pick(&IMPORTS);
        let mut template = (import.template)();
        for attr in &mut template {
            if let Value::Bytes(bytes) = &mut attr.value
                && input.one_in(2)
            {
                change(input, bytes);
            }
        }
        if input.one_in(4) {
            template.push(Attr::bytes(CKA_EC_POINT, P256_POINT));
        }
        if let Some(made) = self.judge(import.name, self.hsm.create_object(self.caller, self.session, template)) {
            feedback::note(("made", import.name));
            self.try_out(&made);
        }
    }

    /// A generic secret that holds the structure is wrapped, and unwrapped as a private key.
    fn pkcs8(&self, stage: &stage::Stage, input: &mut Input<'_>) {
        let (head, kind) =
            *input.pick(&[(P256_PKCS8, CKK_EC), (ED25519_PKCS8, CKK_EC_EDWARDS), (&[0x30, 0x82][..], CKK_RSA)]);
        let mut structure = [head, &[input.byte(); 32][..]].concat();
        change(input, &mut structure);
        structure.truncate(512);
        let value = vec![
            Attr::number(CKA_CLASS, CKO_SECRET_KEY.0),
            Attr::number(CKA_KEY_TYPE, CKK_GENERIC_SECRET.0),
            Attr::flag(CKA_SENSITIVE, false),
            Attr::flag(CKA_EXTRACTABLE, true),
            Attr::bytes(CKA_VALUE, structure),
        ];
        let wrapper = stage.base.iter().rev().find(|base| base.key_type == CKK_AES).expect("an AES key").handle;
        let call = || plain(CKM_AES_KEY_WRAP_KWP);
        let Ok(carrier) = self.hsm.create_object(self.caller, self.session, value) else { return };
        let wrapped = self
            .hsm
            .wrap_key(self.caller, self.session, call(), wrapper, carrier.object, None)
            .expect("a readable key is wrapped");
        let template = vec![Attr::number(CKA_CLASS, CKO_PRIVATE_KEY.0), Attr::number(CKA_KEY_TYPE, kind.0)];
        let made = self.hsm.unwrap_key(self.caller, self.session, call(), wrapper, &wrapped, template);
        if let Some(made) = self.judge("pkcs8", made) {
            feedback::note(("unwrapped", kind.0));
            self.try_out(&made);
        }
    }

    fn point(&self, stage: &stage::Stage, input: &mut Input<'_>) {
        let mut public_data = match input.below(4) {
            0 => P256_POINT.to_vec(),
            1 => [&[4, 65][..], &P256_POINT].concat(),
            2 => ED25519_PUBLIC.to_vec(),
            _ => [&[2][..], &P256_POINT[1..33]].concat(),
        };
        change(input, &mut public_data);
        let takes =
            |base: &&stage::Base| base.class == CKO_PRIVATE_KEY && [CKK_EC, CKK_EC_MONTGOMERY].contains(&base.key_type);
        let keys: Vec<u64> = stage.base.iter().filter(takes).map(|base| base.handle).collect();
        let parameter =
            Parameter::Ecdh1 { kdf: u64::from(input.byte() % 8), shared_data: input.bytes(20).to_vec(), public_data };
        let call = MechanismCall { kind: CKM_ECDH1_DERIVE, parameter };
        let made = self.hsm.derive_key(self.caller, self.session, call, *input.pick(&keys), Vec::new());
        if self.judge("ecdh", made).is_some() {
            feedback::note("agreed");
        }
    }

    /// A private key signs, and what it signs verifies under the public half that it shows.
    fn try_out(&self, made: &Snapshot) {
        let attr = |kind| made.attributes.iter().find(|attr| attr.kind == kind);
        let number =
            |kind| if let Some(Value::Ulong(number)) = attr(kind).map(|attr| &attr.value) { *number } else { u64::MAX };
        if number(CKA_CLASS) != CKO_PRIVATE_KEY.0 {
            return;
        }
        let (mechanism, shown): (_, &[ck::Attribute]) = match ck::KeyType(number(CKA_KEY_TYPE)) {
            CKK_EC => (CKM_ECDSA_SHA256, &[CKA_EC_PARAMS, CKA_EC_POINT]),
            CKK_EC_EDWARDS => (CKM_EDDSA, &[CKA_EC_PARAMS, CKA_EC_POINT]),
            CKK_RSA => (CKM_SHA256_RSA_PKCS, &[CKA_MODULUS, CKA_PUBLIC_EXPONENT]),
            _ => return,
        };
        let mut public: Vec<Attr> = shown.iter().filter_map(|kind| attr(*kind).cloned()).collect();
        public.push(Attr::number(CKA_CLASS, CKO_PUBLIC_KEY.0));
        public.push(Attr::number(CKA_KEY_TYPE, number(CKA_KEY_TYPE)));
        let public =
            self.hsm.create_object(self.caller, self.session, public).expect("the public half of a key that was taken");
        let begin = |key| Begin { mechanism: plain(mechanism), key };
        let once = |kind, key, signature: &[u8]| {
            self.hsm.one_shot(self.caller, self.session, kind, begin(key), b"data", signature, None)
        };
        let signature = once(OperationKind::Sign, made.object, &[]).expect("a key that was taken signs");
        once(OperationKind::Verify, public.object, &signature).expect("what it signs verifies");
    }
}

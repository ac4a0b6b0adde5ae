//! Mechanism parameters: every mechanism with any parameter and a key of any type, in one shot and piece by piece.
//!
//! What was signed must verify and what was encrypted must decrypt, a changed signature must not verify, and no refusal leaves an
//! operation behind.

use ck::rv::*;
use hsm_proto::v1;
use hsm_proto::v1::OperationKind as Kind;
use hsm_proto::v1::reply::Result as Outcome;
use hsm_proto::v1::request::Op;
use prost::Message;

use super::template::is_slow;
use crate::generate::Generator;
use crate::input::Input;
use crate::stage::{self, Actor, Stage};

/// Operations per input.
const OPERATIONS_MAX: usize = 4;
const KINDS: [Kind; 5] =
    [Kind::OperationEncrypt, Kind::OperationDecrypt, Kind::OperationDigest, Kind::OperationSign, Kind::OperationVerify];

/// Plays an input: its first byte chooses the policy.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let way = input.byte();
    stage::play(way & 3 == 3, |stage, actor| {
        for _ in 0..OPERATIONS_MAX {
            if input.is_empty() {
                break;
            }
            if input.one_in(3) { manage(stage, actor, &mut input) } else { operate(stage, actor, &mut input) }
        }
    });
}

fn parameter(stage: &Stage, actor: &Actor, input: &mut Input<'_>) -> v1::Mechanism {
    let generator = Generator { messages: &stage.messages, known: &actor.known };
    let bytes = generator.message(input, "Mechanism");
    v1::Mechanism::decode(bytes.as_slice()).expect("made by the schema")
}

/// A key that the mechanism takes, more often than any.
fn key(stage: &Stage, actor: &Actor, input: &mut Input<'_>, mechanism: u64) -> u64 {
    let view = stage.views.iter().find(|view| view.number == mechanism);
    let fits = |base: &&stage::Base| view.is_some_and(|view| view.key_types.contains(&base.key_type.0));
    let fitting: Vec<u64> = stage.base.iter().filter(fits).map(|base| base.handle).collect();
    if fitting.is_empty() || input.one_in(8) { *input.pick(&actor.known.objects) } else { *input.pick(&fitting) }
}

/// Generates, wraps, unwraps or derives.
fn manage(stage: &Stage, actor: &mut Actor, input: &mut Input<'_>) {
    let mechanism = parameter(stage, actor, input);
    let (first, second) = (key(stage, actor, input, mechanism.r#type), key(stage, actor, input, u64::MAX));
    let generator = Generator { messages: &stage.messages, known: &actor.known };
    let template = Some(generator.template(input, 0));
    let session = actor.session;
    let mechanism = Some(mechanism);
    let op = match input.below(5) {
        0 => Op::GenerateKey(v1::GenerateKeyRequest { session, mechanism, template }),
        1 => Op::GenerateKeyPair(v1::GenerateKeyPairRequest {
            session,
            mechanism,
            public_template: template,
            private_template: None,
        }),
        2 => Op::DeriveKey(v1::DeriveKeyRequest { session, mechanism, base_key: first, template }),
        3 => Op::WrapKey(v1::WrapKeyRequest { session, mechanism, wrapping_key: first, key: second, capacity: None }),
        _ => {
            let wrapped = actor.known.outputs.last().cloned().unwrap_or_else(|| input.bytes(100).to_vec());
            Op::UnwrapKey(v1::UnwrapKeyRequest { session, mechanism, unwrapping_key: first, wrapped, template })
        }
    };
    if !is_slow(&op) {
        actor.ask(stage, op);
    }
}

/// One operation with a mechanism and a key, and what must hold afterwards.
fn operate(stage: &Stage, actor: &mut Actor, input: &mut Input<'_>) {
    let kind = *input.pick(&KINDS);
    let mechanism = parameter(stage, actor, input);
    let key = key(stage, actor, input, mechanism.r#type);
    let data = match input.byte() {
        0..=99 => vec![input.byte(); input.below(80)],
        100..=129 => vec![7; 16 * input.below(9)],
        130..=139 => vec![1; 256],
        _ => input.bytes(300).to_vec(),
    };
    let call = Call { kind, begin: v1::Begin { mechanism: Some(mechanism), key } };
    let whole = call.one_shot(stage, actor, &data, &[], input.one_in(8).then(|| input.below(70) as u64));
    if let Outcome::Output(v1::OutputReply { output }) = &whole {
        match kind {
            Kind::OperationSign => call.check_signature(stage, actor, &data, output),
            Kind::OperationEncrypt => call.check_ciphertext(stage, actor, &data, output),
            Kind::OperationDigest => call.check_digest(stage, actor, &data, output),
            _ => {}
        }
    }
    let cut = input.below(data.len() + 1);
    call.in_pieces(stage, actor, &data, cut, matches!(whole, Outcome::Output(_)));
    for kind in KINDS {
        let left = Op::Final(v1::FinalRequest { session: actor.session, kind: kind.into(), ..Default::default() });
        let rv = fault(&actor.ask(stage, left));
        assert_eq!(rv, CKR_OPERATION_NOT_INITIALIZED.0, "an operation was left active: {kind:?}");
    }
}

fn fault(outcome: &Outcome) -> u64 {
    if let Outcome::Fault(fault) = outcome { fault.rv } else { CKR_OK.0 }
}

#[derive(Clone)]
struct Call {
    kind: Kind,
    begin: v1::Begin,
}

impl Call {
    fn one_shot(
        &self,
        stage: &Stage,
        actor: &mut Actor,
        data: &[u8],
        signature: &[u8],
        capacity: Option<u64>,
    ) -> Outcome {
        let request = v1::OneShotRequest {
            session: actor.session,
            kind: self.kind.into(),
            begin: Some(self.begin.clone()),
            data: data.to_vec(),
            signature: signature.to_vec(),
            capacity,
        };
        actor.ask(stage, Op::OneShot(request))
    }

    /// The same mechanism with the other half of the key, for the opposite operation.
    fn opposite(&self, stage: &Stage, kind: Kind) -> Option<Call> {
        let base = stage.base.iter().find(|base| base.handle == self.begin.key)?;
        // The other half of an imported private key is not in the token.
        let secret = base.class == ck::object::CKO_SECRET_KEY;
        (secret || base.partner != base.handle)
            .then(|| Call { kind, begin: v1::Begin { key: base.partner, ..self.begin.clone() } })
    }

    fn check_signature(&self, stage: &Stage, actor: &mut Actor, data: &[u8], signature: &[u8]) {
        let Some(verify) = self.opposite(stage, Kind::OperationVerify) else { return };
        let good = verify.one_shot(stage, actor, data, signature, None);
        if fault(&good) == CKR_MECHANISM_INVALID.0 {
            return; // It signs only.
        }
        assert_eq!(fault(&good), CKR_OK.0, "what {:#x} signed does not verify: {good:?}", self.number());
        let mut changed = signature.to_vec();
        if let Some(byte) = changed.first_mut() {
            *byte ^= 1;
            let bad = verify.one_shot(stage, actor, data, &changed, None);
            assert_ne!(fault(&bad), CKR_OK.0, "a changed signature of {:#x} verifies", self.number());
        }
        let short = verify.one_shot(stage, actor, data, &signature[..signature.len() - 1], None);
        assert_ne!(fault(&short), CKR_OK.0, "a cut signature of {:#x} verifies", self.number());
    }

    fn check_ciphertext(&self, stage: &Stage, actor: &mut Actor, data: &[u8], ciphertext: &[u8]) {
        let Some(decrypt) = self.opposite(stage, Kind::OperationDecrypt) else { return };
        match decrypt.one_shot(stage, actor, ciphertext, &[], None) {
            // RSA without padding gives the whole block.
            Outcome::Output(back) => {
                assert!(back.output.ends_with(data), "{:#x} decrypts to something else", self.number())
            }
            refused => {
                let rv = fault(&refused);
                let offered = ![CKR_MECHANISM_INVALID.0, CKR_KEY_FUNCTION_NOT_PERMITTED.0].contains(&rv);
                assert!(!offered, "what {:#x} encrypted does not decrypt: {refused:?}", self.number());
            }
        }
    }

    fn check_digest(&self, stage: &Stage, actor: &mut Actor, data: &[u8], digest: &[u8]) {
        let again = self.one_shot(stage, actor, data, &[], None);
        assert!(matches!(again, Outcome::Output(v1::OutputReply { output }) if output == digest), "two digests differ");
    }

    fn number(&self) -> u64 {
        self.begin.mechanism.as_ref().map_or(u64::MAX, |mechanism| mechanism.r#type)
    }

    /// Update, Update, Final: it gives as many bytes as one call does, and it ends.
    fn in_pieces(&self, stage: &Stage, actor: &mut Actor, data: &[u8], cut: usize, worked: bool) {
        let (session, kind) = (actor.session, self.kind.into());
        let (head, tail) = data.split_at(cut);
        let update = |begin, data: &[u8]| {
            Op::Update(v1::UpdateRequest { session, kind, begin, data: data.to_vec(), capacity: None })
        };
        let first = fault(&actor.ask(stage, update(Some(self.begin.clone()), head)));
        if first == CKR_OK.0 {
            let twice = fault(&actor.ask(stage, update(Some(self.begin.clone()), head)));
            assert_eq!(twice, CKR_OPERATION_ACTIVE.0, "a second operation of the kind is begun");
            if fault(&actor.ask(stage, update(None, tail))) == CKR_OK.0 {
                let end = v1::FinalRequest { session, kind, begin: None, signature: vec![1; 64], capacity: None };
                let end = fault(&actor.ask(stage, Op::Final(end)));
                assert!(
                    !worked || end == CKR_OK.0 || self.kind == Kind::OperationVerify,
                    "in pieces it fails: {end:#x}"
                );
            }
        } else {
            // A mechanism that takes its data in one piece has no operation in parts.
            assert!(!worked || first == CKR_OPERATION_NOT_INITIALIZED.0, "in pieces it fails at once: {first:#x}");
        }
    }
}

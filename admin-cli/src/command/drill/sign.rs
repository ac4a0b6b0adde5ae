//! Signing with restored keys, and having it verified: conversations with the token's service, as an application would have them.

use ck::Attribute;
use ck::attribute::*;
use ck::mechanism::*;
use ck::object::*;
use ck::rv::{CKR_SIGNATURE_INVALID, CKR_SIGNATURE_LEN_RANGE};
use hsm_proto::seal;
use hsm_proto::v1::reply::Result as Answer;
use hsm_proto::v1::sealed_reply::Reply::Plain;
use hsm_proto::v1::token_client::TokenClient;
use hsm_proto::v1::{self, OperationKind};
use serde::Serialize;
use std::path::Path;
use tonic::Request;
use tonic::metadata::{Binary, MetadataValue};
use tonic::transport::Channel;

use crate::connect::channel;
use crate::failure::Failure;

/// What is signed.
pub(super) const PAYLOAD: &[u8] = b"craton restore drill";
/// So many private keys are tried; more would only repeat the finding.
const MOST_KEYS: u32 = 64;
/// CKF_SERIAL_SESSION, CKF_SERIAL_SESSION | CKF_RW_SESSION, CKU_USER.
const READ_ONLY: u64 = 4;
const USER: u64 = 1;

/// One key and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct KeyResult {
    pub(super) label: String,
    pub(super) id: String,
    pub(super) key_type: String,
    pub(super) mechanism: Option<String>,
    /// Who verified the signature with the public key: `running`, `restored`; nothing when nobody could.
    pub(super) verified_by: Option<&'static str>,
    /// Why there is no verified signature.
    pub(super) why_not: Option<String>,
    /// A public key refused the signature: the private key is another one.
    pub(super) refused: bool,
}

/// A signature to be verified.
pub(super) struct Signed {
    id: Vec<u8>,
    key_type: u64,
    mechanism: v1::Mechanism,
    signature: Vec<u8>,
    pub(super) result: KeyResult,
}

/// One application's conversation with one token.
pub(super) struct Talk {
    client: TokenClient<Channel>,
    application: MetadataValue<Binary>,
    session: u64,
}

impl Talk {
    /// Attaches, and opens a session with the token that has this serial number.
    pub(super) async fn open(socket: &Path, serial: &str) -> Result<Self, Failure> {
        let mut client = TokenClient::new(channel(socket).await?);
        let attach =
            v1::AttachRequest { protocol: 1, application: Vec::new(), program: "craton-hsm-admin drill".into() };
        let attached = client.attach(attach).await?.into_inner();
        let application = MetadataValue::from_bytes(&attached.application);
        let mut talk = Talk { client, application, session: 0 };
        let request = talk.request(v1::ListSlotsRequest {});
        let slots = talk.client.list_slots(request).await?.into_inner().slots;
        let has_serial =
            |slot: &&v1::SlotInfo| slot.token.as_ref().is_some_and(|token| token.serial.trim_end() == serial);
        let slot = slots
            .iter()
            .find(has_serial)
            .ok_or_else(|| Failure::new(format!("no slot has the token with serial number {serial}")))?;
        let request = talk.request(v1::OpenSessionRequest { slot: slot.slot, flags: READ_ONLY });
        talk.session = talk.client.open_session(request).await?.into_inner().session;
        Ok(talk)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert_bin("craton-application-bin", self.application.clone());
        request
    }

    /// Logs the user in.
    pub(super) async fn login(&mut self, pin: &[u8]) -> Result<(), Failure> {
        let login = v1::LoginRequest { session: self.session, user: USER, pin: pin.to_vec(), without_pin: false };
        let login = v1::Request { op: Some(v1::request::Op::Login(login)), number: 0 };
        let key = self.client.seal_key(v1::SealKeyRequest {}).await?.into_inner();
        let sealed = seal::request(&key, &login, None).map_err(|error| Failure::new(error.to_string()))?;
        let reply = self.client.sealed(self.request(sealed)).await?.into_inner();
        match reply.reply {
            Some(Plain(v1::Reply { result: Some(Answer::Done(_)), .. })) => Ok(()),
            Some(Plain(v1::Reply { result: Some(Answer::Fault(fault)), .. })) => Err(tonic::Status::from(fault).into()),
            _ => Err(Failure::new("the daemon answers a login with something else")),
        }
    }

    async fn find(&mut self, wanted: Vec<v1::Attribute>) -> Result<Vec<v1::ObjectSnapshot>, Failure> {
        let template = Some(v1::Template { attributes: wanted });
        let request = v1::FindRequest { session: self.session, template, snapshots: MOST_KEYS };
        Ok(self.client.find(self.request(request)).await?.into_inner().snapshots)
    }

    /// Signs with every private key that signs.
    pub(super) async fn sign_with_all(&mut self) -> Result<Vec<Signed>, Failure> {
        let mut signed = Vec::new();
        for key in self.find(vec![number(CKA_CLASS, CKO_PRIVATE_KEY.0), flag(CKA_SIGN)]).await? {
            signed.push(self.sign_with(&key, PAYLOAD).await);
        }
        Ok(signed)
    }

    /// Signs `data` with the private key of this label.
    pub(super) async fn sign_by_label(&mut self, label: &str, data: &[u8]) -> Result<(Vec<u8>, String), Failure> {
        let wanted = vec![number(CKA_CLASS, CKO_PRIVATE_KEY.0), bytes(CKA_LABEL, label.as_bytes().to_vec())];
        let found = self.find(wanted).await?;
        let key = found.first().ok_or_else(|| Failure::new(format!("no private key has the label {label:?}")))?;
        let signed = self.sign_with(key, data).await;
        match signed.result.why_not {
            Some(why) => Err(Failure::new(format!("the key {label:?} does not sign: {why}"))),
            None => Ok((signed.signature, signed.result.mechanism.unwrap_or_default())),
        }
    }

    async fn sign_with(&mut self, key: &v1::ObjectSnapshot, data: &[u8]) -> Signed {
        let key_type = number_of(key, CKA_KEY_TYPE).unwrap_or_default();
        let id = bytes_of(key, CKA_ID).unwrap_or_default();
        let mechanism = mechanism_for(key_type);
        let label = String::from_utf8_lossy(&bytes_of(key, CKA_LABEL).unwrap_or_default()).into_owned();
        let mut result = KeyResult {
            label,
            id: super::super::hex(&id),
            key_type: ck::KeyType(key_type).to_string(),
            mechanism: mechanism.as_ref().map(|mechanism| ck::Mechanism(mechanism.r#type).to_string()),
            verified_by: None,
            why_not: None,
            refused: false,
        };
        let signature = match &mechanism {
            None => Err(Failure::new("no mechanism is known for its type")),
            Some(mechanism) => {
                self.one_shot(OperationKind::OperationSign, mechanism, key.object, data, Vec::new()).await
            }
        };
        let signature = signature.unwrap_or_else(|why| {
            result.why_not = Some(why.sentence().to_owned());
            Vec::new()
        });
        Signed { id, key_type, mechanism: mechanism.unwrap_or_default(), signature, result }
    }

    /// Verifies with the public key of the same id, and notes who did.
    pub(super) async fn verify(&mut self, signed: &mut Signed, who: &'static str) -> Result<(), Failure> {
        if signed.result.why_not.is_some() || signed.result.verified_by.is_some() {
            return Ok(());
        }
        let wanted = vec![
            number(CKA_CLASS, CKO_PUBLIC_KEY.0),
            number(CKA_KEY_TYPE, signed.key_type),
            bytes(CKA_ID, signed.id.clone()),
        ];
        let Some(key) = self.find(wanted).await?.first().map(|key| key.object) else { return Ok(()) };
        let kind = OperationKind::OperationVerify;
        match self.one_shot(kind, &signed.mechanism, key, PAYLOAD, signed.signature.clone()).await {
            Ok(_) => signed.result.verified_by = Some(who),
            Err(why) => {
                signed.result.refused =
                    why.rv().is_some_and(|rv| matches!(rv, CKR_SIGNATURE_INVALID | CKR_SIGNATURE_LEN_RANGE));
                signed.result.why_not = Some(format!("not verified by the {who} token: {}", why.sentence()));
            }
        }
        Ok(())
    }

    async fn one_shot(
        &mut self,
        kind: OperationKind,
        mechanism: &v1::Mechanism,
        key: u64,
        data: &[u8],
        signature: Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        let request = v1::OneShotRequest {
            session: self.session,
            kind: kind.into(),
            begin: Some(v1::Begin { mechanism: Some(mechanism.clone()), key }),
            data: data.to_vec(),
            signature,
            capacity: None,
        };
        let answer = self.client.one_shot(self.request(request)).await;
        Ok(answer?.into_inner().output)
    }
}

fn mechanism_for(key_type: u64) -> Option<v1::Mechanism> {
    let mechanism = match ck::KeyType(key_type) {
        CKK_RSA => CKM_SHA256_RSA_PKCS,
        CKK_EC => CKM_ECDSA_SHA256,
        CKK_EC_EDWARDS => CKM_EDDSA,
        CKK_ML_DSA => CKM_ML_DSA,
        CKK_SLH_DSA => CKM_SLH_DSA,
        _ => return None,
    };
    Some(v1::Mechanism { r#type: mechanism.0, parameter: None })
}

fn number(kind: Attribute, value: u64) -> v1::Attribute {
    v1::Attribute { r#type: kind.0, value: Some(v1::attribute::Value::Number(value)) }
}

fn flag(kind: Attribute) -> v1::Attribute {
    v1::Attribute { r#type: kind.0, value: Some(v1::attribute::Value::Flag(true)) }
}

fn bytes(kind: Attribute, value: Vec<u8>) -> v1::Attribute {
    v1::Attribute { r#type: kind.0, value: Some(v1::attribute::Value::Bytes(value)) }
}

fn value_of(object: &v1::ObjectSnapshot, kind: Attribute) -> Option<&v1::attribute::Value> {
    object.attributes.iter().find(|attribute| attribute.r#type == kind.0)?.value.as_ref()
}

fn number_of(object: &v1::ObjectSnapshot, kind: Attribute) -> Option<u64> {
    match value_of(object, kind)? {
        v1::attribute::Value::Number(number) => Some(*number),
        _ => None,
    }
}

fn bytes_of(object: &v1::ObjectSnapshot, kind: Attribute) -> Option<Vec<u8>> {
    match value_of(object, kind)? {
        v1::attribute::Value::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

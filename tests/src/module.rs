//! The module under test, loaded as any application loads it; and the keys that the stories use.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{
    Attribute, KeyType, MlDsaParameterSetType, MlKemParameterSetType, ObjectClass, ObjectHandle, SlhDsaParameterSetType,
};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

pub use crate::daemon::module as path;
use crate::world::{LABEL, PIN, SO_PIN};

/// CKA_EC_PARAMS of P-256: the object identifier 1.2.840.10045.3.1.7.
pub const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// CKA_EC_PARAMS of P-384: 1.3.132.0.34.
pub const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
/// CKA_EC_PARAMS of P-521: 1.3.132.0.35.
pub const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
/// CKA_EC_PARAMS of P-224: 1.3.132.0.33.
pub const P224: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x21];
/// CKA_EC_PARAMS of secp256k1: 1.3.132.0.10.
pub const SECP256K1: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];
/// CKA_EC_PARAMS of brainpoolP256r1: 1.3.36.3.3.2.8.1.1.7.
pub const BRAINPOOL_P256: &[u8] = &[0x06, 0x09, 0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07];
/// CKA_EC_PARAMS of brainpoolP512r1: 1.3.36.3.3.2.8.1.1.13.
pub const BRAINPOOL_P512: &[u8] = &[0x06, 0x09, 0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0d];
/// CKA_EC_PARAMS of X25519: 1.3.101.110.
pub const X25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x6e];
/// CKA_EC_PARAMS of Ed25519: 1.3.101.112.
pub const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// A PIN as the crate wants it.
pub fn pin(text: &str) -> AuthPin {
    AuthPin::new(text.to_owned().into())
}

/// The initialised token, seen through the module in this process.
pub struct Token {
    /// The module, initialised.
    pub pkcs11: Pkcs11,
    /// The slot of the token.
    pub slot: Slot,
}

impl Token {
    /// Loads the module, initialises it and finds the world's token by its label.
    pub fn open() -> Token {
        let pkcs11 = load();
        let slots = pkcs11.get_slots_with_initialized_token().expect("slots are listed");
        let labelled = |slot: &Slot| pkcs11.get_token_info(*slot).is_ok_and(|info| info.label().trim_end() == LABEL);
        let slot = slots.into_iter().find(labelled).expect("the world's token is there");
        Token { pkcs11, slot }
    }

    /// A new R/W session.
    pub fn session(&self) -> Session {
        self.pkcs11.open_rw_session(self.slot).expect("a session opens")
    }

    /// A new R/W session, the user logged in.
    pub fn user(&self) -> Session {
        let session = self.session();
        match session.login(UserType::User, Some(&pin(PIN))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => session,
            Err(e) => panic!("login: {e}"),
        }
    }

    /// A new R/W session, the security officer logged in.
    pub fn so(&self) -> Session {
        let session = self.session();
        session.login(UserType::So, Some(&pin(SO_PIN))).expect("the SO logs in");
        session
    }
}

/// The module, initialised for several threads.
pub fn load() -> Pkcs11 {
    let pkcs11 = Pkcs11::new(path()).expect("the module loads");
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).expect("C_Initialize");
    pkcs11
}

/// The CKR with which a call failed.
///
/// # Panics
/// When it succeeded, or failed otherwise.
#[track_caller]
pub fn refused<T>(result: Result<T, Error>) -> RvError {
    match result {
        Ok(_) => panic!("the call should have been refused"),
        Err(Error::Pkcs11(rv, _)) => rv,
        Err(other) => panic!("the call should have been refused with a CKR, not with: {other}"),
    }
}

/// A key pair: public, private.
pub type Pair = (ObjectHandle, ObjectHandle);

/// Where a key lives, and what it is called.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Token object, or session object.
    pub token: bool,
    /// CKA_LABEL and CKA_ID.
    pub label: &'a str,
}

/// A session object without a name that matters.
pub const SESSION: Place<'static> = Place { token: false, label: "session" };

/// A token object with a label.
pub fn token_object(label: &str) -> Place<'_> {
    Place { token: true, label }
}

fn pair(
    session: &Session,
    mechanism: &Mechanism,
    place: Place,
    public: &[Attribute],
    private: &[Attribute],
) -> Result<Pair, Error> {
    let common =
        [Attribute::Token(place.token), Attribute::Label(place.label.into()), Attribute::Id(place.label.into())];
    let public = [&common[..], &[Attribute::Verify(true)], public].concat();
    let private =
        [&common[..], &[Attribute::Private(true), Attribute::Sensitive(true), Attribute::Sign(true)], private].concat();
    session.generate_key_pair(mechanism, &public, &private)
}

/// An RSA pair that signs, and encrypts.
///
/// # Errors
/// What the module answered.
pub fn rsa(session: &Session, bits: u64, place: Place) -> Result<Pair, Error> {
    let public =
        [Attribute::ModulusBits(bits.into()), Attribute::PublicExponent(vec![1, 0, 1]), Attribute::Encrypt(true)];
    pair(session, &Mechanism::RsaPkcsKeyPairGen, place, &public, &[Attribute::Decrypt(true)])
}

/// An EC pair on a named curve that signs, and derives.
///
/// # Errors
/// What the module answered.
pub fn ec(session: &Session, curve: &[u8], place: Place) -> Result<Pair, Error> {
    let private = [Attribute::Derive(true)];
    pair(session, &Mechanism::EccKeyPairGen, place, &[Attribute::EcParams(curve.into())], &private)
}

/// An Ed25519 pair.
///
/// # Errors
/// What the module answered.
pub fn ed25519(session: &Session, place: Place) -> Result<Pair, Error> {
    pair(session, &Mechanism::EccEdwardsKeyPairGen, place, &[Attribute::EcParams(ED25519.into())], &[])
}

/// An ML-DSA pair.
///
/// # Errors
/// What the module answered.
pub fn ml_dsa(session: &Session, set: MlDsaParameterSetType, place: Place) -> Result<Pair, Error> {
    pair(session, &Mechanism::MlDsaKeyPairGen, place, &[Attribute::ParameterSet(set.into())], &[])
}

/// An SLH-DSA pair.
///
/// # Errors
/// What the module answered.
pub fn slh_dsa(session: &Session, set: SlhDsaParameterSetType, place: Place) -> Result<Pair, Error> {
    pair(session, &Mechanism::SlhDsaKeyPairGen, place, &[Attribute::ParameterSet(set.into())], &[])
}

/// An ML-KEM pair: one half encapsulates, the other decapsulates.
///
/// # Errors
/// What the module answered.
pub fn ml_kem(session: &Session, set: MlKemParameterSetType, place: Place) -> Result<Pair, Error> {
    let common =
        [Attribute::Token(place.token), Attribute::Label(place.label.into()), Attribute::Id(place.label.into())];
    let public = [&common[..], &[Attribute::ParameterSet(set.into()), Attribute::Encapsulate(true)]].concat();
    let private = [&common[..], &[Attribute::Decapsulate(true), Attribute::Sensitive(true)]].concat();
    session.generate_key_pair(&Mechanism::MlKemKeyPairGen, &public, &private)
}

/// An AES key, generated, with the attributes that the story needs.
///
/// # Errors
/// What the module answered.
pub fn aes(session: &Session, len_bytes: u64, more: &[Attribute]) -> Result<ObjectHandle, Error> {
    let template = [&[Attribute::Token(false), Attribute::ValueLen(len_bytes.into())], more].concat();
    session.generate_key(&Mechanism::AesKeyGen, &template)
}

/// A generic secret that signs and verifies (HMAC).
///
/// # Errors
/// What the module answered.
pub fn hmac_key(session: &Session, len_bytes: u64) -> Result<ObjectHandle, Error> {
    let template = [
        Attribute::Token(false),
        Attribute::ValueLen(len_bytes.into()),
        Attribute::Sign(true),
        Attribute::Verify(true),
    ];
    session.generate_key(&Mechanism::GenericSecretKeyGen, &template)
}

/// An AES key whose value is known because it is imported.
///
/// # Errors
/// What the module answered.
pub fn import_aes(session: &Session, value: &[u8], more: &[Attribute]) -> Result<ObjectHandle, Error> {
    let template = [
        &[
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Value(value.into()),
        ],
        more,
    ];
    session.create_object(&template.concat())
}

/// An EC private key on P-256 whose scalar is known because it is imported.
///
/// # Errors
/// What the module answered.
pub fn import_ec(session: &Session, scalar: &[u8], more: &[Attribute]) -> Result<ObjectHandle, Error> {
    let template = [
        &[
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::EC),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sign(true),
            Attribute::EcParams(P256.into()),
            Attribute::Value(scalar.into()),
        ],
        more,
    ];
    session.create_object(&template.concat())
}

/// The bytes of one attribute.
///
/// # Panics
/// When the object does not show it.
#[track_caller]
pub fn attribute(session: &Session, object: ObjectHandle, attribute: cryptoki::object::AttributeType) -> Attribute {
    let mut found = session.get_attributes(object, &[attribute]).expect("the attribute is readable");
    assert_eq!(found.len(), 1, "the object should show {attribute}");
    found.remove(0)
}

/// The public point of an EC or Edwards key, out of its OCTET STRING (short and one-byte long lengths; a bare point as it is).
///
/// # Panics
/// When there is none.
pub fn ec_point(session: &Session, public: ObjectHandle) -> Vec<u8> {
    let Attribute::EcPoint(der) = attribute(session, public, cryptoki::object::AttributeType::EcPoint) else {
        panic!("CKA_EC_POINT holds something else");
    };
    match der.as_slice() {
        [0x04, 0x81, len, point @ ..] | [0x04, len, point @ ..] if usize::from(*len) == point.len() => point.to_vec(),
        _ => der,
    }
}

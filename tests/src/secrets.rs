//! Keys of every type and origin whose bytes the test knows: imported, generated, derived, unwrapped, each used once. What a search
//! for copies of them looks for.

use cryptoki::error::Error;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::hkdf::{HkdfParams, HkdfSalt};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{
    Attribute, AttributeType, KeyType, MlDsaParameterSetType, MlKemParameterSetType, ObjectClass, ObjectHandle,
    SlhDsaParameterSetType,
};
use cryptoki::session::Session;

use crate::module::{self, ED25519, P256, X25519};

/// A name and the bytes.
pub type Secret = (String, Vec<u8>);

/// What makes a key's bytes readable.
const OPEN: [Attribute; 3] = [Attribute::Private(true), Attribute::Sensitive(false), Attribute::Extractable(true)];

/// The attributes that hold secrets.
const HOLDERS: [AttributeType; 5] = [
    AttributeType::Value,
    AttributeType::Seed,
    AttributeType::PrivateExponent,
    AttributeType::Prime1,
    AttributeType::Prime2,
];

/// Bytes that are no constant of any program, so that only whoever was told them can hold them in one piece.
fn bytes(len: u8, factor: u8) -> Vec<u8> {
    (0..len).map(|i| i.wrapping_mul(factor).wrapping_add(factor / 3).rotate_left(u32::from(i % 7))).collect()
}

/// Makes and uses the keys.
///
/// # Errors
/// What the module answered.
pub fn make(session: &Session) -> Result<Vec<Secret>, Error> {
    let mut all = Vec::new();
    imported(session, &mut all)?;
    generated(session, &mut all)?;
    derived_and_unwrapped(session, &mut all)?;
    Ok(all)
}

/// What the token tells of a key's secret parts.
fn read(session: &Session, name: &str, key: ObjectHandle, all: &mut Vec<Secret>) -> Result<(), Error> {
    for held in session.get_attributes(key, &HOLDERS)? {
        let (part, bytes) = match held {
            Attribute::Value(bytes) => ("value", bytes),
            Attribute::Seed(bytes) => ("seed", bytes),
            Attribute::PrivateExponent(bytes) => ("exponent", bytes),
            Attribute::Prime1(bytes) | Attribute::Prime2(bytes) => ("prime", bytes),
            _ => continue,
        };
        if bytes.len() >= 16 {
            all.push((format!("{name}-{part}"), bytes));
        }
    }
    Ok(())
}

fn import(session: &Session, class: ObjectClass, kind: KeyType, more: &[Attribute]) -> Result<ObjectHandle, Error> {
    let hidden =
        [Attribute::Token(false), Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false)];
    let template = [&[Attribute::Class(class), Attribute::KeyType(kind)], &hidden[..], more].concat();
    session.create_object(&template)
}

fn imported(session: &Session, all: &mut Vec<Secret>) -> Result<(), Error> {
    let (secret, private) = (ObjectClass::SECRET_KEY, ObjectClass::PRIVATE_KEY);
    let mut told = |name: &str, bytes: &[u8]| all.push((format!("imported-{name}"), bytes.to_vec()));
    let value = bytes(32, 91);
    let key = import(session, secret, KeyType::AES, &[Attribute::Encrypt(true), Attribute::Value(value.clone())])?;
    session.encrypt(&Mechanism::AesCbcPad([0; 16]), key, b"in use")?;
    told("aes", &value);
    let value = bytes(48, 93);
    let key =
        import(session, secret, KeyType::GENERIC_SECRET, &[Attribute::Sign(true), Attribute::Value(value.clone())])?;
    session.sign(&Mechanism::Sha256Hmac, key, b"in use")?;
    told("generic", &value);
    for (name, kind, curve, factor) in [("ec", KeyType::EC, P256, 37), ("ed25519", KeyType::EC_EDWARDS, ED25519, 39)] {
        let value = bytes(32, factor);
        let parts = [Attribute::Sign(true), Attribute::EcParams(curve.into()), Attribute::Value(value.clone())];
        let key = import(session, private, kind, &parts)?;
        let mechanism = if kind == KeyType::EC { Mechanism::EcdsaSha256 } else { ed25519() };
        session.sign(&mechanism, key, b"in use")?;
        told(name, &value);
    }
    let seed = bytes(32, 41);
    let set = Attribute::ParameterSet(MlDsaParameterSetType::ML_DSA_44.into());
    import(session, private, KeyType::ML_DSA, &[Attribute::Sign(true), set, Attribute::Seed(seed.clone())])?;
    told("ml-dsa", &seed);
    let seed = bytes(64, 43);
    let set = Attribute::ParameterSet(MlKemParameterSetType::ML_KEM_512.into());
    import(session, private, KeyType::ML_KEM, &[Attribute::Decapsulate(true), set, Attribute::Seed(seed.clone())])?;
    told("ml-kem", &seed);
    Ok(())
}

fn ed25519() -> Mechanism<'static> {
    use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
    Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519))
}

fn generated(session: &Session, all: &mut Vec<Secret>) -> Result<(), Error> {
    let secrets = [("aes", Mechanism::AesKeyGen), ("generic", Mechanism::GenericSecretKeyGen)];
    for (name, mechanism) in secrets {
        let template = [&[Attribute::Token(false), Attribute::ValueLen(32.into())], &OPEN[..]].concat();
        let key = session.generate_key(&mechanism, &template)?;
        read(session, &format!("generated-{name}"), key, all)?;
    }
    let curve = |curve: &[u8]| Attribute::EcParams(curve.into());
    let pairs = [
        ("rsa", Mechanism::RsaPkcsKeyPairGen, vec![Attribute::ModulusBits(2048.into())], true),
        ("ec", Mechanism::EccKeyPairGen, vec![curve(P256)], true),
        ("ed25519", Mechanism::EccEdwardsKeyPairGen, vec![curve(ED25519)], true),
        ("x25519", Mechanism::EccMontgomeryKeyPairGen, vec![curve(X25519)], false),
        (
            "ml-dsa",
            Mechanism::MlDsaKeyPairGen,
            vec![Attribute::ParameterSet(MlDsaParameterSetType::ML_DSA_44.into())],
            true,
        ),
        (
            "slh-dsa",
            Mechanism::SlhDsaKeyPairGen,
            vec![Attribute::ParameterSet(SlhDsaParameterSetType::SHA2_128F.into())],
            true,
        ),
        (
            "ml-kem",
            Mechanism::MlKemKeyPairGen,
            vec![Attribute::ParameterSet(MlKemParameterSetType::ML_KEM_512.into())],
            false,
        ),
    ];
    for (name, mechanism, public, signs) in pairs {
        let open = [&[Attribute::Token(false)], &public[..]].concat();
        let mut hidden = [&[Attribute::Token(false)], &OPEN[..]].concat();
        if signs {
            hidden.push(Attribute::Sign(true));
        }
        let (_, key) = session.generate_key_pair(&mechanism, &open, &hidden)?;
        match name {
            "rsa" => drop(session.sign(&Mechanism::Sha256RsaPkcs, key, b"in use")?),
            "ec" => drop(session.sign(&Mechanism::EcdsaSha256, key, b"in use")?),
            _ => {}
        }
        read(session, &format!("generated-{name}"), key, all)?;
        if name == "slh-dsa"
            && let Some((_, value)) = all.last_mut()
        {
            // Its second half is the public key.
            value.truncate(value.len() / 2);
        }
    }
    Ok(())
}

fn derived_and_unwrapped(session: &Session, all: &mut Vec<Secret>) -> Result<(), Error> {
    let generic = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::GENERIC_SECRET)];
    let template = [&generic[..], &[Attribute::Token(false), Attribute::ValueLen(32.into())], &OPEN].concat();
    let (public, _) = module::ec(session, P256, module::SESSION)?;
    let (_, private) = module::ec(session, P256, module::SESSION)?;
    let point = module::ec_point(session, public);
    let ecdh = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &point));
    let agreed = session.derive_key(&ecdh, private, &[&template[..], &[Attribute::Derive(true)]].concat())?;
    read(session, "derived-ecdh", agreed, all)?;
    let params = HkdfParams::new(MechanismType::SHA256, Some(HkdfSalt::Data(b"salt")), Some(b"info"));
    let expanded = session.derive_key(&Mechanism::HkdfDerive(params), agreed, &template)?;
    read(session, "derived-hkdf", expanded, all)?;
    let wrapping =
        [Attribute::Wrap(true), Attribute::Unwrap(true), Attribute::Sensitive(true), Attribute::Extractable(false)];
    let wrapping = module::aes(session, 32, &wrapping)?;
    let target = module::aes(session, 32, &OPEN)?;
    read(session, "wrapped-aes", target, all)?;
    let wrapped = session.wrap_key(&Mechanism::AesKeyWrap, wrapping, target)?;
    session.destroy_object(target)?;
    let kind = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)];
    let template = [&kind[..], &[Attribute::Token(true), Attribute::Private(true), Attribute::Encrypt(true)]].concat();
    let back = session.unwrap_key(&Mechanism::AesKeyWrap, wrapping, &wrapped, &template)?;
    session.encrypt(&Mechanism::AesCbcPad([0; 16]), back, b"in use")?;
    Ok(())
}

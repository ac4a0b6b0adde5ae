//! A device's key: in a file (PKCS#8 PEM, readable by its owner only), or in a token that it never leaves.

use super::ClientError;
use super::settings::TokenSettings;
use crate::listener::tls::token_key;
use crate::secret::SecretSource;
use crate::token::{KeyRef, Token, TokenConfig};
use crate::x509::algorithm::{KeySpec, bare_spki, ec_spki, oid};
use crate::x509::pem;
use const_oid::ObjectIdentifier;
use der::Decode;
use ml_dsa::signature::{Keypair, SignatureEncoding, Signer};
use ml_dsa::{MlDsa44, MlDsa65, MlDsa87, SigningKey as MlDsaKey};
use pkcs8::PrivateKeyInfoRef;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use spki::SubjectPublicKeyInfoOwned;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Length of an ML-DSA seed (FIPS 204).
const SEED_LEN: usize = 32;

/// A key.
pub(super) enum DeviceKey {
    /// In a file.
    File {
        /// Its kind.
        spec: KeySpec,
        /// Its PKCS#8 encoding.
        pkcs8: Zeroizing<Vec<u8>>,
    },
    /// In a token.
    Token {
        /// The token.
        token: Arc<Token>,
        /// Its name there.
        key: KeyRef,
    },
}

fn fault(text: impl std::fmt::Display) -> ClientError {
    ClientError::Key(text.to_string())
}

/// Opens the token of the settings.
pub(super) fn open_token(settings: &TokenSettings, dir: &Path) -> Result<Arc<Token>, ClientError> {
    let pin = SecretSource::parse(&settings.pin, dir).read().map_err(|detail| fault(format!("PIN: {detail}")))?;
    let config = TokenConfig {
        module: settings.module.clone(),
        label: settings.label.clone(),
        pin,
        max_sessions: 2,
        reconnect: Duration::from_secs(5),
    };
    Token::open(config).map(Arc::new).map_err(fault)
}

/// The object identifier of a kind of key that can be kept in a file as a seed.
fn seeded(spec: KeySpec) -> Option<ObjectIdentifier> {
    match spec {
        KeySpec::MlDsa44 => Some(oid::ML_DSA_44),
        KeySpec::MlDsa65 => Some(oid::ML_DSA_65),
        KeySpec::MlDsa87 => Some(oid::ML_DSA_87),
        _ => None,
    }
}

/// PKCS#8 with the seed alone, the form that RFC 9881 recommends.
fn seed_pkcs8(algorithm: ObjectIdentifier, seed: &[u8; SEED_LEN]) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    use der::Encode;
    let inner = Zeroizing::new([&[0x80, 0x20][..], seed].concat());
    let octets = der::asn1::OctetStringRef::new(&inner).map_err(fault)?;
    let info = PrivateKeyInfoRef::new(spki::AlgorithmIdentifier { oid: algorithm, parameters: None }, octets);
    info.to_der().map(Zeroizing::new).map_err(fault)
}

impl DeviceKey {
    /// Makes a key for a file.
    pub(super) fn generate(spec: KeySpec) -> Result<Self, ClientError> {
        let random = SystemRandom::new();
        let failed = |_| fault("it could not be made");
        let pkcs8 = match spec {
            KeySpec::EcP256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(failed)?
            }
            KeySpec::EcP384 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &random).map_err(failed)?
            }
            KeySpec::Ed25519 => Ed25519KeyPair::generate_pkcs8(&random).map_err(failed)?,
            spec => {
                let algorithm = seeded(spec).ok_or_else(|| fault(format!("'{spec}' keys are made in a token only")))?;
                let mut seed = Zeroizing::new([0; SEED_LEN]);
                random.fill(seed.as_mut()).map_err(failed)?;
                return Ok(Self::File { spec, pkcs8: seed_pkcs8(algorithm, &seed)? });
            }
        };
        Ok(Self::File { spec, pkcs8: Zeroizing::new(pkcs8.as_ref().to_vec()) })
    }

    /// Reads a key from PKCS#8 PEM.
    pub(super) fn of_pem(text: &str) -> Result<Self, ClientError> {
        let body: Zeroizing<String> = Zeroizing::new(text.lines().filter(|line| !line.starts_with("-----")).collect());
        if !text.contains("-----BEGIN PRIVATE KEY-----") {
            return Err(fault("it must be an unencrypted PKCS#8 key: -----BEGIN PRIVATE KEY-----"));
        }
        let pkcs8 = Zeroizing::new(data_encoding::BASE64.decode(body.trim().as_bytes()).map_err(fault)?);
        let spec = {
            let info = PrivateKeyInfoRef::from_der(&pkcs8).map_err(fault)?;
            let curve = info.algorithm.parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
            match (info.algorithm.oid, curve) {
                (oid::EC_PUBLIC_KEY, Some(oid::P256)) => KeySpec::EcP256,
                (oid::EC_PUBLIC_KEY, Some(oid::P384)) => KeySpec::EcP384,
                (oid::ED25519, _) => KeySpec::Ed25519,
                (oid::ML_DSA_44, _) => KeySpec::MlDsa44,
                (oid::ML_DSA_65, _) => KeySpec::MlDsa65,
                (oid::ML_DSA_87, _) => KeySpec::MlDsa87,
                (other, _) => return Err(fault(format!("keys of the kind {other} are not supported in files"))),
            }
        };
        Ok(Self::File { spec, pkcs8 })
    }

    /// PKCS#8 PEM of a key in a file; none for one in a token.
    pub(super) fn pem(&self) -> Option<Zeroizing<String>> {
        match self {
            Self::File { pkcs8, .. } => Some(Zeroizing::new(pem("PRIVATE KEY", pkcs8))),
            Self::Token { .. } => None,
        }
    }

    /// Its kind.
    pub(super) fn spec(&self) -> KeySpec {
        match self {
            Self::File { spec, .. } => *spec,
            Self::Token { key, .. } => key.spec,
        }
    }

    /// Its public half.
    pub(super) fn spki(&self) -> Result<SubjectPublicKeyInfoOwned, ClientError> {
        let (spec, pkcs8) = match self {
            Self::Token { token, key } => {
                let spki = token.public_key(key).map_err(fault)?;
                return spki.ok_or_else(|| fault(format!("the token holds no key '{}'", key.label)));
            }
            Self::File { spec, pkcs8 } => (*spec, pkcs8),
        };
        match spec {
            KeySpec::EcP256 => ec_spki(oid::P256, ecdsa(spec, pkcs8)?.public_key().as_ref()),
            KeySpec::EcP384 => ec_spki(oid::P384, ecdsa(spec, pkcs8)?.public_key().as_ref()),
            KeySpec::Ed25519 => bare_spki(oid::ED25519, ed25519(pkcs8)?.public_key().as_ref()),
            KeySpec::MlDsa44 => bare_spki(oid::ML_DSA_44, &ml_dsa_public::<MlDsa44>(pkcs8)?),
            KeySpec::MlDsa65 => bare_spki(oid::ML_DSA_65, &ml_dsa_public::<MlDsa65>(pkcs8)?),
            KeySpec::MlDsa87 => bare_spki(oid::ML_DSA_87, &ml_dsa_public::<MlDsa87>(pkcs8)?),
            other => return Err(fault(format!("'{other}' keys are kept in a token only"))),
        }
        .map_err(fault)
    }

    /// Signs as certificates and requests are signed.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ClientError> {
        match self {
            Self::Token { token, key } => token.sign(key, key.spec.certificate_scheme(), message).map_err(fault),
            Self::File { spec, pkcs8 } => match spec {
                KeySpec::EcP256 | KeySpec::EcP384 => {
                    let signature = ecdsa(*spec, pkcs8)?.sign(&SystemRandom::new(), message);
                    Ok(signature.map_err(|_| fault("it does not sign"))?.as_ref().to_vec())
                }
                KeySpec::Ed25519 => Ok(ed25519(pkcs8)?.sign(message).as_ref().to_vec()),
                KeySpec::MlDsa44 => ml_dsa_sign::<MlDsa44>(pkcs8, message),
                KeySpec::MlDsa65 => ml_dsa_sign::<MlDsa65>(pkcs8, message),
                KeySpec::MlDsa87 => ml_dsa_sign::<MlDsa87>(pkcs8, message),
                other => Err(fault(format!("'{other}' keys are kept in a token only"))),
            },
        }
    }

    /// The key with its certificates, as TLS shows them.
    pub(super) fn certified(&self, chain: Vec<Vec<u8>>) -> Result<CertifiedKey, ClientError> {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let key = match self {
            Self::Token { token, key } => token_key(Arc::clone(token), key.clone()),
            Self::File { pkcs8, .. } => {
                let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
                any_supported_type(&der).map_err(fault)?
            }
        };
        Ok(CertifiedKey::new(chain, key))
    }
}

fn ecdsa(spec: KeySpec, pkcs8: &[u8]) -> Result<EcdsaKeyPair, ClientError> {
    let algorithm =
        if spec == KeySpec::EcP256 { &ECDSA_P256_SHA256_ASN1_SIGNING } else { &ECDSA_P384_SHA384_ASN1_SIGNING };
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()).map_err(fault)
}

fn ed25519(pkcs8: &[u8]) -> Result<Ed25519KeyPair, ClientError> {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(fault)
}

/// The key of a seed; the other forms of RFC 9881 are not read.
fn ml_dsa<P: ml_dsa::MlDsaParams>(pkcs8: &[u8]) -> Result<MlDsaKey<P>, ClientError> {
    let info = PrivateKeyInfoRef::from_der(pkcs8).map_err(fault)?;
    let seed = match info.private_key.as_bytes() {
        [0x80, 0x20, seed @ ..] if seed.len() == SEED_LEN => seed,
        _ => return Err(fault("an ML-DSA key must be kept as its seed (RFC 9881, the form [0])")),
    };
    let seed = ml_dsa::Seed::try_from(seed).map_err(fault)?;
    Ok(MlDsaKey::<P>::from_seed(&seed))
}

fn ml_dsa_public<P: ml_dsa::MlDsaParams>(pkcs8: &[u8]) -> Result<Vec<u8>, ClientError> {
    Ok(ml_dsa::<P>(pkcs8)?.verifying_key().encode().to_vec())
}

fn ml_dsa_sign<P: ml_dsa::MlDsaParams>(pkcs8: &[u8], message: &[u8]) -> Result<Vec<u8>, ClientError> {
    let signature = ml_dsa::<P>(pkcs8)?.try_sign(message).map_err(fault)?;
    Ok(signature.to_vec())
}

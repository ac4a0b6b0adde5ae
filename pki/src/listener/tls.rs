//! TLS 1.2 and 1.3 with the server key in the token. Client certificates are optional and must come from this PKI, or from a
//! manufacturer whose devices enrol here.

use super::Peer;
use crate::token::{KeyRef, Token};
use crate::x509::algorithm::{KeySpec, Scheme};
use der::Decode;
use parking_lot::RwLock;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, ProtocolVersion, RootCertStore, ServerConfig,
    ServerConnection, SignatureAlgorithm, SignatureScheme,
};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Label of the tls-exporter channel binding (RFC 9266 section 2).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Gives the certificates of the authorities as they stand now, or a sentence why they cannot be read.
pub(crate) type Anchors = Arc<dyn Fn() -> Result<Vec<Vec<u8>>, String> + Send + Sync>;

/// Whether a listener asks for client certificates.
pub(crate) enum ClientCertificates {
    /// It asks; who has none is let in; one from elsewhere is refused.
    Optional(Anchors),
    /// It does not ask.
    NotAsked,
}

/// The TLS side of a listener.
#[derive(Clone)]
pub(crate) struct ServerTls {
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Builds it around the certificate in `place`, which may be replaced while it serves.
    ///
    /// # Errors
    /// A sentence, when a certificate is not usable.
    pub(crate) fn new(place: Arc<CertificatePlace>, clients: ClientCertificates) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|fault| fault.to_string())?;
        let builder = match clients {
            ClientCertificates::NotAsked => builder.with_no_client_auth(),
            ClientCertificates::Optional(anchors) => {
                builder.with_client_cert_verifier(Arc::new(LiveVerifier::new(anchors, provider)?))
            }
        };
        let mut config = builder.with_cert_resolver(place);
        // No resumption: every connection shows its certificate anew and has its own channel binding.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    /// Shakes hands.
    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await
    }
}

/// Verifies client certificates with the authorities of this moment: one that was made or retired while the server runs counts
/// from the next handshake on.
struct LiveVerifier {
    anchors: Anchors,
    provider: Arc<CryptoProvider>,
    built: RwLock<Built>,
}

/// A verifier and the anchors it was built from.
struct Built {
    from: Vec<Vec<u8>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Built {
    fn new(from: Vec<Vec<u8>>, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for authority in &from {
            roots.add(CertificateDer::from(authority.clone())).map_err(|fault| fault.to_string())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .allow_unauthenticated()
            .build()
            .map_err(|fault| fault.to_string())?;
        Ok(Self { from, verifier })
    }
}

impl LiveVerifier {
    fn new(anchors: Anchors, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let built = RwLock::new(Built::new(anchors()?, &provider)?);
        Ok(Self { anchors, provider, built })
    }

    fn current(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        let now = (self.anchors)().map_err(rustls::Error::General)?;
        {
            let built = self.built.read();
            if built.from == now {
                return Ok(Arc::clone(&built.verifier));
            }
        }
        let fresh = Built::new(now, &self.provider).map_err(rustls::Error::General)?;
        let verifier = Arc::clone(&fresh.verifier);
        *self.built.write() = fresh;
        Ok(verifier)
    }
}

/// The last second a certificate was good.
fn last_second(certificate: &CertificateDer<'_>) -> Result<UnixTime, rustls::Error> {
    let parsed = x509_cert::Certificate::from_der(certificate)
        .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let not_after = parsed.tbs_certificate().validity().not_after.to_unix_duration();
    Ok(UnixTime::since_unix_epoch(not_after))
}

impl std::fmt::Debug for LiveVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LiveVerifier")
    }
}

impl ClientCertVerifier for LiveVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: the authorities change while this lives, and an empty list leaves the choice to the client.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verifier = self.current()?;
        match verifier.verify_client_cert(end_entity, intermediates, now) {
            // Whether an expired certificate is good for anything is judged where it is used, and answered by name; and so is one
            // that was issued while our clock was ahead.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            )) => verifier.verify_client_cert(end_entity, intermediates, last_second(end_entity)?),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What TLS says about the other end.
pub(super) fn peer(address: IpAddr, connection: &ServerConnection) -> Peer {
    let shown = connection.peer_certificates().unwrap_or_default();
    let mut shown = shown.iter().map(|certificate| certificate.to_vec());
    let certificate = shown.next();
    let above = shown.collect();
    let exporter = (connection.protocol_version() == Some(ProtocolVersion::TLSv1_3))
        .then(|| connection.export_keying_material([0; 32], EXPORTER_LABEL, None).ok())
        .flatten();
    Peer { address, certificate, above, exporter }
}

/// Where the current server certificate lies.
#[derive(Debug)]
pub(crate) struct CertificatePlace(RwLock<Arc<CertifiedKey>>);

impl CertificatePlace {
    /// A place with a certificate, its issuer's and the key in the token.
    pub(crate) fn new(token: Arc<Token>, key: KeyRef, chain: Vec<Vec<u8>>) -> Self {
        Self(RwLock::new(certified(token, key, chain)))
    }

    /// Puts another certificate in the place.
    pub(crate) fn replace(&self, token: Arc<Token>, key: KeyRef, chain: Vec<Vec<u8>>) {
        *self.0.write() = certified(token, key, chain);
    }
}

fn certified(token: Arc<Token>, key: KeyRef, chain: Vec<Vec<u8>>) -> Arc<CertifiedKey> {
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Arc::new(CertifiedKey::new(chain, Arc::new(TokenKey { token, key: Arc::new(key) })))
}

impl ResolvesServerCert for CertificatePlace {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

/// A key in the token, as TLS uses it.
pub(crate) fn token_key(token: Arc<Token>, key: KeyRef) -> Arc<dyn SigningKey> {
    Arc::new(TokenKey { token, key: Arc::new(key) })
}

/// The server key, which is in the token.
#[derive(Debug)]
struct TokenKey {
    token: Arc<Token>,
    key: Arc<KeyRef>,
}

/// The TLS schemes of each kind of key, best first.
fn schemes(spec: KeySpec) -> &'static [(SignatureScheme, Scheme)] {
    match spec {
        KeySpec::EcP256 => &[(SignatureScheme::ECDSA_NISTP256_SHA256, Scheme::EcdsaSha256)],
        KeySpec::EcP384 => &[(SignatureScheme::ECDSA_NISTP384_SHA384, Scheme::EcdsaSha384)],
        KeySpec::Rsa { .. } => &[
            (SignatureScheme::RSA_PSS_SHA256, Scheme::RsaPssSha256),
            (SignatureScheme::RSA_PSS_SHA384, Scheme::RsaPssSha384),
            (SignatureScheme::RSA_PKCS1_SHA256, Scheme::RsaPkcs1Sha256),
            (SignatureScheme::RSA_PKCS1_SHA384, Scheme::RsaPkcs1Sha384),
        ],
        KeySpec::EcP521 => &[(SignatureScheme::ECDSA_NISTP521_SHA512, Scheme::EcdsaSha512)],
        KeySpec::Ed25519 => &[(SignatureScheme::ED25519, Scheme::Ed25519)],
        KeySpec::MlDsa44 => &[(SignatureScheme::ML_DSA_44, Scheme::MlDsa)],
        KeySpec::MlDsa65 => &[(SignatureScheme::ML_DSA_65, Scheme::MlDsa)],
        KeySpec::MlDsa87 => &[(SignatureScheme::ML_DSA_87, Scheme::MlDsa)],
    }
}

impl SigningKey for TokenKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let (name, scheme) = *schemes(self.key.spec).iter().find(|row| offered.contains(&row.0))?;
        Some(Box::new(TokenSigner { token: Arc::clone(&self.token), key: Arc::clone(&self.key), name, scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.key.spec {
            KeySpec::EcP256 | KeySpec::EcP384 | KeySpec::EcP521 => SignatureAlgorithm::ECDSA,
            KeySpec::Rsa { .. } => SignatureAlgorithm::RSA,
            KeySpec::Ed25519 => SignatureAlgorithm::ED25519,
            // TLS 1.2 has no name for it: such a server key serves TLS 1.3 only.
            KeySpec::MlDsa44 | KeySpec::MlDsa65 | KeySpec::MlDsa87 => SignatureAlgorithm::Unknown(0),
        }
    }
}

#[derive(Debug)]
struct TokenSigner {
    token: Arc<Token>,
    key: Arc<KeyRef>,
    name: SignatureScheme,
    scheme: Scheme,
}

impl Signer for TokenSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        // The token blocks: the other connections of this thread move to another one meanwhile.
        tokio::task::block_in_place(|| self.token.sign(&self.key, self.scheme, message))
            .map_err(|fault| rustls::Error::General(fault.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.name
    }
}

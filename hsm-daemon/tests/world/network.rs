//! Certificates of every kind, and connections that show them.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

pub use super::port::free_port;

use super::World;

/// How certificates are made.
const MAKING: &str = include_str!("../../../tests/testdata/certificates.sh");

/// Every kind of certificate that is none for this daemon, and some that are.
const CERTIFICATES: &str = r#"
    ca ca; ca other
    leaf server ca serverAuth 2; leaf stranger other clientAuth 2; leaf expired ca clientAuth -1; leaf purpose ca serverAuth 2
    for name in revoked "$@"; do leaf $name ca clientAuth 2; done
    mkdir db; : > db/index.txt; echo 01 > db/crlnumber; echo 7001 > db/serial
    printf '[ca]\ndefault_ca=x\n[x]\ndatabase=db/index.txt\ncrlnumber=db/crlnumber\ndefault_md=sha256\ndefault_crl_days=2\n' > ca.cnf
    printf 'serial=db/serial\nnew_certs_dir=db\npolicy=p\n[p]\ncommonName=supplied\n' >> ca.cnf
    openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -revoke revoked.pem
    openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -gencrl -out crl.pem
    csr early clientAuth
    openssl ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -extfile early.ext -startdate 20990101000000Z \
               -enddate 21000101000000Z -in early.csr -out early.pem
"#;

/// Only TLS 1.3, which is all that the daemon speaks.
pub const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Whoever has a certificate may do everything in the token service.
pub const ANY_CERTIFICATE: &str =
    "[[client]]\nany_certificate = true\nroles = [\"use\", \"manage\", \"so\"]\ntokens = [\"*\"]\n";

/// Makes the certificates, with `good` for clients that are accepted; `None`, and a line that says so, without openssl.
pub fn make_certificates(folder: &Path, test: &str, good: &[&str]) -> Option<()> {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("SKIPPED {test}: openssl not found");
        return None;
    }
    let script = [MAKING, CERTIFICATES].concat();
    let made = Command::new("bash").args(["-c", &script, "make"]).args(good).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(())
}

/// Revokes a client's certificate and writes the list anew.
pub fn revoke(folder: &Path, name: &str) {
    let script = "openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -revoke \"$1.pem\" && \
                  openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -gencrl -out fresh.pem && mv fresh.pem crl.pem";
    let done = Command::new("bash").args(["-c", script, "revoke", name]).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

impl World {
    /// A daemon that will listen on TCP, with these certificates, clients and further keys; `None` without openssl.
    pub fn on_the_network(test: &str, good: &[&str], clients: &str, daemon: &str) -> Option<(World, u16)> {
        let port = free_port();
        let world = World::new(&format!(
            "bind = \"127.0.0.1:{port}\"\ntls_cert = \"server.pem\"\ntls_key = \"server.key\"\n\
             tls_client_ca = \"ca.pem\"\ntls_client_crl = \"crl.pem\"\nclients = \"clients.toml\"\n{daemon}"
        ));
        make_certificates(world.folder.path(), test, good)?;
        world.write_clients(clients);
        Some((world, port))
    }
}

/// What a client with this certificate, or with none, brings along.
pub fn tls(folder: &Path, client: Option<&str>, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match client {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = vec![CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// The client's half of a handshake that has not begun.
pub fn handshake(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// A connection for bytes of one's own.
pub fn raw_tls(config: &Arc<ClientConfig>, port: u16) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut stream = StreamOwned::new(handshake(config), TcpStream::connect(("127.0.0.1", port))?);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// A connection with this certificate, or with none, on which calls can be made.
pub async fn channel(
    folder: &Path,
    port: u16,
    client: Option<&str>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Channel, String> {
    let connector = tokio_rustls::TlsConnector::from(tls(folder, client, versions));
    let connect = move |_: Uri| {
        let connector = connector.clone();
        async move {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
            connector.connect(name, stream).await.map(hyper_util::rt::TokioIo::new)
        }
    };
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(tower::service_fn(connect)).await;
    channel.map_err(|e| e.to_string())
}

/// What the health service answers.
pub async fn health(channel: Channel, service: &str) -> Result<i32, tonic::Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(channel).check(request).await.map(|reply| reply.into_inner().status)
}

/// What the health service answers a client with this certificate.
pub async fn health_over_tls(
    folder: &Path,
    port: u16,
    client: Option<&str>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<i32, String> {
    health(channel(folder, port, client, versions).await?, "").await.map_err(|e| e.to_string())
}

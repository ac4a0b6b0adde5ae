//! The tools of GnuTLS, and the socket of p11-kit.

use acceptance::page;

#[test]
fn page() {
    page::run("gnutls", &["p11tool", "certtool", "gnutls-serv", "gnutls-cli", "p11-kit", "pkcs11-tool"]);
}

//! OpenSSL 3 with the engine of libp11.

use acceptance::page;

#[test]
fn page() {
    if page::engine("openssl::page") {
        page::run("openssl", &["openssl", "pkcs11-tool", "curl"]);
    }
}

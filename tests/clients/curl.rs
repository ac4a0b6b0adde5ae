//! curl: a client certificate whose key is in the token.

use acceptance::page;

#[test]
fn page() {
    if page::engine("curl::page") {
        page::run("curl", &["curl", "openssl", "pkcs11-tool"]);
    }
}

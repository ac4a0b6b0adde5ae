//! stunnel with the engine of libp11.

use acceptance::page;

#[test]
fn page() {
    if page::engine("stunnel::page") {
        page::run("stunnel", &["stunnel", "openssl", "pkcs11-tool"]);
    }
}

//! NSS: certutil, modutil, PKCS #12 and CMS.

use acceptance::page;

#[test]
fn page() {
    page::run("nss", &["certutil", "modutil", "pk12util", "cmsutil", "selfserv", "openssl", "curl"]);
}

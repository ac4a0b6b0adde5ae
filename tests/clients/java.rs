//! Java: keytool, jarsigner and a TLS server on SunPKCS11.

use super::page;

#[test]
fn page() {
    page::run("java", &["keytool", "jarsigner", "java", "jar", "openssl", "curl"]);
}

//! git: commits signed in the ssh format.

use acceptance::page;

#[test]
fn page() {
    page::run("git", &["git", "ssh-keygen", "ssh-agent", "pkcs11-tool"]);
}

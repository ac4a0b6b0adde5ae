//! OpenSSH: logins, the agent, a CA, a host key.

use acceptance::page;

#[test]
fn page() {
    page::run("openssh", &["ssh", "sshd", "ssh-keygen", "ssh-agent", "pkcs11-tool"]);
}

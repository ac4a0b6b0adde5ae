//! Certificates for a daemon that listens on TCP: a CA, a server, a client that it knows; another CA and a client of that one. Made by
//! openssl, as an operator would. Any other name is one more client of the CA.

use std::path::Path;
use std::process::Command;

use crate::tools::run;

/// How certificates are made.
const MAKING: &str = include_str!("../testdata/certificates.sh");

const SCRIPT: &str = r#"
    for name in "$@"; do case $name in
        ca | other) ca "$name" ;;
        server) leaf server ca serverAuth 2 ;;
        stranger) leaf stranger other clientAuth 2 ;;
        *) leaf "$name" ca clientAuth 2 ;;
    esac; done
"#;

/// Everybody there is: the CA of server and client, and a stranger with a CA of its own.
pub const ALL: [&str; 5] = ["ca", "other", "server", "right", "stranger"];
/// What it takes to be served.
pub const ENOUGH: [&str; 3] = ["ca", "server", "right"];

/// Makes `NAME.pem` and `NAME.key` for each of the names in a directory.
///
/// # Panics
/// When openssl does not make them.
pub fn make(dir: &Path, names: &[&str]) {
    let script = [MAKING, SCRIPT].concat();
    run(Command::new("bash").args(["-c", &script, "certificates"]).args(names).current_dir(dir)).ok();
}

//! Certificates for a daemon that listens on TCP: a CA, a server, a client that it knows; another CA and a client of that one. Made by
//! openssl, as an operator would. Any other name is one more client of the CA.

use std::path::Path;
use std::process::Command;

use crate::tools::run;

const SCRIPT: &str = r#"
    set -e
    umask 077
    ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" \
           -keyout "$1.key" -out "$1.pem"; }
    leaf() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
             printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=%s\n' "$3" > "$1.ext"
             openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 2 -extfile "$1.ext" \
                     -out "$1.pem"; }
    for name in "$@"; do case $name in
        ca | other) ca "$name" ;;
        server) leaf server ca serverAuth ;;
        stranger) leaf stranger other clientAuth ;;
        *) leaf "$name" ca clientAuth ;;
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
    run(Command::new("bash").args(["-c", SCRIPT, "certificates"]).args(names).current_dir(dir)).ok();
}

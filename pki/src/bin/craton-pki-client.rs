//! `craton-pki-client`: the device's side. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pki::client_main()
}

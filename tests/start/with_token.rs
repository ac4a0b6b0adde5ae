//! scripts/with-token: the way for people to try any PKCS#11 program. It gives the command's status, sets what it promises, and
//! leaves nothing behind.

use std::fs;
use std::process::Command;

use acceptance::daemon::{bin_dir, workspace};
use acceptance::tools::{Finished, run};

fn with_token(args: &[&str]) -> Finished {
    run(Command::new(workspace().join("scripts/with-token"))
        .env("CRATON_BIN_DIR", bin_dir())
        .env_remove("PIN")
        .env_remove("SO_PIN")
        .args(args))
}

#[test]
fn the_exit_status_is_the_commands() {
    for status in [0, 1, 42] {
        assert_eq!(with_token(&["sh", "-c", &format!("exit {status}")]).status.code(), Some(status));
    }
}

#[test]
fn the_command_sees_a_running_token_and_nothing_is_left_of_it() {
    for profile in ["safe", "compat"] {
        let script = "test -f \"$PKCS11_MODULE\" && test \"$TOKEN_LABEL\" = test && test -S \"$CRATON_HSM_SOCKET\" && test -n \"$PIN$SO_PIN\" && \
                      grep -q \"profile = \\\"$0\\\"\" \"$CRATON_HSM_CONFIG\" && dirname \"$CRATON_HSM_CONFIG\"";
        let finished = with_token(&["--profile", profile, "sh", "-c", script, profile]).ok();
        let dir = finished.text().trim().to_owned();
        assert!(dir.len() > 4 && fs::metadata(&dir).is_err(), "{dir:?} is still there");
    }
}

#[test]
fn the_commands_input_and_output_are_its_own() {
    let mut command = Command::new(workspace().join("scripts/with-token"));
    let finished =
        acceptance::tools::run_with_input(command.env("CRATON_BIN_DIR", bin_dir()).arg("cat"), b"through and back")
            .ok();
    assert_eq!(finished.stdout, b"through and back");
}

#[test]
fn a_profile_that_does_not_exist_is_refused() {
    with_token(&["--profile", "reckless", "true"]).refused().says("reckless");
}

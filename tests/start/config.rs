//! Configuration: the annotated example is accepted; everything questionable is refused with an exit code and a sentence.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use acceptance::daemon::{binary, workspace};
use acceptance::tools;
use acceptance::world::World;

#[test]
fn the_annotated_example_is_accepted() {
    let example = workspace().join("craton_hsm.toml");
    let copy = World::unstarted();
    // A checkout may be group-writable; the file that a daemon reads may not.
    copy.write_config(&fs::read_to_string(example).expect("the example is part of the repository"));
    tools::run(Command::new(binary("craton-hsm-daemon")).arg("--check-config").arg("--config").arg(copy.config())).ok();
    // The operators' tool reads the same file: it comes as far as the journal that is not there.
    let tool = tools::run(
        Command::new(binary("craton-hsm-admin")).arg("--config").arg(copy.config()).args(["audit", "verify"]),
    );
    assert_eq!(tool.status.code(), Some(1), "{tool}");
}

#[test]
fn an_unknown_key_is_refused_by_name_in_every_section() {
    for section in ["token", "security", "audit", "daemon", "policy"] {
        let world = World::unstarted();
        let standard = world.standard_config();
        let header = format!("[{section}]\n");
        let wrong = if standard.contains(&header) {
            standard.replace(&header, &format!("{header}no_such_key = 1\n"))
        } else {
            format!("{standard}{header}no_such_key = 1\n")
        };
        world.write_config(&wrong);
        world.refused_start().says("no_such_key");
    }
    let world = World::unstarted();
    world.write_config(&format!("{}[no_such_section]\n", world.standard_config()));
    world.refused_start().says("no_such_section");
}

#[test]
fn values_outside_their_limits_are_refused_by_name() {
    for (section, key, value) in [
        ("security", "pin_min_length", "3"),
        ("security", "max_failed_logins", "2"),
        ("token", "slot_count", "0"),
        ("token", "label", "\"\""),
        ("audit", "log_level", "\"loud\""),
    ] {
        let world = World::unstarted();
        let header = format!("[{section}]\n");
        world.write_config(&world.standard_config().replace(&header, &format!("{header}{key} = {value}\n")));
        world.refused_start().says(if key == "log_level" { "loud" } else { key });
    }
    let world = World::unstarted();
    world.write_config(&world.standard_config().replace("100000", "99999"));
    world.refused_start().says("pbkdf2_iterations");
}

#[test]
fn a_config_that_others_may_write_is_refused() {
    for mode in [0o666, 0o620, 0o602] {
        let world = World::unstarted();
        fs::set_permissions(world.config(), fs::Permissions::from_mode(mode)).expect("our own file");
        world.refused_start().says("writ");
    }
}

#[test]
fn a_config_that_is_missing_or_is_not_toml_is_refused() {
    let world = World::unstarted();
    world.write_config("this is not [ toml");
    world.refused_start().says("craton_hsm.toml");
    fs::remove_file(world.config()).expect("our own file");
    world.refused_start().says("craton_hsm.toml");
}

#[test]
fn a_bind_beyond_loopback_without_client_certificates_is_refused() {
    let world = World::unstarted();
    let (cert, key) = (world.dir().join("server.pem"), world.dir().join("server.key"));
    if !tools::available("config::a_bind_beyond_loopback_without_client_certificates_is_refused", "openssl") {
        return;
    }
    let new =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=hsm"];
    tools::run(Command::new("openssl").args(new).arg("-keyout").arg(&key).arg("-out").arg(&cert)).ok();
    world.configure(&format!(
        "bind = \"0.0.0.0:0\"\ntls_cert = \"{}\"\ntls_key = \"{}\"\n",
        cert.display(),
        key.display()
    ));
    world.refused_start().says("tls_client_ca");
}

#[test]
fn a_self_test_is_logged_before_the_first_connection() {
    let world = World::blank();
    assert!(world.daemon().log().to_lowercase().contains("self-test"), "{}", world.daemon().log());
}

#[test]
fn sigterm_ends_the_daemon_in_good_order() {
    let mut world = World::start();
    world.stop_daemon();
    assert!(!world.socket().exists(), "the socket should be gone");
    world.start_daemon();
}

//! Identities x calls: what each client of the clients file gets from every call that its row may refuse. The clients come over TCP,
//! each with a certificate of its own; two more come by the Unix socket.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use acceptance::certificates;
use acceptance::port::free_port;
use acceptance::tools::available;
use acceptance::worker::Worker;
use acceptance::world::{Carrier, World};

const CLIENTS: &str = r#"
[[client]]
subject = "CN=signer"
roles = ["use"]
tokens = ["test"]
mechanisms = ["CKM_ECDSA", "CKM_EC_KEY_PAIR_GEN"]
key_labels = ["web-*"]

[[client]]
subject = "CN=keeper"
issuer = "CN=ca"
san = "dns:LOCALHOST"
roles = ["use", "manage"]
tokens = ["te*"]
key_labels = ["web-*"]

[[client]]
subject = "CN=officer"
roles = ["use", "manage", "so"]
tokens = ["*"]

[[client]]
subject = "CN=elsewhere"
roles = ["use", "manage", "so"]
tokens = ["production"]

[[client]]
subject = "CN=watcher"
roles = ["audit-read", "backup", "admin"]
tokens = ["*"]

[[client]]
subject = "CN=unknown"
issuer = "CN=another ca"
roles = ["use"]
tokens = ["*"]
"#;

/// Client, and what it gets: calls that are not named are "ok".
const ROWS: [(&str, &[(&str, &str)]); 6] = [
    (
        "signer",
        &[
            ("ecdsa-sha256", "MechanismInvalid"),
            ("other-key", "unseen"),
            ("token-pair", "TokenWriteProtected"),
            ("token-pair-of-others", "TokenWriteProtected"),
            ("relabel", "unseen"),
            ("destroy", "unseen"),
            ("set-pin", "TokenWriteProtected"),
            ("so", "UserTypeInvalid"),
            ("mechanisms", "few"),
        ],
    ),
    (
        "keeper",
        &[
            ("other-key", "unseen"),
            ("token-pair-of-others", "AttributeValueInvalid"),
            ("relabel", "AttributeValueInvalid"),
            ("so", "UserTypeInvalid"),
            ("mechanisms", "many"),
        ],
    ),
    // Its last step but two gives the key another label, so there is nothing of the old one to destroy.
    ("officer", &[("destroy", "unseen"), ("mechanisms", "many")]),
    ("elsewhere", &[("token", "none")]),
    // Administration is on the Unix socket only, and its roles open no token.
    ("watcher", &[("token", "none")]),
    ("unknown", &[("token", "none")]),
];

const CALLS: [&str; 12] = [
    "login",
    "ecdsa",
    "ecdsa-sha256",
    "other-key",
    "session-pair",
    "token-pair",
    "token-pair-of-others",
    "relabel",
    "destroy",
    "set-pin",
    "so",
    "mechanisms",
];

fn outcomes(worker: &mut Worker) -> BTreeMap<String, String> {
    let said = worker.ok("calls");
    let pairs = said.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect()
}

#[test]
fn each_client_gets_what_its_row_grants_and_nothing_else() {
    if !available("grants::each_client_gets_what_its_row_grants_and_nothing_else", "openssl") {
        return;
    }
    let mut world = World::unstarted_for(Carrier::Express);
    let names: Vec<&str> = ["ca", "server"].into_iter().chain(ROWS.iter().map(|(name, _)| *name)).collect();
    certificates::make(world.dir(), &names);
    let port = free_port();
    world.configure(&format!(
        "bind = \"127.0.0.1:{port}\"\ntls_cert = \"server.pem\"\ntls_key = \"server.key\"\ntls_client_ca = \"ca.pem\"\n\
         clients = \"clients.toml\""
    ));
    world.write_clients(CLIENTS);
    world.start_daemon();
    world.init_token();
    let mut local = Worker::entered(&world);
    local.ok("token-key web-1");
    local.ok("token-key other-1");
    for (name, differing) in ROWS {
        let config = world.dir().join(format!("{name}.toml"));
        let text = format!(
            "[shim]\nendpoint = \"https://127.0.0.1:{port}\"\ntls_ca = \"ca.pem\"\ntls_cert = \"{name}.pem\"\n\
             tls_key = \"{name}.key\"\n"
        );
        fs::write(&config, text).expect("the world's directory is writable");
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("our own file");
        let mut command = world.command(Worker::program());
        let mut worker = Worker::start_with(command.env_remove("CRATON_HSM_SOCKET").env("CRATON_HSM_CONFIG", config));
        let differing: BTreeMap<&str, &str> = differing.iter().copied().collect();
        let outcomes = outcomes(&mut worker);
        if let Some(token) = differing.get("token") {
            assert_eq!(outcomes.get("token").map(String::as_str), Some(*token), "{name}");
            continue;
        }
        for call in CALLS {
            let expected = differing.get(call).copied().unwrap_or("ok");
            assert_eq!(outcomes.get(call).map(String::as_str), Some(expected), "{name}: {call}");
        }
    }
    // Whoever comes by the socket and has no row has what applications had before there were rows.
    assert_eq!(local.ok("count other-1"), "2");
    world.admin(["audit", "verify"]).ok();
}

#[test]
fn a_row_narrows_a_local_user_too() {
    let mut world = World::unstarted_for(Carrier::Express);
    let uid = own_uid();
    world.configure("clients = \"clients.toml\"");
    world.write_clients("");
    world.start_daemon();
    world.init_token();
    world.admin(["key", "list"]).ok();
    world.write_clients(&format!("[[client]]\nuid = {uid}\nroles = [\"audit-read\"]\n"));
    world.stop_daemon();
    world.start_daemon();
    // Its role lets it ask for the state of things, and for nothing that changes or shows them.
    world.admin(["status"]).ok();
    world.admin(["key", "list"]).refused();
    let mut worker = Worker::start(&world);
    assert_eq!(worker.ok("calls"), "token=none");
}

#[test]
fn whoever_may_back_up_may_seal_a_backup_s_pin_and_nothing_more() {
    let mut world = World::unstarted_for(Carrier::Express);
    world.configure("clients = \"clients.toml\"\nplain_secrets = false");
    world.write_clients("");
    world.start_daemon();
    world.init_token();
    world.write_clients(&format!("[[client]]\nuid = {}\nroles = [\"backup\"]\n", own_uid()));
    world.stop_daemon();
    world.start_daemon();
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "by-role.enc"]).ok();
    world.admin(["pin", "change", "--pin", "env:PIN", "--new-pin", "env:PIN"]).refused();
    world.admin(["key", "list", "--pin", "env:PIN"]).refused();
    world.admin(["token", "rotate-key", "--pin", "env:SO_PIN"]).refused();
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

//! A second daemon as the witness of a first one's journal: what it holds, what it refuses, and whom.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use acceptance::certificates;
use acceptance::port::free_port;
use acceptance::tools::available;
use acceptance::world::{Carrier, World};

/// How long a checkpoint may need from one daemon to the other. A witness is told every ten seconds at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// The daemon that is witnessed; it will show its checkpoints to `witness`, with two signatures or one.
fn origin(witness: &str, both: bool, more: &str) -> World {
    let world = World::unstarted_for(Carrier::Express);
    let told = format!("[audit]\npost_quantum = {both}\nwitness = [\"daemon:{witness}\"]\n");
    world.write_config(&format!("{}{more}", world.standard_config().replacen("[audit]\n", &told, 1)));
    world
}

/// The table by which a daemon becomes the witness of another.
fn watches(origin: &str, key: &str) -> String {
    format!("\n[[witness.journal]]\norigin = \"{origin}\"\nkeys = [\"{key}\"]\n")
}

fn name_and_key(world: &World) -> (String, String) {
    let keys = world.admin_json(["audit", "key"]);
    let text = |name: &str| keys[name].as_str().expect("a text").to_owned();
    (text("origin"), text("first"))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// How many records the checkpoint covers that the witness holds; 0 while it holds none.
fn held(witness: &World, origin: &str) -> u64 {
    let note = witness.admin(["audit", "witnessed", "--origin", origin]).ok().text();
    note.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or_default()
}

/// What the witness holds, as a file for `audit verify`.
fn exported(witness: &World, origin: &str) -> String {
    let path = witness.dir().join("witnessed");
    fs::write(&path, witness.admin(["audit", "witnessed", "--origin", origin]).ok().text()).expect("our own directory");
    path.to_str().expect("a plain path").to_owned()
}

/// Store and journal of a world whose daemon does not run.
fn state(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let files = |dir: &Path| -> Vec<PathBuf> {
        let all = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
        all.filter(|path| path.is_file()).collect()
    };
    let journal = files(world.dir())
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("audit")));
    let all = journal.chain(files(&world.store()));
    all.map(|path| (path.clone(), fs::read(path).expect("our own file"))).collect()
}

#[test]
fn a_store_and_journal_that_were_rolled_back_are_found_by_what_another_daemon_holds() {
    let mut witness = World::unstarted_for(Carrier::Express);
    let socket = witness.socket();
    let mut first = origin(&format!("unix:{}", socket.display()), true, "");
    // The witness is not there yet: nothing waits for it.
    first.start_daemon();
    first.init_token();
    let (name, key) = name_and_key(&first);
    assert_eq!(key.len(), 128, "a key of two halves");
    until("the log names the witness that is away", || first.daemon().log().contains("could not be told"));
    let metrics = first.admin(["metrics"]).ok().text();
    assert!(!metrics.contains("craton_hsm_witness_failures_total 0"), "{metrics}");
    witness.configure(&watches(&name, &key));
    witness.start_daemon();
    until("the witness holds a checkpoint", || held(&witness, &name) > 0);
    first.stop_daemon();
    let yesterday = state(&first);
    let before = held(&witness, &name);
    let file = exported(&witness, &name);
    first.admin(["audit", "verify", "--key", &key, "--witness", &file]).ok();
    first.start_daemon();
    first.admin(["token", "rotate-key", "--pin", "env:SO_PIN", "--user-pin", "env:PIN"]).ok();
    first.stop_daemon();
    // The last checkpoint was told after the journal was closed.
    let size = held(&witness, &name);
    assert!(size > before, "{size} records, {before} before");
    let file = exported(&witness, &name);
    first.admin(["audit", "verify", "--key", &key, "--witness", &file]).ok();
    for (path, bytes) in yesterday {
        fs::write(path, bytes).expect("our own file");
    }
    first.admin(["audit", "verify", "--key", &key]).ok();
    first.admin(["audit", "verify", "--key", &key, "--witness", &file]).refused().says("a witness kept");
    first.start_daemon();
    until("the witness's refusal stands in the log", || first.daemon().log().contains("the journal was "));
    assert_eq!(held(&witness, &name), size, "what was witnessed stays");
    let journal = fs::read_to_string(witness.journal()).expect("the witness's journal");
    let of = |rv: &str| {
        let said = "\"op\":\"witness_checkpoint\"";
        journal.lines().filter(|line| line.contains(said) && line.contains(&name) && line.contains(rv)).count()
    };
    assert!(of("\"rv\":\"CKR_OK\"") >= 2 && of("\"rv\":\"CKR_DATA_INVALID\"") >= 1, "{journal}");
    // It survives a restart, and a damaged copy is not taken for none.
    witness.stop_daemon();
    witness.start_daemon();
    assert_eq!(held(&witness, &name), size);
    let mut files = fs::read_dir(witness.dir().join("witness")).expect("the witness's directory");
    let file = files.next().expect("one journal is witnessed").expect("an entry").path();
    fs::write(file, "").expect("our own file");
    witness.admin(["audit", "witnessed"]).refused().says("damaged");
}

#[test]
fn over_tcp_only_whom_the_clients_file_gives_the_role_shows_checkpoints_and_only_true_ones_are_taken() {
    let test =
        "witness::over_tcp_only_whom_the_clients_file_gives_the_role_shows_checkpoints_and_only_true_ones_are_taken";
    if !available(test, "openssl") {
        return;
    }
    let mut witness = World::unstarted_for(Carrier::Express);
    certificates::make(witness.dir(), &["ca", "server", "origin", "plain"]);
    let port = free_port();
    let mut first = origin(
        &format!("https://127.0.0.1:{port}"),
        false,
        &["[witness]", "tls_ca = \"ca.pem\"", "tls_cert = \"me.pem\"", "tls_key = \"me.key\"\n"].join("\n"),
    );
    let made = witness.dir().to_owned();
    let identity = |world: &World, name: &str| {
        for (from, to) in [("ca.pem", "ca.pem"), (&format!("{name}.pem"), "me.pem"), (&format!("{name}.key"), "me.key")]
        {
            fs::copy(made.join(from), world.dir().join(to)).expect("our own file");
        }
    };
    identity(&first, "plain");
    first.start_daemon();
    first.init_token();
    let (name, key) = name_and_key(&first);
    let listen = format!(
        "bind = \"127.0.0.1:{port}\"\ntls_cert = \"server.pem\"\ntls_key = \"server.key\"\ntls_client_ca = \"ca.pem\"\n\
         clients = \"clients.toml\"\n"
    );
    witness.write_clients(
        "[[client]]\nsubject = \"CN=origin\"\nroles = [\"witness\"]\n\
         [[client]]\nany_certificate = true\nroles = [\"use\", \"manage\", \"so\"]\ntokens = [\"*\"]\n",
    );
    // The name of a journal with another's key: what it shows is taken for forged.
    witness.configure(&format!("{listen}{}", watches(&name, &"07".repeat(32))));
    witness.start_daemon();
    until("a client without the role is refused", || first.daemon().log().contains("does not have the role"));
    identity(&first, "origin");
    first.stop_daemon();
    first.start_daemon();
    until("a checkpoint by another key is refused", || {
        first.daemon().log().contains("not signed by the journal's key")
    });
    assert_eq!(held(&witness, &name), 0);
    witness.stop_daemon();
    witness.configure(&format!("{listen}{}", watches("craton-hsm/another", &key)));
    witness.start_daemon();
    first.stop_daemon();
    first.start_daemon();
    until("a journal that nobody watches is refused", || first.daemon().log().contains("no witness of that journal"));
    witness.stop_daemon();
    witness.configure(&format!("{listen}{}", watches(&name, &key)));
    witness.start_daemon();
    until("the witness holds a checkpoint", || held(&witness, &name) > 0);
    let file = exported(&witness, &name);
    first.admin(["audit", "verify", "--key", &key, "--witness", &file]).ok();
    let journal = fs::read_to_string(witness.journal()).expect("the witness's journal");
    assert!(journal.contains("\"subject\":\"CN=origin\""), "the record says who showed it");
    witness.admin(["audit", "verify"]).ok();
}

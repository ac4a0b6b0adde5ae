//! The PKI on our token. The tenant's own tests run wherever PKCS#11 leads (SoftHSM2 by default); here it meets the token that it
//! will live on, and what happens to one when the other is restarted.

mod alerts;
mod clock;
mod kill;
mod post_quantum;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use acceptance::daemon::binary;
use acceptance::port::free_port;
use acceptance::tools::{Finished, available, run, run_with_input};
use acceptance::world::{LABEL, PIN, World};
use acceptance::{module, page};

/// Days for which the root, the issuing authority and devices are good.
const DAYS: [u32; 3] = [100, 50, 10];

/// A PKI in the world's directory, its keys in the world's token.
struct Pki {
    /// What its programs find in their environment.
    environment: Vec<(&'static str, PathBuf)>,
    config: PathBuf,
    state: PathBuf,
    est: String,
    crl: String,
    server: Option<Child>,
}

impl Pki {
    /// Founds it; `serve` comes separately.
    fn found(world: &World) -> Pki {
        Pki::found_with(world, "")
    }

    /// The same with more lines of configuration.
    fn found_with(world: &World, more: &str) -> Pki {
        Pki::found_keyed(world, "ec:P-256", more)
    }

    /// The same with another kind of key for the issuing authority.
    fn found_keyed(world: &World, issuing_key: &str, more: &str) -> Pki {
        Pki::found_for(world, issuing_key, DAYS, more, Vec::new())
    }

    /// The same for other times, and with an environment.
    fn found_for(
        world: &World,
        issuing_key: &str,
        [root_days, issuing_days, device_days]: [u32; 3],
        more: &str,
        environment: Vec<(&'static str, PathBuf)>,
    ) -> Pki {
        let (config, state) = (world.dir().join("craton_pki.toml"), world.dir().join("pki"));
        let (est, crl) = (free_address(), free_address());
        let text = format!(
            "[token]\nmodule = \"{}\"\nlabel = \"{LABEL}\"\npin = \"file:pki.pin\"\n[store]\nstate_dir = \"{}\"\n\
             [ca.root]\nsubject = \"CN=Root\"\nkey = \"ec:P-384\"\nvalidity_days = {root_days}\n\
             [ca.issuing]\nsubject = \"CN=Issuing\"\nkey = \"{issuing_key}\"\nvalidity_days = {issuing_days}\n\
             [profiles.device]\nvalidity_days = {device_days}\n\
             [est]\nlisten = \"{est}\"\nhost_names = [\"localhost\"]\naddresses = [\"127.0.0.1\"]\n\
             [crl]\nlisten = \"{crl}\"\nbase_url = \"http://{crl}\"\n{more}\n",
            module::path().display(),
            state.display()
        );
        for (file, content) in [(&config, text), (&world.dir().join("pki.pin"), PIN.to_owned())] {
            fs::write(file, content).expect("the world's directory is writable");
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("our own file");
        }
        let (est, crl) = (format!("https://{est}/.well-known/est"), format!("http://{crl}"));
        let pki = Pki { environment, config, state, est, crl, server: None };
        pki.command(world, &["init"]).ok();
        pki
    }

    fn command(&self, world: &World, args: &[&str]) -> Finished {
        let mut command = world.command(binary("craton-pki"));
        run(command.envs(self.environment.iter().cloned()).arg("--config").arg(&self.config).args(args))
    }

    fn json(&self, world: &World, args: &[&str]) -> serde_json::Value {
        let answer = self.command(world, &[&["--json"], args].concat()).ok();
        serde_json::from_slice(&answer.stdout).unwrap_or_else(|e| panic!("{answer}\nis not JSON: {e}"))
    }

    /// Serves, and waits for the EST door.
    fn serve(&mut self, world: &World) {
        self.serve_until(world, &[]);
    }

    /// The same for who does not believe the server's certificate.
    fn serve_unbelieved(&mut self, world: &World) {
        self.serve_until(world, &["--insecure"]);
    }

    fn serve_until(&mut self, world: &World, curl: &[&str]) {
        let log = fs::File::options().create(true).append(true).open(world.dir().join("pki.log")).expect("a log");
        let mut command = world.command(binary("craton-pki"));
        command.envs(self.environment.iter().cloned());
        command.arg("--config").arg(&self.config).arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.server = Some(command.spawn().expect("craton-pki starts"));
        let deadline = Instant::now() + Duration::from_secs(180);
        while !self.curl(&[curl, &["-o", "/dev/null"]].concat(), "cacerts").status.success() {
            let log = || fs::read_to_string(world.dir().join("pki.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "craton-pki does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().ok();
            server.wait().ok();
        }
    }

    fn curl(&self, args: &[&str], operation: &str) -> Finished {
        let root = self.state.join("root.pem");
        run(Command::new("curl")
            .args(["-sS", "--fail-with-body", "--cacert"])
            .arg(root)
            .args(args)
            .arg(format!("{}/{operation}", self.est)))
    }

    /// The files of a device: its key, its request, its certificate.
    fn files(world: &World, name: &str) -> [PathBuf; 3] {
        ["key", "b64", "pem"].map(|ending| world.dir().join(name).with_extension(ending))
    }

    /// Makes a key for a device, and its request.
    fn request(world: &World, name: &str) {
        let [key, csr, _] = Pki::files(world, name);
        let subject = format!("/CN={name}");
        let new = [
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &subject,
            "-outform",
            "DER",
        ];
        let der = run(Command::new("openssl").args(new).arg("-keyout").arg(&key)).ok().stdout;
        fs::write(&csr, data_encoding::BASE64_MIME.encode(&der)).expect("the world's directory is writable");
    }

    /// A credential for a first enrolment, as curl takes it.
    fn credential(&self, world: &World) -> String {
        let credential = self.json(world, &["bootstrap", "new"]);
        let text = |field: &str| credential[field].as_str().expect("a credential").to_owned();
        format!("{}:{}", text("username"), text("password"))
    }

    /// Asks for a certificate with the request of a device, and with more arguments for curl.
    fn ask(&self, world: &World, name: &str, operation: &str, more: &[&str]) -> Finished {
        let [_, csr, _] = Pki::files(world, name);
        let body = format!("@{}", csr.display());
        let common = ["-H", "Content-Type: application/pkcs10", "--data-binary", &body];
        self.curl(&[&common, more].concat(), operation)
    }

    /// Enrols a new device by a bootstrap credential; gives its certificate as PEM.
    fn enrol(&self, world: &World, name: &str) -> PathBuf {
        Pki::request(world, name);
        let credential = self.credential(world);
        self.keep(world, name, &self.ask(world, name, "simpleenroll", &["-u", &credential]).ok())
    }

    /// Keeps the certificate of an answer; gives its file.
    fn keep(&self, world: &World, name: &str, answer: &Finished) -> PathBuf {
        let [_, _, certificate] = Pki::files(world, name);
        let der = run_with_input(Command::new("openssl").args(["base64", "-d"]), &answer.stdout).ok().stdout;
        let pem = run_with_input(Command::new("openssl").args(["pkcs7", "-inform", "DER", "-print_certs"]), &der).ok();
        fs::write(&certificate, pem.stdout).expect("the world's directory is writable");
        certificate
    }

    fn verify(&self, certificate: &Path) -> Finished {
        let file = |name: &str| self.state.join(name);
        run(Command::new("openssl")
            .args(["verify", "-CAfile"])
            .arg(file("root.pem"))
            .arg("-untrusted")
            .arg(file("issuing.pem"))
            .arg(certificate))
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn tools_for(test: &str) -> bool {
    ["openssl", "curl", "pkcs11-tool"].iter().all(|tool| available(test, tool))
}

#[test]
fn a_device_enrols_and_every_key_of_the_pki_stays_in_our_token() {
    if !tools_for("a_device_enrols_and_every_key_of_the_pki_stays_in_our_token") {
        return;
    }
    let world = World::start();
    let mut pki = Pki::found(&world);
    pki.serve(&world);
    let certificate = pki.enrol(&world, "sensor-1");
    pki.verify(&certificate).ok().says("OK");
    let keys = world.admin_json(["key", "list", "--pin", "env:PIN"]);
    let rows = keys.as_array().cloned().unwrap_or_else(|| keys["keys"].as_array().cloned().expect("a list of keys"));
    let private: Vec<_> = rows.iter().filter(|key| key["class"] == "private_key").collect();
    // The OCSP signers and the journal's key are made while it serves.
    let mut labels: Vec<&str> = private.iter().filter_map(|key| key["label"].as_str()).collect();
    labels.sort_unstable();
    let expected = ["internal", "issuing", "journal", "ocsp-internal", "ocsp-issuing", "ocsp-root", "root", "server"];
    assert_eq!(labels, expected.map(|name| format!("craton-pki-{name}")), "{keys}");
    for key in private {
        assert_eq!(
            (&key["sensitive"], &key["extractable"], &key["local"]),
            (&true.into(), &false.into(), &true.into()),
            "{key}"
        );
    }
}

#[test]
fn the_pki_goes_on_when_the_daemon_was_restarted() {
    if !tools_for("the_pki_goes_on_when_the_daemon_was_restarted") {
        return;
    }
    let mut world = World::start();
    let mut pki = Pki::found(&world);
    pki.serve(&world);
    let before = pki.enrol(&world, "sensor-1");
    world.crash_and_restart();
    let after = pki.enrol(&world, "sensor-2");
    for certificate in [before, after] {
        pki.verify(&certificate).ok().says("OK");
    }
    let devices = pki.json(&world, &["device", "list"]);
    assert!(devices.to_string().contains("sensor-2"), "{devices}");
}

/// The lines of a reconciliation by authority, and whether it succeeded.
fn reconcile(pki: &Pki, world: &World, more: &[&str]) -> (bool, serde_json::Value) {
    let finished = pki.command(world, &[&["--json", "reconcile"], more].concat());
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    // A refusal follows the report.
    let report = serde_json::Deserializer::from_str(&text).into_iter().next();
    (finished.status.success(), report.expect("a report").unwrap_or_else(|e| panic!("{e}: {text}")))
}

fn line<'a>(report: &'a serde_json::Value, authority: &str) -> &'a serde_json::Value {
    let items = report["items"].as_array().expect("items");
    items.iter().find(|item| item["id"] == authority).unwrap_or_else(|| panic!("no {authority}: {report}"))
}

#[test]
fn every_signature_of_an_authority_is_accounted_for_over_kills_of_both() {
    let test = "every_signature_of_an_authority_is_accounted_for_over_kills_of_both";
    if !tools_for(test) {
        return;
    }
    let mut world = World::start();
    let mut pki = Pki::found(&world);
    for round in 0..6u64 {
        pki.serve(&world);
        pki.enrol(&world, &format!("sensor-{round}"));
        let pid = pki.server.as_ref().expect("a server").id().to_string();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (pki, world, stop) = (&pki, &world, &stop);
            scope.spawn(move || {
                // Each asks the server for a list.
                while !stop.load(Ordering::SeqCst) {
                    pki.command(world, &["crl", "--renew"]);
                }
            });
            std::thread::sleep(Duration::from_millis(150 + 37 * round));
            stop.store(true, Ordering::SeqCst);
            // The process id is that of the server this test started and has not yet waited for.
            run(Command::new("kill").args(["-9", &pid])).ok();
        });
        if let Some(mut server) = pki.server.take() {
            server.wait().expect("it was killed");
        }
        if round % 2 == 1 {
            world.crash_and_restart();
        }
        let (agrees, report) = reconcile(&pki, &world, &[]);
        assert!(agrees, "round {round}: {report}");
        assert!(line(&report, "issuing")["token_count"].as_u64() > Some(round), "{report}");
    }
}

#[test]
fn a_signature_that_the_pki_did_not_ask_for_is_found() {
    if !tools_for("a_signature_that_the_pki_did_not_ask_for_is_found") {
        return;
    }
    let world = World::start();
    let mut pki = Pki::found(&world);
    pki.serve(&world);
    let certificate = pki.enrol(&world, "sensor-1");
    pki.server.take().map(|mut server| (server.kill(), server.wait()));
    assert!(reconcile(&pki, &world, &[]).0);
    // Somebody with the PIN signs by the module: what the authority may sign is signed and counted, another authority is refused.
    let keys = world.admin_json(["key", "list", "--pin", "env:PIN"]);
    let rows = keys.as_array().cloned().unwrap_or_else(|| keys["keys"].as_array().cloned().expect("a list of keys"));
    let id_of = |label: &str| {
        let key = rows.iter().find(|key| key["class"] == "private_key" && key["label"] == label);
        key.and_then(|key| key["id_hex"].as_str()).unwrap_or_else(|| panic!("{keys}")).to_owned()
    };
    let (id, responder) = (id_of("craton-pki-issuing"), id_of("craton-pki-ocsp-issuing"));
    let sign_by = |id: &str, certificate: &Path| {
        let (tbs, signature) = (world.dir().join("stolen.tbs"), world.dir().join("stolen.sig"));
        run(Command::new("openssl")
            .args(["asn1parse", "-strparse", "4", "-noout", "-in"])
            .arg(certificate)
            .arg("-out")
            .arg(&tbs))
        .ok();
        let arguments = ["--sign", "--mechanism", "ECDSA-SHA256", "--id", id, "--input-file"];
        let mut all: Vec<String> = arguments.map(str::to_owned).to_vec();
        all.extend([tbs.display().to_string(), "--output-file".to_owned(), signature.display().to_string()]);
        world.pkcs11_tool_login(all)
    };
    let sign = |certificate: &Path| sign_by(&id, certificate);
    assert!(!sign(&pki.state.join("root.pem")).status.success(), "a certificate of another authority");
    assert!(!sign_by(&responder, &certificate).status.success(), "a responder certifies nobody");
    assert!(reconcile(&pki, &world, &[]).0, "a refusal is no signature");
    sign(&certificate).ok();
    let (agrees, report) = reconcile(&pki, &world, &[]);
    assert_eq!((agrees, &line(&report, "issuing")["state"]), (false, &"unaccounted".into()), "{report}");
    assert_eq!(line(&report, "issuing")["difference"], 1, "{report}");
    assert_eq!(line(&report, "root")["state"], "agrees", "{report}");
    assert!(!reconcile(&pki, &world, &[]).0, "it is found again");
    // A server that runs finds it too, and serves.
    pki.serve(&world);
    let (agrees, report) = reconcile(&pki, &world, &[]);
    assert_eq!((agrees, &line(&report, "issuing")["difference"]), (false, &1.into()), "{report}");
    let health = pki.json(&world, &["health"]);
    assert_eq!((&health["status"], &health["signatures_unaccounted"]["issuing"]), (&"degraded".into(), &1.into()));
    pki.enrol(&world, "sensor-2");
    pki.server.take().map(|mut server| (server.kill(), server.wait()));
    assert!(reconcile(&pki, &world, &["--accept"]).0);
    assert!(reconcile(&pki, &world, &[]).0);
    let journal = pki.json(&world, &["journal", "list", "--limit", "1000"]);
    assert!(journal.to_string().contains("\\\"accepted\\\":true"), "{journal}");
}

/// One bundle for the whole: taken while both run, it makes the PKI again. And what craton-pki seals itself, the token's tool opens.
#[test]
fn a_bundle_holds_the_store_of_a_running_pki_and_the_tools_open_each_others_archives() {
    if !tools_for("a_bundle_holds_the_store_of_a_running_pki_and_the_tools_open_each_others_archives") {
        return;
    }
    let world = World::start();
    let mut pki = Pki::found(&world);
    pki.serve(&world);
    let certificate = pki.enrol(&world, "sensor-1");
    let config = pki.config.display().to_string();
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "b", "--bundle", "--pki", &config]).ok();
    let left: Vec<_> = fs::read_dir(world.dir())
        .expect("the world's directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(".pki-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    fs::write(world.dir().join("phrase"), "correct horse battery").expect("the world's directory is writable");
    fs::set_permissions(world.dir().join("phrase"), fs::Permissions::from_mode(0o600)).expect("our own file");
    let phrase = format!("file:{}", world.dir().join("phrase").display());
    let own = world.dir().join("own.backup").display().to_string();
    pki.command(&world, &["backup", "--passphrase", &phrase, "--output", &own]).ok();
    world.admin(["backup", "verify", &own, "--passphrase", &phrase]).ok();
    world.admin(["backup", "extract", &own, "--directory", "own", "--passphrase", &phrase]).ok();
    world.admin(["backup", "extract", "b.files", "--directory", "out", "--pin", "env:SO_PIN"]).ok();
    let kept = fs::read_to_string(world.dir().join("out/pki/craton_pki.toml")).expect("extracted");
    assert_eq!(kept, fs::read_to_string(&pki.config).expect("the configuration"));
    // A PIN that stands in the configuration does not travel.
    let inline = pki.config.with_file_name("inline.toml");
    fs::write(&inline, kept.replace("\"file:pki.pin\"", "\"98765432\" # mine")).expect("our own directory");
    fs::set_permissions(&inline, fs::Permissions::from_mode(0o600)).expect("our own file");
    let inline = inline.display().to_string();
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "c", "--bundle", "--pki", &inline]).ok();
    world.admin(["backup", "extract", "c.files", "--directory", "clean", "--pin", "env:SO_PIN"]).ok();
    let clean = fs::read_to_string(world.dir().join("clean/pki/craton_pki.toml")).expect("extracted");
    assert!(!clean.contains("98765432") && clean.contains("# mine") && clean.contains("label ="), "{clean}");
    // The state is gone with its disk; the token is there.
    pki.stop();
    fs::rename(&pki.state, world.dir().join("lost")).expect("our own directory");
    for image in ["out/pki/store.image", "own/craton-pki/store.image"] {
        let image = world.dir().join(image).display().to_string();
        pki.command(&world, &["restore", "--input", &image, "--replace"]).ok();
    }
    pki.command(&world, &["serve"]).refused();
    pki.command(&world, &["reconcile", "--accept"]).ok();
    for name in ["root.pem", "issuing.pem", "chain.pem"] {
        fs::copy(world.dir().join("lost").join(name), pki.state.join(name)).expect("our own directory");
    }
    pki.serve(&world);
    pki.verify(&certificate).ok().says("OK");
    let devices = pki.json(&world, &["device", "list"]);
    assert!(devices.to_string().contains("sensor-1"), "{devices}");
    pki.enrol(&world, "sensor-2");
}

/// docs/recovery.md, its last section: from a bundle that lies on a host with nothing to a PKI that enrols again.
#[test]
fn after_a_disaster_the_page_leads_back_to_a_pki_that_enrols() {
    if !tools_for("after_a_disaster_the_page_leads_back_to_a_pki_that_enrols") {
        return;
    }
    let lost = World::start();
    let mut pki = Pki::found(&lost);
    pki.serve(&lost);
    let certificate = pki.enrol(&lost, "sensor-1");
    let config = pki.config.display().to_string();
    lost.admin(["backup", "--pin", "env:SO_PIN", "--output", "b", "--bundle", "--pki", &config]).ok();
    // The host is gone. Its addresses are the new one's, and devices know the root.
    pki.stop();
    let mut world = World::unstarted();
    let dir = world.dir().to_owned();
    let here = |path: &Path| dir.join(path.file_name().expect("a name"));
    let text = fs::read_to_string(&pki.config).expect("the configuration");
    let moved = text.replace(&lost.dir().display().to_string(), &world.dir().display().to_string());
    for (file, content) in [(here(&pki.config), moved), (here(Path::new("pki.pin")), PIN.to_owned())] {
        fs::write(&file, content).expect("the world's directory is writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("our own file");
    }
    let host = page::Host::of(&world);
    let page = page::document("recovery.md");
    let (_, section) = page.split_once("## After a disaster").expect("the section");
    // Its services end with the page.
    let mut variables = host.variables();
    variables.extend([("BUNDLE", lost.dir().join("b")), ("PKI_CONFIG", here(&pki.config))]);
    page::run_text(&world, "recovery.md", &host.told(section), &variables);
    world.start_daemon();
    let mut back = Pki {
        config: here(&pki.config),
        state: here(&pki.state),
        est: pki.est.clone(),
        crl: pki.crl.clone(),
        environment: Vec::new(),
        server: None,
    };
    for name in ["root.pem", "issuing.pem", "chain.pem"] {
        fs::copy(pki.state.join(name), back.state.join(name)).expect("what devices know");
    }
    back.serve(&world);
    back.verify(&certificate).ok().says("OK");
    let fresh = back.enrol(&world, "sensor-2");
    back.verify(&fresh).ok().says("OK");
    let devices = back.json(&world, &["device", "list"]).to_string();
    assert!(devices.contains("sensor-1") && devices.contains("sensor-2"), "{devices}");
}

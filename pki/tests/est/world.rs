//! A world for one test: a token, a configuration, a running server and a device's tools. Everything lies in a temporary
//! folder and ends with the test.

pub(crate) use crate::port::free_port;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "1234";

/// What a test may choose.
pub(crate) struct Choice {
    pub(crate) root_key: &'static str,
    pub(crate) issuing_key: &'static str,
    pub(crate) server_key: &'static str,
    pub(crate) profile: &'static str,
    /// Further lines of `[crl]`.
    pub(crate) crl: &'static str,
    /// Further lines at the end of the configuration.
    pub(crate) more: &'static str,
}

impl Default for Choice {
    fn default() -> Self {
        Self { root_key: "ec:P-384", issuing_key: "ec:P-256", server_key: "ec:P-256", profile: "", crl: "", more: "" }
    }
}

/// The world.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    server: Option<Child>,
    pub(crate) est_port: u16,
    pub(crate) crl_port: u16,
    pub(crate) api_port: u16,
    pub(crate) environment: Vec<(String, String)>,
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header field, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let line = self.headers.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    }

    /// Status and stable reason code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.header("x-craton-reason").unwrap_or_default())
    }
}

/// A bootstrap credential.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub(crate) name: String,
    pub(crate) secret: String,
}

/// Whether a tool can be run.
pub(crate) fn is_there(tool: &str, argument: &str) -> bool {
    Command::new(tool).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Python with a module, from the tools' environment or from the system; none when it is missing, which is said.
pub(crate) fn python(test: &str, module: &str) -> Option<String> {
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/python");
    let import = format!("import {module}");
    let has = |python: &&str| {
        let status = Command::new(python).args(["-c", &import]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let found = [ours, "python3"].into_iter().find(has);
    if found.is_none() {
        println!("SKIPPED {test}: python module {module} not found");
    }
    found.map(str::to_owned)
}

impl World {
    /// A world with an initialised PKI and a running server; none when a tool is missing, which is said.
    pub(crate) fn new(test: &str, choice: &Choice) -> Option<Self> {
        let mut world = Self::bare(test, choice)?;
        world.done(&["init"]);
        world.serve();
        Some(world)
    }

    /// A world with a token and a configuration.
    pub(crate) fn bare(test: &str, choice: &Choice) -> Option<Self> {
        for (tool, argument) in [("openssl", "version"), ("curl", "--version")] {
            if !is_there(tool, argument) {
                println!("SKIPPED {test}: {tool} not found");
                return None;
            }
        }
        let dir = tempfile::tempdir().expect("temporary folder");
        let given = |name| std::env::var(name).ok();
        let (module, label, environment) = match (given("PKCS11_MODULE"), given("TOKEN_LABEL"), given("PIN")) {
            (Some(module), Some(label), Some(pin)) => (module, label, vec![("CRATON_PKI_PIN".to_owned(), pin)]),
            _ if !Path::new(SOFTHSM).exists() || !is_there("softhsm2-util", "--version") => {
                println!("SKIPPED {test}: softhsm2 not found");
                return None;
            }
            _ => (SOFTHSM.to_owned(), "pki".to_owned(), soft_token(dir.path())),
        };
        let world = Self {
            server: None,
            est_port: free_port(),
            crl_port: free_port(),
            api_port: free_port(),
            environment,
            dir,
        };
        std::fs::write(world.path("pki.toml"), world.configuration(&module, &label, choice)).expect("configuration");
        Some(world)
    }

    fn configuration(&self, module: &str, label: &str, choice: &Choice) -> String {
        let Choice { root_key, issuing_key, server_key, profile, crl: crl_lines, more } = choice;
        let (est, crl, api) = (self.est_port, self.crl_port, self.api_port);
        format!(
            r#"
            [token]
            module = "{module}"
            label = "{label}"
            pin = "env:CRATON_PKI_PIN"
            key_label_prefix = "test-{est}-{crl}-{api}"
            [store]
            state_dir = "state"
            [ca.root]
            subject = "CN=Test Root,O=Craton"
            key = "{root_key}"
            validity_days = 7300
            [ca.issuing]
            subject = "CN=Test Issuing,O=Craton"
            key = "{issuing_key}"
            validity_days = 3650
            [profiles.device]
            validity_days = 90
            dns_suffixes = ["devices.example"]
            {profile}
            [est]
            listen = "127.0.0.1:{est}"
            host_names = ["localhost"]
            addresses = ["127.0.0.1"]
            server_key = "{server_key}"
            [est.labels]
            line-1 = "device"
            [crl]
            listen = "127.0.0.1:{crl}"
            base_url = "http://127.0.0.1:{crl}"
            {crl_lines}
            [api]
            listen = "127.0.0.1:{api}"
            [log]
            format = "json"
            {more}
            "#
        )
    }

    /// Module and label of the token.
    pub(crate) fn token(&self) -> (String, String) {
        let text = self.text("pki.toml");
        let value = |key: &str| {
            let line = text.lines().find(|line| line.trim().starts_with(&format!("{key} = "))).expect("a key");
            line.split('"').nth(1).expect("a value").to_owned()
        };
        (value("module"), value("label"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect(name)
    }

    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_craton-pki"));
        command.env("CRATON_PKI_CONFIG", self.path("pki.toml")).env_remove("RUST_LOG");
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Runs craton-pki.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.program().args(arguments).output().expect("craton-pki runs")
    }

    /// Runs craton-pki with `--json`, which must succeed, and gives its answer.
    pub(crate) fn done(&self, arguments: &[&str]) -> Value {
        let output = self.program().args(arguments).arg("--json").output().expect("craton-pki runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        serde_json::from_str(&out).expect("JSON")
    }

    /// Runs craton-pki, which must refuse with this sentence.
    pub(crate) fn refused(&self, arguments: &[&str], sentence: &str) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(sentence), "{arguments:?}: {said}");
    }

    /// Starts the server and waits until it is ready.
    pub(crate) fn serve(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("log");
        let before = self.ready_lines();
        let mut server = self.program().arg("serve").stderr(log).stdout(Stdio::null()).spawn().expect("server starts");
        let deadline = Instant::now() + Duration::from_secs(300);
        while self.ready_lines() == before {
            let ended = server.try_wait().expect("server status");
            assert!(ended.is_none() && Instant::now() < deadline, "server not ready: {}", self.text("log"));
            std::thread::sleep(Duration::from_millis(20));
        }
        self.server = Some(server);
    }

    fn ready_lines(&self) -> usize {
        std::fs::read_to_string(self.path("log")).unwrap_or_default().matches("\"event\":\"ready\"").count()
    }

    /// Starts `init` and kills it after a while. Its exit status if it had ended before.
    pub(crate) fn init_killed_after(&self, delay: Duration) -> Option<std::process::ExitStatus> {
        let mut init = self.program().arg("init").stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("starts");
        std::thread::sleep(delay);
        let ended = init.try_wait().expect("status");
        if ended.is_none() {
            init.kill().expect("kill");
            init.wait().expect("wait");
        }
        ended
    }

    /// Kills the server as a power failure would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("kill");
            server.wait().expect("wait");
        }
    }

    /// Process id of the running server.
    pub(crate) fn pid(&self) -> u32 {
        self.server.as_ref().expect("a running server").id()
    }

    /// Asks the server to stop, and gives its exit status.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let mut server = self.server.take().expect("a running server");
        let killed = Command::new("kill").arg(server.id().to_string()).status().expect("kill runs");
        assert!(killed.success());
        server.wait().expect("wait")
    }

    /// Runs a tool in the folder; it must succeed.
    pub(crate) fn tool(&self, tool: &str, arguments: &[&str]) -> Vec<u8> {
        let output = self.try_tool(tool, arguments);
        assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Runs a tool in the folder.
    pub(crate) fn try_tool(&self, tool: &str, arguments: &[&str]) -> Output {
        Command::new(tool).args(arguments).current_dir(self.dir.path()).stdin(Stdio::null()).output().expect(tool)
    }

    /// Runs openssl in the folder; it must succeed.
    pub(crate) fn openssl(&self, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.tool("openssl", arguments)).into_owned()
    }

    /// Makes `NAME.key` (P-256) and `NAME.b64`, a request for it with this subject.
    pub(crate) fn request(&self, name: &str, subject: &str, more: &[&str]) {
        let key = format!("{name}.key");
        if !self.path(&key).exists() {
            self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key]);
        }
        self.request_for_key(name, subject, more);
    }

    /// Makes `NAME.b64`, a request with the key in `NAME.key`. An empty subject leaves it to a `-config` in `more`.
    pub(crate) fn request_for_key(&self, name: &str, subject: &str, more: &[&str]) {
        let (key, der, b64) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.b64"));
        let mut arguments = vec!["req", "-new", "-key", &key, "-outform", "DER", "-out", &der];
        if !subject.is_empty() {
            arguments.extend(["-subj", subject]);
        }
        arguments.extend(more);
        self.openssl(&arguments);
        self.openssl(&["base64", "-in", &der, "-out", &b64]);
    }

    /// A new bootstrap credential.
    pub(crate) fn credential(&self, more: &[&str]) -> Credential {
        let answer = self.done(&[&["bootstrap", "new"], more].concat());
        let word = |key: &str| answer.get(key).and_then(Value::as_str).expect(key).to_owned();
        Credential { name: word("username"), secret: word("password") }
    }

    /// Calls the EST server with curl.
    pub(crate) fn est(&self, operation: &str, arguments: &[&str]) -> Answer {
        let url = format!("https://localhost:{}/.well-known/est/{operation}", self.est_port);
        self.curl(&url, arguments)
    }

    /// Calls anything with curl, trusting the root.
    pub(crate) fn curl(&self, url: &str, arguments: &[&str]) -> Answer {
        // Tests call at the same time: each call has files of its own.
        let files = tempfile::Builder::new().prefix("call").tempdir_in(self.dir.path()).expect("folder");
        let (head, body) = (files.path().join("head"), files.path().join("body"));
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "300", "--cacert", "state/root.pem", "-w", "%{http_code}"])
            .arg("-D")
            .arg(&head)
            .arg("-o")
            .arg(&body)
            .args(arguments)
            .arg(url)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .expect("curl runs");
        let status = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0);
        let headers = std::fs::read(&head).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Answer {
            status,
            headers: headers.unwrap_or_default() + &String::from_utf8_lossy(&output.stderr),
            body: std::fs::read(&body).unwrap_or_default(),
        }
    }

    /// First enrolment with the request in `NAME.b64`.
    pub(crate) fn enrol(&self, name: &str, credential: &Credential) -> Answer {
        self.enrol_at("simpleenroll", name, credential)
    }

    /// First enrolment at a path.
    pub(crate) fn enrol_at(&self, operation: &str, name: &str, credential: &Credential) -> Answer {
        let (user, data) = (format!("{}:{}", credential.name, credential.secret), format!("@{name}.b64"));
        self.est(operation, &["-u", &user, "-H", PKCS10, "--data-binary", &data])
    }

    /// Re-enrolment with the request in `NAME.b64`, by the certificate and key of `HOLDER`.
    pub(crate) fn reenrol(&self, name: &str, holder: &str) -> Answer {
        let (data, cert, key) = (format!("@{name}.b64"), format!("{holder}.pem"), format!("{holder}.key"));
        self.est("simplereenroll", &["--cert", &cert, "--key", &key, "-H", PKCS10, "--data-binary", &data])
    }

    /// Writes the certificate of an answer to `NAME.pem`.
    pub(crate) fn keep(&self, answer: &Answer, name: &str) {
        let body = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "{body} {}", answer.headers);
        let (b64, der, pem) = (format!("{name}.p7.b64"), format!("{name}.p7"), format!("{name}.pem"));
        std::fs::write(self.path(&b64), &answer.body).expect("writes");
        self.openssl(&["base64", "-d", "-in", &b64, "-out", &der]);
        self.openssl(&["pkcs7", "-inform", "DER", "-in", &der, "-print_certs", "-out", &pem]);
    }

    /// A device that is enrolled: `NAME.key` and `NAME.pem`.
    pub(crate) fn enrolled(&self, name: &str) {
        self.request(name, &format!("/CN={name}"), &[]);
        let answer = self.enrol(name, &self.credential(&[]));
        self.keep(&answer, name);
    }

    /// Serial number of the certificate in `NAME.pem`, as our lists show it.
    pub(crate) fn serial(&self, name: &str) -> String {
        let shown = self.openssl(&["x509", "-in", &format!("{name}.pem"), "-noout", "-serial"]);
        shown.trim().trim_start_matches("serial=").to_lowercase()
    }

    /// Verifies the chain of `NAME.pem`.
    pub(crate) fn verify(&self, name: &str, more: &[&str]) -> Output {
        let pem = format!("{name}.pem");
        let mut arguments = vec!["verify", "-CAfile", "state/root.pem", "-untrusted", "state/issuing.pem"];
        arguments.extend(more);
        arguments.push(&pem);
        self.try_tool("openssl", &arguments)
    }

    /// Fetches both CRLs over HTTP into `crls.pem`.
    pub(crate) fn fetch_crls(&self) {
        let mut both = Vec::new();
        for authority in ["issuing", "root"] {
            let answer = self.curl(&format!("http://127.0.0.1:{}/crl/{authority}.crl", self.crl_port), &[]);
            assert_eq!(answer.status, 200, "{}", answer.headers);
            assert_eq!(answer.header("content-type").as_deref(), Some("application/pkix-crl"));
            let file = format!("{authority}.crl");
            std::fs::write(self.path(&file), &answer.body).expect("writes");
            both.extend(self.tool("openssl", &["crl", "-inform", "DER", "-in", &file]));
        }
        std::fs::write(self.path("crls.pem"), both).expect("writes");
    }

    /// States of the certificates of a device, in the order of issuance.
    pub(crate) fn states(&self, device: &str) -> Vec<String> {
        let answer = self.done(&["cert", "list", "--device", device]);
        let items = answer.get("items").and_then(Value::as_array).expect("items");
        items.iter().filter_map(|item| item.get("state").and_then(Value::as_str)).map(str::to_owned).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking()
            && let Ok(log) = std::fs::read_to_string(self.path("log"))
        {
            println!("--- server log\n{log}");
        }
    }
}

/// The header field of a request body.
pub(crate) const PKCS10: &str = "Content-Type: application/pkcs10";

fn soft_token(folder: &Path) -> Vec<(String, String)> {
    let tokens = folder.join("tokens");
    std::fs::create_dir(&tokens).expect("folder");
    let path = folder.join("softhsm2.conf");
    let mut file = std::fs::File::create(&path).expect("file");
    writeln!(file, "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR", tokens.display())
        .expect("writes");
    let conf = path.to_string_lossy().into_owned();
    let output = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "pki", "--pin", PIN, "--so-pin", "5678"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .expect("softhsm2-util runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    vec![("SOFTHSM2_CONF".to_owned(), conf), ("CRATON_PKI_PIN".to_owned(), PIN.to_owned())]
}

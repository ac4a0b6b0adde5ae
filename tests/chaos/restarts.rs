//! The daemon is killed again and again under clients that are not ours: nginx and Java, and pkcs11-tool in a loop. With `session_resume`
//! none of them notices more than a delay, by a PIN that is kept or by the token's AUTO slot; without it each error is one that is promised,
//! and whoever logs in anew goes on. Nobody waits without end.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use acceptance::daemon::Daemon;
use acceptance::page::{self, all_available};
use acceptance::tools::{available, run};
use acceptance::world::World;

use crate::{is_long, table};

/// What is not answered by then is not answered.
const PATIENCE: Duration = Duration::from_secs(300);
/// As [`PATIENCE`], for the module.
const RESUME: &str = "session_resume = true\nresume_wait_secs = 300";
const RESUME_BY_PIN: &str = "session_resume = true\nresume_wait_secs = 300\npin_cache = true";

/// How often the daemon is killed.
fn kills() -> usize {
    if is_long() { 50 } else { 5 }
}

/// A load in a directory: it works while the file `load` is there, writes a line to `answers` for each answer that was right, and one to
/// `failures` for each that was an error.
struct Load {
    dir: PathBuf,
}

impl Load {
    fn begin(dir: &Path) -> Load {
        fs::write(dir.join("load"), "").expect("the world's directory is writable");
        Load { dir: dir.to_owned() }
    }

    fn answers(&self) -> usize {
        lines(&self.dir, "answers").len()
    }

    /// Waits until there are more than so many answers.
    fn beyond(&self, count: usize, has_ended: &dyn Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.answers() <= count {
            assert!(!has_ended(), "the load has ended after {count} answers");
            assert!(Instant::now() < deadline, "no answer after {count}: {:?}", lines(&self.dir, "failures"));
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills the daemon under the load and starts another, so often; how long each was there until it was of use.
    fn through(&self, world: &World, mut daemon: Daemon, has_ended: &dyn Fn() -> bool) -> (Daemon, Vec<Duration>) {
        let mut delays = Vec::new();
        for _ in 0..kills() {
            self.beyond(self.answers() + 2, has_ended);
            daemon.kill();
            let away = self.answers();
            daemon = world.try_start().unwrap_or_else(|said| panic!("{said}"));
            let back = Instant::now();
            // What had its answer before the kill may have been noted after it.
            self.beyond(away.max(self.answers()), has_ended);
            delays.push(back.elapsed());
        }
        (daemon, delays)
    }
}

/// What was written to a file of a load so far.
fn lines(dir: &Path, name: &str) -> Vec<String> {
    let text = fs::read(dir.join(name)).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

impl Drop for Load {
    fn drop(&mut self) {
        // Whatever became of the test, its load ends.
        fs::remove_file(self.dir.join("load")).ok();
    }
}

/// Runs a load beside the kills, and tells how soon it went on after each.
fn under(world: &mut World, what: &str, load: impl FnOnce(&World) + Send) -> Vec<String> {
    let daemon = world.take_daemon();
    let world = &*world;
    let (_daemon, delays, failures) = thread::scope(|scope| {
        let switch = Load::begin(world.dir());
        let working = scope.spawn(move || load(world));
        let (daemon, delays) = switch.through(world, daemon, &|| working.is_finished());
        drop(switch);
        working.join().unwrap_or_else(|_| panic!("{what}: the load did not end well"));
        (daemon, delays, lines(world.dir(), "failures"))
    });
    let (prompt, longest) = (delays.iter().filter(|delay| delay.as_secs() < 2).count(), delays.iter().max());
    let figures =
        format!("{prompt} within 2 s of the daemon being back, the longest {longest:?}, {} errors", failures.len());
    table(&format!("{} kills of the daemon under {what}", delays.len()), &figures);
    failures
}

/// Handshakes by three clients at once. In the end nginx and its workers are those of the beginning.
const HANDSHAKES: &str = r#"
```sh
processes() { echo "$(cat nginx.pid) $(pgrep -P "$(cat nginx.pid)" | sort | tr '\n' ' ')"; }
before=$(processes)
load() {
    while [ -e ../load ]; do
        if curl -sS --max-time 300 --cacert trusted.pem "$@" "https://localhost:$PORT/" > got.$BASHPID 2> missed.$BASHPID
        then echo >> ../answers
        else tr '\n' ' ' < missed.$BASHPID >> ../failures; echo >> ../failures
        fi
    done
}
load & loads=$!
load & loads="$loads $!"
load --tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256 & loads="$loads $!"
wait $loads
[ "$before" = "$(processes)" ] || { echo "nginx is not what it was: $before, $(processes)"; exit 1; }
! grep "SSL_do_handshake() failed" error.log
echo "the same nginx"
```

```output
the same nginx
```
"#;

/// nginx as its page has it, as far as it serves, with the token in `world`; `pin` is whether it is given the PIN.
fn nginx(test: &str, world: impl FnOnce() -> World, what: &str, pin: bool) {
    if !(page::engine(test) && all_available(test, &["nginx", "openssl", "pkcs11-tool", "curl"])) {
        return;
    }
    let text = page::text("nginx");
    let (beginning, _) = text.split_once("\nA reload starts").expect("the page speaks of a reload");
    let beginning = if pin { beginning.to_owned() } else { beginning.replace("PIN = $PIN\n", "") };
    assert_eq!(beginning.contains("PIN = $PIN"), pin);
    let mut world = world();
    let failures = under(&mut world, what, |world| {
        page::run_text::<&str>(world, test, &format!("{beginning}\n{HANDSHAKES}"), &[]);
    });
    assert!(failures.is_empty(), "{failures:?}");
    let journal = fs::read_to_string(world.journal()).expect("the journal");
    let logins = |by: bool| {
        journal.lines().filter(move |line| line.contains("\"op\":\"login\"") && line.contains("\"by\":\"auto\"") == by)
    };
    match pin {
        true => assert_eq!(logins(true).count(), 0),
        // Those by PIN are the page's own, which makes the keys.
        false => assert!(logins(true).count() > 2 * kills(), "the workers came by the slot"),
    }
}

#[test]
fn nginx_serves_through_kills_of_the_daemon_by_a_kept_pin() {
    let test = "restarts::nginx_serves_through_kills_of_the_daemon_by_a_kept_pin";
    nginx(test, || page::world_for_servers(RESUME_BY_PIN), "nginx, the PIN kept", true);
}

#[test]
fn nginx_serves_through_kills_of_the_daemon_without_any_pin() {
    let test = "restarts::nginx_serves_through_kills_of_the_daemon_without_any_pin";
    nginx(test, || page::unattended_world_for_servers(RESUME), "nginx without a PIN", false);
}

/// Signs in a loop, each signature in parts as Java does. After an error it begins anew, by another provider and another login; one that
/// `stays` goes on with what it has.
const SIGN: &str = r#"
```java Sign.java
import java.io.FileWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Provider;
import java.security.PublicKey;
import java.security.Security;
import java.security.Signature;

public class Sign {
    static Provider token;
    static PrivateKey key;
    static PublicKey anyone;

    static void enter() throws Exception {
        token = Security.getProvider("SunPKCS11").configure("p11.cfg");
        KeyStore keys = KeyStore.getInstance("PKCS11", token);
        keys.load(null, System.getenv("PIN").toCharArray());
        key = (PrivateKey) keys.getKey("ec", null);
        byte[] encoded = keys.getCertificate("ec").getPublicKey().getEncoded();
        anyone = java.security.KeyFactory.getInstance("EC", "SunEC")
            .generatePublic(new java.security.spec.X509EncodedKeySpec(encoded));
    }

    static void sign(byte[] text) throws Exception {
        Signature signature = Signature.getInstance("SHA256withECDSA", token);
        signature.initSign(key);
        signature.update(text);
        byte[] signed = signature.sign();
        Signature check = Signature.getInstance("SHA256withECDSA", "SunEC");
        check.initVerify(anyone);
        check.update(text);
        if (!check.verify(signed)) {
            System.out.println("a wrong signature");
            System.exit(1);
        }
    }

    static void note(String name, String line) throws Exception {
        try (FileWriter out = new FileWriter(name, true)) {
            out.write(line + "\n");
        }
    }

    public static void main(String[] arguments) throws Exception {
        boolean stays = arguments[0].equals("stays");
        while (Files.exists(Path.of("../load"))) {
            try {
                if (key == null) {
                    enter();
                }
                sign("signed in a loop".getBytes());
                note("../answers", "");
            } catch (Exception error) {
                Throwable cause = error;
                while (cause.getCause() != null) {
                    cause = cause.getCause();
                }
                note("../failures", cause.getClass().getSimpleName() + ": " + cause.getMessage());
                if (!stays) {
                    key = null;
                }
                Thread.sleep(50);
            }
        }
        System.out.println("never wrong");
    }
}
```

```sh
java Sign.java CONDUCT
```

```output
never wrong
```
"#;

/// Java's loop beside the kills, with the module's own keys; what failed.
fn java(test: &str, shim: &str, conduct: &str, what: &str) -> Option<Vec<String>> {
    if !all_available(test, &["keytool", "java"]) {
        return None;
    }
    let text = page::text("java");
    let (configuration, _) = text.split_once("\n## Keys and certificates").expect("the page makes keys");
    let key = "```sh\nkeytool $keystore -providername SunPKCS11-Craton -genkeypair -alias ec -keyalg EC -groupname secp256r1 \\\n    \
               -dname CN=localhost\n```\n";
    let mut world = World::unstarted();
    world.write_config(&world.config_with_shim(shim));
    world.start_daemon();
    world.init_token();
    let story = format!("{configuration}\n{key}\n{}", SIGN.replace("CONDUCT", conduct));
    Some(under(&mut world, what, |world| page::run_text::<&str>(world, test, &story, &[])))
}

/// What is promised of calls whose daemon is away, or is another one than that of their session.
const PROMISED: [&str; 6] = [
    "CKR_DEVICE_REMOVED",
    "CKR_DEVICE_ERROR",
    "CKR_TOKEN_NOT_PRESENT",
    "CKR_SESSION_HANDLE_INVALID",
    "CKR_KEY_HANDLE_INVALID",
    // Java's own words for a slot without a token.
    "oken has been removed",
];

#[test]
fn java_meets_the_promised_errors_and_a_new_login_signs_again() {
    let test = "restarts::java_meets_the_promised_errors_and_a_new_login_signs_again";
    let Some(failures) = java(test, "", "begins anew", "Java that signs") else { return };
    assert!(failures.len() >= kills(), "each kill ended the sessions: {failures:?}");
    for failure in &failures {
        assert!(PROMISED.iter().any(|promised| failure.contains(promised)), "{failure}");
    }
}

#[test]
fn java_keeps_its_login_through_kills_of_the_daemon_when_sessions_resume() {
    let test = "restarts::java_keeps_its_login_through_kills_of_the_daemon_when_sessions_resume";
    let Some(failures) = java(test, RESUME_BY_PIN, "stays", "Java that signs, sessions resumed") else { return };
    // A signature that was under way in parts is gone, at most one for each kill.
    assert!(failures.len() <= kills(), "{failures:?}");
    for failure in &failures {
        let of_parts = ["CKR_DEVICE_ERROR", "CKR_OPERATION_NOT_INITIALIZED"];
        assert!(of_parts.iter().any(|promised| failure.contains(promised)), "{failure}");
    }
}

#[test]
fn each_call_of_pkcs11_tool_is_right_or_says_why_it_is_not() {
    let test = "restarts::each_call_of_pkcs11_tool_is_right_or_says_why_it_is_not";
    if !available(test, "pkcs11-tool") || !available(test, "openssl") {
        return;
    }
    let mut world = World::start();
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--label", "loop", "--id", "01"]).ok();
    fs::write(world.dir().join("text"), "signed in a loop").expect("the world's directory is writable");
    world.pkcs11_tool(["--read-object", "--type", "pubkey", "--label", "loop", "--output-file", "loop.der"]).ok();
    let failures = under(&mut world, "pkcs11-tool in a loop", |world| {
        let note = |name: &str, line: &str| {
            use std::io::Write;
            let file = fs::File::options().create(true).append(true).open(world.dir().join(name));
            writeln!(file.expect("the world's directory is writable"), "{line}").expect("a line");
        };
        let ecdsa = ["--sign", "--mechanism", "ECDSA-SHA256", "--label", "loop", "--signature-format", "openssl"];
        while world.dir().join("load").exists() {
            // One that does not end fails the test.
            let said =
                world.pkcs11_tool_login(ecdsa.iter().chain(&["--input-file", "text", "--output-file", "signature"]));
            if said.status.success() {
                let verify = "dgst -sha256 -verify loop.der -keyform DER -signature signature text";
                run(world.command("openssl").args(verify.split(' '))).ok().says("Verified OK");
                note("answers", "");
            } else {
                note("failures", &said.stderr.replace('\n', " "));
            }
        }
    });
    for failure in &failures {
        let is_clear = failure.contains("CKR_") || failure.contains("No slot with");
        assert!(is_clear, "{failure}");
    }
}

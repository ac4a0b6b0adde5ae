//! Java: keytool, jarsigner and a TLS server on SunPKCS11, which goes on after the daemon was away.

use acceptance::daemon::binary;
use acceptance::world::World;

use acceptance::page;

const PROGRAMS: [&str; 6] = ["keytool", "jarsigner", "java", "jar", "openssl", "curl"];

#[test]
fn page() {
    page::run("java", &PROGRAMS);
}

/// A server in the token's keys, its daemon killed, another one in its place: the same process of Java serves again.
const DEATH_OF_THE_DAEMON: &str = r#"
```sh
java TlsServer.java &
get() { curl -sS --retry 20 --retry-connrefused --retry-delay 1 --cacert rsa.pem "$@" "https://localhost:$PORT/"; }
get
kill -9 "$(cat ../daemon.pid)"
while grep -q "State:.[^Z]" "/proc/$(cat ../daemon.pid)/status" 2>/dev/null; do sleep 0.05; done
( sleep 0.5; exec "$DAEMON" --config "$CRATON_HSM_CONFIG" > ../second.log 2>&1 ) &
echo "afterwards: $(get)"
echo "TLS 1.2: $(get --tls-max 1.2)"
```

```output
afterwards: hello from Java
TLS 1.2: hello from Java
```
"#;

#[test]
fn with_session_resume_a_server_goes_on_after_the_daemon_died() {
    let test = "java::with_session_resume_a_server_goes_on_after_the_daemon_died";
    if !page::all_available(test, &PROGRAMS) {
        return;
    }
    let (text, marker) = (page::text("java"), "\n## Keys and certificates");
    let (configuration, rest) = text.split_once(marker).expect("the page makes keys");
    let (_, server) = rest.split_once("\n## A TLS server").expect("the page has a server");
    let (server, _) = server.split_once("\n```sh\n").expect("the page starts its server");
    let key = "```sh\nkeytool $keystore -providername SunPKCS11-Craton -genkeypair -alias rsa -keyalg RSA -keysize 3072 \\\n    \
               -dname CN=localhost -ext san=dns:localhost\nkeytool $keystore -exportcert -rfc -alias rsa -file rsa.pem\n```\n";
    let story = format!("{configuration}\n{key}{server}\n{DEATH_OF_THE_DAEMON}");
    let mut world = World::unstarted();
    world.write_config(&world.config_with_shim("session_resume = true\npin_cache = true"));
    world.start_daemon();
    world.init_token();
    page::run_text(&world, test, &story, &[("DAEMON", &binary("craton-hsm-daemon"))]);
}

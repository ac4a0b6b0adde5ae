//! EST clients that others wrote: strongSwan's `pki` and Bouncy Castle's.

use std::path::Path;
use std::process::Command;

use crate::world::{Choice, World};

const JARS: [&str; 3] = ["/usr/share/java/bcpkix.jar", "/usr/share/java/bcprov.jar", "/usr/share/java/bcutil.jar"];
const ENROL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/est/BouncyCastleEnrol.java");

/// Whether this is strongSwan's program: others are named so too.
fn has_strongswan() -> bool {
    let said = Command::new("pki").arg("--help").output();
    said.is_ok_and(|said| {
        let text = [said.stdout, said.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        text.contains("strongSwan") && text.contains("--est ") && text.contains("openssl")
    })
}

/// strongSwan before 5.9.11 reads unbroken base64 only, and it knows no labels: the unlabelled door is set up for it.
#[test]
fn strongswan_fetches_the_authorities_enrols_and_renews() {
    let test = "strongswan_fetches_the_authorities_enrols_and_renews";
    if !has_strongswan() {
        println!("SKIPPED {test}: strongSwan's pki with --est and its openssl plugin not found");
        return;
    }
    let choice = Choice { more: "[est.unlabelled]\nbase64_wrap = 0", ..Choice::default() };
    let Some(world) = World::new(test, &choice) else { return };
    let url = format!("https://localhost:{}", world.est_port);
    let root = ["--cacert", "state/root.pem", "--outform", "pem"];
    let fetched = [&["--estca", "--url", &url, "--caout", "fetched.pem"][..], &root].concat();
    world.tool("pki", &fetched);
    assert_eq!(world.text("fetched.pem"), world.text("state/root.pem"));

    for name in ["first", "second"] {
        world.request(name, "/CN=swan", &[]);
    }
    let credential = world.credential(&[]);
    let user = format!("{}:{}", credential.name, credential.secret);
    let enrol = ["--est", "--url", &url, "--in", "first.csr", "--userpass", &user];
    std::fs::write(world.path("first.pem"), world.tool("pki", &[&enrol[..], &root].concat())).expect("writes");
    assert!(world.verify("first", &[]).status.success());

    let issuing = ["--cacert", "state/issuing.pem", "--cert", "first.pem", "--key", "first.key"];
    let renew = ["--est", "--url", &url, "--in", "second.csr"];
    let renewed = world.tool("pki", &[&renew[..], &issuing, &root].concat());
    std::fs::write(world.path("second.pem"), renewed).expect("writes");
    assert!(world.verify("second", &[]).status.success());
    assert_eq!(world.states("swan").len(), 2);
}

#[test]
fn bouncy_castle_enrols_with_and_without_a_label() {
    let test = "bouncy_castle_enrols_with_and_without_a_label";
    if !JARS.iter().all(|jar| Path::new(jar).is_file()) || !crate::world::is_there("java", "-version") {
        println!("SKIPPED {test}: java with Bouncy Castle (libbcpkix-java) not found");
        return;
    }
    let Some(world) = World::new(test, &Choice::default()) else { return };
    let (host, jars) = (format!("localhost:{}", world.est_port), JARS.join(":"));
    for (name, version, label) in [("bc-1", "TLSv1.3", "-"), ("bc-2", "TLSv1.2", "line-1")] {
        let credential = world.credential(if label == "-" { &[] } else { &["--label", "line-1"] });
        let pem = format!("{name}.pem");
        let given = [&host, "state/root.pem", version, label, &credential.name, &credential.secret, name, &pem];
        let said = world.tool("java", &[&["-cp", &jars, ENROL][..], &given].concat());
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("cacerts 2") && said.contains(&format!("enrolled CN={name}")), "{said}");
        assert!(world.verify(name, &[]).status.success());
    }
}

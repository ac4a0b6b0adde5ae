//! The device client of the house: first enrolment, renewal in its window, interrupted renewal, keys in a token.

use crate::world::{Choice, World};
use std::path::PathBuf;
use std::process::{Command, Output};

/// A device that is served by `craton-pki-client`.
struct Device<'a> {
    world: &'a World,
    dir: PathBuf,
}

impl Device<'_> {
    fn client(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_craton-pki-client"));
        command.arg("--dir").arg(&self.dir).args(arguments).envs(environment.iter().copied());
        command.current_dir(self.world.dir.path()).output().expect("craton-pki-client runs")
    }

    fn enrol(&self, subject: &str, more: &[&str]) -> Output {
        let credential = self.world.credential(&[]);
        let url = format!("https://localhost:{}/.well-known/est", self.world.est_port);
        let common = ["enrol", "--url", &url, "--ca", "state/root.pem", "--subject", subject];
        let authorised = ["--user", &credential.name, "--password", "env:SECRET"];
        self.client(&[&common[..], &authorised, more].concat(), &[("SECRET", &credential.secret)])
    }

    /// What `openssl` shows of the certificate in use.
    fn serial(&self) -> String {
        let certificate = self.dir.join("current/certificate.pem").display().to_string();
        self.world.openssl(&["x509", "-in", &certificate, "-noout", "-serial"])
    }
}

fn device<'a>(world: &'a World, name: &str) -> Device<'a> {
    Device { world, dir: world.path(name) }
}

fn done(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

fn refused(output: &Output, status: i32, sentence: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(sentence), "{said}");
}

#[test]
fn a_device_enrols_and_renews_with_every_kind_of_key_in_a_file() {
    let test = "a_device_enrols_and_renews_with_every_kind_of_key_in_a_file";
    let Some(world) = World::new(test, &Choice::default()) else { return };
    for key in ["ec:P-256", "ec:P-384", "ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"] {
        let name = key.replace(':', "-");
        let device = device(&world, &name);
        let shown = done(&device.enrol(&format!("CN={name}"), &["--key", key]));
        assert!(shown.contains(key), "{shown}");
        let first = device.serial();
        assert!(done(&device.client(&["renew"], &[])).contains("not yet"), "{key}");
        assert_eq!(device.serial(), first);
        done(&device.client(&["renew", "--force", "--after", "touch renewed"], &[]));
        assert!(world.path("renewed").exists());
        std::fs::remove_file(world.path("renewed")).expect("removes");
        assert_ne!(device.serial(), first, "{key}");
        assert_eq!(world.states(&name), ["superseded", "active"], "{key}");
        done(&device.client(&["renew", "--force", "--keep-key"], &[]));
        assert_eq!(world.states(&name).last().map(String::as_str), Some("active"), "{key}");
        // OpenSSL 3.0 reads no ML-DSA keys; their chains are verified elsewhere.
        if key.starts_with("ml-dsa") {
            continue;
        }
        let (chain, certificate) = (device.dir.join("current/chain.pem"), device.dir.join("current/certificate.pem"));
        let verified = world.try_tool(
            "openssl",
            &[
                "verify",
                "-CAfile",
                "state/root.pem",
                "-untrusted",
                &chain.display().to_string(),
                &certificate.display().to_string(),
            ],
        );
        assert!(verified.status.success(), "{key}: {verified:?}");
    }
}

/// The certificate in use, in DER.
fn der(device: &Device<'_>) -> Vec<u8> {
    let certificate = device.dir.join("current/certificate.pem").display().to_string();
    device.world.tool("openssl", &["x509", "-in", &certificate, "-outform", "DER"])
}

/// One command makes both identities; the second names the first, the record links them, and they are renewed and revoked together.
#[test]
fn one_command_gives_a_device_two_linked_identities() {
    let labels = r#"
        [est.labels.pq]
        profile = "pq"
        related_to = ""
        [profiles.pq]
        keys = ["ml-dsa-65"]
    "#;
    let test = "one_command_gives_a_device_two_linked_identities";
    let Some(world) = World::new(test, &Choice { more: labels, ..Choice::default() }) else { return };
    let first = device(&world, "d");
    let second = Device { world: &world, dir: world.path("d/related") };
    let url = format!("https://localhost:{}/.well-known/est/pq", world.est_port);
    let shown = done(&first.enrol("CN=d", &["--related-url", &url]));
    assert!(shown.contains("ec:P-256") && shown.contains("ml-dsa-65"), "{shown}");
    let serial = |shown: String| shown.trim().trim_start_matches("serial=").to_lowercase();
    let is_linked = || {
        let record = world.done(&["device", "show", "d"]);
        let (one, other) = (serial(first.serial()), serial(second.serial()));
        assert_eq!((&record["certificate"], &record["related"]), (&one.clone().into(), &serde_json::json!([other])));
        assert_eq!(world.done(&["cert", "show", &other])["related_to"], one);
        let digest = ring::digest::digest(&ring::digest::SHA512, &der(&first));
        let named = der(&second).windows(64).any(|window| window == digest.as_ref());
        assert!(named, "the second certificate names the first");
    };
    is_linked();
    assert!(done(&first.client(&["status"], &[])).matches("renewal").count() == 2);
    assert!(done(&first.client(&["renew"], &[])).contains("not yet"));
    done(&first.client(&["renew", "--force"], &[]));
    is_linked();
    assert_eq!(world.states("d"), ["superseded", "superseded", "active", "active"]);
    // The second comes again by itself where it is missing; who has one already is given no other.
    std::fs::rename(world.path("d/related"), world.path("aside")).expect("renames");
    refused(&first.client(&["renew"], &[]), 1, "already_enrolled");
    let revoked = world.done(&["cert", "revoke-all", "--device", "d", "--reason", "cessation-of-operation"]);
    assert_eq!(revoked["revoked"], 4, "{revoked}");
    assert_eq!(world.states("d"), ["revoked"; 4]);
}

#[test]
fn a_renewal_that_broke_off_goes_on_with_the_same_key() {
    let Some(mut world) = World::new("a_renewal_that_broke_off_goes_on_with_the_same_key", &Choice::default()) else {
        return;
    };
    done(&device(&world, "d").enrol("CN=d", &[]));
    world.kill();
    refused(&device(&world, "d").client(&["renew", "--force"], &[]), 75, "cannot be reached");
    let next = world.path("d/next/key.pem");
    let planned = std::fs::read(&next).expect("the key of the next generation is kept");
    world.serve();
    done(&device(&world, "d").client(&["renew", "--force"], &[]));
    assert_eq!(std::fs::read(world.path("d/current/key.pem")).expect("key"), planned);
    assert!(!world.path("d/next").exists());
    // The answer was lost: the server gives the same certificate again.
    let device = device(&world, "d");
    let serial = device.serial();
    std::os::unix::fs::symlink("generation-2", world.path("d/next")).expect("link");
    std::fs::remove_file(world.path("d/current")).expect("removes");
    std::os::unix::fs::symlink("generation-1", world.path("d/current")).expect("link");
    done(&device.client(&["renew", "--force"], &[]));
    assert_eq!(device.serial(), serial);
    assert_eq!(world.states("d"), ["superseded", "active"]);
}

#[test]
fn what_the_server_refuses_is_said_with_its_reason() {
    let Some(world) = World::new("what_the_server_refuses_is_said_with_its_reason", &Choice::default()) else { return };
    let device = device(&world, "d");
    refused(&device.client(&["renew"], &[]), 1, "enrol first");
    refused(&device.enrol("O=Nobody", &[]), 1, "subject_not_acceptable");
    std::fs::remove_dir_all(&device.dir).expect("removes");
    let url = format!("https://localhost:{}/.well-known/est", world.est_port);
    let enrol = ["enrol", "--url", &url, "--ca", "state/root.pem", "--subject", "CN=d"];
    refused(&device.client(&enrol, &[]), 2, "name a bootstrap credential");
    let wrong = [&enrol[..], &["--user", "boot-x", "--password", "env:SECRET"]].concat();
    refused(&device.client(&wrong, &[("SECRET", "wrong")]), 1, "401");
    std::fs::remove_dir_all(&device.dir).expect("removes");
    let inline = [&enrol[..], &["--user", "boot-x", "--password", "letmein"]].concat();
    refused(&device.client(&inline, &[]), 2, "env:NAME or file:PATH");
}

#[test]
fn keys_stay_in_a_token() {
    let Some(world) = World::new("keys_stay_in_a_token", &Choice::default()) else { return };
    let device = device(&world, "d");
    let environment = world.environment.clone();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let credential = world.credential(&[]);
    let url = format!("https://localhost:{}/.well-known/est", world.est_port);
    let (module, label) = world.token();
    let mut with_secret = environment.clone();
    with_secret.push(("SECRET", &credential.secret));
    let shown = done(&device.client(
        &[
            "enrol",
            "--url",
            &url,
            "--ca",
            "state/root.pem",
            "--subject",
            "CN=d",
            "--user",
            &credential.name,
            "--password",
            "env:SECRET",
            "--module",
            &module,
            "--token",
            &label,
            "--pin",
            "env:CRATON_PKI_PIN",
        ],
        &with_secret,
    ));
    assert!(shown.contains("ec:P-256"), "{shown}");
    assert!(!device.dir.join("current/key.pem").exists());
    let first = device.serial();
    done(&device.client(&["renew", "--force"], &environment));
    assert_ne!(device.serial(), first);
    done(&device.client(&["renew", "--force", "--keep-key"], &environment));
    assert_eq!(world.states("d"), ["superseded", "superseded", "active"]);
}

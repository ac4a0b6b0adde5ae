//! Many authorities in one PKI: creation, name constraints, hold and release, the next key, and authorities from elsewhere.

use crate::world::{Choice, World};
use serde_json::Value;

const SECOND_PROFILE: &str = r#"
            [profiles.line]
            validity_days = 30
            authority = "line"
            dns_suffixes = ["devices.example", "other.example"]
"#;

/// A world whose label `line-1` leads to the authority `line` below `inter` below the root.
fn with_line(test: &str) -> Option<World> {
    let mut world = World::bare(test, &Choice { profile: SECOND_PROFILE, ..Choice::default() })?;
    let text = world.text("pki.toml").replace(r#"line-1 = "device""#, r#"line-1 = "line""#);
    std::fs::write(world.path("pki.toml"), text).expect("writes");
    world.done(&["init"]);
    let early = world.run(&["serve"]);
    assert!(String::from_utf8_lossy(&early.stderr).contains("there is no authority 'line'"), "{early:?}");
    world.done(&["ca", "create", "inter", "--kind", "intermediate", "--subject", "CN=Inter", "--key", "rsa:3072"]);
    let line = ["ca", "create", "line", "--parent", "inter", "--subject", "CN=Line,O=Craton", "--key", "ec:P-521"];
    world.done(&[&line[..], &["--permit", "dns:devices.example"]].concat());
    world.serve();
    Some(world)
}

/// Writes what `/cacerts` of a label gives to `NAME`.
fn fetch_chain(world: &World, path: &str, name: &str) -> usize {
    let answer = world.est(path, &[]);
    assert_eq!(answer.status, 200, "{}", answer.headers);
    std::fs::write(world.path("chain.b64"), &answer.body).expect("writes");
    world.openssl(&["base64", "-d", "-in", "chain.b64", "-out", "chain.p7"]);
    world.openssl(&["pkcs7", "-inform", "DER", "-in", "chain.p7", "-print_certs", "-out", name]);
    world.text(name).matches("BEGIN CERTIFICATE").count()
}

fn verifies(world: &World, root: &str, chain: &str, name: &str) -> bool {
    let pem = format!("{name}.pem");
    world.try_tool("openssl", &["verify", "-CAfile", root, "-untrusted", chain, &pem]).status.success()
}

#[test]
fn a_label_issues_under_its_own_authority_and_within_its_names() {
    let test = "a_label_issues_under_its_own_authority_and_within_its_names";
    let Some(world) = with_line(test) else { return };
    assert_eq!(fetch_chain(&world, "line-1/cacerts", "line-chain.pem"), 3);
    assert_eq!(fetch_chain(&world, "cacerts", "chain.pem"), 2);
    world.request("a", "/CN=a", &["-addext", "subjectAltName=DNS:a.devices.example"]);
    let answer = world.enrol_at("line-1/simpleenroll", "a", &world.credential(&["--label", "line-1"]));
    world.keep(&answer, "a");
    assert!(verifies(&world, "state/root.pem", "line-chain.pem", "a"));
    assert!(!verifies(&world, "state/root.pem", "chain.pem", "a"), "another authority's chain");
    let shown = world.openssl(&["x509", "-in", "a.pem", "-noout", "-text"]);
    assert!(shown.contains("ecdsa-with-SHA512") && shown.contains("CN = Line"), "{shown}");
    // The profile would allow it, the authority must not.
    world.request("b", "/CN=b", &["-addext", "subjectAltName=DNS:b.other.example"]);
    let credential = world.credential(&["--label", "line-1"]);
    assert_eq!(world.enrol_at("line-1/simpleenroll", "b", &credential).refusal(), (403, "name_constraint".to_owned()));
    // What an authority made at run time issued is accepted for re-enrolment, without a restart.
    let (data, cert, key) = ("@a.b64", "a.pem", "a.key");
    let again = world.est(
        "line-1/simplereenroll",
        &["--cert", cert, "--key", key, "-H", crate::world::PKCS10, "--data-binary", data],
    );
    assert_eq!(again.status, 200, "{}", again.headers);
    let crl = world.curl(&format!("http://127.0.0.1:{}/crl/line.crl", world.crl_port), &[]);
    assert_eq!(crl.status, 200);
}

#[test]
fn what_does_not_fit_the_hierarchy_is_refused() {
    let Some(world) = with_line("what_does_not_fit_the_hierarchy_is_refused") else { return };
    let create = |id: &'static str, more: &[&'static str]| [&["ca", "create", id], more].concat();
    let rows: &[(Vec<&str>, &str)] = &[
        (create("under", &["--parent", "line", "--subject", "CN=U"]), "path length is 0"),
        (
            create("deep", &["--kind", "intermediate", "--parent", "inter", "--subject", "CN=D"]),
            "does not fit below 'inter'",
        ),
        (create("line", &["--subject", "CN=Other"]), "there is an authority 'line' already"),
        (create("twin", &["--subject", "CN=line,O=craton"]), "has the subject"),
        (create("Bad", &["--subject", "CN=B"]), "cannot be the name of an authority"),
        (create("orphan", &["--parent", "nobody", "--subject", "CN=O"]), "there is no authority 'nobody'"),
        (create("odd", &["--subject", "CN=O", "--key", "rsa:1024"]), "unknown key kind"),
        (create("none", &["--subject", ""]), "subject"),
        (vec!["ca", "release", "line"], "is active: that does not fit"),
        (vec!["ca", "hold", "nobody"], "there is no authority 'nobody'"),
        (vec!["ca", "rollover", "nobody"], "there is no authority 'nobody'"),
    ];
    let before = world.done(&["ca", "list"]);
    for (arguments, sentence) in rows {
        world.refused(arguments, sentence);
    }
    assert_eq!(world.done(&["ca", "list"]), before);
}

#[test]
fn an_authority_on_hold_issues_nothing_and_still_revokes() {
    let Some(world) = with_line("an_authority_on_hold_issues_nothing_and_still_revokes") else { return };
    world.enrolled("a");
    assert_eq!(world.done(&["ca", "hold", "issuing"])["state"], "on hold");
    world.request("b", "/CN=b", &[]);
    let credential = world.credential(&[]);
    assert_eq!(world.enrol("b", &credential).refusal(), (503, "authority_idle".to_owned()));
    assert!(world.done(&["cert", "revoke", &world.serial("a")])["crl_number"].is_u64());
    world.done(&["ca", "release", "issuing"]);
    assert_eq!(world.enrol("b", &credential).status, 200, "the credential was not spent by the refusal");
    assert_eq!(world.done(&["ca", "retire", "line"])["state"], "retired");
    world.refused(&["ca", "release", "line"], "is retired");
}

#[test]
fn an_issuing_authority_gets_its_next_key_under_running_devices() {
    let Some(world) = with_line("an_issuing_authority_gets_its_next_key_under_running_devices") else { return };
    world.enrolled("a");
    let new = world.done(&["ca", "rollover", "issuing", "--key", "ec:P-384"]);
    assert_eq!((&new["id"], &new["state"], &new["key"]), (&"issuing-2".into(), &"active".into(), &"ec:P-384".into()));
    let old = world.done(&["ca", "show", "issuing"]);
    assert_eq!((&old["state"], &old["successor"]), (&"retired".into(), &"issuing-2".into()));
    let answer = world.reenrol("a", "a");
    world.keep(&answer, "new");
    assert_eq!(fetch_chain(&world, "cacerts", "chain.pem"), 2);
    assert!(verifies(&world, "state/root.pem", "chain.pem", "new"));
    assert_eq!(world.done(&["cert", "show", &world.serial("new")])["issuer"], "issuing-2");
    for id in ["issuing", "issuing-2"] {
        let answer = world.curl(&format!("http://127.0.0.1:{}/crl/{id}.crl", world.crl_port), &[]);
        assert_eq!(answer.status, 200, "{id}");
    }
}

#[test]
fn a_root_gets_its_next_key_and_old_and_new_clients_verify_old_and_new_devices() {
    let test = "a_root_gets_its_next_key_and_old_and_new_clients_verify_old_and_new_devices";
    let Some(mut world) = with_line(test) else { return };
    world.enrolled("old");
    std::fs::copy(world.path("state/root.pem"), world.path("old-root.pem")).expect("copies");
    let new = world.done(&["ca", "rollover", "root"]);
    assert_eq!((&new["id"], &new["kind"]), (&"root-2".into(), &"root".into()));
    std::fs::write(world.path("new-root.pem"), new["pem"].as_str().expect("pem")).expect("writes");
    world.done(&["ca", "rollover", "issuing"]);
    world.enrolled("new");
    // Issuing authority, new root, OldWithNew and NewWithOld.
    assert_eq!(fetch_chain(&world, "cacerts", "chain.pem"), 4);
    // openssl follows the first certificate that fits and never turns back: led into a root that it does not trust, it ends there. So
    // that one is not among those that only lead on; which comes first in the answer, its random serial numbers decide.
    let (served, self_signed) = (world.text("chain.pem"), world.text("new-root.pem"));
    assert!(served.contains(self_signed.trim()), "the new root is served");
    let chain = world.text("state/issuing.pem") + &served.replace(self_signed.trim(), "");
    std::fs::write(world.path("old-chain.pem"), chain).expect("writes");
    for (root, device) in
        [("old-root.pem", "old"), ("old-root.pem", "new"), ("new-root.pem", "old"), ("new-root.pem", "new")]
    {
        assert!(verifies(&world, root, "old-chain.pem", device), "{device} with {root}");
    }
    let again = world.run(&["ca", "rollover", "root"]);
    assert!(again.status.success(), "a third key may follow the second: {again:?}");
    assert_eq!(world.done(&["health"])["status"], "ok");
    world.stop();
    world.serve();
}

#[test]
fn an_authority_from_elsewhere_comes_with_its_key_or_with_its_certificate_only() {
    let test = "an_authority_from_elsewhere_comes_with_its_key_or_with_its_certificate_only";
    let Some(world) = with_line(test) else { return };
    // A foreign root, and one that certified the key of `line`, which is in the token.
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "400"];
    world.openssl(&[&new[..], &["-keyout", "f.key", "-subj", "/CN=Foreign", "-out", "foreign.pem"]].concat());
    let shown = world.done(&["ca", "import", "foreign", "--certificate", &file(&world, "foreign.pem")]);
    assert_eq!((&shown["kind"], &shown["has_key"]), (&"imported".into(), &Value::Bool(false)));
    world.refused(&["ca", "create", "x", "--parent", "foreign", "--subject", "CN=X"], "not its key");
    world.openssl(&[&new[..], &["-keyout", "g.key", "-subj", "/CN=Other", "-out", "other.pem"]].concat());
    let with_key = ["ca", "import", "other", "--certificate", &file(&world, "other.pem"), "--key-id", "00ff"];
    world.refused(&with_key, "no key");
    world.enrolled("leaf");
    world.refused(
        &["ca", "import", "leaf", "--certificate", &file(&world, "leaf.pem")],
        "not the certificate of an authority",
    );
}

/// A PKI that moves: its issuing authority is taken in by a second one, on the same token with a store of its own.
#[test]
fn an_authority_that_is_imported_with_its_key_issues_revokes_and_answers_above_its_old_numbers() {
    let test = "an_authority_that_is_imported_with_its_key_issues_revokes_and_answers_above_its_old_numbers";
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    world.done(&["crl", "--renew"]);
    let old = world.done(&["ca", "show", "issuing"]);
    std::fs::write(world.path("moved.pem"), world.text("state/issuing.pem") + &world.text("state/root.pem"))
        .expect("writes");
    std::fs::copy(world.path("state/root.pem"), world.path("old-root.pem")).expect("copies");
    world.stop();
    std::fs::rename(world.path("state"), world.path("first")).expect("renames");
    let config = world
        .text("pki.toml")
        .replace("key_label_prefix = \"", "key_label_prefix = \"second-")
        .replace("CN=Test ", "CN=Second ")
        .replace("[profiles.device]", "[profiles.device]\nauthority = \"moved\"");
    std::fs::write(world.path("pki.toml"), config).expect("writes");
    world.done(&["init"]);
    let key_id = old["key_id"].as_str().expect("the id of its key");
    let pem = file(&world, "moved.pem");
    let import = |certificate: &str, id: &str| {
        ["ca", "import", "moved", "--certificate", certificate, "--key-id", id].map(str::to_owned)
    };
    // The key of another certificate is not taken for this one's.
    let other = world.done(&["ca", "show", "root"])["key_id"].as_str().expect("an id").to_owned();
    world.refused(&import(&pem, &other).each_ref().map(String::as_str), "is this the right token");
    let shown = world.done(&import(&pem, key_id).each_ref().map(String::as_str));
    assert_eq!((&shown["kind"], &shown["has_key"]), (&"imported".into(), &Value::Bool(true)));
    assert_eq!(shown["guarded"], old["guarded"]);
    world.done(&["reconcile"]);
    world.serve();
    world.enrolled("a");
    assert!(verifies(&world, "old-root.pem", "moved.pem", "a"));
    let number = world.done(&["cert", "revoke", &world.serial("a")])["crl_number"].as_u64().expect("a number");
    assert!(number > old["crl_number"].as_u64().expect("a number") + 1_000_000, "{number}");
    let url = format!("http://127.0.0.1:{}/ocsp", world.crl_port);
    let answer = world.openssl(&[
        "ocsp",
        "-no_nonce",
        "-issuer",
        "moved.pem",
        "-cert",
        "a.pem",
        "-url",
        &url,
        "-CAfile",
        "moved.pem",
    ]);
    assert!(answer.contains("revoked"), "{answer}");
    let crl = world.curl(&format!("http://127.0.0.1:{}/crl/moved.crl", world.crl_port), &[]);
    std::fs::write(world.path("moved.crl"), &crl.body).expect("writes");
    world.openssl(&["crl", "-inform", "DER", "-in", "moved.crl", "-CAfile", "moved.pem", "-noout"]);
}

/// The whole path of a file of the world: the program runs elsewhere.
fn file(world: &World, name: &str) -> String {
    world.path(name).display().to_string()
}

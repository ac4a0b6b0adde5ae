//! The ceremony of an offline root: two sides that share nothing but files.

use crate::world::{Choice, World};
use serde_json::Value;

/// The two sides; the configuration of each names its role.
fn sides(test: &str) -> Option<(World, World)> {
    let side = |role: &str| {
        let world = World::bare(test, &Choice::default())?;
        let text = world.text("pki.toml").replace("[ca.root]", &format!("[ca]\nrole = \"{role}\"\n[ca.root]"));
        std::fs::write(world.path("pki.toml"), text).expect("writes");
        Some(world)
    };
    Some((side("root")?, side("below")?))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn file(world: &World, name: &str) -> String {
    world.path(name).display().to_string()
}

#[test]
fn a_root_that_is_never_online_certifies_a_pki_that_never_had_its_key() {
    let test = "a_root_that_is_never_online_certifies_a_pki_that_never_had_its_key";
    let Some((root, mut below)) = sides(test) else { return };
    root.done(&["init"]);
    assert_eq!(root.done(&["init"])["changed"], false);
    root.refused(&["serve"], "serves nothing");
    below.refused(&["init"], "ceremony request");

    let (request, answer) = (file(&below, "request.json"), file(&root, "answer.json"));
    let asked = below.done(&["ceremony", "request", "--out", &request]);
    assert_eq!(asked["authorities"], serde_json::json!(["issuing", "internal"]));
    let sign = ["ceremony", "sign", &request, "--out", &answer, "--witness", "Ada", "--witness", "Grace"];
    assert_eq!(root.done(&sign)["issued"], 2);
    // Asked again, it gives the same certificates.
    let first = std::fs::read_to_string(&answer).expect("answer");
    root.done(&sign);
    let again: Value = serde_json::from_str(&std::fs::read_to_string(&answer).expect("answer")).expect("JSON");
    let first: Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!(first["certificates"], again["certificates"]);

    let protocol = format!("{answer}.protocol.txt");
    let (root_pem, shown) = (file(&root, "state/root.pem"), std::fs::read_to_string(&protocol).expect("protocol"));
    let verified = root.done(&["ceremony", "protocol", &protocol, "--root", &root_pem]);
    for word in ["Ada", "Grace", "Issued the certificate of 'issuing'", "Signed a CRL"] {
        assert!(text(&verified["text"]).contains(word), "{word}: {shown}");
    }
    std::fs::write(&protocol, shown.replace("Grace", "Mallory")).expect("writes");
    root.refused(&["ceremony", "protocol", &protocol, "--root", &root_pem], "it was changed");

    let import = ["ceremony", "import", &answer];
    below.refused(&import, "--root-sha256");
    below.refused(&[&import[..], &["--root-sha256", &"00".repeat(32)]].concat(), "is another one");
    let sha256 = text(&root.done(&["ca", "show", "root"])["sha256"]).to_owned();
    below.done(&[&import[..], &["--root-sha256", &sha256]].concat());
    below.done(&["init"]);
    below.serve();
    below.enrolled("device");
    assert!(below.verify("device", &[]).status.success());
    below.fetch_crls();
    assert!(below.verify("device", &["-crl_check_all", "-CRLfile", "crls.pem"]).status.success());
    assert_eq!(below.done(&["ca", "show", "root"])["has_key"], false);
    assert_eq!(below.done(&["health"])["status"], "ok");
}

#[test]
fn a_revoked_authority_reaches_the_crl_of_the_offline_root() {
    let Some((root, mut below)) = sides("a_revoked_authority_reaches_the_crl_of_the_offline_root") else { return };
    let (request, answer) = (file(&below, "request.json"), file(&root, "answer.json"));
    root.done(&["init"]);
    below.done(&["ceremony", "request", "--out", &request]);
    root.done(&["ceremony", "sign", &request, "--out", &answer]);
    let sha256 = text(&root.done(&["ca", "show", "root"])["sha256"]).to_owned();
    below.done(&["ceremony", "import", &answer, "--root-sha256", &sha256]);
    below.done(&["init"]);
    below.serve();
    below.enrolled("device");
    below.stop();
    below.done(&["ceremony", "request", "--out", &request, "--revoke", "issuing", "--reason", "key-compromise"]);
    root.done(&["ceremony", "sign", &request, "--out", &answer]);
    below.done(&["ceremony", "import", &answer]);
    below.serve();
    below.fetch_crls();
    assert!(!below.verify("device", &["-crl_check_all", "-CRLfile", "crls.pem"]).status.success());
}

#[test]
fn an_answer_that_was_changed_on_its_way_is_refused() {
    let Some((root, below)) = sides("an_answer_that_was_changed_on_its_way_is_refused") else { return };
    let (request, answer) = (file(&below, "request.json"), file(&root, "answer.json"));
    root.done(&["init"]);
    below.done(&["ceremony", "request", "--out", &request]);
    root.done(&["ceremony", "sign", &request, "--out", &answer]);
    let sha256 = text(&root.done(&["ca", "show", "root"])["sha256"]).to_owned();
    let good: Value = serde_json::from_str(&std::fs::read_to_string(&answer).expect("answer")).expect("JSON");
    let import = ["ceremony", "import", &answer, "--root-sha256", &sha256];
    type Break = fn(&mut Value);
    let rows: &[(Break, &str)] = &[
        (|a| a["format"] = "other".into(), "is not a"),
        (|a| a["certificates"][0]["id"] = "internal".into(), "is not the one in the certificate"),
        (|a| a["certificates"][0]["id"] = "nobody".into(), "no key was made here"),
        (|a| a["certificates"][0]["certificate"] = a["root"].clone(), "is not the one in the certificate"),
        (|a| a["crl"] = "".into(), "X509 CRL"),
    ];
    for (change, sentence) in rows {
        let mut bad = good.clone();
        change(&mut bad);
        std::fs::write(&answer, bad.to_string()).expect("writes");
        below.refused(&import, sentence);
        assert_eq!(below.run(&["ca", "list"]).status.code(), Some(1), "nothing was taken in");
    }
    // A request that somebody else signed.
    let mut asked: Value = serde_json::from_str(&std::fs::read_to_string(&request).expect("request")).expect("JSON");
    asked["authorities"][0]["csr"] = asked["authorities"][1]["csr"].clone();
    asked["authorities"][0]["id"] = "issuing".into();
    std::fs::write(&request, asked.to_string()).expect("writes");
    root.refused(&["ceremony", "sign", &request, "--out", &answer], "another key already");
}

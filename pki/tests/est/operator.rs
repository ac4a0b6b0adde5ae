//! The operators: init, the command line with and without a running server, REST, and what is refused at the start.

use crate::world::{Choice, World};
use std::os::unix::fs::PermissionsExt;

#[test]
fn init_twice_changes_nothing() {
    let Some(mut world) = World::bare("init_twice_changes_nothing", &Choice::default()) else { return };
    assert_eq!(world.done(&["init"])["changed"], true);
    let copies = (world.text("state/root.pem"), world.text("state/operator.token"));
    let certificates = world.done(&["cert", "list"]);
    let again = world.done(&["init"]);
    assert_eq!(again["changed"], false);
    assert_eq!((world.text("state/root.pem"), world.text("state/operator.token")), copies);
    assert_eq!(world.done(&["cert", "list"]), certificates);
    world.serve();
    assert_eq!(world.done(&["init"])["changed"], false, "beside a running server");
}

#[test]
fn a_lost_state_folder_does_not_make_a_second_root() {
    let Some(world) = World::bare("a_lost_state_folder_does_not_make_a_second_root", &Choice::default()) else {
        return;
    };
    world.done(&["init"]);
    std::fs::remove_dir_all(world.path("state")).expect("removes");
    let output = world.run(&["init"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("already holds a key labelled"), "{output:?}");
}

#[test]
fn commands_work_with_and_without_a_server() {
    let Some(mut world) = World::new("commands_work_with_and_without_a_server", &Choice::default()) else { return };
    world.enrolled("sensor");
    let commands: &[&[&str]] = &[
        &["ca", "list"],
        &["cert", "list"],
        &["device", "list"],
        &["device", "show", "sensor"],
        &["crl"],
        &["health"],
        &["cert", "show", &world.serial("sensor")],
    ];
    let beside: Vec<_> = commands.iter().map(|command| world.done(command)).collect();
    assert!(world.stop().success(), "SIGTERM ends the server in order");
    let alone: Vec<_> = commands.iter().map(|command| world.done(command)).collect();
    assert_eq!(beside, alone);
    // Without a server the command line signs the CRL itself.
    assert_eq!(world.done(&["cert", "revoke", &world.serial("sensor")])["crl_number"], 2);
    let missing = world.run(&["device", "show", "nobody"]);
    assert_eq!(missing.status.code(), Some(1));
    world.serve();
    world.fetch_crls();
    assert!(!world.verify("sensor", &["-crl_check", "-CRLfile", "crls.pem"]).status.success());
}

#[test]
fn a_stale_socket_is_replaced_and_a_second_server_refused() {
    let test = "a_stale_socket_is_replaced_and_a_second_server_refused";
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    let second = world.run(&["serve"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("held by another craton-pki"), "{second:?}");
    world.kill();
    assert!(world.path("state/operator.sock").exists(), "a killed server leaves its socket");
    world.done(&["ca", "list"]);
    world.serve();
    world.done(&["ca", "list"]);
}

#[test]
fn the_server_certificate_follows_the_configured_names() {
    let test = "the_server_certificate_follows_the_configured_names";
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    let states = |world: &World| -> Vec<_> {
        let list = world.done(&["cert", "list"]);
        let items = list["items"].as_array().expect("items").clone();
        items.iter().filter(|item| item["kind"] == "server").map(|item| item["state"].clone()).collect()
    };
    world.stop();
    world.serve();
    assert_eq!(states(&world), ["active"], "a restart issues nothing");
    world.stop();
    let config = world.text("pki.toml").replace(r#"["localhost"]"#, r#"["localhost", "pki.example"]"#);
    std::fs::write(world.path("pki.toml"), config).expect("writes");
    world.serve();
    assert_eq!(states(&world), ["superseded", "active"]);
    assert_eq!(world.est("cacerts", &[]).status, 200);
}

#[test]
fn lists_come_in_pages() {
    let Some(world) = World::new("lists_come_in_pages", &Choice::default()) else { return };
    let mut seen = Vec::new();
    let mut arguments = vec!["cert".to_owned(), "list".to_owned(), "--limit".to_owned(), "2".to_owned()];
    loop {
        let page = world.done(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        seen.extend(page["items"].as_array().expect("items").iter().map(|item| item["kind"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        arguments.truncate(4);
        arguments.extend(["--after".to_owned(), next.to_owned()]);
    }
    let signers = ["ocsp-responder", "ocsp-responder", "ocsp-responder"];
    assert_eq!(seen, [&["root", "issuing", "issuing", "server"][..], &signers].concat());
}

#[test]
fn rest_answers_the_bearer_of_the_token_only() {
    let Some(world) = World::new("rest_answers_the_bearer_of_the_token_only", &Choice::default()) else { return };
    world.enrolled("sensor");
    let url = |path: &str| format!("https://localhost:{}/api/v1/{path}", world.api_port);
    let bearer = format!("Authorization: Bearer {}", world.text("state/operator.token").trim());
    let json = |answer: crate::world::Answer| {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice::<serde_json::Value>(&answer.body).expect("JSON")
    };
    assert_eq!(json(world.curl(&url("health"), &[]))["status"], "ok");
    for refused in [&[][..], &["-H", "Authorization: Bearer x"], &["--cert", "sensor.pem", "--key", "sensor.key"]] {
        assert_eq!(world.curl(&url("devices"), refused).status, 401, "{refused:?}");
    }
    let get = |path: &str| world.curl(&url(path), &["-H", &bearer]);
    assert_eq!(json(get("devices"))["items"][0]["id"], "sensor");
    assert_eq!(json(get("devices/sensor"))["state"], "Fully Provisioned");
    assert_eq!(json(get("certificates?limit=1"))["items"].as_array().map(Vec::len), Some(1));
    let cas = json(get("cas"));
    let ids: Vec<_> = cas["items"].as_array().expect("items").iter().map(|item| item["id"].clone()).collect();
    assert_eq!(ids, ["root", "internal", "issuing"]);
    assert_eq!(json(get("cas/issuing/crl"))["number"], 1);
    assert_eq!(json(get("stats"))["certificates/issuing/active"], 2);
    assert_eq!(json(get("stats"))["devices/Fully Provisioned"], 1);
    let metrics = format!("https://localhost:{}/metrics", world.api_port);
    assert_eq!(world.curl(&metrics, &[]).status, 401);
    let shown = world.curl(&metrics, &["-H", &bearer]);
    assert!(shown.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    let shown = String::from_utf8_lossy(&shown.body).into_owned();
    for line in [
        "craton_pki_refusals_total{reason=\"operator_token\"} 4\n",
        "craton_pki_crl_number{list=\"issuing\"} 1\n",
        "craton_pki_certificates{authority=\"issuing\",state=\"active\"} 2\n",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    assert!(world.done(&["metrics"])["text"].as_str().is_some_and(|text| text.contains("craton_pki_journal_records")));
    for (path, status) in [("nothing", 404), ("devices/nobody", 404), ("certificates?x=1", 400), ("cas/x/crl", 404)] {
        assert_eq!(get(path).status, status, "{path}");
    }
    let serial = world.serial("sensor");
    assert_eq!(get(&format!("certificates/{serial}/revoke")).status, 405);
    let revoke = url(&format!("certificates/{serial}/revoke"));
    let post = ["-H", &bearer, "-d", r#"{"reason":"superseded"}"#];
    assert_eq!(json(world.curl(&revoke, &post))["reason"], "superseded");
    assert_eq!(world.curl(&revoke, &post).status, 409);
    assert!(!world.text("log").contains(world.text("state/operator.token").trim()), "the token is not in the log");
}

#[test]
fn what_is_wrong_at_the_start_is_said() {
    let Some(world) = World::bare("what_is_wrong_at_the_start_is_said", &Choice::default()) else { return };
    let good = world.text("pki.toml");
    let refused = |status: i32, sentence: &str| {
        let output = world.run(&["init"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(sentence), "{said}");
    };
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        std::fs::write(world.path("pki.toml"), good.replacen(from, to, 1)).expect("writes");
    };
    with("label = ", "labl = ");
    refused(2, "labl");
    with("module = \"", "module = \"/nonexistent");
    refused(1, "cannot be loaded");
    with("label = \"", "label = \"no-");
    refused(1, "no initialised token is labelled");
    with("env:CRATON_PKI_PIN", "env:NOT_SET_ANYWHERE");
    refused(1, "NOT_SET_ANYWHERE is not set");
    with("env:CRATON_PKI_PIN", "wrong-pin-4711");
    refused(1, "the token refused the PIN");
    assert!(!String::from_utf8_lossy(&world.run(&["init"]).stderr).contains("wrong-pin-4711"));
    std::fs::write(world.path("pki.toml"), &good).expect("writes");
    std::fs::set_permissions(world.path("pki.toml"), std::fs::Permissions::from_mode(0o666)).expect("chmod");
    refused(2, "chmod o-w");
    std::fs::set_permissions(world.path("pki.toml"), std::fs::Permissions::from_mode(0o600)).expect("chmod");
    std::fs::set_permissions(world.path("state"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    refused(2, "may be entered by others");
    std::fs::set_permissions(world.path("state"), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let before = world.run(&["serve"]);
    assert!(String::from_utf8_lossy(&before.stderr).contains("run `craton-pki init`"), "{before:?}");
    world.done(&["init"]);
}

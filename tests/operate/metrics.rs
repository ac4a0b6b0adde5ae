//! The monitors' door: what it counts, what it never shows, and that the alert rules name metrics that exist.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use acceptance::daemon::workspace;
use acceptance::tools::available;
use acceptance::world::{LABEL, PIN, SO_PIN, World};

/// A world whose daemon shows metrics on a port that the system chose.
fn watched() -> World {
    let mut world = World::unstarted();
    world.configure("[metrics]\nbind = \"127.0.0.1:0\"");
    world.start_daemon();
    world.init_token();
    world
}

/// Where the daemon of a world shows its metrics, as its log says.
fn address(world: &World) -> SocketAddr {
    let log = fs::read_to_string(world.log()).expect("the daemon's log");
    let told = log.rsplit_once(" metrics=").map_or("", |(_, rest)| rest);
    let address = told.split_whitespace().next().and_then(|text| text.parse().ok());
    address.unwrap_or_else(|| panic!("no address in\n{log}"))
}

/// One HTTP request: the status line's code and the body.
fn ask(world: &World, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address(world)).expect("the metrics' door is open");
    stream.set_read_timeout(Some(Duration::from_secs(180))).expect("a socket");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let code = answer.split_whitespace().nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (code, body.to_owned())
}

/// The value of a sample by its name and labels.
fn value(page: &str, sample: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {sample} in\n{page}"))
}

#[test]
fn what_was_done_is_counted_and_timed() {
    if !available("metrics::what_was_done_is_counted_and_timed", "pkcs11-tool") {
        return;
    }
    let world = watched();
    let data = world.dir().join("data");
    fs::write(&data, b"data").expect("our own directory");
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--label", "kept"]).ok();
    for _ in 0..3 {
        let file = data.to_str().expect("UTF-8");
        world
            .pkcs11_tool_login(["--sign", "--mechanism", "ECDSA-SHA256", "--label", "kept", "--input-file", file])
            .ok();
    }
    let page = ask(&world, "GET", "/metrics").1;
    let work = "operation=\"sign\",mechanism=\"CKM_ECDSA_SHA256\"";
    assert!(value(&page, &format!("craton_hsm_operations_total{{{work},result=\"CKR_OK\"}}")) >= 3.0, "{page}");
    assert!(value(&page, &format!("craton_hsm_operation_duration_seconds_count{{{work}}}")) >= 3.0);
    assert!(value(&page, &format!("craton_hsm_operation_duration_seconds_sum{{{work}}}")) > 0.0);
    assert_eq!(value(&page, "craton_hsm_healthy"), 1.0);
    assert_eq!(value(&page, "craton_hsm_token_objects{slot=\"0\"}"), 2.0);
    let refused = "craton_hsm_operations_total{operation=\"login\",mechanism=\"none\",result=\"CKR_PIN_INCORRECT\"}";
    world.pkcs11_tool(["--token-label", LABEL, "--login", "--pin", "wrong-pin-1", "--list-objects"]).refused();
    let page = ask(&world, "GET", "/metrics").1;
    assert_eq!(value(&page, refused), 1.0);
    assert_eq!(value(&page, "craton_hsm_pin_failures{slot=\"0\",user=\"user\"}"), 1.0);
    // The operators' tool shows the same page.
    assert_eq!(value(&String::from_utf8_lossy(&world.admin(["metrics"]).ok().stdout), refused), 1.0);
    for secret in [PIN, SO_PIN, LABEL, "kept", "wrong-pin-1"] {
        assert!(!page.contains(secret), "{secret} is shown");
    }
}

#[test]
fn the_door_answers_two_questions_and_no_others() {
    let world = watched();
    assert_eq!(ask(&world, "GET", "/health"), (200, "ok\n".to_owned()));
    assert_eq!(ask(&world, "GET", "/").0, 404);
    assert_eq!(ask(&world, "POST", "/metrics").0, 405);
    assert!(ask(&world, "GET", "/metrics").1.ends_with("# EOF\n"));
    // Somebody who says nothing keeps nobody from asking.
    let silent: Vec<TcpStream> =
        (0..8).map(|_| TcpStream::connect(address(&world)).expect("the metrics' door is open")).collect();
    assert_eq!(ask(&world, "GET", "/health").0, 200);
    drop(silent);
}

/// The names that begin as ours do.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("craton_hsm_")).collect()
}

#[test]
fn the_alert_rules_and_the_page_of_operators_name_metrics_that_exist() {
    if !available("metrics::the_alert_rules_and_the_page_of_operators_name_metrics_that_exist", "pkcs11-tool") {
        return;
    }
    let world = watched();
    // What is counted per operation appears with the first one.
    world.pkcs11_tool(["--list-slots"]).ok();
    let page = ask(&world, "GET", "/metrics").1;
    let shown = names(&page);
    for file in ["packaging/prometheus/craton-hsm.rules.yml", "docs/operations.md"] {
        let text = fs::read_to_string(workspace().join(file)).unwrap_or_else(|why| panic!("{file}: {why}"));
        let named = names(&text);
        assert!(named.len() > 5, "{file} names {named:?}");
        for name in named {
            assert!(shown.contains(name), "{file}: the daemon shows no {name}");
        }
    }
}

/// The files of packaging/prometheus whose names end so.
fn rules(ending: &str) -> Vec<PathBuf> {
    let folder = fs::read_dir(workspace().join("packaging/prometheus")).expect("part of the repository");
    let files = folder.filter_map(Result::ok).map(|entry| entry.path());
    files.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

#[test]
fn the_alert_rules_are_valid_and_each_alert_fires_when_it_should() {
    if !available("metrics::the_alert_rules_are_valid_and_each_alert_fires_when_it_should", "promtool") {
        return;
    }
    let promtool = |words: [&str; 2], file: &Path| {
        acceptance::tools::run(std::process::Command::new("promtool").args(words).arg(file)).ok();
    };
    let found = rules(".rules.yml");
    assert!(!found.is_empty(), "there are no rules");
    for file in found {
        promtool(["check", "rules"], &file);
        let tests = PathBuf::from(file.to_string_lossy().replace(".rules.yml", ".test.yml"));
        let [rules, tested] =
            [&file, &tests].map(|path| fs::read_to_string(path).expect("each file of rules has tests"));
        for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
            assert!(tested.contains(&format!("alertname=\"{alert}\"")), "{}: {alert} is not tested", tests.display());
        }
        promtool(["test", "rules"], &tests);
    }
}

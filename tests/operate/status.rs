//! `status`: JSON for programs; what a person at a terminal sees is tested beside the code.

use acceptance::tools::available;
use acceptance::world::World;

#[test]
fn a_reader_that_is_no_terminal_gets_json() {
    let world = World::start();
    let said = world.admin(["status"]).ok();
    let status: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(status["health"], "ok");
    assert_eq!(status["slots"][0]["initialized"], true, "{status}");
    assert!(!said.stdout.contains(&0x1b), "no colours");
}

#[test]
fn a_terminal_gets_a_table_with_bars() {
    if !available("status::a_terminal_gets_a_table_with_bars", "script") {
        return;
    }
    let world = World::start();
    world.admin(["pin", "change", "--pin", "wrong-pin-1", "--new-pin", "other-pin-1"]).refused();
    let admin = acceptance::daemon::binary("craton-hsm-admin");
    let command = format!("{} --config {} status", admin.display(), world.config().display());
    let table = |no_color: &str| {
        let mut script = world.command("script");
        let said = acceptance::tools::run(
            script.args(["--quiet", "--return", "--command", &command, "/dev/null"]).env("NO_COLOR", no_color),
        );
        String::from_utf8_lossy(&said.ok().stdout).into_owned()
    };
    let coloured = table("");
    assert!(coloured.contains("health:") && coloured.contains("\u{1b}[32mok"), "{coloured:?}");
    assert!(coloured.contains("[#.........] 1 of 10"), "one wrong PIN of ten: {coloured:?}");
    assert!(!table("1").contains('\u{1b}'), "NO_COLOR is obeyed");
}

//! docs/runbook.md, run from its first block to its last. Its links lead somewhere, and so do those of the alerts.

use std::fs;

use acceptance::daemon::workspace;
use acceptance::page;
use acceptance::world::World;

#[test]
fn every_command_does_what_the_runbook_says() {
    if !page::all_available("runbook::every_command_does_what_the_runbook_says", &["pkcs11-tool"]) {
        return;
    }
    let mut world = World::start();
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--label", "kept"]).ok();
    world.stop_daemon();
    let host = page::Host::of(&world);
    let text = host.told(&page::document("runbook.md").replacen("```sh\n", "```sh\n$START\n", 1));
    page::run_text(&world, "runbook.md", &text, &host.variables());
}

/// Headings as the anchors that links name.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
    headings.map(|heading| heading.to_lowercase().replace(' ', "-")).collect()
}

#[test]
fn links_lead_to_headings() {
    let runbook = page::document("runbook.md");
    let anchors = anchors(&runbook);
    let rules = fs::read_to_string(workspace().join("packaging/prometheus/craton-hsm.rules.yml")).expect("the rules");
    let links = runbook.split("](#").skip(1).filter_map(|rest| rest.split(')').next());
    let alerts = rules.split("docs/runbook.md#").skip(1).filter_map(|rest| rest.split('"').next());
    let all: Vec<&str> = links.chain(alerts).collect();
    assert!(all.len() > 10, "{all:?}");
    for link in all {
        assert!(anchors.iter().any(|anchor| anchor == link), "no heading for #{link} among {anchors:?}");
    }
}

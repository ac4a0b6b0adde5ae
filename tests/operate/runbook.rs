//! docs/runbook.md, run from its first block to its last. Its links lead somewhere, and so do those of the alerts.

use std::fs;

use acceptance::daemon::workspace;
use acceptance::page;
use acceptance::world::World;

use crate::recovery::{is_offered, quoted};

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

#[test]
fn no_command_of_the_runbook_is_left_untried() {
    let page = page::document("runbook.md");
    let fences: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("```")).step_by(2).collect();
    assert!(fences.len() > 30, "{} blocks", fences.len());
    // What the two words are that the machine defines is the one block that is only read.
    let untried: Vec<&&str> = fences.iter().filter(|info| !["sh", "sh fails", "output"].contains(*info)).collect();
    assert_eq!(untried, [&"console"]);
    // Commands within sentences are offered with the options that they name.
    let mut seen = 0;
    for name in ["runbook.md", "operations.md"] {
        let text = page::document(name);
        // Blocks aside: their fences are back quotes, too.
        let prose: String = text.split("```").step_by(2).collect();
        for line in quoted(&prose).iter().filter(|line| line.starts_with("craton-")) {
            if ["craton-hsm-admin", "craton-pki", "craton-hsm-daemon"]
                .contains(&line.split(' ').next().unwrap_or_default())
            {
                is_offered(line);
                seen += 1;
            }
        }
    }
    assert!(seen > 8, "{seen} commands");
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

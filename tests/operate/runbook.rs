//! docs/runbook.md, run from its first block to its last. Its links lead somewhere, and so do those of the alerts.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

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
}

/// The documents in a folder of the repository.
fn documents(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(workspace().join(folder)).expect("a folder of the repository").filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect()
}

#[test]
fn every_command_that_a_document_names_is_offered_with_its_options() {
    const PROGRAMS: [&str; 3] = ["craton-hsm-admin", "craton-hsm-daemon", "craton-pki"];
    let mut commands = BTreeSet::new();
    for file in [".", "docs", "docs/clients", "admin-cli", "pkcs11-shim", "pki", "packaging"].map(documents).concat() {
        let text = fs::read_to_string(&file).expect("a document");
        let parts = text.split("```");
        // Between the blocks, what stands in back quotes; in them, lines.
        let said = parts.clone().step_by(2).flat_map(quoted);
        let lines = parts.skip(1).step_by(2).flat_map(str::lines).map(str::to_owned);
        for command in said.chain(lines) {
            let command = command.split(['#', '|', ';', '>', '&']).next().unwrap_or_default();
            let command = command.trim().trim_start_matches("sudo ").trim_end_matches('\\').trim();
            if PROGRAMS.contains(&command.split_whitespace().next().unwrap_or_default()) {
                commands.insert(command.to_owned());
            }
        }
    }
    assert!(commands.len() > 100, "{} commands", commands.len());
    for command in &commands {
        is_offered(command);
    }
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

//! Every target for a bounded time: what `make test` runs. FUZZ_SECONDS sets the time of the long ones, FUZZ_SEED the mutations.
#![allow(clippy::print_stdout, reason = "a run says how far it came")]

use std::time::Duration;

use hsm_fuzz::drive::{self, Plan};

/// Half a minute each, two at a time on two processors.
const SECONDS: u64 = 30;
/// For what parses a file or a frame, which is soon done.
const SHORT: u64 = 3;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn bounded(name: &str, seconds: u64) {
    let target = hsm_fuzz::target(name).expect("a target");
    assert!(drive::corpus(target).is_ok_and(|files| !files.is_empty()), "{name} has no corpus");
    let plan =
        Plan { time: Duration::from_secs(seconds), seed: number("FUZZ_SEED", 20_261_122), keep: None, longest: None };
    match drive::run(target, &plan) {
        Ok(report) => println!("{name}: {report:?} from seed {}", plan.seed),
        Err(finding) => panic!("{finding}"),
    }
}

#[test]
fn no_template_breaks_a_rule() {
    bounded("template", number("FUZZ_SECONDS", SECONDS));
}

#[test]
fn no_mechanism_parameter_breaks_an_operation() {
    bounded("parameter", number("FUZZ_SECONDS", SECONDS));
}

#[test]
fn no_request_breaks_the_dispatcher() {
    bounded("request", number("FUZZ_SECONDS", SECONDS));
}

#[test]
fn no_sequence_of_calls_leaves_the_model() {
    bounded("sequence", number("FUZZ_SECONDS", SECONDS));
}

#[test]
fn no_import_makes_a_key_that_does_not_work() {
    bounded("import", SHORT);
}

#[test]
fn no_frame_breaks_the_conversation() {
    bounded("frames", SHORT);
}

#[test]
fn no_configuration_is_taken_that_is_not_safe() {
    bounded("config", SHORT);
}

#[test]
fn no_changed_journal_verifies() {
    bounded("journal", SHORT);
}

#[test]
fn no_changed_backup_opens() {
    bounded("backup", SHORT);
}

#[test]
fn no_changed_store_shows_what_was_not_in_it() {
    bounded("store", SHORT);
}

#[test]
fn no_changed_record_is_opened() {
    bounded("record", SHORT);
}

#[test]
fn no_changed_share_gives_the_key() {
    bounded("share", SHORT);
}

#[test]
fn no_message_leaves_its_issuance_policy() {
    bounded("issuance", SHORT);
}

#[test]
fn no_certification_request_gets_what_it_may_not_have() {
    bounded("csr", SHORT);
}

#[test]
fn no_http_request_is_granted_what_its_sender_may_not_have() {
    bounded("est", SHORT);
}

#[test]
fn no_ocsp_request_is_read_in_two_ways() {
    bounded("ocsp", SHORT);
}

#[test]
fn no_revocation_list_loses_an_entry() {
    bounded("crl", SHORT);
}

#[test]
fn no_answer_breaks_the_enrolment_client() {
    bounded("answer", SHORT);
}

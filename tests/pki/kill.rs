//! kill -9 of the daemon while devices enrol: the PKI goes on when it is back, and nothing that a device was given is lost.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use acceptance::tools::run;
use acceptance::world::World;
use std::process::Command;

use crate::{Pki, reconcile, tools_for};

/// Kills, and devices that enrol around each, two at a time.
const KILLS: usize = 5;
const DEVICES: usize = 6;

#[test]
fn a_kill_of_the_daemon_during_enrolments_costs_none_that_was_answered() {
    let test = "kill::a_kill_of_the_daemon_during_enrolments_costs_none_that_was_answered";
    if !tools_for(test) {
        return;
    }
    let mut world = World::start();
    let mut pki = Pki::found(&world);
    pki.serve(&world);
    let (mut daemon, mut answered) = (world.take_daemon(), Vec::new());
    for round in 0..KILLS {
        let names: Vec<String> = (0..DEVICES).map(|device| format!("k{round}-{device}")).collect();
        names.iter().for_each(|name| Pki::request(&world, name));
        let credentials: Vec<String> = names.iter().map(|_| pki.credential(&world)).collect();
        let (done, is_begun) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let victim = daemon;
        daemon = thread::scope(|scope| {
            for half in 0..2 {
                let (world, pki, names, credentials) = (&world, &pki, &names, &credentials);
                let (done, is_begun) = (&done, &is_begun);
                scope.spawn(move || {
                    for (name, credential) in names.iter().zip(credentials).skip(half).step_by(2) {
                        is_begun.store(true, Ordering::SeqCst);
                        let answer = pki.ask(world, name, "simpleenroll", &["-u", credential]);
                        if answer.status.success() {
                            pki.keep(world, name, &answer);
                            done.lock().expect("lock").push(name.clone());
                        }
                    }
                });
            }
            while !is_begun.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(20 + 45 * u64::try_from(round).expect("few")));
            victim.kill();
            world.try_start().unwrap_or_else(|fault| panic!("{fault}"))
        });
        let done = done.into_inner().expect("lock");
        // What was not answered can be asked again with the same credential, unless it was issued: then it is not issued twice.
        for (name, credential) in names.iter().zip(&credentials).filter(|(name, _)| !done.contains(name)) {
            let again = pki.ask(&world, name, "simpleenroll", &["-u", credential]);
            let list = pki.json(&world, &["cert", "list", "--device", name]);
            let active = list["items"].as_array().expect("items").iter().filter(|item| item["state"] == "active");
            assert_eq!(active.count(), 1, "{name}: {again}\n{list}");
        }
        answered.extend(done);
    }
    println!("{} of {} enrolments were answered around {KILLS} kills", answered.len(), KILLS * DEVICES);
    for name in &answered {
        let [_, _, certificate] = Pki::files(&world, name);
        pki.verify(&certificate).ok().says("OK");
    }
    // Whatever the token may have signed has its serial number in the journal first, and the responder knows it.
    let journal = pki.json(&world, &["journal", "list", "--limit", "1000"]);
    let lines = journal["items"].as_array().expect("items").iter().filter_map(|line| line.as_str());
    let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a record"));
    let intended: Vec<String> = lines
        .filter(|line| line["event"] == "intended" && line["authority"] == "issuing")
        .filter_map(|line| line["serial"].as_str().map(str::to_owned))
        .collect();
    assert!(intended.len() >= KILLS * DEVICES, "{}", intended.len());
    let file = |name: &str| pki.state.join(name);
    for serial in &intended {
        let said = run(Command::new("openssl")
            .args(["ocsp", "-url", &format!("{}/ocsp", pki.crl), "-CAfile"])
            .arg(file("chain.pem"))
            .arg("-issuer")
            .arg(file("issuing.pem"))
            .args(["-serial", &format!("0x{serial}")]));
        let said = said.all();
        assert!(said.contains(": good") || said.contains(": revoked"), "{serial}: {said}");
    }
    pki.stop();
    // Still running: its keys are counted.
    let _daemon = daemon;
    let (agrees, report) = reconcile(&pki, &world, &[]);
    assert!(agrees, "{report}");
}

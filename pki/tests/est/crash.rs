//! Power failures: whatever was answered is there afterwards, and nothing is half done.

use crate::world::{Choice, World};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn no_answered_enrolment_is_lost_when_the_server_is_killed() {
    let test = "no_answered_enrolment_is_lost_when_the_server_is_killed";
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    for round in 0..4 {
        let names: Vec<String> = (0..12).map(|index| format!("r{round}-{index}")).collect();
        for name in &names {
            world.request(name, &format!("/CN={name}"), &[]);
        }
        let credentials: Vec<_> = names.iter().map(|_| world.credential(&[])).collect();
        let answered = Mutex::new(Vec::new());
        let stop = AtomicBool::new(false);
        let pid = world.pid();
        std::thread::scope(|scope| {
            for half in 0..2 {
                let (world, names, credentials, answered, stop) = (&world, &names, &credentials, &answered, &stop);
                scope.spawn(move || {
                    for (name, credential) in names.iter().zip(credentials).skip(half).step_by(2) {
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                        if world.enrol(name, credential).status == 200 {
                            answered.lock().expect("lock").push(name.clone());
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(60 + 35 * round));
            // The process id is that of the server this test started and has not yet waited for.
            world.tool("kill", &["-9", &pid.to_string()]);
            stop.store(true, Ordering::SeqCst);
        });
        world.kill();
        world.serve();
        let answered = answered.into_inner().expect("lock");
        for name in &answered {
            assert_eq!(world.states(name), ["active"], "{name}");
        }
        for (name, credential) in names.iter().zip(&credentials) {
            let states = world.states(name);
            let active = states.iter().filter(|state| *state == "active").count();
            assert!(active <= 1, "{name}: {states:?}");
            // What broke off can be done again with the same credential; what was done cannot.
            let again = world.enrol(name, credential).status;
            assert_eq!(again, if active == 1 { 403 } else { 200 }, "{name}: {states:?}");
        }
    }
}

/// Rounds of enrolments, the server killed in each; so many devices a round, each at another point of its enrolment.
const KILLS: usize = 20;
const POINTS: usize = 5;

#[test]
fn a_kill_at_any_of_100_points_leaves_no_certificate_unknown_to_ocsp() {
    let test = "a_kill_at_any_of_100_points_leaves_no_certificate_unknown_to_ocsp";
    let Some(mut world) = World::new(test, &Choice::default()) else { return };
    let mut answered = Vec::new();
    // How long five at a time take, nobody being killed: the kills move through that time.
    let mut whole = Duration::ZERO;
    for round in 0..=KILLS {
        let names: Vec<String> = (0..POINTS).map(|point| format!("k{round}-{point}")).collect();
        let credentials: Vec<_> = names.iter().map(|_| world.credential(&[])).collect();
        for name in &names {
            world.request(name, &format!("/CN={name}"), &[]);
        }
        let pid = world.pid().to_string();
        let begun = Instant::now();
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for (point, (name, credential)) in names.iter().zip(&credentials).enumerate() {
                let (world, done) = (&world, &done);
                scope.spawn(move || {
                    std::thread::sleep(whole * u32::try_from(point).expect("few") / 20);
                    if world.enrol(name, credential).status == 200 {
                        done.lock().expect("lock").push(name.clone());
                    }
                });
            }
            if round == 0 {
                return;
            }
            std::thread::sleep(whole / 4 + whole * u32::try_from(round).expect("few") / 20);
            // The process id is that of the server this test started and has not yet waited for.
            world.tool("kill", &["-9", &pid]);
        });
        if round == 0 {
            whole = begun.elapsed();
        } else {
            world.kill();
            world.serve();
        }
        answered.extend(done.into_inner().expect("lock"));
    }
    for name in &answered {
        assert_eq!(world.states(name), ["active"], "{name}");
    }
    // Whatever the token may have signed has its serial number in the journal first.
    let journal = world.done(&["journal", "list", "--limit", "1000"]);
    let lines = journal["items"].as_array().expect("items").iter().filter_map(|line| line.as_str());
    let intended =
        lines.filter(|line| line.contains("\"event\":\"intended\"") && line.contains("\"authority\":\"issuing\""));
    let serial =
        |line: &str| line.split("\"serial\":\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
    let serials: Vec<String> = intended.filter_map(serial).collect();
    assert!(serials.len() >= answered.len() && !serials.is_empty(), "{} of {}", answered.len(), serials.len());
    println!("{} enrolments answered, {} begun, {} tried", answered.len(), serials.len(), KILLS * POINTS);
    let url = format!("http://127.0.0.1:{}/ocsp", world.crl_port);
    for serial in &serials {
        let common = ["ocsp", "-CAfile", "state/chain.pem", "-issuer", "state/issuing.pem", "-url", &url, "-serial"];
        let said = world.openssl(&[&common[..], &[&format!("0x{serial}")]].concat());
        assert!(said.contains(": good") || said.contains(": revoked"), "{serial}: {said}");
    }
}

#[test]
fn an_interrupted_init_goes_on_where_it_broke_off() {
    let test = "an_interrupted_init_goes_on_where_it_broke_off";
    let Some(mut world) = World::bare(test, &Choice::default()) else { return };
    // The founding takes some 50 to 200 ms: it is killed ever later, until one comes through.
    let mut broken_off = 0;
    for delay in (20..2000).step_by(12) {
        if world.init_killed_after(Duration::from_millis(delay)).is_some() {
            break;
        }
        broken_off += 1;
    }
    assert!(broken_off > 0, "the first kill came too late to interrupt anything");
    let output = world.run(&["init"]);
    let said = String::from_utf8_lossy(&output.stderr);
    // SoftHSM2 rewrites its token file at each login and its objects in place: a kill in that moment costs it the token, or leaves a
    // key that does not sign. On a module that survives there is no excuse.
    let damage = ["no initialised token is labelled", "horrible, unrecoverable error"];
    if world.token().0.contains("softhsm") && damage.iter().any(|words| said.contains(words)) {
        println!("SKIPPED {test}: SoftHSM2 itself did not survive being killed");
        return;
    }
    world.done(&["init"]);
    let list = world.done(&["cert", "list"]);
    let items = list["items"].as_array().expect("items");
    for (kind, expected) in [("root", 1), ("issuing", 2), ("server", 1)] {
        let of_kind = items.iter().filter(|item| item["kind"] == kind);
        assert_eq!(of_kind.filter(|item| item["state"] == "active").count(), expected, "{kind}: {list}");
    }
    world.serve();
    world.enrolled("sensor");
    assert!(world.verify("sensor", &[]).status.success());
}

//! A wall clock that jumps: back by a day, ahead by ten years, and back again. Records keep their order and their times never
//! decrease, each jump is recorded, keys and PINs work, and wrong PINs are not forgiven by a jump.

use std::fs;

use acceptance::faults::Faults;
use acceptance::worker::Worker;
use acceptance::world::{Carrier, World};

const DAY: i64 = 24 * 3600;
const DECADE: i64 = 3653 * DAY;

#[test]
fn the_journal_keeps_its_order_when_the_clock_jumps() {
    let mut world = World::unstarted_for(Carrier::Express);
    let Some(faults) = Faults::prepare("clock::the_journal_keeps_its_order_when_the_clock_jumps", world.dir()) else {
        return;
    };
    world.daemon_environment(faults.environment());
    world.start_daemon();
    world.init_token();
    let mut worker = Worker::start(&world);
    worker.ok("open");
    worker.ok("login");
    worker.ok("token-key first");
    for (jump, seconds) in [("back a day", -DAY), ("ahead ten years", DECADE), ("back to now", 0)] {
        faults.shift_clock(seconds);
        assert_eq!(worker.ok("sign first 1 3"), "3", "{jump}");
        worker.ok(&format!("create-some after{seconds} 2"));
    }
    world.admin(["audit", "verify"]).ok();
    let text = fs::read_to_string(world.journal()).expect("the journal");
    let records: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    let number = |record: &serde_json::Value, name: &str| record[name].as_u64().expect("a number");
    for pair in records.windows(2) {
        assert_eq!(number(&pair[1], "seq"), number(&pair[0], "seq") + 1);
        assert!(number(&pair[1], "time") >= number(&pair[0], "time"), "{}", pair[1]);
    }
    let jumps: Vec<(String, u64)> = records
        .iter()
        .filter(|record| record["op"] == "clock_jump")
        .map(|record| {
            let detail = &record["detail"];
            (
                detail["direction"].as_str().unwrap_or_default().to_owned(),
                detail["seconds"].as_u64().unwrap_or_default(),
            )
        })
        .collect();
    let directions: Vec<&str> = jumps.iter().map(|(direction, _)| direction.as_str()).collect();
    assert_eq!(directions, ["back", "forward", "back"], "{jumps:?}");
    assert!(jumps.iter().all(|(_, seconds)| *seconds + 120 >= DAY.unsigned_abs()), "{jumps:?}");
    drop(worker);
    // A start a decade before the newest record.
    world.crash_and_restart();
    let mut worker = Worker::start(&world);
    worker.ok("open");
    worker.ok("login");
    assert_eq!(worker.ok("sign first 1 3"), "3");
    world.admin(["audit", "verify"]).ok();
}

//! A process that forks after C_Initialize (PKCS#11 v3.0 §6.8: the child is a new application, which initialises for itself). nginx,
//! OpenDNSSEC and every pre-forking server live by this.

use std::path::Path;

use acceptance::daemon::workspace;
use acceptance::tools::{available, run};
use acceptance::world::World;

#[test]
fn pkcs11_tool_passes_its_own_fork_test() {
    if available("fork::pkcs11_tool_passes_its_own_fork_test", "pkcs11-tool") {
        World::start().pkcs11_tool(["--test-fork"]).ok().says("child");
    }
}

#[test]
fn the_child_is_a_new_application_and_the_parent_goes_on() {
    if !available("fork::the_child_is_a_new_application_and_the_parent_goes_on", "python3") {
        return;
    }
    let script = workspace().join("tests/testdata/fork.py");
    assert!(Path::new(&script).is_file());
    let world = World::start();
    run(world.command("python3").arg(script)).ok().says("parent goes on");
}

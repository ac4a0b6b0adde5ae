//! Node: pkcs11js and graphene-pk11.

use acceptance::daemon::workspace;
use acceptance::tools::skip;
use acceptance::world::World;

use acceptance::page;

#[test]
fn page() {
    let modules = workspace().join(".venv/node/node_modules");
    if !modules.join("graphene-pk11").is_dir() {
        return skip("node::page", "pkcs11js and graphene-pk11 not found in .venv/node");
    }
    if page::all_available("node::page", &["node"]) {
        page::run_in(&World::start(), "node", &[("NODE_PATH", &modules)]);
    }
}

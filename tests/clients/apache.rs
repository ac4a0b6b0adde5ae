//! Apache: mod_ssl with the engine of libp11; children that serve as another user.

use acceptance::page;

#[test]
fn page() {
    let programs = ["apache2", "openssl", "pkcs11-tool", "curl"];
    if page::engine("apache::page") && page::all_available("apache::page", &programs) {
        page::run_in(&page::world_for_servers(""), "apache", &[]);
    }
}

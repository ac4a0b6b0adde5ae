//! A token whose store key is not on its disk: it answers health, refuses everything else, and wakes up for a passphrase, for enough
//! people, or for a key in another PKCS#11 module.

use std::fs;
use std::path::Path;

use acceptance::tools::{self, Finished, available, softhsm};
use acceptance::world::World;

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// A world with one key pair whose store key is sealed by this command line; its daemon has been started again and is sealed.
fn sealed(line: &[&str]) -> World {
    let mut world = World::start();
    fs::write(world.dir().join("phrase"), "open sesame\n").expect("our own directory");
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "kept"]).ok();
    let args = ["store-key", "seal", "--passphrase", "file:phrase"].iter().chain(line);
    world.admin(args).ok();
    world.stop_daemon();
    let key = fs::read_to_string(world.store().join("store.key")).expect("the key file");
    assert!(key.starts_with("craton-sealed-key-1 "), "the key file is not sealed");
    world.start_daemon();
    world
}

fn signs(world: &World) -> Finished {
    fs::write(world.dir().join("data"), [7; 32]).expect("our own directory");
    let line = ["--sign", "--mechanism", "ECDSA", "--id", "01", "--input-file", "data", "--output-file", "signature"];
    world.pkcs11_tool_login(line)
}

fn journal_has(world: &World, rv: &str) -> bool {
    let journal = fs::read_to_string(world.journal()).expect("the journal");
    journal.lines().any(|line| line.contains("\"op\":\"unseal\"") && line.contains(rv))
}

#[test]
fn a_sealed_token_refuses_use_until_enough_people_have_come() {
    if !available("unseal::a_sealed_token_refuses_use_until_enough_people_have_come", "pkcs11-tool") {
        return;
    }
    let world = sealed(&["--shares", "2:3", "--shares-directory", "."]);
    let status = world.admin(["status", "--json"]);
    assert!(!status.status.success() && status.to_string().contains("\"sealed\": true"), "{status}");
    signs(&world).refused();
    let refused = world.admin(["token", "info"]).refused().to_string();
    assert!(refused.contains("2 of 3 shares") && refused.contains("CKR_TOKEN_NOT_PRESENT"), "{refused}");

    let bring = |number: u32| world.admin(["unseal", "--share", &format!("file:store-key.share-{number}")]);
    let first = bring(3).ok().to_string();
    assert!(first.contains("1 of 2"), "{first}");
    assert!(bring(3).refused().to_string().contains("there already"));
    signs(&world).refused();
    assert!(bring(1).ok().to_string().contains("no"), "unsealed");
    world.admin(["status"]).ok();
    signs(&world).ok();
    assert!(journal_has(&world, "CKR_OK") && journal_has(&world, "CKR_DATA_INVALID"));
    world.admin(["audit", "verify"]).ok();
}

#[test]
fn a_wrong_passphrase_leaves_the_token_sealed_and_the_right_one_opens_it() {
    let world = sealed(&[]);
    fs::write(world.dir().join("wrong"), "open barley").expect("our own directory");
    let refused = world.admin(["unseal", "--passphrase", "file:wrong"]).refused().to_string();
    assert!(refused.contains("passphrase does not open"), "{refused}");
    assert_eq!(world.admin_json(["unseal"])["sealed"], true);
    assert_eq!(world.admin_json(["unseal", "--passphrase", "file:phrase"])["sealed"], false);
    assert!(journal_has(&world, "CKR_PIN_INCORRECT") && journal_has(&world, "CKR_OK"));
    // Back to a plain file, and a start that waits for nobody.
    world.admin(["store-key", "open", "--passphrase", "file:wrong"]).refused();
    world.admin(["store-key", "open", "--passphrase", "file:phrase"]).ok();
    let mut world = world;
    world.crash_and_restart();
    world.admin(["status"]).ok();
}

#[test]
fn a_restore_over_a_sealed_store_leaves_its_key_sealed() {
    let mut world = sealed(&[]);
    world.admin(["unseal", "--passphrase", "file:phrase"]).ok();
    world.admin(["backup", "--pin", "env:SO_PIN", "--output", "token.backup"]).ok();
    world.stop_daemon();
    let line = [
        "restore",
        "--pin",
        "env:SO_PIN",
        "--input",
        "token.backup",
        "--force",
        "--accept-rollback",
        "--reason",
        "test",
    ];
    world.admin(line).ok();
    world.start_daemon();
    assert_eq!(world.admin_json(["unseal"])["sealed"], true);
    assert_eq!(world.admin_json(["unseal", "--passphrase", "file:phrase"])["sealed"], false);
}

#[test]
fn a_key_in_another_module_opens_the_store() {
    let name = "unseal::a_key_in_another_module_opens_the_store";
    let Some(module) = softhsm() else {
        return tools::skip(name, "SoftHSM2 not found");
    };
    if !available(name, "pkcs11-tool") || !available(name, "softhsm2-util") {
        return;
    }
    let world = World::unstarted();
    let tokens = world.dir().join("softhsm");
    fs::create_dir(&tokens).expect("our own directory");
    let conf = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
    fs::write(world.dir().join("softhsm2.conf"), conf).expect("our own directory");
    let init = ["--init-token", "--free", "--label", "outer", "--so-pin", "12345678", "--pin", "87654321"];
    tools::run(world.command("softhsm2-util").args(init)).ok();
    let keygen =
        ["--login", "--pin", "87654321", "--token-label", "outer", "--keygen", "--key-type", "aes:32", "--label"];
    let keygen = keygen.iter().chain(&["wake"]);
    tools::run(world.command("pkcs11-tool").arg("--module").arg(&module).args(keygen)).ok();
    let mut world = world;
    world.start_daemon();
    world.init_token();
    fs::write(world.dir().join("outer-pin"), "87654321").expect("our own directory");
    let at = ["--module", text(&module), "--module-pin", "file:outer-pin"];
    let seal = ["store-key", "seal", "--module-token", "outer", "--module-key", "wake"];
    world.admin(seal.iter().chain(&at)).ok();
    world.crash_and_restart();
    assert_eq!(world.admin_json(["unseal"])["sealed"], true);
    fs::write(world.dir().join("wrong-pin"), "11112222").expect("our own directory");
    world.admin(["unseal", "--module", text(&module), "--module-pin", "file:wrong-pin"]).refused();
    world.admin(["unseal"].iter().chain(&at)).ok();
    world.admin(["status"]).ok();
    world.admin(["token", "info"]).ok();
}

//! Other ways into a backup than the SO PIN: a passphrase, a pair of keys, shares for several people.

use std::fs;
use std::path::{Path, PathBuf};

use acceptance::world::World;

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

#[test]
fn a_passphrase_a_key_and_enough_shares_restore_a_backup_and_nothing_less_does() {
    let world = World::start();
    let at = |name: &str| world.dir().join(name);
    world.admin(["backup", "keygen", "--output", text(&at("key"))]).ok();
    fs::write(at("phrase"), "six words that nobody else knows\n").expect("our own directory");
    let phrase = format!("file:{}", text(&at("phrase")));
    let archive = at("token.backup");
    let taken = world.admin_json([
        "backup",
        "--pin",
        "env:SO_PIN",
        "--output",
        text(&archive),
        "--recipient",
        text(&at("key.pub")),
        "--passphrase",
        &phrase,
        "--shares",
        "2:3",
    ]);
    assert_eq!(taken["opened_by"].as_array().expect("a list").len(), 4, "{taken}");
    assert!(taken["audit_first_key"].as_str().is_some_and(|key| key.len() == 64), "{taken}");
    let shares: Vec<PathBuf> = (1..=3).map(|number| at(&format!("token.backup.share-{number}"))).collect();
    let share = |number: usize| format!("file:{}", text(&shares[number - 1]));
    let rows: [(&str, Vec<String>); 4] = [
        ("passphrase", vec!["--passphrase".into(), phrase.clone()]),
        ("secret key", vec!["--secret-key".into(), text(&at("key")).into()]),
        ("shares 1 and 3", vec!["--share".into(), share(1), "--share".into(), share(3)]),
        ("shares 3 and 2", vec!["--share".into(), share(3), "--share".into(), share(2)]),
    ];
    for (name, opening) in rows {
        let elsewhere = World::unstarted();
        let mut line = vec!["restore", "--input", text(&archive)];
        line.extend(opening.iter().map(String::as_str));
        assert!(elsewhere.admin(line).status.success(), "{name} did not restore");
    }
    let elsewhere = World::unstarted();
    let refused = |opening: &[&str], words: &str| {
        let line = ["restore", "--input", text(&archive)].into_iter().chain(opening.iter().copied());
        let said = elsewhere.admin(line).refused().to_string();
        assert!(said.contains(words), "{said}");
    };
    refused(&["--share", &share(1)], "1 of 2 shares");
    refused(&["--share", &share(1), "--share", &share(1)], "given twice");
    refused(&["--passphrase", "env:SO_PIN"], "opens with");
    let damaged = fs::read_to_string(&shares[0]).expect("a share").replacen("craton-share-1 a", "craton-share-1 b", 1);
    fs::write(at("slip"), damaged.replace("craton-share-1 ", "craton-share-1 a")).expect("our own directory");
    refused(&["--share", &format!("file:{}", text(&at("slip")))], "slip");
    assert!(!elsewhere.store().exists() || fs::read_dir(elsewhere.store()).expect("a folder").next().is_none());
}

//! The command line is consistent, documented, and takes what documents write.

use clap::CommandFactory;

use super::*;

#[test]
fn command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_readme_names_every_command() {
    fn paths(command: &clap::Command, before: &str, found: &mut Vec<String>) {
        let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
        if below.is_empty() || command.get_name() == "backup" {
            found.push(before.trim().to_owned());
        }
        for below in below {
            paths(below, &format!("{before} {}", below.get_name()), found);
        }
    }
    // One cell may name several that differ in the last word, parted by an escaped bar.
    let readme = include_str!("../../README.md").replace("\\|", "|");
    let cells: Vec<&str> = readme.split('`').skip(1).step_by(2).collect();
    let mut all = Vec::new();
    paths(&Cli::command(), "", &mut all);
    assert!(all.len() > 30, "{all:?}");
    for path in all {
        let (before, last) = path.rsplit_once(' ').unwrap_or(("", &path));
        let names = |cell: &&str| {
            let rest = cell.strip_prefix(before).map(str::trim_start).unwrap_or_default();
            rest.split(' ').next().is_some_and(|word| word.split('|').any(|name| name == last))
        };
        let is_export = path.starts_with("audit export-") && cells.contains(&last);
        assert!(is_export || cells.iter().any(names), "README.md does not name {path}");
    }
}

#[test]
fn documented_lines_parse() {
    let lines = [
        "token init --label L",
        "token init --label L --slot 1 --so-pin - --user-pin env:X",
        "token info --json",
        "token rotate-key --pin - --user-pin env:P --slot 0",
        "token auto-login --enable --pin env:P --token L",
        "token auto-login --disable",
        "--config c.toml status",
        "doctor --backups D",
        "metrics",
        "pin change --user-type USER",
        "pin change --user-type SO --pin - --new-pin -",
        "pin reset",
        "key list",
        "backup --pin 12345678 --output F",
        "backup --pin - --output F --recipient K --recipient L --passphrase env:P --shares 2:3 --shares-directory D",
        "backup keygen --output K",
        "backup --pin - --output F --bundle --with P --with Q",
        "backup extract F --directory D --pin -",
        "backup verify F --passphrase -",
        "restore --secret-key K --input F",
        "restore --share file:A --share - --input F",
        "unseal",
        "unseal --share file:A --share file:B",
        "unseal --passphrase -",
        "unseal --module M --module-pin -",
        "store-key show",
        "store-key seal --passphrase - --shares 2:3 --shares-directory D",
        "store-key seal --module M --module-token T --module-key K --module-pin - --old-passphrase env:P",
        "store-key open --passphrase -",
        "backup list D",
        "backup inspect F",
        "backup verify F --pin -",
        "backup prune D --keep 3 --days 30 --dry-run",
        "backup prune D --keep 48 --daily 90",
        "backup status D --max-age 2",
        "backup status D --store 00ff",
        "restore --pin 12345678 --input F",
        "restore --pin - --input F --force",
        "restore --pin - --input F --force --accept-rollback --reason fire",
        "store accept-rollback --pin - --reason fire",
        "drill --pin - --input F",
        "drill --secret-key K --so-pin - --input F",
        "drill --share file:A --share file:B --user-pin env:P --input F",
        "drill --passphrase env:P --user-pin - --input F",
        "backup list D --at 2026-11-22T14:30",
        "drill --pin - --input F --report R --sign-with L --user-pin env:P --scratch D --daemon E --token T",
        "audit verify --file F",
        "audit verify-chain",
        "audit verify --key abab --key cdcd --later-start",
        "audit verify --witness W --witness /var/log/syslog",
        "audit witnessed --origin craton-hsm/ab",
        "audit key",
        "audit checkpoint --file F",
        "audit anchor --file F --check A",
        "audit prove --seq 7 --key abab",
        "audit check-proof --proof F --key abab",
        "audit export-cef",
        "audit export --format syslog",
        "audit export-json",
        "audit export-ndjson --from 7",
        "audit export-syslog",
        "audit dump --last 5",
    ];
    for line in lines {
        let parsed = Cli::try_parse_from(["craton-hsm-admin"].into_iter().chain(line.split(' ')));
        assert!(parsed.is_ok(), "{line}: {}", parsed.map(|_| ()).unwrap_err());
    }
}

#[test]
fn a_switch_is_put_on_or_off() {
    for line in ["token auto-login", "token auto-login --enable --disable", "token auto-login --disable --pin -"] {
        assert!(Cli::try_parse_from(["craton-hsm-admin"].into_iter().chain(line.split(' '))).is_err(), "{line}");
    }
}

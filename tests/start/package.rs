//! The Debian package, built from the tests' own programs: what Debian's checker says of it, and its whole life on a machine with systemd
//! and on one without. Each machine is a throw-away copy of this one (`testdata/boot.sh`), with real users, units and credentials.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use acceptance::daemon::{bin_dir, workspace};
use acceptance::tools::{available, find_in, run, skip};

/// Packs the programs that the tests use.
fn build(to: &Path) -> PathBuf {
    let mut command = Command::new(workspace().join("scripts/deb"));
    // Compressing costs more than all the rest.
    command.env("CRATON_BIN_DIR", bin_dir()).env("DEB_DIR", to).env("DPKG_DEB_COMPRESSOR_TYPE", "none");
    run(&mut command).ok();
    let mut found = fs::read_dir(to).expect("a directory").filter_map(Result::ok).map(|entry| entry.path());
    found.find(|path| path.extension().is_some_and(|extension| extension == "deb")).expect("a package")
}

/// The same package, one version later.
fn later(package: &Path, to: &Path) {
    let unpacked = to.with_extension("unpacked");
    run(Command::new("dpkg-deb").arg("--raw-extract").args([package, &unpacked])).ok();
    let control = unpacked.join("DEBIAN/control");
    let text = fs::read_to_string(&control).expect("a package describes itself");
    let risen = text.lines().map(|line| match line.strip_prefix("Version: ") {
        Some(version) => format!("Version: {version}+1\n"),
        None => format!("{line}\n"),
    });
    fs::write(&control, risen.collect::<String>()).expect("our own file");
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "--build"]).args([&unpacked, to]).env("DPKG_DEB_COMPRESSOR_TYPE", "none");
    run(&mut command).ok();
    fs::remove_dir_all(unpacked).expect("our own directory");
}

/// Runs a story of `testdata` with the package, on a machine of its own.
fn live(test: &str, story: &str, alone: bool) {
    let path = std::env::join_paths(["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/lib/systemd"].map(PathBuf::from))
        .expect("plain paths");
    let tools = ["dpkg-deb", "pkcs11-tool", "adduser", "unshare", "man", "runuser", "systemd"];
    if let Some(missing) = tools.into_iter().find(|tool| find_in(&path, tool).is_none()) {
        return skip(test, &format!("{missing} not found"));
    }
    let given = tempfile::tempdir().expect("a temporary directory");
    let packed = build(given.path());
    let package = given.path().join("old.deb");
    fs::rename(packed, &package).expect("our own file");
    if !alone {
        later(&package, &given.path().join("new.deb"));
    }
    let testdata = workspace().join("tests/testdata");
    fs::copy(testdata.join(story), given.path().join("story")).expect("a story");
    let mut command = Command::new(testdata.join("boot.sh"));
    command.arg(given.path()).arg("/given/story");
    let done = run(command.args(alone.then_some("alone")));
    if done.status.code() == Some(77) {
        return skip(test, "this machine lets nobody boot another one (root, namespaces, cgroups)");
    }
    let said = fs::read(given.path().join("said")).unwrap_or_default();
    assert!(done.status.success(), "{done}\n{}", String::from_utf8_lossy(&said));
}

#[test]
fn an_installed_package_serves_backs_up_survives_and_leaves_keys_behind() {
    live("package::an_installed_package_serves_backs_up_survives_and_leaves_keys_behind", "installed.sh", false);
}

#[test]
fn an_installed_package_works_without_systemd() {
    live("package::an_installed_package_works_without_systemd", "installed_alone.sh", true);
}

#[test]
fn each_man_page_has_every_command_and_option_of_its_program() {
    const NAME: &str = "package::each_man_page_has_every_command_and_option_of_its_program";
    if !available(NAME, "man") {
        return;
    }
    const ROWS: [(&str, &str, &[&str]); 4] = [
        ("craton-hsm-admin", "1", &["craton-hsm-admin store accept-rollback", "--sign-with <LABEL>", "verify-chain"]),
        ("craton-hsm-daemon", "8", &["--check-config"]),
        ("craton-pki", "8", &["craton-pki reconcile", "--accept", "craton-pki ca rollover"]),
        ("craton-pki-client", "1", &["craton-pki-client enrol", "EXIT STATUS", "SEE ALSO"]),
    ];
    let folder = tempfile::tempdir().expect("a temporary directory");
    for (program, section, words) in ROWS {
        let page = workspace().join(format!("packaging/man/{program}.{section}"));
        let whole = run(Command::new(workspace().join("scripts/man")).arg(bin_dir().join(program)).arg(page)).ok();
        let file = folder.path().join(format!("{program}.{section}"));
        fs::write(&file, &whole.stdout).expect("our own file");
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l"]).arg(&file).env("MANWIDTH", "200").env("LC_ALL", "C.UTF-8");
        let shown = run(&mut man).ok();
        assert_eq!(shown.stderr, "", "{program}");
        for word in words {
            assert!(shown.text().contains(word), "{program}.{section} lacks {word}:\n{}", shown.text());
        }
    }
}

/// Somebody who was woken has the package and not this repository.
#[test]
fn every_document_that_the_doctor_sends_to_is_in_the_package_and_so_are_their_links() {
    const NAME: &str = "package::every_document_that_the_doctor_sends_to_is_in_the_package_and_so_are_their_links";
    if !available(NAME, "dpkg-deb") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let package = build(folder.path());
    let unpacked = folder.path().join("unpacked");
    run(Command::new("dpkg-deb").arg("--extract").args([&package, &unpacked])).ok();
    let documents = unpacked.join("usr/share/doc/craton-hsm");
    let remedies = fs::read_to_string(workspace().join("admin-cli/src/command/doctor/rules.rs")).expect("the rules");
    let is_place = |word: &&str| word.starts_with("docs/") || word.starts_with("packaging/");
    let remedies = remedies.lines().filter(|line| line.contains("remedy: "));
    let places: Vec<&str> = remedies.flat_map(|line| line.split([' ', '"', '(', ')', ','])).filter(is_place).collect();
    assert!(places.len() > 4, "{places:?}");
    for place in places {
        assert!(documents.join(place).is_file(), "the doctor names {place}, which is not in the package");
    }
    for entry in fs::read_dir(documents.join("docs")).expect("documents").filter_map(Result::ok) {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let leads = link.is_empty() || link.contains("://") || documents.join("docs").join(link).exists();
            assert!(leads, "{}: {link} is not in the package", entry.path().display());
        }
    }
}

#[test]
fn debians_checker_finds_nothing_to_say() {
    const NAME: &str = "package::debians_checker_finds_nothing_to_say";
    if !available(NAME, "dpkg-deb") || !available(NAME, "lintian") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let package = build(folder.path());
    let mut command = Command::new("lintian");
    // The released package is compressed.
    let ours = "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball";
    let said = run(command.args(["--allow-root", "--fail-on", "error,warning", "--suppress-tags", ours]).arg(&package));
    said.ok();
}

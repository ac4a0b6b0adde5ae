//! Pages of `docs` (those of the clients, the runbook), run as they stand. The rule is told to readers in `docs/clients/README.md`:
//!
//! - a block marked `sh` is run; one marked `sh fails` must fail;
//! - a block marked `output` follows one of those: each of its lines must occur in what that block printed;
//! - a block marked with a language and a file's name is saved under that name;
//! - anything else is only read by people.
//!
//! All blocks of a page make one `bash -eu` script in an empty directory. At its end it ends its background jobs and the servers that
//! left their process id in a `*.pid` file.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::daemon::{binary, workspace};
use crate::port::free_port;
use crate::tools::{self, find_in, skip};
use crate::world::{World, trusted};

/// The longest that one page may take: Java starts a dozen times on a busy machine.
const PAGE_LIMIT: Duration = Duration::from_secs(600);

/// Says the block's number in the output, where that block begins.
const MARK: &str = "@@ block ";

/// What every page's script begins with. A server that ends by itself leaves nothing to kill; whoever comes after the page finds their files free.
const PREAMBLE: &str = "set -euo pipefail
ended() {
    local served=\"$(jobs -p) $(cat *.pid 2>/dev/null || true)\"
    kill $served 2>/dev/null || true
    for pid in $served; do for _ in $(seq 600); do kill -0 $pid 2>/dev/null || break; sleep 0.1; done; done
}
trap ended EXIT
";

/// One fenced block.
#[derive(Debug, PartialEq)]
pub enum Block {
    /// Commands that succeed.
    Run(String),
    /// Commands that fail.
    Fails(String),
    /// What the commands before it printed, line by line.
    Output(Vec<String>),
    /// A file to save: its name and its content.
    File(String, String),
    /// Not for the test.
    Read,
}

/// The fenced blocks of a page, in order.
///
/// # Panics
/// When a fence is not closed, or is indented: it would be shown as a block and not be run.
pub fn blocks(text: &str) -> Vec<Block> {
    let (mut found, mut open): (Vec<Block>, Option<(String, Vec<&str>)>) = (Vec::new(), None);
    for line in text.lines() {
        open = match (open.take(), line.strip_prefix("```")) {
            (None, Some(info)) => Some((info.trim().to_owned(), Vec::new())),
            (None, None) => {
                assert!(!line.trim_start().starts_with("```"), "an indented fence is not run: {line}");
                None
            }
            (Some((info, body)), Some("")) => {
                found.push(block(&info, &body));
                None
            }
            (Some((info, mut body)), _) => {
                body.push(line);
                Some((info, body))
            }
        };
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

fn block(info: &str, body: &[&str]) -> Block {
    let text = || body.iter().map(|line| format!("{line}\n")).collect();
    match info.split_whitespace().collect::<Vec<_>>()[..] {
        ["sh"] => Block::Run(text()),
        ["sh", "fails"] => Block::Fails(text()),
        ["output"] => Block::Output(body.iter().map(|line| line.trim().to_owned()).collect()),
        [_, name] => Block::File(name.to_owned(), text()),
        _ => Block::Read,
    }
}

/// The script of a page's blocks, and of each block with an `output` the lines that it must print.
fn script(blocks: &[Block]) -> (String, Vec<(usize, Vec<String>)>) {
    let (mut script, mut expected, mut last) = (PREAMBLE.to_owned(), Vec::new(), None);
    for (number, block) in blocks.iter().enumerate() {
        match block {
            Block::Run(commands) => script += &format!("echo '{MARK}{number}'\n{commands}"),
            Block::Fails(commands) => {
                script += &format!(
                    "echo '{MARK}{number}'\nif (\n{commands}); then echo 'this block should have failed'; exit 1; fi\n"
                );
            }
            Block::Output(lines) => {
                expected.push((last.expect("an output block follows one that is run"), lines.clone()));
            }
            Block::File(..) | Block::Read => {}
        }
        if matches!(block, Block::Run(_) | Block::Fails(_)) {
            last = Some(number);
        }
    }
    (script, expected)
}

/// A page of `docs/clients`, its text.
///
/// # Panics
/// When there is no such page.
pub fn text(name: &str) -> String {
    document(&format!("clients/{name}.md"))
}

/// A page of `docs` by its path there, its text.
///
/// # Panics
/// When there is no such page.
pub fn document(path: &str) -> String {
    let path = workspace().join("docs").join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs a page beside a token of its own; skips by name when one of the programs is not installed.
pub fn run(name: &str, programs: &[&str]) {
    if all_available(&format!("{name}::page"), programs) {
        run_in(&World::start(), name, &[]);
    }
}

/// Whether all the programs are installed; says by the test's name which one is not.
pub fn all_available(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| find_in(&path_variable(), program).is_none());
    if let Some(program) = missing {
        skip(test, &format!("{program} not found"));
    }
    missing.is_none()
}

/// Runs a page in a world, with more variables.
///
/// # Panics
/// With what the page printed, when it did not do what it says.
pub fn run_in(world: &World, name: &str, variables: &[(&str, &Path)]) {
    run_text(world, &format!("{name}.md"), &text(name), variables);
}

/// Runs the text of a page, which a message calls `title`.
///
/// # Panics
/// As [`run_in`].
pub fn run_text<P: AsRef<OsStr>>(world: &World, title: &str, text: &str, variables: &[(&str, P)]) {
    let blocks = blocks(text);
    let (script, expected) = script(&blocks);
    let dir = world.dir().join("page");
    fs::create_dir(&dir).expect("the world's directory is writable");
    for block in &blocks {
        if let Block::File(file, content) = block {
            assert!(!file.contains('/'), "{file}: a page saves files in its directory only");
            fs::write(dir.join(file), content).expect("a file");
        }
    }
    let said = shell(world, &dir, &script, variables).unwrap_or_else(|said| panic!("{title}:\n{said}"));
    for (number, lines) in expected {
        let mark = format!("{MARK}{number}\n");
        let printed = said.split_once(&mark).map_or("", |(_, rest)| rest.split(MARK).next().unwrap_or_default());
        for line in lines {
            assert!(printed.contains(&line), "{title}: block {number} should have printed {line:?}:\n{printed}");
        }
    }
}

/// A world for servers that begin as root and serve as `www-data`: that group may connect to the daemon, pass the directory and read
/// the configuration. Without root's power such a server keeps the user of the test, and nothing is opened. `shim` is keys of
/// the module's own table.
///
/// # Panics
/// When the daemon does not come up.
pub fn world_for_servers(shim: &str) -> World {
    world_of_servers(shim, "")
}

/// The same, and the token takes this user and the servers' without a PIN.
///
/// # Panics
/// When the daemon does not come up.
pub fn unattended_world_for_servers(shim: &str) -> World {
    let own = rustix::process::geteuid();
    let serving = tools::run(Command::new("id").args(["-u", "www-data"]));
    let mut clients = trusted(own.as_raw());
    if own.is_root() {
        let serving = String::from_utf8_lossy(&serving.ok().stdout).trim().to_owned();
        clients += &format!("[[client]]\nuid = {serving}\nroles = [\"use\", \"auto-login\"]\ntokens = [\"*\"]\n");
    }
    let world = world_of_servers(shim, &clients);
    world.take_without_pin();
    world
}

/// `clients` is a clients file, unless it is empty.
fn world_of_servers(shim: &str, clients: &str) -> World {
    let mut world = World::unstarted();
    let mut config = world.config_with_shim(shim);
    if !clients.is_empty() {
        world.write_clients(clients);
        config += "clients = \"clients.toml\"\n";
    }
    world.write_config(&config);
    if rustix::process::geteuid().is_root() {
        world.write_config(&format!("{config}socket_group = \"www-data\"\n"));
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own file");
        set(world.dir(), 0o711);
        set(&world.config(), 0o644);
    }
    world.start_daemon();
    world.init_token();
    world
}

/// Runs a script in a directory; what it printed, as an error when it failed. Its output is a file and not a pipe, because a server
/// that it starts may hold it open for longer than the script runs.
fn shell<P: AsRef<OsStr>>(world: &World, dir: &Path, script: &str, variables: &[(&str, P)]) -> Result<String, String> {
    let (file, out) = (dir.join("page.sh"), dir.join("page.out"));
    fs::write(&file, script).expect("a file");
    let printed = fs::File::create(&out).expect("a file");
    let mut command = world.command("bash");
    command.arg(&file).current_dir(dir).env("HOME", dir).env("PORT", free_port().to_string());
    command
        .env("PATH", path_variable())
        .env_remove("SSH_AUTH_SOCK")
        .envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stderr(printed.try_clone().expect("a file can be shared")).stdout(printed);
    let mut child = command.spawn().expect("bash can be started");
    let status = tools::wait(&mut child, PAGE_LIMIT);
    let said = String::from_utf8_lossy(&fs::read(&out).expect("what the page printed")).into_owned();
    match status {
        Some(status) if status.success() => Ok(said),
        Some(status) => Err(format!("{said}\n-> {status}")),
        None => Err(format!("{said}\n-> not ended within {PAGE_LIMIT:?}")),
    }
}

/// Where a page finds its programs: the tests' own Python first, and the servers' directories, which a user's PATH may lack.
fn path_variable() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let ours = [workspace().join(".venv/bin")];
    let servers = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let all = ours.into_iter().chain(std::env::split_paths(&path)).chain(servers);
    std::env::join_paths(all).expect("the workspace's path holds no colon")
}

/// Whether the tests' own Python has a module.
pub fn python_has(test: &str, module: &str) -> bool {
    let has = tools::python(module).is_some();
    if !has {
        skip(test, &format!("{module} not found in .venv"));
    }
    has
}

/// Whether OpenSSL has the engine of libp11.
pub fn engine(test: &str) -> bool {
    let has = find_in(&path_variable(), "openssl").is_some()
        && tools::run(Command::new("openssl").args(["engine", "pkcs11"])).status.success();
    if !has {
        skip(test, "the pkcs11 engine of OpenSSL not found");
    }
    has
}

/// Starts the daemon and waits until it answers, as `systemctl start` does.
const START: &str = r#"#!/bin/bash
"$DAEMON" --config "$CRATON_HSM_CONFIG" >> daemon.log 2>&1 &
echo $! > daemon.pid
for _ in $(seq 600); do "$ADMIN" status > /dev/null 2>&1 && exit 0; sleep 0.1; done
cat daemon.log; exit 1
"#;
const STOP: &str = r#"#!/bin/bash
pid=$(cat daemon.pid); rm daemon.pid; kill "$pid"
for _ in $(seq 600); do kill -0 "$pid" 2> /dev/null || exit 0; sleep 0.1; done
exit 1
"#;
const START_PKI: &str = r#"#!/bin/bash
"$PKI" --config "$PKI_CONFIG" serve >> pki.log 2>&1 &
echo $! > pki.pid
for _ in $(seq 1800); do "$PKI" --config "$PKI_CONFIG" health > /dev/null 2>&1 && exit 0; sleep 0.1; done
cat pki.log; exit 1
"#;

/// What the pages for operators take from their machine: programs by name, and scripts that start and stop services.
pub struct Host {
    dir: PathBuf,
}

impl Host {
    /// The programs and scripts, in the world's directory.
    ///
    /// # Panics
    /// When it is not writable.
    pub fn of(world: &World) -> Host {
        let host = Host { dir: world.dir().to_owned() };
        for (name, text) in [("start", START), ("stop", STOP), ("start-pki", START_PKI)] {
            host.script(name, text);
        }
        for name in ["craton-hsm-admin", "craton-hsm-daemon", "craton-pki"] {
            host.script(name, &format!("#!/bin/sh\nexec {} \"$@\"\n", binary(name).display()));
        }
        host
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::write(&path, text).expect("the world's directory is writable");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("our own file");
    }

    /// The page's text, whose first block finds the programs.
    pub fn told(&self, text: &str) -> String {
        let path = format!("{}:{}", self.dir.display(), std::env::var("PATH").unwrap_or_default());
        text.replacen("```sh\n", &format!("```sh\nexport PATH={path}\n"), 1)
    }

    /// The variables that the pages and the scripts name.
    pub fn variables(&self) -> Vec<(&'static str, PathBuf)> {
        let at = |name: &str| self.dir.join(name);
        vec![
            ("START", at("start")),
            ("STOP", at("stop")),
            ("START_PKI", at("start-pki")),
            ("DAEMON", binary("craton-hsm-daemon")),
            ("ADMIN", at("craton-hsm-admin")),
            ("PKI", binary("craton-pki")),
        ]
    }
}

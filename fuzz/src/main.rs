//! `craton-fuzz`: runs a target for a while, replays a file, or chooses a small corpus. `make fuzz` and `make fuzz-replay` call it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hsm_fuzz::drive::{self, Plan};

const USAGE: &str = "usage: craton-fuzz run TARGET SECONDS [SEED] | replay FILE | choose TARGET FOLDER | list";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["list"] => {
            hsm_fuzz::TARGETS.iter().for_each(|target| println!("{}", target.name));
            Ok(())
        }
        ["run", target, seconds, seed @ ..] => run(target, seconds, seed.first().copied()),
        ["replay", file] => drive::replay(Path::new(file)).map_err(|why| format!("{file}: {why}")),
        ["choose", target, folder] => choose(target, Path::new(folder)),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn named(target: &str) -> Result<&'static hsm_fuzz::Target, String> {
    hsm_fuzz::target(target).ok_or_else(|| format!("there is no target {target:?}; `craton-fuzz list` names them"))
}

fn run(target: &str, seconds: &str, seed: Option<&str>) -> Result<(), String> {
    let seconds = seconds.parse().map_err(|_| USAGE)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let seed = seed.map_or(Ok(now), |seed| seed.parse().map_err(|_| USAGE))?;
    let keep = Some(PathBuf::from("target/fuzz-new").join(target));
    let plan = Plan { time: Duration::from_secs(seconds), seed, keep, longest: Some(drive::LONGEST) };
    println!("{target}: {seconds} s from seed {seed}");
    let report = drive::run(named(target)?, &plan).map_err(|finding| finding.to_string())?;
    println!("{target}: {} inputs, {} of them new, {} features", report.inputs, report.new, report.features);
    Ok(())
}

/// The most files that one choice adds.
const MOST_CHOSEN: usize = 64;

/// Adds to the corpus those files of a folder that do something that no other does; those that do most first.
fn choose(target: &str, folder: &Path) -> Result<(), String> {
    let target = named(target)?;
    let read = |why: std::io::Error| format!("{}: {why}", folder.display());
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        inputs.push(std::fs::read(entry.map_err(read)?.path()).map_err(read)?);
    }
    let mut inputs: Vec<_> = inputs.into_iter().map(|input| (drive::features(target, &input).len(), input)).collect();
    inputs.sort_by_key(|(does, input)| (core::cmp::Reverse(*does), input.len()));
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    std::fs::create_dir_all(&home).map_err(read)?;
    let mut seen = std::collections::HashSet::new();
    for input in drive::corpus(target).map_err(read)? {
        seen.extend(drive::features(target, &input));
    }
    let mut chosen = 0;
    for (_, input) in inputs {
        let features = drive::features(target, &input);
        let new = features.difference(&seen).count();
        // One more way to be refused is not worth a file.
        if new >= 3 && chosen < MOST_CHOSEN {
            seen.extend(features);
            drive::write(&home, &input);
            chosen += 1;
        }
    }
    println!("{}: {chosen} files chosen", target.name);
    Ok(())
}

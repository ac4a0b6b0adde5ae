//! Power cuts, broken disks, wrong clocks and prying eyes. The short version of everything is part of `make test`; `make chaos` sets
//! CHAOS=long and takes its time.

mod clock;
mod core_dump;
mod disk;
mod failpoints;
mod flood;
mod journal;
mod kill_during_commit;
mod memcheck;
mod oracle;
mod pins;
mod power;
mod restarts;
mod soak;
mod volume;

/// A row of figures, which `make chaos` shows at its end.
fn table(what: &str, figures: &str) {
    println!("TABLE {what}: {figures}");
}

/// Whether this is the long version.
fn is_long() -> bool {
    std::env::var("CHAOS").is_ok_and(|word| word == "long")
}

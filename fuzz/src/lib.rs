//! Fuzz targets over the core and the daemon's door: one function per target, which takes bytes and panics when something is wrong.
//!
//! Two drivers call them: [`drive`], which needs nothing but an ordinary build and runs for half a minute in `make test`, and libFuzzer
//! (`fuzz/libfuzzer`), which `make fuzz` builds with coverage instrumentation. `fuzz/README.md` says what each target asserts.
//!
//! The daemon is a program, not a library: the files of its door are compiled into this crate as they stand.

pub mod drive;
mod feedback;
mod generate;
mod input;
mod messages;
mod model;
mod oracle;
mod presets;
mod stage;
mod target;

#[path = "../../hsm-daemon/src/convert.rs"]
#[allow(dead_code, unreachable_pub, reason = "the daemon's file, of which a target uses a part")]
mod convert;
#[path = "../../hsm-daemon/src/dispatch.rs"]
#[allow(dead_code, unreachable_pub, reason = "the daemon's file, of which a target uses a part")]
mod dispatch;
#[path = "../../hsm-daemon/src/outcomes.rs"]
#[allow(dead_code, unreachable_pub, reason = "the daemon's file, of which a target uses a part")]
mod outcomes;

/// One target.
pub struct Target {
    /// Its name: its folder in `fuzz/corpus`, and in `fuzz/findings`.
    pub name: &'static str,
    /// Plays one input; panics when something is wrong.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "template", run: target::template::run },
    Target { name: "parameter", run: target::parameter::run },
    Target { name: "request", run: target::request::run },
    Target { name: "sequence", run: target::sequence::run },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

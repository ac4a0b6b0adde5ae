//! Fuzz targets over the core, the daemon's door and the doors of the PKI: one function per target, which takes bytes and panics when something is wrong.
//!
//! Two drivers call them: [`drive`], which needs nothing but an ordinary build and runs for half a minute in `make test`, and libFuzzer
//! (`fuzz/libfuzzer`), which `make fuzz` builds with coverage instrumentation. `fuzz/README.md` says what each target asserts.
//!
//! The dispatcher, the frames and the configuration are those of the daemon (`hsm_daemon::door`); only sockets are missing. Of the PKI
//! (`pki::door`) the token is missing too.

mod asn1;
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
    Target { name: "import", run: target::import::run },
    Target { name: "frames", run: target::frames::run },
    Target { name: "config", run: target::config::run },
    Target { name: "journal", run: target::archive::journal },
    Target { name: "backup", run: target::archive::archive },
    Target { name: "store", run: target::archive::store },
    Target { name: "record", run: target::record::record },
    Target { name: "share", run: target::record::share },
    Target { name: "issuance", run: target::issuance::run },
    Target { name: "csr", run: target::enrolment::csr },
    Target { name: "est", run: target::enrolment::est },
    Target { name: "ocsp", run: target::validation::ocsp },
    Target { name: "crl", run: target::validation::crl },
    Target { name: "answer", run: target::validation::answers },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

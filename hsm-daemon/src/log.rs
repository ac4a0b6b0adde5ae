//! Logs: structured events on standard error, chosen by `RUST_LOG`, written as `RUST_LOG_FORMAT` says.
//!
//! The transport libraries never log below "info", whatever `RUST_LOG` asks for: at their finest levels they print what
//! passes through them.

use tracing_subscriber::EnvFilter;

/// The environment variable that names the form of the lines.
const FORMAT_VARIABLE: &str = "RUST_LOG_FORMAT";

/// Libraries that carry requests.
const CARRIERS: [&str; 6] = ["h2", "hyper", "hyper_util", "rustls", "tonic", "tower"];

/// Starts logging.
///
/// # Errors
/// A sentence when one of the two variables holds something unknown.
pub(crate) fn start() -> Result<(), String> {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let mut filter = if wanted.is_empty() {
        EnvFilter::new("info")
    } else {
        EnvFilter::try_new(&wanted).map_err(|e| format!("RUST_LOG: {e}"))?
    };
    for carrier in CARRIERS {
        let directive = format!("{carrier}=info").parse().map_err(|e| format!("RUST_LOG: {e}"))?;
        filter = filter.add_directive(directive);
    }
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A log that cannot be written (its disk is full) is no reason to fail, and an attempt to say so on the same file would panic.
    let lines = lines.log_internal_errors(false);
    match std::env::var(FORMAT_VARIABLE).unwrap_or_default().as_str() {
        "" | "text" => lines.init(),
        "compact" => lines.compact().init(),
        "json" => lines.json().flatten_event(true).init(),
        other => return Err(format!("{FORMAT_VARIABLE}: {other:?} is not text, json or compact")),
    }
    std::panic::set_hook(Box::new(|panic| {
        // The message of a panic may quote a value; the place says enough to find the defect.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a defect: an invariant did not hold");
    }));
    Ok(())
}

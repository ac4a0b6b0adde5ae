//! PINs from where the operator keeps them: standard input, a variable, a file, the terminal, or (warned about) the
//! command line.

use std::io::{self, IsTerminal};

use hsm_core::SecretBytes;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output::warn;

/// Where a PIN comes from.
#[derive(Debug, PartialEq, Eq)]
enum Source<'a> {
    Standard,
    Variable(&'a str),
    File(&'a str),
    Literal(&'a str),
    Terminal,
}

impl<'a> Source<'a> {
    fn of(given: Option<&'a str>) -> Self {
        match given {
            None => Source::Terminal,
            Some("-") => Source::Standard,
            Some(text) => match text.split_once(':') {
                Some(("env", name)) => Source::Variable(name),
                Some(("file", path)) => Source::File(path),
                _ => Source::Literal(text),
            },
        }
    }
}

/// An existing PIN. `flag` is the option that gives it, `what` its name for people.
///
/// # Errors
///
/// When there is none to be had there.
pub(crate) fn pin(flag: &str, what: &str, given: Option<&str>) -> Result<SecretBytes, Failure> {
    required(flag, what, read(flag, what, given)?)
}

/// A new PIN: asked for twice at the terminal.
///
/// # Errors
///
/// As [`pin`], and when the two differ.
pub(crate) fn new_pin(flag: &str, what: &str, given: Option<&str>) -> Result<SecretBytes, Failure> {
    let first = required(flag, what, read(flag, what, given)?)?;
    if Source::of(given) == Source::Terminal && ask(&format!("{what} again: "))? != first {
        return Err(Failure::new(format!("the two entries of the {what} differ")));
    }
    Ok(first)
}

/// A PIN that may be left out: asked for at a terminal, where an empty entry means none.
///
/// # Errors
///
/// As [`pin`].
pub(crate) fn optional_new_pin(flag: &str, what: &str, given: Option<&str>) -> Result<Option<SecretBytes>, Failure> {
    if given.is_none() && !io::stdin().is_terminal() {
        return Ok(None);
    }
    let label = if given.is_none() { format!("{what} (empty: set it later)") } else { what.to_owned() };
    let first = read(flag, &label, given)?;
    if first.is_empty() {
        return if given.is_none() { Ok(None) } else { required(flag, what, first).map(Some) };
    }
    if given.is_none() && ask(&format!("{what} again: "))? != first {
        return Err(Failure::new(format!("the two entries of the {what} differ")));
    }
    Ok(Some(first))
}

fn required(flag: &str, what: &str, pin: SecretBytes) -> Result<SecretBytes, Failure> {
    if pin.is_empty() { Err(Failure::new(format!("the {what} ({flag}) is empty"))) } else { Ok(pin) }
}

fn read(flag: &str, what: &str, given: Option<&str>) -> Result<SecretBytes, Failure> {
    let unreadable =
        |place: &str, error: io::Error| Failure::new(format!("the {what} cannot be read from {place}: {error}"));
    match Source::of(given) {
        Source::Standard => {
            let mut line = Zeroizing::new(String::new());
            io::stdin().read_line(&mut line).map_err(|error| unreadable("standard input", error))?;
            Ok(without_line_end(line.as_bytes()))
        }
        Source::Variable(name) => {
            let value = std::env::var_os(name).map(|value| Zeroizing::new(value.into_encoded_bytes()));
            let value = value.ok_or_else(|| Failure::new(format!("the {what}: there is no variable {name}")))?;
            Ok(SecretBytes::copy_from(&value))
        }
        Source::File(path) => {
            let bytes = std::fs::read(path).map(Zeroizing::new).map_err(|error| unreadable(path, error))?;
            Ok(without_line_end(&bytes))
        }
        Source::Literal(text) => {
            warn(&format!(
                "the {what} stands on the command line, where others on this machine may see it; use {flag} -, \
                 env:NAME or file:PATH"
            ));
            Ok(SecretBytes::copy_from(text.as_bytes()))
        }
        Source::Terminal => {
            if !io::stdin().is_terminal() {
                return Err(Failure::new(format!(
                    "the {what} is needed: give it with {flag} (-, env:NAME or file:PATH)"
                )));
            }
            ask(&format!("{what}: "))
        }
    }
}

fn ask(prompt: &str) -> Result<SecretBytes, Failure> {
    rpassword::prompt_password(prompt)
        .map(|entry| SecretBytes::new(entry.into_bytes()))
        .map_err(|error| Failure::new(format!("the terminal cannot be asked: {error}")))
}

fn without_line_end(bytes: &[u8]) -> SecretBytes {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    SecretBytes::copy_from(bytes.strip_suffix(b"\r").unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let rows = [
            (None, Source::Terminal),
            (Some("-"), Source::Standard),
            (Some("env:HSM_PIN"), Source::Variable("HSM_PIN")),
            (Some("file:/run/pin"), Source::File("/run/pin")),
            (Some("1234:5678"), Source::Literal("1234:5678")),
            (Some("--"), Source::Literal("--")),
        ];
        for (given, source) in rows {
            assert_eq!(Source::of(given), source);
        }
    }

    #[test]
    fn only_the_line_end_is_removed() {
        let rows: [(&[u8], &[u8]); 4] = [(b"pin\n", b"pin"), (b"pin\r\n", b"pin"), (b" p \n\n", b" p \n"), (b"", b"")];
        for (bytes, pin) in rows {
            assert_eq!(without_line_end(bytes).expose(), pin);
        }
    }

    #[test]
    fn file_and_variable_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        std::fs::write(&path, "87654321\n").unwrap();
        let given = format!("file:{}", path.display());
        assert_eq!(pin("--pin", "SO PIN", Some(&given)).unwrap().expose(), b"87654321");
        let failure = pin("--pin", "SO PIN", Some("env:NO_SUCH_VARIABLE_HERE")).unwrap_err();
        assert!(failure.sentence().contains("NO_SUCH_VARIABLE_HERE"));
        std::fs::write(&path, "\n").unwrap();
        assert!(pin("--pin", "SO PIN", Some(&given)).unwrap_err().sentence().contains("empty"));
    }
}

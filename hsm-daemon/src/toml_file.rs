//! A file of settings: how it is read, how its numbers are bounded, and how it is refused.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// A configuration that cannot be used: one sentence that names the file or the key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

pub(crate) fn refuse<T>(sentence: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(sentence.into()))
}

/// Reads the file through one open handle, so that what is judged is what is read.
pub(crate) fn read(path: &Path) -> Result<String, Refused> {
    let named = path.display();
    let mut file = File::open(path).map_err(|e| Refused(format!("the configuration {named} cannot be read: {e}")))?;
    let metadata = file.metadata().map_err(|e| Refused(format!("the configuration {named} cannot be read: {e}")))?;
    if !metadata.is_file() {
        return refuse(format!("the configuration {named} is not a file"));
    }
    if metadata.mode() & 0o022 != 0 {
        return refuse(format!(
            "the configuration {named} can be written by its group or by others (mode {:04o}): chmod go-w it",
            metadata.mode() & 0o7777
        ));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|e| Refused(format!("the configuration {named} cannot be read: {e}")))?;
    Ok(text)
}

/// Reads TOML; a refusal names the line.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Refused> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let why = error.message().trim_end().replace('\n', " ");
        Refused(match line {
            Some(line) => format!("line {line}: {why}"),
            None => why,
        })
    })
}

/// A number, if it is within its bounds.
pub(crate) fn within(key: &str, value: u64, least: u64, most: u64) -> Result<u64, Refused> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        refuse(format!("{key}: {value} is not in {least}..={most}"))
    }
}

/// A time of at least a second.
pub(crate) fn seconds(key: &str, value: u64, most: u64) -> Result<Duration, Refused> {
    within(key, value, 1, most).map(Duration::from_secs)
}

/// For values that `within` has bounded far below the type's end.
pub(crate) fn narrow<T: TryFrom<u64>>(value: u64) -> T
where
    T::Error: core::fmt::Debug,
{
    T::try_from(value).expect("bounded by `within`")
}

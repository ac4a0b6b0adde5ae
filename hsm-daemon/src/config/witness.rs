//! `[witness]`: the journals of others of which this daemon is a witness, and what it shows when it calls its own witnesses.

use std::path::{Path, PathBuf};

use hsm_core::config::{WitnessConfig, WitnessedJournal, witness_stem};
use serde::Deserialize;

use crate::tls_files::ClientFiles;
use crate::toml_file::{Refused, refuse};

/// `[witness]` as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenWitness {
    directory: Option<PathBuf>,
    journal: Vec<WrittenJournal>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
}

/// `[[witness.journal]]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenJournal {
    origin: String,
    keys: Vec<String>,
}

impl WrittenWitness {
    /// What is shown to witnesses over TCP, if that is configured, and the journals of which this daemon is a witness.
    ///
    /// # Errors
    /// [`Refused`] when one of the files is missing, or with the first name or key that is none.
    pub(super) fn judge(self, journal: &Path, base: &Path) -> Result<(Option<ClientFiles>, WitnessConfig), Refused> {
        let files = ClientFiles::of("witness", [self.tls_ca, self.tls_cert, self.tls_key], base)?;
        let directory = match self.directory {
            Some(directory) => base.join(directory),
            None => journal.with_file_name("witness"),
        };
        let mut journals = Vec::new();
        for WrittenJournal { origin, keys } in self.journal {
            // A name becomes the name of a file: no two of them may become the same.
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._/".contains(letter);
            if origin.is_empty() || origin.len() > 200 || !origin.chars().all(plain) {
                return refuse(format!(
                    "witness.journal: {origin:?} is not a journal's name, as craton-hsm-admin audit key tells it"
                ));
            }
            let stem = witness_stem(&origin);
            if journals.iter().any(|other: &WitnessedJournal| witness_stem(&other.origin) == stem) {
                return refuse(format!("witness.journal: {origin:?} is named twice"));
            }
            let key = |text: &String| text.parse().ok();
            let Some(keys) = keys.iter().map(key).collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty()) else {
                return refuse(format!(
                    "witness.journal: the keys of {origin:?} are not one or more of 64 hexadecimal digits, or of 128"
                ));
            };
            journals.push(WitnessedJournal { origin, keys });
        }
        Ok((files, WitnessConfig { directory, journals }))
    }
}

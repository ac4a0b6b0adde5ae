//! The presets, one row each: what a profile starts from.

use crate::x509::extension;
use const_oid::ObjectIdentifier;
use x509_cert::ext::pkix::KeyUsages;

/// What a profile starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preset {
    /// A device as a TLS client.
    Device,
    /// The identity that a manufacturer gives a device for life (IEEE 802.1AR IDevID).
    Idevid,
    /// The identity that an operator gives a device (IEEE 802.1AR LDevID).
    Ldevid,
    /// A TLS server.
    Server,
    /// A person or a program as a TLS client.
    Client,
    /// A key that others encrypt to.
    Encryption,
    /// A signer of code.
    CodeSigning,
    /// A delegated OCSP responder (RFC 6960 section 4.2.2.2).
    OcspResponder,
    /// A registration authority (RFC 6402 section 2.10).
    Ra,
}

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    /// The preset.
    pub(crate) preset: Preset,
    /// Its word in the configuration.
    pub(crate) word: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// Days its certificates are good unless the profile says otherwise; none for 31 December 9999.
    pub(crate) validity_days: Option<u32>,
    /// extKeyUsage.
    pub(crate) purposes: &'static [ObjectIdentifier],
    /// keyUsage, as far as the key can do it.
    pub(crate) usages: &'static [KeyUsages],
    /// True when a certificate without subjectAltName is worthless.
    pub(crate) needs_names: bool,
    /// True when the subject must have a serialNumber.
    pub(crate) needs_serial_number: bool,
}

const SIGN: &[KeyUsages] = &[KeyUsages::DigitalSignature];
const ENCIPHER: &[KeyUsages] = &[KeyUsages::KeyEncipherment];
const SIGN_AND_AGREE: &[KeyUsages] = &[KeyUsages::DigitalSignature, KeyUsages::KeyEncipherment];

const fn row(preset: Preset, word: &'static str, days: Option<u32>, purposes: &'static [ObjectIdentifier]) -> Row {
    Row {
        preset,
        word,
        purpose: "",
        validity_days: days,
        purposes,
        usages: SIGN_AND_AGREE,
        needs_names: false,
        needs_serial_number: false,
    }
}

/// The table.
pub(crate) const PRESETS: &[Row] = &[
    Row {
        purpose: "a device that authenticates itself by TLS",
        ..row(Preset::Device, "device", Some(365), &[extension::CLIENT_AUTH])
    },
    Row {
        purpose: "the identity a manufacturer gives a device for life (IEEE 802.1AR IDevID)",
        needs_serial_number: true,
        ..row(Preset::Idevid, "idevid", None, &[extension::CLIENT_AUTH])
    },
    Row {
        purpose: "the identity an operator gives a device (IEEE 802.1AR LDevID)",
        needs_serial_number: true,
        ..row(Preset::Ldevid, "ldevid", Some(365), &[extension::CLIENT_AUTH])
    },
    Row {
        purpose: "a TLS server: needs a subjectAltName, which its commonName must be among",
        needs_names: true,
        ..row(Preset::Server, "server", Some(90), &[extension::SERVER_AUTH])
    },
    Row {
        purpose: "a person or a program that authenticates itself by TLS",
        ..row(Preset::Client, "client", Some(365), &[extension::CLIENT_AUTH])
    },
    Row {
        purpose: "a key that others encrypt to (RSA, ML-KEM)",
        usages: ENCIPHER,
        ..row(Preset::Encryption, "encryption", Some(365), &[extension::EMAIL_PROTECTION])
    },
    Row {
        purpose: "a signer of code",
        usages: SIGN,
        ..row(Preset::CodeSigning, "code_signing", Some(365), &[extension::CODE_SIGNING])
    },
    Row {
        purpose: "a delegated OCSP responder, with id-pkix-ocsp-nocheck",
        usages: SIGN,
        ..row(Preset::OcspResponder, "ocsp_responder", Some(30), &[extension::OCSP_SIGNING])
    },
    Row {
        purpose: "a registration authority, which enrols others (id-kp-cmcRA)",
        ..row(Preset::Ra, "ra", Some(365), &[extension::CLIENT_AUTH, extension::CMC_RA])
    },
];

impl Preset {
    /// The preset of a word.
    ///
    /// # Errors
    /// A sentence with the words there are.
    pub(crate) fn parse(word: &str) -> Result<Self, String> {
        PRESETS.iter().find(|row| row.word == word).map(|row| row.preset).ok_or_else(|| {
            let words: Vec<_> = PRESETS.iter().map(|row| row.word).collect();
            format!("unknown preset '{word}': use {}", words.join(", "))
        })
    }

    /// Its row.
    pub(crate) fn row(self) -> &'static Row {
        PRESETS.iter().find(|row| row.preset == self).unwrap_or(&PRESETS[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_one_row_and_one_word() {
        for (index, row) in PRESETS.iter().enumerate() {
            assert_eq!(Preset::parse(row.word), Ok(row.preset));
            assert_eq!(row.preset.row().word, row.word);
            assert!(!PRESETS[..index].iter().any(|other| other.word == row.word), "{}", row.word);
        }
        assert!(Preset::parse("root").is_err());
    }
}

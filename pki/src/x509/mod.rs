//! Encoding and judging of X.509 structures (RFC 5280) and PKCS#10 requests (RFC 2986).
//!
//! This room knows bytes and rules. It knows no store, no clock, no token and no network: times and keys are given to it.

pub(crate) mod algorithm;
pub(crate) mod constraint;
pub(crate) mod crl;
pub(crate) mod csr;
pub(crate) mod extension;
pub(crate) mod foreign_crl;
pub(crate) mod general_name;
pub(crate) mod lint;
pub(crate) mod name;
pub(crate) mod ocsp;
pub(crate) mod ocsp_answer;
pub(crate) mod pkcs8;
pub(crate) mod reason;
pub(crate) mod related;
pub(crate) mod tbs;
pub(crate) mod tlv;
pub(crate) mod verify;

use der::DateTime;
use der::asn1::{GeneralizedTime, UtcTime};
use sha2::{Digest, Sha256};
use std::time::Duration;
use x509_cert::time::Time;

/// First second of 2050, from which RFC 5280 section 4.1.2.5 asks for GeneralizedTime.
const YEAR_2050: i64 = 2_524_608_000;

/// Last second of 9999: for certificates that never expire (RFC 5280 section 4.1.2.5).
pub(crate) fn year_9999() -> i64 {
    253_402_300_799
}

/// The encoding of an instant that RFC 5280 section 4.1.2.5 asks for: UTCTime before 2050, GeneralizedTime from then on.
///
/// # Errors
/// An instant before 1970 or after 9999.
pub(crate) fn time(unix_seconds: i64) -> der::Result<Time> {
    let since_epoch =
        Duration::from_secs(u64::try_from(unix_seconds).map_err(|_| der::Error::from(der::ErrorKind::DateTime))?);
    if unix_seconds < YEAR_2050 {
        Ok(Time::UtcTime(UtcTime::from_unix_duration(since_epoch)?))
    } else {
        Ok(Time::GeneralTime(GeneralizedTime::from_date_time(DateTime::from_unix_duration(since_epoch)?)))
    }
}

/// Seconds since 1970 of an X.509 time.
pub(crate) fn unix_seconds(time: &Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Lower-case hexadecimal, the way serial numbers and fingerprints are written for people.
pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// PEM (RFC 7468) of one DER structure.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let mut text = String::with_capacity(body.len() + body.len() / 64 + 64);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The DER inside each PEM block with this label (RFC 7468), in their order; text around them is passed over.
pub(crate) fn ders_of_pem(text: &str, label: &str) -> Option<Vec<Vec<u8>>> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut ders = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&begin) {
        let (body, tail) = after.split_once(&end)?;
        let body: String = body.split_whitespace().collect();
        ders.push(data_encoding::BASE64.decode(body.as_bytes()).ok()?);
        rest = tail;
    }
    Some(ders)
}

/// The DER inside the first PEM block with this label.
pub(crate) fn der_of_pem(text: &str, label: &str) -> Option<Vec<u8>> {
    ders_of_pem(text, label)?.into_iter().next()
}

/// The structures in what somebody hands over: each with this label in PEM; without one it is taken for DER.
pub(crate) fn ders_of(bytes: Vec<u8>, label: &str) -> Vec<Vec<u8>> {
    let in_pem = std::str::from_utf8(&bytes).ok().and_then(|text| ders_of_pem(text, label));
    in_pem.filter(|ders| !ders.is_empty()).unwrap_or_else(|| vec![bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_changes_its_encoding_at_2050() {
        assert!(matches!(time(YEAR_2050 - 1), Ok(Time::UtcTime(_))));
        assert!(matches!(time(YEAR_2050), Ok(Time::GeneralTime(_))));
        assert!(time(-1).is_err());
    }

    #[test]
    fn pem_wraps_at_64_columns() {
        let text = pem("CERTIFICATE", &[0x55; 100]);
        assert!(text.lines().all(|line| line.len() <= 64));
        assert_eq!(text.lines().nth(1).map(str::len), Some(64));
    }
}

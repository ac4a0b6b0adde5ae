//! Why a command did not do what was asked, and the exit status that says so.
//!
//! 0 done; 1 refused or failed (of `backup status` and `doctor`: a warning); 2 wrong usage (clap's own; of those two: critical); 78 the
//! configuration cannot be used (`EX_CONFIG` of sysexits.h).

use std::process::ExitCode;

use ck::Rv;
use hsm_proto::v1::Fault;

/// One sentence, and where there is one the PKCS#11 return value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    sentence: String,
    rv: Option<Rv>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Refused,
    Critical,
    Config,
}

impl Failure {
    /// The command was refused or failed.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Failure { kind: Kind::Refused, sentence: sentence.into(), rv: None }
    }

    /// What a monitor watches is not as it must be.
    pub(crate) fn critical(sentence: impl Into<String>) -> Self {
        Failure { kind: Kind::Critical, sentence: sentence.into(), rv: None }
    }

    /// The configuration cannot be used.
    pub(crate) fn config(sentence: impl Into<String>) -> Self {
        Failure { kind: Kind::Config, sentence: sentence.into(), rv: None }
    }

    /// A call on a token that this tool made itself was refused: as if the daemon had answered.
    pub(crate) fn of_call(error: &hsm_core::Error) -> Self {
        let rv = error.rv();
        Failure { kind: Kind::Refused, sentence: told(rv, error.detail().unwrap_or_default()), rv: Some(rv) }
    }

    /// What happened, for people.
    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }

    /// The return value that an application would have seen.
    pub(crate) fn rv(&self) -> Option<Rv> {
        self.rv
    }

    /// The process's exit status.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.kind {
            Kind::Refused => ExitCode::from(1),
            Kind::Critical => ExitCode::from(2),
            Kind::Config => ExitCode::from(78),
        }
    }
}

/// Return values that say less than any detail.
const GENERAL: [Rv; 5] = [
    ck::rv::CKR_DATA_INVALID,
    ck::rv::CKR_ARGUMENTS_BAD,
    ck::rv::CKR_DEVICE_ERROR,
    ck::rv::CKR_FUNCTION_FAILED,
    ck::rv::CKR_GENERAL_ERROR,
];

/// A return value and its detail.
fn told(rv: Rv, detail: &str) -> String {
    match detail {
        "" => rv.sentence().to_owned(),
        // Their own sentences are for programmers, and say no more than that something was wrong.
        _ if GENERAL.contains(&rv) => detail.to_owned(),
        _ => format!("{}: {detail}", rv.sentence()),
    }
}

/// What the daemon answered.
impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        if status.details().is_empty() {
            return Failure::new(match status.code() {
                tonic::Code::Unavailable => format!("the daemon does not answer: {}", status.message()),
                tonic::Code::DeadlineExceeded => "the daemon did not answer in time".to_owned(),
                _ => status.message().to_owned(),
            });
        }
        let fault = Fault::from_status(&status, ck::rv::CKR_GENERAL_ERROR);
        let rv = Rv(fault.rv);
        Failure { kind: Kind::Refused, sentence: told(rv, &fault.detail), rv: Some(rv) }
    }
}

impl From<hsm_core::Error> for Failure {
    fn from(error: hsm_core::Error) -> Self {
        let sentence = error.detail().map_or_else(|| error.rv().sentence().to_owned(), str::to_owned);
        Failure { kind: Kind::Refused, sentence, rv: Some(error.rv()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_sentence_and_return_value_arrive() {
        let status = tonic::Status::from(Fault::new(ck::rv::CKR_PIN_INCORRECT, "9 attempts are left"));
        let failure = Failure::from(status);
        assert!(failure.sentence().ends_with(": 9 attempts are left"), "{}", failure.sentence());
        assert_eq!(failure.rv(), Some(ck::rv::CKR_PIN_INCORRECT));
        let silent = Failure::from(tonic::Status::from(Fault::new(ck::rv::CKR_PIN_LOCKED, "")));
        assert_eq!(silent.sentence(), ck::rv::CKR_PIN_LOCKED.sentence());
        let general = Failure::from(tonic::Status::from(Fault::new(ck::rv::CKR_DATA_INVALID, "it is no share")));
        assert_eq!(general.sentence(), "it is no share");
        // The same call made by this tool itself, on a store that no daemon has open.
        let wrong = hsm_core::Error::new(hsm_core::Kind::PinIncorrect, "9 attempts are left");
        assert_eq!(Failure::of_call(&wrong).sentence(), failure.sentence());
    }
}

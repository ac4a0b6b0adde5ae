//! From path to operation (RFC 7030 section 3.2.2), decided once, segment by segment, never by substring.

use super::error::Refusal;
use super::label::Label;
use http::Method;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An operation of EST that this server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// /cacerts.
    CaCerts,
    /// /csrattrs.
    CsrAttrs,
    /// /simpleenroll.
    SimpleEnroll,
    /// /simplereenroll.
    SimpleReenroll,
    /// /serverkeygen.
    ServerKeygen,
    /// /fullcmc.
    FullCmc,
}

/// The names of all EST operations.
const NAMES: &[(&str, Operation)] = &[
    ("cacerts", Operation::CaCerts),
    ("csrattrs", Operation::CsrAttrs),
    ("simpleenroll", Operation::SimpleEnroll),
    ("simplereenroll", Operation::SimpleReenroll),
    ("fullcmc", Operation::FullCmc),
    ("serverkeygen", Operation::ServerKeygen),
];

impl Operation {
    /// The method it is called with.
    pub(crate) fn method(self) -> Method {
        if self.is_read() { Method::GET } else { Method::POST }
    }

    /// Holds a call to its method; what only reads may be asked for without a body too.
    ///
    /// # Errors
    /// [`Refusal::Method`].
    pub(crate) fn judge_method(self, method: &Method) -> Result<(), Refusal> {
        let fits = *method == self.method() || (self.is_read() && *method == Method::HEAD);
        if fits { Ok(()) } else { Err(Refusal::Method(self.method())) }
    }

    /// True when it changes nothing.
    pub(crate) fn is_read(self) -> bool {
        matches!(self, Self::CaCerts | Self::CsrAttrs)
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The label, empty for the path without one.
    pub(crate) label: String,
    /// The rules of the label.
    pub(crate) rules: Arc<Label>,
    /// The operation.
    pub(crate) operation: Operation,
}

impl Route {
    /// The route of a path among the configured labels.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] or [`Refusal::UnknownLabel`].
    pub(crate) fn find(path: &str, labels: &BTreeMap<String, Arc<Label>>) -> Result<Self, Refusal> {
        let rest = path.strip_prefix("/.well-known/est/").ok_or(Refusal::NotFound)?;
        let segments: Vec<&str> = rest.split('/').collect();
        let (label, name) = match segments.as_slice() {
            [name] => ("", *name),
            [label, name] if !label.is_empty() => (*label, *name),
            _ => return Err(Refusal::NotFound),
        };
        let operation = NAMES.iter().find(|row| row.0 == name).map(|row| row.1).ok_or(Refusal::NotFound)?;
        let rules = labels.get(label).ok_or(Refusal::UnknownLabel)?;
        Ok(Self { label: label.to_owned(), rules: Arc::clone(rules), operation })
    }
}

/// True for a word that may be a label: it cannot be taken for an operation (RFC 7030 section 3.2.2).
pub(crate) fn is_label(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&word.len()) && word.bytes().all(allowed) && !NAMES.iter().any(|row| row.0 == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str) -> Result<(String, Operation), Refusal> {
        let rules = Arc::new(crate::est::label::plain("device"));
        let labels = ["", "line-1"].map(|label| (label.to_owned(), Arc::clone(&rules)));
        Route::find(path, &BTreeMap::from(labels)).map(|route| (route.label, route.operation))
    }

    #[test]
    fn paths_lead_to_operations() {
        assert_eq!(find("/.well-known/est/cacerts"), Ok((String::new(), Operation::CaCerts)));
        assert_eq!(find("/.well-known/est/line-1/simpleenroll"), Ok(("line-1".to_owned(), Operation::SimpleEnroll)));
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "/",
            "/.well-known/est",
            "/.well-known/est/",
            "/.well-known/est/cacerts/",
            "/.well-known/est//cacerts",
            "/.well-known/est/x/y/cacerts",
            "/x/.well-known/est/cacerts",
            "/.well-known/est/fullCMC",
            "/.well-known/est/CACERTS",
            "/.well-known/est/simpleenroll2",
        ] {
            assert_eq!(find(path), Err(Refusal::NotFound), "{path}");
        }
        assert_eq!(find("/.well-known/est/nobody/cacerts"), Err(Refusal::UnknownLabel));
    }

    #[test]
    fn a_label_is_never_an_operation() {
        assert!(is_label("line-1"));
        for word in ["", "cacerts", "serverkeygen", "a/b", "ä", "a b"] {
            assert!(!is_label(word), "{word}");
        }
    }
}

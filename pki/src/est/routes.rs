//! From path to operation (RFC 7030 section 3.2.2), decided once, segment by segment, never by substring.

use super::error::Refusal;
use super::label::Label;
use super::operation::Operation;
use std::collections::BTreeMap;
use std::sync::Arc;

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
        let operation = Operation::named(name).ok_or(Refusal::NotFound)?;
        let rules = labels.get(label).ok_or(Refusal::UnknownLabel)?;
        Ok(Self { label: label.to_owned(), rules: Arc::clone(rules), operation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::est::label::is_label;

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

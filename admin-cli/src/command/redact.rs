//! A configuration as it may travel: what stands in it as a secret, instead of naming where the secret is, is taken out.

use toml::de::{DeTable, DeValue};

use crate::failure::Failure;

/// Keys whose text is a secret, unless it names a place.
const SECRET: [&str; 5] = ["pin", "password", "passphrase", "token", "secret"];

/// What a text begins with that names a place.
const PLACES: [&str; 3] = ["env:", "file:", "cred:"];

/// What stands there afterwards: a variable that does not exist, so that a program says what is missing instead of trying it.
const INSTEAD: &str = "\"env:TAKEN_OUT_OF_THE_BACKUP\"";

/// The text without its secrets; all else, comments too, stays as it was. Nothing when there was none.
///
/// # Errors
///
/// When it is no TOML: then nobody knows what in it is secret.
pub(super) fn redacted(text: &str) -> Result<Option<String>, Failure> {
    let table = DeTable::parse(text)
        .map_err(|_| Failure::new("it is not TOML, so its secrets cannot be told from the rest".to_owned()))?;
    let mut places = Vec::new();
    collect(table.get_ref(), &mut places);
    places.sort_by_key(|place: &core::ops::Range<usize>| core::cmp::Reverse(place.start));
    let mut clean = text.to_owned();
    for place in &places {
        clean.replace_range(place.clone(), INSTEAD);
    }
    Ok((!places.is_empty()).then_some(clean))
}

fn collect(table: &DeTable<'_>, places: &mut Vec<core::ops::Range<usize>>) {
    for (key, value) in table.iter() {
        match value.get_ref() {
            DeValue::String(text) => {
                let secret = SECRET.contains(&key.get_ref().as_ref());
                if secret && !PLACES.iter().any(|place| text.starts_with(place)) {
                    places.push(value.span());
                }
            }
            DeValue::Table(inner) => collect(inner, places),
            DeValue::Array(items) => {
                for item in items.iter() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        collect(inner, places);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_everything_else_stays() {
        let rows = [
            ("[token]\npin = \"9876\" # mine\nlabel = \"pin\"\n", Some("[token]\npin = S # mine\nlabel = \"pin\"\n")),
            ("[token]\npin = \"env:PIN\"\n[api]\ntoken = \"file:/t\"\n", None),
            (
                "[api]\ntoken = '''a\nb'''\n[x]\ny = { password = \"p\", z = 1 }",
                Some("[api]\ntoken = S\n[x]\ny = { password = S, z = 1 }"),
            ),
            (
                "[[list]]\nsecret = \"s\"\n[[list]]\nsecret = \"t\"\n",
                Some("[[list]]\nsecret = S\n[[list]]\nsecret = S\n"),
            ),
            ("# pin = \"1234\"\n", None),
        ];
        for (text, expected) in rows {
            let expected = expected.map(|expected| expected.replace(" S", &format!(" {INSTEAD}")));
            assert_eq!(redacted(text).unwrap(), expected, "{text}");
        }
        redacted("pin = ").unwrap_err();
    }
}

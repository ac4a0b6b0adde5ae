//! What monitors read: what the doors counted (`counters.rs`), and what the store says of lists, answers and certificates, in the text
//! format of Prometheus. Labels hold words of this program only, never what a stranger sent.

use crate::ca::key::SERVER;
use crate::ca::sweep;
use crate::clock;
use crate::counters;
use crate::journal::office;
use crate::store::query::{MAX_PAGE, Span};
use crate::store::record::{Authority, AuthorityState, Crl};
use crate::store::{Query, Record, Store, StoreError};
use crate::va::signer;
use crate::x509::unix_seconds;
use der::Decode;
use std::fmt::Write;

/// Everything as text.
///
/// # Errors
/// When the store fails.
pub(crate) fn text(store: &dyn Store) -> Result<String, StoreError> {
    let mut text = Text::default();
    let counted = counters::counted();
    let refusals = counted.refusals.iter().map(|(reason, count)| (labels(&[("reason", reason)]), *count)).collect();
    text.family("refusals_total", "counter", "Requests refused since the start, by reason code", refusals);
    let differences = counters::unaccounted().into_iter().map(|(id, by)| (labels(&[("authority", &id)]), by)).collect();
    let help =
        "By how much the token's count of an authority's signatures differs from the records; no line when it agrees";
    text.family("signatures_unaccounted", "gauge", help, differences);
    let plain = |value: u64| vec![(String::new(), value)];
    text.family("ocsp_answers_total", "counter", "OCSP answers given since the start", plain(counted.ocsp_answered));
    text.family("ocsp_signatures_total", "counter", "OCSP answers signed since the start", plain(counted.ocsp_signed));
    let help = "CRLs and OCSP answers of others that could not be had or did not count, since the start";
    text.family("foreign_failures_total", "counter", help, plain(counted.foreign_failures));
    text.family(
        "foreign_lists_overdue",
        "gauge",
        "CRLs of others that are over and have no successor",
        plain(counted.foreign_overdue),
    );
    let told = counted.notices.iter().map(|(outcome, count)| (labels(&[("outcome", outcome)]), *count)).collect();
    text.family("notices_total", "counter", "Notices of expiry by what became of telling them, since the start", told);
    let help = "When the image of the store was last taken for a backup, or when this process began";
    text.family("image_time_seconds", "gauge", help, plain(instant(counted.image_at)));
    let sweeps = sweep::open(store)?.len();
    let help = "Revocations of very many certificates whose records are not complete yet";
    text.family("sweeps", "gauge", help, plain(u64::try_from(sweeps).unwrap_or(0)));
    let (mut lists, mut ends, mut signers) = (Vec::new(), Vec::new(), Vec::new());
    for authority in store.authorities()? {
        lists.extend(lists_of(store, &authority.id)?);
        let label = labels(&[("authority", &authority.id)]);
        if let Some(signer) = store.house(&signer::role(&authority.id))? {
            signers.push((label.clone(), instant(signer.not_after)));
        }
        // One that issues no more may end.
        if authority.state() == AuthorityState::Active && authority.successor.is_empty() {
            ends.extend(end_of(&authority).map(|end| (label, instant(end))));
        }
    }
    let help = "When the certificate of an authority that issues ends, seconds since 1970";
    text.family("authority_not_after_seconds", "gauge", help, ends);
    let help = "When the certificate of an authority's OCSP signer ends, seconds since 1970";
    text.family("ocsp_signer_not_after_seconds", "gauge", help, signers);
    let server = store.house(SERVER)?.into_iter().map(|server| (String::new(), instant(server.not_after))).collect();
    let help = "When the certificate of the TLS server ends, seconds since 1970";
    text.family("server_certificate_not_after_seconds", "gauge", help, server);
    let of_lists = |value: fn(&Crl) -> u64| -> Vec<(String, u64)> {
        lists.iter().map(|crl| (labels(&[("list", &crl.authority)]), value(crl))).collect()
    };
    text.family("crl_number", "gauge", "Number of the published CRL", of_lists(|crl| crl.number));
    let next = of_lists(|crl| u64::try_from(crl.next_update).unwrap_or(0));
    text.family("crl_next_update_seconds", "gauge", "When the published CRL runs out, seconds since 1970", next);
    let age = of_lists(|crl| u64::try_from(clock::now().saturating_sub(crl.this_update)).unwrap_or(0));
    text.family("crl_age_seconds", "gauge", "Age of the published CRL", age);
    text.family("crl_pending", "gauge", "Revocations that are not published yet", of_lists(|crl| crl.pending));
    let counts = store.find(Query::Counts(Span::first(MAX_PAGE)))?.all(Record::named_count);
    for (kind, name, help) in [
        ("certificates", "certificates", "Certificates by authority and state; an active one may have expired"),
        ("devices", "devices", "Devices by state"),
        ("signatures", "signatures", "Signatures of authorities: settled with the token, made since, open"),
    ] {
        let rows = counts.iter().filter_map(|(counted, value)| {
            let mut words = counted.strip_prefix(kind)?.strip_prefix('/')?.split('/');
            let first = words.next()?;
            Some((
                match words.next() {
                    Some(second) => labels(&[("authority", first), ("state", second)]),
                    None => labels(&[("state", first)]),
                },
                *value,
            ))
        });
        text.family(name, "gauge", help, rows.collect());
    }
    text.family("journal_records", "gauge", "Records in the journal", plain(office::size(store)?));
    text.family(
        "store_rows_read_total",
        "counter",
        "Records read by questions since the start",
        plain(store.rows_read()),
    );
    let by_changes = plain(store.rows_read_by_changes());
    text.family("store_rows_read_by_changes_total", "counter", "Records read by changes since the start", by_changes);
    Ok(text.0)
}

fn instant(at: i64) -> u64 {
    u64::try_from(at).unwrap_or(0)
}

fn end_of(authority: &Authority) -> Option<i64> {
    let certificate = x509_cert::Certificate::from_der(&authority.certificate).ok()?;
    Some(unix_seconds(&certificate.tbs_certificate().validity().not_after))
}

fn lists_of(store: &dyn Store, authority: &str) -> Result<Vec<Crl>, StoreError> {
    let mut lists: Vec<Crl> = store.crl_record(authority)?.into_iter().collect();
    let span = Span::first(MAX_PAGE);
    lists.extend(store.find(Query::Crls { authority: authority.to_owned(), span })?.all(Record::crl));
    Ok(lists)
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("{{{}}}", pairs.join(","))
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str, rows: Vec<(String, u64)>) {
        let mut write = || -> std::fmt::Result {
            writeln!(self.0, "# HELP craton_pki_{name} {help}.\n# TYPE craton_pki_{name} {kind}")?;
            rows.iter().try_for_each(|(labels, value)| writeln!(self.0, "craton_pki_{name}{labels} {value}"))
        };
        write().expect("writing to a string succeeds");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redb::RedbStore;

    /// The names that begin as ours do.
    fn names(text: &str) -> std::collections::BTreeSet<&str> {
        let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        words.filter(|word| word.starts_with("craton_pki_")).collect()
    }

    #[test]
    fn the_alert_rules_name_metrics_that_exist() {
        let store = RedbStore::in_memory().expect("store");
        let text = text(&store).expect("text");
        let (shown, rules) = (names(&text), include_str!("../../packaging/prometheus/craton-pki.rules.yml"));
        let named = names(rules);
        assert!(named.len() > 8, "{named:?}");
        for name in named {
            assert!(shown.contains(name), "there is no metric {name}");
        }
    }

    #[test]
    fn the_text_has_a_type_for_every_family_and_refusals_are_told_once() {
        let store = RedbStore::in_memory().expect("store");
        counters::refused("a_test_code");
        counters::refused("a_test_code");
        let text = text(&store).expect("text");
        assert!(text.contains("craton_pki_refusals_total{reason=\"a_test_code\"} 2\n"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().expect("a name");
            assert!(text.contains(&format!("# TYPE {name} ")), "{line}");
        }
        assert_eq!(counters::untold_refusals().get("a_test_code"), Some(&2));
        assert_eq!(counters::untold_refusals().get("a_test_code"), None);
    }
}

//! Accounts for every signature of a guarded key: what the token counted against what is recorded here.
//!
//! The store counts by authority: signatures intended and open (a certificate's intent, a CRL's number, a request), and signatures made.
//! An intent is durable before the token is asked and closed by its outcome; where the token went away under a request, one more is open.
//! So the token's count is at least what was made, and at most that and what is open. A reconciliation that agrees begins a new account.

use super::authority::Authority;
use super::{CaError, Desk, issue};
use crate::store::query::{MADE, OPEN, SETTLED, count_name};
use crate::store::{Change, Query, Record, StoreError};
use std::sync::Arc;

/// How many signatures the store knows of one authority's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Account {
    /// The token's count at the last reconciliation.
    pub(crate) settled: u64,
    /// Made and recorded since.
    pub(crate) made: u64,
    /// Intended since, and neither recorded nor known not to be.
    pub(crate) open: u64,
}

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every signature is accounted for.
    Agrees,
    /// The token made so many signatures that nobody recorded.
    Unaccounted(u64),
    /// The token counts so many less than are recorded: it was restored from an older state.
    TokenBehind(u64),
}

impl Account {
    /// What is recorded: at least so many the token made.
    pub(crate) fn recorded(self) -> u64 {
        self.settled.saturating_add(self.made)
    }

    /// At most so many the token made.
    fn at_most(self) -> u64 {
        self.recorded().saturating_add(self.open)
    }
}

/// Judges a count by the account before it was asked for, and the one after. While signatures are being made the two differ: what was
/// recorded before is in the count, and what is in the count was intended by then.
fn judge(before: Account, counted: u64, after: Account) -> Verdict {
    match (counted.checked_sub(after.at_most()), before.recorded().checked_sub(counted)) {
        (Some(more), _) if more > 0 => Verdict::Unaccounted(more),
        (_, Some(less)) if less > 0 => Verdict::TokenBehind(less),
        _ => Verdict::Agrees,
    }
}

/// One authority's line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// The authority.
    pub(crate) authority: String,
    /// The token's count.
    pub(crate) counted: u64,
    /// What is recorded.
    pub(crate) account: Account,
    /// How the two compare.
    pub(crate) verdict: Verdict,
}

/// What a reconciliation found.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// How many intents of broken-off issuances were closed.
    pub(crate) closed: usize,
    /// One line for each authority whose key is guarded.
    pub(crate) lines: Vec<Line>,
}

/// What becomes of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Differences {
    /// They stay, and are reported again.
    Keep,
    /// An operator has looked at them: the token's count is the new beginning, and the journal says so.
    Accept,
}

/// Closes what broke off, and compares every guarded key's count with its account. Nobody else may be issuing.
///
/// # Errors
/// When the token or the store fails.
pub(crate) fn reconcile(desk: &Desk, differences: Differences, now: i64) -> Result<Report, CaError> {
    let closed = issue::resolve_intents(desk, now)?;
    let mut lines = Vec::new();
    for authority in guarded(desk)? {
        let account = account(desk, &authority.id)?;
        let counted = desk.token.signature_count(&authority.key)?;
        let verdict = judge(account, counted, account);
        let line = Line { authority: authority.id.clone(), counted, account, verdict };
        report(&line);
        let is_settled = account == Account { settled: counted, made: 0, open: 0 };
        if !is_settled && (verdict == Verdict::Agrees || differences == Differences::Accept) {
            desk.store.commit(Change::Reconciled {
                authority: authority.id.clone(),
                counted,
                recorded: account.recorded(),
                open: account.open,
                is_accepted: verdict != Verdict::Agrees,
            })?;
        }
        lines.push(line);
    }
    Ok(Report { closed, lines })
}

/// Compares while signatures are being made; nothing is changed.
///
/// # Errors
/// When the token or the store fails.
pub(crate) fn look(desk: &Desk) -> Result<Vec<Line>, CaError> {
    let mut lines = Vec::new();
    for authority in guarded(desk)? {
        let before = account(desk, &authority.id)?;
        let counted = desk.token.signature_count(&authority.key)?;
        let after = account(desk, &authority.id)?;
        let verdict = judge(before, counted, after);
        lines.push(Line { authority: authority.id.clone(), counted, account: after, verdict });
    }
    Ok(lines)
}

/// Says in the log how a line ended.
pub(crate) fn report(line: &Line) {
    let Line { authority, counted, account, verdict } = line;
    let (made, open, settled) = (account.made, account.open, account.settled);
    match verdict {
        Verdict::Agrees => tracing::info!(event = "signatures_agree", authority, counted, settled, made, open),
        Verdict::Unaccounted(more) => {
            tracing::error!(event = "signatures_unaccounted", authority, more, counted, settled, made, open);
        }
        Verdict::TokenBehind(less) => {
            tracing::error!(event = "token_counts_less", authority, less, counted, settled, made, open);
        }
    }
}

fn guarded(desk: &Desk) -> Result<Vec<Arc<Authority>>, CaError> {
    Ok(desk.authorities()?.into_iter().filter(|authority| authority.has_key() && authority.key.guarded).collect())
}

/// The account of an authority.
///
/// # Errors
/// A failing store.
pub(crate) fn account(desk: &Desk, authority: &str) -> Result<Account, StoreError> {
    let number = |name| -> Result<u64, StoreError> {
        let name = count_name(authority, name);
        Ok(desk.store.find(Query::Count { name })?.one(Record::count).unwrap_or(0))
    };
    // In this order: a signature that is recorded between the readings is counted twice, not left out.
    let open = number(OPEN)?;
    Ok(Account { open, made: number(MADE)?, settled: number(SETTLED)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_agrees_from_what_is_made_to_what_is_open() {
        let account = Account { settled: 10, made: 5, open: 2 };
        for (counted, verdict) in [
            (14, Verdict::TokenBehind(1)),
            (15, Verdict::Agrees),
            (17, Verdict::Agrees),
            (18, Verdict::Unaccounted(1)),
            (0, Verdict::TokenBehind(15)),
        ] {
            assert_eq!(judge(account, counted, account), verdict, "{counted}");
        }
    }

    #[test]
    fn what_is_recorded_while_the_token_is_asked_is_no_difference() {
        let before = Account { settled: 10, made: 5, open: 1 };
        let after = Account { settled: 10, made: 8, open: 1 };
        for (counted, verdict) in
            [(14, Verdict::TokenBehind(1)), (15, Verdict::Agrees), (19, Verdict::Agrees), (20, Verdict::Unaccounted(1))]
        {
            assert_eq!(judge(before, counted, after), verdict, "{counted}");
        }
    }
}

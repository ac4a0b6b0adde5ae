//! What became of requests that change something, for clients whose connection broke before the reply came.
//!
//! Kept in memory, for a minute, and the latest of each application only. An outcome is told to the peer that sent the request and
//! knows the secret name of its application, which by then may have ended. No attribute and no plaintext is kept: handles,
//! return values and encapsulations are.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hsm_core::Peer;
use hsm_proto::v1::reply::Result as Outcome;
use hsm_proto::v1::request::Op;
use hsm_proto::v1::{self, OutcomeState};
use parking_lot::Mutex;
use prost::Message;

/// How long an outcome is kept.
const KEPT: Duration = Duration::from_secs(60);
/// The most outcomes of one application: as many as its threads can have under way.
const PER_APPLICATION: usize = 128;
/// The most applications of which there are outcomes.
const APPLICATIONS: usize = 1024;

/// Whether the outcome of the request is kept: it is numbered, and of a kind whose outcomes are.
pub(crate) fn is_kept(request: &v1::Request) -> bool {
    request.number != 0 && request.op.as_ref().is_some_and(Op::has_kept_outcome)
}

/// See the module.
#[derive(Default)]
pub(crate) struct Outcomes {
    pages: Mutex<HashMap<[u8; 16], Page>>,
}

/// The outcomes of one application.
struct Page {
    peer: Peer,
    written: Instant,
    lines: VecDeque<Line>,
}

struct Line {
    number: u64,
    begun: Instant,
    /// The encoded reply; none while the request is under way.
    reply: Option<Vec<u8>>,
}

/// A request that is under way.
pub(crate) struct Note {
    application: [u8; 16],
    number: u64,
}

impl Outcomes {
    /// A request has come.
    pub(crate) fn begin(&self, peer: &Peer, application: [u8; 16], number: u64) -> Note {
        let now = Instant::now();
        let mut pages = self.pages.lock();
        if !pages.contains_key(&application) {
            make_room(&mut pages, now);
        }
        let fresh = || Page { peer: peer.clone(), written: now, lines: VecDeque::new() };
        let page = pages.entry(application).or_insert_with(fresh);
        page.written = now;
        while page.lines.front().is_some_and(|oldest| is_old(oldest.begun, now)) || page.lines.len() >= PER_APPLICATION
        {
            page.lines.pop_front();
        }
        page.lines.push_back(Line { number, begun: now, reply: None });
        Note { application, number }
    }

    /// It has been answered.
    pub(crate) fn finish(&self, note: Note, reply: &v1::Reply) {
        let bytes = bare(reply).encode_to_vec();
        let mut pages = self.pages.lock();
        let lines = pages.get_mut(&note.application).map(|page| &mut page.lines);
        if let Some(line) = lines.and_then(|lines| lines.iter_mut().rev().find(|line| line.number == note.number)) {
            line.reply = Some(bytes);
        }
    }

    /// What is known of a request.
    pub(crate) fn tell(&self, peer: &Peer, application: &[u8], number: u64) -> v1::OutcomeReply {
        let pages = self.pages.lock();
        let page = pages.get(application).filter(|page| page.peer == *peer);
        let line = page.and_then(|page| page.lines.iter().rev().find(|line| line.number == number));
        let (state, reply) = match line {
            None => (OutcomeState::OutcomeUnknown, Vec::new()),
            Some(Line { reply: None, .. }) => (OutcomeState::OutcomePending, Vec::new()),
            Some(line) if is_old(line.begun, Instant::now()) => (OutcomeState::OutcomeUnknown, Vec::new()),
            Some(Line { reply: Some(reply), .. }) => (OutcomeState::OutcomeKnown, reply.clone()),
        };
        v1::OutcomeReply { state: state.into(), reply }
    }
}

fn is_old(begun: Instant, now: Instant) -> bool {
    now.duration_since(begun) > KEPT
}

/// Drops the pages that nobody may ask for any more, and if that is not enough the oldest.
fn make_room(pages: &mut HashMap<[u8; 16], Page>, now: Instant) {
    if pages.len() < APPLICATIONS {
        return;
    }
    pages.retain(|_, page| !is_old(page.written, now));
    if pages.len() >= APPLICATIONS
        && let Some(oldest) = pages.iter().min_by_key(|(_, page)| page.written).map(|(name, _)| *name)
    {
        pages.remove(&oldest);
    }
}

/// The reply without attributes.
fn bare(reply: &v1::Reply) -> v1::Reply {
    let handle = |made: &v1::ObjectReply| v1::ObjectReply { object: made.object, snapshot: None };
    let result = match &reply.result {
        Some(Outcome::Object(made)) => Some(Outcome::Object(handle(made))),
        Some(Outcome::KeyPair(pair)) => Some(Outcome::KeyPair(v1::KeyPairReply {
            public_key: pair.public_key.as_ref().map(handle),
            private_key: pair.private_key.as_ref().map(handle),
        })),
        Some(Outcome::Encapsulated(made)) => Some(Outcome::Encapsulated(v1::EncapsulateKeyReply {
            ciphertext: made.ciphertext.clone(),
            key: made.key.as_ref().map(handle),
        })),
        other => other.clone(),
    };
    v1::Reply { generation: reply.generation, result }
}

#[cfg(test)]
mod tests {
    use hsm_core::Identity;

    use super::*;

    fn peer(uid: u32) -> Peer {
        Peer::unrestricted(Identity::Local { uid, gid: 1 }, Some(7))
    }

    fn made(object: u64) -> v1::Reply {
        let snapshot = Some(v1::ObjectSnapshot { object, attributes: Vec::new(), complete: true });
        v1::Reply { generation: 1, result: Some(Outcome::Object(v1::ObjectReply { object, snapshot })) }
    }

    fn state(outcomes: &Outcomes, peer: &Peer, application: [u8; 16], number: u64) -> OutcomeState {
        outcomes.tell(peer, &application, number).state()
    }

    #[test]
    fn an_outcome_is_told_to_whoever_sent_the_request_and_to_nobody_else() {
        let outcomes = Outcomes::default();
        let note = outcomes.begin(&peer(1), [1; 16], 5);
        assert_eq!(state(&outcomes, &peer(1), [1; 16], 5), OutcomeState::OutcomePending);
        outcomes.finish(note, &made(9));
        let told = outcomes.tell(&peer(1), &[1; 16], 5);
        let reply = v1::Reply::decode(told.reply.as_slice()).expect("a reply");
        let expected = Outcome::Object(v1::ObjectReply { object: 9, snapshot: None });
        assert_eq!((told.state(), reply.result), (OutcomeState::OutcomeKnown, Some(expected)));
        for (who, application, number) in [(peer(2), [1; 16], 5), (peer(1), [2; 16], 5), (peer(1), [1; 16], 6)] {
            assert_eq!(state(&outcomes, &who, application, number), OutcomeState::OutcomeUnknown);
        }
        assert_eq!(outcomes.tell(&peer(1), b"short", 5).state(), OutcomeState::OutcomeUnknown);
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_kept() {
        let outcomes = Outcomes::default();
        for number in 1..=1000 {
            outcomes.finish(outcomes.begin(&peer(1), [1; 16], number), &made(number));
        }
        assert_eq!(state(&outcomes, &peer(1), [1; 16], 1000), OutcomeState::OutcomeKnown);
        assert_eq!(state(&outcomes, &peer(1), [1; 16], 1), OutcomeState::OutcomeUnknown);
        for application in 0..5000_u128 {
            outcomes.finish(outcomes.begin(&peer(1), application.to_be_bytes(), 1), &made(1));
        }
        let pages = outcomes.pages.lock();
        assert!(pages.len() <= APPLICATIONS && pages.values().all(|page| page.lines.len() <= PER_APPLICATION));
        assert!(pages.contains_key(&4999_u128.to_be_bytes()));
    }

    #[test]
    fn what_gives_out_data_is_not_kept() {
        let kept = |op, number| is_kept(&v1::Request { op: Some(op), number });
        assert!(kept(Op::DestroyObject(v1::ObjectRequest::default()), 1));
        assert!(!kept(Op::DestroyObject(v1::ObjectRequest::default()), 0));
        assert!(!kept(Op::OneShot(v1::OneShotRequest::default()), 1));
        assert!(!kept(Op::Final(v1::FinalRequest::default()), 1));
    }
}

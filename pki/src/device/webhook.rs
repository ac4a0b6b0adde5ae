//! Notices that certificates of devices and authorities come to their end: one for each certificate and step, told to a webhook.
//!
//! A certificate stands in the queue of what is due with its next step only, so the cost follows what comes of age. A notice is durable
//! before it is told and goes away when it was told, or when telling it was tried often enough; each try is in the journal.

use crate::clock::instant;
use crate::counters;
use crate::fetch::{Address, Bounds, Question};
use crate::store::notice::Outcome;
use crate::store::record::Notice;
use crate::store::{Change, Query, Record, Store, StoreError};
use crate::x509::hex;
use ring::hmac;
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Notices in one message.
const MESSAGE: usize = 100;
/// How often telling is tried.
const MAX_TRIES: u32 = 10;
/// What bounds a try.
const BOUNDS: Bounds = Bounds { deadline: Duration::from_secs(10), max_bytes: 64 * 1024 };

/// The webhook.
pub(crate) struct Webhook {
    address: Address,
    tls: Option<Arc<ClientConfig>>,
    key: hmac::Key,
}

impl Webhook {
    /// A webhook at an address. Messages are authenticated with the secret.
    pub(crate) fn new(address: Address, tls: Option<Arc<ClientConfig>>, secret: &secrecy::SecretString) -> Self {
        Self { address, tls, key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes()) }
    }

    /// Tells what is due. Gives how many notices were told; when nothing is due, it reads one record.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn tell_due(&self, store: &dyn Store, now: i64) -> Result<usize, StoreError> {
        let mut told = 0;
        loop {
            let mut notices = store.find(Query::NoticesDue { now })?.all(Record::notice);
            notices.truncate(MESSAGE);
            if notices.is_empty() {
                return Ok(told);
            }
            let tries = notices.iter().map(|notice| notice.tries + 1).max().unwrap_or(1);
            let (outcome, next_try) = match self.tell(&notices, now) {
                Ok(()) => (Outcome::Told, 0),
                Err(fault) => {
                    tracing::warn!(event = "notices_not_told", count = notices.len(), tries, fault);
                    // A minute, two, four, ... up to eight hours: a day and a half in all.
                    let wait = 60 << tries.min(9);
                    (if tries >= MAX_TRIES { Outcome::GivenUp } else { Outcome::Later }, now.saturating_add(wait / 2))
                }
            };
            counters::notices(outcome.word(), notices.len());
            let count = notices.len();
            store.commit(Change::NoticesTried { notices, outcome, next_try })?;
            if outcome != Outcome::Told {
                return Ok(told);
            }
            told += count;
        }
    }

    fn tell(&self, notices: &[Notice], now: i64) -> Result<(), String> {
        let body = message(notices, now).to_string();
        let tag = hex(hmac::sign(&self.key, body.as_bytes()).as_ref());
        let headers = format!("Content-Type: application/json\r\nX-Craton-Signature: sha256={tag}\r\n");
        let question = Question { headers: &headers, body: Some(body.as_bytes()) };
        let answer = self.address.ask(self.tls.clone(), question, BOUNDS).map_err(|fault| fault.to_string())?;
        if (200..300).contains(&answer.status) {
            Ok(())
        } else {
            Err(format!("it answers with status {}", answer.status))
        }
    }
}

/// A message. The identifier of a notice is the same in every try, so that a receiver knows one that it was told before.
fn message(notices: &[Notice], now: i64) -> Value {
    let items = notices.iter().map(|notice| {
        json!({
            "id": format!("{}-{}", hex(&notice.serial), notice.days),
            "serial": hex(&notice.serial),
            "subject": notice.subject,
            "device": (!notice.device.is_empty()).then_some(&notice.device),
            "authority": notice.authority,
            "not_after": instant(notice.not_after),
            "days": notice.days,
        })
    });
    json!({ "event": "certificates_expire", "at": instant(now), "certificates": items.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::DAY_SECONDS as DAY;
    use crate::device::expiry::{self, Notices};
    use crate::store::Supersession;
    use crate::store::query::Span;
    use crate::store::record::{Certificate, CertificateState, Device, DeviceState, Intent};
    use crate::store::redb::RedbStore;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    const BEGIN: i64 = 1_800_000_000;

    fn certificate(serial: u8, device: &str, days: i64) -> Certificate {
        Certificate {
            serial: vec![serial; 16],
            device: device.to_owned(),
            subject: format!("CN={device}"),
            state: CertificateState::Active.into(),
            not_before: BEGIN,
            not_after: BEGIN + days * DAY,
            warn_at: BEGIN + days * DAY * 2 / 3,
            ..Certificate::default()
        }
    }

    fn enrol(store: &dyn Store, certificate: Certificate, replaces: Vec<u8>, revision: u64) {
        let (serial, id) = (certificate.serial.clone(), certificate.device.clone());
        store
            .commit(Change::Intend(Intent {
                serial: serial.clone(),
                device: id.clone(),
                replaces,
                ..Intent::default()
            }))
            .expect("intent");
        let device = Device {
            id,
            certificate: serial,
            state: DeviceState::FullyProvisioned.into(),
            revision,
            ..Device::default()
        };
        store.commit(Change::Enrolled { certificate, device, supersession: Supersession::Expire }).expect("enrolled");
    }

    /// The days of the notices that wait.
    fn waiting(store: &dyn Store) -> Vec<u32> {
        let due = store.find(Query::NoticesDue { now: i64::MAX }).expect("answer").all(Record::notice);
        due.iter().map(|notice| notice.days).collect()
    }

    #[test]
    fn each_certificate_and_step_has_one_notice() {
        let store = RedbStore::in_memory().expect("store");
        enrol(&store, certificate(1, "a", 365), Vec::new(), 0);
        enrol(&store, certificate(2, "replaced", 365), Vec::new(), 0);
        enrol(&store, certificate(3, "replaced", 800), vec![2; 16], 1);
        let before = |days: i64| BEGIN + (365 - days) * DAY;
        for (now, expected) in [
            (before(60) - 1, &[][..]),
            (before(60), &[60]),
            (before(60) + 1, &[60]),
            (before(30), &[60, 30]),
            // The server was off for a while: one notice, of the step that was reached last.
            (before(0) - 3600, &[60, 30, 1]),
            (before(0), &[60, 30, 1]),
        ] {
            expiry::pass_due(&store, now, Notices::Kept).expect("passes");
            assert_eq!(waiting(&store), expected, "{now}");
        }
        let reads = store.rows_read();
        expiry::pass_due(&store, before(0), Notices::Kept).expect("passes");
        assert_eq!(store.rows_read() - reads, 1, "what is not due is not read");
    }

    /// A receiver that answers with these statuses, one after the other, and gives what it was sent.
    fn receiver(statuses: &'static [u16]) -> (Address, Receiver<(String, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("address"));
        let (give, given) = channel();
        std::thread::spawn(move || {
            for status in statuses {
                let (mut stream, _) = listener.accept().expect("accepts");
                let mut bytes = Vec::new();
                let (head, body) = loop {
                    let mut part = [0; 4096];
                    let count = stream.read(&mut part).expect("reads");
                    bytes.extend_from_slice(&part[..count]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
                    if body.len() == length.parse::<usize>().expect("a number") {
                        break (head.to_owned(), body.to_owned());
                    }
                };
                write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").expect("writes");
                give.send((head, body)).expect("gives");
            }
        });
        (Address::parse(&url).expect("parses"), given)
    }

    fn outcomes(store: &dyn Store) -> Vec<String> {
        let lines = store.find(Query::Leaves(Span::first(1000))).expect("answer").all(Record::leaf);
        let tried = lines.iter().map(|leaf| serde_json::from_str::<Value>(&leaf.line).expect("JSON"));
        tried
            .filter(|line| line["event"] == "notice_tried")
            .map(|line| line["outcome"].as_str().expect("a word").to_owned())
            .collect()
    }

    #[test]
    fn a_notice_is_told_with_a_signature_and_again_until_it_is_heard() {
        let store = RedbStore::in_memory().expect("store");
        enrol(&store, certificate(7, "pump", 90), Vec::new(), 0);
        let now = BEGIN + 60 * DAY;
        expiry::pass_due(&store, now, Notices::Kept).expect("passes");
        let (address, given) = receiver(&[503, 200]);
        let webhook = Webhook::new(address, None, &"a secret of the two".into());
        assert_eq!(webhook.tell_due(&store, now), Ok(0));
        assert_eq!(webhook.tell_due(&store, now + 59), Ok(0), "not yet");
        assert_eq!(webhook.tell_due(&store, now + 60), Ok(1));
        assert_eq!((waiting(&store), outcomes(&store)), (vec![], vec!["later".to_owned(), "told".to_owned()]));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret of the two");
        for (head, body) in given.iter().take(2) {
            let tag =
                head.lines().find_map(|line| line.strip_prefix("X-Craton-Signature: sha256=")).expect("a signature");
            let tag = data_encoding::HEXLOWER.decode(tag.as_bytes()).expect("hexadecimal");
            assert!(hmac::verify(&key, body.as_bytes(), &tag).is_ok());
            let message: Value = serde_json::from_str(&body).expect("JSON");
            let item = &message["certificates"][0];
            assert_eq!((&item["device"], &item["days"]), (&json!("pump"), &json!(30)), "{message}");
            assert_eq!(item["id"], format!("{}-30", "07".repeat(16)));
        }
    }

    #[test]
    fn telling_is_given_up_after_ten_tries() {
        let store = RedbStore::in_memory().expect("store");
        enrol(&store, certificate(7, "pump", 90), Vec::new(), 0);
        let mut now = BEGIN + 60 * DAY;
        expiry::pass_due(&store, now, Notices::Kept).expect("passes");
        let (address, _given) = receiver(&[500; 10]);
        let webhook = Webhook::new(address, None, &"secret".into());
        while !waiting(&store).is_empty() {
            assert_eq!(webhook.tell_due(&store, now), Ok(0));
            now += 60;
            assert!(now < BEGIN + 62 * DAY, "{:?}", outcomes(&store));
        }
        let mut expected = vec!["later".to_owned(); 9];
        expected.push("given_up".to_owned());
        assert_eq!(outcomes(&store), expected);
    }

    #[test]
    fn without_a_webhook_nothing_waits() {
        let store = RedbStore::in_memory().expect("store");
        enrol(&store, certificate(7, "pump", 90), Vec::new(), 0);
        expiry::pass_due(&store, BEGIN + 60 * DAY, Notices::LoggedOnly).expect("passes");
        assert_eq!(waiting(&store), Vec::<u32>::new());
    }
}

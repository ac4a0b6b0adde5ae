//! `[alerts]`: a receiver outside is told that a certificate comes to its end, with a signature that it can check, once for each step.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use acceptance::tools::run_with_input;
use serde_json::{Value, json};

use crate::clock::{DAY, LONG, jump, machine_with, serial};

const SECRET: &str = "a secret of the two";

/// A receiver that answers with these statuses, one after the other: its address, and what it was sent, head and body.
fn receiver(statuses: &'static [u16]) -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!("http://{}/hook", listener.local_addr().expect("our own listener"));
    let (give, given) = channel();
    std::thread::spawn(move || {
        for status in statuses {
            let (mut stream, _) = listener.accept().expect("somebody comes");
            let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
            let told = loop {
                let count = stream.read(&mut part).expect("a request");
                assert!(count > 0, "it ends early");
                bytes.extend_from_slice(&part[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = field(head, "Content-Length").parse::<usize>().expect("a length");
                if body.len() == length {
                    break (head.to_owned(), body.to_owned());
                }
            };
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").expect("it reads the answer");
            give.send(told).expect("the test waits");
        }
    });
    (url, given)
}

fn field(head: &str, name: &str) -> String {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.unwrap_or_else(|| panic!("no {name}: {head}")).1.to_owned()
}

/// The next message, its signature checked by openssl; gives its only certificate.
fn told(given: &Receiver<(String, String)>) -> Value {
    let (head, body) = given.recv_timeout(Duration::from_secs(180)).expect("a message within three minutes");
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
    let digest = run_with_input(Command::new("openssl").args(["dgst", "-sha256", "-hmac", SECRET]), body.as_bytes());
    let digest = digest.ok().text();
    let expected = digest.trim().rsplit(' ').next().expect("a digest");
    assert_eq!(field(&head, "X-Craton-Signature"), format!("sha256={expected}"));
    let message: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
    assert_eq!(message["event"], "certificates_expire", "{message}");
    let certificates = message["certificates"].as_array().expect("certificates");
    assert_eq!(certificates.len(), 1, "{message}");
    certificates[0].clone()
}

#[test]
fn a_receiver_is_told_once_for_each_step_and_again_until_it_has_taken_it() {
    let test = "alerts::a_receiver_is_told_once_for_each_step_and_again_until_it_has_taken_it";
    let (url, given) = receiver(&[503, 200, 200]);
    let alerts = format!("[alerts]\nwebhook = \"{url}\"\nsecret = \"file:alerts.secret\"");
    // The secret is read when it serves.
    let Some((world, mut pki, faults)) = machine_with(test, 0, &alerts) else { return };
    let secret = world.dir().join("alerts.secret");
    fs::write(&secret, SECRET).expect("the world's directory is writable");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("our own file");
    pki.serve(&world);
    let certificate = pki.enrol(&world, "pump");
    let left = |days: i64| (i64::from(LONG[2]) - days) * DAY;
    jump(&world, &faults, left(59));
    let first = told(&given);
    let row = ["device", "serial", "authority", "days"].map(|name| first[name].clone());
    assert_eq!(Value::from(row.to_vec()), json!(["pump", serial(&certificate), "issuing", 60]), "{first}");
    // It was not taken: it is told again, also by the next server, and is the same to the receiver.
    pki.stop();
    faults.shift_clock(left(59) + 120);
    pki.serve_unbelieved(&world);
    assert_eq!(told(&given), first);
    jump(&world, &faults, left(6));
    let second = told(&given);
    assert_eq!((&second["serial"], &second["days"]), (&first["serial"], &Value::from(7)), "{second}");
    assert_ne!(second["id"], first["id"]);
    let journal = pki.json(&world, &["journal", "list", "--limit", "1000"]).to_string();
    for (outcome, times) in [("later", 1), ("told", 2)] {
        let found = journal.matches(&format!("\\\"outcome\\\":\\\"{outcome}\\\"")).count();
        assert_eq!(found, times, "{outcome}: {journal}");
    }
}

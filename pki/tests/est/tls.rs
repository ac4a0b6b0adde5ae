//! What TLS the EST port speaks, tried with `openssl s_client`: versions 1.2 and 1.3, no suite but AEADs with ephemeral keys, no compression,
//! no renegotiation, no tickets and so no early data. And a body of 64 MiB, which is not read.

use crate::world::{Choice, PKCS10, World};
use std::io::Write;
use std::process::{Command, Stdio};

/// What `openssl s_client` says after a handshake with these options, told `input` afterwards.
fn s_client(world: &World, options: &[&str], input: &str) -> String {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", world.est_port), "-CAfile", "state/root.pem"])
        .args(options);
    command.current_dir(world.path(".")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssl");
    // One that has been refused reads nothing.
    child.stdin.take().expect("piped").write_all(input.as_bytes()).unwrap_or_default();
    let output = child.wait_with_output().expect("openssl");
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

#[test]
fn old_versions_and_suites_are_not_spoken() {
    let Some(world) = World::new("old_versions_and_suites_are_not_spoken", &Choice::default()) else { return };
    let weak = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
    let cbc = "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA384:@SECLEVEL=0";
    let rows: [(&[&str], Option<&str>); 9] = [
        (&["-tls1", "-cipher", weak], None),
        (&["-tls1_1", "-cipher", weak], None),
        (&["-tls1_2", "-cipher", cbc], None),
        // Without an ephemeral key, and with a key that nobody signed.
        (&["-tls1_2", "-cipher", "kRSA:aNULL:kPSK:@SECLEVEL=0"], None),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-CCM:DHE-RSA-AES256-GCM-SHA384"], None),
        (&["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256"], None),
        (&["-tls1_2", "-cipher", weak], Some("GCM")),
        (&["-tls1_2", "-comp"], Some("TLSv1.2")),
        (&["-tls1_3", "-comp"], Some("TLSv1.3")),
    ];
    for (options, expected) in rows {
        let said = s_client(&world, options, "Q\n");
        match expected {
            Some(expected) => {
                assert!(said.contains(expected) && !said.contains("Cipher is (NONE)"), "{options:?}: {said}");
                assert!(!said.contains("Compression: zlib"), "{options:?}: {said}");
            }
            None => {
                let refused = ["Cipher is (NONE)", "no protocols available", "no cipher match"];
                assert!(refused.iter().any(|words| said.contains(words)), "{options:?}: {said}");
            }
        }
    }
}

#[test]
fn nothing_is_renegotiated_resumed_or_sent_early() {
    let Some(world) = World::new("nothing_is_renegotiated_resumed_or_sent_early", &Choice::default()) else { return };
    // A line with an R asks for a renegotiation.
    let said = s_client(&world, &["-tls1_2"], "R\n");
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation") || said.contains("error"), "{said}");
    assert!(said.contains("Secure Renegotiation IS supported"), "the extension that protects it is there: {said}");
    for version in ["-tls1_2", "-tls1_3"] {
        let asked = "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let said = s_client(&world, &[version, "-ign_eof", "-sess_out", "session.pem"], asked);
        assert!(said.contains("HTTP/1.1 200"), "{version}: {said}");
        assert!(
            !said.contains("New Session Ticket arrived") && !said.contains("TLS session ticket:"),
            "{version}: {said}"
        );
        if std::fs::exists(world.path("session.pem")).expect("our own folder") {
            // OpenSSL keeps a session of TLS 1.2 without a ticket or an identifier too: it resumes nothing.
            let again = s_client(&world, &[version, "-sess_in", "session.pem"], "Q\n");
            assert!(!again.contains("Reused, "), "{version}: {again}");
            std::fs::remove_file(world.path("session.pem")).expect("our own file");
        }
    }
}

#[test]
fn a_body_of_64_mib_is_refused_unread_and_takes_no_memory() {
    let Some(world) = World::new("a_body_of_64_mib_is_refused_unread_and_takes_no_memory", &Choice::default()) else {
        return;
    };
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says");
        line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).expect("a number")
    };
    std::fs::write(world.path("large"), vec![b'A'; 64 << 20]).expect("writes");
    let credential = world.credential(&[]);
    let user = format!("{}:{}", credential.name, credential.secret);
    // Once to warm up.
    for (round, kept) in [(0, u64::MAX), (1, resident() + 32 * 1024)] {
        let answer = world.est("simpleenroll", &["-u", &user, "-H", PKCS10, "--data-binary", "@large"]);
        assert_eq!(answer.refusal(), (413, "body_too_large".to_owned()), "{round}");
        assert!(resident() < kept, "{} KiB", resident());
    }
}

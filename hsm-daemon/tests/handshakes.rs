//! What TLS the TCP listener speaks, tried with `openssl s_client`: version 1.3 and nothing older, no suite but AEADs with ephemeral keys, no
//! compression, no renegotiation, no tickets and so no early data, and the hybrid post-quantum key exchange first.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod world;

use std::io::Write;
use std::process::{Command, Stdio};

use world::World;
use world::network::{ANY_CERTIFICATE, TLS13, raw_tls, tls};

/// What `openssl s_client` says after a handshake with these options, told `input` afterwards.
fn s_client(world: &World, port: u16, options: &[&str], input: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost", "-alpn", "h2"]);
    command.args(["-CAfile", "ca.pem", "-cert", "right.pem", "-key", "right.key"]).args(options);
    command.current_dir(world.folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that has been refused reads nothing.
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap_or_default();
    let output = child.wait_with_output().unwrap();
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

#[test]
fn only_tls_13_with_aead_suites_is_spoken() {
    let name = "only_tls_13_with_aead_suites_is_spoken";
    let Some((mut world, port)) = World::on_the_network(name, &["right"], ANY_CERTIFICATE, "") else { return };
    world.start();
    let weak = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
    let rows: [(&[&str], Option<&str>); 9] = [
        (&["-tls1", "-cipher", weak], None),
        (&["-tls1_1", "-cipher", weak], None),
        (&["-tls1_2", "-cipher", weak], None),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA"], None),
        (&["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256"], None),
        (&["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"], Some("TLS_AES_128_GCM_SHA256")),
        (&["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"], Some("TLS_AES_256_GCM_SHA384")),
        (&["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], Some("TLS_CHACHA20_POLY1305_SHA256")),
        (&["-tls1_3", "-comp"], Some("TLSv1.3")),
    ];
    for (options, suite) in rows {
        let said = s_client(&world, port, options, "Q\n");
        match suite {
            Some(suite) => {
                assert!(said.contains(suite) && said.contains("Verify return code: 0 (ok)"), "{options:?}: {said}");
                assert!(!said.contains("Compression: zlib"), "{options:?}: {said}");
            }
            None => assert!(
                said.contains("Cipher is (NONE)") || said.contains("no protocols available"),
                "{options:?}: {said}"
            ),
        }
    }
}

#[test]
fn no_ticket_is_given_so_nothing_is_resumed_and_nothing_sent_early() {
    let name = "no_ticket_is_given_so_nothing_is_resumed_and_nothing_sent_early";
    let Some((mut world, port)) = World::on_the_network(name, &["right"], ANY_CERTIFICATE, "") else { return };
    world.start();
    // Long enough on the line for a ticket to come: the daemon answers the first words of HTTP/2.
    let hello = String::from_utf8(world::http2::hello(1)).unwrap();
    let said =
        s_client(&world, port, &["-tls1_3", "-sess_out", "session.pem", "-quiet", "-ign_eof", "-no_ign_eof"], &hello);
    assert!(!said.contains("New Session Ticket arrived"), "{said}");
    assert!(!world.path("session.pem").exists(), "a session could be resumed: {said}");
    let mut stream = raw_tls(&tls(world.folder.path(), Some("right"), TLS13), port).unwrap();
    stream.write_all(&world::http2::hello(1)).unwrap();
    world::http2::next(&mut stream).unwrap();
    assert_eq!(stream.conn.tls13_tickets_received(), 0);
    assert_eq!(stream.conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
    assert!(!stream.conn.is_early_data_accepted());
    let group = stream.conn.negotiated_key_exchange_group().map(|group| group.name());
    assert_eq!(group, Some(rustls::NamedGroup::X25519MLKEM768));
    // A key update is no renegotiation; what TLS 1.2 called so does not exist here.
    let said = s_client(&world, port, &["-tls1_3"], "R\n");
    assert!(!said.contains("RENEGOTIATING") || said.contains("error"), "{said}");
}

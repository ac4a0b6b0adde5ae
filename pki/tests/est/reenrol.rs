//! Re-enrolment: same identity only, with the certificate it renews, one active certificate whatever happens.

use crate::world::{Choice, PKCS10, World};

#[test]
fn a_device_renews_and_rekeys() {
    let Some(world) = World::new("a_device_renews_and_rekeys", &Choice::default()) else { return };
    world.enrolled("sensor");
    world.request("next", "/CN=sensor", &[]);
    let answer = world.reenrol("next", "sensor");
    world.keep(&answer, "next");
    assert!(world.verify("next", &["-x509_strict"]).status.success());
    assert_eq!(world.states("sensor"), ["superseded", "active"]);
    // Same key: renewal.
    let answer = world.reenrol("next", "next");
    std::fs::copy(world.path("next.key"), world.path("third.key")).expect("copies");
    world.keep(&answer, "third");
    assert_eq!(world.states("sensor"), ["superseded", "superseded", "active"]);
    assert_eq!(world.done(&["device", "show", "sensor"])["certificate"], world.serial("third"));
    // Devices of yesterday speak TLS 1.2.
    let old =
        ["--tls-max", "1.2", "--cert", "third.pem", "--key", "third.key", "-H", PKCS10, "--data-binary", "@next.b64"];
    assert_eq!(world.est("simplereenroll", &old).status, 200);
}

#[test]
fn a_repeated_request_gets_the_same_certificate() {
    let Some(world) = World::new("a_repeated_request_gets_the_same_certificate", &Choice::default()) else { return };
    world.enrolled("sensor");
    world.request("next", "/CN=sensor", &[]);
    let first = world.reenrol("next", "sensor");
    let second = world.reenrol("next", "sensor");
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.body, second.body);
    assert_eq!(world.states("sensor"), ["superseded", "active"]);
    // Another key is another request, and the old certificate is worth nothing any more.
    world.request("other", "/CN=sensor", &[]);
    assert_eq!(world.reenrol("other", "sensor").refusal(), (403, "certificate_superseded".to_owned()));
}

#[test]
fn another_identity_is_refused() {
    let Some(world) = World::new("another_identity_is_refused", &Choice::default()) else { return };
    world.enrolled("sensor");
    world.enrolled("victim");
    world.request("named", "/CN=named", &["-addext", "subjectAltName=DNS:n.devices.example"]);
    let answer = world.enrol("named", &world.credential(&[]));
    world.keep(&answer, "named");
    let rows: &[(&str, &str, &[&str], &str)] = &[
        ("sensor", "/CN=victim", &[], "subject_differs"),
        ("sensor", "/CN=sensor/O=More", &[], "subject_differs"),
        ("sensor", "/serialNumber=sensor", &[], "subject_differs"),
        ("sensor", "/CN=sensor", &["-addext", "subjectAltName=DNS:x.devices.example"], "alt_name_differs"),
        ("named", "/CN=named", &[], "alt_name_differs"),
        ("named", "/CN=named", &["-addext", "subjectAltName=DNS:m.devices.example"], "alt_name_differs"),
        (
            "named",
            "/CN=named",
            &["-addext", "subjectAltName=DNS:n.devices.example,DNS:m.devices.example"],
            "alt_name_differs",
        ),
    ];
    for (holder, subject, more, reason) in rows {
        world.request("next", subject, more);
        assert_eq!(world.reenrol("next", holder).refusal(), (403, (*reason).to_owned()), "{holder} {subject} {more:?}");
    }
    // The name in other clothes is the same name (RFC 5280 section 7.1).
    world.request("next", "/CN=Sensor", &["-nameopt", "utf8"]);
    assert_eq!(world.reenrol("next", "sensor").status, 200);
    world.request("named-next", "/CN=named", &["-addext", "subjectAltName=DNS:n.devices.example"]);
    assert_eq!(world.reenrol("named-next", "named").status, 200);
    assert_eq!(world.states("victim"), ["active"]);
}

#[test]
fn certificates_that_prove_nothing_are_refused() {
    let Some(world) = World::new("certificates_that_prove_nothing_are_refused", &Choice::default()) else { return };
    world.enrolled("sensor");
    world.request("next", "/CN=sensor", &[]);
    let none = world.est("simplereenroll", &["-H", PKCS10, "--data-binary", "@next.b64"]);
    assert_eq!(none.refusal(), (403, "certificate_needed".to_owned()));
    // A bootstrap credential does not re-enrol.
    let answer = world.enrol_at("simplereenroll", "next", &world.credential(&["--device", "sensor"]));
    assert_eq!(answer.refusal(), (403, "certificate_needed".to_owned()));
    // A certificate does not enrol a second time.
    let arguments = ["--cert", "sensor.pem", "--key", "sensor.key", "-H", PKCS10, "--data-binary", "@next.b64"];
    assert_eq!(world.est("simpleenroll", &arguments).refusal(), (403, "already_enrolled".to_owned()));
    // A certificate of another authority ends in the handshake.
    world.openssl(&[
        "req",
        "-x509",
        "-new",
        "-key",
        "sensor.key",
        "-subj",
        "/CN=sensor",
        "-days",
        "1",
        "-out",
        "foreign.pem",
    ]);
    std::fs::copy(world.path("sensor.key"), world.path("foreign.key")).expect("copies");
    assert_eq!(world.reenrol("next", "foreign").status, 0);
    // A revoked one ends at the door.
    world.done(&["cert", "revoke", &world.serial("sensor")]);
    assert_eq!(world.reenrol("next", "sensor").refusal(), (403, "certificate_revoked".to_owned()));
    assert_eq!(world.states("sensor"), ["revoked"]);
}

#[test]
fn two_at_once_leave_one_active_certificate() {
    let Some(world) = World::new("two_at_once_leave_one_active_certificate", &Choice::default()) else { return };
    for round in 0..4 {
        let device = format!("sensor-{round}");
        world.enrolled(&device);
        let requests: Vec<String> = (0..6).map(|index| format!("{device}-{index}")).collect();
        for request in &requests {
            world.request(request, &format!("/CN={device}"), &[]);
        }
        let answers: Vec<u16> = std::thread::scope(|scope| {
            let running: Vec<_> =
                requests.iter().map(|request| scope.spawn(|| world.reenrol(request, &device).status)).collect();
            running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
        assert!(answers.iter().all(|status| matches!(status, 200 | 403 | 409)), "{answers:?}");
        assert_eq!(world.states(&device).iter().filter(|state| *state == "active").count(), 1);
    }
}

#[test]
fn a_profile_may_put_the_old_certificate_on_the_crl() {
    let choice = Choice { profile: "revoke_on_reenroll = true", ..Choice::default() };
    let Some(world) = World::new("a_profile_may_put_the_old_certificate_on_the_crl", &choice) else { return };
    world.enrolled("sensor");
    world.request("next", "/CN=sensor", &[]);
    let answer = world.reenrol("next", "sensor");
    world.keep(&answer, "next");
    assert_eq!(world.states("sensor"), ["revoked", "active"]);
    world.done(&["crl", "--renew"]);
    world.fetch_crls();
    assert!(!world.verify("sensor", &["-crl_check", "-CRLfile", "crls.pem"]).status.success());
    assert!(world.verify("next", &["-crl_check", "-CRLfile", "crls.pem"]).status.success());
    // The device may still ask for the answer it lost.
    assert_eq!(world.reenrol("next", "sensor").body, answer.body);
}

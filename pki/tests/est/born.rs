//! First enrolment by the certificate that a manufacturer gave (IEEE 802.1AR IDevID): only where a label names the manufacturer, only
//! for the device itself, and only while it is known that the certificate was not revoked.

use crate::world::{Answer, Choice, PKCS10, World};

const LABELS: &str = r#"
    [est.labels.born]
    manufacturer_roots = "maker.pem"
    manufacturer_crls = "crls"
    registration = "pre-registered"
    [est.labels.trusting]
    manufacturer_roots = "maker.pem"
    manufacturer_crls = "none"
"#;

/// A manufacturer: `NAME.key`, `NAME.pem`, and what `openssl ca` needs.
fn maker(world: &World, name: &str) {
    let config = format!(
        "[ca]\ndefault_ca=d\n[d]\ndatabase={name}.index\ncrlnumber={name}.number\nserial={name}.serial\nnew_certs_dir=.\n\
         default_md=sha256\ndefault_days=9\ndefault_crl_days=9\ncertificate={name}.pem\nprivate_key={name}.key\npolicy=p\nunique_subject=no\n\
         x509_extensions=device\n[p]\nserialNumber=optional\ncommonName=optional\n[device]\nbasicConstraints=critical,CA:FALSE\n\
         keyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n[req]\ndistinguished_name=dn\n[dn]\n\
         [root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
    );
    for (file, text) in [("cnf", config.as_str()), ("index", ""), ("number", "01\n"), ("serial", "1001\n")] {
        std::fs::write(world.path(&format!("{name}.{file}")), text).expect("writes");
    }
    let (key, pem, cnf) = (format!("{name}.key"), format!("{name}.pem"), format!("{name}.cnf"));
    world.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key]);
    let subject = format!("/O={name}/CN=Devices");
    let root = ["req", "-x509", "-new", "-key", &key, "-config", &cnf, "-extensions", "root", "-days", "9"];
    world.openssl(&[&root[..], &["-subj", &subject, "-out", &pem]].concat());
}

/// A device that a manufacturer made: `NAME.key` and `NAME.pem`.
fn born(world: &World, maker: &str, name: &str, subject: &str) {
    world.request(name, subject, &[]);
    let (cnf, csr, pem) = (format!("{maker}.cnf"), format!("{name}.csr"), format!("{name}.pem"));
    world.openssl(&["req", "-inform", "DER", "-in", &csr, "-out", "born.csr.pem"]);
    let arguments = ["ca", "-batch", "-notext", "-config", &cnf, "-in", "born.csr.pem", "-out", &pem];
    world.openssl(&[&arguments[..], &["-subj", subject]].concat());
}

/// The current CRL of the manufacturer `maker` in the folder that the label reads.
fn publish(world: &World, more: &[&str]) {
    let arguments = ["ca", "-config", "maker.cnf", "-gencrl", "-out", "crls/maker.crl"];
    world.openssl(&[&arguments[..], more].concat());
}

/// First enrolment of `NAME.b64` by the certificate and key of `HOLDER`.
fn enrol(world: &World, label: &str, name: &str, holder: &str) -> Answer {
    let (data, cert, key) = (format!("@{name}.b64"), format!("{holder}.pem"), format!("{holder}.key"));
    let path = format!("{label}/simpleenroll");
    world.est(&path, &["--cert", &cert, "--key", &key, "-H", PKCS10, "--data-binary", &data])
}

#[test]
fn m6_e5_a_device_enrols_by_the_certificate_of_its_manufacturer() {
    let test = "m6_e5_a_device_enrols_by_the_certificate_of_its_manufacturer";
    let Some(mut world) = World::bare(test, &Choice { more: LABELS, ..Choice::default() }) else { return };
    maker(&world, "maker");
    maker(&world, "other");
    born(&world, "maker", "one", "/serialNumber=4711/CN=sensor");
    born(&world, "maker", "two", "/serialNumber=4712");
    born(&world, "other", "alien", "/serialNumber=4711");
    std::fs::create_dir(world.path("crls")).expect("folder");
    world.done(&["init"]);
    world.serve();
    // What the operator's side calls itself, with a key of its own.
    world.request("ldevid", "/serialNumber=4711", &[]);
    let refused = |label: &str, name: &str, holder: &str, status: u16, reason: &str| {
        assert_eq!(
            enrol(&world, label, name, holder).refusal(),
            (status, reason.to_owned()),
            "{label} {name} {holder}"
        );
    };
    // Nobody knows whether it was revoked: no list, one that is no list, one that is over.
    refused("born", "ldevid", "one", 503, "revocation_unknown");
    std::fs::write(world.path("crls/maker.crl"), "nothing").expect("writes");
    refused("born", "ldevid", "one", 503, "revocation_unknown");
    publish(&world, &["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z"]);
    refused("born", "ldevid", "one", 503, "revocation_unknown");
    publish(&world, &[]);
    refused("born", "ldevid", "one", 403, "device_unknown");
    world.done(&["device", "register", "4711", "--label", "born"]);
    // Not where no label names its manufacturer, not for another device, not by another manufacturer.
    refused("line-1", "ldevid", "one", 403, "certificate_foreign");
    refused("born", "ldevid", "two", 403, "other_device");
    assert_eq!(enrol(&world, "born", "ldevid", "alien").status, 0, "no handshake");
    assert_eq!(
        world
            .est(
                "born/simplereenroll",
                &["--cert", "one.pem", "--key", "one.key", "-H", PKCS10, "--data-binary", "@ldevid.b64"]
            )
            .refusal(),
        (403, "certificate_foreign".to_owned())
    );
    let answer = enrol(&world, "born", "ldevid", "one");
    world.keep(&answer, "ldevid");
    assert!(world.verify("ldevid", &["-x509_strict"]).status.success());
    assert_eq!(world.states("4711"), ["active"]);
    // Enrolled is enrolled; its own certificate renews from now on.
    refused("born", "ldevid", "one", 403, "already_enrolled");
    // A certificate that its manufacturer revoked proves nothing.
    world.request("second", "/serialNumber=4712", &[]);
    world.done(&["device", "register", "4712", "--label", "born"]);
    world.openssl(&["ca", "-config", "maker.cnf", "-revoke", "two.pem"]);
    publish(&world, &[]);
    refused("born", "second", "two", 403, "certificate_revoked");
    assert_eq!(world.states("4712"), Vec::<String>::new());
    // Where the operator says that nothing is ever revoked, nothing is asked.
    let answer = enrol(&world, "trusting", "second", "two");
    assert_eq!(answer.refusal(), (403, "other_label".to_owned()), "the device belongs to the other label");
}

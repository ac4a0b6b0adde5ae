//! Profiles: what comes into a certificate, what does not, and the dry run that tells before.

use crate::world::{Choice, World};
use serde_json::Value;

const TABLES: &str = r#"
    [profiles.idevid]
    preset = "idevid"
    subject_fixed = "O=Acme"
    keys = ["ec:P-256"]
    hardware_module_types = ["1.3.6.1.4.1.55555.1"]
    permanent_identifier_assigners = ["1.3.6.1.4.1.55555.2"]
    policies = ["1.3.6.1.4.1.55555.3"]
    extensions = [{ oid = "1.3.6.1.4.1.55555.7", der = "0c0178" }]
    [profiles.server]
    preset = "server"
    dns_suffixes = ["devices.example"]
    ip_networks = ["10.0.0.0/8"]
    uri_prefixes = ["urn:dev:"]
    valid_until = "2027-12-31T23:59:59Z"
    crl_urls = ["http://crl.example/a.crl"]
    ca_issuers_urls = ["http://ca.example/a.cer"]
    ocsp_urls = ["http://ocsp.example/"]
    refuse_other_extensions = true
    [profiles.code]
    preset = "code_signing"
    keys = ["rsa:3072"]
    [profiles.client]
    preset = "client"
    subject_attributes = ["CN", "O", "OU"]
    [est.labels.idevid]
    profile = "idevid"
    [est.labels.server]
    profile = "server"
    [est.labels.code]
    profile = "code"
    [est.labels.client]
    profile = "client"
"#;

fn world(test: &str) -> Option<World> {
    World::new(test, &Choice { more: TABLES, ..Choice::default() })
}

/// Enrols `NAME.b64` at a label; the certificate as text when it was issued.
fn enrolled_text(world: &World, label: &str, name: &str) -> String {
    let answer = world.enrol_at(&format!("{label}/simpleenroll"), name, &world.credential(&["--label", label]));
    world.keep(&answer, name);
    assert!(world.verify(name, &["-x509_strict"]).status.success(), "{name}");
    world.openssl(&["x509", "-in", &format!("{name}.pem"), "-noout", "-text"])
}

fn refused(world: &World, label: &str, name: &str) -> (u16, String) {
    let credential = world.credential(&["--label", label]);
    world.enrol_at(&format!("{label}/simpleenroll"), name, &credential).refusal()
}

#[test]
fn a_device_identity_carries_its_hardware_names() {
    let Some(world) = world("a_device_identity_carries_its_hardware_names") else { return };
    let config = "[req]\nprompt=no\ndistinguished_name=dn\nreq_extensions=x\n[dn]\nserialNumber=4711\n[x]\nsubjectAltName=@n\n[n]\n\
                  otherName.1=1.3.6.1.5.5.7.8.4;SEQUENCE:hw\notherName.2=1.3.6.1.5.5.7.8.3;SEQUENCE:pi\n\
                  [hw]\na=OID:1.3.6.1.4.1.55555.1\nb=OCTETSTRING:4711\n[pi]\na=UTF8:4711\nb=OID:1.3.6.1.4.1.55555.2\n";
    std::fs::write(world.path("id.cnf"), config).expect("writes");
    world.request("id", "", &["-config", "id.cnf"]);
    let text = enrolled_text(&world, "idevid", "id");
    for part in ["O = Acme", "serialNumber = 4711", "1.3.6.1.4.1.55555.3", "1.3.6.1.4.1.55555.7"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.matches("othername").count(), 2, "{text}");
    world.request("none", "/CN=4712", &[]);
    assert_eq!(refused(&world, "idevid", "none"), (403, "name_missing".to_owned()));
    world.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "p384.key"]);
    world.request_for_key("p384", "/serialNumber=4713", &[]);
    assert_eq!(refused(&world, "idevid", "p384"), (403, "key_not_permitted".to_owned()));
}

#[test]
fn a_server_has_names_a_date_and_addresses_of_its_profile() {
    let Some(world) = world("a_server_has_names_a_date_and_addresses_of_its_profile") else { return };
    let names = "subjectAltName=DNS:www.devices.example,IP:10.1.2.3,URI:urn:dev:mac:1";
    world.request("www", "/CN=www.devices.example", &["-addext", names]);
    let text = enrolled_text(&world, "server", "www");
    for part in [
        "TLS Web Server Authentication",
        "DNS:www.devices.example, IP Address:10.1.2.3, URI:urn:dev:mac:1",
        "http://crl.example/a.crl",
        "CA Issuers - URI:http://ca.example/a.cer",
        "OCSP - URI:http://ocsp.example/",
        "Dec 31 23:59:59 2027 GMT",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let rows: &[(&str, &str, &str)] = &[
        ("/CN=x.devices.example", "keyUsage=digitalSignature", "name_missing"),
        ("/CN=x.devices.example", "subjectAltName=DNS:y.devices.example", "name_not_permitted"),
        ("/CN=10.9.9.9", "subjectAltName=IP:11.9.9.9", "name_not_permitted"),
        ("/CN=10.9.9.9", "subjectAltName=IP:10.9.9.9,URI:http://evil.example/", "name_not_permitted"),
    ];
    for (subject, extension, reason) in rows {
        world.request("other", subject, &["-addext", extension]);
        assert_eq!(refused(&world, "server", "other"), (403, (*reason).to_owned()), "{subject} {extension}");
    }
    let more = ["-addext", "subjectAltName=DNS:z.devices.example", "-addext", "nsComment=hello"];
    world.request("other", "/CN=z.devices.example", &more);
    assert_eq!(refused(&world, "server", "other"), (403, "extension_not_permitted".to_owned()));
}

#[test]
fn purposes_and_subjects_follow_the_profile() {
    let Some(world) = world("purposes_and_subjects_follow_the_profile") else { return };
    world.openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out", "code.key"]);
    world.request_for_key("code", "/CN=builder", &[]);
    let text = enrolled_text(&world, "code", "code");
    assert!(text.contains("Code Signing") && !text.contains("Key Encipherment"), "{text}");
    world.openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "small.key"]);
    world.request_for_key("small", "/CN=small", &[]);
    assert_eq!(refused(&world, "code", "small"), (403, "key_not_permitted".to_owned()));
    world.request("alice", "/CN=alice/O=Craton/OU=Lab/L=Here", &[]);
    let text = enrolled_text(&world, "client", "alice");
    assert!(text.contains("CN = alice, O = Craton, OU = Lab\n"), "{text}");
}

#[test]
fn the_dry_run_tells_what_an_enrolment_would_do() {
    let Some(world) = world("the_dry_run_tells_what_an_enrolment_would_do") else { return };
    let listed = world.done(&["profile", "list"]);
    let names: Vec<_> =
        listed["items"].as_array().expect("items").iter().filter_map(|item| item["id"].as_str()).collect();
    assert_eq!(names, ["client", "code", "device", "idevid", "server"]);
    assert_eq!(world.done(&["profile", "show", "server"])["preset"], "server");
    assert_eq!(world.done(&["profile", "presets"])["items"].as_array().map(Vec::len), Some(9));
    let names = ["-addext", "subjectAltName=DNS:www.devices.example"];
    world.request("www", "/CN=www.devices.example", &names);
    for file in ["www.csr", "www.b64"] {
        let told =
            world.done(&["profile", "test", "--profile", "server", "--csr", &world.path(file).to_string_lossy()]);
        assert_eq!(told["device"], "www.devices.example");
        assert_eq!(told["not_after"], "2027-12-31T23:59:59Z");
        assert!(told["extensions"].as_array().is_some_and(|list| list.len() == 6), "{told}");
    }
    let refused = world.run(&["profile", "test", "--profile", "code", "--csr", "www.csr", "--json"]);
    assert!(!refused.status.success());
    assert!(world.done(&["device", "list"])["items"].as_array().is_some_and(Vec::is_empty));
}

/// What /csrattrs says of the key and the subject is enough for a request that is accepted.
#[test]
fn a_request_built_from_the_template_is_accepted() {
    use crate::hand::{attribute, request, tlv};
    let Some(world) = world("a_request_built_from_the_template_is_accepted") else { return };
    for label in ["idevid", "client", "server"] {
        let answer = world.est(&format!("{label}/csrattrs"), &[]);
        let der = data_encoding::BASE64_MIME_PERMISSIVE.decode(&answer.body).expect("base64");
        let template = template(&der);
        let subject = filled_subject(&template.subject, &format!("{label}.devices.example"));
        let mut extensions = Vec::new();
        for extension in &template.extensions {
            extensions.extend(match extension.1.is_empty() {
                false => extension.1.clone(),
                // subjectAltName is for the client to fill in.
                true => {
                    let names = tlv(0x30, &tlv(0x82, b"server.devices.example"));
                    tlv(0x30, &[extension.0.clone(), tlv(0x04, &names)].concat())
                }
            });
        }
        let asked = attribute("1.2.840.113549.1.9.14", &tlv(0x30, &extensions));
        let built = request(&subject, &[asked]);
        assert!(crate::hand::is_der(&built));
        std::fs::write(world.path("built.b64"), data_encoding::BASE64.encode(&built)).expect("writes");
        let answer = world.enrol_at(&format!("{label}/simpleenroll"), "built", &world.credential(&["--label", label]));
        assert_eq!(answer.status, 200, "{label}: {}", String::from_utf8_lossy(&answer.body));
    }
}

struct Template {
    subject: Vec<u8>,
    /// Identifier, and the whole extension when it has a value.
    extensions: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The template in CsrAttrs, taken apart as a client of RFC 9908 would.
fn template(der: &[u8]) -> Template {
    use x509_cert::der::{AnyRef, Decode, Encode, Tagged};
    let list: Vec<AnyRef<'_>> = Vec::from_der(der).expect("a SEQUENCE");
    let attribute: Vec<AnyRef<'_>> = list.last().and_then(|last| last.decode_as().ok()).expect("an attribute");
    let template: Vec<AnyRef<'_>> = Vec::from_der(attribute[1].value()).expect("a template");
    let attributes = template.last().expect("attributes");
    let extension_request: Vec<AnyRef<'_>> = Vec::from_der(attributes.value()).expect("an attribute");
    let extensions: Vec<AnyRef<'_>> = Vec::from_der(extension_request[1].value()).expect("extensions");
    let extensions = extensions
        .iter()
        .map(|extension| {
            let parts: Vec<AnyRef<'_>> = extension.decode_as().expect("an extension");
            let whole = if parts.len() > 1 { extension.to_der().expect("encodes") } else { Vec::new() };
            (parts[0].to_der().expect("encodes"), whole)
        })
        .collect();
    assert!(template[1].tag().is_constructed());
    Template { subject: template[1].to_der().expect("encodes"), extensions }
}

/// The subject with a value for every attribute that has none.
fn filled_subject(template: &[u8], value: &str) -> Vec<u8> {
    use crate::hand::tlv;
    use x509_cert::der::{AnyRef, Decode, Encode};
    let rdns: Vec<AnyRef<'_>> = Vec::from_der(template).expect("RDNs");
    let mut filled = Vec::new();
    for rdn in rdns {
        let parts: Vec<AnyRef<'_>> = Vec::from_der(rdn.value()).expect("one attribute");
        let mut pair = parts[0].to_der().expect("encodes");
        match parts.get(1) {
            Some(given) => pair.extend(given.to_der().expect("encodes")),
            None => pair.extend(tlv(0x0C, value.as_bytes())),
        }
        filled.extend(tlv(0x31, &tlv(0x30, &pair)));
    }
    tlv(0x30, &filled)
}

/// A configuration with a profile that contradicts itself is refused before anything else.
#[test]
fn a_label_without_profile_is_refused() {
    let choice = Choice { more: "[est.labels.x]\nprofile = \"nobody\"\n", ..Choice::default() };
    let Some(world) = World::bare("a_label_without_profile_is_refused", &choice) else { return };
    let output = world.run(&["init", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(answer.to_string().contains("nobody"), "{answer}");
}

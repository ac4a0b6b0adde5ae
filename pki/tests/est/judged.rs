//! What other people's programs say of everything that is signed here: pkilint finds no error, and openssl, GnuTLS, Java and Python's
//! `cryptography` accept good chains and refuse bad ones.

use crate::world::{Choice, World, is_there, python};

/// A world with something of everything: devices, one of them revoked and one on hold, shards and deltas.
fn world(test: &str, choice: &Choice) -> Option<World> {
    let world = World::new(test, choice)?;
    for name in ["good", "gone", "held"] {
        world.enrolled(name);
    }
    world.done(&[
        "cert",
        "revoke",
        &world.serial("gone"),
        "--reason",
        "key-compromise",
        "--invalid-since",
        "2026-01-31",
    ]);
    world.done(&["cert", "revoke", &world.serial("held"), "--reason", "certificate-hold"]);
    world.done(&["crl", "--renew"]);
    Some(world)
}

/// A profile and a label for every preset.
const EVERY_PRESET: &str = r#"
    [profiles.idevid]
    preset = "idevid"
    [profiles.ldevid]
    preset = "ldevid"
    [profiles.server]
    preset = "server"
    dns_suffixes = ["devices.example"]
    [profiles.client]
    preset = "client"
    [profiles.code]
    preset = "code_signing"
    [profiles.responder]
    preset = "ocsp_responder"
    [profiles.ra]
    preset = "ra"
    [est.labels.idevid]
    profile = "idevid"
    [est.labels.ldevid]
    profile = "ldevid"
    [est.labels.server]
    profile = "server"
    [est.labels.client]
    profile = "client"
    [est.labels.code]
    profile = "code"
    [est.labels.responder]
    profile = "responder"
    [est.labels.ra]
    profile = "ra"
"#;

/// Enrols one at each label, and makes authorities of every kind, constrained and with its next key.
fn one_of_each(world: &World) {
    let rows: [(&str, &str, &[&str]); 7] = [
        ("idevid", "/serialNumber=4711", &[]),
        ("ldevid", "/CN=pump/serialNumber=4712", &[]),
        ("server", "/CN=s.devices.example", &["-addext", "subjectAltName=DNS:s.devices.example"]),
        ("client", "/CN=program", &[]),
        ("code", "/CN=builder", &[]),
        ("responder", "/CN=responder", &[]),
        ("ra", "/CN=registrar", &[]),
    ];
    for (label, subject, more) in rows {
        world.request(label, subject, more);
        let answer = world.enrol_at(&format!("{label}/simpleenroll"), label, &world.credential(&["--label", label]));
        world.keep(&answer, label);
    }
    let subject = ["--subject", "CN=Inter,O=Craton", "--permit", "dns:devices.example", "--exclude", "ip:10.0.0.0/8"];
    world.done(&[&["ca", "create", "inter", "--kind", "intermediate"][..], &subject].concat());
    world.done(&["ca", "create", "line", "--parent", "inter", "--subject", "CN=Line,O=Craton"]);
    world.done(&["ca", "rollover", "root"]);
}

/// Writes every certificate of the world and gives the files.
fn certificates(world: &World) -> Vec<String> {
    let list = world.done(&["cert", "list"]);
    let items = list["items"].as_array().expect("items").iter().filter(|item| item["state"] != "superseded");
    let serials = items.map(|item| item["serial"].as_str().expect("serial"));
    let write = |serial: &str| {
        let file = format!("cert-{serial}.pem");
        let shown = world.done(&["cert", "show", serial]);
        std::fs::write(world.path(&file), shown["pem"].as_str().expect("pem")).expect("writes");
        file
    };
    serials.map(write).collect()
}

/// Writes CRLs and gives the files.
fn crls(world: &World, lists: &[&[&str]]) -> Vec<String> {
    let write = |(place, more): (usize, &&[&str])| {
        let file = format!("list-{place}.crl");
        let path = world.path(&file);
        world.done(&[&["crl", "--format", "der", "--out", &path.to_string_lossy()], *more].concat());
        file
    };
    lists.iter().enumerate().map(write).collect()
}

/// Writes OCSP answers and gives the files.
fn answers(world: &World) -> Vec<String> {
    let url = format!("http://127.0.0.1:{}/ocsp", world.crl_port);
    let mut files = Vec::new();
    let rows: &[(&str, &[&str])] = &[
        ("good", &["-cert", "good.pem"]),
        ("gone", &["-no_nonce", "-cert", "gone.pem"]),
        ("held", &["-sha256", "-cert", "held.pem"]),
        ("nobody", &["-serial", "0x4711471147114711"]),
    ];
    for (name, what) in rows {
        let file = format!("{name}.ors");
        let common = ["ocsp", "-noverify", "-issuer", "state/issuing.pem", "-url", &url, "-respout", &file];
        // The hash function must stand before the certificate.
        let (hash, what) = if what[0] == "-sha256" { (&what[..1], &what[1..]) } else { (&what[..0], *what) };
        world.openssl(&[&common[..], hash, what].concat());
        files.push(file);
    }
    files
}

#[test]
fn pkilint_finds_no_error_in_anything_signed() {
    let test = "pkilint_finds_no_error_in_anything_signed";
    let Some(python) = python(test, "pkilint") else { return };
    let rows: [(&Choice, &[&[&str]]); 3] = [
        (
            &Choice { crl: "shards = 2\ndelta_hours = 1", more: EVERY_PRESET, ..Choice::default() },
            &[
                &["--ca", "inter"],
                &["--ca", "line", "--delta"],
                &["--ca", "root-2"],
                &["--ca", "root"],
                &["--ca", "root", "--delta"],
                &[],
                &["--shard", "1"],
                &["--shard", "2"],
                &["--shard", "1", "--delta"],
                &["--shard", "2", "--delta"],
            ],
        ),
        (
            &Choice {
                root_key: "rsa:3072",
                issuing_key: "rsa:2048",
                more: "[ocsp]\nkey = \"rsa:2048\"\nresponder_id = \"name\"",
                ..Choice::default()
            },
            &[&["--ca", "root"], &[]],
        ),
        (
            &Choice {
                root_key: "ed25519",
                issuing_key: "ed25519",
                crl: "delta_hours = 1",
                more: "[ocsp]\nkey = \"ed25519\"",
                ..Choice::default()
            },
            &[&["--ca", "root"], &[], &["--delta"]],
        ),
    ];
    let script = r"
import sys, io, contextlib
from pkilint.bin import lint_crl, lint_ocsp_response, lint_pkix_cert
failed = 0
for file in sys.argv[1:]:
    if file.endswith('.pem'):
        run = lambda: lint_pkix_cert.main(['lint', '-s', 'ERROR', file])
    elif file.endswith('.crl'):
        run = lambda: lint_crl.main(['lint', '-t', 'CRL', '-p', 'PKIX', '-s', 'ERROR', file])
    else:
        run = lambda: lint_ocsp_response.main(['lint', '-s', 'ERROR', file])
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = run()
    if code or said.getvalue().strip():
        failed += 1
        print(file, code, said.getvalue())
print('linted', len(sys.argv) - 1, 'failed', failed)
";
    for (choice, lists) in rows {
        let Some(mut world) = world(test, choice) else { return };
        if choice.more.contains("[profiles.") {
            one_of_each(&world);
            world.done(&["crl", "--ca", "line", "--renew"]);
        }
        // What serves on this host only is called localhost, which pkilint takes for no domain name.
        world.stop();
        let config = world.text("pki.toml").replace(r#"["localhost"]"#, r#"["pki.example"]"#);
        std::fs::write(world.path("pki.toml"), config).expect("writes");
        world.serve();
        std::fs::write(world.path("lint.py"), script).expect("writes");
        let files = [certificates(&world), crls(&world, lists), answers(&world)].concat();
        let mut arguments = vec!["lint.py"];
        arguments.extend(files.iter().map(String::as_str));
        let output = world.try_tool(&python, &arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(said.ends_with(&format!("linted {} failed 0\n", files.len())), "{said}");
    }
}

/// A root of somebody else with the same name, a certificate with one bit turned, and one that is revoked.
fn bad_ones(world: &World) {
    world.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
        "-nodes",
        "-keyout",
        "false.key",
        "-subj",
        "/O=Craton/CN=Test Root",
        "-days",
        "10",
        "-out",
        "false.pem",
    ]);
    world.openssl(&["x509", "-in", "good.pem", "-outform", "DER", "-out", "turned.der"]);
    let mut der = std::fs::read(world.path("turned.der")).expect("reads");
    let last = der.len() - 1;
    der[last] ^= 1;
    std::fs::write(world.path("turned.der"), der).expect("writes");
    world.openssl(&["x509", "-inform", "DER", "-in", "turned.der", "-out", "turned.pem"]);
}

#[test]
fn openssl_and_gnutls_tell_good_from_bad() {
    let test = "openssl_and_gnutls_tell_good_from_bad";
    let Some(world) = world(test, &Choice::default()) else { return };
    bad_ones(&world);
    world.fetch_crls();
    let openssl = |root: &str, leaf: &str| {
        let arguments =
            ["verify", "-crl_check_all", "-CRLfile", "crls.pem", "-untrusted", "state/issuing.pem", "-CAfile"];
        world.try_tool("openssl", &[&arguments[..], &[root, leaf]].concat()).status.success()
    };
    let certtool = |root: &str, leaf: &str| {
        let chain = world.text(leaf) + &world.text("state/issuing.pem");
        std::fs::write(world.path("chain.pem"), chain).expect("writes");
        let arguments =
            ["--verify", "--infile", "chain.pem", "--load-ca-certificate", root, "--load-crl", "issuing.crl.pem"];
        world.try_tool("certtool", &arguments).status.success()
    };
    world.openssl(&["crl", "-inform", "DER", "-in", "issuing.crl", "-out", "issuing.crl.pem"]);
    let has_certtool = is_there("certtool", "--version");
    if !has_certtool {
        println!("SKIPPED {test} (GnuTLS): certtool not found");
    }
    let rows = [
        ("state/root.pem", "good.pem", true),
        ("state/root.pem", "gone.pem", false),
        ("state/root.pem", "held.pem", false),
        ("state/root.pem", "turned.pem", false),
        ("false.pem", "good.pem", false),
    ];
    for (root, leaf, good) in rows {
        assert_eq!(openssl(root, leaf), good, "openssl: {leaf} under {root}");
        assert!(!has_certtool || certtool(root, leaf) == good, "certtool: {leaf} under {root}");
    }
}

#[test]
fn java_tells_good_from_bad() {
    let test = "java_tells_good_from_bad";
    if !is_there("java", "-version") || !is_there("javac", "-version") {
        println!("SKIPPED {test}: java not found");
        return;
    }
    let Some(world) = world(test, &Choice::default()) else { return };
    bad_ones(&world);
    world.fetch_crls();
    let source = r#"
import java.io.FileInputStream;
import java.security.cert.*;
import java.util.*;

/** Arguments: CRLs with commas between, then pairs of root and leaf. Asks once with the CRLs, once with OCSP. */
public class Judge {
    public static void main(String[] arguments) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        Collection<Object> stored = new ArrayList<>();
        for (String file : arguments[0].split(",")) stored.addAll(factory.generateCRLs(new FileInputStream(file)));
        Certificate issuing = factory.generateCertificate(new FileInputStream("state/issuing.pem"));
        for (int at = 1; at + 1 < arguments.length; at += 2) {
            X509Certificate root = (X509Certificate) factory.generateCertificate(new FileInputStream(arguments[at]));
            Certificate leaf = factory.generateCertificate(new FileInputStream(arguments[at + 1]));
            CertPath path = factory.generateCertPath(List.of(leaf, issuing));
            String line = arguments[at + 1];
            for (boolean byCrl : new boolean[] {true, false}) {
                PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
                CertPathValidator validator = CertPathValidator.getInstance("PKIX");
                PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
                Set<PKIXRevocationChecker.Option> options = EnumSet.of(PKIXRevocationChecker.Option.NO_FALLBACK);
                if (byCrl) options.add(PKIXRevocationChecker.Option.PREFER_CRLS);
                checker.setOptions(options);
                parameters.addCertPathChecker(checker);
                if (byCrl) parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(stored)));
                try {
                    validator.validate(path, parameters);
                    line += " good";
                } catch (CertPathValidatorException fault) {
                    line += " " + fault.getReason();
                }
            }
            System.out.println(line);
        }
    }
}
"#;
    std::fs::write(world.path("Judge.java"), source).expect("writes");
    world.tool("javac", &["Judge.java"]);
    let root = "state/root.pem";
    let arguments = [
        "-cp",
        ".",
        "Judge",
        "issuing.crl,root.crl",
        root,
        "good.pem",
        root,
        "gone.pem",
        root,
        "held.pem",
        root,
        "turned.pem",
        "false.pem",
        "good.pem",
    ];
    let said = String::from_utf8_lossy(&world.tool("java", &arguments)).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "good.pem good good",
            "gone.pem REVOKED REVOKED",
            "held.pem REVOKED REVOKED",
            "turned.pem INVALID_SIGNATURE INVALID_SIGNATURE",
        ],
        "{said}"
    );
    assert!(!lines[4].contains("good good"), "{said}");
}

#[test]
fn python_tells_good_from_bad() {
    let test = "python_tells_good_from_bad";
    let Some(python) = python(test, "cryptography") else { return };
    let Some(world) = world(test, &Choice::default()) else { return };
    bad_ones(&world);
    world.fetch_crls();
    let script = r"
import sys
from cryptography import x509
root, issuing = (x509.load_pem_x509_certificate(open('state/%s.pem' % name, 'rb').read()) for name in ('root', 'issuing'))
false = x509.load_pem_x509_certificate(open('false.pem', 'rb').read())
crl = x509.load_der_x509_crl(open('issuing.crl', 'rb').read())
assert crl.is_signature_valid(issuing.public_key()) and not crl.is_signature_valid(root.public_key())
issuing.verify_directly_issued_by(root)
try:
    issuing.verify_directly_issued_by(false)
    print('the false root is believed')
except Exception:
    pass
for name in sys.argv[1:]:
    leaf = x509.load_pem_x509_certificate(open(name + '.pem', 'rb').read())
    try:
        leaf.verify_directly_issued_by(issuing)
        entry = crl.get_revoked_certificate_by_serial_number(leaf.serial_number)
        print(name, entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value if entry else 'good')
    except Exception as fault:
        print(name, type(fault).__name__)
";
    std::fs::write(world.path("judge.py"), script).expect("writes");
    let said = world.tool(&python, &["judge.py", "good", "gone", "held", "turned"]);
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(said, "good good\ngone keyCompromise\nheld certificateHold\nturned InvalidSignature\n");
}

//! Other people's programs, as a new user would run them: pkcs11-tool, p11tool, python-pkcs11, OpenSSL's engine.

use std::fs;
use std::path::PathBuf;

use acceptance::daemon::workspace;
use acceptance::module;
use acceptance::tools::{available, python, run, skip};
use acceptance::world::{LABEL, PIN, SO_PIN, World};

/// The key types of the issue, as pkcs11-tool names them, with a mechanism that signs and the digest that openssl verifies with.
const KEYS: [(&str, &str, &str); 4] = [
    ("rsa:2048", "SHA256-RSA-PKCS", "-sha256"),
    ("EC:prime256v1", "ECDSA-SHA256", "-sha256"),
    ("EC:secp384r1", "ECDSA-SHA384", "-sha384"),
    ("EC:edwards25519", "EDDSA", ""),
];

#[test]
fn pkcs11_tool_lists_slots() {
    if available("interop::pkcs11_tool_lists_slots", "pkcs11-tool") {
        World::start()
            .pkcs11_tool(["-L"])
            .ok()
            .says("token label        : test")
            .says("token initialized")
            .says("PIN initialized");
    }
}

#[test]
fn pkcs11_tool_lists_mechanisms() {
    if available("interop::pkcs11_tool_lists_mechanisms", "pkcs11-tool") {
        let mut listed = World::start().pkcs11_tool(["-M"]).ok();
        for mechanism in [
            "RSA-PKCS-KEY-PAIR-GEN",
            "SHA256-RSA-PKCS-PSS",
            "ECDSA-SHA384",
            "EDDSA",
            "AES-GCM",
            "AES-KEY-GEN",
            "SHA512-HMAC",
        ] {
            listed = listed.says(mechanism);
        }
    }
}

#[test]
fn pkcs11_tool_initialises_a_token_and_its_user_pin() {
    if !available("interop::pkcs11_tool_initialises_a_token_and_its_user_pin", "pkcs11-tool") {
        return;
    }
    let world = World::blank();
    world.pkcs11_tool(["--init-token", "--slot-index", "0", "--label", LABEL, "--so-pin", SO_PIN]).ok();
    world
        .pkcs11_tool([
            "--init-pin",
            "--token-label",
            LABEL,
            "--login",
            "--login-type",
            "so",
            "--so-pin",
            SO_PIN,
            "--new-pin",
            PIN,
        ])
        .ok();
    world.pkcs11_tool(["-L"]).ok().says(LABEL).says("PIN initialized");
    world.pkcs11_tool_login(["-O"]).ok();
    world
        .pkcs11_tool(["--token-label", LABEL, "--login", "--pin", "not-the-pin", "-O"])
        .refused()
        .says("CKR_PIN_INCORRECT");
}

#[test]
fn pkcs11_tool_generates_signs_and_verifies_with_every_key_type() {
    let test = "interop::pkcs11_tool_generates_signs_and_verifies_with_every_key_type";
    if !(available(test, "pkcs11-tool") && available(test, "openssl")) {
        return;
    }
    let world = World::start();
    let (data, other) = (world.dir().join("data"), world.dir().join("other"));
    // EdDSA and the hashing mechanisms take data of any length.
    fs::write(&data, b"what is signed").expect("a file");
    fs::write(&other, b"what is not signed").expect("a file");
    for (turn, (key_type, mechanism, digest)) in KEYS.iter().enumerate() {
        let id = format!("{:02x}", turn + 1);
        world
            .pkcs11_tool_login([
                "--keypairgen",
                "--key-type",
                key_type,
                "--id",
                &id,
                "--label",
                key_type,
                "--usage-sign",
            ])
            .ok();
        let signature = world.dir().join(format!("signature.{id}"));
        let sign = |format: &str| {
            let files = ["--input-file", text(&data), "--output-file", text(&signature)];
            let what = ["--sign", "--mechanism", mechanism, "--id", &id];
            let format: &[&str] = if format.is_empty() { &[] } else { &["--signature-format", format] };
            world.pkcs11_tool_login([&what[..], &files, format].concat()).ok();
        };
        sign("");
        let verify = |file: &PathBuf| {
            let files = ["--input-file", text(file), "--signature-file", text(&signature)];
            world.pkcs11_tool_login([&["--verify", "--mechanism", mechanism, "--id", &id][..], &files].concat())
        };
        verify(&data).ok().says("Signature is valid");
        assert!(!verify(&other).all().contains("Signature is valid"), "{key_type}: other data");
        // Outside the token: openssl with the exported public key.
        // (This version of pkcs11-tool exports no other curve than P-256, of any module.)
        if ["rsa:2048", "EC:prime256v1"].contains(key_type) {
            let public = world.dir().join(format!("public.{id}"));
            world
                .pkcs11_tool_login(["--read-object", "--type", "pubkey", "--id", &id, "--output-file", text(&public)])
                .ok();
            sign(if key_type.starts_with("EC") { "openssl" } else { "" });
            let args = [
                "dgst",
                digest,
                "-keyform",
                "DER",
                "-verify",
                text(&public),
                "-signature",
                text(&signature),
                text(&data),
            ];
            run(world.command("openssl").args(args)).ok().says("Verified OK");
        }
    }
    let mut listed = world.pkcs11_tool_login(["-O"]).ok();
    for (key_type, ..) in KEYS {
        listed = listed.says(key_type);
    }
}

#[test]
fn pkcs11_tool_writes_and_reads_a_certificate() {
    let test = "interop::pkcs11_tool_writes_and_reads_a_certificate";
    if !(available(test, "pkcs11-tool") && available(test, "openssl")) {
        return;
    }
    let world = World::start();
    let (key, pem, der, back) = (
        world.dir().join("key.pem"),
        world.dir().join("cert.pem"),
        world.dir().join("cert.der"),
        world.dir().join("back.der"),
    );
    let new =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=written"];
    run(world.command("openssl").args(new).args(["-keyout", text(&key), "-out", text(&pem)])).ok();
    run(world.command("openssl").args(["x509", "-in", text(&pem), "-outform", "DER", "-out", text(&der)])).ok();
    world.pkcs11_tool_login(["--write-object", text(&der), "--type", "cert", "--id", "0a", "--label", "written"]).ok();
    world.pkcs11_tool_login(["--read-object", "--type", "cert", "--id", "0a", "--output-file", text(&back)]).ok();
    assert_eq!(fs::read(&back).expect("read back"), fs::read(&der).expect("written"));
    world.pkcs11_tool_login(["-O", "--type", "cert"]).ok().says("written");
}

#[test]
fn pkcs11_tool_passes_its_own_tests() {
    if available("interop::pkcs11_tool_passes_its_own_tests", "pkcs11-tool") {
        let tested = World::start().pkcs11_tool_login(["--test"]).ok();
        assert!(tested.all().contains("No errors"), "{tested}");
    }
}

#[test]
fn pkcs11_tool_passes_its_own_tests_with_keys_on_the_token() {
    if !available("interop::pkcs11_tool_passes_its_own_tests_with_keys_on_the_token", "pkcs11-tool") {
        return;
    }
    // It tests every private key that it finds.
    let world = World::start();
    for (turn, key_type) in ["rsa:2048", "EC:prime256v1"].iter().enumerate() {
        let id = format!("{:02x}", turn + 1);
        world.pkcs11_tool_login(["--keypairgen", "--key-type", key_type, "--id", &id, "--label", key_type]).ok();
    }
    let tested = world.pkcs11_tool_login(["--test"]).ok();
    assert!(tested.all().contains("No errors"), "{tested}");
}

#[test]
fn p11tool_lists_everything() {
    let test = "interop::p11tool_lists_everything";
    if !(available(test, "p11tool") && available(test, "pkcs11-tool")) {
        return;
    }
    let world = World::start();
    world.pkcs11_tool_login(["--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", "--label", "listed"]).ok();
    let provider = format!("--provider={}", module::path().display());
    let list = |args: &[&str]| run(world.command("p11tool").arg(&provider).args(args)).ok();
    let url = list(&["--list-token-urls"])
        .text()
        .lines()
        .find(|line| line.contains("token=test"))
        .expect("the token's URL")
        .to_owned();
    list(&["--list-all", &url]).says("listed");
    let set_pin = format!("--set-pin={PIN}");
    list(&["--login", &set_pin, "--list-all", &url]).says("Private key").says("listed");
}

#[test]
fn python_pkcs11_signs_and_encrypts() {
    let Some(python) = python("pkcs11") else {
        return skip("interop::python_pkcs11_signs_and_encrypts", "python-pkcs11 not found in .venv");
    };
    let script = workspace().join("tests/testdata/python_pkcs11.py");
    run(World::start().command(python).arg(script)).ok().says("rsa ok").says("ec ok").says("aes ok");
}

#[test]
fn openssl_engine_makes_a_csr_with_a_key_in_the_token() {
    let test = "interop::openssl_engine_makes_a_csr_with_a_key_in_the_token";
    if !(available(test, "openssl") && available(test, "pkcs11-tool")) {
        return;
    }
    let world = World::start();
    let config = world.dir().join("openssl.cnf");
    let engine = format!(
        "openssl_conf = init\n[init]\nengines = engines\n[engines]\npkcs11 = pkcs11\n\
         [pkcs11]\nengine_id = pkcs11\nMODULE_PATH = {}\nPIN = {PIN}\ninit = 0\n[req]\ndistinguished_name = dn\n[dn]\n",
        module::path().display()
    );
    fs::write(&config, engine).expect("a file");
    let openssl = |args: &[&str]| run(world.command("openssl").env("OPENSSL_CONF", &config).args(args));
    if !openssl(&["engine", "-t", "pkcs11"]).status.success() {
        return skip(test, "the pkcs11 engine of OpenSSL not found");
    }
    for (turn, key_type) in ["EC:prime256v1", "rsa:2048"].iter().enumerate() {
        let (id, csr) = (format!("{:02x}", turn + 1), world.dir().join(format!("csr.{turn}")));
        world.pkcs11_tool_login(["--keypairgen", "--key-type", key_type, "--id", &id, "--label", "web"]).ok();
        let key = format!("pkcs11:token={LABEL};id=%{id};type=private");
        let subject = ["-new", "-subj", "/CN=device.example", "-out", text(&csr)];
        openssl(&[&["req", "-engine", "pkcs11", "-keyform", "engine", "-key", &key][..], &subject].concat()).ok();
        run(world.command("openssl").args(["req", "-in", text(&csr), "-verify", "-noout", "-subject"]))
            .ok()
            .says("device.example");
    }
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

//! First enrolment by a manufacturer's certificate whose issuers are asked: an imported authority's list and responder, given by a server
//! on the loopback interface.

use crate::world::{Answer, Choice, PKCS10, World};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Serves the files of a folder; `/ocsp` is answered by `openssl ocsp` from the maker's index. Gives the port.
fn serve_files(folder: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The folder is gone when the test has ended.
            drop(serve_one(stream, &folder));
        }
    });
    port
}

fn serve_one(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let (path, body) = loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part)?;
        bytes.extend_from_slice(&part[..count]);
        let Some(split) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
        let length: usize = length.parse().unwrap_or(0);
        if bytes.len() >= split + 4 + length {
            break (head.split(' ').nth(1).unwrap_or("/").to_owned(), bytes.split_off(split + 4));
        }
    };
    let answer = if path == "/ocsp" { responder(folder, &body) } else { std::fs::read(folder.join(&path[1..])) };
    match answer {
        Ok(answer) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
            stream.write_all(&[head.as_bytes(), &answer].concat())
        }
        Err(_) => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}

fn responder(folder: &Path, request: &[u8]) -> std::io::Result<Vec<u8>> {
    std::fs::write(folder.join("asked"), request)?;
    let arguments = "ocsp -index maker.index -CA maker.pem -rsigner signer.pem -rkey signer.key -reqin asked -respout said -ndays 1";
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output()?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::read(folder.join("said"))
}

/// A maker and what `openssl ca` needs; its devices name a list and a responder at the port.
fn maker(world: &World, port: u16) {
    let config = format!(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=maker.index\ncrlnumber=maker.number\nserial=maker.serial\nnew_certs_dir=.\n\
         default_md=sha256\ndefault_days=9\ndefault_crl_days=9\ncertificate=maker.pem\nprivate_key=maker.key\npolicy=p\nunique_subject=no\n\
         x509_extensions=device\n[p]\nserialNumber=optional\ncommonName=optional\n[device]\nbasicConstraints=critical,CA:FALSE\n\
         keyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n\
         crlDistributionPoints=URI:http://127.0.0.1:{port}/maker.crl\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:{port}/ocsp\n\
         [signer]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=OCSPSigning\nnoCheck=ignored\n\
         [req]\ndistinguished_name=dn\n[dn]\n\
         [root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
    );
    for (file, text) in [("cnf", config.as_str()), ("index", ""), ("number", "01\n"), ("serial", "1001\n")] {
        std::fs::write(world.path(&format!("maker.{file}")), text).expect("writes");
    }
    for key in ["maker.key", "signer.key"] {
        world.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key]);
    }
    let root =
        ["req", "-x509", "-new", "-key", "maker.key", "-config", "maker.cnf", "-extensions", "root", "-days", "9"];
    world.openssl(&[&root[..], &["-subj", "/O=Maker/CN=Devices", "-out", "maker.pem"]].concat());
    world.openssl(&["req", "-new", "-key", "signer.key", "-subj", "/CN=signer", "-out", "signer.csr.pem"]);
    signed(world, "signer", "/CN=signer", &["-extensions", "signer"]);
}

/// Has the maker sign `NAME.csr.pem`.
fn signed(world: &World, name: &str, subject: &str, more: &[&str]) {
    let (csr, pem) = (format!("{name}.csr.pem"), format!("{name}.pem"));
    let arguments = ["ca", "-batch", "-notext", "-config", "maker.cnf", "-in", &csr, "-out", &pem, "-subj", subject];
    world.openssl(&[&arguments[..], more].concat());
}

/// A device that the maker made, and that asks for a certificate here: `NAME.key`, `NAME.pem`, `NAME.b64`.
fn born(world: &World, name: &str, serial: &str) {
    let subject = format!("/serialNumber={serial}");
    world.request(name, &subject, &[]);
    world.openssl(&["req", "-inform", "DER", "-in", &format!("{name}.csr"), "-out", &format!("{name}.csr.pem")]);
    signed(world, name, &subject, &[]);
    world.request(&format!("{name}-here"), &subject, &[]);
}

fn enrol(world: &World, label: &str, name: &str) -> Answer {
    let (data, cert, key) = (format!("@{name}-here.b64"), format!("{name}.pem"), format!("{name}.key"));
    let path = format!("{label}/simpleenroll");
    world.est(&path, &["--cert", &cert, "--key", &key, "-H", PKCS10, "--data-binary", &data])
}

fn publish(world: &World) {
    world.openssl(&["ca", "-config", "maker.cnf", "-gencrl", "-out", "maker.crl.pem"]);
    world.openssl(&["crl", "-in", "maker.crl.pem", "-outform", "DER", "-out", "maker.crl"]);
}

const BY_LIST: &str = "[est.labels.born]\nmanufacturer_authorities = [\"maker\"]\nmanufacturer_crls = \"online\"\n\
                       [revocation]\nmethods = [\"crl\"]";
const BY_RESPONDER: &str = "[est.labels.born]\nmanufacturer_authorities = [\"maker\"]\nmanufacturer_crls = \"online\"\n\
                            [revocation]\nmethods = [\"ocsp\"]\nocsp_nonce = \"required\"";

#[test]
fn a_device_of_an_imported_authority_enrols_while_its_list_says_that_it_may() {
    let test = "a_device_of_an_imported_authority_enrols_while_its_list_says_that_it_may";
    let Some(mut world) = World::bare(test, &Choice { more: BY_LIST, ..Choice::default() }) else {
        return;
    };
    maker(&world, serve_files(world.dir.path().to_owned()));
    for (name, serial) in [("one", "4711"), ("two", "4712"), ("three", "4713")] {
        born(&world, name, serial);
    }
    world.done(&["init"]);
    let pem = world.path("maker.pem").to_string_lossy().into_owned();
    world.done(&["ca", "import", "maker", "--certificate", &pem]);
    world.serve();
    let refusal = |name: &str| enrol(&world, "born", name).refusal();
    // There is no list: nobody says that it is not revoked.
    assert_eq!(refusal("one"), (503, "revocation_unknown".to_owned()));
    world.openssl(&["ca", "-config", "maker.cnf", "-revoke", "two.pem"]);
    publish(&world);
    // Whoever does not answer is left alone for half a minute; a start asks anew.
    world.stop();
    world.serve();
    let answer = enrol(&world, "born", "one");
    world.keep(&answer, "one-here");
    assert_eq!(enrol(&world, "born", "two").refusal(), (403, "certificate_revoked".to_owned()));
    assert_eq!(world.states("4712"), Vec::<String>::new());
    // The list that was taken holds while its server is away, over a start too.
    std::fs::remove_file(world.path("maker.crl")).expect("removes");
    world.stop();
    world.serve();
    let answer = enrol(&world, "born", "three");
    world.keep(&answer, "three-here");
    assert_eq!(enrol(&world, "born", "two").refusal(), (403, "certificate_revoked".to_owned()));
    // An imported authority that is revoked here verifies nobody.
    world.done(&["ca", "revoke", "maker", "--reason", "ca-compromise"]);
    assert_eq!(enrol(&world, "born", "three").status, 0, "no handshake");
}

#[test]
fn a_device_enrols_while_its_makers_responder_says_that_it_may() {
    let test = "a_device_enrols_while_its_makers_responder_says_that_it_may";
    let Some(mut world) = World::bare(test, &Choice { more: BY_RESPONDER, ..Choice::default() }) else {
        return;
    };
    maker(&world, serve_files(world.dir.path().to_owned()));
    for (name, serial) in [("one", "4711"), ("two", "4712"), ("three", "4713")] {
        born(&world, name, serial);
    }
    world.openssl(&["ca", "-config", "maker.cnf", "-revoke", "two.pem"]);
    // The responder has never heard of the third.
    let index = world.text("maker.index");
    let known: Vec<&str> = index.lines().filter(|line| !line.contains("4713")).collect();
    std::fs::write(world.path("maker.index"), known.join("\n") + "\n").expect("writes");
    world.done(&["init"]);
    let pem = world.path("maker.pem").to_string_lossy().into_owned();
    world.done(&["ca", "import", "maker", "--certificate", &pem]);
    world.serve();
    let answer = enrol(&world, "born", "one");
    world.keep(&answer, "one-here");
    for (name, status, reason) in [("two", 403, "certificate_revoked"), ("three", 503, "revocation_unknown")] {
        assert_eq!(enrol(&world, "born", name).refusal(), (status, reason.to_owned()), "{name}");
    }
}

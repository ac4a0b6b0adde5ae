//! What is read about certificates: OCSP requests, revocation lists, and what a server answers to the enrolment client.

use data_encoding::BASE64;
use pki::door;
use x509_cert::crl::CertificateList;
use x509_cert::der::{AnyRef, Decode};

use crate::asn1::{self, BIT_STRING, INTEGER, OCTET_STRING, SEQUENCE, SET, UTF8_STRING, oid, tlv};
use crate::feedback;
use crate::input::Input;

const NOW: i64 = 1_800_000_000;

fn hash_algorithm(input: &mut Input<'_>) -> Vec<u8> {
    let sha1: &[u32] = &[43, 14, 3, 2, 26];
    let rows = [sha1, &[96, 840, 1, 101, 3, 4, 2, 1], &[96, 840, 1, 101, 3, 4, 2, 3], &[42, 840, 113549, 2, 5]];
    let parameters: &[u8] = if input.one_in(2) { &[] } else { &[5, 0] };
    tlv(SEQUENCE, &[&oid(rows[input.below(rows.len())]), parameters])
}

fn extensions(input: &mut Input<'_>) -> Vec<u8> {
    let nonce = tlv(OCTET_STRING, &[&tlv(OCTET_STRING, &[input.bytes(140)])]);
    let rows: [&[u8]; 3] = [&[], &[1, 1, 0xFF], &[1, 1, 0]];
    let critical = rows[input.below(rows.len())];
    let nonce = tlv(SEQUENCE, &[&oid(&[43, 6, 1, 5, 5, 7, 48, 1, 2]), critical, &nonce]);
    let strange = tlv(SEQUENCE, &[&oid(&[43, 6, 1, 5, 5, 7, 48, 1, 99]), critical, &tlv(OCTET_STRING, &[&[5, 0]])]);
    let chosen = input.byte();
    let list = [nonce, strange];
    let list = list.iter().enumerate().filter(|(index, _)| chosen >> index & 1 == 1);
    tlv(SEQUENCE, &[&list.flat_map(|(_, der)| der.clone()).collect::<Vec<u8>>()])
}

fn ocsp_request(input: &mut Input<'_>) -> Vec<u8> {
    let hash = |input: &mut Input<'_>| tlv(OCTET_STRING, &[input.bytes(40)]);
    let mut list = Vec::new();
    for _ in 0..=input.below(4) {
        let id = [hash_algorithm(input), hash(input), hash(input), tlv(INTEGER, &[&[0x41], input.bytes(20)])];
        let single = if input.one_in(4) { tlv(0xA0, &[&extensions(input)]) } else { Vec::new() };
        list.extend(tlv(SEQUENCE, &[&tlv(SEQUENCE, &[&id.concat()]), &single]));
    }
    let version = if input.one_in(8) { tlv(0xA0, &[&[INTEGER, 1, input.byte()]]) } else { Vec::new() };
    let name = if input.one_in(4) { tlv(0xA1, &[&tlv(0x82, &[b"a.example"])]) } else { Vec::new() };
    let more = if input.one_in(2) { tlv(0xA2, &[&extensions(input)]) } else { Vec::new() };
    let tbs = tlv(SEQUENCE, &[&version, &name, &tlv(SEQUENCE, &[&list]), &more]);
    let signature = if input.one_in(8) { tlv(0xA0, &[&tlv(SEQUENCE, &[input.bytes(20)])]) } else { Vec::new() };
    tlv(SEQUENCE, &[&tbs, &signature])
}

/// An OCSP request is understood as it stands, or answered with a status; in the path of a GET it is the same request.
pub(crate) fn ocsp(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let der = if input.one_in(8) {
        input.rest().to_vec()
    } else {
        let request = ocsp_request(&mut input);
        asn1::changed(&request, &[], &mut input)
    };
    match door::ocsp(&der, NOW) {
        Err(status) => {
            assert!(matches!(status, 1 | 6), "status {status}");
            feedback::note(("refused", status, der.len().min(40)));
        }
        Ok(question) => {
            // A default that is written out is no DER, but asks for the same.
            let again = door::ocsp(&question.written_again, NOW).expect("it is read again");
            assert_eq!((&again.nonce, again.certificates), (&question.nonce, question.certificates));
            assert!(again.response == question.response, "another reader would read another request");
            assert!((1..=64).contains(&question.certificates));
            assert!(question.nonce.as_ref().is_none_or(|nonce| (1..=128).contains(&nonce.len())));
            assert!(AnyRef::from_der(&question.response).is_ok());
            assert!(door::foreign_ocsp_answer(&question.response), "our own answer is not read");
            let changed = asn1::changed(&question.response, &[], &mut input);
            feedback::note(("answer", door::foreign_ocsp_answer(&changed)));
            feedback::note(("read", question.certificates, question.nonce.map(|nonce| nonce.len() / 16)));
            let path = BASE64.encode(&der);
            let escaped: String = path.bytes().map(|byte| format!("%{byte:02x}")).collect();
            for spelling in [path.replace('+', "-").replace('/', "_"), path.trim_end_matches('=').to_owned(), escaped] {
                assert_eq!(door::ocsp_path(&spelling).as_ref(), Some(&der), "{spelling}");
            }
        }
    }
    if let Some(read) = door::ocsp_path(&String::from_utf8_lossy(bytes)) {
        feedback::note(("path", read.len().min(40)));
    }
}

fn time(input: &mut Input<'_>) -> Vec<u8> {
    if input.one_in(4) { tlv(0x18, &[b"20510101000000Z"]) } else { tlv(0x17, &[b"270115080000Z"]) }
}

fn list(input: &mut Input<'_>) -> Vec<u8> {
    let algorithm = tlv(SEQUENCE, &[&oid(&[42, 840, 10045, 4, 3, 2])]);
    let rdn = tlv(SEQUENCE, &[&oid(&[85, 4, 3]), &tlv(UTF8_STRING, &[b"Issuing"])]);
    let issuer = tlv(SEQUENCE, &[&tlv(SET, &[&rdn])]);
    let mut entries = Vec::new();
    for _ in 0..input.below(5) {
        let reason = tlv(SEQUENCE, &[&oid(&[85, 29, 21]), &tlv(OCTET_STRING, &[&[10, 1, 1 + input.byte() % 10]])]);
        let more = if input.one_in(2) { tlv(SEQUENCE, &[&reason]) } else { Vec::new() };
        let (first, when) = (*input.pick(&[&[0x41][..], &[0, 0x80], &[0]]), time(input));
        entries.extend(tlv(SEQUENCE, &[&tlv(INTEGER, &[first, input.bytes(18)]), &when, &more]));
    }
    let entries = if entries.is_empty() { entries } else { tlv(SEQUENCE, &[&entries]) };
    let number = tlv(SEQUENCE, &[&oid(&[85, 29, 20]), &tlv(OCTET_STRING, &[&[INTEGER, 1, 7]])]);
    let extensions = tlv(0xA0, &[&tlv(SEQUENCE, &[&number])]);
    let version: &[u8] = if input.one_in(8) { &[] } else { &[INTEGER, 1, 1] };
    let (this, next) = (time(input), time(input));
    let tbs = tlv(SEQUENCE, &[version, &algorithm, &issuer, &this, &next, &entries, &extensions]);
    tlv(SEQUENCE, &[&tbs, &algorithm, &tlv(BIT_STRING, &[&[0], &[7; 8]])])
}

/// A serial number without the zero that keeps it positive.
fn bare(serial: &[u8]) -> Vec<u8> {
    serial.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(serial).to_vec()
}

/// The next list holds what the last one held, and that is what another reader reads.
pub(crate) fn crl(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let der = if input.one_in(8) {
        input.rest().to_vec()
    } else {
        let list = list(&mut input);
        asn1::changed(&list, &[], &mut input)
    };
    let by_another: Result<CertificateList, _> = CertificateList::from_der(&der);
    let ours = door::crl(&der);
    feedback::note((
        by_another.as_ref().map_err(|fault| fault.kind().to_string()).err(),
        ours.as_ref().map(|ours| ours.0.len()),
    ));
    let Some((serials, again)) = ours else { return };
    assert_eq!(again.as_ref(), Some(&serials), "the next list is another one");
    if let Ok(list) = by_another {
        let revoked = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
        let theirs: Vec<Vec<u8>> = revoked.iter().map(|entry| bare(entry.serial_number.as_bytes())).collect();
        assert_eq!(serials, theirs, "another reader finds other certificates");
        let taken = door::foreign_crl(&der, &theirs, NOW);
        assert_ne!(taken, Some(false), "a certificate is missed");
        feedback::note(("foreign", taken));
    }
}

/// Something like a certificate.
fn certificate(input: &mut Input<'_>) -> Vec<u8> {
    tlv(SEQUENCE, &[&tlv(INTEGER, &[&[0x41], input.bytes(20)])])
}

fn message(input: &mut Input<'_>) -> Vec<u8> {
    let certificates: Vec<Vec<u8>> = (0..input.below(4)).map(|_| certificate(input)).collect();
    let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    let message = door::certs_only(&certificates);
    asn1::changed(&message, &[], input)
}

/// The bytes of an HTTP answer around a body.
fn answer(body: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let status = input.pick(&["200 OK", "202 Accepted", "401 Unauthorized", "503 x", "99999 x", "200"]);
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/pkcs7-mime\r\n");
    match input.below(4) {
        0 => {
            let mut chunks = Vec::new();
            for chunk in body.chunks(1 + input.below(200)) {
                chunks.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                chunks.extend_from_slice(chunk);
                chunks.extend_from_slice(b"\r\n");
            }
            [format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &chunks, b"0\r\n\r\n"].concat()
        }
        1 => [format!("{head}Content-Length: {}\r\n\r\n", input.number()).as_bytes(), body].concat(),
        2 => [format!("{head}\r\n").as_bytes(), body].concat(),
        _ => [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat(),
    }
}

/// What the client takes out of an answer is a list of certificates; written and read again it is the same list.
pub(crate) fn answers(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let whole = if input.one_in(8) {
        input.rest().to_vec()
    } else {
        let message = message(&mut input);
        let mut whole = answer(BASE64.encode(&message).as_bytes(), &mut input);
        if input.one_in(4) {
            let at = input.below(whole.len());
            whole.splice(at..at, input.bytes(6).iter().copied());
        }
        whole
    };
    match door::certificates_in(&whole) {
        Err(sentence) => {
            assert!(!sentence.is_empty());
            feedback::note(sentence.chars().filter(|c| c.is_alphabetic()).take(60).collect::<String>());
        }
        Ok(mut certificates) => {
            let message = door::certs_only(&certificates.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let body = BASE64.encode(&message);
            let again = door::certificates_in(format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes());
            certificates.sort();
            assert_eq!(again.as_ref(), Ok(&certificates));
            feedback::note(("certificates", certificates.len()));
        }
    }
}

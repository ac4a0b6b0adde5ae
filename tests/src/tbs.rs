//! What an authority signs, built piece by piece, so that a test can put something wrong into any piece: to-be-signed certificates,
//! CRLs, OCSP answers and requests, and the issuance policies that they are held against.

/// The ASN.1 tag of a SEQUENCE.
const SEQUENCE: u8 = 0x30;

/// One value: tag, length and parts.
///
/// # Panics
/// When the parts are longer than 64 KiB.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let head = match contents.len() {
        len @ 0..=0x7f => vec![tag, u8::try_from(len).expect("below 128")],
        len @ 0x80..=0xff => vec![tag, 0x81, u8::try_from(len).expect("below 256")],
        len => [&[tag, 0x82], &u16::try_from(len).expect("short").to_be_bytes()[..]].concat(),
    };
    [head, contents].concat()
}

/// A SEQUENCE.
pub fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, parts)
}

/// A Name of one common name.
pub fn name(common: &str) -> Vec<u8> {
    let value = tlv(0x0c, &[common.as_bytes()]);
    seq(&[&tlv(0x31, &[&seq(&[&[6, 3, 0x55, 4, 3], &value])])])
}

/// The serial number of the examples, which RFC 5280 allows.
pub fn serial() -> Vec<u8> {
    tlv(2, &[&[0x4a, 1, 2, 3, 4, 5, 6, 7, 8]])
}

/// A UTCTime, YYMMDD at midnight.
pub fn day(yymmdd: &str) -> Vec<u8> {
    tlv(0x17, &[yymmdd.as_bytes(), b"000000Z"])
}

/// A GeneralizedTime, YYYYMMDD at midnight.
pub fn long_day(yyyymmdd: &str) -> Vec<u8> {
    tlv(0x18, &[yyyymmdd.as_bytes(), b"000000Z"])
}

/// An extension of the arc 2.5.29.
pub fn extension(id: u8, critical: &[u8], value: &[u8]) -> Vec<u8> {
    seq(&[&[6, 3, 0x55, 0x1d, id], critical, &tlv(4, &[value])])
}

/// The value of a BOOLEAN that is true.
pub const TRUE: &[u8] = &[1, 1, 0xff];

/// Basic constraints of an authority, with the encoding of its path length or nothing.
pub fn authority(path_length: &[u8]) -> Vec<u8> {
    extension(0x13, TRUE, &seq(&[TRUE, path_length]))
}

/// A key usage: the one octet of its bits, the unused ones counted from them.
pub fn key_usage(bits: u8) -> Vec<u8> {
    let unused = u8::try_from(bits.trailing_zeros()).unwrap_or(0);
    extension(0x0f, TRUE, &[3, 2, unused, bits])
}

/// The AlgorithmIdentifier of ECDSA with SHA-256.
pub const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// A TBSCertificate in pieces, each in DER.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// With its tag [0].
    pub version: Vec<u8>,
    /// INTEGER.
    pub serial: Vec<u8>,
    /// AlgorithmIdentifier.
    pub algorithm: Vec<u8>,
    /// Name.
    pub issuer: Vec<u8>,
    /// Begin.
    pub from: Vec<u8>,
    /// End.
    pub to: Vec<u8>,
    /// Name.
    pub subject: Vec<u8>,
    /// SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Extensions.
    pub extensions: Vec<Vec<u8>>,
    /// What follows them.
    pub more: Vec<u8>,
}

impl Certificate {
    /// The certificate of a device: 30 days of 2027.
    pub fn device(issuer: &str) -> Certificate {
        let point = [&[0, 4][..], &[7; 64]].concat();
        let algorithm =
            [0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
        Certificate {
            version: vec![0xa0, 3, 2, 1, 2],
            serial: serial(),
            algorithm: ECDSA_SHA256.to_vec(),
            issuer: name(issuer),
            from: day("270101"),
            to: day("270131"),
            subject: name("device-1"),
            spki: seq(&[&algorithm, &tlv(3, &[&point])]),
            extensions: vec![key_usage(0x80)],
            more: Vec::new(),
        }
    }

    /// The bytes to be signed.
    pub fn der(&self) -> Vec<u8> {
        let extensions = match self.extensions.is_empty() {
            true => Vec::new(),
            false => tlv(0xa3, &[&seq(&[&self.extensions.concat()])]),
        };
        seq(&[
            &self.version,
            &self.serial,
            &self.algorithm,
            &self.issuer,
            &seq(&[&self.from, &self.to]),
            &self.subject,
            &self.spki,
            &extensions,
            &self.more,
        ])
    }
}

/// A TBSCertList: version, algorithm, issuer, this and next update, entries with their SEQUENCE, and extensions.
pub fn crl(issuer: &str, algorithm: &[u8], next_update: &[u8], entries: &[u8]) -> Vec<u8> {
    let number = extension(0x14, &[], &[2, 1, 7]);
    seq(&[&[2, 1, 1], algorithm, &name(issuer), &day("270101"), next_update, entries, &tlv(0xa0, &[&seq(&[&number])])])
}

/// The list of revoked certificates with one entry.
pub fn revoked() -> Vec<u8> {
    let reason = extension(0x15, &[], &[0x0a, 1, 1]);
    seq(&[&seq(&[&serial(), &day("270101"), &seq(&[&reason])])])
}

/// ResponseData of an OCSP answer: the responder with its tag, one answer with this status and these bytes for its end.
pub fn ocsp(responder: &[u8], status: &[u8], next_update: &[u8]) -> Vec<u8> {
    let sha1 = [0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0];
    let id = seq(&[&sha1, &tlv(4, &[&[1; 20]]), &tlv(4, &[&[2; 20]]), &serial()]);
    let answer = seq(&[&id, status, &long_day("20270101"), next_update]);
    seq(&[responder, &long_day("20270101"), &seq(&[&answer])])
}

/// CertificationRequestInfo.
pub fn request(subject: &str, spki: &[u8]) -> Vec<u8> {
    seq(&[&[2, 1, 0], &name(subject), spki, &[0xa0, 0]])
}

/// An issuance policy (docs/guard.md): the sum of its kinds, and its bounds with their tags.
pub fn policy(kinds: u8, bounds: &[&[u8]]) -> Vec<u8> {
    seq(&[&[2, 1, 1, 2, 1, kinds], &bounds.concat()])
}

/// A bound of a policy.
pub fn bound(number: u8, value: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, &[value])
}

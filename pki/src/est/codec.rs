//! The outer form of EST messages: base64 whatever the Content-Transfer-Encoding says (RFC 8951 deprecates that field), and
//! certs-only CMS (RFC 5652 section 5.1) in true DER.

use data_encoding::BASE64;

/// Decodes a request body: base64 with line ends, spaces and tabs anywhere. `None` for anything else.
pub(crate) fn decode(body: &[u8]) -> Option<Vec<u8>> {
    let dense: Vec<u8> = body.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n' | b' ' | b'\t')).collect();
    if dense.is_empty() { None } else { BASE64.decode(&dense).ok() }
}

/// Encodes an answer in lines of `columns` characters, each with a line feed; in one line without any when it is 0.
pub(crate) fn encode(der: &[u8], columns: usize) -> String {
    let dense = BASE64.encode(der);
    if columns == 0 {
        return dense;
    }
    let mut text = String::with_capacity(dense.len() + dense.len() / columns + 1);
    for (index, character) in dense.chars().enumerate() {
        if index > 0 && index % columns == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push('\n');
    text
}

/// DER of 1.2.840.113549.1.7.2, signedData.
const SIGNED_DATA: &[u8] = &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x02];
/// DER of 1.2.840.113549.1.7.1, data.
const DATA: &[u8] = &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x01];
const INTEGER_ONE: &[u8] = &[0x02, 0x01, 0x01];
const EMPTY_SET: &[u8] = &[0x31, 0x00];
/// Tag of a SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;
/// Tag [0], constructed.
pub(super) const CONTEXT_0: u8 = 0xA0;

/// A CMS message that carries certificates and nothing else. The certificates stay byte for byte as they are, in the order
/// that DER asks of a SET OF.
pub(crate) fn certs_only(certificates: &[&[u8]]) -> Vec<u8> {
    let mut ordered = certificates.to_vec();
    ordered.sort_unstable();
    let signed_data =
        [INTEGER_ONE, EMPTY_SET, &tagged(SEQUENCE, DATA), &tagged(CONTEXT_0, &ordered.concat()), EMPTY_SET].concat();
    let content = tagged(CONTEXT_0, &tagged(SEQUENCE, &signed_data));
    tagged(SEQUENCE, &[SIGNED_DATA, &content].concat())
}

/// Tag, length and value (X.690 section 8.1.3, shortest form).
pub(super) fn tagged(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    let length = value.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count().min(length.len() - 1)..];
    match significant {
        [short] if *short < 0x80 => der.push(*short),
        long => {
            // At most eight bytes of length.
            der.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            der.extend_from_slice(long);
        }
    }
    der.extend_from_slice(value);
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_no_part_of_base64_and_anything_else_is_refused() {
        assert_eq!(decode(b" aGVs\r\nbG8=\t\n"), Some(b"hello".to_vec()));
        for bad in [&b""[..], b"\r\n", b"aGVsbG8", b"-----BEGIN", b"aGVsbG8=\0", b"aGVs_G8=", b"\x30\x82\x01\x00"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn lines_have_the_asked_length() {
        let text = encode(&[7; 100], 64);
        assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [64, 64, 8]);
        assert!(text.ends_with('\n') && !text.contains('\r'));
        assert!(!encode(&[7; 100], 0).contains('\n'));
        assert_eq!(decode(text.as_bytes()), Some(vec![7; 100]));
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(tagged(4, &[0; 127])[..2], [4, 127]);
        assert_eq!(tagged(4, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(tagged(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(tagged(4, &[]), [4, 0]);
    }

    #[test]
    fn certificates_are_in_ascending_order() {
        let (first, second) = (tagged(SEQUENCE, &[2; 3]), tagged(SEQUENCE, &[1; 3]));
        let cms = certs_only(&[&first, &second]);
        assert_eq!(cms, certs_only(&[&second, &first]));
        let tail = [second, first].concat();
        assert!(cms.windows(tail.len()).any(|window| window == tail));
    }
}

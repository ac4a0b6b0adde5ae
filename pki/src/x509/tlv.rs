//! Tag, length, value: the few steps of DER (X.690 sections 8.1 and 10.1) that are needed where whole structures would be decoded
//! and encoded only to copy them: the answers of the OCSP responder and the entries of long CRLs.

/// SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;
/// OCTET STRING.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// ENUMERATED.
pub(crate) const ENUMERATED: u8 = 0x0A;
/// A context-specific constructed tag.
pub(crate) const fn context(number: u8) -> u8 {
    0xA0 | number
}

/// Writes one element around the parts of its content.
pub(crate) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(length + 6);
    bytes.push(tag);
    write_length(&mut bytes, length);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

fn write_length(bytes: &mut Vec<u8>, length: usize) {
    if let Ok(short) = u8::try_from(length)
        && short < 0x80
    {
        bytes.push(short);
        return;
    }
    let octets = length.to_be_bytes();
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    let count = u8::try_from(octets.len() - zeros).expect("a length has at most 8 octets");
    bytes.push(0x80 | count);
    bytes.extend_from_slice(&octets[zeros..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_the_shortest() {
        for (length, head) in [(0usize, &[4, 0][..]), (127, &[4, 127]), (128, &[4, 0x81, 128]), (256, &[4, 0x82, 1, 0])]
        {
            let content = vec![7; length];
            let written = write(OCTET_STRING, &[&content]);
            assert_eq!(&written[..head.len()], head, "{length}");
            assert_eq!(written.len(), head.len() + length);
        }
    }
}

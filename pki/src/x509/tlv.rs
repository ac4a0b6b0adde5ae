//! Tag, length, value: the few steps of DER (X.690 sections 8.1 and 10.1) that are needed where whole structures would be decoded
//! and encoded only to copy them: the answers of the OCSP responder and the entries of long CRLs.

/// SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;
/// INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// OCTET STRING.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// IA5String.
pub(crate) const IA5_STRING: u8 = 0x16;
/// UTF8String.
pub(crate) const UTF8_STRING: u8 = 0x0C;
/// SET.
pub(crate) const SET: u8 = 0x31;
/// ENUMERATED.
pub(crate) const ENUMERATED: u8 = 0x0A;
/// A context-specific constructed tag.
pub(crate) const fn context(number: u8) -> u8 {
    0xA0 | number
}

/// Writes one element around the parts of its content, into memory that is taken once.
pub(crate) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(length + 10);
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

/// One element of an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// Its tag.
    pub(crate) tag: u8,
    /// Its content.
    pub(crate) content: &'a [u8],
    /// Tag, length and content.
    pub(crate) whole: &'a [u8],
}

/// Splits the first element off. `None` when there is none, or its length is not in the definite form.
pub(crate) fn read(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (tag, first) = (*input.first()?, *input.get(1)?);
    // Tags of more than one octet do not occur in what this room reads.
    if tag & 0x1F == 0x1F {
        return None;
    }
    let (start, length) = if first < 0x80 {
        (2, usize::from(first))
    } else {
        let count = usize::from(first & 0x7F);
        if count == 0 || count > 4 {
            return None;
        }
        let octets = input.get(2..2 + count)?;
        (2 + count, octets.iter().fold(0usize, |sum, octet| sum << 8 | usize::from(*octet)))
    };
    let end = start.checked_add(length)?;
    let element = Element { tag, content: input.get(start..end)?, whole: &input[..end] };
    Some((element, &input[end..]))
}

/// The elements of a content, one after the other; ends early where it does not decode.
pub(crate) fn elements(content: &[u8]) -> impl Iterator<Item = Element<'_>> {
    let mut rest = content;
    std::iter::from_fn(move || {
        let (element, tail) = read(rest)?;
        rest = tail;
        Some(element)
    })
}

/// The INTEGER that is a positive number, given big endian.
pub(crate) fn integer(magnitude: &[u8]) -> Vec<u8> {
    let zeros = magnitude.iter().take_while(|octet| **octet == 0).count();
    let bare = &magnitude[zeros..];
    match bare.first() {
        None => write(INTEGER, &[&[0]]),
        Some(first) if *first >= 0x80 => write(INTEGER, &[&[0], bare]),
        Some(_) => write(INTEGER, &[bare]),
    }
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
            let (element, rest) = read(&written).expect("reads");
            assert_eq!((element.tag, element.content.len(), rest.len()), (OCTET_STRING, length, 0));
        }
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let written = write(SEQUENCE, &[&[1; 200]]);
        for end in 0..written.len() {
            assert_eq!(read(&written[..end]), None, "{end}");
        }
        assert_eq!(read(&[0x30, 0x80, 0, 0]), None, "indefinite length");
        assert_eq!(read(&[0x1F, 1, 0]), None, "long tag");
    }

    #[test]
    fn integers_are_positive() {
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0, 0, 0x7F]), [2, 1, 0x7F]);
        assert_eq!(integer(&[]), [2, 1, 0]);
    }
}

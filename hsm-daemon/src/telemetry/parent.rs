//! The header `traceparent` (W3C Trace Context): the span of the client that a request belongs to.

/// The client's span, and whether the client records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    /// The trace.
    pub(crate) trace: [u8; 16],
    /// The client's span in it.
    pub(crate) span: [u8; 8],
    /// Whether the client records it.
    pub(crate) sampled: bool,
}

/// The name of the header, as metadata have it.
pub(crate) const HEADER: &str = "traceparent";

impl Parent {
    /// Reads the header. One that is not as it should be is passed over: tracing breaks nothing.
    pub(crate) fn parse(text: &str) -> Option<Parent> {
        let mut fields = text.split('-');
        let version = bytes::<1>(fields.next()?)?;
        let (trace, span, flags) =
            (bytes::<16>(fields.next()?)?, bytes::<8>(fields.next()?)?, bytes::<1>(fields.next()?)?);
        // Later versions may append fields, this one has none; 255 is no version.
        let fits = match version {
            [0] => fields.next().is_none(),
            [version] => version != 0xff,
        };
        let sampled = flags[0] & 1 == 1;
        (fits && trace != [0; 16] && span != [0; 8]).then_some(Parent { trace, span, sampled })
    }
}

/// Lower-case hexadecimal digits, exactly as many as there must be.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let decoded = data_encoding::HEXLOWER.decode(text.as_bytes()).ok().filter(|decoded| decoded.len() == N)?;
    bytes.copy_from_slice(&decoded);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_header_as_it_should_be_names_a_parent() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let sampled = |text: String| Parent::parse(&text).map(|parent| parent.sampled);
        let rows = [
            (format!("00-{trace}-{span}-01"), Some(true)),
            (format!("00-{trace}-{span}-00"), Some(false)),
            (format!("00-{trace}-{span}-03"), Some(true)),
            (format!("01-{trace}-{span}-01-more"), Some(true)),
            (format!("00-{trace}-{span}-01-more"), None),
            (format!("ff-{trace}-{span}-01"), None),
            (format!("00-{}-{span}-01", trace.to_uppercase()), None),
            (format!("00-{}-{span}-01", "0".repeat(32)), None),
            (format!("00-{trace}-{}-01", "0".repeat(16)), None),
            (format!("00-{trace}-{span}"), None),
            (format!("00-{trace}0-{span}-01"), None),
            (String::new(), None),
        ];
        for (text, expected) in rows {
            assert_eq!(sampled(text.clone()), expected, "{text}");
        }
        let parent = Parent::parse(&format!("00-{trace}-{span}-01")).expect("a parent");
        assert_eq!((parent.trace[0], parent.span[7]), (0x0a, 0x31));
    }
}

//! The key derivation functions of SP 800-108 Revision 1 (section 4): counter, feedback and double pipeline, over HMAC and
//! AES-CMAC. What a pseudorandom function is fed stands in a list of fields, because the standard leaves their order open.

use zeroize::Zeroizing;

use super::{Error, Hash, MacStream, Result, cmac, hmac};
use crate::SecretBytes;

/// A pseudorandom function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prf {
    /// HMAC.
    Hmac(Hash),
    /// AES-CMAC.
    AesCmac,
}

impl Prf {
    /// Length of one segment of output in bytes.
    pub(crate) const fn output_len(self) -> usize {
        match self {
            Prf::Hmac(hash) => hash.output_len(),
            Prf::AesCmac => cmac::MAC_LEN,
        }
    }
}

/// How a number becomes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Least significant byte first.
    pub(crate) little_endian: bool,
    /// 8 to 64, whole bytes.
    pub(crate) width_bits: u32,
}

impl Format {
    /// Checks the width.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`].
    pub(crate) fn new(little_endian: bool, width_bits: u64) -> Result<Self> {
        match u32::try_from(width_bits) {
            Ok(width_bits @ 8..=64) if width_bits.is_multiple_of(8) => Ok(Format { little_endian, width_bits }),
            _ => Err(Error::InvalidParameter),
        }
    }

    /// The largest number.
    fn max(self) -> u64 {
        u64::MAX >> (64 - self.width_bits)
    }

    fn write(self, number: u64, out: &mut Vec<u8>) -> Result<()> {
        if number > self.max() {
            return Err(Error::InvalidParameter);
        }
        let width = (self.width_bits / 8) as usize;
        if self.little_endian {
            out.extend_from_slice(&number.to_le_bytes()[..width]);
        } else {
            out.extend_from_slice(&number.to_be_bytes()[8 - width..]);
        }
        Ok(())
    }
}

/// One field of the input.
#[derive(Clone, Copy)]
pub(crate) enum Field<'a> {
    /// The number of the segment, from one.
    Counter(Format),
    /// What the mode feeds back: the segment before, or the other pipeline's value.
    Iteration,
    /// The length of all that is derived, in bits.
    Length(Format, u64),
    /// Label, context, separator.
    Bytes(&'a [u8]),
}

/// How the segments follow from each other.
#[derive(Clone, Copy)]
pub(crate) enum Mode<'a> {
    /// Section 4.1.
    Counter,
    /// Section 4.2, with the initial value, which may be empty.
    Feedback(&'a [u8]),
    /// Section 4.3.
    DoublePipeline,
}

struct Function<'a> {
    prf: Prf,
    key: &'a [u8],
}

impl Function<'_> {
    fn of(&self, input: &[u8]) -> Result<SecretBytes> {
        match self.prf {
            Prf::Hmac(hash) => Ok(SecretBytes::new(hmac::Key::new(hash, self.key).sign(input))),
            Prf::AesCmac => {
                let mut stream = Box::new(cmac::Stream::new(self.key)?);
                stream.update(input);
                Ok(SecretBytes::new(stream.finish()))
            }
        }
    }
}

/// The input of one segment.
fn input(fields: &[Field<'_>], counter: u64, iteration: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::new());
    for field in fields {
        match field {
            Field::Counter(format) => format.write(counter, &mut out)?,
            Field::Iteration => out.extend_from_slice(iteration),
            Field::Length(format, bits) => format.write(*bits, &mut out)?,
            Field::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }
    Ok(out)
}

/// `segments` whole segments of output.
///
/// # Errors
/// [`Error::InvalidParameter`] if a counter or length does not fit its field, or nothing is asked; [`Error::KeySize`] if
/// AES-CMAC gets no AES key.
pub(crate) fn derive(
    prf: Prf,
    key: &[u8],
    mode: Mode<'_>,
    fields: &[Field<'_>],
    segments: usize,
) -> Result<SecretBytes> {
    // Whatever field counts, and whether one does: the loop is limited to 2^32 - 1 (section 4).
    let count = u32::try_from(segments).ok().filter(|&count| count > 0).ok_or(Error::InvalidParameter)?;
    let function = Function { prf, key };
    let mut output = SecretBytes::zeroed(segments * prf.output_len());
    let fixed: Vec<Field<'_>> =
        fields.iter().copied().filter(|field| matches!(field, Field::Length(..) | Field::Bytes(_))).collect();
    let mut iteration = match mode {
        Mode::Counter => SecretBytes::zeroed(0),
        Mode::Feedback(iv) => SecretBytes::copy_from(iv),
        Mode::DoublePipeline => SecretBytes::copy_from(&input(&fixed, 0, &[])?),
    };
    for (counter, place) in (1..=count).zip(output.expose_mut().chunks_mut(prf.output_len())) {
        if let Mode::DoublePipeline = mode {
            iteration = function.of(iteration.expose())?;
        }
        let segment = function.of(&input(fields, u64::from(counter), iteration.expose())?)?;
        place.copy_from_slice(segment.expose());
        if let Mode::Feedback(_) = mode {
            iteration = segment;
        }
    }
    Ok(output)
}

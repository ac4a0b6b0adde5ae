//! AES-CMAC (SP 800-38B, RFC 4493).

use super::ffi::CmacState;
use super::{MacStream, Result};

/// Length of the whole MAC in bytes.
pub(crate) const MAC_LEN: usize = 16;

/// A MAC in the making; wiped when dropped.
pub(crate) struct Stream(CmacState);

impl Stream {
    /// A MAC of nothing yet.
    ///
    /// # Errors
    /// [`Error::KeySize`](super::Error::KeySize) if the key has not 16, 24 or 32 bytes.
    pub(crate) fn new(key: &[u8]) -> Result<Self> {
        Ok(Stream(CmacState::new(key)?))
    }
}

impl MacStream for Stream {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.0.finish().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Error;

    #[test]
    fn pieces_give_the_mac_of_the_whole() {
        let data: Vec<u8> = (0..100).collect();
        let mac = |piece: usize| {
            let mut stream = Box::new(Stream::new(&[7; 24]).expect("a key"));
            data.chunks(piece).for_each(|part| stream.update(part));
            stream.finish()
        };
        for piece in [1, 15, 16, 17, 32] {
            assert_eq!(mac(piece), mac(100), "{piece}");
        }
        assert_eq!(mac(1).len(), MAC_LEN);
    }

    #[test]
    fn keys_of_another_length_are_refused() {
        for len in [0, 8, 15, 17, 33] {
            assert_eq!(Stream::new(&vec![1; len]).err(), Some(Error::KeySize), "{len}");
        }
    }
}

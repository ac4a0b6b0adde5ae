//! CRC-32 (ISO 3309 and ITU-T V.42, polynomial 0xEDB88320 reflected; the one of zlib), eight bytes a step.
//!
//! It tells damage from forgery at a glance and covers the last line, which no later line's hash covers yet. It is no
//! protection against anybody: the chain is.

const TABLES: [[u32; 256]; 8] = tables();

#[expect(clippy::cast_possible_truncation, reason = "the loop counter is below 256")]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0_u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xEDB8_8320 } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// A running CRC-32.
#[derive(Clone, Copy)]
pub(super) struct Crc32(u32);

impl Crc32 {
    pub(super) fn new() -> Self {
        Crc32(!0)
    }

    #[must_use]
    pub(super) fn update(self, bytes: &[u8]) -> Self {
        let mut crc = self.0;
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let [a, b, c, d] = crc.to_le_bytes();
            crc = row(7, chunk[0] ^ a)
                ^ row(6, chunk[1] ^ b)
                ^ row(5, chunk[2] ^ c)
                ^ row(4, chunk[3] ^ d)
                ^ row(3, chunk[4])
                ^ row(2, chunk[5])
                ^ row(1, chunk[6])
                ^ row(0, chunk[7]);
        }
        for byte in chunks.remainder() {
            let [low, ..] = crc.to_le_bytes();
            crc = (crc >> 8) ^ row(0, low ^ byte);
        }
        Crc32(crc)
    }

    pub(super) fn finish(self) -> u32 {
        !self.0
    }
}

fn row(table: usize, byte: u8) -> u32 {
    TABLES[table][usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_is_the_published_one() {
        assert_eq!(Crc32::new().update(b"123456789").finish(), 0xCBF4_3926);
    }

    #[test]
    fn split_updates_equal_one_update() {
        let bytes: Vec<u8> = (0..=255).collect();
        let whole = Crc32::new().update(&bytes).finish();
        for at in 0..bytes.len() {
            assert_eq!(Crc32::new().update(&bytes[..at]).update(&bytes[at..]).finish(), whole);
        }
    }
}

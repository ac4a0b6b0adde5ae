//! The pseudorandom function of TLS 1.2 (RFC 5246, section 5).

use super::{Hash, hmac};
use crate::SecretBytes;

/// `len` bytes of P_hash(secret, label + seeds).
pub(crate) fn derive(hash: Hash, secret: &[u8], label: &[u8], seeds: &[&[u8]], len: usize) -> SecretBytes {
    let key = hmac::Key::new(hash, secret);
    let seed = [label, &seeds.concat()].concat();
    let mut output = SecretBytes::zeroed(len);
    let mut link = SecretBytes::new(key.sign(&seed));
    for piece in output.expose_mut().chunks_mut(hash.output_len()) {
        let input = SecretBytes::new([link.expose(), &seed].concat());
        let block = SecretBytes::new(key.sign(input.expose()));
        piece.copy_from_slice(&block.expose()[..piece.len()]);
        link = SecretBytes::new(key.sign(link.expose()));
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::hex;

    /// The vectors that were posted to the IETF's TLS list for TLS 1.2 (label "test label").
    #[test]
    fn the_known_answers_of_the_working_group() {
        let rows = [
            (
                Hash::Sha256,
                "9bbe436ba940f017b17652849a71db35",
                "a0ba9f936cda311827a6f796ffd5198c",
                "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af\
                 0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701\
                 87347b66",
            ),
            (
                Hash::Sha384,
                "b80b733d6ceefcdc71566ea48e5567df",
                "cd665cf6a8447dd6ff8b27555edb7465",
                "7b0c18e9ced410ed1804f2cfa34a336a1c14dffb4900bb5fd7942107e81c83cde9ca0faa60be9fe34f82b1233c9146a0\
                 e534cb400fed2700884f9dc236f80edd8bfa961144c9e8d792eca722a7b32fc3d416d473ebc2c5fd4abfdad05d918425\
                 9b5bf8cd4d90fa0d31e2dec479e4f1a26066f2eea9a69236a3e52655c9e9aee691c8f3a26854308d5eaa3be85e0990703\
                 d73e56f",
            ),
        ];
        for (hash, secret, seed, answer) in rows {
            let answer = hex(answer);
            let derived = derive(hash, &hex(secret), b"test label", &[&hex(seed)], answer.len());
            assert_eq!(derived.expose(), answer, "{hash:?}");
        }
    }
}

//! Random numbers (PKCS#11 v3.0 §5.19).

use acceptance::module::Token;
use acceptance::module_test;

module_test! {
    fn random_bytes_differ_at_every_length(_world) {
        let token = Token::open();
        let session = token.session();
        for len in [16, 32, 1000, 65_536] {
            let (one, two) = (session.generate_random_vec(len).expect("random"), session.generate_random_vec(len).expect("random"));
            assert_eq!(one.len(), usize::try_from(len).expect("small"));
            assert_ne!(one, two);
            assert!(one.iter().any(|byte| *byte != 0));
        }
    }
}

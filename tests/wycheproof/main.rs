//! The Wycheproof vectors, driven through the module and the daemon: keys are imported, every case is one call of an
//! application, and the answer is judged by what the vectors say. Import rules, encodings, parameters and return values are
//! tried with the algorithms.
//!
//! Nothing is wrong, at most two in a hundred cases of an algorithm are skipped, and each for a reason that is printed.
//! Cases about encodings that no PKCS#11 call carries (DER of ECDSA signatures, SubjectPublicKeyInfo) are listed apart.
//! NIST's values for what Wycheproof lacks are in `nist`; random keys, lengths and parts are compared with another module in
//! `differential`.
//! An algorithm whose mechanism the module does not list is named and not counted.

mod bench;
mod curves;
mod differential;
mod kdf;
mod mac;
mod nist;
mod pq;
mod rsa;
mod symmetric;
mod tally;

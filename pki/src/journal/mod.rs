//! The journal: every change of the memory is a leaf of a Merkle tree, written in the transaction of the change itself; checkpoints of the
//! tree are signed by a key in the token. Whoever holds a checkpoint can be shown that a certificate, a revocation or a CRL is in the
//! journal, and that nothing before was altered. `verify_journal.py` beside the crate checks the same without a line of this code.

pub(crate) mod note;
pub(crate) mod office;
pub(crate) mod proof;

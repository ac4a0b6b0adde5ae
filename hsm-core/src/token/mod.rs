//! Tokens: what is in the slots, who is logged in, and the PIN rules.

pub(crate) mod login;
pub(crate) mod pin;
pub(crate) mod shown;
pub(crate) mod slot;

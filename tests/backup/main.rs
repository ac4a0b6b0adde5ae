//! Backup of a running token, restore elsewhere, and everything that must be refused on the way; the journal that tells the story.

mod bundle;
mod drill;
mod full;
mod journal;
mod kill;
mod recipients;
mod stream;
mod tamper;
mod unseal;
mod witness;

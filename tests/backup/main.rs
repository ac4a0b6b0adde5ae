//! Backup of a running token, restore elsewhere, and everything that must be refused on the way; the journal that tells the story.

mod drill;
mod journal;
mod recipients;
mod tamper;
mod unseal;

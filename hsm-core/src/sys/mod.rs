//! What is asked of the operating system beyond reading and writing: process hardening, private files and directories,
//! durability of directories. All of it through rustix's safe calls; nothing here knows what the files hold.

mod file;
mod process;

pub(crate) use file::{Lock, create_private_dir, create_private_file, owner_and_mode, replace_durably, write_durably};
pub use process::harden_process;

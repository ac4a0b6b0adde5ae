//! What is asked of the operating system beyond reading and writing: process hardening, private files and directories,
//! durability of directories, memory that is a file, and the process's end. Nothing here knows what the files hold.

mod arena;
mod file;
mod heap;
mod indivisible;
mod process;
mod shared;

pub(crate) use arena::Slot;
pub use arena::{Protection, protect_secrets};
pub(crate) use file::{Lock, create_private_dir, create_private_file, owner_and_mode, replace_durably, write_durably};
pub use heap::{give_memory_back, keep_little_memory};
pub use indivisible::Indivisible;
pub(crate) use process::give_way;
pub use process::harden_process;
pub(crate) use shared::SharedFile;

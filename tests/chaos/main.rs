//! Power cuts and prying eyes: kill -9 in the middle of commits, and core dumps.

mod core_dump;
mod kill_during_commit;

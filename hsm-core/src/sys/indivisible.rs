//! What may not be left half done in memory.

/// While it lives, a panic of its thread ends the process: what the thread was in the middle of, or was there to do, others would
/// wait for without end or take for whole. The next start finds on the disk what was answered.
pub struct Indivisible {
    what: &'static str,
    /// Made while a panic was under way already, which then is not about this.
    late: bool,
}

impl Indivisible {
    /// Begins what may not be left half done.
    pub fn begin(what: &'static str) -> Self {
        Indivisible { what, late: std::thread::panicking() }
    }
}

impl Drop for Indivisible {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.late {
            tracing::error!(what = self.what, "a defect in what may not be left half done: the process ends");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_panic_in_the_middle_ends_the_process() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "sys::indivisible::tests::panics_in_the_middle", "--ignored"]);
        let output = child.output().unwrap();
        assert!(output.status.signal().is_some(), "{}", output.status);
    }

    #[test]
    #[ignore = "it ends its process: a_panic_in_the_middle_ends_the_process runs it in one of its own"]
    fn panics_in_the_middle() {
        let other = std::thread::spawn(|| {
            let _whole = Indivisible::begin("this test");
            panic!("in the middle");
        });
        other.join().ok();
    }

    #[test]
    fn a_panic_before_or_after_is_its_own_affair() {
        drop(Indivisible::begin("this test"));
        std::thread::spawn(|| {
            drop(Indivisible::begin("this test"));
            panic!("afterwards");
        })
        .join()
        .unwrap_err();
    }
}

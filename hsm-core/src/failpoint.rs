//! Named places at which a test makes this process panic, end, wait or fail. They exist in debug builds only: in a release build
//! [`failpoint!`](crate::failpoint) expands to nothing, and neither a name nor the environment variable is in the program.
//!
//! `CRATON_FAILPOINTS="store.commit.after=exit@3;pin.kdf.before=sleep(50)"`, read once: `panic`, `exit` (at once, as by kill -9),
//! `sleep(MILLISECONDS)`, or `error` where the place can fail; `@N` means the Nth time only, else every time. With `when=PATH` among them
//! nothing counts but while there is such a file.

/// A place of this name. With a second argument, the error that the function around it returns when it is told to fail.
#[cfg(debug_assertions)]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::failpoint::reach($name)
    };
    ($name:literal, $error:expr) => {
        if $crate::failpoint::fails($name) {
            return Err($error);
        }
    };
}

/// A place of this name, which exists in debug builds only.
#[cfg(not(debug_assertions))]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {};
    ($name:literal, $error:expr) => {};
}

#[cfg(debug_assertions)]
pub use armed::{POINTS, Since, fails, reach};

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    /// When a place begins to count.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Since {
        /// When the process starts.
        Start,
        /// When the daemon serves: what a start does on its way there does not count.
        Ready,
    }
    use Since::{Ready, Start};

    /// After it the others count.
    const READY: &str = "daemon.ready";

    /// Every place. A test holds that each stands at one place in the code, and that the chaos tests reach it.
    #[rustfmt::skip]
    pub const POINTS: &[(&str, Since)] = &[
        ("daemon.ready", Start),
        // The doors.
        ("accept.local", Ready),
        ("greet.local", Ready),
        ("dispatch.before", Ready),
        ("reply.express.before", Ready),
        ("reply.express.after", Ready),
        ("reply.grpc.before", Ready),
        ("record.before", Ready),
        ("record.after", Ready),
        // Sessions and logins.
        ("session.open", Ready),
        ("login.after", Ready),
        ("logout.before", Ready),
        // Objects: durable, and not yet in memory.
        ("object.made", Ready),
        ("object.changed", Ready),
        ("object.destroyed", Ready),
        // PINs.
        ("pin.count.before", Ready),
        ("pin.kdf.before", Ready),
        ("pin.kdf.after", Ready),
        ("pin.clear.before", Ready),
        ("pin.change.before", Ready),
        ("pin.change.after", Ready),
        ("token.init.after", Ready),
        // The store's pen.
        ("store.group.before", Ready),
        ("store.outbox.after", Ready),
        ("store.rows.after", Ready),
        ("store.commit.before", Ready),
        ("store.commit.after", Ready),
        ("store.journal.before", Ready),
        ("store.journal.after", Ready),
        ("store.trim.before", Ready),
        ("store.count.before", Ready),
        // Master keys.
        ("rotate.begin.before", Ready),
        ("rotate.begin.after", Ready),
        ("rotate.batch.after", Ready),
        ("rotate.end.before", Ready),
        // The journal.
        ("journal.stage.after", Ready),
        ("journal.write.before", Ready),
        ("journal.write.after", Ready),
        ("journal.group.before", Ready),
        ("journal.sync.before", Ready),
        ("journal.sync.after", Ready),
        ("journal.sign.before", Ready),
        ("journal.close.announced", Ready),
        ("journal.close.synced", Ready),
        ("journal.close.linked", Ready),
        ("journal.close.renamed", Ready),
        ("journal.key.erased", Ready),
        ("anchor.rename.before", Ready),
        // Backup and restore.
        ("backup.begin", Ready),
        ("backup.name.before", Start),
        ("restore.begun", Start),
        ("restore.built", Start),
        ("restore.exchanged", Start),
        ("restore.kept", Start),
    ];

    /// The variable that says what is to happen where.
    const VARIABLE: &str = "CRATON_FAILPOINTS";

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Panic,
        Exit,
        Sleep(Duration),
        Error,
    }

    struct Armed {
        name: &'static str,
        since: Since,
        action: Action,
        at: Option<u64>,
        reached: AtomicU64,
    }

    #[derive(Default)]
    struct Plan {
        /// Nothing counts but while this file is there.
        when: Option<PathBuf>,
        armed: Vec<Armed>,
    }

    static PLAN: OnceLock<Plan> = OnceLock::new();
    static SERVING: AtomicBool = AtomicBool::new(false);

    /// The process comes by this place.
    pub fn reach(name: &'static str) {
        if let Some(action) = due(name) {
            act(name, action);
        }
        if name == READY {
            SERVING.store(true, Ordering::Release);
        }
    }

    /// The process comes by this place; whether it is to fail here.
    pub fn fails(name: &'static str) -> bool {
        let action = due(name);
        if let Some(action) = action {
            act(name, action);
        }
        action == Some(Action::Error)
    }

    fn due(name: &str) -> Option<Action> {
        let text = || std::env::var(VARIABLE).unwrap_or_default();
        let plan = PLAN.get_or_init(|| parse(&text()).unwrap_or_else(|why| panic!("{VARIABLE}: {why}")));
        let armed = plan.armed.iter().find(|armed| armed.name == name)?;
        if armed.since == Ready && !SERVING.load(Ordering::Acquire) {
            return None;
        }
        if armed.since == Ready && plan.when.as_ref().is_some_and(|gate| !gate.exists()) {
            return None;
        }
        let now = armed.reached.fetch_add(1, Ordering::AcqRel) + 1;
        armed.at.is_none_or(|at| at == now).then_some(armed.action)
    }

    fn act(name: &str, action: Action) {
        // Not by the log: the tests look for this line, and a process that ends here has no time for more.
        writeln!(std::io::stderr(), "failpoint {name}: {action:?}").unwrap_or_default();
        match action {
            Action::Panic => panic!("failpoint {name}"),
            Action::Exit => std::process::abort(),
            Action::Sleep(time) => std::thread::sleep(time),
            Action::Error => {}
        }
    }

    fn parse(text: &str) -> Result<Plan, String> {
        let mut plan = Plan::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match part.strip_prefix("when=") {
                Some(path) => plan.when = Some(path.into()),
                None => plan.armed.push(one(part)?),
            }
        }
        Ok(plan)
    }

    fn one(text: &str) -> Result<Armed, String> {
        let bad = || format!("{text:?} is not NAME=ACTION or NAME=ACTION@N");
        let (name, action) = text.split_once('=').ok_or_else(bad)?;
        let (action, at) = match action.split_once('@') {
            Some((action, at)) => (action, Some(at.parse().map_err(|_| bad())?)),
            None => (action, None),
        };
        let sleep = action.strip_prefix("sleep(").and_then(|rest| rest.strip_suffix(')')?.parse().ok());
        let action = match (action, sleep) {
            ("panic", _) => Action::Panic,
            ("exit", _) => Action::Exit,
            ("error", _) => Action::Error,
            (_, Some(milliseconds)) => Action::Sleep(Duration::from_millis(milliseconds)),
            _ => return Err(bad()),
        };
        let row = POINTS.iter().find(|(row, _)| *row == name);
        let (name, since) = *row.ok_or_else(|| format!("there is no place named {name:?}"))?;
        Ok(Armed { name, since, action, at, reached: AtomicU64::new(0) })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_is_to_happen_where_is_read_from_one_line() {
            let text = "when=/tmp/gate;store.commit.after=exit@3; pin.kdf.before=sleep(50);journal.write.before=error";
            let plan = parse(text).unwrap();
            assert_eq!(plan.when, Some("/tmp/gate".into()));
            let rows: Vec<_> = plan.armed.iter().map(|armed| (armed.name, armed.action, armed.at)).collect();
            let expected = [
                ("store.commit.after", Action::Exit, Some(3)),
                ("pin.kdf.before", Action::Sleep(Duration::from_millis(50)), None),
                ("journal.write.before", Action::Error, None),
            ];
            assert_eq!(rows, expected);
            for bad in ["store.commit.after", "nowhere=exit", "login.after=dance", "login.after=exit@x"] {
                assert!(parse(bad).is_err(), "{bad}");
            }
        }

        #[test]
        fn names_are_unique() {
            let mut names: Vec<_> = POINTS.iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), POINTS.len());
        }
    }
}

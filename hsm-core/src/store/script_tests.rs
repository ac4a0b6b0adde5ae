//! Scripts of two hundred calls, made from a seed, against a model of what a token holds. Before each operation of the disk the power goes,
//! or the operation fails: the store opens, and is what it was before the call under way or after it.
//!
//! With CHAOS=long every operation of twenty scripts is tried in every way; otherwise a part of them.

use super::crash_disk::{Dice, Disk, Fault, Loss};
use super::crash_tests::{base, open, start};
use super::layout::Role;
use super::vault_tests::{Book, pin, put};
use super::*;
use crate::error::Result;
use crate::id::{ObjectId, TokenId};
use crate::secret::SecretBytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

const CALLS: usize = 200;
/// Objects of a token, so that calls meet those of others.
const OBJECTS: usize = 12;
const SO_PIN: &str = "so-pin";

fn is_long() -> bool {
    std::env::var("CHAOS").is_ok_and(|word| word == "long")
}

/// What a token is known to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    label: String,
    user_pin: Option<&'static str>,
    user_failed: u32,
    so_failed: u32,
    /// Private or not, and the text.
    objects: BTreeMap<u8, (bool, String)>,
    /// All handles below were given out.
    handles: u64,
}

#[derive(Clone, Debug)]
enum Call {
    /// C_CreateObject, C_SetAttributeValue, C_CopyObject, C_GenerateKeyPair: these objects get these contents, at once.
    Put(Vec<(u8, bool, String)>),
    Destroy(u8),
    WrongPin,
    Login,
    SetPin(&'static str),
    /// The SO logs in and sets the user's PIN, and the user logs in.
    InitPin(&'static str),
    InitToken(String),
    Handles(u64),
}

const PINS: [&str; 2] = ["user-pin", "next-pin"];

impl Call {
    fn of(dice: &mut Dice, model: &Model, number: usize) -> Call {
        let other = PINS[usize::from(model.user_pin == Some(PINS[0]))];
        if model.user_pin.is_none() {
            return Call::InitPin(other);
        }
        let any = |dice: &mut Dice| dice.below(OBJECTS) as u8;
        let there: Vec<u8> = model.objects.keys().copied().collect();
        let private = dice.below(3) > 0;
        match dice.below(100) {
            0..=34 => Call::Put(vec![(any(dice), private, format!("{number} {}", "x".repeat(dice.below(300))))]),
            35..=49 if !there.is_empty() => {
                let (private, text) = model.objects[&there[dice.below(there.len())]].clone();
                Call::Put(vec![(any(dice), private, text)])
            }
            50..=59 => {
                let (public, secret) = (any(dice), any(dice));
                match public == secret {
                    true => Call::Destroy(public),
                    false => Call::Put(vec![
                        (public, false, format!("public {number}")),
                        (secret, true, format!("secret {number}")),
                    ]),
                }
            }
            60..=76 => Call::Destroy(any(dice)),
            77..=82 if model.user_failed < 6 => Call::WrongPin,
            83..=87 => Call::Login,
            88..=91 => Call::SetPin(other),
            92..=94 => Call::InitPin(other),
            95 => Call::InitToken(format!("token {number}")),
            _ => Call::Handles(1 + dice.roll() % 100),
        }
    }

    /// What the store may hold while the call is under way, in order; the last is what it holds when it was answered.
    fn stages(&self, before: &Model) -> Vec<Model> {
        let mut now = before.clone();
        let mut stages = Vec::new();
        let mut step = |change: &dyn Fn(&mut Model)| {
            change(&mut now);
            stages.push(now.clone());
        };
        match self {
            Call::Put(puts) => step(&|now| {
                let puts = puts.iter().map(|(id, private, text)| (*id, (*private, text.clone())));
                now.objects.extend(puts);
            }),
            Call::Destroy(id) => step(&|now| drop(now.objects.remove(id))),
            Call::WrongPin => step(&|now| now.user_failed += 1),
            Call::Login => {
                step(&|now| now.user_failed += 1);
                step(&|now| now.user_failed = 0);
            }
            Call::SetPin(new) => {
                step(&|now| now.user_failed += 1);
                step(&|now| (now.user_failed, now.user_pin) = (0, Some(*new)));
            }
            Call::InitPin(new) => {
                step(&|now| now.so_failed += 1);
                step(&|now| now.so_failed = 0);
                step(&|now| (now.user_failed, now.user_pin) = (0, Some(*new)));
                step(&|now| now.user_failed = 1);
                step(&|now| now.user_failed = 0);
            }
            Call::InitToken(label) => {
                step(&|now| now.so_failed += 1);
                step(&|now| {
                    let handles = now.handles;
                    *now = Model { label: label.clone(), handles, ..Model::empty() };
                });
            }
            Call::Handles(count) => step(&|now| now.handles += count),
        }
        stages
    }
}

impl Model {
    fn empty() -> Model {
        Model {
            label: String::new(),
            user_pin: None,
            user_failed: 0,
            so_failed: 0,
            objects: BTreeMap::new(),
            handles: 1,
        }
    }

    /// What [`base`] made.
    fn of_base() -> Model {
        Model { label: "label".into(), user_pin: Some(PINS[0]), ..Model::empty() }
    }

    /// What is to be seen without a PIN.
    fn public(&self) -> Public {
        let public = self.objects.iter().filter(|(_, (private, _))| !private);
        Public {
            label: self.label.clone(),
            user_pin: self.user_pin.is_some(),
            failed: (self.user_failed, self.so_failed),
            objects: public.map(|(id, (_, text))| (*id, text.clone())).collect(),
            count: self.objects.len() as u64,
        }
    }

    fn private(&self) -> BTreeMap<u8, String> {
        let private = self.objects.iter().filter(|(_, (private, _))| *private);
        private.map(|(id, (_, text))| (*id, text.clone())).collect()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Public {
    label: String,
    user_pin: bool,
    failed: (u32, u32),
    objects: BTreeMap<u8, String>,
    count: u64,
}

fn id(number: u8) -> ObjectId {
    ObjectId([number; 16])
}

fn texts(vault: &Vault<Book>, token: TokenId, tmk: Option<&TokenMasterKey>) -> BTreeMap<u8, String> {
    let objects = vault.load_objects(token, tmk).unwrap().into_iter();
    objects.map(|object| (object.id.0[0], String::from_utf8(object.plaintext.expose().to_vec()).unwrap())).collect()
}

fn seen(vault: &Vault<Book>) -> (TokenId, Public) {
    let token = vault.token_in_slot(0).unwrap();
    let state = |role| vault.pin_state(token.id, role).unwrap();
    let public = Public {
        label: token.label,
        user_pin: state(Role::User).set,
        failed: (state(Role::User).failed, state(Role::So).failed),
        objects: texts(vault, token.id, None),
        count: vault.object_count(token.id),
    };
    (token.id, public)
}

/// The one of these that the vault holds. Whether a private object is the right one is looked at by a login, which changes the store.
fn found<'a>(vault: &Vault<Book>, allowed: &'a [Model], with_login: bool, when: &str) -> &'a Model {
    let (token, public) = seen(vault);
    let alike: Vec<&Model> = allowed.iter().filter(|model| model.public() == public).collect();
    assert!(!alike.is_empty(), "{when}: {public:?} is none of {allowed:?}");
    let end = vault.reserve_handles(1).unwrap().start;
    let alike: Vec<&Model> = alike.into_iter().filter(|model| model.handles == end).collect();
    assert!(!alike.is_empty(), "{when}: handles go on at {end}, in none of {allowed:?}");
    if !with_login || alike.iter().all(|model| model.user_pin.is_none()) {
        return alike[0];
    }
    let login = |word: &'static str| Some((word, vault.unlock(token, Role::User, &pin(word), "t").ok()?));
    let opened = alike.iter().find_map(|model| login(model.user_pin?));
    let (word, tmk) = opened.unwrap_or_else(|| panic!("{when}: no PIN of {alike:?} is right"));
    let private = texts(vault, token, Some(&tmk));
    let same = alike.iter().find(|model| model.user_pin == Some(word) && model.private() == private);
    same.unwrap_or_else(|| panic!("{when}: {private:?} is in none of {alike:?}"))
}

/// A running token and what is known of it.
struct Script {
    vault: Vault<Book>,
    token: TokenId,
    tmk: Option<Arc<TokenMasterKey>>,
    model: Model,
}

impl Script {
    fn begin(vault: Vault<Book>, model: Model) -> Script {
        let token = vault.token_in_slot(0).unwrap().id;
        let tmk = model.user_pin.map(|word| vault.unlock(token, Role::User, &pin(word), "t").unwrap());
        let mut script = Script { vault, token, tmk, model };
        script.model.user_failed = 0;
        script
    }

    fn make(&mut self, call: &Call) -> Result<()> {
        let (vault, token, user) = (&self.vault, self.token, self.model.user_pin.unwrap_or_default());
        match call {
            Call::Put(puts) => {
                let put = |(number, private, text): &(u8, bool, String)| {
                    let mut change = put(token, *number, *private, text);
                    change.puts.remove(0)
                };
                let change = Change { puts: puts.iter().map(put).collect(), deletes: vec![] };
                vault.commit(change, self.tmk.as_deref(), b"put").map(drop)
            }
            Call::Destroy(number) => {
                let change = Change { puts: vec![], deletes: vec![(token, id(*number))] };
                vault.commit(change, None, b"destroy").map(drop)
            }
            Call::WrongPin => match vault.unlock(token, Role::User, &pin("guess"), "t") {
                Err(error) if error.kind() == crate::error::Kind::PinIncorrect => Ok(()),
                Err(error) => Err(error),
                Ok(_) => panic!("a wrong PIN is right"),
            },
            Call::Login => vault.unlock(token, Role::User, &pin(user), "t").map(drop),
            Call::SetPin(new) => vault.set_pin(token, Role::User, &pin(user), &pin(new), "t", b"set").map(drop),
            Call::InitPin(new) => {
                let so = vault.unlock(token, Role::So, &so_pin(), "t")?;
                vault.init_user_pin(&so, &pin(new), b"init").map(drop)?;
                self.tmk = Some(vault.unlock(token, Role::User, &pin(new), "t")?);
                Ok(())
            }
            Call::InitToken(label) => vault.init_token(0, label, &so_pin(), "t", |_| b"token".to_vec()).map(drop),
            Call::Handles(count) => vault.reserve_handles(*count).map(drop),
        }
    }

    /// What a call that was answered leaves.
    fn done(&mut self, call: &Call) {
        self.model = call.stages(&self.model).pop().unwrap();
        // Another token, which nobody has entered.
        if matches!(call, Call::InitToken(_)) {
            self.token = self.vault.token_in_slot(0).unwrap().id;
            self.tmk = None;
        }
    }
}

fn so_pin() -> SecretBytes {
    pin(SO_PIN)
}

/// A platter after the power has gone, and what it may hold.
struct Crash {
    image: Vec<u8>,
    entries: Vec<(u64, Vec<u8>)>,
    allowed: Vec<Model>,
    with_login: bool,
    when: String,
}

/// Checks until no more come; the first that is wrong, or how many there were.
fn check(crashes: &Mutex<Receiver<Crash>>, keys: &Arc<seal::StoreKeys>) -> std::thread::Result<usize> {
    let mut checked = Ok(0);
    loop {
        let Ok(crash) = crashes.lock().recv() else { return checked };
        // After a failure the rest is only taken, so that the script does not wait for ever.
        if let Ok(count) = checked {
            let right = || {
                let book = Arc::new(Book::default());
                book.entries.lock().clone_from(&crash.entries);
                let opened = open(&Disk::with(crash.image.clone()), keys);
                let vault = start(opened.unwrap_or_else(|error| panic!("{}: {error}", crash.when)), &book);
                found(&vault, &crash.allowed, crash.with_login, &crash.when);
            };
            checked = catch_unwind(AssertUnwindSafe(right)).map(|()| count + 1);
        }
    }
}

/// However a script ends, nobody waits for its crashes any more.
struct Watched<'a>(&'a Disk);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.unwatched();
    }
}

/// Plays a script; before each operation of the disk (of every `stride`), the power goes in these ways. How many crashes there were.
fn every_operation(seed: u64, stride: usize, losses: &'static [Loss]) -> (usize, usize) {
    let base = base();
    let (disk, book) = base.again();
    let mut dice = Dice::of(seed);
    let mut script = Script::begin(start(open(&disk, &base.keys).unwrap(), &book), Model::of_base());
    let before = disk.operations();
    let allowed = Arc::new(Mutex::new(vec![script.model.clone()]));
    let (send, crashes) = sync_channel::<Crash>(16);
    let crashes = Mutex::new(crashes);
    let now = Arc::clone(&allowed);
    let mut torn = Dice::of(!seed);
    disk.watch(move |operation, state| {
        if !(operation + seed as usize).is_multiple_of(stride) {
            return;
        }
        let chosen =
            if losses.len() == 1 { &Loss::ALL[(operation + seed as usize) / stride % 5..][..1] } else { losses };
        for loss in chosen {
            let crash = Crash {
                image: state.crashed(*loss, &mut torn),
                entries: book.entries.lock().clone(),
                allowed: now.lock().clone(),
                with_login: torn.below(8) == 0,
                when: format!("seed {seed}, power gone before operation {operation}, lost {loss:?}"),
            };
            // Its receiver ends by a panic, which is told.
            drop(send.send(crash));
        }
    });
    std::thread::scope(|scope| {
        let checkers: Vec<_> = (0..2).map(|_| scope.spawn(|| check(&crashes, &base.keys))).collect();
        let watched = Watched(&disk);
        for number in 0..CALLS {
            let call = Call::of(&mut dice, &script.model, number);
            let mut may_be = vec![script.model.clone()];
            may_be.extend(call.stages(&script.model));
            *allowed.lock() = may_be;
            script.make(&call).unwrap_or_else(|error| panic!("seed {seed}: {call:?}: {error}"));
            script.done(&call);
            *allowed.lock() = vec![script.model.clone()];
        }
        let operations = disk.operations() - before;
        drop(watched);
        let checked = checkers
            .into_iter()
            .map(|checker| checker.join().unwrap_or_else(Err).unwrap_or_else(|why| std::panic::resume_unwind(why)));
        (operations, checked.sum())
    })
}

/// All five ways, or one after the other.
const ONE: &[Loss] = &[Loss::Nothing];

#[test]
fn a_script_of_two_hundred_calls_survives_a_loss_of_power_at_every_operation() {
    let (seeds, stride, losses): (u64, usize, &'static [Loss]) =
        if is_long() { (20, 1, &Loss::ALL) } else { (20, 10, ONE) };
    let begun = Instant::now();
    let (mut operations, mut checked) = (0, 0);
    for seed in 0..seeds {
        let (made, tried) = every_operation(seed, stride, losses);
        assert!(made > 2000, "seed {seed}: {made} operations");
        operations += made;
        checked += tried;
    }
    println!(
        "TABLE loss of power in scripts of {CALLS} calls: {seeds} scripts, {operations} operations of the disk, {checked} crashes, in {:?}",
        begun.elapsed()
    );
    assert!(checked >= operations / stride * losses.len() / 2);
}

/// Plays a script in which an operation fails every few; after each the store is opened again, as by a new start, with the power on or gone.
fn failing(seed: u64, gap: usize) -> usize {
    let base = base();
    let (mut disk, book) = base.again();
    let (mut dice, mut how) = (Dice::of(seed), Dice::of(!seed ^ gap as u64));
    let mut script = Script::begin(start(open(&disk, &base.keys).unwrap(), &book), Model::of_base());
    let mut faults = 0;
    let fault = |how: &mut Dice| Fault::ALL[how.below(Fault::ALL.len())];
    disk.fail_after(how.below(gap), fault(&mut how));
    for number in 0..CALLS {
        let call = Call::of(&mut dice, &script.model, number);
        let mut allowed = vec![script.model.clone()];
        allowed.extend(call.stages(&script.model));
        let answered = script.make(&call).is_ok();
        if !disk.has_failed() {
            assert!(answered, "seed {seed}: {call:?} failed, and no operation had");
            script.done(&call);
            continue;
        }
        faults += 1;
        if answered {
            allowed.drain(..allowed.len() - 1);
        }
        let loss = Loss::ALL[how.below(Loss::ALL.len())];
        let when = format!("seed {seed}, call {number} {call:?}, answered {answered}, then {loss:?}");
        drop(script);
        let image = if how.below(2) == 0 { disk.seen() } else { disk.crashed(loss, &mut how) };
        disk = Disk::with(image);
        let opened = open(&disk, &base.keys).unwrap_or_else(|error| panic!("{when}: {error}"));
        let vault = start(opened, &book);
        let mut model = found(&vault, &allowed, true, &when).clone();
        model.handles += 1;
        let token = vault.token_in_slot(0).unwrap().id;
        let so = vault.unlock(token, Role::So, &so_pin(), "t");
        so.unwrap_or_else(|error| panic!("{when}: {error}"));
        model.so_failed = 0;
        script = Script::begin(vault, model);
        disk.fail_after(how.below(gap), fault(&mut how));
    }
    faults
}

#[test]
fn a_script_whose_disk_fails_again_and_again_loses_nothing_that_was_answered() {
    let (seeds, gaps): (u64, &[usize]) = if is_long() { (20, &[5, 9, 17, 40, 41, 43, 80]) } else { (3, &[9, 40]) };
    let begun = Instant::now();
    let mut faults = 0;
    for seed in 100..100 + seeds {
        faults += gaps.iter().map(|gap| failing(seed, *gap)).sum::<usize>();
    }
    println!("TABLE operations that fail in scripts of {CALLS} calls: {faults} faults, in {:?}", begun.elapsed());
    assert!(faults > 20 * seeds as usize, "{faults} faults");
}

//! Slots and the token in each: its record, its objects in memory, and the token master key while a user is logged in.
//!
//! Public objects are here from the start, or soon after where they are many: whoever needs them waits. Private ones are opened at the first user login and dropped, with the key, at the last logout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};

use crate::error::Result;
use crate::id::TokenId;
use crate::object::access::Right;
use crate::object::query::Objects;
use crate::object::{Attr, Object};
use crate::store::{TokenMasterKey, TokenRecord};

/// One slot.
pub(crate) struct Slot {
    /// Its number; small and stable.
    pub(crate) number: u64,
    /// Held while an existing object is changed or destroyed, and while users come and go.
    pub(crate) turn: Mutex<()>,
    state: RwLock<State>,
    /// The token's public objects are here.
    filled: AtomicBool,
    filling: Mutex<()>,
    fill_ended: Condvar,
}

struct State {
    token: TokenRecord,
    objects: Objects,
    tmk: Option<Arc<TokenMasterKey>>,
    users: usize,
}

impl Slot {
    /// A slot with its token and the token's public objects.
    pub(crate) fn new(token: TokenRecord, objects: Vec<Object>) -> Self {
        let slot = Slot::unfilled(token);
        slot.fill(objects);
        slot
    }

    /// A slot with its token, to which [`Slot::fill`] brings the public objects; whoever asks for objects waits for them.
    pub(crate) fn unfilled(token: TokenRecord) -> Self {
        Slot {
            number: token.slot,
            turn: Mutex::new(()),
            state: RwLock::new(State { token, objects: Objects::default(), tmk: None, users: 0 }),
            filled: AtomicBool::new(false),
            filling: Mutex::new(()),
            fill_ended: Condvar::new(),
        }
    }

    /// Brings the public objects.
    pub(crate) fn fill(&self, objects: Vec<Object>) {
        let mut state = self.state.write();
        objects.into_iter().for_each(|object| state.objects.insert(Arc::new(object)));
        drop(state);
        let _turn = self.filling.lock();
        self.filled.store(true, Ordering::Release);
        self.fill_ended.notify_all();
    }

    /// The state, once the public objects are in it.
    fn filled(&self) -> &RwLock<State> {
        if !self.filled.load(Ordering::Acquire) {
            let mut turn = self.filling.lock();
            self.fill_ended.wait_while(&mut turn, |()| !self.filled.load(Ordering::Acquire));
        }
        &self.state
    }

    /// The token's record.
    pub(crate) fn token(&self) -> TokenRecord {
        self.state.read().token.clone()
    }

    /// The token's name, which is all that most operations ask of the record.
    pub(crate) fn token_id(&self) -> TokenId {
        self.state.read().token.id
    }

    /// A token object, whoever may see it.
    pub(crate) fn object(&self, handle: u64) -> Option<Arc<Object>> {
        self.filled().read().objects.get(handle).cloned()
    }

    /// The token objects that match a template and that this right sees, ascending by handle.
    pub(crate) fn find(&self, right: Right<'_>, template: &[Attr]) -> Vec<Arc<Object>> {
        let state = self.filled().read();
        state.objects.find(template).filter(|object| right.sees(&object.attributes)).cloned().collect()
    }

    /// Adds an object, or puts a changed one in the place of its older self.
    pub(crate) fn insert(&self, object: Arc<Object>) {
        let mut state = self.filled().write();
        // A private object that was made while the last user left stays in the store only.
        if !object.is_private() || state.tmk.is_some() {
            state.objects.insert(object);
        }
    }

    /// Forgets a destroyed object.
    pub(crate) fn remove(&self, handle: u64) {
        self.filled().write().objects.remove(handle);
    }

    /// A user has come. The first one brings the private objects, which `open` reads.
    pub(crate) fn enter(&self, tmk: Arc<TokenMasterKey>, open: impl FnOnce() -> Result<Vec<Object>>) -> Result<()> {
        let _turn = self.turn.lock();
        let first = self.filled().read().users == 0;
        let objects = if first { open()? } else { Vec::new() };
        let mut state = self.state.write();
        state.users += 1;
        if first {
            state.tmk = Some(tmk);
            objects.into_iter().for_each(|object| state.objects.insert(Arc::new(object)));
        }
        Ok(())
    }

    /// A user has gone. The last one takes the key and the private objects along.
    pub(crate) fn leave(&self) {
        let _turn = self.turn.lock();
        let mut state = self.state.write();
        state.users = state.users.saturating_sub(1);
        if state.users == 0 {
            state.tmk = None;
            state.objects.retain(|object| !object.is_private());
        }
    }

    /// Takes the token's objects as `read` finds them: the public ones, or with the key the private ones. What others have committed is
    /// found, or they come to put it here afterwards.
    pub(crate) fn refill(&self, read: impl Fn(TokenId, Option<&TokenMasterKey>) -> Result<Vec<Object>>) -> Result<()> {
        let mut state = self.filled().write();
        let mut objects = read(state.token.id, None)?;
        if let Some(tmk) = &state.tmk {
            objects.extend(read(state.token.id, Some(tmk))?);
        }
        state.objects = Objects::default();
        objects.into_iter().for_each(|object| state.objects.insert(Arc::new(object)));
        Ok(())
    }

    /// The slot's token was initialised: nothing of the old one remains.
    pub(crate) fn replace(&self, token: TokenRecord) {
        let mut state = self.filled().write();
        *state = State { token, objects: Objects::default(), tmk: None, users: 0 };
    }
}

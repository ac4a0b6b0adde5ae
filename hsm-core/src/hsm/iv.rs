//! IVs: the caller's are entered as used, the token's are made, each in the book of its key (`object/iv.rs`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ck::mechanism::{CKM_AES_CCM, CKM_AES_CTR, CKM_AES_GCM};
use ck::parameter::{CKG_NO_GENERATE, Generator};
use parking_lot::Mutex;

use super::Hsm;
use crate::error::{Error, Kind, Result};
use crate::id::ObjectId;
use crate::mechanism::params::Parameter;
use crate::mechanism::row::{Row, Scheme};
use crate::object::Object;
use crate::object::iv::{IvBook, Wanted};
use crate::session::operation::Operation;

/// Numbers are reserved in the store in blocks of this many.
const BLOCK: u64 = 4096;
/// The most token keys whose books are kept while nobody is logged in.
const BOOKS_MAX: usize = 512;

/// The books of the token keys: objects come and go with logins, what their keys met does not.
#[derive(Default)]
pub(crate) struct IvBooks(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    books: HashMap<ObjectId, Arc<IvBook>>,
    oldest: VecDeque<ObjectId>,
}

impl IvBooks {
    fn get(&self, id: ObjectId) -> Option<Arc<IvBook>> {
        self.0.lock().books.get(&id).cloned()
    }

    fn put(&self, id: ObjectId, book: &Arc<IvBook>) {
        let mut shelf = self.0.lock();
        if shelf.books.insert(id, Arc::clone(book)).is_some() {
            return;
        }
        shelf.oldest.push_back(id);
        if shelf.oldest.len() > BOOKS_MAX
            && let Some(first) = shelf.oldest.pop_front()
        {
            shelf.books.remove(&first);
        }
    }
}

impl Hsm {
    /// The book of a key, opened if it is not.
    fn iv_book(&self, key: &Object) -> Result<Arc<IvBook>> {
        if let Some(book) = key.iv_book() {
            return Ok(Arc::clone(book));
        }
        if !key.is_token() {
            return Ok(key.keep_iv_book(Arc::new(IvBook::new(Default::default()))));
        }
        let book = match self.iv_books.get(key.id) {
            Some(book) => book,
            None => {
                let book = Arc::new(IvBook::new(self.vault()?.reserved_ivs(key.secret()?)?));
                book.make_durable(|reserved| Ok(reserved.next..reserved.next))?;
                book
            }
        };
        self.iv_books.put(key.id, &book);
        Ok(key.keep_iv_book(book))
    }

    /// A copy of a key goes on in the book of its original.
    pub(super) fn share_iv_book(&self, original: &Object, copy: &Object) -> Result<()> {
        let Ok(secret) = original.secret() else { return Ok(()) };
        let book = copy.keep_iv_book(self.iv_book(original)?);
        if copy.is_token() {
            let vault = self.vault()?;
            book.make_durable(|reserved| vault.reserve_ivs(secret, reserved, 0))?;
            self.iv_books.put(copy.id, &book);
        }
        Ok(())
    }

    /// Enters the caller's IV of an operation that is about to give something out.
    ///
    /// # Errors
    /// [`Kind::MechanismParam`] when the key has met it.
    pub(super) fn spend_iv(&self, operation: &mut Operation) -> Result<()> {
        let key = operation.key.clone();
        match (operation.spend_iv(), key) {
            (Some(parameter), Some(key)) => self.spend_parameter(&key, parameter),
            _ => Ok(()),
        }
    }

    /// Enters the caller's IV in a parameter, if there is one.
    ///
    /// # Errors
    /// [`Kind::MechanismParam`] when the key has met it.
    pub(super) fn spend_parameter(&self, key: &Object, parameter: &Parameter) -> Result<()> {
        if self.config().policy.gcm_caller_iv {
            return Ok(());
        }
        match parameter {
            Parameter::Gcm { iv, .. } => self.iv_book(key)?.spend(CKM_AES_GCM.0, iv),
            Parameter::Ccm { nonce, .. } => self.iv_book(key)?.spend(CKM_AES_CCM.0, nonce),
            Parameter::Ctr { block, .. } => self.iv_book(key)?.spend(CKM_AES_CTR.0, block),
            _ => Ok(()),
        }
    }

    /// The parameter of one message with its IV: the caller's, or one that is made now; and whether it was made.
    ///
    /// # Errors
    /// [`Kind::MechanismParam`], [`Kind::ResourceExceeded`], [`Kind::Device`].
    pub(super) fn resolve_iv(&self, row: &Row, key: &Object, mut parameter: Parameter) -> Result<(Parameter, bool)> {
        let Parameter::AeadMessage { iv, fixed_bits, generator, .. } = &mut parameter else {
            return Err(Kind::MechanismParam.into());
        };
        let generator = Generator(*generator);
        if generator == CKG_NO_GENERATE {
            return Ok((single(row, parameter)?, false));
        }
        let book = self.iv_book(key)?;
        let (vault, secret) = (self.vault()?, key.secret()?);
        let wanted = Wanted { template: iv, fixed_bits: *fixed_bits, generator };
        *iv = book.make(row.number.0, wanted, |from| {
            if book.is_durable() {
                return vault.reserve_ivs(secret, from, BLOCK);
            }
            let end = from.next.checked_add(BLOCK).ok_or_else(|| Error::from(Kind::ResourceExceeded))?;
            Ok(from.next..end)
        })?;
        Ok((single(row, parameter)?, true))
    }
}

/// The parameter that the mechanism takes for a single operation, of that of a message whose IV is settled.
///
/// # Errors
/// [`Kind::MechanismParam`].
pub(super) fn single(row: &Row, parameter: Parameter) -> Result<Parameter> {
    let Parameter::AeadMessage { iv, aad, tag_bits, data_len, .. } = parameter else {
        return Err(Kind::MechanismParam.into());
    };
    match row.scheme {
        Scheme::AesCcm if tag_bits.is_multiple_of(8) => {
            Ok(Parameter::Ccm { data_len, nonce: iv, aad, mac_len: tag_bits / 8 })
        }
        Scheme::AesGcm => Ok(Parameter::Gcm { iv, aad, tag_bits }),
        _ => Err(Kind::MechanismParam.into()),
    }
}

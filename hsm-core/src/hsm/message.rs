//! Message-based operations (PKCS#11 v3.0 sections 5.9, 5.11, 5.14 and 5.16): many messages under one mechanism and key.
//!
//! What C_MessageEncryptInit and its like said is remembered by the caller, who sends it along: a message is an operation of its
//! own, in one piece or in several, and is admitted and recorded like any other.

use super::crypto::{act_of, give_back};
use super::iv::single;
use super::{Caller, Hsm};
use crate::act;
use crate::audit::Fact;
use crate::error::{Error, Kind, Result};
use crate::mechanism::params::Parameter;
use crate::mechanism::row::Row;
use crate::object::Object;
use crate::perform::Work;
use crate::session::kind::OperationKind;
use crate::session::operation::{Begin, Operation, check_capacity};

/// Which part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessagePart {
    /// All of it: C_EncryptMessage and its like.
    Whole,
    /// C_EncryptMessageBegin and its like: parameter and associated data.
    Begin,
    /// C_EncryptMessageNext and its like, with more to come.
    Next,
    /// The last one.
    End,
}

/// A message or a part of one.
#[derive(Debug)]
pub struct MessagePiece<'a> {
    /// One of the message kinds.
    pub kind: OperationKind,
    /// Which part.
    pub part: MessagePart,
    /// Mechanism, key and the message's parameter, with [`MessagePart::Whole`] and [`MessagePart::Begin`].
    pub begin: Option<Begin>,
    /// Plaintext, ciphertext or signed data.
    pub data: &'a [u8],
    /// At the end of a decryption the tag, of a verification the signature.
    pub check: &'a [u8],
    /// The caller's buffer in bytes; none is no limit.
    pub capacity: Option<u64>,
}

/// What comes out.
#[derive(Debug, Default)]
pub struct Message {
    /// Ciphertext, plaintext or signature.
    pub output: Vec<u8>,
    /// The IV that is used, with the first part of an encryption.
    pub iv: Vec<u8>,
    /// The tag, with the end of an encryption.
    pub tag: Vec<u8>,
}

impl Hsm {
    /// C_EncryptMessage, C_EncryptMessageBegin, C_EncryptMessageNext, and the same for decryption, signing and verification.
    ///
    /// # Errors
    /// What admission and the crypto room say; [`Kind::BufferTooSmall`] leaves the message as it was, every other error ends it.
    pub fn message(&self, caller: &Caller, session: u64, piece: MessagePiece<'_>) -> Result<Message> {
        // As with other operations the first piece and the end are recorded, the pieces between are not.
        let act = if piece.part == MessagePart::Next { &act::CHECK } else { act_of(piece.kind) };
        self.perform(caller, act, session, |work| {
            if piece.kind.form() == piece.kind {
                return Err(Error::new(Kind::ArgumentsBad, "this kind of operation has no messages"));
            }
            if piece.part == MessagePart::Begin {
                work.fact("phase", Fact::word("begin"));
            } else {
                work.fact("bytes", Fact::number(piece.data.len() as u64));
            }
            let MessagePiece { kind, part, begin, data, check, capacity } = piece;
            let opens = matches!(part, MessagePart::Whole | MessagePart::Begin);
            if opens != begin.is_some() {
                return Err(Error::new(Kind::ArgumentsBad, "the first part of a message names mechanism and key"));
            }
            let (operation, opened) = self.current(work, kind, begin)?;
            if part != MessagePart::Whole && !operation.row.multi_part {
                let what = format!("{} takes its data in one piece", operation.mechanism());
                return Err(Error::new(Kind::NotSupported, what));
            }
            match part {
                MessagePart::Begin => self.begin_message(work, kind, operation),
                MessagePart::Next => next(work, kind, operation, data, capacity),
                MessagePart::Whole | MessagePart::End => {
                    let room = Room { capacity, kept: part == MessagePart::End };
                    self.end_message(work, kind, operation, (data, check), room).inspect_err(|error| {
                        if let (Kind::BufferTooSmall, Some(context)) = (error.kind(), opened) {
                            give_back(work, context);
                        }
                    })
                }
            }
        })
    }

    fn begin_message(&self, work: &Work<'_>, kind: OperationKind, mut operation: Operation) -> Result<Message> {
        self.spend_iv(&mut operation)?;
        let iv = made_public(kind, &operation);
        work.session.operations.lock().put(kind, operation);
        Ok(Message { iv, ..Message::default() })
    }

    /// The last piece, which may be the only one.
    fn end_message(
        &self,
        work: &Work<'_>,
        kind: OperationKind,
        mut operation: Operation,
        (data, check): (&[u8], &[u8]),
        room: Room,
    ) -> Result<Message> {
        if let Some(len) = operation.message_len(kind, data.len())
            && let Err(error) = check_capacity(room.capacity, len)
        {
            if room.kept {
                work.session.operations.lock().put(kind, operation);
            }
            return Err(error);
        }
        let output = operation.update(data, None)?;
        if kind.form() == OperationKind::Verify {
            return operation.verify(check).map(|()| Message::default());
        }
        operation.check_len()?;
        self.spend_iv(&mut operation)?;
        match kind.form() {
            OperationKind::Encrypt => {
                let iv = made_public(kind, &operation);
                Ok(Message { output, iv, tag: operation.seal()? })
            }
            OperationKind::Decrypt => {
                operation.check_tag_len(check)?;
                operation.update(check, None)?;
                Ok(Message { output: operation.finish(kind)?, ..Message::default() })
            }
            _ => Ok(Message { output: operation.finish(kind)?, ..Message::default() }),
        }
    }

    /// The parameter with which a message is carried out; and whether the token made its IV.
    pub(super) fn message_parameter(
        &self,
        kind: OperationKind,
        row: &Row,
        key: &Object,
        parameter: Parameter,
    ) -> Result<(Parameter, bool)> {
        match kind {
            OperationKind::MessageEncrypt => self.resolve_iv(row, key, parameter),
            // Whoever decrypts names the IV; how it was made is not asked.
            _ => Ok((single(row, parameter)?, false)),
        }
    }
}

/// The caller's buffer, and whether the operation outlives one that is too small.
struct Room {
    capacity: Option<u64>,
    kept: bool,
}

/// The IV as the caller gets it back.
fn made_public(kind: OperationKind, operation: &Operation) -> Vec<u8> {
    if kind.form() == OperationKind::Encrypt { operation.iv().to_vec() } else { Vec::new() }
}

fn next(
    work: &Work<'_>,
    kind: OperationKind,
    mut operation: Operation,
    data: &[u8],
    capacity: Option<u64>,
) -> Result<Message> {
    match operation.update(data, capacity) {
        Err(error) if error.kind() != Kind::BufferTooSmall => Err(error),
        result => {
            work.session.operations.lock().put(kind, operation);
            result.map(|output| Message { output, ..Message::default() })
        }
    }
}

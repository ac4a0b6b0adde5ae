//! What a witness of another journal does: it holds the newest checkpoint that it was shown, and takes a later one only if that tree holds
//! everything of the earlier one and its signature is by the key that the earlier ones lead to.
//!
//! Pure: whoever keeps the result decides where.

use data_encoding::HEXLOWER;

use super::checkpoint::{self, Checkpoint, JOURNAL_KEY, Note};
use super::follow::Step;
use super::keys::{Pin, PublicKey};
use super::merkle::{self, Tree};
use super::record::Record;

/// What a witness holds of one journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    note: String,
    checkpoint: Checkpoint,
    tree: Tree,
    key: Pin,
}

/// Why a step is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message is none.
    #[error("the checkpoint is malformed")]
    Malformed,
    /// The step begins somewhere else than where the witness is.
    #[error("the witness holds a checkpoint of {0} records, and the step begins elsewhere")]
    Elsewhere(u64),
    /// The journal has become shorter.
    #[error(
        "the journal was cut or rolled back: a checkpoint of {held} records was witnessed, and this one is of {told}"
    )]
    Shrunk {
        /// What was witnessed.
        held: u64,
        /// What is said now.
        told: u64,
    },
    /// Another history of the same length.
    #[error("the journal was rewritten: another checkpoint of {0} records was witnessed")]
    Forked(u64),
    /// The lines between do not lead from one root to the other.
    #[error(
        "the journal was rewritten, or the step is wrong: what was witnessed does not lead to this checkpoint of {0} records"
    )]
    Inconsistent(u64),
    /// Not by the key that the earlier checkpoints lead to.
    #[error("the checkpoint is not signed by the journal's key")]
    Signature,
}

/// Whether a witness that holds this takes a step; what it holds then. `trusted` are the keys that are known from elsewhere: of the first
/// checkpoint, and of each that its predecessor did not sign for.
///
/// # Errors
/// [`Refusal`]; what is held stays what it was.
pub fn judge(held: Option<&Held>, trusted: &[Pin], step: &Step) -> Result<Held, Refusal> {
    let note = Note::parse(&step.note).ok_or(Refusal::Malformed)?;
    let told = &note.checkpoint;
    if let Some(Held { checkpoint: held, .. }) = held {
        match told.size.cmp(&held.size) {
            _ if told.origin != held.origin => return Err(Refusal::Malformed),
            core::cmp::Ordering::Less => return Err(Refusal::Shrunk { held: held.size, told: told.size }),
            core::cmp::Ordering::Equal if told.root != held.root => return Err(Refusal::Forked(told.size)),
            _ => {}
        }
    }
    let mut tree = held.map(|held| held.tree.clone()).unwrap_or_default();
    if step.from != tree.size() {
        return Err(Refusal::Elsewhere(tree.size()));
    }
    let announced = grow(&mut tree, told.size, step)?;
    if tree.root() != told.root {
        return Err(Refusal::Inconsistent(told.size));
    }
    let expected = match held {
        Some(held) => core::slice::from_ref(&held.key),
        None => trusted,
    };
    let made = |pin: &Pin| pin.key(step.ml_dsa_44_key.as_deref()).is_some_and(|key| note.is_by(&key));
    let by = expected.iter().copied().find(made);
    // A key that nobody signed for must be known, with as many halves as the one before has.
    let both = held.is_some_and(|held| held.key.is_of_both());
    let known = |key: &PublicKey| trusted.iter().any(|pin| pin.fits(key) && (pin.is_of_both() || !both));
    let by = by.or_else(|| announced.as_ref().filter(|key| known(key) && note.is_by(key)).map(PublicKey::pin));
    let by = by.ok_or(Refusal::Signature)?;
    let key = announced.map_or(by, |key| key.pin());
    Ok(Held { note: step.note.clone(), checkpoint: note.checkpoint, tree, key })
}

/// Adds what lies between; gives the key that is announced there.
fn grow(tree: &mut Tree, size: u64, step: &Step) -> Result<Option<PublicKey>, Refusal> {
    let fits = |fits: bool| if fits { Ok(()) } else { Err(Refusal::Inconsistent(size)) };
    let Some(line) = &step.announcement else {
        fits(step.after.is_empty() && tree.extend(size, &step.before))?;
        return Ok(None);
    };
    let record = Record::parse(line).map_err(|_| Refusal::Malformed)?;
    let key = checkpoint::announced(&record).filter(|_| record.op == JOURNAL_KEY).ok_or(Refusal::Malformed)?;
    fits((1..=size).contains(&record.seq) && tree.extend(record.seq - 1, &step.before))?;
    tree.push(merkle::leaf(line));
    fits(tree.extend(size, &step.after))?;
    Ok(Some(key))
}

/// Before what a witness must know beside the note.
const KEY: &str = "next key ";
const PEAKS: &str = "peaks ";

impl Held {
    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signed note.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The key with which the next checkpoint must be signed.
    pub fn key(&self) -> &Pin {
        &self.key
    }

    /// The file of a witness: the note, an empty line, the key and the roots of the tree's perfect subtrees.
    pub fn to_text(&self) -> String {
        let (key, peaks) = (self.key, HEXLOWER.encode(&self.tree.peaks().concat()));
        format!("{}\n{KEY}{key}\n{PEAKS}{peaks}\n", self.note)
    }

    /// Reads [`Held::to_text`]; `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let (note, rest) = text.rsplit_once("\n\n")?;
        let note = format!("{note}\n");
        let checkpoint = Note::parse(&note)?.checkpoint;
        let (key, peaks) = rest.strip_prefix(KEY)?.strip_suffix('\n')?.split_once('\n')?;
        let key = Pin::from_bytes(&HEXLOWER.decode(key.as_bytes()).ok()?)?;
        let peaks = HEXLOWER.decode(peaks.strip_prefix(PEAKS)?.as_bytes()).ok()?;
        let peaks = peaks.chunks(32).map(|peak| peak.try_into().ok()).collect::<Option<Vec<_>>>()?;
        let tree = Tree::from_peaks(checkpoint.size, peaks).filter(|tree| tree.root() == checkpoint.root)?;
        Some(Held { note, checkpoint, tree, key })
    }
}

//! The certificate authorities: what they are, what they issue and how it is taken back.
//!
//! Nothing here hears the network. Times are given as seconds since 1970.

pub(crate) mod authority;
pub(crate) mod blocklist;
pub(crate) mod guard;
pub(crate) mod hierarchy;
pub(crate) mod hindsight;
pub(crate) mod import;
pub(crate) mod issue;
pub(crate) mod key;
pub(crate) mod message;
pub(crate) mod plan;
pub(crate) mod profile;
pub(crate) mod reconcile;
pub(crate) mod revoke;
pub(crate) mod rollover;
pub(crate) mod serial;
pub(crate) mod sweep;
pub(crate) mod validity;

use crate::clock::instant_text;
use crate::file::FileFault;
use crate::store::record::{self, AuthorityState, Certificate, CrlList};
use crate::store::{Change, Store, StoreError};
use crate::token::{Token, TokenError};
use crate::x509::algorithm::KeySpec;
use crate::x509::lint::Findings;
use authority::Authority;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Most certificates that are revoked, or looked at again, in one change.
const PIECE: usize = 250;

/// The desk at which certificates are issued: what every act of the authorities needs.
#[derive(Clone)]
pub(crate) struct Desk {
    /// Where the keys are.
    pub(crate) token: Arc<Token>,
    /// What is remembered.
    pub(crate) store: Arc<dyn Store>,
    /// Where relying parties find what is published.
    pub(crate) publication: Publication,
    /// Begin of the labels of our keys.
    pub(crate) key_label_prefix: String,
    /// Kind of the key that signs the journal's checkpoints.
    pub(crate) journal_key: KeySpec,
    /// Whether the token guards the keys of new authorities.
    pub(crate) guard: guard::GuardRules,
    /// Keys for which nothing is certified.
    pub(crate) blocklist: Arc<blocklist::Blocklist>,
    /// Authorities as they were read last.
    pub(crate) parsed: Parsed,
}

/// Authorities that were read before, so that a certificate is not decoded for each that it signs.
#[derive(Clone, Default)]
pub(crate) struct Parsed(Arc<Mutex<HashMap<String, Arc<Authority>>>>);

/// How many keys of one name may follow each other: a bound for a walk, not for people.
const MAX_SUCCESSIONS: usize = 64;
/// How many authorities a chain may have.
const MAX_CHAIN: usize = 16;

impl Desk {
    /// An authority as it stands now: the state is read anew, the certificate decoded once.
    ///
    /// # Errors
    /// [`CaError::NoAuthority`], or a failing store.
    pub(crate) fn authority(&self, id: &str) -> Result<Arc<Authority>, CaError> {
        let stored = self.store.authority(id)?.ok_or_else(|| CaError::NoAuthority(id.to_owned()))?;
        let mut parsed = self.parsed.0.lock();
        if let Some(known) = parsed.get(id)
            && known.certificate == stored.certificate
            && known.state == stored.state()
            && known.successor == stored.successor
        {
            return Ok(Arc::clone(known));
        }
        let fresh = Arc::new(Authority::of(self.store.as_ref(), stored)?);
        parsed.insert(id.to_owned(), Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Every authority by name.
    ///
    /// # Errors
    /// A failing store.
    pub(crate) fn authorities(&self) -> Result<Vec<Arc<Authority>>, CaError> {
        self.store.authorities()?.iter().map(|stored| self.authority(&stored.id)).collect()
    }

    /// The newest key of an authority's name.
    ///
    /// # Errors
    /// [`CaError::NoAuthority`], or a failing store.
    pub(crate) fn newest(&self, id: &str) -> Result<Arc<Authority>, CaError> {
        let mut authority = self.authority(id)?;
        for _ in 0..MAX_SUCCESSIONS {
            if authority.successor.is_empty() {
                break;
            }
            authority = self.authority(&authority.successor)?;
        }
        Ok(authority)
    }

    /// The authority that issues under a name: the newest of its keys, if it is active and has its key.
    ///
    /// # Errors
    /// [`CaError::Idle`] when it issues nothing.
    pub(crate) fn issuer(&self, id: &str) -> Result<Arc<Authority>, CaError> {
        let authority = self.newest(id)?;
        if !authority.has_key() {
            return Err(CaError::CertificateOnly(authority.id.clone()));
        }
        match authority.state {
            AuthorityState::Active => Ok(authority),
            state => Err(CaError::Idle { id: authority.id.clone(), state: state.word() }),
        }
    }

    /// An authority and those above it, nearest first.
    ///
    /// # Errors
    /// A failing store.
    pub(crate) fn chain(&self, id: &str) -> Result<Vec<Arc<Authority>>, CaError> {
        let mut chain = vec![self.authority(id)?];
        while let Some(last) = chain.last()
            && !last.parent.is_empty()
            && chain.len() < MAX_CHAIN
        {
            let parent = self.authority(&last.parent)?;
            chain.push(parent);
        }
        Ok(chain)
    }

    /// The authority that certifies the services of the house. A PKI that was founded before there was an internal authority goes
    /// on with its issuing one.
    ///
    /// # Errors
    /// When neither issues.
    pub(crate) fn services_issuer(&self) -> Result<Arc<Authority>, CaError> {
        match self.issuer(record::INTERNAL) {
            Err(CaError::NoAuthority(_)) => self.issuer(record::ISSUING),
            answer => answer,
        }
    }

    /// A certificate of the house as it is shown to others: followed by those above it, without the root.
    ///
    /// # Errors
    /// A failing store.
    pub(crate) fn shown_chain(&self, certificate: &Certificate) -> Result<Vec<Vec<u8>>, CaError> {
        let mut chain = vec![certificate.der.clone()];
        let above = self.chain(&certificate.authority)?;
        let between = above.iter().filter(|authority| !authority.is_root());
        chain.extend(between.map(|authority| authority.certificate.clone()));
        Ok(chain)
    }

    /// The certificates of an authority and of those above it, nearest first, as a client needs them. During the change of a
    /// root's key they are followed by those that lead from one key to the other.
    ///
    /// # Errors
    /// A failing store.
    pub(crate) fn chain_certificates(&self, id: &str) -> Result<Vec<Vec<u8>>, CaError> {
        let chain = self.chain(id)?;
        let mut certificates: Vec<Vec<u8>> = chain.iter().map(|authority| authority.certificate.clone()).collect();
        if let Some(top) = chain.last() {
            certificates.extend(top.imported_chain.iter().cloned());
            certificates.extend(rollover::links(self, top)?);
        }
        Ok(certificates)
    }

    /// Notes that the token may have made one more signature with an authority's key than we know.
    ///
    /// # Errors
    /// [`TokenError::NotNoted`].
    pub(crate) fn note_doubt(&self, authority: &str) -> Result<(), TokenError> {
        let change = Change::SignatureIntended { authority: authority.to_owned() };
        self.store.commit(change).map_err(|fault| TokenError::NotNoted(fault.to_string()))
    }

    /// The certificates that a client certificate may be verified with: of every authority whose key is ours, unless it or one above it
    /// was revoked.
    ///
    /// # Errors
    /// A failing store.
    pub(crate) fn anchors(&self) -> Result<Vec<Vec<u8>>, CaError> {
        Ok(anchors_among(&self.store.authorities()?))
    }
}

fn anchors_among(all: &[record::Authority]) -> Vec<Vec<u8>> {
    let named = |id: &str| all.iter().find(|authority| authority.id == id);
    let stands = |authority: &&record::Authority| {
        let chain = std::iter::successors(Some(*authority), |below| named(&below.parent)).take(MAX_CHAIN);
        chain.into_iter().all(|above| above.revoked_at == 0)
    };
    let ours = all.iter().filter(|authority| !authority.key_role.is_empty());
    ours.filter(stands).map(|authority| authority.certificate.clone()).collect()
}

/// Where relying parties find what is published: the addresses that are written into certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publication {
    /// Begin of the addresses, without final slash.
    pub(crate) base_url: String,
    /// Address of the OCSP responder; none when there is none.
    pub(crate) ocsp_url: Option<String>,
    /// Into how many shards the CRLs of new certificates are divided; 0 for one list that is whole.
    pub(crate) crl_shards: u32,
}

impl Publication {
    /// Into how many shards the CRL of an authority is divided. The root issues too little to be divided.
    pub(crate) fn shards(&self, authority: &str) -> u32 {
        if authority == record::ROOT { 0 } else { self.crl_shards }
    }

    /// The shard of a new certificate, from its serial number; 0 for the list that is whole.
    pub(crate) fn shard(&self, authority: &str, serial: &[u8]) -> u32 {
        let shards = self.shards(authority);
        let tail = serial.iter().rev().take(4).rev().fold(0u32, |sum, octet| sum << 8 | u32::from(*octet));
        if shards == 0 { 0 } else { 1 + tail % shards }
    }

    /// The address of a CRL.
    pub(crate) fn crl_url(&self, list: &CrlList) -> String {
        format!("{}/crl/{}.crl", self.base_url, list.name())
    }

    /// The address of an authority's certificate.
    pub(crate) fn issuer_url(&self, authority: &str) -> String {
        format!("{}/ca/{authority}.cer", self.base_url)
    }
}

/// Why an authority did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CaError {
    /// The token failed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store failed or the change does not fit.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Our own certificate breaks our own rules.
    #[error(transparent)]
    Lint(#[from] Findings),
    /// The token's signature is false in the eyes of the second implementation.
    #[error("the token's signature with the key '{0}' does not verify: nothing was issued")]
    FalseSignature(String),
    /// The key in the token is not the one of the certificate.
    #[error("the key '{0}' in the token is not the one in the certificate of the same role: is this the right token?")]
    WrongKey(String),
    /// There is no such authority.
    #[error("there is no authority '{0}'")]
    NoAuthority(String),
    /// The authority issues nothing now.
    #[error("the authority '{id}' is {state}: it issues nothing")]
    Idle {
        /// Its name.
        id: String,
        /// Its state.
        state: &'static str,
    },
    /// Only the certificate of the authority is here.
    #[error("only the certificate of the authority '{0}' is here, not its key: it can sign nothing")]
    CertificateOnly(String),
    /// The change does not fit the hierarchy.
    #[error("{0}")]
    Hierarchy(String),
    /// The key is on the list of compromised ones.
    #[error("the public key {0} (SHA-256) is on the list of compromised keys: nothing is certified for it")]
    KeyBlocked(String),
    /// A name that an authority above must not certify.
    #[error("the name constraints of the authority '{id}' do not allow {name}")]
    NameConstraint {
        /// The authority that is constrained.
        id: String,
        /// The name.
        name: String,
    },
    /// Something that must be there is not.
    #[error("this PKI is not initialised: run `craton-pki init`")]
    NotInitialised,
    /// The store came from a backup.
    #[error(
        "this store was restored from a backup of {}: what was issued and revoked since is not in it. Give what is known of that to \
         `craton-pki reconcile` (--crl, --certificate), and end with `craton-pki reconcile --accept`",
        instant_text(*.0)
    )]
    Restored(i64),
    /// What is to be taken up is not ours, or does not fit.
    #[error("{0}")]
    Reconcile(String),
    /// The token holds a key of ours that this store does not know.
    #[error(
        "the token already holds a key labelled '{0}' that this state_dir knows nothing of: choose another token.key_label_prefix, or restore the state_dir that made it"
    )]
    ForeignKey(String),
    /// The operating system's randomness failed.
    #[error("no randomness can be had from the operating system")]
    Randomness,
    /// Something did not encode.
    #[error("an ASN.1 value does not encode: {0}")]
    Encoding(String),
    /// The issuer is not in force yet, by our clock.
    #[error("by the clock of this machine the authority '{0}' begins only at {begins}: it signs nothing until the clock is right", begins = instant_text(*.1))]
    NotBegun(String, i64),
    /// The issuer is over.
    #[error(
        "the authority '{0}' has ended: it signs nothing. If that is too early, the clock of this machine is wrong"
    )]
    Ended(String),
    /// The issuer has too little time left.
    #[error("the authority '{0}' expires too soon to issue anything")]
    IssuerExpires(String),
    /// A file could not be written.
    #[error("{0}")]
    File(String),
}

impl From<FileFault> for CaError {
    fn from(fault: FileFault) -> Self {
        Self::File(fault.to_string())
    }
}

impl From<der::Error> for CaError {
    fn from(fault: der::Error) -> Self {
        Self::Encoding(fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_trusted_below_a_revoked_authority() {
        let authority = |id: &str, parent: &str, key_role: &str, revoked_at| record::Authority {
            id: id.to_owned(),
            parent: parent.to_owned(),
            key_role: key_role.to_owned(),
            certificate: id.as_bytes().to_vec(),
            revoked_at,
            ..record::Authority::default()
        };
        let all = [
            authority("root", "", "root", 0),
            authority("issuing", "root", "issuing", 0),
            authority("lost", "root", "lost", 7),
            authority("below-lost", "lost", "below-lost", 0),
            authority("elsewhere", "", "", 0),
            authority("old-root", "", "old-root", 7),
            authority("below-old-root", "old-root", "below-old-root", 0),
        ];
        assert_eq!(anchors_among(&all), [b"root".to_vec(), b"issuing".to_vec()]);
    }
}

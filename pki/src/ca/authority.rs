//! An authority as the rest of the house sees it: its name, its certificate and the name of its key in the token.

use super::{CaError, Desk};
use crate::store::Store;
use crate::store::kind::AuthorityKind;
use crate::store::record::{self, AuthorityState, ISSUING, ROOT};
use crate::token::KeyRef;
use crate::x509::algorithm::KeySpec;
use crate::x509::lint::IssuerFacts;
use crate::x509::{extension, tbs, unix_seconds, verify};
use der::{Decode, Encode};
use spki::SubjectPublicKeyInfoOwned;
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, NameConstraints, SubjectKeyIdentifier};
use x509_cert::name::Name;

/// An authority.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    /// Its name in the configuration and in commands.
    pub(crate) id: String,
    /// What it is for.
    pub(crate) kind: AuthorityKind,
    /// Whether it issues.
    pub(crate) state: AuthorityState,
    /// The authority that signed its certificate; empty for a root and for one whose parent is not here.
    pub(crate) parent: String,
    /// The authority with the next key of the same name, empty when there is none.
    pub(crate) successor: String,
    /// The certificates above an imported one, nearest first.
    pub(crate) imported_chain: Vec<Vec<u8>>,
    /// How many authorities may follow it on a path; none for no limit.
    pub(crate) path_length: Option<u8>,
    /// The names it may certify; none for no limit.
    pub(crate) constraints: Option<NameConstraints>,
    /// Its certificate.
    pub(crate) certificate: Vec<u8>,
    /// Its name.
    pub(crate) name: Name,
    name_der: Vec<u8>,
    /// Its public key.
    pub(crate) spki: SubjectPublicKeyInfoOwned,
    /// Its key identifier.
    pub(crate) key_id: Vec<u8>,
    /// When its certificate begins.
    pub(crate) not_before: i64,
    /// When it expires.
    pub(crate) not_after: i64,
    /// Its key in the token; without id when only its certificate is here.
    pub(crate) key: KeyRef,
}

/// The name of a planned key in the token.
///
/// # Errors
/// A plan with an unknown kind of key.
pub(crate) fn key_ref(plan: &record::KeyPlan) -> Result<KeyRef, CaError> {
    let spec = plan.spec.parse().map_err(CaError::Encoding)?;
    Ok(KeyRef { id: plan.key_id.clone(), label: plan.label.clone(), spec, guarded: !plan.policy.is_empty() })
}

impl Authority {
    /// An authority that has no certificate yet: the root while it signs its own.
    ///
    /// # Errors
    /// A name that does not encode.
    pub(crate) fn nascent(
        id: &str,
        name: Name,
        spki: SubjectPublicKeyInfoOwned,
        not_after: i64,
        key: KeyRef,
    ) -> Result<Self, CaError> {
        Ok(Self {
            id: id.to_owned(),
            kind: AuthorityKind::Root,
            state: AuthorityState::Active,
            parent: String::new(),
            successor: String::new(),
            imported_chain: Vec::new(),
            path_length: None,
            constraints: None,
            certificate: Vec::new(),
            name_der: name.to_der()?,
            name,
            key_id: extension::key_identifier(&spki),
            spki,
            not_before: i64::MIN,
            not_after,
            key,
        })
    }

    /// The stored authority.
    ///
    /// # Errors
    /// [`CaError::NotInitialised`] when there is none.
    pub(crate) fn load(store: &dyn Store, id: &str) -> Result<Self, CaError> {
        let stored = store.authority(id)?.ok_or_else(|| match id {
            ROOT | ISSUING => CaError::NotInitialised,
            other => CaError::NoAuthority(other.to_owned()),
        })?;
        Self::of(store, stored)
    }

    /// The authority of a record.
    ///
    /// # Errors
    /// When its key is not planned or its certificate does not decode.
    pub(crate) fn of(store: &dyn Store, stored: record::Authority) -> Result<Self, CaError> {
        let parsed = Certificate::from_der(&stored.certificate)?;
        let facts = parsed.tbs_certificate();
        let spki = facts.subject_public_key_info().clone();
        let key = match stored.key_role.as_str() {
            "" => {
                let spec = KeySpec::of(&spki).map_err(|fault| CaError::Encoding(fault.to_string()))?;
                KeyRef { id: Vec::new(), label: String::new(), spec, guarded: false }
            }
            role => key_ref(&store.key_plan(role)?.ok_or(CaError::NotInitialised)?)?,
        };
        let not_after = unix_seconds(&facts.validity().not_after);
        let mut authority = Self::nascent(&stored.id, facts.subject().clone(), spki, not_after, key)?;
        authority.not_before = unix_seconds(&facts.validity().not_before);
        authority.kind = AuthorityKind::of(&stored);
        authority.state = stored.state();
        authority.path_length =
            facts.get_extension::<BasicConstraints>()?.and_then(|(_, value)| value.path_len_constraint);
        authority.constraints = facts.get_extension::<NameConstraints>()?.map(|(_, value)| value);
        // What the certificate itself says, so that what it signs names it by the same identifier.
        if let Some((_, id)) = facts.get_extension::<SubjectKeyIdentifier>()? {
            authority.key_id = id.0.as_bytes().to_vec();
        }
        authority.parent = stored.parent;
        authority.successor = stored.successor;
        authority.imported_chain = stored.chain;
        authority.certificate = stored.certificate;
        Ok(authority)
    }

    /// True when its key is in the token, so that it can sign.
    pub(crate) fn has_key(&self) -> bool {
        !self.key.id.is_empty()
    }

    /// That its certificate is good now: nobody would believe what it signs.
    ///
    /// # Errors
    /// [`CaError::NotBegun`], [`CaError::Ended`].
    pub(crate) fn in_force(&self, now: i64) -> Result<(), CaError> {
        if now < self.not_before {
            return Err(CaError::NotBegun(self.id.clone(), self.not_before));
        }
        if now >= self.not_after { Err(CaError::Ended(self.id.clone())) } else { Ok(()) }
    }

    /// True when it signed its own certificate.
    pub(crate) fn is_root(&self) -> bool {
        self.parent.is_empty() && self.imported_chain.is_empty()
    }

    /// What the linter must know.
    pub(crate) fn facts(&self) -> IssuerFacts<'_> {
        IssuerFacts { name_der: &self.name_der, key_id: &self.key_id, not_after: self.not_after }
    }

    /// Has the token sign a to-be-signed structure, verifies the signature with the other implementation and joins both.
    ///
    /// # Errors
    /// When the token fails, or [`CaError::FalseSignature`].
    pub(crate) fn sign(&self, desk: &Desk, tbs: &[u8]) -> Result<Vec<u8>, CaError> {
        if !self.has_key() {
            return Err(CaError::CertificateOnly(self.id.clone()));
        }
        let spec = self.key.spec;
        let note = || desk.note_doubt(&self.id);
        let signature = desk.token.sign_noting(&self.key, spec.certificate_scheme(), tbs, &note)?;
        verify::verify(&self.spki, &spec.signature_algorithm(), tbs, &signature)
            .map_err(|_| CaError::FalseSignature(self.key.label.clone()))?;
        Ok(tbs::join(tbs, spec.signature_algorithm(), &signature)?)
    }
}

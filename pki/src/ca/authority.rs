//! An authority as the rest of the house sees it: its name, its certificate and the name of its key in the token.

use super::{CaError, Desk};
use crate::store::Store;
use crate::store::record;
use crate::token::KeyRef;
use crate::x509::lint::IssuerFacts;
use crate::x509::{extension, tbs, unix_seconds, verify};
use der::{Decode, Encode};
use spki::SubjectPublicKeyInfoOwned;
use x509_cert::Certificate;
use x509_cert::name::Name;

/// The root authority.
pub(crate) const ROOT: &str = "root";
/// The issuing authority.
pub(crate) const ISSUING: &str = "issuing";
/// The TLS server: not an authority, but a key of the house.
pub(crate) const SERVER: &str = "server";

/// An authority that can sign.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    /// root or issuing.
    pub(crate) id: String,
    /// Its certificate.
    pub(crate) certificate: Vec<u8>,
    /// Its name.
    pub(crate) name: Name,
    name_der: Vec<u8>,
    /// Its public key.
    pub(crate) spki: SubjectPublicKeyInfoOwned,
    /// Its key identifier.
    pub(crate) key_id: Vec<u8>,
    /// When it expires.
    pub(crate) not_after: i64,
    /// Its key in the token.
    pub(crate) key: KeyRef,
}

/// The name of a planned key in the token.
///
/// # Errors
/// A plan with an unknown kind of key.
pub(crate) fn key_ref(plan: &record::KeyPlan) -> Result<KeyRef, CaError> {
    let spec = plan.spec.parse().map_err(CaError::Encoding)?;
    Ok(KeyRef { id: plan.key_id.clone(), label: plan.label.clone(), spec })
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
            certificate: Vec::new(),
            name_der: name.to_der()?,
            name,
            key_id: extension::key_identifier(&spki),
            spki,
            not_after,
            key,
        })
    }

    /// The stored authority.
    ///
    /// # Errors
    /// [`CaError::NotInitialised`] when there is none.
    pub(crate) fn load(store: &dyn Store, id: &str) -> Result<Self, CaError> {
        let stored = store.authority(id)?.ok_or(CaError::NotInitialised)?;
        let plan = store.key_plan(&stored.key_role)?.ok_or(CaError::NotInitialised)?;
        let parsed = Certificate::from_der(&stored.certificate)?;
        let facts = parsed.tbs_certificate();
        let mut authority = Self::nascent(
            id,
            facts.subject().clone(),
            facts.subject_public_key_info().clone(),
            unix_seconds(&facts.validity().not_after),
            key_ref(&plan)?,
        )?;
        authority.certificate = stored.certificate;
        Ok(authority)
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
        let spec = self.key.spec;
        let signature = desk.token.sign(&self.key, spec.certificate_scheme(), tbs)?;
        verify::verify(&self.spki, &spec.signature_algorithm(), tbs, &signature)
            .map_err(|_| CaError::FalseSignature(self.key.label.clone()))?;
        Ok(tbs::join(tbs, spec.signature_algorithm(), &signature)?)
    }
}

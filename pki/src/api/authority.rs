//! Operators' commands about authorities.

use super::command::{CaImport, CaOrder, Fault};
use super::operator::Operator;
use super::view;
use crate::ca::authority::Authority;
use crate::ca::hierarchy;
use crate::ca::import::{self, Import};
use crate::ca::plan::Plan;
use crate::ca::rollover::{self, Next};
use crate::ca::validity;
use crate::clock::{self, DAY_SECONDS};
use crate::store::kind::AuthorityKind;
use crate::x509::algorithm::KeySpec;
use crate::x509::{constraint, ders_of_pem};
use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::{Value, json};
use std::str::FromStr;
use x509_cert::name::Name;

/// Longest validity that can be asked for, in days.
const MAX_DAYS: u32 = 36_500;

fn bad(fault: impl std::fmt::Display) -> Fault {
    Fault::new("bad_request", fault)
}

/// The days asked for, or those that are usual for the kind, and what is unusual about them.
fn days(kind: AuthorityKind, asked: Option<u32>) -> Result<(i64, Option<String>), Fault> {
    let usual = validity::named(kind.word()).or_else(|| validity::named("issuing"));
    let days = asked.or(usual.map(|usual| usual.default_days)).unwrap_or(1);
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(bad("validity_days must be 1 to 36500"));
    }
    Ok((i64::from(days) * DAY_SECONDS, usual.and_then(|usual| usual.remark(days))))
}

impl Operator {
    pub(super) fn ca_list(&self) -> Result<Value, Fault> {
        let mut items = Vec::new();
        for stored in self.store.authorities()? {
            let crl = self.store.crl_record(&stored.id)?;
            items.push(view::authority(&Authority::of(self.store.as_ref(), stored)?, crl.as_ref()));
        }
        if items.is_empty() {
            return Err(crate::ca::CaError::NotInitialised.into());
        }
        // Roots first, then by name.
        items.sort_by_key(|item| item.get("kind").and_then(Value::as_str) != Some("root"));
        Ok(json!({ "items": items, "next": null }))
    }

    pub(super) fn ca_show(&self, id: &str) -> Result<Value, Fault> {
        let crl = self.store.crl_record(id)?;
        Ok(view::authority(&Authority::load(self.store.as_ref(), id)?, crl.as_ref()))
    }

    pub(super) fn ca_create(&self, order: CaOrder) -> Result<Value, Fault> {
        let kind = AuthorityKind::named(&order.kind)
            .filter(|kind| *kind != AuthorityKind::Imported)
            .ok_or_else(|| bad(format!("unknown kind '{}': use root, intermediate or issuing", order.kind)))?;
        let (validity_seconds, remark) = days(kind, order.validity_days)?;
        let plan = Plan {
            id: order.id,
            kind,
            parent: order.parent,
            subject: Name::from_str(&order.subject).map_err(|fault| bad(format!("subject: {fault}")))?,
            key: order.key.parse::<KeySpec>().map_err(bad)?,
            validity_seconds,
            path_length: order.path_length,
            constraints: constraint::parse(&order.permit, &order.exclude).map_err(bad)?,
            predecessor: String::new(),
        };
        if plan.subject.is_empty() {
            return Err(bad("subject: it is empty"));
        }
        let office = (self.office)()?;
        let authority = hierarchy::create(office.desk(), &plan, clock::now())?;
        self.told(&authority.id, remark)
    }

    pub(super) fn ca_import(&self, asked: &CaImport) -> Result<Value, Fault> {
        let certificates =
            ders_of_pem(&asked.pem, "CERTIFICATE").ok_or_else(|| bad("the file is not PEM of certificates"))?;
        let (certificate, chain) = certificates.split_first().ok_or_else(|| bad("the file holds no certificate"))?;
        let key_id = match &asked.key_id {
            None => None,
            Some(text) => Some(
                HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .map_err(|_| bad("the id of the key is written in hexadecimal"))?,
            ),
        };
        let import = Import { id: asked.id.clone(), certificate: certificate.clone(), chain: chain.to_vec(), key_id };
        let office = (self.office)()?;
        import::import(office.desk(), &import, clock::now())?;
        self.told(&asked.id, None)
    }

    pub(super) fn ca_move(&self, id: &str, act: hierarchy::Act) -> Result<Value, Fault> {
        let moved = hierarchy::act(self.store.as_ref(), id, act, clock::now())?;
        Ok(view::authority(&moved, self.store.crl_record(id)?.as_ref()))
    }

    pub(super) fn ca_rollover(
        &self,
        id: &str,
        key: Option<String>,
        validity_days: Option<u32>,
    ) -> Result<Value, Fault> {
        let office = (self.office)()?;
        let desk = office.desk();
        let (validity_seconds, remark) = days(desk.newest(id)?.kind, validity_days)?;
        let key = key.map(|key| key.parse::<KeySpec>()).transpose().map_err(bad)?;
        let new = rollover::roll(desk, id, &Next { key, validity_seconds }, clock::now())?;
        self.told(&new.id, remark)
    }

    /// Publishes the first CRL of an authority that is new here, and shows it.
    fn told(&self, id: &str, remark: Option<String>) -> Result<Value, Fault> {
        let office = (self.office)()?;
        let authority = office.desk().authority(id)?;
        if authority.has_key() {
            office.publish(id, clock::now())?;
        }
        let mut view = view::authority(&authority, self.store.crl_record(id)?.as_ref());
        if let (Some(object), Some(remark)) = (view.as_object_mut(), remark) {
            object.insert("warning".to_owned(), remark.into());
        }
        Ok(view)
    }
}

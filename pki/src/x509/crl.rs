//! Certificate revocation lists (RFC 5280 section 5): entries, and the to-be-signed list around them.
//!
//! A list is made from the one before it: the entries that are still right are copied as bytes, so that a new list costs what
//! changed, and the copying.

use super::extension::{self, CrlScope};
use super::tlv::{self, Element, context};
use der::asn1::GeneralizedTime;
use der::{Encode, oid::ObjectIdentifier};
use spki::AlgorithmIdentifierOwned;
use std::collections::HashSet;
use std::time::Duration;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::CrlReason;
use x509_cert::name::Name;

/// id-ce-invalidityDate (RFC 5280 section 5.3.2).
const INVALIDITY_DATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.24");

/// DER of the version of a list with extensions (RFC 5280 section 5.1.2.1).
const VERSION_2: &[u8] = &[tlv::INTEGER, 1, 1];

/// Tags of the two kinds of times.
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// One certificate on a list.
pub(crate) struct Entry {
    /// Serial number, big endian.
    pub(crate) serial: Vec<u8>,
    /// When it was revoked, seconds since 1970.
    pub(crate) revoked_at: i64,
    /// Why.
    pub(crate) reason: CrlReason,
    /// Since when it is not to be relied upon; 0 for not known.
    pub(crate) invalid_since: i64,
}

/// The entries of a list, encoded one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entries(Vec<u8>);

impl Entries {
    /// The entries of a list that was signed before. `None` when it has not the form of ours: what is not recognised is not lost in
    /// silence.
    pub(crate) fn of_list(der: &[u8]) -> Option<Self> {
        let (list, _) = tlv::read(der).filter(|(_, rest)| rest.is_empty())?;
        let (tbs, _) = tlv::read(list.content)?;
        let fields: Vec<Element<'_>> = tlv::elements(tbs.content).collect();
        let read: usize = fields.iter().map(|field| field.whole.len()).sum();
        let [version, _algorithm, _issuer, this_update, next_update, rest @ ..] = fields.as_slice() else {
            return None;
        };
        let has_times = [this_update, next_update].iter().all(|time| matches!(time.tag, UTC_TIME | GENERALIZED_TIME));
        if read != tbs.content.len() || version.whole != VERSION_2 || !has_times {
            return None;
        }
        match rest {
            [extensions] if extensions.tag == context(0) => Some(Self::default()),
            [entries, extensions] if entries.tag == tlv::SEQUENCE && extensions.tag == context(0) => {
                Some(Self(entries.content.to_vec()))
            }
            _ => None,
        }
    }

    /// Takes these serial numbers off.
    pub(crate) fn remove(&mut self, serials: &HashSet<Vec<u8>>) {
        if serials.is_empty() {
            return;
        }
        let mut kept = Vec::with_capacity(self.0.len());
        for entry in tlv::elements(&self.0) {
            if !serial_of(&entry).is_some_and(|serial| serials.contains(serial)) {
                kept.extend_from_slice(entry.whole);
            }
        }
        self.0 = kept;
    }

    /// Puts a certificate on.
    ///
    /// # Errors
    /// Instants that have no encoding.
    pub(crate) fn add(&mut self, entry: &Entry) -> der::Result<()> {
        let mut extensions = Vec::new();
        if let Some(reason) = extension::reason_code(entry.reason)? {
            extensions.push(reason);
        }
        if entry.invalid_since != 0 {
            let seconds = u64::try_from(entry.invalid_since).map_err(|_| der::Error::from(der::ErrorKind::DateTime))?;
            let date = GeneralizedTime::from_unix_duration(Duration::from_secs(seconds))?;
            extensions.push(extension::plain(INVALIDITY_DATE, false, date.to_der()?)?);
        }
        let extensions = if extensions.is_empty() { Vec::new() } else { extensions.to_der()? };
        let revoked_at = super::time(entry.revoked_at)?.to_der()?;
        self.0.extend(tlv::write(tlv::SEQUENCE, &[&tlv::integer(&entry.serial), &revoked_at, &extensions]));
        Ok(())
    }

    /// The serial numbers, in their order.
    pub(crate) fn serials(&self) -> impl Iterator<Item = &[u8]> {
        tlv::elements(&self.0).filter_map(|entry| serial_of(&entry))
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        tlv::elements(&self.0).count()
    }
}

/// The serial number of an entry, without the zero that keeps it positive.
fn serial_of<'a>(entry: &Element<'a>) -> Option<&'a [u8]> {
    let (serial, _) = tlv::read(entry.content)?;
    let bytes = serial.content;
    Some(match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        bytes => bytes,
    })
}

/// What goes into a list. Instants are seconds since 1970.
pub(crate) struct Contents<'a> {
    /// Algorithm of the issuer's signature.
    pub(crate) algorithm: AlgorithmIdentifierOwned,
    /// Name of the issuer.
    pub(crate) issuer: &'a Name,
    /// Key identifier of the issuer.
    pub(crate) issuer_key_id: &'a [u8],
    /// cRLNumber.
    pub(crate) number: u64,
    /// When it was made.
    pub(crate) this_update: i64,
    /// When the next one will be there at the latest.
    pub(crate) next_update: i64,
    /// What it covers.
    pub(crate) scope: CrlScope<'a>,
    /// The revoked certificates.
    pub(crate) entries: &'a Entries,
}

/// DER of a to-be-signed version 2 list. `revokedCertificates` is absent when there is none (RFC 5280 section 5.1.2.6).
///
/// # Errors
/// Values that have no DER encoding.
pub(crate) fn encode(contents: &Contents<'_>) -> der::Result<Vec<u8>> {
    let mut extensions =
        vec![extension::authority_key_identifier(contents.issuer_key_id)?, extension::crl_number(contents.number)?];
    extensions.extend(extension::crl_scope(&contents.scope)?);
    let entries = &contents.entries.0;
    let entries = if entries.is_empty() { Vec::new() } else { tlv::write(tlv::SEQUENCE, &[entries]) };
    let extensions: Vec<Extension> = extensions;
    Ok(tlv::write(
        tlv::SEQUENCE,
        &[
            VERSION_2,
            &contents.algorithm.to_der()?,
            &contents.issuer.to_der()?,
            &super::time(contents.this_update)?.to_der()?,
            &super::time(contents.next_update)?.to_der()?,
            &entries,
            &tlv::write(context(0), &[&extensions.to_der()?]),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::KeySpec;
    use super::*;
    use der::Decode;
    use std::str::FromStr;
    use x509_cert::crl::CertificateList;

    fn entry(serial: &[u8], reason: CrlReason) -> Entry {
        Entry { serial: serial.to_vec(), revoked_at: 1_800_000_000, reason, invalid_since: 0 }
    }

    fn signed(entries: &Entries, scope: CrlScope<'_>) -> Vec<u8> {
        let algorithm = KeySpec::EcP256.signature_algorithm();
        let tbs = encode(&Contents {
            algorithm: algorithm.clone(),
            issuer: &Name::from_str("CN=Issuer").expect("parses"),
            issuer_key_id: &[7; 20],
            number: 300,
            this_update: 1_800_000_000,
            next_update: 1_800_086_400,
            scope,
            entries,
        });
        super::super::tbs::join(&tbs.expect("encodes"), algorithm, &[0; 70]).expect("joins")
    }

    const WHOLE: CrlScope<'_> = CrlScope { own_url: None, freshest_url: None, base_number: None };

    #[test]
    fn a_list_is_read_by_another_decoder() {
        let mut entries = Entries::default();
        entries.add(&entry(&[0x41; 16], CrlReason::KeyCompromise)).expect("adds");
        entries.add(&entry(&[0x80, 1], CrlReason::Unspecified)).expect("adds");
        entries.add(&Entry { invalid_since: 1_700_000_000, ..entry(&[3], CrlReason::CertificateHold) }).expect("adds");
        let list: CertificateList = CertificateList::from_der(&signed(&entries, WHOLE)).expect("decodes");
        let revoked = list.tbs_cert_list.revoked_certificates.expect("entries");
        let extensions: Vec<usize> =
            revoked.iter().map(|entry| entry.crl_entry_extensions.as_ref().map_or(0, Vec::len)).collect();
        assert_eq!(extensions, [1, 0, 2]);
        assert_eq!(revoked[1].serial_number.as_bytes(), [0, 0x80, 1]);
        assert_eq!(list.tbs_cert_list.crl_extensions.map(|list| list.len()), Some(2));
    }

    #[test]
    fn an_empty_list_has_no_entries_at_all() {
        let der = signed(&Entries::default(), WHOLE);
        let list: CertificateList = CertificateList::from_der(&der).expect("decodes");
        assert!(list.tbs_cert_list.revoked_certificates.is_none());
        assert_eq!(Entries::of_list(&der), Some(Entries::default()));
    }

    #[test]
    fn the_next_list_is_made_from_the_one_before() {
        let mut entries = Entries::default();
        for serial in [&[0x41, 1][..], &[0x80, 2], &[0x41, 3]] {
            entries.add(&entry(serial, CrlReason::Superseded)).expect("adds");
        }
        let mut next = Entries::of_list(&signed(&entries, WHOLE)).expect("reads");
        assert_eq!(next, entries);
        next.remove(&HashSet::from([vec![0x80, 2], vec![9, 9]]));
        assert_eq!(next.len(), 2);
        next.add(&entry(&[0x80, 2], CrlReason::KeyCompromise)).expect("adds");
        let list: CertificateList = CertificateList::from_der(&signed(&next, WHOLE)).expect("decodes");
        let serials: Vec<Vec<u8>> = list
            .tbs_cert_list
            .revoked_certificates
            .expect("entries")
            .iter()
            .map(|entry| entry.serial_number.as_bytes().to_vec())
            .collect();
        assert_eq!(serials, [vec![0x41, 1], vec![0x41, 3], vec![0, 0x80, 2]]);
    }

    #[test]
    fn a_list_of_another_form_is_not_taken_for_an_empty_one() {
        let mut entries = Entries::default();
        entries.add(&entry(&[0x41; 16], CrlReason::Superseded)).expect("adds");
        let good = signed(&entries, WHOLE);
        let (list, _) = tlv::read(&good).expect("reads");
        let (tbs, signature) = tlv::read(list.content).expect("reads");
        let fields: Vec<&[u8]> = tlv::elements(tbs.content).map(|field| field.whole).collect();
        let with = |fields: &[&[u8]]| tlv::write(tlv::SEQUENCE, &[&tlv::write(tlv::SEQUENCE, fields), signature]);
        assert_eq!(Entries::of_list(&with(&fields)), Some(entries));
        for left_out in [0, 3, 4, 6] {
            let mut fields = fields.clone();
            fields.remove(left_out);
            assert_eq!(Entries::of_list(&with(&fields)), None, "without field {left_out}");
        }
        assert_eq!(Entries::of_list(&[good.as_slice(), &[0]].concat()), None);
    }

    #[test]
    fn scope_and_delta_are_critical() {
        let url = "http://127.0.0.1/crl/issuing/3.crl";
        let scope = CrlScope { own_url: Some(url), freshest_url: None, base_number: Some(299) };
        let list: CertificateList = CertificateList::from_der(&signed(&Entries::default(), scope)).expect("decodes");
        let extensions = list.tbs_cert_list.crl_extensions.expect("extensions");
        let critical: Vec<String> =
            extensions.iter().filter(|found| found.critical).map(|found| found.extn_id.to_string()).collect();
        assert_eq!(critical, ["2.5.29.28", "2.5.29.27"]);
        let scope = CrlScope { own_url: None, freshest_url: Some(url), base_number: None };
        let list: CertificateList = CertificateList::from_der(&signed(&Entries::default(), scope)).expect("decodes");
        assert!(list.tbs_cert_list.crl_extensions.expect("extensions").iter().all(|found| !found.critical));
    }
}

//! The structures that an authority signs (RFC 5280 sections 4.1 and 5.1, RFC 6960 section 4.2.1, RFC 2986 section 4.1), held against a
//! policy.

use super::der::{
    BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, Item, OCTET_STRING, OID, Reader, SEQUENCE, UTC_TIME, check,
    explicit,
};
use super::policy::{AUTHORITY, CRL, END_ENTITY, OCSP, OWN, Policy, REQUEST};
use super::{Breach, Signer, breach, demand};

/// What was found worth a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Structure {
    /// The certificate of a device or service.
    EndEntity,
    /// The certificate of an authority.
    Authority,
    /// The certificate of the key itself.
    Own,
    /// A CRL.
    Crl,
    /// An OCSP answer.
    Ocsp,
    /// A request of the key itself.
    Request,
}

const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// [2] IMPLICIT IA5String: a dNSName (RFC 5280 section 4.2.1.6).
const DNS_NAME: u8 = 0x82;
/// keyCertSign and cRLSign in the first octet of a KeyUsage.
const SIGNS_FOR_OTHERS: u8 = 0x06;
/// The longest serial number in octets (RFC 5280 section 4.1.2.2).
const SERIAL_MAX: usize = 20;
const DAY: i64 = 86_400;

/// See [`super::judge`]. The structure tells itself by its first element.
pub(super) fn judge(policy: &Policy, signer: &Signer<'_>, message: &[u8]) -> Result<Structure, Breach> {
    let item = Item::only(message)?;
    check(&item)?;
    demand(item.tag == SEQUENCE, "structure", "it is no structure that an authority signs")?;
    let mut body = item.reader();
    let first = body.next()?;
    let bench = Bench { policy, signer };
    match (first.tag, first.contents) {
        (tag, [INTEGER, 1, 2]) if tag == explicit(0) => bench.certificate(body),
        (INTEGER, [1]) => bench.crl(body),
        (INTEGER, [0]) => bench.request(body),
        (tag, _) if tag == explicit(1) || tag == explicit(2) => bench.ocsp(&first, body),
        _ => breach("structure", "it is no structure that an authority signs"),
    }
}

struct Bench<'a> {
    policy: &'a Policy,
    signer: &'a Signer<'a>,
}

/// What the extensions of a certificate say that matters here.
#[derive(Default)]
struct Claims {
    is_authority: bool,
    path_length: Option<u8>,
    signs_for_others: bool,
    /// Whether the purposes are those of the policy, where any are named.
    purposes_fit: Option<bool>,
}

impl Bench<'_> {
    fn certificate(&self, mut body: Reader<'_>) -> Result<Structure, Breach> {
        serial(&body.expect(INTEGER)?)?;
        self.algorithm(&body.expect(SEQUENCE)?)?;
        let issuer = body.expect(SEQUENCE)?;
        self.issuer(&issuer)?;
        let (from, to) = validity(&body.expect(SEQUENCE)?)?;
        let subject = body.expect(SEQUENCE)?;
        let spki = body.expect(SEQUENCE)?;
        let extensions = body.inside(3)?;
        body.end()?;
        let bound = self.policy.not_after;
        demand(bound.is_none_or(|bound| to <= bound), "not_after", "it is valid for longer than the policy allows")?;
        let is_own = subject.whole == issuer.whole && spki.whole == self.signer.spki;
        let claims = self.extensions(extensions.as_ref(), is_own)?;
        if is_own {
            self.kind(OWN)?;
            return Ok(Structure::Own);
        }
        let longest = self.policy.days.map(|days| i64::from(days) * DAY);
        let fits = longest.is_none_or(|longest| to - from <= longest);
        demand(fits, "days", "it is valid for more days than the policy allows")?;
        self.rank(&claims)
    }

    /// An authority, or not.
    fn rank(&self, claims: &Claims) -> Result<Structure, Breach> {
        if !claims.is_authority {
            let what = "it may sign certificates or CRLs and is no authority";
            demand(!claims.signs_for_others, "key_usage", what)?;
            demand(claims.path_length.is_none(), "path_length", "it has a path length and is no authority")?;
            self.kind(END_ENTITY)?;
            let fits = self.policy.purposes.is_none() || claims.purposes_fit == Some(true);
            demand(fits, "purpose", "it names no purpose, or one that the policy does not list")?;
            return Ok(Structure::EndEntity);
        }
        self.kind(AUTHORITY)?;
        let fits = self.policy.path_length.is_none_or(|most| claims.path_length.is_some_and(|length| length <= most));
        demand(fits, "path_length", "its path length is above that of the policy, or missing")?;
        Ok(Structure::Authority)
    }

    fn crl(&self, mut body: Reader<'_>) -> Result<Structure, Breach> {
        self.kind(CRL)?;
        self.algorithm(&body.expect(SEQUENCE)?)?;
        self.issuer(&body.expect(SEQUENCE)?)?;
        let this_update = time(&mut body)?;
        let next_update = time(&mut body)?;
        self.status_days(this_update, Some(next_update))?;
        if let Some(entries) = body.optional(SEQUENCE)? {
            let mut entries = entries.reader();
            demand(!entries.is_empty(), "structure", "an empty list of revoked certificates is left out")?;
            while !entries.is_empty() {
                let mut entry = entries.expect(SEQUENCE)?.reader();
                serial(&entry.expect(INTEGER)?)?;
                time(&mut entry)?;
                entry.optional(SEQUENCE)?.map_or(Ok(()), |list| each_extension(&list, |_, _| Ok(())))?;
                entry.end()?;
            }
        }
        body.inside(0)?.map_or(Ok(()), |list| each_extension(&list, |_, _| Ok(())))?;
        body.end()?;
        Ok(Structure::Crl)
    }

    fn ocsp(&self, responder: &Item<'_>, mut body: Reader<'_>) -> Result<Structure, Breach> {
        self.kind(OCSP)?;
        let id = Item::only(responder.contents)?;
        if responder.tag == explicit(1) {
            demand(id.tag == SEQUENCE, "structure", "the responder has no name")?;
            self.issuer(&id)?;
        } else {
            demand(id.tag == OCTET_STRING, "structure", "the responder has no key identifier")?;
        }
        body.expect(GENERALIZED_TIME)?.time()?;
        let mut answers = body.expect(SEQUENCE)?.reader();
        demand(!answers.is_empty(), "structure", "it answers nothing")?;
        while !answers.is_empty() {
            let mut answer = answers.expect(SEQUENCE)?.reader();
            answer.expect(SEQUENCE)?;
            // good, revoked, unknown.
            demand(matches!(answer.next()?.tag, 0x80 | 0xa1 | 0x82), "structure", "the status is none of the three")?;
            let this_update = answer.expect(GENERALIZED_TIME)?.time()?;
            let next_update = answer.inside(0)?.map(|item| item.time()).transpose()?;
            self.status_days(this_update, next_update)?;
            answer.inside(1)?.map_or(Ok(()), |list| each_extension(&list, |_, _| Ok(())))?;
            answer.end()?;
        }
        body.inside(1)?.map_or(Ok(()), |list| each_extension(&list, |_, _| Ok(())))?;
        body.end()?;
        Ok(Structure::Ocsp)
    }

    fn request(&self, mut body: Reader<'_>) -> Result<Structure, Breach> {
        self.kind(REQUEST)?;
        self.issuer(&body.expect(SEQUENCE)?)?;
        let spki = body.expect(SEQUENCE)?;
        demand(spki.whole == self.signer.spki, "key", "the request is for another key")?;
        body.expect(explicit(0))?;
        body.end()?;
        Ok(Structure::Request)
    }

    fn kind(&self, kind: u8) -> Result<(), Breach> {
        demand(self.policy.allows(kind), "kind", "the policy does not allow this kind of structure")
    }

    fn algorithm(&self, item: &Item<'_>) -> Result<(), Breach> {
        let fits = self.signer.algorithms.iter().any(|algorithm| algorithm == item.whole);
        demand(fits, "algorithm", "it names another signature algorithm than the mechanism's")
    }

    fn issuer(&self, name: &Item<'_>) -> Result<(), Breach> {
        let fits = self.policy.issuer.as_ref().is_none_or(|issuer| issuer == name.whole);
        demand(fits, "issuer", "it names another issuer than the policy")
    }

    fn status_days(&self, this_update: i64, next_update: Option<i64>) -> Result<(), Breach> {
        let Some(longest) = self.policy.status_days.map(|days| i64::from(days) * DAY) else { return Ok(()) };
        let fits = next_update.is_some_and(|next| next - this_update <= longest);
        demand(fits, "status_days", "it holds for more days than the policy allows, or for ever")
    }

    /// The DNS names of a subjectAltName; the names of other kinds no policy bounds.
    fn names(&self, value: &[u8]) -> Result<(), Breach> {
        let Some(trees) = &self.policy.dns_names else { return Ok(()) };
        let item = Item::only(value)?;
        check(&item)?;
        demand(item.tag == SEQUENCE, "structure", "the alternative names are no SEQUENCE")?;
        let mut names = item.reader();
        while !names.is_empty() {
            let name = names.next()?;
            let fits = name.tag != DNS_NAME || trees.iter().any(|tree| is_below(name.contents, tree));
            demand(fits, "name", "it names a DNS name outside the policy's")?;
        }
        Ok(())
    }

    /// Reads the extensions; those of a certificate that is not the key's own must be on the policy's list.
    fn extensions(&self, extensions: Option<&Item<'_>>, is_own: bool) -> Result<Claims, Breach> {
        let mut claims = Claims::default();
        let Some(extensions) = extensions else { return Ok(claims) };
        each_extension(extensions, |id, value| {
            let allowed = self.policy.extensions.as_ref().filter(|_| !is_own);
            let fits = allowed.is_none_or(|allowed| allowed.iter().any(|known| known == id));
            demand(fits, "extension", "it has an extension that the policy does not list")?;
            match id {
                BASIC_CONSTRAINTS => basic_constraints(value, &mut claims),
                KEY_USAGE => {
                    let bits = Item::only(value)?;
                    check(&bits)?;
                    demand(bits.tag == BIT_STRING, "structure", "the key usage is no BIT STRING")?;
                    claims.signs_for_others = bits.contents.get(1).is_some_and(|bits| bits & SIGNS_FOR_OTHERS != 0);
                    Ok(())
                }
                EXTENDED_KEY_USAGE => {
                    let listed = self.policy.purposes.as_deref().unwrap_or_default();
                    claims.purposes_fit = Some(only_listed(value, listed)?);
                    Ok(())
                }
                SUBJECT_ALT_NAME if !is_own => self.names(value),
                _ => Ok(()),
            }
        })?;
        Ok(claims)
    }
}

/// Whether every purpose of an extKeyUsage (RFC 5280 section 4.2.1.12) is on a list.
fn only_listed(value: &[u8], listed: &[Vec<u8>]) -> Result<bool, Breach> {
    let item = Item::only(value)?;
    check(&item)?;
    demand(item.tag == SEQUENCE, "structure", "the purposes are no SEQUENCE")?;
    let mut purposes = item.reader();
    // None at all would say nothing (RFC 5280 section 4.2.1.12 wants one), and some verifiers take that for any.
    let mut fits = !purposes.is_empty();
    while !purposes.is_empty() {
        let purpose = purposes.expect(OID)?.contents;
        fits &= listed.iter().any(|known| known == purpose);
    }
    Ok(fits)
}

/// Whether a DNS name is the root of a tree, or below it.
fn is_below(name: &[u8], tree: &[u8]) -> bool {
    let Some((head, tail)) = name.len().checked_sub(tree.len()).map(|at| name.split_at(at)) else { return false };
    tail.eq_ignore_ascii_case(tree) && (head.is_empty() || head.ends_with(b"."))
}

fn basic_constraints(value: &[u8], claims: &mut Claims) -> Result<(), Breach> {
    let item = Item::only(value)?;
    check(&item)?;
    demand(item.tag == SEQUENCE, "structure", "the basic constraints are no SEQUENCE")?;
    let mut inner = item.reader();
    if let Some(flag) = inner.optional(BOOLEAN)? {
        demand(flag.contents == [0xff], "encoding", "a default value is written out")?;
        claims.is_authority = true;
    }
    if let Some(length) = inner.optional(INTEGER)? {
        let Some(length) = length.octet() else { return breach("path_length", "the path length is out of range") };
        claims.path_length = Some(length);
    }
    inner.end()
}

/// Takes every extension of a list apart; none may occur twice (RFC 5280 section 4.2).
fn each_extension<'a>(
    list: &Item<'a>,
    mut take: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), Breach>,
) -> Result<(), Breach> {
    demand(list.tag == SEQUENCE, "structure", "the extensions are no SEQUENCE")?;
    let mut list = list.reader();
    demand(!list.is_empty(), "structure", "an empty list of extensions is left out")?;
    let mut seen: Vec<&[u8]> = Vec::new();
    while !list.is_empty() {
        let mut extension = list.expect(SEQUENCE)?.reader();
        let id = extension.expect(OID)?.contents;
        if let Some(critical) = extension.optional(BOOLEAN)? {
            demand(critical.contents == [0xff], "encoding", "a default value is written out")?;
        }
        let value = extension.expect(OCTET_STRING)?.contents;
        extension.end()?;
        demand(!seen.contains(&id), "structure", "an extension occurs twice")?;
        seen.push(id);
        take(id, value)?;
    }
    Ok(())
}

fn serial(item: &Item<'_>) -> Result<(), Breach> {
    let is_positive = item.contents.first().is_some_and(|first| *first < 0x80) && item.contents != [0];
    demand(
        is_positive && item.contents.len() <= SERIAL_MAX,
        "serial",
        "the serial number is not positive, or longer than 20 octets",
    )
}

fn validity(item: &Item<'_>) -> Result<(i64, i64), Breach> {
    let mut reader = item.reader();
    let (from, to) = (time(&mut reader)?, time(&mut reader)?);
    reader.end()?;
    demand(from <= to, "validity", "it ends before it begins")?;
    Ok((from, to))
}

/// The next item, a time of either type.
fn time(reader: &mut Reader<'_>) -> Result<i64, Breach> {
    match reader.optional(UTC_TIME)? {
        Some(item) => item.time(),
        None => reader.expect(GENERALIZED_TIME)?.time(),
    }
}

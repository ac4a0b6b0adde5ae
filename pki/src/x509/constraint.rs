//! Name constraints (RFC 5280 section 4.2.1.10): written by operators as `dns:example.com`, judged before anything is signed.
//!
//! | written | holds for |
//! | --- | --- |
//! | `dns:example.com` | this name and all below it |
//! | `ip:10.0.0.0/8`, `ip:fd00::/8` | the addresses of the network |
//! | `dn:O=Craton,C=DE` | subjects that begin with these attributes, written as RFC 4514 writes them: the last is the first |
//! | `uri:example.com`, `uri:.example.com` | URIs on this host; on hosts below it |
//! | `email:example.com`, `email:.example.com`, `email:a@example.com` | mailboxes on this host; below it; this one |

use super::name;
use der::asn1::{Ia5String, OctetString};
use std::net::IpAddr;
use std::str::FromStr;
use x509_cert::ext::pkix::NameConstraints;
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

/// Reads constraints. None when both lists are empty.
///
/// # Errors
/// A sentence about what cannot be read.
pub(crate) fn parse(permitted: &[String], excluded: &[String]) -> Result<Option<NameConstraints>, String> {
    if permitted.is_empty() && excluded.is_empty() {
        return Ok(None);
    }
    let subtrees = |written: &[String]| -> Result<Option<Vec<GeneralSubtree>>, String> {
        let list = written.iter().map(|text| subtree(text)).collect::<Result<Vec<_>, _>>()?;
        Ok((!list.is_empty()).then_some(list))
    };
    Ok(Some(NameConstraints { permitted_subtrees: subtrees(permitted)?, excluded_subtrees: subtrees(excluded)? }))
}

fn subtree(written: &str) -> Result<GeneralSubtree, String> {
    let bad = |why: &str| format!("'{written}' is not a name constraint: {why}");
    let (form, value) = written.split_once(':').ok_or_else(|| bad("write dns:, ip:, dn:, uri: or email: before it"))?;
    let text = || Ia5String::new(value).map_err(|_| bad("only ASCII"));
    let base = match form {
        "dns" => GeneralName::DnsName(text()?),
        "uri" => GeneralName::UniformResourceIdentifier(text()?),
        "email" => GeneralName::Rfc822Name(text()?),
        "dn" => GeneralName::DirectoryName(Name::from_str(value).map_err(|fault| bad(&fault.to_string()))?),
        "ip" => {
            let octets = network(value).ok_or_else(|| bad("write ADDRESS/BITS"))?;
            GeneralName::IpAddress(OctetString::new(octets).map_err(|_| bad("too long"))?)
        }
        _ => return Err(bad("write dns:, ip:, dn:, uri: or email: before it")),
    };
    Ok(GeneralSubtree { base, minimum: 0, maximum: None })
}

/// Address and mask, as RFC 5280 writes a network.
fn network(text: &str) -> Option<Vec<u8>> {
    let (address, bits) = text.split_once('/')?;
    let bits: usize = bits.parse().ok()?;
    let octets = match address.parse().ok()? {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    if bits > octets.len() * 8 {
        return None;
    }
    let mask: Vec<u8> = (0..octets.len())
        .map(|index| {
            let ones = bits.saturating_sub(index * 8).min(8);
            u8::try_from(0xFF00_u32 >> ones & 0xFF).unwrap_or(0xFF)
        })
        .collect();
    let network: Vec<u8> = octets.iter().zip(&mask).map(|(octet, mask)| octet & mask).collect();
    Some([network, mask].concat())
}

/// Holds the subject and the alternative names of a certificate against constraints.
///
/// # Errors
/// The first name that is not allowed.
pub(crate) fn judge(constraints: &NameConstraints, subject: &Name, names: &[GeneralName]) -> Result<(), String> {
    let subject = (!subject.is_empty()).then(|| GeneralName::DirectoryName(subject.clone()));
    for candidate in subject.iter().chain(names) {
        if let Some(excluded) = &constraints.excluded_subtrees
            && excluded.iter().any(|subtree| matches(&subtree.base, candidate) == Some(true))
        {
            return Err(shown(candidate));
        }
        if let Some(permitted) = &constraints.permitted_subtrees {
            let of_its_form: Vec<bool> =
                permitted.iter().filter_map(|subtree| matches(&subtree.base, candidate)).collect();
            if !of_its_form.is_empty() && !of_its_form.contains(&true) {
                return Err(shown(candidate));
            }
        }
    }
    Ok(())
}

/// Whether a name lies in a subtree; none when they are of different forms.
fn matches(base: &GeneralName, candidate: &GeneralName) -> Option<bool> {
    match (base, candidate) {
        (GeneralName::DnsName(base), GeneralName::DnsName(name)) => Some(in_domain(name.as_str(), base.as_str())),
        (GeneralName::UniformResourceIdentifier(base), GeneralName::UniformResourceIdentifier(uri)) => {
            Some(host_of(uri.as_str()).is_some_and(|host| is_host_under(host, base.as_str())))
        }
        (GeneralName::Rfc822Name(base), GeneralName::Rfc822Name(mailbox)) => {
            let (base, mailbox) = (base.as_str(), mailbox.as_str());
            Some(match (base.contains('@'), mailbox.rsplit_once('@')) {
                (true, _) => mailbox == base,
                (false, Some((_, host))) => is_host_under(host, base),
                (false, None) => false,
            })
        }
        (GeneralName::IpAddress(base), GeneralName::IpAddress(address)) => {
            Some(in_network(address.as_bytes(), base.as_bytes()))
        }
        (GeneralName::DirectoryName(base), GeneralName::DirectoryName(subject)) => {
            Some(name::begins_with(subject, base))
        }
        _ => None,
    }
}

/// The domain and everything below it; the empty domain holds all.
fn in_domain(name: &str, base: &str) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    let base = base.trim_start_matches('.');
    base.is_empty() || name == base || name.strip_suffix(base).is_some_and(|rest| rest.ends_with('.'))
}

/// A host is itself; with a leading dot, everything below it and not itself.
fn is_host_under(host: &str, base: &str) -> bool {
    let (host, base) = (host.to_ascii_lowercase(), base.to_ascii_lowercase());
    if base.starts_with('.') { host.ends_with(&base) } else { host == base }
}

fn host_of(uri: &str) -> Option<&str> {
    let authority = uri.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(host.split_once(':').map_or(host, |(host, _)| host))
}

fn in_network(address: &[u8], base: &[u8]) -> bool {
    let (network, mask) = base.split_at(base.len() / 2);
    address.len() == network.len()
        && address.iter().zip(network).zip(mask).all(|((octet, network), mask)| octet & mask == network & mask)
}

fn shown(candidate: &GeneralName) -> String {
    match candidate {
        GeneralName::DnsName(name) => format!("the DNS name {}", name.as_str()),
        GeneralName::UniformResourceIdentifier(uri) => format!("the URI {}", uri.as_str()),
        GeneralName::Rfc822Name(mailbox) => format!("the mailbox {}", mailbox.as_str()),
        GeneralName::DirectoryName(subject) => format!("the subject {}", name::text(subject)),
        GeneralName::IpAddress(_) => "an address".to_owned(),
        _ => "a name".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn dns(name: &str) -> GeneralName {
        GeneralName::DnsName(Ia5String::new(name).expect("ASCII"))
    }

    fn allows(permitted: &[&str], excluded: &[&str], subject: &str, names: &[GeneralName]) -> bool {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let constraints = parse(&owned(permitted), &owned(excluded)).expect("parses").expect("some");
        judge(&constraints, &Name::from_str(subject).expect("parses"), names).is_ok()
    }

    #[test]
    fn names_are_held_against_subtrees_row_by_row() {
        let ip = |a, b, c, d| GeneralName::from(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
        let uri = |text| GeneralName::UniformResourceIdentifier(Ia5String::new(text).expect("ASCII"));
        type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a str, &'a [GeneralName], bool);
        let rows: &[Row<'_>] = &[
            (&["dns:example.com"], &[], "CN=a", &[dns("example.com")], true),
            (&["dns:example.com"], &[], "CN=a", &[dns("a.b.example.com")], true),
            (&["dns:example.com"], &[], "CN=a", &[dns("badexample.com")], false),
            (&["dns:example.com"], &[], "CN=a", &[dns("Example.COM")], true),
            (&[], &["dns:example.com"], "CN=a", &[dns("a.example.com")], false),
            (&[], &["dns:example.com"], "CN=a", &[dns("example.org")], true),
            (&["dns:a.example", "dns:b.example"], &["dns:x.b.example"], "CN=a", &[dns("y.b.example")], true),
            (&["dns:a.example", "dns:b.example"], &["dns:x.b.example"], "CN=a", &[dns("x.b.example")], false),
            (&["ip:10.0.0.0/8"], &[], "CN=a", &[ip(10, 9, 8, 7)], true),
            (&["ip:10.0.0.0/8"], &[], "CN=a", &[ip(11, 0, 0, 1)], false),
            (&["ip:192.168.4.0/22"], &[], "CN=a", &[ip(192, 168, 7, 255)], true),
            (&["ip:192.168.4.0/22"], &[], "CN=a", &[ip(192, 168, 8, 0)], false),
            (&["dn:O=Craton"], &[], "CN=a,O=Craton", &[], true),
            (&["dn:O=Craton"], &[], "CN=a,O=Other", &[], false),
            (&["dn:O=Craton"], &[], "CN=a", &[], false),
            (&["uri:.example.com"], &[], "CN=a", &[uri("https://x.example.com:8443/p")], true),
            (&["uri:.example.com"], &[], "CN=a", &[uri("https://example.com/")], false),
            (&["dns:example.com"], &[], "CN=a", &[ip(1, 2, 3, 4)], true),
        ];
        for (index, (permitted, excluded, subject, names, expected)) in rows.iter().enumerate() {
            assert_eq!(allows(permitted, excluded, subject, names), *expected, "row {index}");
        }
    }

    #[test]
    fn what_is_no_constraint_is_said() {
        for bad in ["example.com", "dns", "ip:10.0.0.0", "ip:10.0.0.0/33", "ip:x/8", "other:x", "dn:what"] {
            assert!(parse(&[bad.to_owned()], &[]).is_err(), "{bad}");
        }
        assert_eq!(parse(&[], &[]), Ok(None));
    }
}

//! DER with something wrong in one place and everything around it right: lengths are written anew after each change, so that a reader
//! is led past the first byte.

use crate::input::Input;

/// SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;
/// SET.
pub(crate) const SET: u8 = 0x31;
/// INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(crate) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
const OBJECT_IDENTIFIER: u8 = 0x06;
/// UTF8String.
pub(crate) const UTF8_STRING: u8 = 0x0C;
/// The bit of a tag that says that elements are within.
const CONSTRUCTED: u8 = 0x20;
/// How deep a tree is read.
const DEEPEST: usize = 24;

/// Tag, length and value.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    write(tag, &parts.concat(), false)
}

/// DER of an object identifier of these arcs; the first two are one number already.
pub(crate) fn oid(arcs: &[u32]) -> Vec<u8> {
    let mut value = Vec::new();
    for arc in arcs {
        let groups = (0..5).rev().map(|group| (arc >> (7 * group)) & 0x7F).skip_while(|group| *group == 0);
        let groups: Vec<u8> = groups.map(|group| group as u8).collect();
        let groups = if groups.is_empty() { vec![0] } else { groups };
        let (last, before) = groups.split_last().expect("at least one group");
        value.extend(before.iter().map(|group| group | 0x80));
        value.push(*last);
    }
    tlv(OBJECT_IDENTIFIER, &[&value])
}

fn write(tag: u8, content: &[u8], long: bool) -> Vec<u8> {
    let mut der = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 && !long => der.push(short),
        _ => {
            let octets = content.len().to_be_bytes();
            let zeros = octets.iter().take_while(|octet| **octet == 0).count();
            // A length that is not the shortest is no DER.
            let octets = &octets[zeros.saturating_sub(usize::from(long))..];
            der.push(0x80 | octets.len() as u8);
            der.extend_from_slice(octets);
        }
    }
    der.extend_from_slice(content);
    der
}

/// An element.
#[derive(Clone)]
struct Node {
    tag: u8,
    long: bool,
    what: What,
}

#[derive(Clone)]
enum What {
    Bytes(Vec<u8>),
    Inner(Vec<Node>),
}

fn read(bytes: &[u8], depth: usize) -> Option<Vec<Node>> {
    let mut rest = bytes;
    let mut nodes = Vec::new();
    while let [tag, first, tail @ ..] = rest {
        let (length, tail) = match first {
            short @ 0..=0x7F => (usize::from(*short), tail),
            // 0x80 is the indefinite form.
            0x81..=0x84 => {
                let (octets, tail) = tail.split_at_checked(usize::from(first & 0x7F))?;
                (octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), tail)
            }
            _ => return None,
        };
        let (content, tail) = tail.split_at_checked(length)?;
        // The value of an extension is DER within an OCTET STRING.
        let may_hold = (tag & CONSTRUCTED != 0 || *tag == OCTET_STRING) && depth < DEEPEST;
        let inner = if may_hold && !content.is_empty() { read(content, depth + 1) } else { None };
        let what = inner.map_or_else(|| What::Bytes(content.to_vec()), What::Inner);
        nodes.push(Node { tag: *tag, long: false, what });
        rest = tail;
    }
    rest.is_empty().then_some(nodes)
}

impl Node {
    fn count(&self) -> usize {
        match &self.what {
            What::Bytes(_) => 1,
            What::Inner(nodes) => 1 + nodes.iter().map(Node::count).sum::<usize>(),
        }
    }

    fn written(&self) -> Vec<u8> {
        match &self.what {
            What::Bytes(bytes) => write(self.tag, bytes, self.long),
            What::Inner(nodes) => write(self.tag, &all(nodes), self.long),
        }
    }
}

fn all(nodes: &[Node]) -> Vec<u8> {
    nodes.iter().flat_map(Node::written).collect()
}

/// The list in which the element of this number stands, and its place there.
fn place(nodes: &mut Vec<Node>, mut number: usize) -> Option<(&mut Vec<Node>, usize)> {
    let mut at = 0;
    for node in nodes.iter() {
        let count = node.count();
        if number < count {
            break;
        }
        number -= count;
        at += 1;
    }
    if at >= nodes.len() || number == 0 {
        return (at < nodes.len()).then_some((nodes, at));
    }
    match &mut nodes[at].what {
        What::Inner(inner) => place(inner, number - 1),
        What::Bytes(_) => None,
    }
}

/// Some element of a structure.
fn one_of(der: &[u8], input: &mut Input<'_>) -> Option<Node> {
    let mut nodes = read(der, 0)?;
    let number = input.below(nodes.iter().map(Node::count).sum::<usize>().max(1));
    place(&mut nodes, number).map(|(list, at)| list[at].clone())
}

/// A structure with up to three elements changed, removed, doubled, wrapped or exchanged for one of another structure.
pub(crate) fn changed(seed: &[u8], others: &[Vec<u8>], input: &mut Input<'_>) -> Vec<u8> {
    let Some(mut nodes) = read(seed, 0) else { return seed.to_vec() };
    for _ in 0..input.below(4) {
        let number = input.below(nodes.iter().map(Node::count).sum::<usize>().max(1));
        let foreign = others.get(input.below(others.len().max(1))).and_then(|other| one_of(other, input));
        let Some((list, at)) = place(&mut nodes, number) else { continue };
        match input.below(9) {
            0 => list[at].what = What::Bytes(input.bytes(48).to_vec()),
            1 => list[at].tag = input.byte(),
            2 => drop(list.remove(at)),
            3 => {
                let again = list[at].clone();
                list.insert(at, again);
            }
            4 => {
                let inner = What::Inner(vec![list[at].clone()]);
                list[at] = Node { tag: input.byte(), long: false, what: inner };
            }
            5 => list[at].long = true,
            6 => {
                let other = input.below(list.len());
                list.swap(at, other);
            }
            7 => {
                if let What::Bytes(bytes) = &mut list[at].what
                    && !bytes.is_empty()
                {
                    let bit = input.below(bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
            _ => list.splice(at..=at, foreign).for_each(drop),
        }
    }
    all(&nodes)
}

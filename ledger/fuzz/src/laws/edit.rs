//! Changes to a good file that leave its framing right, so that they reach what lies behind it: protobuf messages inside messages,
//! the records of an export, members and elements of JSON, words of a note.
//!
//! ```text
//! script = edit ...        edit = kind, node (2, little-endian), a, b        5 bytes each; the nodes are counted in file order
//! ```

use assent_ledger::audit::{RecordKind, EXPORT_MAGIC};
use prost::encoding::{decode_varint, encode_varint};

/// Most edits of one script.
const MAX_EDITS: usize = 16;
/// A file that has become longer is edited no further.
const MAX_EDITED_BYTES: usize = 256 << 10;
/// Messages inside messages are looked for no deeper.
const MAX_DEPTH: u32 = 12;

/// How a file is framed.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// One protobuf message.
    Message,
    /// An export: magic and records.
    Export,
    /// JSON, or lines of words.
    Text,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    /// Bytes that can be read as a message, whether or not they are one.
    Message(Vec<Node>),
}

/// A field with its tag; a record with the byte of its kind; of a text a word, or what is in brackets with the opening one, or
/// with [`ITEM`] what stands between two commas.
#[derive(Debug, Clone, PartialEq)]
struct Node {
    tag: u32,
    value: Value,
}

const ITEM: u32 = 0;

/// The file after the script's edits; none when the file is not of the form.
pub fn edited(form: Form, file: &[u8], script: &[u8]) -> Option<Vec<u8>> {
    let mut nodes = match form {
        Form::Message => message(file, 0)?,
        Form::Export => records(file)?,
        Form::Text => items(&mut &file[..], 0)?,
    };
    let mut bytes = encoded(form, &nodes);
    for edit in script.as_chunks::<5>().0.iter().take(MAX_EDITS) {
        if bytes.len() > MAX_EDITED_BYTES {
            break;
        }
        apply(&mut nodes, edit);
        bytes = encoded(form, &nodes);
    }
    Some(bytes)
}

fn message(bytes: &[u8], depth: u32) -> Option<Vec<Node>> {
    let (mut rest, mut nodes) = (bytes, Vec::new());
    while !rest.is_empty() {
        let key = decode_varint(&mut rest).ok()?;
        let tag = u32::try_from(key >> 3).ok().filter(|tag| *tag > 0)?;
        let value = match key & 7 {
            0 => Value::Number(decode_varint(&mut rest).ok()?),
            2 => {
                let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                let (bytes, behind) = rest.split_at_checked(length)?;
                rest = behind;
                value(bytes, depth)
            }
            _ => return None,
        };
        nodes.push(Node { tag, value });
    }
    (fields(&nodes) == bytes).then_some(nodes)
}

fn value(bytes: &[u8], depth: u32) -> Value {
    match (!bytes.is_empty() && depth < MAX_DEPTH).then(|| message(bytes, depth + 1)).flatten() {
        Some(nodes) => Value::Message(nodes),
        None => Value::Bytes(bytes.to_vec()),
    }
}

fn records(file: &[u8]) -> Option<Vec<Node>> {
    let (mut rest, mut nodes) = (file.strip_prefix(EXPORT_MAGIC)?, Vec::new());
    while let [kind, a, b, c, d, behind @ ..] = rest {
        let (payload, behind) = behind.split_at_checked(u32::from_be_bytes([*a, *b, *c, *d]) as usize)?;
        nodes.push(Node { tag: RecordKind::of(*kind)?.byte().into(), value: value(payload, 0) });
        rest = behind;
    }
    rest.is_empty().then_some(nodes)
}

/// Items up to the closing bracket that belongs to them, or to the end.
fn items(rest: &mut &[u8], depth: u32) -> Option<Vec<Node>> {
    let (mut found, mut item) = (Vec::new(), Vec::new());
    while let Some(&first) = rest.first() {
        let length = match first {
            b'"' => quoted(rest)?,
            b'{' | b'[' | b'}' | b']' | b',' | b':' | b' ' | b'\n' | b'+' => 1,
            _ => rest.iter().position(|b| b"\"{}[],: \n+".contains(b)).unwrap_or(rest.len()),
        };
        let (word, behind) = rest.split_at(length);
        *rest = behind;
        match first {
            b'{' | b'[' => {
                item.push(Node { tag: first.into(), value: Value::Message(items(rest, depth + 1)?) });
            }
            b'}' | b']' if depth > 0 => break,
            b',' => found.push(Node { tag: ITEM, value: Value::Message(std::mem::take(&mut item)) }),
            _ => item.push(Node { tag: 1, value: Value::Bytes(word.to_vec()) }),
        }
    }
    found.push(Node { tag: ITEM, value: Value::Message(item) });
    Some(found)
}

/// Length of a string with its quotation marks.
fn quoted(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (place, byte) in text.iter().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return Some(place + 1),
            _ => escaped = *byte == b'\\' && !escaped,
        }
    }
    None
}

fn text(nodes: &[Node]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, node) in nodes.iter().enumerate() {
        if n > 0 && node.tag == ITEM {
            out.push(b',');
        }
        match (&node.value, node.tag) {
            (Value::Message(inside), ITEM) => out.extend(text(inside)),
            (Value::Message(inside), open) => {
                out.push(open as u8);
                out.extend(text(inside));
                out.push(if open == u32::from(b'{') { b'}' } else { b']' });
            }
            (other, _) => out.extend(content(other)),
        }
    }
    out
}

fn encoded(form: Form, nodes: &[Node]) -> Vec<u8> {
    match form {
        Form::Message => return fields(nodes),
        Form::Text => return text(nodes),
        Form::Export => {}
    }
    let mut out = EXPORT_MAGIC.to_vec();
    for node in nodes {
        let payload = content(&node.value);
        out.push(node.tag as u8);
        out.extend((payload.len() as u32).to_be_bytes());
        out.extend(payload);
    }
    out
}

fn fields(nodes: &[Node]) -> Vec<u8> {
    let mut out = Vec::new();
    for Node { tag, value } in nodes {
        let key = u64::from(*tag) << 3;
        if let Value::Number(number) = value {
            encode_varint(key, &mut out);
            encode_varint(*number, &mut out);
        } else {
            let content = content(value);
            encode_varint(key | 2, &mut out);
            encode_varint(content.len() as u64, &mut out);
            out.extend(content);
        }
    }
    out
}

fn content(value: &Value) -> Vec<u8> {
    match value {
        Value::Number(number) => number.to_be_bytes().to_vec(),
        Value::Bytes(bytes) => bytes.clone(),
        Value::Message(nodes) => fields(nodes),
    }
}

fn count(nodes: &[Node]) -> usize {
    nodes.iter().map(size).sum()
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Message(children) => 1 + count(children),
        _ => 1,
    }
}

/// The list in which node `n` stands, and its place there. `n` is below [`count`].
fn find(nodes: &mut Vec<Node>, mut n: usize) -> (&mut Vec<Node>, usize) {
    for place in 0..nodes.len() {
        let size = size(&nodes[place]);
        if n == 0 {
            return (nodes, place);
        }
        if n >= size {
            n -= size;
            continue;
        }
        let Value::Message(children) = &mut nodes[place].value else {
            unreachable!("one node has no others inside")
        };
        return find(children, n - 1);
    }
    unreachable!("fewer nodes than were counted")
}

fn apply(nodes: &mut Vec<Node>, [kind, low, high, a, b]: &[u8; 5]) {
    let all = count(nodes);
    if all == 0 {
        return;
    }
    let other = {
        let (list, place) = find(nodes, usize::from(u16::from_le_bytes([*a, *b])) % all);
        list[place].clone()
    };
    let (list, place) = find(nodes, usize::from(u16::from_le_bytes([*low, *high])) % all);
    match kind % 9 {
        0 => drop(list.remove(place)),
        1 => list.insert(place, list[place].clone()),
        2 => flip(&mut list[place].value, *a, *b),
        3 => set(&mut list[place].value, *a, *b),
        4 if place + 1 < list.len() => list.swap(place, place + 1),
        5 => list[place].value = other.value,
        6 if *a < 128 => {
            list.insert(place, Node { tag: u32::from(a % 20) + 1, value: Value::Number(u64::from(*b)) })
        }
        6 => list.insert(place, Node { tag: u32::from(a % 20) + 1, value: Value::Bytes(vec![*b]) }),
        7 => list[place].tag = u32::from(a % 20) + 1,
        8 => list.insert(place + 1, other),
        _ => {}
    }
}

fn flip(value: &mut Value, a: u8, b: u8) {
    match value {
        Value::Number(number) => *number ^= 1 << (a % 64),
        Value::Bytes(bytes) if bytes.is_empty() => bytes.push(a),
        Value::Bytes(bytes) => {
            let place = usize::from(u16::from_le_bytes([a, b >> 3])) % bytes.len();
            bytes[place] ^= 1 << (b % 8);
        }
        Value::Message(nodes) => nodes.reverse(),
    }
}

fn set(value: &mut Value, a: u8, b: u8) {
    match value {
        Value::Number(number) => {
            let near = [number.wrapping_add(1), number.wrapping_sub(1), u64::from(b)];
            let edges = [0, 1, u64::from(u32::MAX), u64::from(u32::MAX) + 1, i64::MAX as u64, u64::MAX];
            *number = *near.iter().chain(&edges).nth(usize::from(a) % 9).unwrap_or(&0);
        }
        Value::Bytes(bytes) => bytes.resize(usize::from(b), a),
        Value::Message(nodes) => nodes.truncate(usize::from(b) % (nodes.len() + 1)),
    }
}

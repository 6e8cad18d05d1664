//! In which field of an encoded message a byte lies, by the formats' own descriptors.

use assent_proto::DESCRIPTORS;
use prost::encoding::{decode_key, decode_varint, WireType};
use prost::Message;

/// What of `descriptor.proto` is needed.
#[derive(Clone, PartialEq, Message)]
struct FileSet {
    #[prost(message, repeated, tag = "1")]
    file: Vec<FileOf>,
}

#[derive(Clone, PartialEq, Message)]
struct FileOf {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    message_type: Vec<MessageOf>,
}

#[derive(Clone, PartialEq, Message)]
struct MessageOf {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    field: Vec<FieldOf>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldOf {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "3")]
    number: i32,
    #[prost(int32, tag = "4")]
    label: i32,
    #[prost(string, tag = "6")]
    type_name: String,
}

const PACKAGE: &str = "assent.ledger.v1";
const REPEATED: i32 = 3;
/// Fields of bytes that are encodings themselves.
const ENCODINGS: [(&str, &str); 8] = [
    ("history", "AccessHistory"),
    ("genesis", "Genesis"),
    ("header", "Header"),
    ("entry", "Entry"),
    ("event", "AccessEvent"),
    ("request", "Signed"),
    ("reasons", "Reasons"),
    ("organizations", "OrganizationList"),
];

/// Names of fields from the outermost in, such as `history.accesses[1].access.entry`.
pub struct Formats(Vec<MessageOf>);

impl Formats {
    /// Those that are signed and hashed.
    pub fn new() -> Self {
        let files = FileSet::decode(DESCRIPTORS).unwrap_or_default().file.into_iter();
        Self(files.filter(|file| file.package == PACKAGE).flat_map(|file| file.message_type).collect())
    }

    /// The field that holds a byte of an encoded message.
    pub fn field_at(&self, message: &str, bytes: &[u8], at: usize) -> String {
        let mut path = Vec::new();
        self.descend(message, bytes, at, &mut path);
        match path.is_empty() {
            true => format!("{message} itself"),
            false => path.join("."),
        }
    }

    fn descend(&self, message: &str, bytes: &[u8], at: usize, path: &mut Vec<String>) -> Option<()> {
        let format = self.0.iter().find(|format| format.name == message)?;
        let mut rest = bytes;
        let mut counts = std::collections::BTreeMap::new();
        loop {
            let (tag, wire) = decode_key(&mut rest).ok()?;
            let field = format.field.iter().find(|field| u32::try_from(field.number) == Ok(tag))?;
            let count: &mut usize = counts.entry(tag).or_default();
            let name = match field.label {
                REPEATED => format!("{}[{count}]", field.name),
                _ => field.name.clone(),
            };
            *count += 1;
            let len = match wire {
                WireType::Varint => decode_varint(&mut rest).ok().map(|_| 0)?,
                WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
                _ => return None,
            };
            let (payload, start) = (rest.get(..len)?, bytes.len() - rest.len());
            rest = &rest[len..];
            if at < start + len {
                path.push(name);
                // A byte before the payload is of the field's own head.
                return self.descend(&inner(field), payload, at.checked_sub(start)?, path);
            }
        }
    }
}

/// The message that a field holds, or its bytes encode; empty for none.
fn inner(field: &FieldOf) -> String {
    if let Some(name) = field.type_name.rsplit('.').next().filter(|name| !name.is_empty()) {
        return name.to_owned();
    }
    let encoded = ENCODINGS.iter().find(|(name, _)| *name == field.name);
    encoded.map(|(_, message)| (*message).to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use assent_proto::ledger::v1::{AccessClaim, AccessHistory, HistoryAccess, OpenedReasons, PatientPack};

    use super::*;

    #[test]
    fn each_byte_has_the_field_that_it_lies_in() {
        let access = |salt: u8| HistoryAccess {
            access: Some(AccessClaim { salt: vec![salt; 4], operation: 300, ..Default::default() }),
            ..Default::default()
        };
        let history = AccessHistory { accesses: vec![access(0xA1), access(0xA2)], ..Default::default() };
        let reasons = OpenedReasons { salt: vec![0xA3; 4], reasons: vec![] };
        let pack =
            PatientPack { history: history.encode_to_vec(), reasons: vec![reasons], ..Default::default() };
        let bytes = pack.encode_to_vec();
        let formats = Formats::new();
        for (byte, field) in [
            (0xA1, "history.accesses[0].access.salt"),
            (0xA2, "history.accesses[1].access.salt"),
            (0xA3, "reasons[0].salt"),
        ] {
            let places = (0..bytes.len()).filter(|at| bytes[*at] == byte);
            let fields: Vec<_> = places.map(|at| formats.field_at("PatientPack", &bytes, at)).collect();
            assert_eq!(fields, [field; 4]);
        }
        assert_eq!(formats.field_at("PatientPack", &bytes, 0), "history");
        let at = bytes.windows(2).position(|two| two == [0xAC, 0x02]).unwrap();
        assert_eq!(formats.field_at("PatientPack", &bytes, at), "history.accesses[0].access.operation");
        assert_eq!(formats.field_at("PatientPack", b"\xff", 0), "PatientPack itself");
    }
}

//! Exactly one accepted encoding per message.
//!
//! Protobuf by itself is not canonical: fields may come in any order, twice, or with their default value written out, and
//! unknown fields are skipped. [`decode`] re-encodes and compares, which refuses all of these.

use prost::Message;

/// Why bytes are not an acceptable message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// Not protobuf of this message.
    #[error("{message}: not decodable: {reason}")]
    Undecodable { message: &'static str, reason: String },
    /// Decodes, but the same content has another, canonical encoding.
    #[error("{message}: not in its canonical encoding")]
    NotCanonical { message: &'static str },
    /// Longer than the limit.
    #[error("{message}: {len} bytes, at most {max} allowed")]
    TooLong { message: &'static str, len: usize, max: usize },
    /// More parts than the limit.
    #[error("{message}: too many parts, at most {max} allowed")]
    TooMany { message: &'static str, max: usize },
    /// A field has the wrong length, a missing variant, or an unknown enum value.
    #[error("{message}.{field}: {reason}")]
    Field { message: &'static str, field: &'static str, reason: String },
}

/// Decodes, and refuses every encoding but the canonical one.
pub fn decode<M: Message + Default>(
    message: &'static str,
    bytes: &[u8],
    max: usize,
) -> Result<M, EncodingError> {
    if bytes.len() > max {
        return Err(EncodingError::TooLong { message, len: bytes.len(), max });
    }
    let value =
        M::decode(bytes).map_err(|e| EncodingError::Undecodable { message, reason: e.to_string() })?;
    if value.encoded_len() != bytes.len() || value.encode_to_vec() != bytes {
        return Err(EncodingError::NotCanonical { message });
    }
    Ok(value)
}

/// Tag and length of every top-level field, or a refusal when there are more than `max`.
///
/// An empty part takes two bytes in a message and a hundred times that in memory: this is asked before [`decode`] where the
/// limit in bytes is large.
pub fn fields(
    message: &'static str,
    mut bytes: &[u8],
    max: usize,
) -> Result<Vec<(u32, usize)>, EncodingError> {
    use prost::encoding::{decode_key, skip_field, DecodeContext};
    let undecodable = |e: prost::DecodeError| EncodingError::Undecodable { message, reason: e.to_string() };
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let before = bytes.len();
        let (tag, wire_type) = decode_key(&mut bytes).map_err(undecodable)?;
        skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).map_err(undecodable)?;
        if found.len() == max {
            return Err(EncodingError::TooMany { message, max });
        }
        found.push((tag, before - bytes.len()));
    }
    Ok(found)
}

/// Refuses a message in which the messages at `path` (a tag for each level) have more than `max` fields together: the guard of
/// [`fields`] for what lies deeper. Other fields on the way don't count.
pub fn fields_at(
    message: &'static str,
    bytes: &[u8],
    path: &[u32],
    max: usize,
) -> Result<usize, EncodingError> {
    use prost::encoding::{decode_key, decode_varint, skip_field, DecodeContext, WireType};
    let undecodable = |reason: String| EncodingError::Undecodable { message, reason };
    let Some((inner, deeper)) = path.split_first() else { return Ok(fields(message, bytes, max)?.len()) };
    let (mut rest, mut count) = (bytes, 0);
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest).map_err(|e| undecodable(e.to_string()))?;
        if tag != *inner || wire_type != WireType::LengthDelimited {
            skip_field(wire_type, tag, &mut rest, DecodeContext::default())
                .map_err(|e| undecodable(e.to_string()))?;
            continue;
        }
        let len = decode_varint(&mut rest).map_err(|e| undecodable(e.to_string()))?;
        let len = usize::try_from(len).ok().filter(|len| *len <= rest.len());
        let (part, behind) = rest.split_at(len.ok_or_else(|| undecodable("a field is cut off".into()))?);
        count += fields_at(message, part, deeper, max - count)?;
        rest = behind;
    }
    Ok(count)
}

/// A field that must hold exactly N bytes.
pub fn array<const N: usize>(
    message: &'static str,
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], EncodingError> {
    bytes.try_into().map_err(|_| EncodingError::Field {
        message,
        field,
        reason: format!("{} bytes, {N} needed", bytes.len()),
    })
}

/// True for 1 to 32 bytes of `[a-z0-9-]`: the form of chain ids and organization ids.
pub fn is_id(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Refuses what is not [`is_id`].
pub fn id(message: &'static str, field: &'static str, text: &str) -> Result<(), EncodingError> {
    if is_id(text) {
        return Ok(());
    }
    Err(EncodingError::Field { message, field, reason: "not 1 to 32 bytes of [a-z0-9-]".into() })
}

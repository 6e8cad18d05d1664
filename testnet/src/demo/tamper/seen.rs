//! What was changed, and what was said of it.

use serde::Serialize;

/// Where something lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Bytes of a file, the last not included.
    Bytes {
        /// Name of the file.
        file: String,
        /// First byte.
        first: u64,
        /// Behind the last byte.
        end: u64,
    },
    /// A record of a ledger export.
    Height(u64),
    /// A field of a message, or what is wrong with one in words.
    Field(String),
    /// Nothing was said.
    Unnamed,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes { file, first, end } if *end == first + 1 => write!(f, "{file}, byte {first}"),
            Self::Bytes { file, first, end } => {
                write!(f, "{file}, bytes {first} to {}", end.saturating_sub(1))
            }
            Self::Height(height) => write!(f, "height {height}"),
            Self::Field(field) => f.write_str(field),
            Self::Unnamed => f.write_str("nothing"),
        }
    }
}

/// One changed bit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flip {
    /// Name of the file.
    pub file: String,
    /// Byte of it.
    pub byte: u64,
    /// Bit of the byte, the least first.
    pub bit: u8,
    /// Where that is, found without the program that is to find it.
    pub place: Place,
    /// Exit code of that program; none when it did not end.
    pub exit: Option<i32>,
    /// What it named.
    pub named: Place,
}

/// What was changed in one kind of object.
#[derive(Debug, Clone)]
pub struct ObjectSeen {
    /// `replica`, `export`, `receipt` or `pack`.
    pub id: &'static str,
    /// Which program was to find it.
    pub finder: &'static str,
    /// Exit code on the object as it was; 0 for a node that ran.
    pub whole_exit: i32,
    /// The changes.
    pub flips: Vec<Flip>,
    /// Exit code with the bits put back.
    pub healed_exit: i32,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct TamperSeen {
    /// Which bits: the same seed on the same bytes chooses the same.
    pub seed: u64,
    /// Kind by kind.
    pub objects: Vec<ObjectSeen>,
}

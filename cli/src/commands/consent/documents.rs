//! FHIR resources in files: one resource, a Bundle, or NDJSON. Each is kept as the exact bytes that were read.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::exit::{printable, Failure};
use crate::files;

/// Longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// One resource, and the file that it stood in.
pub struct Document {
    /// As given on the command line.
    pub file: String,
    /// JSON of one resource.
    pub json: String,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "resourceType", borrow)]
    resource_type: std::borrow::Cow<'a, str>,
    #[serde(default, borrow)]
    entry: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(default, borrow)]
    resource: Option<&'a RawValue>,
}

/// The resources of all files, in order. What is no JSON is a usage error; what is no resource is left for its reader to say.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Document>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        read(path, &mut found)?;
    }
    Ok(found)
}

fn read(path: &Path, found: &mut Vec<Document>) -> Result<(), Failure> {
    let bytes = files::read(path, MAX_FILE_BYTES)?;
    let malformed = |error: String| {
        let what = format!("{} is not JSON: {}", path.display(), printable(&error));
        Failure::usage("MALFORMED_JSON", what).help("give a FHIR resource, a Bundle, or NDJSON")
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| malformed(error.to_string()))?;
    let whole = serde_json::from_str::<&RawValue>(text);
    let values = match whole {
        Ok(one) => vec![one],
        Err(error) => {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            let lines: Result<Vec<&RawValue>, _> = lines.map(serde_json::from_str).collect();
            // Neither one value nor one a line: the whole's fault says where it went wrong.
            lines.ok().filter(|lines| lines.len() > 1).ok_or_else(|| malformed(error.to_string()))?
        }
    };
    for value in values {
        let mut push =
            |json: &str| found.push(Document { file: path.display().to_string(), json: json.to_owned() });
        match serde_json::from_str::<Head>(value.get()) {
            Ok(bundle) if bundle.resource_type == "Bundle" => {
                bundle.entry.iter().filter_map(|entry| entry.resource).for_each(|r| push(r.get()));
            }
            Ok(_) | Err(_) => push(value.get()),
        }
    }
    Ok(())
}

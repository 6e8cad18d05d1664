//! The code tables of `CDA-1`: HL7's purposes, sensitivities and resource types, as committed in
//! `tables/codes.tsv`, and what CONSENT.md, Decision 8 says about matching along them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::Kleene;

/// The committed table file, byte for byte. From HL7's terminology (CC0-1.0); `tables/make.py` writes it.
pub const TABLES_TSV: &str = include_str!("tables/codes.tsv");

/// SHA-256 of the committed table file, which stands in every decision.
pub fn tables_sha256() -> [u8; 32] {
    static HASH: OnceLock<[u8; 32]> = OnceLock::new();
    *HASH.get_or_init(|| Sha256::digest(TABLES_TSV.as_bytes()).into())
}

/// Purposes that a PERMIT covers only where it names them (CONSENT.md, Decision 8). HMARKT, the last one, is
/// Decision 3's: never inherited, whatever the tree says, and never a default.
const NAMED_ONLY: [&str; 9] =
    ["BTG", "CLINTRL", "POPHLTH", "MILCDM", "HLEGAL", "FRAUD", "DONAT", "GOV", "HMARKT"];

/// The root of the purposes: it groups them and names none.
pub(super) const ANY_PURPOSE: &str = "PurposeOfUse";

/// CONSENT.md, Decision 8: what break-glass may be for.
pub(super) const TREATMENT_FAMILY: [&str; 5] = ["TREAT", "ETREAT", "ERTREAT", "BTG", "COC"];

/// What BH's definition covers beside its subtree; the table doesn't say so, and only a DENY reads it that way.
const BEHAVIORAL: [&str; 4] = ["MH", "PSY", "PSYTHPN", "SUD"];

/// One code hierarchy: each code with all its ancestors, itself left out.
type Tree = BTreeMap<&'static str, BTreeSet<&'static str>>;

struct Tables {
    purposes: Tree,
    sensitivities: Tree,
    handling: BTreeSet<&'static str>,
    types: BTreeSet<&'static str>,
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| Tables {
        purposes: tree("purpose"),
        sensitivities: tree("sensitivity"),
        handling: rows("handling").map(|(code, _)| code).collect(),
        types: rows("type").map(|(code, _)| code).collect(),
    })
}

/// The rows of one kind: code and comma-separated parents.
fn rows(kind: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES_TSV.lines().filter_map(move |line| {
        let mut cells = line.split('\t');
        match (cells.next(), cells.next(), cells.next()) {
            (Some(first), Some(code), Some(parents)) if first == kind => Some((code, parents)),
            _ => None,
        }
    })
}

fn tree(kind: &'static str) -> Tree {
    let parents: BTreeMap<_, Vec<_>> =
        rows(kind).map(|(code, list)| (code, list.split(',').filter(|p| !p.is_empty()).collect())).collect();
    let mut all = Tree::new();
    for code in parents.keys().copied() {
        let mut above = BTreeSet::new();
        let mut next = vec![code];
        while let Some(parent) = next.pop().and_then(|c| parents.get(c)) {
            // A code that was seen before brings nothing new, so this ends even on a table with a loop in it.
            next.extend(parent.iter().copied().filter(|p| above.insert(*p)));
        }
        all.insert(code, above);
    }
    all
}

fn is_or_below(tree: &Tree, code: &str, ancestor: &str) -> bool {
    code == ancestor || tree.get(code).is_some_and(|above| above.contains(ancestor))
}

/// Whether this is a purpose of use of HL7's v3 ActReason.
pub fn is_purpose(code: &str) -> bool {
    tables().purposes.contains_key(code)
}

/// Whether this is an information sensitivity of HL7's v3 ActCode.
pub fn is_sensitivity(code: &str) -> bool {
    tables().sensitivities.contains_key(code)
}

/// Abstract codes group others and label nothing; a consent that names one is refused.
pub(super) fn is_abstract(code: &str) -> bool {
    code.starts_with('_')
}

/// A v3 ActCode that handles records (obligation, refrain, law) and says nothing of their sensitivity.
pub(super) fn is_handling(code: &str) -> bool {
    tables().handling.contains(code)
}

/// Whether this is a resource type of FHIR R4.
pub fn is_resource_type(code: &str) -> bool {
    tables().types.contains(code)
}

/// The plain tree, as a DENY and a rule's ancestors read it (CONSENT.md, Decision 8): the code and all below.
pub(super) fn purpose_within(asked: &str, listed: &str) -> bool {
    is_or_below(&tables().purposes, asked, listed)
}

/// What a PERMIT's innermost list must name, whatever lies above it in the tree.
pub(super) fn must_be_named(purpose: &str) -> bool {
    NAMED_ONLY.contains(&purpose)
}

/// Whether a PERMIT that names `listed` covers a record's label (CONSENT.md, Decision 8): the tree as it stands.
pub(super) fn permit_covers(listed: &str, label: &str) -> bool {
    is_or_below(&tables().sensitivities, label, listed)
}

/// Whether a DENY that names `listed` catches a record's label (CONSENT.md, Decision 8). A label that is broader
/// than the DENY's may or may not mean it, and so may one outside the tables.
pub(super) fn deny_catches(listed: &str, label: &str) -> Kleene {
    if !is_sensitivity(label) {
        return Kleene::Unknown;
    }
    if deny_within(label, listed) {
        return Kleene::True;
    }
    if deny_within(listed, label) {
        return Kleene::Unknown;
    }
    Kleene::False
}

/// The tree with BH widened to its definition.
fn deny_within(code: &str, ancestor: &str) -> bool {
    let tree = &tables().sensitivities;
    is_or_below(tree, code, ancestor)
        || (ancestor == "BH" && BEHAVIORAL.iter().any(|part| is_or_below(tree, code, part)))
}

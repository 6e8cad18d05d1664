//! CONSENT.md read a second time, naively: no function of the ledger's evaluator is used, only its data types and the bytes
//! of the committed code tables. `Some(true)`, `Some(false)` and `None` are TRUE, FALSE and UNKNOWN. Nothing here is fast,
//! clever or shared.
//!
//! `mutant` breaks one arm of the reading: a model that can't tell a broken reading from the right one proves nothing, so
//! each mutant must differ from the ledger somewhere (`agreement.rs`).

mod matching;
mod outcome;
mod saying;
mod tree;
mod world;

use assent_ledger::consent::*;

pub use tree::Tree;
pub use world::{generate, Random, World};

/// TRUE, FALSE, UNKNOWN.
pub type Truth = Option<bool>;

/// One arm read wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// None: the reading that must agree.
    None,
    /// 8: a PERMIT covers what must be named by inheriting it.
    InheritsWhatMustBeNamed,
    /// 6: at equal depth PERMIT wins the tie.
    PermitWinsTies,
    /// 6: an UNKNOWN DENY is passed over.
    IgnoresUnknownDenies,
    /// Revocation takes the denies away too.
    RevocationLiftsDenies,
    /// 4: a consent still stands at the very moment that it ends.
    EndIsInclusive,
    /// 8: a PERMIT is content with covering one of the labels.
    PermitCoversAny,
    /// 8: DENY BH is read by the table alone.
    DenyBhByTheTable,
    /// 8: of a record's period a PERMIT is content with one common day.
    PermitTakesCommonDay,
    /// 7: across consents PERMIT beats INDETERMINATE.
    PermitBeatsIndeterminate,
    /// Model: LIMIT lets the default speak.
    LimitLetsDefaultSpeak,
    /// 3: psychotherapy notes go with any permit.
    NotesGoWithAnyPermit,
    /// 1: break-glass passes a DENY.
    GlassPassesDeny,
    /// R5: a nested rule doesn't carry its ancestors' conditions.
    ForgetsAncestors,
    /// 9: of several patients the most favourable counts.
    MostFavourable,
}

pub const MUTANTS: [Mutant; 14] = [
    Mutant::InheritsWhatMustBeNamed,
    Mutant::PermitWinsTies,
    Mutant::IgnoresUnknownDenies,
    Mutant::RevocationLiftsDenies,
    Mutant::EndIsInclusive,
    Mutant::PermitCoversAny,
    Mutant::DenyBhByTheTable,
    Mutant::PermitTakesCommonDay,
    Mutant::PermitBeatsIndeterminate,
    Mutant::LimitLetsDefaultSpeak,
    Mutant::NotesGoWithAnyPermit,
    Mutant::GlassPassesDeny,
    Mutant::ForgetsAncestors,
    Mutant::MostFavourable,
];

/// What one consent says: "DENY", "INDETERMINATE", "PERMIT", "LIMIT", "" for nothing, with the rules that say it, and
/// whether it would say DENY without its UNKNOWN denies.
type Said = (&'static str, Vec<String>, bool);

pub struct Model<'a> {
    pub tree: &'a Tree,
    pub world: &'a World,
    pub mutant: Mutant,
}

fn and(all: Vec<Truth>) -> Truth {
    if all.contains(&Some(false)) {
        return Some(false);
    }
    if all.contains(&None) {
        return None;
    }
    Some(true)
}

fn or(all: Vec<Truth>) -> Truth {
    if all.contains(&Some(true)) {
        return Some(true);
    }
    if all.contains(&None) || all.is_empty() {
        return None;
    }
    Some(false)
}

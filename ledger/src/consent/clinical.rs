//! Clinical dates: days in the record's own offset (CONSENT.md, Decision 8). A date that names no day, such as
//! `2019-05`, may be any day of its month, so a comparison may come out UNKNOWN.

use serde::{Deserialize, Serialize};

use super::dates::{self, Precision};
use super::kleene::Kleene;
use super::model::Effect;

const DAY_MS: i64 = 86_400_000;

/// Days since 1970-01-01, both inclusive; an absent bound is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DayRange {
    #[serde(default)]
    pub first: Option<i32>,
    #[serde(default)]
    pub last: Option<i32>,
}

/// The days that a date as written may mean; both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Days {
    pub first: i32,
    pub last: i32,
}

/// When a record's matter happened: from a day of `start` to a day of `end`. A moment has both alike; a period's absent
/// bound is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClinicalDate {
    pub start: Option<Days>,
    pub end: Option<Days>,
}

/// The days of a FHIR date, dateTime or instant, as written: its offset is not applied. `None` for anything else.
pub fn days(text: &str) -> Option<Days> {
    let span = dates::parse(text)?;
    let span = match span.precision {
        Precision::Time => dates::parse(text.split_once('T')?.0)?,
        Precision::Year | Precision::Month | Precision::Day => span,
    };
    let day = |at_ms: i64| i32::try_from(at_ms.div_euclid(DAY_MS)).ok();
    Some(Days { first: day(span.start_ms)?, last: day(span.end_ms - 1)? })
}

impl ClinicalDate {
    /// A moment, however precisely known.
    pub fn moment(days: Days) -> Self {
        Self { start: Some(days), end: Some(days) }
    }

    /// A period; `None` if it ends before it starts or has no bound at all.
    pub fn period(start: Option<Days>, end: Option<Days>) -> Option<Self> {
        let backwards = start.zip(end).is_some_and(|(start, end)| start.first > end.last);
        (!backwards && (start.is_some() || end.is_some())).then_some(Self { start, end })
    }

    /// Decision 8: a PERMIT needs all of the record's period inside, a DENY one common day.
    pub(super) fn within(&self, effect: Effect, range: &DayRange) -> Kleene {
        let (from, to) = (range.first.unwrap_or(i32::MIN), range.last.unwrap_or(i32::MAX));
        // The earliest and latest that it may have begun and ended; it ended no earlier than it began.
        let (begun, begun_latest) = self.start.map_or((i32::MIN, i32::MIN), |d| (d.first, d.last));
        let (ended_earliest, ended) = self.end.map_or((i32::MAX, i32::MAX), |d| (d.first, d.last));
        let begun_latest = begun_latest.min(ended);
        let ended_earliest = ended_earliest.max(begun);
        let (surely, possibly) = match effect {
            Effect::Permit => (
                from <= begun && ended <= to,
                from <= begun_latest && ended_earliest <= to && begun.max(from) <= ended.min(to),
            ),
            Effect::Deny => (begun_latest <= to && from <= ended_earliest, begun <= to && from <= ended),
        };
        match (surely, possibly) {
            (true, _) => Kleene::True,
            (false, true) => Kleene::Unknown,
            (false, false) => Kleene::False,
        }
    }
}

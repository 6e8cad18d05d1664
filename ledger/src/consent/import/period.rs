//! A provision's two periods: when it holds, and of which days the records are.

use super::reader::{Findings, Object};
use crate::consent::clinical::days;
use crate::consent::dates::{self, Precision, Span};
use crate::consent::issue::quoted;
use crate::consent::{DayRange, Period};

/// The bounds of a Period, as written and as read.
fn bounds<'a>(object: &mut Object<'a>, to: &mut Findings) -> [Option<(&'a str, Span)>; 2] {
    let path = object.path.clone();
    ["start", "end"].map(|key| {
        let text = object.text(key, to)?;
        let span = dates::parse(text);
        if span.is_none() {
            to.refuse("bad-date", &format!("{path}.{key}"), format!("{} is no FHIR dateTime", quoted(text)));
        }
        span.map(|span| (text, span))
    })
}

fn empty(path: &str, to: &mut Findings) {
    to.refuse("empty-period", path, "a period needs a bound, and its start before its end");
}

/// When a provision holds, and the coarsest precision it was written with.
pub fn validity(mut object: Object, to: &mut Findings) -> Option<(Period, Precision)> {
    let path = object.path.clone();
    let [start, end] = bounds(&mut object, to).map(|bound| bound.map(|(_, span)| span));
    object.finish(to);
    let precision = [start, end].into_iter().flatten().map(|span| span.precision).min();
    let valid = Period { start_ms: start.map(|s| s.start_ms), end_ms: end.map(|e| e.end_ms) };
    let nothing = valid.start_ms.zip(valid.end_ms).is_some_and(|(start, end)| start >= end);
    if precision.is_none() || nothing {
        empty(&path, to);
    }
    precision.map(|precision| (valid, precision))
}

/// Of which days the records are. Clinical dates are days; a time of day can't be compared (CONSENT.md, "Refuse also").
pub fn clinical(mut object: Object, to: &mut Findings) -> Option<(DayRange, Precision)> {
    let path = object.path.clone();
    let found = bounds(&mut object, to);
    object.finish(to);
    let precision = found.iter().flatten().map(|(_, span)| span.precision).min();
    if found.iter().flatten().any(|(_, span)| span.precision == Precision::Time) {
        to.refuse("data-period-with-time", &path, "clinical dates are days; a time of day can't be compared");
        return None;
    }
    let [start, end] = found.map(|bound| bound.and_then(|(text, _)| days(text)));
    let range = DayRange { first: start.map(|s| s.first), last: end.map(|e| e.last) };
    let nothing = range.first.zip(range.last).is_some_and(|(first, last)| first > last);
    if precision.is_none() || nothing {
        empty(&path, to);
    }
    precision.map(|precision| (range, precision))
}

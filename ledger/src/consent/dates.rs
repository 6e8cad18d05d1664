//! FHIR's dateTime. A consent's period is UTC where no offset is written, its end inclusive to its precision (CONSENT.md,
//! Decision 8), so each text is a span: from its first millisecond to the one after its last.

use time::{Date, Month};

pub const DAY_MS: i64 = 86_400_000;

/// One dateTime as `[start_ms, end_ms)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start_ms: i64,
    pub end_ms: i64,
    pub precision: Precision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    Year,
    Month,
    Day,
    Time,
}

/// `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or `YYYY-MM-DDThh:mm:ss[.f](Z|+hh:mm|-hh:mm)`; `None` for anything else.
pub fn parse(text: &str) -> Option<Span> {
    let (date, clock) = match text.split_once('T') {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = parts.next().map(|p| digits(p, 2).and_then(|m| Month::try_from(u8::try_from(m).ok()?).ok()));
    let day = parts.next().map(|p| digits(p, 2).and_then(|d| u8::try_from(d).ok()));
    if parts.next().is_some() || year == 0 {
        return None;
    }
    let (month, day, precision) = match (month, day) {
        (None, None) => (Month::January, 1, Precision::Year),
        (Some(month), None) => (month?, 1, Precision::Month),
        (month, day) => (month??, day??, Precision::Day),
    };
    let year = i32::try_from(year).ok()?;
    let first = Date::from_calendar_date(year, month, day).ok()?;
    let epoch = Date::from_calendar_date(1970, Month::January, 1).ok()?;
    let start_ms = (first - epoch).whole_days() * DAY_MS;
    let days = match precision {
        Precision::Year => i64::from(time::util::days_in_year(year)),
        Precision::Month => i64::from(month.length(year)),
        Precision::Day | Precision::Time => 1,
    };
    match clock {
        None => Some(Span { start_ms, end_ms: start_ms + days * DAY_MS, precision }),
        Some(clock) if precision == Precision::Day => {
            let (from, width) = clock_ms(clock)?;
            let start_ms = start_ms + from;
            Some(Span { start_ms, end_ms: start_ms + width, precision: Precision::Time })
        }
        Some(_) => None,
    }
}

/// Milliseconds from the date's midnight UTC, and how many of them the text covers. Finer than a millisecond is cut.
fn clock_ms(text: &str) -> Option<(i64, i64)> {
    let zone = text.find(['Z', '+', '-'])?;
    let (clock, offset) = text.split_at_checked(zone)?;
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (clock, None),
    };
    let of_day = sixty(clock, 3)? * 1000;
    let offset_ms = match offset.split_at_checked(1)? {
        ("Z", "") => 0,
        ("+", rest) => sixty(rest, 2)? * 60_000,
        ("-", rest) => -sixty(rest, 2)? * 60_000,
        _ => return None,
    };
    let (part, width) = match fraction {
        None => (0, 1000),
        Some(f) if f.is_empty() || f.len() > 9 || !f.bytes().all(|b| b.is_ascii_digit()) => return None,
        Some(f) => {
            let thousandths: i64 = format!("{f}00").get(..3)?.parse().ok()?;
            (thousandths, [100, 10].get(f.len() - 1).copied().unwrap_or(1))
        }
    };
    Some((of_day + part - offset_ms, width))
}

/// `hh:mm` in minutes or `hh:mm:ss` in seconds.
fn sixty(text: &str, fields: usize) -> Option<i64> {
    let parts: Vec<i64> = text.split(':').map(|part| digits(part, 2)).collect::<Option<_>>()?;
    let sound = parts.len() == fields && parts.first()? < &24 && parts.iter().skip(1).all(|part| *part < 60);
    sound.then(|| parts.iter().fold(0, |sum, part| sum * 60 + part))
}

fn digits(text: &str, count: usize) -> Option<i64> {
    let sound = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    sound.then(|| text.parse().ok())?
}

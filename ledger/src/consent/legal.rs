//! What the law asks of a consent before it counts (CONSENT.md, "What the law asks"): the elements that it must name, and how
//! long a parent may speak.

use time::{Date, Month};

use super::dates::DAY_MS;
use super::model::{Base, Clause, Consent, Effect, LegalBasis, Rule};

/// Age in years at which a minor comes of age.
const MAJORITY_YEARS: i32 = 18;

/// Authorities that end when the patient comes of age.
const OVER_MINORS: [&str; 2] = ["parent", "guardian-of-minor"];

/// What an authorization under HIPAA (45 CFR 164.508(c)) or 42 CFR Part 2 (2.31) must name wherever it permits, and this one
/// does not: of `recipient`, `purpose` and `end`. Other consents, and those that only deny, need none of it.
pub fn missing_elements(consent: &Consent) -> Vec<&'static str> {
    let demanded = matches!(consent.legal_basis, Some(LegalBasis::HipaaAuthorization))
        || consent.legal_basis.is_some_and(LegalBasis::is_part2);
    if !demanded {
        return Vec::new();
    }
    let permits = |rule: &&Rule| rule.clause.effect == Effect::Permit;
    let by_rules = consent.rules.iter().chain(&consent.root_rule).filter(permits);
    let clauses = by_rules.map(|rule| rule.within.iter().chain([&rule.clause]).collect::<Vec<_>>());
    let by_base = (consent.base == Base::Permit).then(Vec::new);
    let permitting: Vec<Vec<&Clause>> = by_base.into_iter().chain(clauses).collect();
    let context = &consent.context;
    let lacks = |in_context: bool, in_clause: fn(&Clause) -> bool| {
        !in_context && permitting.iter().any(|clauses| !clauses.iter().any(|clause| in_clause(clause)))
    };
    let found = [
        ("recipient", lacks(context.recipients.is_some(), |clause| clause.recipients.is_some())),
        ("purpose", lacks(context.purposes.is_some(), |clause| clause.purposes.is_some())),
        ("end", lacks(context.valid.end_ms.is_some(), |clause| clause.valid.end_ms.is_some())),
    ];
    found.into_iter().filter(|(_, lacks)| *lacks).map(|(name, _)| name).collect()
}

/// The last moment at which this authority over a patient born on that day (YYYY-MM-DD) may end, in milliseconds since 1970
/// UTC: the end of the 18th birthday, for one over a minor. None: no such bound, or no such day.
pub fn authority_limit_ms(authority: &str, birth_date: &str) -> Option<i64> {
    if !OVER_MINORS.contains(&authority) {
        return None;
    }
    let mut parts = birth_date.split('-').map(str::parse::<i32>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let (year, month) = (year + MAJORITY_YEARS, Month::try_from(u8::try_from(month).ok()?).ok()?);
    let day = u8::try_from(day).ok()?;
    // Born on a 29th of February: the day before the 1st of March, which is the earlier of the two that laws know.
    let birthday = Date::from_calendar_date(year, month, day)
        .or_else(|_| Date::from_calendar_date(year, month, day.saturating_sub(1)))
        .ok()?;
    let epoch = Date::from_calendar_date(1970, Month::January, 1).ok()?;
    Some(((birthday - epoch).whole_days() + 1) * DAY_MS - 1)
}

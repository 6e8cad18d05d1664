//! How the claims are told: a table for people, one JSON object for programs.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent};
use serde::Serialize;

use super::claim::Claim;

/// Widest line of the table, in columns.
const WIDTH: u16 = 80;

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    claims: &'a [Claim],
}

/// True when every claim holds.
pub fn all_hold(claims: &[Claim]) -> bool {
    !claims.is_empty() && claims.iter().all(|claim| claim.ok)
}

/// `{ok, claims:[{id, ok, checked, value, unit}]}`.
pub fn json(claims: &[Claim]) -> String {
    serde_json::to_string(&Report { ok: all_hold(claims), claims })
        .unwrap_or_else(|_| "{\"ok\":false}".into())
}

/// The table, and what did not hold.
pub fn table(claims: &[Claim]) -> String {
    let mut table = Table::new();
    table
        .load_preset(UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
    table.set_header(["claim", "", "figure", "what was seen"]);
    for claim in claims {
        let holds = if claim.ok { "holds" } else { "FAILS" };
        let figure = format!("{} {}", claim.value, claim.unit);
        table.add_row([
            Cell::new(claim.id),
            Cell::new(holds),
            Cell::new(figure.trim()).set_alignment(CellAlignment::Right),
            Cell::new(&claim.shows),
        ]);
    }
    let mut text = table.trim_fmt();
    for claim in claims {
        for fault in &claim.faults {
            text.push_str(&format!("\n{}: {fault}", claim.id));
        }
    }
    let (held, all) = (claims.iter().filter(|claim| claim.ok).count(), claims.len());
    let checked: u64 = claims.iter().map(|claim| claim.checked).sum();
    text.push_str(&format!("\n{held} of {all} claims hold, {checked} observations checked"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Vec<Claim> {
        let good = Claim {
            id: "offline-verify",
            ok: true,
            checked: 7,
            value: 64.into(),
            unit: "bytes",
            shows: "a long sentence about what was seen, which certainly does not fit into one line".into(),
            faults: Vec::new(),
        };
        vec![good, Claim::broken_off("crash", "no answer".into())]
    }

    #[test]
    fn the_table_fits_and_names_what_failed() {
        let text = table(&claims());
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
        assert!(text.contains("FAILS") && text.contains("crash: no answer"), "{text}");
        assert!(text.ends_with("1 of 2 claims hold, 7 observations checked"), "{text}");
    }

    #[test]
    fn the_json_has_the_fixed_form() {
        let value: serde_json::Value = serde_json::from_str(&json(&claims())).unwrap();
        assert_eq!(value["ok"], false);
        let first = serde_json::json!({"id": "offline-verify", "ok": true, "checked": 7, "value": 64, "unit": "bytes"});
        assert_eq!(value["claims"][0], first);
        assert_eq!(value.as_object().unwrap().len(), 2);
    }

    #[test]
    fn no_claims_prove_nothing() {
        assert!(!all_hold(&[]));
        assert!(!all_hold(&claims()));
        assert!(all_hold(&claims()[..1]));
    }
}

//! How it is told: each changed bit for people, all of it for programs.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table, TableComponent};
use serde_json::json;

use super::judge::is_found;
use super::seen::{ObjectSeen, TamperSeen};
use crate::demo::claim::Claim;
use crate::demo::report;

/// Widest line of the table, in columns.
const WIDTH: u16 = 80;
/// Longest that the program's words are shown.
const WORDS: usize = 90;

/// `{ok, seed, claims:[{id, ok, checked, value, unit}], flips:[{id, file, byte, bit, place, exit, named, found}]}`.
pub fn json(seen: &TamperSeen, claims: &[Claim]) -> String {
    let flips = seen.objects.iter().flat_map(|object| {
        object.flips.iter().map(|flip| {
            json!({
                "id": object.id, "file": flip.file, "byte": flip.byte, "bit": flip.bit, "place": flip.place,
                "exit": flip.exit, "named": flip.named, "found": is_found(object.id, flip),
            })
        })
    });
    let flips: Vec<_> = flips.collect();
    json!({ "ok": report::all_hold(claims), "seed": seen.seed, "claims": claims, "flips": flips }).to_string()
}

/// Bit by bit, then the claims.
pub fn table(seen: &TamperSeen, claims: &[Claim]) -> String {
    let mut table = Table::new();
    table
        .load_preset(UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
    table.set_header(["changed", "", "one bit of", "named"]);
    for object in &seen.objects {
        for row in rows(object) {
            table.add_row(row);
        }
    }
    format!("{}\n\nseed {}\n\n{}", table.trim_fmt(), seen.seed, report::table(claims))
}

fn rows(object: &ObjectSeen) -> impl Iterator<Item = [String; 4]> + '_ {
    object.flips.iter().map(|flip| {
        let found = if is_found(object.id, flip) { "found" } else { "MISSED" };
        // What was expected and found are hashes.
        let said = flip.named.to_string();
        let said = said.split(": expected").next().unwrap_or_default();
        let mut named: String = said.chars().take(WORDS).collect();
        if named.len() < said.len() {
            named.push('…');
        }
        [object.id.to_owned(), found.to_owned(), flip.place.to_string(), named]
    })
}

//! The code tables, parsed a second time and walked upwards step by step.

use assent_ledger::consent::TABLES_TSV;

/// Code and parents, of two kinds.
pub struct Tree {
    purposes: Vec<(String, Vec<String>)>,
    labels: Vec<(String, Vec<String>)>,
}

impl Tree {
    pub fn of_the_tables() -> Self {
        let kind = |kind: &str| {
            let rows = TABLES_TSV.lines().map(|line| line.split('\t').collect::<Vec<_>>());
            rows.filter(|row| row[0] == kind)
                .map(|row| {
                    let parents = row[2].split(',').filter(|p| !p.is_empty());
                    (row[1].to_owned(), parents.map(str::to_owned).collect())
                })
                .collect()
        };
        Self { purposes: kind("purpose"), labels: kind("sensitivity") }
    }

    pub fn is_purpose_below(&self, code: &str, ancestor: &str) -> bool {
        is_below(&self.purposes, code, ancestor)
    }

    pub fn is_label_below(&self, code: &str, ancestor: &str) -> bool {
        is_below(&self.labels, code, ancestor)
    }

    pub fn is_label(&self, code: &str) -> bool {
        self.labels.iter().any(|(label, _)| label == code)
    }

    pub fn purposes(&self) -> Vec<&str> {
        self.purposes.iter().map(|(code, _)| code.as_str()).collect()
    }

    pub fn labels(&self) -> Vec<&str> {
        self.labels.iter().map(|(code, _)| code.as_str()).filter(|code| !code.starts_with('_')).collect()
    }
}

fn is_below(rows: &[(String, Vec<String>)], code: &str, ancestor: &str) -> bool {
    code == ancestor
        || rows
            .iter()
            .filter(|(found, _)| found == code)
            .any(|(_, parents)| parents.iter().any(|parent| is_below(rows, parent, ancestor)))
}

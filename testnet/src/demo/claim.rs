//! One claim, and how it is put together from checks.

use std::fmt::Debug;

use serde::Serialize;
use serde_json::Number;

/// One claim and whether it holds.
#[derive(Debug, Clone, Serialize)]
pub struct Claim {
    /// Which.
    pub id: &'static str,
    /// It holds.
    pub ok: bool,
    /// Number of observations that it was checked against.
    pub checked: u64,
    /// Its figure.
    pub value: Number,
    /// Unit of the figure.
    pub unit: &'static str,
    /// What it shows, in words.
    #[serde(skip)]
    pub shows: String,
    /// What did not hold.
    #[serde(skip)]
    pub faults: Vec<String>,
}

impl Claim {
    /// A claim whose step broke off.
    pub fn broken_off(id: &'static str, why: String) -> Self {
        Self {
            id,
            ok: false,
            checked: 0,
            value: 0.into(),
            unit: "",
            shows: "broke off".into(),
            faults: vec![why],
        }
    }
}

/// Counts what was checked and remembers what did not hold.
#[derive(Default)]
pub struct Checks {
    checked: u64,
    faults: Vec<String>,
}

impl Checks {
    /// Something must be.
    pub fn holds(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.faults.push(fault());
        }
    }

    /// Two values must be equal.
    pub fn same<T: PartialEq + Debug + ?Sized>(&mut self, what: &str, expected: &T, found: &T) {
        self.holds(expected == found, || format!("{what}: expected {expected:?}, found {found:?}"));
    }

    /// A number has a least value.
    pub fn at_least(&mut self, what: &str, least: u64, found: u64) {
        self.holds(found >= least, || format!("{what}: at least {least} needed, found {found}"));
    }

    /// The claim: it holds when nothing was wrong.
    pub fn claim(
        self,
        id: &'static str,
        value: impl Into<Number>,
        unit: &'static str,
        shows: String,
    ) -> Claim {
        let ok = self.faults.is_empty();
        Claim { id, ok, checked: self.checked, value: value.into(), unit, shows, faults: self.faults }
    }
}

/// A figure with one decimal.
pub fn tenths(value: f64) -> Number {
    Number::from_f64((value * 10.0).round() / 10.0).unwrap_or_else(|| 0.into())
}

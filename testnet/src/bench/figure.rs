//! A measured figure, its target, and the ceiling that the same run measured.

use serde::Serialize;

/// What this machine does at most in the same run, so that the ratio holds on any machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ceiling {
    /// What was measured, such as `bare_unary_per_s`.
    pub name: &'static str,
    /// Its value, in the figure's unit unless the name says another.
    pub value: f64,
}

/// Which side of its target a figure must be on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Reported without a target.
    None,
}

/// One figure; its JSON form is fixed in INTERFACES.md.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Such as `commit_ops_per_s`.
    pub name: &'static str,
    /// The value, in `unit`.
    pub value: f64,
    /// Such as `ops/s`, `ms`, `ratio`.
    pub unit: &'static str,
    /// The target's number; none when the figure is only reported.
    #[serde(serialize_with = "number")]
    pub target: Target,
    /// On the right side of the target; true when there is none.
    pub met: bool,
    /// The ceiling; none where nothing simpler compares.
    pub ceiling: Option<Ceiling>,
    /// Value over ceiling.
    pub ratio: Option<f64>,
    /// Number of samples that the value stands on.
    pub samples: u64,
    /// How long it was measured, in seconds.
    pub seconds: f64,
}

fn number<S: serde::Serializer>(target: &Target, serializer: S) -> Result<S::Ok, S::Error> {
    match target {
        Target::AtLeast(value) | Target::AtMost(value) => serializer.serialize_some(value),
        Target::None => serializer.serialize_none(),
    }
}

impl Figure {
    /// A figure without a ceiling.
    pub fn new(
        name: &'static str,
        value: f64,
        unit: &'static str,
        target: Target,
        samples: u64,
        seconds: f64,
    ) -> Self {
        let met = match target {
            Target::AtLeast(least) => value >= least,
            Target::AtMost(most) => value <= most && value.is_finite(),
            Target::None => true,
        };
        Self { name, value, unit, target, met, ceiling: None, ratio: None, samples, seconds }
    }

    /// Beside a ceiling.
    pub fn under(mut self, name: &'static str, value: f64) -> Self {
        self.ratio = (value > 0.0).then_some(self.value / value);
        self.ceiling = Some(Ceiling { name, value });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_on_the_right_side_of_its_target_or_not() {
        let met = |value, target| Figure::new("f", value, "u", target, 1, 1.0).met;
        assert!(met(3000.0, Target::AtLeast(3000.0)) && !met(2999.9, Target::AtLeast(3000.0)));
        assert!(met(60.0, Target::AtMost(60.0)) && !met(60.1, Target::AtMost(60.0)));
        assert!(!met(f64::NAN, Target::AtMost(60.0)) && !met(f64::NAN, Target::AtLeast(1.0)));
        assert!(met(0.0, Target::None));
    }

    #[test]
    fn its_json_is_as_the_interfaces_say() {
        let figure = Figure::new("check_per_s", 8000.0, "checks/s", Target::AtLeast(10_000.0), 80_000, 10.0);
        let json = serde_json::to_value(figure.under("bare_unary_per_s", 16_000.0)).unwrap();
        let expected = serde_json::json!({
            "name": "check_per_s", "value": 8000.0, "unit": "checks/s", "target": 10_000.0, "met": false,
            "ceiling": {"name": "bare_unary_per_s", "value": 16_000.0}, "ratio": 0.5, "samples": 80_000, "seconds": 10.0
        });
        assert_eq!(json, expected);
    }
}

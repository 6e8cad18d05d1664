//! Three-valued logic (CONSENT.md, Decision 5): what was never assessed is neither so nor not so.

/// The truth of one condition. Ordered, so that AND is the least and OR the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kleene {
    False,
    Unknown,
    True,
}

impl Kleene {
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// AND over the attributes of a rule: True where there are none.
    pub fn all(terms: impl IntoIterator<Item = Self>) -> Self {
        terms.into_iter().fold(Self::True, Self::and)
    }

    /// OR within one attribute. An empty list is refused at the border; should one get here, it says nothing
    /// definite, because False would skip a deny and True would widen a permit.
    pub fn any(terms: impl IntoIterator<Item = Self>) -> Self {
        terms.into_iter().reduce(Self::or).unwrap_or(Self::Unknown)
    }
}

impl From<bool> for Kleene {
    fn from(holds: bool) -> Self {
        if holds {
            Self::True
        } else {
            Self::False
        }
    }
}

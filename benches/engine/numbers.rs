//! What a repeated case found.

use std::{collections::BTreeMap, fmt};

/// What a repeated case found, by name.
#[derive(Clone, Default)]
pub(crate) struct Numbers(pub(crate) BTreeMap<String, Vec<f64>>);

impl Numbers {
    pub(crate) fn spread(&self, key: &str) -> Spread {
        let mut found = self.0.get(key).cloned().unwrap_or_else(|| vec![f64::NAN]);
        found.sort_by(f64::total_cmp);
        Spread { median: found[found.len() / 2], min: found[0], max: found[found.len() - 1] }
    }
}

pub(crate) struct Spread {
    pub(crate) median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// How many times the other it is.
    pub(crate) fn times(&self, other: &Self) -> String {
        if other.median == 0.0 { String::new() } else { format!("{:.2}", self.median / other.median) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, min, max } = self;
        f.pad(&if median.abs() >= 100.0 {
            format!("{median:.0} ({min:.0}..{max:.0})")
        } else {
            format!("{median:.2} ({min:.2}..{max:.2})")
        })
    }
}

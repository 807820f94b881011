//! What can be wrong with what an application says.

use std::fmt;

/// One thing that is wrong with a definition: what was written, the rule that it breaks, and the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What the fault is in, from the outside in: `job "mail": cron`.
    pub subject: String,
    /// The value as it was written.
    pub value: String,
    /// The rule that the value breaks, with the position where there is one.
    pub rule: String,
    /// What to write instead.
    pub cure: String,
}

impl Fault {
    /// A fault in `subject`: `value` breaks `rule`; `cure` mends it.
    pub fn new(
        subject: impl Into<String>,
        value: impl Into<String>,
        rule: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { subject: subject.into(), value: value.into(), rule: rule.into(), cure: cure.into() }
    }

    /// The same fault, seen from further outside.
    #[must_use]
    pub fn within(mut self, subject: &str) -> Self {
        self.subject = format!("{subject}: {}", self.subject);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}; {}", self.subject, self.value, self.rule, self.cure)
    }
}

/// Everything that is wrong with what was given, all at once; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The faults as an error, if there are any.
    ///
    /// # Errors
    ///
    /// The faults, unless `faults` is empty.
    pub fn check(faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }

    /// The faults in the order in which they were found.
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }

    /// The faults one by one.
    pub fn into_vec(self) -> Vec<Fault> {
        self.0
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, fault) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

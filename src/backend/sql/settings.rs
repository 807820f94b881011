//! What all nodes on SQL tables are told.

use std::time::Duration;

use callsheet_actors::{CALL_DEADLINE, DurationText, Fault, metrics::SCOPE_LABEL_LOCAL};

use super::LEASE_DEFAULT;

const LEASE_MIN: Duration = Duration::from_secs(1);
const LEASE_MAX: Duration = Duration::from_hours(1);
/// The longest deadline unless given.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(2);
const DEADLINE_MIN: Duration = Duration::from_millis(50);
/// The longest scope, in bytes.
const SCOPE_MAX: usize = 100;

/// How long all of an attempt to connect may take: a little less than the engine waits, so that the reason is
/// known.
pub(in crate::backend) const CONNECT_TIMEOUT: Duration =
    CALL_DEADLINE.saturating_sub(Duration::from_millis(500));

/// What does not depend on the database.
#[derive(Clone)]
pub(in crate::backend) struct Common {
    /// The store at the beginning of a fault, and the type in a cure.
    store: &'static str,
    backend: &'static str,
    pub(in crate::backend) scope: String,
    pub(in crate::backend) lease: Duration,
    pub(in crate::backend) deadline: Option<Duration>,
}

impl Common {
    pub(in crate::backend) fn new(store: &'static str, backend: &'static str, scope: String) -> Self {
        Self { store, backend, scope, lease: LEASE_DEFAULT, deadline: None }
    }

    pub(in crate::backend) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |what: &str, value: &str, rule: &str, cure: &str| {
            faults.push(Fault::new(format!("{}: {what}", self.store), value, rule, cure));
        };
        if self.scope.trim().is_empty() {
            let rule = "a scope is not empty: nodes of one scope share leader and jobs";
            let cure = format!("name the application: {}::new(\"billing\", url)", self.backend);
            fault("scope", &self.scope, rule, &cure);
        }
        if self.scope.len() > SCOPE_MAX || self.scope.chars().any(char::is_control) {
            let rule = "a scope has at most 100 bytes and no control characters";
            fault("scope", "…", rule, "choose a shorter, plain name");
        }
        if self.scope.starts_with('_') {
            let rule = format!(
                "scopes that begin with `_` are reserved: {SCOPE_LABEL_LOCAL} is that of the embedded backend in metrics"
            );
            fault("scope", &self.scope, &rule, "begin it with another character");
        }
        if self.lease < LEASE_MIN || self.lease > LEASE_MAX {
            let value = DurationText(self.lease).to_string();
            let rule = "a lease is at least 1 s and at most 1 h";
            fault("lease", &value, rule, "choose another one; 15 s is the default");
        }
        if let Some(deadline) = self.deadline
            && (deadline < DEADLINE_MIN || deadline > CALL_DEADLINE.min(self.lease / 2))
        {
            let value = DurationText(deadline).to_string();
            let rule = "a deadline is at least 50 ms, at most 5 s, and at most half of the lease";
            fault("deadline", &value, rule, "choose another one, or a longer lease");
        }
        faults
    }
}

/// How long one call may take. One that was not answered can be repeated while the lease lasts.
pub(in crate::backend) fn deadline_within(given: Option<Duration>, lease: Duration) -> Duration {
    let deadline = given.unwrap_or_else(|| DEADLINE_DEFAULT.min(lease / 5 * 2));
    // One that is out of range is refused.
    deadline.clamp(DEADLINE_MIN, CALL_DEADLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_leaves_time_to_ask_again_within_the_lease() {
        let deadline = |lease| deadline_within(None, lease);

        assert_eq!(deadline(Duration::from_secs(1)), Duration::from_millis(400));
        assert_eq!(deadline(LEASE_DEFAULT), Duration::from_secs(2));
        assert_eq!(deadline(LEASE_MAX), Duration::from_secs(2));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let settings = |scope: &str| Common::new("mysql", "Mysql", scope.to_owned());
        let bad = Common { lease: Duration::ZERO, deadline: Some(Duration::from_millis(1)), ..settings("") };
        let told: Vec<_> = bad.faults().into_iter().map(|fault| fault.subject).collect();

        assert_eq!(told, ["mysql: scope", "mysql: lease", "mysql: deadline"]);
        assert_eq!(settings("billing").faults().len(), 0);
        for scope in ["_local", "a\nb", &"s".repeat(101)] {
            assert_eq!(settings(scope).faults().len(), 1, "{scope}");
        }
    }
}

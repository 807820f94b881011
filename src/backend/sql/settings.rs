//! What all nodes on SQL tables are told.

use std::time::Duration;

use crate::backend::checks::{Checks, deadline_of};

/// For how long what a silent node holds is kept, unless given.
const LEASE_DEFAULT: Duration = Duration::from_secs(15);
const LEASE_MIN: Duration = Duration::from_secs(1);
/// The longest deadline unless given.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(2);

/// What does not depend on the database.
#[derive(Clone)]
pub(in crate::backend) struct Common {
    /// The store at the beginning of a fault, and how a backend is made.
    store: &'static str,
    example: &'static str,
    pub(in crate::backend) scope: String,
    pub(in crate::backend) lease: Duration,
    pub(in crate::backend) deadline: Option<Duration>,
}

impl Common {
    pub(in crate::backend) fn new(store: &'static str, example: &'static str, scope: String) -> Self {
        Self { store, example, scope, lease: LEASE_DEFAULT, deadline: None }
    }

    /// How long one call may take. One that was not answered can be repeated while the lease lasts.
    pub(in crate::backend) fn deadline(&self) -> Duration {
        deadline_of(self.deadline, DEADLINE_DEFAULT, self.lease)
    }

    pub(in crate::backend) fn checks(&self) -> Checks {
        let mut checks = Checks::of(self.store);
        checks.scope(&self.scope, self.example);
        checks.lease(self.lease, LEASE_MIN, LEASE_DEFAULT);
        checks.deadline(self.deadline, self.lease);
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(scope: &str) -> Common {
        Common::new("mysql", "Mysql::new(\"billing\", url)", scope.to_owned())
    }

    #[test]
    fn a_deadline_leaves_time_to_ask_again_within_the_lease() {
        let deadline = |lease| Common { lease, ..settings("scope") }.deadline();

        assert_eq!(deadline(LEASE_MIN), Duration::from_millis(400));
        assert_eq!(deadline(LEASE_DEFAULT), Duration::from_secs(2));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let bad = Common { lease: Duration::ZERO, deadline: Some(Duration::from_millis(1)), ..settings("") };
        let told: Vec<_> = bad.checks().faults.into_iter().map(|fault| fault.subject).collect();

        assert_eq!(told, ["mysql: scope", "mysql: lease", "mysql: deadline"]);
        assert_eq!(settings("billing").checks().faults.len(), 0);
    }
}

//! What a node needs to know to connect, checked before anything is started.

use std::{fmt, time::Duration};

use callsheet_actors::Fault;
use rustls::ClientConfig;

use super::address::{self, Address};
use crate::backend::{
    certificates::Certificates,
    checks::{Checks, deadline_of, with_authority},
};

/// The lease unless given.
pub(super) const LEASE_DEFAULT: Duration = Duration::from_secs(5);
const LEASE_MIN: Duration = Duration::from_secs(1);
/// The longest deadline unless given.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) scope: String,
    pub(super) lease: Duration,
    deadline: Option<Duration>,
    /// What is wrong with the URL, if it is none.
    address: Result<Address, Fault>,
    pub(super) certificates: Certificates,
}

impl Settings {
    pub(super) fn new(scope: String, url: &str) -> Self {
        let (address, certificates) = address::read(url);
        Self { scope, lease: LEASE_DEFAULT, deadline: None, address, certificates }
    }

    /// Settings that are none: this is wrong with the URL.
    pub(super) fn without_url(scope: String, fault: Fault) -> Self {
        Self { address: Err(fault), ..Self::new(scope, "") }
    }

    pub(super) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = Some(deadline);
    }

    /// How long one call may take. One that was not answered can be repeated while the lease lasts.
    pub(super) fn deadline(&self) -> Duration {
        deadline_of(self.deadline, DEADLINE_DEFAULT, self.lease)
    }

    pub(super) fn address(&self) -> Result<&Address, Fault> {
        self.address.as_ref().map_err(Clone::clone)
    }

    /// How to encrypt, if the URL says so. Reads the files of certificates.
    pub(super) fn tls(&self) -> Result<Option<ClientConfig>, Fault> {
        if !self.address()?.encrypted {
            return Ok(None);
        }
        with_authority(&self.certificates).client_config().map(Some)
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut checks = Checks::of("redis");
        checks.scope(&self.scope, "Redis::new(\"billing\", url)");
        checks.lease(self.lease, LEASE_MIN, LEASE_DEFAULT);
        checks.deadline(self.deadline, self.lease);
        match &self.address {
            Ok(address) => checks.certificates(&self.certificates, address.encrypted, "rediss://"),
            Err(fault) => checks.faults.push(fault.clone()),
        }
        checks.faults
    }

    /// The beginning of all keys and of the channel. The braces put them onto one server of a cluster.
    pub(super) fn prefix(&self) -> String {
        let scope = self.scope.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
        format!("callsheet:{{{scope}}}:")
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL: it may contain a password.
        let mut shown = f.debug_struct("Settings");
        shown.field("scope", &self.scope).field("lease", &self.lease);
        shown.field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_leaves_time_to_ask_again_within_the_lease() {
        let deadline = |lease| {
            let settings = Settings { lease, ..Settings::new("scope".to_owned(), "redis://h") };
            settings.deadline()
        };

        assert_eq!(deadline(Duration::from_secs(1)), Duration::from_millis(400));
        assert_eq!(deadline(LEASE_DEFAULT), Duration::from_secs(2));
        assert_eq!(deadline(Duration::from_hours(1)), Duration::from_secs(2));
    }

    #[test]
    fn all_keys_of_a_scope_are_on_one_server_of_a_cluster() {
        let prefix = |scope: &str| Settings::new(scope.to_owned(), "redis://h").prefix();

        assert_eq!(prefix("billing"), "callsheet:{billing}:");
        assert_eq!(prefix("}"), "callsheet:{%7D}:");
        assert_ne!(prefix("}"), prefix("%7D"));
    }
}

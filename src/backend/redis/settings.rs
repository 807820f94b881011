//! What a node needs to know to connect, checked before anything is started.

use std::{fmt, time::Duration};

use callsheet_actors::{CALL_DEADLINE, DurationText, Fault, metrics::SCOPE_LABEL_LOCAL};
use rustls::ClientConfig;

use super::address::{self, Address};
use crate::backend::certificates::Certificates;

/// The lease unless given.
pub(super) const LEASE_DEFAULT: Duration = Duration::from_secs(5);
const LEASE_MIN: Duration = Duration::from_secs(1);
const LEASE_MAX: Duration = Duration::from_hours(1);
/// The longest deadline unless given.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(2);
const DEADLINE_MIN: Duration = Duration::from_millis(50);
/// The longest scope, in bytes.
const SCOPE_MAX: usize = 100;
/// How long all of an attempt to connect may take: a little less than the engine waits, so that the reason is
/// known.
pub(super) const CONNECT_TIMEOUT: Duration = CALL_DEADLINE.saturating_sub(Duration::from_millis(500));

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
        let deadline = self.deadline.unwrap_or_else(|| DEADLINE_DEFAULT.min(self.lease / 5 * 2));
        // One that is out of range is refused.
        deadline.clamp(DEADLINE_MIN, CALL_DEADLINE)
    }

    pub(super) fn address(&self) -> Result<&Address, Fault> {
        self.address.as_ref().map_err(Clone::clone)
    }

    /// How to encrypt, if the URL says so. Reads the files of certificates.
    pub(super) fn tls(&self) -> Result<Option<ClientConfig>, Fault> {
        if !self.address()?.encrypted {
            return Ok(None);
        }
        let mut certificates = self.certificates.clone();
        if !certificates.has_authority() {
            certificates.trust_system();
        }
        certificates.client_config().map(Some)
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |what: &str, value: &str, rule: &str, cure: &str| {
            faults.push(Fault::new(format!("redis: {what}"), value, rule, cure));
        };
        if self.scope.trim().is_empty() {
            let rule = "a scope is not empty: nodes of one scope share leader and jobs";
            fault("scope", &self.scope, rule, "name the application: Redis::new(\"billing\", url)");
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
            fault("lease", &value, rule, "choose another one; 5 s is the default");
        }
        if let Some(deadline) = self.deadline {
            let most = CALL_DEADLINE.min(self.lease / 2);
            if deadline < DEADLINE_MIN || deadline > most {
                let value = DurationText(deadline).to_string();
                let rule = "a deadline is at least 50 ms, at most 5 s, and at most half of the lease";
                fault("deadline", &value, rule, "choose another one, or a longer lease");
            }
        }
        match &self.address {
            Ok(address) if !address.encrypted && self.certificates.has_certificate() => {
                let rule = "a connection that is not encrypted shows no certificate";
                fault(
                    "url",
                    address::NOT_SHOWN,
                    rule,
                    "begin it with rediss://, or leave the certificate out",
                );
            }
            Ok(address) if !address.encrypted && self.certificates.has_authority() => {
                let rule = "a connection that is not encrypted verifies no certificate";
                fault("url", address::NOT_SHOWN, rule, "begin it with rediss://, or leave the authority out");
            }
            Ok(_) => faults.extend(self.tls().err()),
            Err(fault) => faults.push(fault.clone()),
        }
        faults
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
        assert_eq!(deadline(LEASE_MAX), Duration::from_secs(2));
    }

    #[test]
    fn all_keys_of_a_scope_are_on_one_server_of_a_cluster() {
        let prefix = |scope: &str| Settings::new(scope.to_owned(), "redis://h").prefix();

        assert_eq!(prefix("billing"), "callsheet:{billing}:");
        assert_eq!(prefix("}"), "callsheet:{%7D}:");
        assert_ne!(prefix("}"), prefix("%7D"));
    }
}

//! What settings of all stores have in common, checked before anything is started.

use std::{ops::RangeInclusive, time::Duration};

use callsheet_actors::{CALL_DEADLINE, DurationText, Fault, metrics::SCOPE_LABEL_LOCAL};

#[cfg(any(feature = "consul", feature = "etcd", feature = "redis"))]
use super::{address::NOT_SHOWN, certificates::Certificates};

/// The longest lease.
pub(super) const LEASE_MAX: Duration = Duration::from_hours(1);
const DEADLINE_MIN: Duration = Duration::from_millis(50);
/// The longest scope, in bytes.
const SCOPE_MAX: usize = 100;
/// How long all of an attempt to connect may take: a little less than the engine waits, so that the reason is
/// known.
#[cfg(any(feature = "etcd", feature = "mysql", feature = "postgres", feature = "redis"))]
pub(super) const CONNECT_TIMEOUT: Duration = CALL_DEADLINE.saturating_sub(Duration::from_millis(500));

/// What is wrong with the settings of a store.
pub(super) struct Checks {
    store: &'static str,
    pub(super) faults: Vec<Fault>,
}

impl Checks {
    pub(super) fn of(store: &'static str) -> Self {
        Self { store, faults: Vec::new() }
    }

    fn fault(&mut self, what: &str, value: &str, rule: &str, cure: &str) {
        self.faults.push(Fault::new(format!("{}: {what}", self.store), value, rule, cure));
    }

    /// `example` makes a backend with a scope.
    pub(super) fn scope(&mut self, scope: &str, example: &str) {
        if scope.trim().is_empty() {
            let rule = "a scope is not empty: nodes of one scope share leader and jobs";
            self.fault("scope", scope, rule, &format!("name the application: {example}"));
        }
        if scope.len() > SCOPE_MAX || scope.chars().any(char::is_control) {
            let rule = "a scope has at most 100 bytes and no control characters";
            self.fault("scope", "…", rule, "choose a shorter, plain name");
        }
        if scope.starts_with('_') {
            let rule = format!(
                "scopes that begin with `_` are reserved: {SCOPE_LABEL_LOCAL} is that of the embedded backend in metrics"
            );
            self.fault("scope", scope, &rule, "begin it with another character");
        }
    }

    pub(super) fn lease(&mut self, lease: Duration, least: Duration, default: Duration) {
        if lease < least || lease > LEASE_MAX {
            let [value, least, default] = [lease, least, default].map(|of| DurationText(of).to_string());
            let rule = format!("a lease is at least {} and at most 1 h", spaced(&least));
            let cure = format!("choose another one; {} is the default", spaced(&default));
            self.fault("lease", &value, &rule, &cure);
        }
    }

    pub(super) fn deadline(&mut self, deadline: Option<Duration>, lease: Duration) {
        let Some(deadline) = deadline else { return };
        if !deadlines(lease).contains(&deadline) {
            let value = DurationText(deadline).to_string();
            let rule = "a deadline is at least 50 ms, at most 5 s, and at most half of the lease";
            self.fault("deadline", &value, rule, "choose another one, or a longer lease");
        }
    }

    /// `scheme` begins the URL of a connection that is encrypted.
    #[cfg(any(feature = "consul", feature = "etcd", feature = "redis"))]
    pub(super) fn certificates(&mut self, certificates: &Certificates, encrypted: bool, scheme: &str) {
        if encrypted {
            self.faults.extend(with_authority(certificates).client_config().err());
            return;
        }
        let (rule, what) = match (certificates.has_certificate(), certificates.has_authority()) {
            (true, _) => ("a connection that is not encrypted shows no certificate", "certificate"),
            (false, true) => ("a connection that is not encrypted verifies no certificate", "authority"),
            (false, false) => return,
        };
        self.fault("url", NOT_SHOWN, rule, &format!("begin it with {scheme}, or leave the {what} out"));
    }
}

/// How long one call may take: what was set, or `default` where that leaves time to ask again within the lease.
pub(super) fn deadline_of(set: Option<Duration>, default: Duration, lease: Duration) -> Duration {
    let deadline = set.unwrap_or_else(|| default.min(lease / 5 * 2));
    // One that is out of range is refused.
    deadline.clamp(DEADLINE_MIN, CALL_DEADLINE)
}

fn deadlines(lease: Duration) -> RangeInclusive<Duration> {
    DEADLINE_MIN..=CALL_DEADLINE.min(lease / 2)
}

/// The same, which trust whom this machine trusts if nobody was named.
#[cfg(any(feature = "consul", feature = "etcd", feature = "redis"))]
pub(super) fn with_authority(certificates: &Certificates) -> Certificates {
    let mut certificates = certificates.clone();
    if !certificates.has_authority() {
        certificates.trust_system();
    }
    certificates
}

/// `5s` as `5 s`.
fn spaced(text: &str) -> String {
    let at = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    format!("{} {}", &text[..at], &text[at..])
}

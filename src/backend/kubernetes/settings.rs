//! What a node needs to know, checked before anything is started.

use std::{path::PathBuf, time::Duration};

use callsheet_actors::{DurationText, Fault, port::Lease};

/// The times unless given: those of the components of Kubernetes itself.
const LEASE_DURATION_DEFAULT: Duration = Duration::from_secs(15);
const RETRY_PERIOD_DEFAULT: Duration = Duration::from_secs(2);
const LEASE_DURATION_MIN: Duration = Duration::from_secs(2);
const LEASE_DURATION_MAX: Duration = Duration::from_hours(1);
const RENEW_DEADLINE_MIN: Duration = Duration::from_secs(1);
const RETRY_PERIOD_MIN: Duration = Duration::from_millis(100);
const DEADLINE_DEFAULT: Duration = Duration::from_millis(1_500);
const DEADLINE_MIN: Duration = Duration::from_millis(100);
/// Two calls, one after the other, are within the deadline of a call of the engine.
const DEADLINE_MAX: Duration = Duration::from_secs(2);
/// The longest name of a lease, and of a namespace.
const NAME_MAX: usize = 253;
const NAMESPACE_MAX: usize = 63;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) scope: String,
    pub(super) namespace: Option<String>,
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) lease_duration: Duration,
    pub(super) renew_deadline: Option<Duration>,
    pub(super) retry_period: Option<Duration>,
    pub(super) deadline: Duration,
}

impl Settings {
    pub(super) fn new(scope: String) -> Self {
        Self {
            scope,
            namespace: None,
            kubeconfig: None,
            lease_duration: LEASE_DURATION_DEFAULT,
            renew_deadline: None,
            retry_period: None,
            deadline: DEADLINE_DEFAULT,
        }
    }

    fn renew_deadline(&self) -> Duration {
        self.renew_deadline.unwrap_or(self.lease_duration / 3 * 2)
    }

    pub(super) fn retry_period(&self) -> Duration {
        self.retry_period.unwrap_or_else(|| RETRY_PERIOD_DEFAULT.min(self.renew_deadline() / 5))
    }

    /// The lease, as the engine counts it.
    pub(super) fn lease(&self) -> Lease {
        let duration = self.lease_duration;
        Lease { duration, margin: duration.saturating_sub(self.renew_deadline()) }
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |what: &str, value: &str, rule: &str, cure: &str| {
            faults.push(Fault::new(format!("kubernetes: {what}"), value, rule, cure));
        };
        if !is_subdomain(&self.scope) {
            let rule = "a scope is the name of a lease: 1 to 253 lower-case letters, digits, `-` and `.`, and it \
                        begins and ends with a letter or digit";
            fault("scope", &self.scope, rule, "name the application: Kubernetes::new(\"billing\")");
        }
        if let Some(namespace) = self.namespace.as_deref().filter(|namespace| !is_label(namespace)) {
            let rule = "a namespace has 1 to 63 lower-case letters, digits and `-`, and begins and ends with a \
                        letter or digit";
            fault("namespace", namespace, rule, "name one that is there, or leave it out");
        }
        let spans = [
            (
                "lease_duration",
                self.lease_duration,
                LEASE_DURATION_MIN..=LEASE_DURATION_MAX,
                "15s is the default",
            ),
            (
                "renew_deadline",
                self.renew_deadline(),
                RENEW_DEADLINE_MIN..=self.lease_duration / 4 * 3,
                "two thirds of the lease duration are the default",
            ),
            (
                "retry_period",
                self.retry_period(),
                RETRY_PERIOD_MIN..=self.renew_deadline() / 2,
                "2s is the default",
            ),
            ("deadline", self.deadline, DEADLINE_MIN..=DEADLINE_MAX, "1.5s is the default"),
        ];
        for (what, value, range, default) in spans {
            if !range.contains(&value) {
                let [least, most] = [*range.start(), *range.end()].map(DurationText);
                let rule = format!("it is at least {least} and at most {most}");
                fault(
                    what,
                    &DurationText(value).to_string(),
                    &rule,
                    &format!("choose another one; {default}"),
                );
            }
        }
        if self.lease_duration.subsec_nanos() > 0 {
            let value = DurationText(self.lease_duration).to_string();
            fault("lease_duration", &value, "it is a number of whole seconds", "round it up");
        }
        faults
    }
}

/// The names of leases: RFC 1123 subdomains.
fn is_subdomain(name: &str) -> bool {
    name.len() <= NAME_MAX && name.split('.').all(is_label_of_any_length)
}

/// The names of namespaces: RFC 1123 labels.
fn is_label(name: &str) -> bool {
    name.len() <= NAMESPACE_MAX && is_label_of_any_length(name)
}

fn is_label_of_any_length(label: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    is_end(label.chars().next()) && is_end(label.chars().last()) && label.chars().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        for (name, is_lease, is_namespace) in [
            ("billing", true, true),
            ("billing-2", true, true),
            ("eu.billing", true, false),
            ("", false, false),
            ("-billing", false, false),
            ("billing.", false, false),
            ("Billing", false, false),
            ("bill_ing", false, false),
        ] {
            assert_eq!((is_subdomain(name), is_label(name)), (is_lease, is_namespace), "{name:?}");
        }
        assert!(!is_subdomain(&"x".repeat(254)) && !is_label(&"x".repeat(64)));
    }

    #[test]
    fn the_times_follow_from_the_duration_of_the_lease_and_are_in_range() {
        let settings = Settings::new("billing".to_owned());
        let lease = settings.lease();
        assert_eq!((lease.duration, lease.margin), (Duration::from_secs(15), Duration::from_secs(5)));
        assert_eq!(settings.retry_period(), Duration::from_secs(2));

        for seconds in [2, 3, 15, 3_600] {
            let settings = Settings { lease_duration: Duration::from_secs(seconds), ..settings.clone() };
            assert!(settings.faults().is_empty(), "{seconds} s: {:?}", settings.faults());
        }
    }
}

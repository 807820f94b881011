//! What a node needs to know of the servers that vote, checked before anything is started.

use std::{fmt, ops::RangeInclusive, sync::Arc, time::Duration};

use callsheet_actors::Fault;

use crate::backend::{
    address::NOT_SHOWN,
    checks::{Checks, deadline_of},
    redis::{
        address::Place,
        settings::{LEASE_DEFAULT, Settings as OfServer},
    },
};

const LEASE_MIN: Duration = Duration::from_secs(1);
/// The longest deadline unless given: a minority that is silent delays what is split only.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(1);
/// How many servers there may be. Of two a majority is both.
const SERVERS: RangeInclusive<usize> = 3..=16;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) scope: String,
    pub(super) lease: Duration,
    deadline: Option<Duration>,
    urls: Vec<String>,
}

impl Settings {
    pub(super) fn new(scope: String, urls: Vec<String>) -> Self {
        Self { scope, lease: LEASE_DEFAULT, deadline: None, urls }
    }

    pub(super) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = Some(deadline);
    }

    /// How long one server may take to answer.
    pub(super) fn deadline(&self) -> Duration {
        deadline_of(self.deadline, DEADLINE_DEFAULT, self.lease)
    }

    /// How much earlier than a lease its leader stops trusting it: a hundredth of it and 2 ms for clocks that drift, as
    /// Redlock has it, and the rest for runs that are cancelled.
    pub(super) fn margin(&self) -> Duration {
        self.lease / 5
    }

    /// Of each server.
    pub(super) fn servers(&self) -> Vec<Arc<OfServer>> {
        let of = |url: &String| {
            let mut settings = OfServer::new(self.scope.clone(), url);
            settings.lease = self.lease;
            settings.deadline = Some(self.deadline());
            Arc::new(settings)
        };
        self.urls.iter().map(of).collect()
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut checks = Checks::of("redlock");
        checks.scope(&self.scope, "Redlock::new(\"billing\", urls)");
        checks.lease(self.lease, LEASE_MIN, LEASE_DEFAULT);
        checks.deadline(self.deadline, self.lease);
        let mut faults = checks.faults;
        if !SERVERS.contains(&self.urls.len()) {
            let rule = format!("it names {} to {} servers", SERVERS.start(), SERVERS.end());
            let cure = "name each by a URL of its own; for one server use backend::Redis";
            faults.push(Fault::new("redlock: urls", self.urls.len().to_string(), rule, cure));
        }
        let servers = self.servers();
        for (nth, server) in servers.iter().enumerate() {
            let subject = format!("redlock: url {}", nth + 1);
            let found = faults_of(server, &servers[..nth]);
            faults.extend(found.into_iter().map(|mut fault| {
                fault.subject.clone_from(&subject);
                fault
            }));
        }
        faults
    }
}

/// What is wrong with a server, after others.
fn faults_of(server: &OfServer, before: &[Arc<OfServer>]) -> Vec<Fault> {
    let fault = |rule: &str, cure: &str| Fault::new("", NOT_SHOWN, rule, cure);
    let address = match server.store.address() {
        Ok(address) => address,
        Err(wrong) => return vec![wrong],
    };
    let mut checks = Checks::of("redlock");
    checks.certificates(&server.store.certificates, address.encrypted, "rediss://");
    let mut faults = checks.faults;
    let is_one = match &address.place {
        Place::Hosts(hosts) => hosts.len() == 1,
        Place::Socket(_) => true,
        Place::Sentinels { .. } => false,
    };
    if !is_one {
        let rule = "it names one server: each votes by itself, and stands in for no other one";
        faults.push(fault(rule, "name its host alone, without `sentinel`"));
    }
    let is_same =
        |other: &Arc<OfServer>| other.store.address().is_ok_and(|other| other.place == address.place);
    if before.iter().any(is_same) {
        faults.push(fault("each server is named once: it has one vote", "leave one of them out"));
    }
    faults
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URLs: they may contain passwords.
        let mut shown = f.debug_struct("Settings");
        shown.field("scope", &self.scope).field("servers", &self.urls.len()).field("lease", &self.lease);
        shown.field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(urls: &[&str]) -> Vec<String> {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        Settings::new("billing".to_owned(), urls).faults().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn three_servers_that_are_named_once_each_can_vote() {
        assert_eq!(faults(&["redis://a", "redis://b:1", "unix:///run/c.sock"]), [""; 0]);
    }

    #[test]
    fn urls_that_are_no_quorum_are_refused_by_their_number_and_not_shown() {
        let cases: [(&[&str], &str); 6] = [
            (&["redis://:s3cret@a"], "3 to 16 servers"),
            (&["redis://:s3cret@a", "redis://b", "redis://a:6379/3"], "url 3: url"),
            (&["redis://:s3cret@a", "redis://b,c", "redis://d"], "url 2: url"),
            (&["redis://:s3cret@a?sentinel=x", "redis://b", "redis://d"], "url 1: url"),
            (&["redis://a", "s3cret", "redis://d"], "url 2: url"),
            (&["redis://a", "redis://b?sslrootcert=/s3cret", "redis://d"], "url 2: url"),
        ];
        for (urls, words) in cases {
            let found = faults(urls);
            assert_eq!(found.len(), 1, "{urls:?}: {found:?}");
            let words = words.trim_end_matches(": url");
            assert!(found[0].contains(words) && !found[0].contains("s3cret"), "{urls:?}: {found:?}");
        }
    }

    #[test]
    fn the_margin_is_more_than_redlock_asks_for() {
        for lease in [LEASE_MIN, LEASE_DEFAULT, Duration::from_hours(1)] {
            let settings = Settings { lease, ..Settings::new("billing".to_owned(), Vec::new()) };
            assert!(settings.margin() >= lease / 100 + Duration::from_millis(2), "{lease:?}");
        }
    }
}

//! What a node needs to know to connect, checked before anything is started.

use std::{fmt, time::Duration};

use callsheet_actors::Fault;
use rustls::ClientConfig;

use super::address::{self, Address};
use crate::backend::{
    certificates::Certificates,
    checks::{Checks, deadline_of, with_authority},
};

/// The lease unless given, and the shortest: Consul keeps no shorter ones.
pub(super) const LEASE_DEFAULT: Duration = LEASE_MIN;
pub(super) const LEASE_MIN: Duration = Duration::from_secs(10);
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

    /// How to encrypt, also if the URL does not ask for it: then nobody is trusted. Reads the files of certificates.
    pub(super) fn tls(&self) -> Result<ClientConfig, Fault> {
        if self.address()?.encrypted {
            return with_authority(&self.certificates).client_config();
        }
        Certificates::none("consul").client_config()
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut checks = Checks::of("consul");
        checks.scope(&self.scope, "Consul::new(\"billing\", url)");
        checks.lease(self.lease, LEASE_MIN, LEASE_DEFAULT);
        checks.deadline(self.deadline, self.lease);
        match &self.address {
            Ok(address) => checks.certificates(&self.certificates, address.encrypted, "https://"),
            Err(fault) => checks.faults.push(fault.clone()),
        }
        checks.faults
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL: it may contain a token.
        let mut shown = f.debug_struct("Settings");
        shown.field("scope", &self.scope).field("lease", &self.lease);
        shown.field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}

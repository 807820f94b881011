//! What a node needs to know to connect, checked before anything is started.

use std::time::Duration;

use callsheet_actors::Fault;
use rustls::ClientConfig;

use super::address::{self, Address};
use crate::backend::{
    certificates::Certificates,
    checks::with_authority,
    store::{self, Kind, Servers, Store},
};

/// Consul keeps no shorter leases.
pub(super) const LEASE_MIN: Duration = Duration::from_secs(10);

/// What a node is told of its agents.
pub(super) type Target = Servers<Address>;
pub(super) type Settings = store::Settings<Target>;

impl Store for Target {
    const KIND: Kind = Kind {
        name: "consul",
        example: "Consul::new(\"billing\", url)",
        lease_min: LEASE_MIN,
        lease_default: LEASE_MIN,
        deadline_default: Duration::from_secs(2),
    };

    fn at(url: &str) -> Self {
        Servers::at(url, address::read)
    }

    fn faults(&self) -> Vec<Fault> {
        self.faults(Self::KIND.name, |address| address.encrypted, "https://")
    }
}

impl Settings {
    /// How to encrypt, also if the URL does not ask for it: then nobody is trusted. Reads the files of certificates.
    pub(super) fn tls(&self) -> Result<ClientConfig, Fault> {
        if self.store.address()?.encrypted {
            return with_authority(&self.store.certificates).client_config();
        }
        Certificates::none("consul").client_config()
    }
}

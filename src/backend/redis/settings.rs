//! What a node needs to know to connect, checked before anything is started.

use std::time::Duration;

use callsheet_actors::Fault;
use rustls::ClientConfig;

use super::address::{self, Address};
use crate::backend::{
    checks::with_authority,
    store::{self, Kind, Servers, Store},
};

/// The lease unless given.
pub(super) const LEASE_DEFAULT: Duration = Duration::from_secs(5);

/// What a node is told of its servers.
pub(super) type Target = Servers<Address>;
pub(super) type Settings = store::Settings<Target>;

impl Store for Target {
    const KIND: Kind = Kind {
        name: "redis",
        example: "Redis::new(\"billing\", url)",
        lease_min: Duration::from_secs(1),
        lease_default: LEASE_DEFAULT,
        deadline_default: Duration::from_secs(2),
    };

    fn at(url: &str) -> Self {
        Servers::at(url, address::read)
    }

    fn faults(&self) -> Vec<Fault> {
        self.faults(Self::KIND.name, |address| address.encrypted, "rediss://")
    }
}

impl Settings {
    /// How to encrypt, if the URL says so. Reads the files of certificates.
    pub(super) fn tls(&self) -> Result<Option<ClientConfig>, Fault> {
        if !self.store.address()?.encrypted {
            return Ok(None);
        }
        with_authority(&self.store.certificates).client_config().map(Some)
    }

    /// The beginning of all keys and of the channel. The braces put them onto one server of a cluster.
    pub(super) fn prefix(&self) -> String {
        let scope = self.scope.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
        format!("callsheet:{{{scope}}}:")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_scope_are_on_one_server_of_a_cluster() {
        let prefix = |scope: &str| Settings::new(scope.to_owned(), "redis://h").prefix();

        assert_eq!(prefix("billing"), "callsheet:{billing}:");
        assert_eq!(prefix("}"), "callsheet:{%7D}:");
        assert_ne!(prefix("}"), prefix("%7D"));
    }
}

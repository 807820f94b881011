//! What a node needs to know to connect, checked before anything is started.

use std::time::Duration;

use callsheet_actors::Fault;
use etcd_client::{Certificate, Identity, TlsOptions};

use super::address::{self, Address};
use crate::backend::store::{self, Kind, Servers, Store};

/// The shortest lease that a server with the usual election timeout, a second, takes.
pub(super) const LEASE_MIN: Duration = Duration::from_secs(2);

/// What a node is told of its servers.
pub(super) type Target = Servers<Address>;
pub(super) type Settings = store::Settings<Target>;

impl Store for Target {
    const KIND: Kind = Kind {
        name: "etcd",
        example: "Etcd::new(\"billing\", url)",
        lease_min: LEASE_MIN,
        lease_default: Duration::from_secs(5),
        // The other servers are asked within the lease when one is silent.
        deadline_default: Duration::from_millis(1_500),
    };

    fn at(url: &str) -> Self {
        Servers::at(url, address::read)
    }

    fn faults(&self) -> Vec<Fault> {
        self.faults(Self::KIND.name, |address| address.encrypted, "https://")
    }
}

impl Settings {
    /// How to encrypt, if the URL says so. Reads the files of certificates.
    pub(super) fn tls(&self) -> Result<Option<TlsOptions>, Fault> {
        if !self.store.address()?.encrypted {
            return Ok(None);
        }
        let options = match self.store.certificates.authorities()? {
            Some(pem) => TlsOptions::new().ca_certificate(Certificate::from_pem(pem)),
            None => TlsOptions::new().with_native_roots(),
        };
        Ok(Some(match self.store.certificates.identity()? {
            Some((certificate, key)) => options.identity(Identity::from_pem(certificate, key)),
            None => options,
        }))
    }
}

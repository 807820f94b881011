//! Coordination on Consul.
//!
//! What nodes share is records: a key for each. A commit is one transaction, or several; versions are the indexes of
//! the writes. Sessions are sessions of Consul, each with a key that is locked by it and there as long as it lasts.
//!
//! * `records`: the port. `commit`: what is done at once. `transaction`: what the servers are told. `keys`: what is
//!   kept where.
//! * `agent`: who is asked, over HTTP. `hints`: what nodes tell each other.
//! * `settings`, `address`, `failure`: what a node is told, and what it says when it fails.

mod address;
mod agent;
mod commit;
mod failure;
mod hints;
mod keys;
mod records;
mod settings;
mod transaction;

use std::{sync::Arc, time::Duration};

use callsheet_actors::port::Records;

use self::{
    records::ConsulRecords,
    settings::{Settings, Target},
};
use super::store::{Node, RecordStore, backend_of_node};

/// Many nodes on a Consul cluster, version 1.8 or newer, by way of an agent.
///
/// Nodes of one *scope* share a leader, jobs and keys; another application on the same cluster needs another scope. All
/// that a scope keeps is in keys that begin with `callsheet/SCOPE/`, with `%25` and `%2F` for each `%` and `/` of the
/// scope. What is wrong with the agent, the token or the URL is told when a session is opened, with its cure, and
/// without the token.
///
/// It is tested against a stub that keeps to what Consul publishes of its protocol; `CALLSHEET_TEST_CONSUL_ADDR` runs
/// the same tests against a real one.
///
/// # What a fail-over loses
///
/// Nothing. What was answered is on the disks of a majority of the servers. Reads are confirmed by a majority as well.
/// A renewal is not: the leader of the servers does it alone. One that has lost the others without knowing may
/// believe that it renewed a session for less than a lease; what the node asks for then is refused by the others.
///
/// A cluster that is restored from a snapshot has lost what came after it. Stop all nodes before, and start them
/// afterwards.
///
/// # How soon a dead node is noticed
///
/// The shortest lease is 10 s, and Consul keeps a session for twice its time to live: a node that is killed, frozen or
/// cut off is noticed after 20 s at the least. When another server takes the lead, every session begins anew. A node
/// that goes in order is noticed at once. Sessions do not depend on the health of the agent, and their lock delay is
/// 0, as their ids are never used again.
///
/// Consul has no clock that it shows: whether a tick is due is decided by the clock of the node that claims it. Keep
/// the clocks of all nodes right (NTP).
///
/// # Rights
///
/// Where access control lists are enabled, the token needs, for the agent's node:
///
/// ```text
/// key_prefix "callsheet/billing/" { policy = "write" }
/// session_prefix ""               { policy = "write" }
/// ```
///
/// # Cost
///
/// A transaction has 128 operations, or 64 of older servers, which is found out; a unit of a round that conflicts is
/// left out, and the rest is asked again. A search through all names asks for the names of all for each 64 of them.
/// Each node has a question open that waits up to 10 s for what others tell.
///
/// # Connecting
///
/// Name the agent of the machine, or several with commas between them: the next one is asked when one does not answer.
/// Proxies of the environment are not used.
pub struct Consul(Node<Target>);

impl Consul {
    /// Makes a node of a scope. Nothing is checked or opened before [`start`](crate::Builder::start).
    ///
    /// The scope has 1 to 100 bytes. The URL is `http://:TOKEN@127.0.0.1:8500`, and is never shown. Its scheme is
    /// `http`, or `https` with encryption, of which the port is 8501 unless given. There are up to 16 hosts, with
    /// commas between them. Parameters of an encrypted connection are `sslrootcert`, `sslcert` and `sslkey`: paths of
    /// files in PEM format. Without `sslrootcert` it trusts the authorities that this machine trusts.
    pub fn new(scope: impl Into<String>, url: impl AsRef<str>) -> Self {
        Self(Node::new(scope.into(), url.as_ref()))
    }

    /// Sets how long the servers keep what a silent node holds, 10 s to 1 h. Default: 10 s.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self(self.0.set(|settings| settings.lease = lease))
    }

    /// Sets how long one call to the servers may take, 50 ms to 5 s, and at most half of the lease. Default: 2 s.
    ///
    /// After it the next server is connected to, and it is unknown whether what was asked was done: the engine asks
    /// again in a way that does no harm.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self(self.0.set(|settings| settings.deadline = Some(deadline)))
    }

    /// Sets the certificates, in PEM format, of the authorities that may sign the server's. Default: the URL's
    /// `sslrootcert`, or whom this machine trusts. The URL must begin with `https`.
    #[must_use]
    pub fn root_certificates(self, pem: impl AsRef<[u8]>) -> Self {
        Self(self.0.set(|settings| settings.store.certificates.trust(pem.as_ref())))
    }

    /// Sets the certificate by which the server knows this node, and its key. Default: the URL's `sslcert` and
    /// `sslkey`, or none, which is right unless the server asks for one. The URL must begin with `https`.
    ///
    /// Both are in PEM format. The certificates that lead up to the authority follow the node's own. The key has
    /// no password.
    #[must_use]
    pub fn client_certificate(self, pem: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self(self.0.set(|settings| settings.store.certificates.identify(pem.as_ref(), key.as_ref())))
    }

    /// The records of the scope, as a client of this node's sees them. Connections are made when they are needed,
    /// on the runtime of whoever asks first.
    pub fn records(&self) -> Arc<dyn Records> {
        self.0.records()
    }
}

impl RecordStore for Target {
    fn records(settings: Arc<Settings>) -> Arc<dyn Records> {
        Arc::new(ConsulRecords::new(&settings))
    }
}

backend_of_node!(Consul);

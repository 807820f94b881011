//! Coordination on etcd.
//!
//! What nodes share is records: a key for each. A commit is one transaction, with one in it for each unit; versions
//! are the revisions of the cluster. Sessions are leases, each with a key that is there as long as it lasts.
//!
//! * `records`: the port. `commit`: its transactions. `keys`: what is kept where.
//! * `connection`: one connection to one server, and whether that is of use. `hints`: what nodes tell each other,
//!   over a second one.
//! * `settings`, `address`, `failure`: what a node is told, and what it says when it fails.

mod address;
mod commit;
mod connection;
mod failure;
mod hints;
mod keys;
mod records;
mod settings;

use std::{sync::Arc, time::Duration};

use callsheet_actors::port::Records;

use self::{
    records::EtcdRecords,
    settings::{Settings, Target},
};
use super::store::{Node, RecordStore, backend_of_node};

/// Many nodes on an etcd cluster, version 3.4 or newer.
///
/// Nodes of one *scope* share a leader, jobs and keys; another application on the same cluster needs another scope. All
/// that a scope keeps is in keys that begin with `callsheet/SCOPE/`, with `%25` and `%2F` for each `%` and `/` of the
/// scope. What is wrong with the servers, the user or the URL is told when a session is opened, with its cure, and
/// without the password.
///
/// The build needs `protoc`, the compiler of protocol buffers: Debian's package is `protobuf-compiler`.
///
/// # What a fail-over loses
///
/// Nothing. What was answered is on the disks of a majority of the servers, and a server that has lost the others
/// answers nothing: every question is answered once a majority has confirmed it, reads and renewals as well. While no
/// majority is there, no tick is claimed, and the ticks of that time are caught up as the misfire policy says.
///
/// A cluster that is restored from a backup has lost what came after it, as with any database. Stop all nodes before,
/// and start them afterwards.
///
/// # How soon a dead node is noticed
///
/// After its lease and at most two seconds, while the same server leads the cluster. When another one takes the lead,
/// and when the servers were restarted, every lease begins anew: it is noticed up to a lease and the election timeout
/// later, such as 6.5 s after the start of a server with a lease of 4 s. A node that goes in order is noticed at once.
/// The servers count whole seconds: a lease is rounded up to them. None is shorter than one and a half of their
/// election timeouts.
///
/// Servers of the versions 3.5.0 to 3.5.2 are refused: after a crash they may differ in what they hold. Servers of
/// before 2024 may end a lease that lives, when one that led stood still and goes on (etcd's issue 15247, mended by its
/// change 16822). The node loses its session then, and its runs are cancelled; no tick runs twice.
///
/// etcd has no clock that it shows: whether a tick is due is decided by the clock of the node that claims it. Keep the
/// clocks of all nodes right (NTP).
///
/// # Rights
///
/// Where authentication is enabled, the user needs a role with `readwrite` on the prefix `callsheet/SCOPE/`:
///
/// ```text
/// etcdctl role add callsheet
/// etcdctl role grant-permission callsheet readwrite --prefix callsheet/billing/
/// etcdctl user grant-role USER callsheet
/// ```
///
/// # Space
///
/// The servers keep every former write until they are compacted. Start them with `--auto-compaction-mode=periodic
/// --auto-compaction-retention=1h`, or with another way to compact them. A cluster whose space is exhausted opens no
/// new sessions until somebody mends it; those that are open are renewed all the same. Whether a commit is done is
/// unknown then, and the node reads what became of it.
///
/// # Connecting
///
/// A node keeps two connections, each to one server of the URL: one for its calls, and one on which it hears what
/// others tell. Name all servers: a node goes on to the next one when its server is silent beyond the deadline of a
/// call, has lost the others, or goes. Each server has 1.5 s to answer, all together have 4.5 s. Pauses between
/// attempts are 50 ms to 1 s. The servers take 128 operations (`--max-txn-ops`) and 1.5 MiB (`--max-request-bytes`) at
/// once or more, which is the default.
pub struct Etcd(Node<Target>);

impl Etcd {
    /// Makes a node of a scope. Nothing is checked or opened before [`start`](crate::Builder::start).
    ///
    /// The scope has 1 to 100 bytes. The URL is `https://user:password@host1:2379,host2:2379`, and is never shown. Its
    /// scheme is `http`, or `https` with encryption. There are up to 16 hosts, with commas between them; the port is
    /// 2379 unless given. Parameters of an encrypted connection are `sslrootcert`, `sslcert` and `sslkey`: paths of
    /// files in PEM format. Without `sslrootcert` it trusts the authorities that this machine trusts.
    pub fn new(scope: impl Into<String>, url: impl AsRef<str>) -> Self {
        Self(Node::new(scope.into(), url.as_ref()))
    }

    /// Sets how long the servers keep what a silent node holds, 2 s to 1 h. Default: 5 s.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self(self.0.set(|settings| settings.lease = lease))
    }

    /// Sets how long one call to the servers may take, 50 ms to 5 s, and at most half of the lease. Default: 1.5 s,
    /// or two fifths of a shorter lease.
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
        Arc::new(EtcdRecords::new(&settings))
    }
}

backend_of_node!(Etcd);

//! Coordination on Redis.
//!
//! What nodes share is records: one hash for each scope, and a sorted set of their names. One script compares
//! the versions that a commit rests on and writes what it changes; a server runs one script at a time. Sessions
//! are keys that expire.
//!
//! * `records`: the port. `script`, and `commit.lua`, `list.lua`, `renew.lua`: what runs on the server.
//! * `connection`: one connection, and whether the server at its end is of use. `hints`: what nodes tell each
//!   other, over a second one.
//! * `redlock`: elections and votes by a majority of servers that know nothing of each other.
//! * `settings`, `address`, `failure`: what a node is told, and what it says when it fails.

mod address;
mod connection;
mod failure;
mod hints;
mod records;
mod redlock;
mod script;
mod settings;

use std::{sync::Arc, time::Duration};

use callsheet_actors::port::Records;

pub use self::redlock::Redlock;
use self::{
    records::RedisRecords,
    settings::{Settings, Target},
};
use super::store::{Node, RecordStore, backend_of_node};

/// Many nodes on one Redis server, version 6 or newer, or Valkey.
///
/// Nodes of one *scope* share a leader, jobs and keys; another application on the same server needs another
/// scope. All that a scope keeps is in keys that begin with `callsheet:{scope}:`. What is wrong with the server,
/// the user or the URL is told when a session is opened, with its cure, and without the password.
///
/// # What the server must be like
///
/// * It is a primary: a replica is refused by name, and so is a version before 6.
/// * It deletes nothing when its memory is full. `maxmemory-policy noeviction` is Redis's own default; any other
///   policy is refused by name when the node connects. One that is changed later is noticed when the node
///   connects again.
/// * It keeps what it was told. With `appendonly yes` and `appendfsync always` a restart loses nothing; with
///   `everysec` a failure of its machine loses up to two seconds; with snapshots alone it loses what was written
///   since the last one; with neither it loses everything.
/// * Its clock is not set back or forth while nodes run: sessions expire by it.
///
/// # What a fail-over loses
///
/// Redis answers before its replicas have what was written. A replica that is promoted may lack claims that were
/// granted: then two runs can hold one key at the same time. Each node that finds another server, also after a
/// restart of
/// the same one, writes down where it knows the jobs to be. A tick that was due before waits meanwhile, for a
/// quarter of the lease and 5 s, unless it is the leader's and its term goes on. So a tick runs twice only if the node
/// that ran it dies with the primary, or does not reach the new one within that time. A primary that is cut off
/// goes on granting claims to the nodes on its side. `min-replicas-to-write 1` with a short
/// `min-replicas-max-lag` shortens both; nothing on Redis excludes them. Where that matters, use
/// `backend::Postgres`.
///
/// # Rights
///
/// A user of an access control list needs the keys `~callsheet:{scope}:*`, the channel
/// `&callsheet:{scope}:hints`, and the commands `+@connection +info +time +exists +get +set +del +pexpire +hget
/// +hmget +hset +hdel +zadd +zrem +zrangebylex +eval +evalsha +script|load +publish
/// +subscribe`.
///
/// # Connecting
///
/// A node keeps two connections: one for its calls, and one on which it hears what others tell. Each host of the URL
/// has 1.5 s to answer, all together have 4.5 s. Of several hosts each node takes the first that says that it is a
/// primary: while an old primary comes back, or is cut off, two nodes may take different ones, and then nothing keeps
/// them from running the same tick. For more than one server name Sentinels, or a cluster; not its servers one by one.
/// With `?sentinel=NAME` the hosts are Sentinels, which are asked where the primary of that name is; they are asked
/// without a password, and over TLS if the URL says so. In a cluster any server can be named. A connection that is
/// lost, or silent beyond the deadline of a call, is made again, after pauses from 50 ms to 1 s.
pub struct Redis(Node<Target>);

impl Redis {
    /// Makes a node of a scope. Nothing is checked or opened before [`start`](crate::Builder::start).
    ///
    /// The scope has 1 to 100 bytes. The URL is `redis://user:password@host:6379/0`, and is never shown. Schemes
    /// are `redis` and `valkey`, `rediss` and `valkeys` with encryption, and `unix` for a socket, as in
    /// `unix://:password@/run/redis.sock?db=0`. There may be up to 16 hosts, with commas between them. Parameters
    /// are `sentinel`, `db`, and, of an encrypted connection, `sslrootcert`, `sslcert` and `sslkey`: paths of
    /// files in PEM format. Without `sslrootcert` it trusts the authorities that this machine trusts.
    pub fn new(scope: impl Into<String>, url: impl AsRef<str>) -> Self {
        Self(Node::new(scope.into(), url.as_ref()))
    }

    /// Sets how long the server keeps what a silent node holds, 1 s to 1 h. Default: 5 s.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self(self.0.set(|settings| settings.lease = lease))
    }

    /// Sets how long one call to the server may take, 50 ms to 5 s, and at most half of the lease. Default: 2 s,
    /// or two fifths of a shorter lease.
    ///
    /// After it the connection is given up, and it is unknown whether what was asked was done: the engine asks
    /// again in a way that does no harm.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self(self.0.set(|settings| settings.deadline = Some(deadline)))
    }

    /// Sets the certificates, in PEM format, of the authorities that may sign the server's. Default: the URL's
    /// `sslrootcert`, or whom this machine trusts. The URL must begin with `rediss`.
    #[must_use]
    pub fn root_certificates(self, pem: impl AsRef<[u8]>) -> Self {
        Self(self.0.set(|settings| settings.store.certificates.trust(pem.as_ref())))
    }

    /// Sets the certificate by which the server knows this node, and its key. Default: the URL's `sslcert` and
    /// `sslkey`, or none, which is right unless the server asks for one. The URL must begin with `rediss`.
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
        Arc::new(RedisRecords::new(settings))
    }
}

backend_of_node!(Redis);

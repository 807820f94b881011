//! Elections, and votes on single ticks, by a majority of independent Redis servers.
//!
//! ```text
//! election ──▶ elector ──▶ node (the lease of this node) ──▶ servers (each is asked by itself) ──▶ redlock.lua
//!         └──▶ votes (ticks that any node fires) ─────────────┘   └──▶ tally (what the answers come to)
//! ```

mod clocks;
mod condition;
mod elector;
mod node;
mod servers;
mod settings;
mod tally;
mod votes;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use callsheet_actors::{
    Fault, NodeId,
    port::{Election, Elector, LockError, Obstacle, TickVotes},
};
use futures_util::{FutureExt, future::BoxFuture};

use self::{elector::RedlockElector, node::Node, settings::Settings, votes::RedlockVotes};

/// Nodes that elect their leader by the votes of a majority of Redis servers, 3 to 16 of them, version 6 or newer,
/// which know nothing of each other. It keeps no claims: wrap it in [`Elected`](crate::backend::Elected), or name
/// another backend for them with [`Composed`](crate::backend::Composed).
///
/// ```
/// use callsheet::backend::{Elected, Redlock};
///
/// let backend = Elected::new(Redlock::new("billing", ["redis://a", "redis://b", "redis://c"]));
/// ```
///
/// # What it promises
///
/// * **One leader**, for as long as the clocks of the servers run as fast as this machine's, within a hundredth, and
///   are not set. A node leads from the moment at which a majority gave it the lease, and is trusted for a fifth less
///   than the lease from when it asked. It is extended only by a majority that answers in that time: what reaches a
///   minority extends nothing, and what a minority gave is given back on all servers. A server that was away gives its
///   vote with a later extension, so that the leader outlives servers that go one after the other.
/// * **Each tick of a job that fires on [any node](crate::Fires::AnyNode) is given to one node**: a majority votes for
///   its run. A server votes for a tick from the instant at which it is due until the window of the job's [misfire
///   policy](crate::Misfire) is over, by its own clock, and remembers its vote for longer. So no vote that has expired
///   opens a tick again. If a vote is split, all give back what they took, and ask again after a random pause for as
///   long as the window lasts; then the tick is skipped as [`contended`](crate::SkipReason::Contended). Once so many
///   servers have forgotten their votes on a tick, or find it late, that no majority is left, it is skipped at once, as
///   [`unproven`](crate::SkipReason::Unproven) or as a misfire.
/// * The clocks of the servers are compared at each look and each renewal. If no majority of them agrees within a fifth
///   of the lease, nobody is elected.
/// * Both go on while a minority of the servers is killed, frozen, or cut off.
///
/// # What it cannot promise
///
/// A quorum of leases has no order of events, so there is no fencing token that a store could compare; and nothing that
/// could be read back: no cursor that outlives the nodes, no pauses, no retries of lost runs, no overlap of a key
/// across nodes, no notifications. Jobs that need one of these are refused by name: see
/// [`Elected`](crate::backend::Elected).
///
/// A process that is frozen after it looked at its trust and before the first instruction of a body starts that body
/// late, beside the next leader: as on every system, and here no token tells.
///
/// The leader asks for no vote on the ticks of its own jobs. While one node has a job as
/// [`Leader`](crate::Fires::Leader) and another one as [`AnyNode`](crate::Fires::AnyNode), its ticks may run twice:
/// stop all nodes for such a change, or give the job a new name.
///
/// A tick that was given to a node which died is recorded by nobody: no other node closes its run as lost.
///
/// Which ticks of a leader's jobs are due is decided by the clock of its own machine. Keep the clocks of all nodes
/// right (NTP): a leader whose clock is ahead of the next one's by more than its trust in a lease may have started
/// ticks that the next one starts again.
///
/// A job's window is to be the same on all nodes. While a longer one is rolled out, a tick that is older than the
/// shorter one may run once more.
///
/// # A server that forgets
///
/// A server without persistence that comes back empty could vote twice. So each keeps which process it is, Redis'
/// `run_id`, and since when: of another process, and of one whose memory was cleared, nothing counts from before. It
/// gives the lease to nobody until a whole lease has passed, which is the longest that it may have promised, and votes
/// for no tick that was due before: of one that was due later it has told nobody yes, as it was early. The first
/// election on new servers therefore takes a lease longer. All nodes of a scope have the same lease. The same holds
/// for a server that does persist: a restart says nothing of what it lost. Its clock is not set back meanwhile.
///
/// Servers are no replicas of each other, and none has a replica that takes its place. Two URLs of one server would
/// vote twice: they are refused at start, if the server answers. One that does not name its `run_id` has no vote. A
/// server that refuses this node, or is away for 2 s, is told in the [health](crate::HealthReport).
///
/// Each server keeps a key per tick for the window of its misfire policy and 2 s. It has to have the memory for them.
///
/// # Rights
///
/// A user of an access control list needs those that [`Redis`](crate::backend::Redis) names, and `+hget +pttl
/// +pexpireat`. Keys begin with `callsheet:{scope}:redlock:`.
///
/// # Connecting
///
/// A node keeps a connection to each server, and asks all at once; it goes on as soon as a majority decides. One that
/// is lost, or silent beyond the deadline, is made again, after pauses from 50 ms to 1 s.
pub struct Redlock {
    settings: Settings,
    node: OnceLock<Arc<Node>>,
}

impl Redlock {
    /// Makes a node of a scope. Nothing is checked or opened before [`start`](crate::Builder::start).
    ///
    /// The scope has 1 to 100 bytes. Each URL is as that of [`Redis::new`](crate::backend::Redis::new), names one
    /// server, and is never shown. All nodes of a scope name the same servers.
    pub fn new<U: AsRef<str>>(scope: impl Into<String>, urls: impl IntoIterator<Item = U>) -> Self {
        let urls = urls.into_iter().map(|url| url.as_ref().to_owned()).collect();
        Self::with(Settings::new(scope.into(), urls))
    }

    fn with(settings: Settings) -> Self {
        Self { settings, node: OnceLock::new() }
    }

    fn set(&self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.settings.clone();
        set(&mut settings);
        Self::with(settings)
    }

    /// Sets how long a majority keeps the lead for a silent node, 1 s to 1 h. Default: 5 s.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        self.set(|settings| settings.lease = lease)
    }

    /// Sets how long one server may take to answer, 50 ms to 5 s, and at most half of the lease. Default: 1 s, or two
    /// fifths of a shorter lease.
    ///
    /// After it the connection is given up, and the server counts as one that did not answer.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        self.set(|settings| settings.set_deadline(deadline))
    }

    fn node(&self) -> &Arc<Node> {
        self.node.get_or_init(|| Arc::new(Node::new(self.settings.clone())))
    }
}

impl Election for Redlock {
    fn name(&self) -> &'static str {
        "redlock"
    }

    fn scope(&self) -> Arc<str> {
        self.settings.scope.as_str().into()
    }

    fn faults(&self) -> Vec<Fault> {
        self.settings.faults()
    }

    fn node(&self) -> Option<NodeId> {
        Some(Self::node(self).id)
    }

    fn set_zone_data(&self, version: Arc<str>) {
        Self::node(self).set_zone_data(version);
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(RedlockElector { node: Self::node(self).clone() })
    }

    fn reach(&self) -> BoxFuture<'_, Result<(), LockError>> {
        Self::node(self).reach().boxed()
    }

    fn obstacles(&self) -> Vec<Obstacle> {
        Self::node(self).obstacles()
    }

    fn votes(&self) -> Option<Arc<dyn TickVotes>> {
        Some(Arc::new(RedlockVotes { node: Self::node(self).clone() }))
    }

    fn lease(&self) -> Duration {
        self.settings.lease
    }
}

impl fmt::Debug for Redlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redlock").field(&self.settings).finish()
    }
}

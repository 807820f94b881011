//! What is done to a cluster.

/// A fault, and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL to the leader.
    LeaderKilled,
    /// SIGSTOP to the leader, and SIGCONT once another one leads and the lease is over.
    LeaderFrozen,
    /// SIGTERM to the leader.
    LeaderStopped,
    /// The server is stopped in order, and started again.
    ServerRestarted,
    /// SIGKILL to the server, which is started again.
    ServerKilled,
    /// Nothing passes between a node and the server for longer than a lease: the leader, or the second time a follower.
    NodeCutOff,
    /// SIGKILL to the server and then to the leader; the server is started again.
    ServerForgets,
    /// The replica lags behind, and is promoted in place of the primary, which is killed.
    FailedOver,
    /// The same, and SIGKILL to the leader.
    FailedOverWithLeader,
}

impl Fault {
    /// Those that a store survives which loses nothing.
    pub(crate) const ALL: [Self; 6] = [
        Self::LeaderKilled,
        Self::LeaderFrozen,
        Self::LeaderStopped,
        Self::ServerRestarted,
        Self::ServerKilled,
        Self::NodeCutOff,
    ];
}

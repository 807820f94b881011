//! A store under test, and what is done to its server.

use std::time::Duration;

/// A server of a store, for nodes that coordinate on it.
pub(crate) trait Store: Send + Sync + 'static {
    /// What `CALLSHEET_BACKEND` calls it.
    const NAME: &'static str;

    /// The lease of the nodes.
    const LEASE: Duration = Duration::from_secs(2);

    /// A key excludes runs on all nodes, also where any node fires.
    const KEYS: bool = true;

    /// It has fail-overs that lose something: there is a job beside the others whose period is longer than one.
    const LAGS: bool = false;

    /// The ports at which it can be reached: one, or those of several servers of one store.
    fn ports(&self) -> Vec<u16>;

    /// The variables by which a node finds it, if it reaches it at these ports.
    fn variables(&self, ports: &[u16]) -> Vec<(&'static str, String)>;

    /// What is written from now on is lost with the next fail-over. Nothing of a store that has none.
    fn lag(&self) {}

    /// Ends the server in order. Blocks until it has ended.
    fn stop(&self);

    /// Kills the server. Blocks until it has ended.
    fn kill(&self);

    /// Starts it again, on its ports and its data. Blocks until it answers.
    fn start_again(&self);
}

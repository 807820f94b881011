//! Suites that every implementation of a port passes.
//!
//! An adapter's tests implement [`Cluster`] for a fresh, empty store and run [`elector()`] and [`locker()`]
//! on it. Each check uses jobs and keys of its own, so one store serves a whole suite. A check that fails
//! panics and names itself.
//!
//! The tests of a store of [`Records`](crate::port::Records) implement [`RecordStore`] and run [`records()`].
//!
//! The tests of a [`History`](crate::port::History) run [`history()`] on an empty one.
//!
//! A backend that keeps [`Backfills`](crate::port::Backfills) runs [`backfills()`] as well.
//!
//! The tests of a [`Catalogue`](crate::port::Catalogue) run [`catalogue()`] on an empty one.
//!
//! A backend whose nodes ask each other by [`Control`](crate::port::Control) runs [`control()`] as well.
//!
//! A backend whose claims are kept in the memory of each node runs [`elector()`] and [`limits()`]; the tests of
//! [`TickVotes`](crate::port::TickVotes) run [`tick_votes()`].
//!
//! The tests of a [`Schedule`](crate::port::Schedule) run [`schedule()`] on it.

mod backfills;
mod catalogue;
mod control;
mod elector;
mod history;
mod locker;
mod records;
mod schedule;
mod votes;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

pub use self::{
    backfills::backfills,
    catalogue::catalogue,
    control::control,
    elector::elector,
    history::history,
    locker::{limits, locker},
    records::{RecordStore, records},
    schedule::schedule,
    votes::tick_votes,
};
use crate::port::Backend;

/// A store under test and the nodes that use it.
pub trait Cluster {
    /// How many nodes there can be at once: 1 for an embedded store.
    fn nodes_max(&self) -> usize;

    /// Whether nodes hear of others that do not lead: that they stand as candidates, and by which time zone data
    /// they go. Default: yes. Where only the leader is known, the suite checks that nothing is made up.
    fn knows_followers(&self) -> bool {
        true
    }

    /// Another node of the same scope.
    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>>;

    /// Ends the session of a node as if its process had died; called only if there can be several nodes.
    fn kill(&mut self, backend: &Arc<dyn Backend>) -> BoxFuture<'_, ()>;

    /// A node of the processes that come after all those that there were, which have ended. `None`: it cannot be
    /// tried. Default: another node, for a store that is no part of them.
    fn restart(&mut self) -> BoxFuture<'_, Option<Arc<dyn Backend>>> {
        self.node().map(Some).boxed()
    }

    /// The time by which the store decides what is due.
    fn now(&self) -> DateTime<Utc>;
}

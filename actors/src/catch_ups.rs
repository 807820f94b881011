//! The pace at which a node makes up for missed ticks.
//!
//! [`Pacer`] decides whose turn it is. The actors of the jobs ask here, from their threads; the supervisor has the
//! timer.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::core::{
    pacer::{Late, NextTurn, Pacer, Turn, Waiting},
    time::FireTime,
};

/// How many missed ticks a node makes up for in a second, unless told otherwise.
///
/// The jobs of a large node, ten thousand, are spread over ten seconds, and what an ordinary change of the leader
/// leaves over is made up for before anybody notices. In five minutes, the [shortest
/// window](crate::MISFIRE_WITHIN_MIN), it is the turn of 300,000 jobs: the pace is no reason for any of them to be
/// skipped.
pub const CATCH_UP_PER_SECOND_DEFAULT: u32 = 1_000;

/// The turns of the jobs of a node, unless nobody waits for one.
pub(crate) struct CatchUps<W>(Option<Mutex<Pacer<W>>>);

impl<W> CatchUps<W> {
    pub(crate) fn new(per_second: Option<u32>) -> Self {
        Self(per_second.map(|per_second| Mutex::new(Pacer::new(per_second))))
    }

    /// Jobs must ask.
    pub(crate) fn limited(&self) -> bool {
        self.0.is_some()
    }

    /// See [`Pacer::ask`].
    pub(crate) fn ask(
        &self,
        now: Duration,
        job: u64,
        (tick, deadline): (FireTime, DateTime<Utc>),
        waits: W,
    ) -> Turn {
        self.lock().map_or(Turn::Now, |mut pacer| pacer.ask(now, job, (tick, deadline), waits))
    }

    /// See [`Pacer::next`].
    pub(crate) fn next(&self, now: Duration) -> NextTurn<W> {
        self.lock().map_or(NextTurn::Nobody, |mut pacer| pacer.next(now))
    }

    /// A job waits no more.
    pub(crate) fn leave(&self, now: Duration, job: u64) {
        let left = self.lock().and_then(|mut pacer| pacer.leave(now, job));
        // It may be the last that knows its job: not while others wait for the lock.
        drop(left);
    }

    /// Who waits, if anybody does.
    pub(crate) fn waiting(&self, now: Duration) -> Option<Waiting> {
        self.lock()?.waiting(now)
    }

    /// By when a job that waits is to have begun: see [`Pacer::bound`].
    pub(crate) fn bound(&self, now: Duration, job: u64) -> Option<Duration> {
        self.lock()?.bound(now, job)
    }

    /// Who waits beyond its bound, if anybody does, some of them by name.
    pub(crate) fn late(&self, now: Duration, named_max: usize) -> Option<Late<W>>
    where
        W: Clone,
    {
        self.lock()?.late(now, named_max)
    }

    /// Nobody waits any more: who waits may hold what holds this.
    pub(crate) fn close(&self) {
        let left: Vec<W> = self.lock().map(|mut pacer| pacer.clear().collect()).unwrap_or_default();
        drop(left);
    }

    fn lock(&self) -> Option<MutexGuard<'_, Pacer<W>>> {
        self.0.as_ref().map(|pacer| pacer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

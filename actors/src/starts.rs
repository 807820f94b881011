//! Whether the bodies that wait for a thread get one.
//!
//! The threads of ordinary bodies are asked by a task of nobody's
//! ([`BodyWatch`](crate::body_watch::BodyWatch)). Those of bodies that block, or that are not `Send`, are not
//! asked, since there may be none yet, and since they may all be taken for good reasons: it counts that a
//! body waits, and that none starts.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::port::Clock;

/// Threads on which bodies run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BodyThreads {
    /// Those of bodies that are `Send`.
    Body,
    /// Those of bodies that block: [`run_blocking`](crate::Job::run_blocking).
    Blocking,
    /// Those of bodies that are not `Send`: [`run_local`](crate::Job::run_local).
    Local,
}

impl fmt::Display for BodyThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Body => "body",
            Self::Blocking => "blocking",
            Self::Local => "local",
        })
    }
}

/// The bodies that wait for some threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Starts(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    count: usize,
    /// Since when none of them has started, by the monotonic clock, if there is one.
    since: Duration,
}

/// A body that waits for its thread, until that [takes](Self::take) it. Dropped, it was given up: nothing
/// started.
pub(crate) struct Place {
    starts: Starts,
    clock: Arc<dyn Clock>,
}

impl Starts {
    /// One more waits.
    pub(crate) fn wait(&self, clock: Arc<dyn Clock>) -> Place {
        let now = clock.elapsed();
        let mut waiting = self.lock();
        if waiting.count == 0 {
            waiting.since = now;
        }
        waiting.count += 1;
        drop(waiting);
        Place { starts: self.clone(), clock }
    }

    /// For how long none has started although one waits.
    pub(crate) fn silence(&self, now: Duration) -> Duration {
        let waiting = self.lock();
        if waiting.count == 0 { Duration::ZERO } else { now.saturating_sub(waiting.since) }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Its thread has come to it.
    pub(crate) fn take(self) {
        let now = self.clock.elapsed();
        self.starts.lock().since = now;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.starts.lock();
        waiting.count = waiting.count.saturating_sub(1);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.starts).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use chrono::{DateTime, Utc};

    use super::*;

    /// A clock that is moved by hand.
    #[derive(Debug, Default)]
    struct Seconds(AtomicU64);

    impl Clock for Seconds {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }

        fn elapsed(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn threads_are_silent_while_a_body_waits_and_none_starts() {
        let clock = Arc::new(Seconds::default());
        let starts = Starts::default();
        let silence_at = |now: u64| {
            clock.0.store(now, Ordering::Relaxed);
            starts.silence(clock.elapsed()).as_secs()
        };

        assert_eq!(silence_at(1), 0, "nobody waits");
        let first = starts.wait(clock.clone());
        assert_eq!(silence_at(2), 1);
        let next = starts.wait(clock.clone());
        assert_eq!(silence_at(3), 2, "since the first of them waits");
        first.take();
        assert_eq!(silence_at(4), 1, "one started");
        drop(starts.wait(clock.clone()));
        assert_eq!(silence_at(5), 2, "one was given up, and none started");
        drop(next);
        assert_eq!(silence_at(6), 0, "nobody waits any more");
    }
}

//! A clock that follows the paused time of tokio.

use std::{
    fmt,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{core::duration::DurationText, port::Clock};

/// How often an engine looks at a virtual clock that drifts: seldom enough that a virtual day of it is cheap.
const DRIFT_LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest time by which a virtual clock moves at once, by itself, by a skew or by a suspension: a
/// hundred years.
pub const VIRTUAL_TIME_MAX: Duration = Duration::from_secs(36_525 * 24 * 3600);

/// Refuses a move that may take the clock beyond what a date can say.
pub(super) fn check_move(by: Duration) {
    assert!(
        by <= VIRTUAL_TIME_MAX,
        "a virtual clock moves by at most a hundred years (36525d) at once, not by {}; choose less",
        DurationText(by)
    );
}

/// A wall clock that starts at a given instant and moves with tokio's time, plus a skew that can be changed:
/// the wall clock then steps, or drifts, and the monotonic one does not.
///
/// An engine on it looks at it when it was changed, and every second only while it drifts: a virtual year
/// costs nothing.
#[derive(Clone)]
pub struct VirtualClock {
    start: DateTime<Utc>,
    origin: Instant,
    skew: Arc<Mutex<Skew>>,
    world: Arc<World>,
}

/// How far a wall clock is from the true time.
#[derive(Clone, Copy)]
struct Skew {
    /// By so much at `since`.
    by: TimeDelta,
    since: Instant,
    drift_ppm: i32,
}

/// What all clocks of a rig share.
struct World {
    /// How long the machines have slept.
    slept: Mutex<TimeDelta>,
    changed: watch::Sender<()>,
}

impl Skew {
    fn none() -> Self {
        Self { by: TimeDelta::zero(), since: Instant::now(), drift_ppm: 0 }
    }

    fn now(&self) -> TimeDelta {
        let micros = i64::try_from(self.since.elapsed().as_micros()).unwrap_or(i64::MAX);
        let drifted = i128::from(micros) * i128::from(self.drift_ppm) / 1_000_000;
        self.by + TimeDelta::microseconds(i64::try_from(drifted).unwrap_or(i64::MAX))
    }
}

impl VirtualClock {
    /// A clock that reads `start` now. Must be made inside the runtime whose time it follows.
    pub fn starting_at(start: DateTime<Utc>) -> Self {
        let world = World { slept: Mutex::default(), changed: watch::Sender::new(()) };
        Self {
            start,
            origin: Instant::now(),
            skew: Arc::new(Mutex::new(Skew::none())),
            world: Arc::new(world),
        }
    }

    /// A clock of its own skew that reads the same now, but for the skew.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { skew: Arc::new(Mutex::new(Skew::none())), ..self.clone() }
    }

    /// Makes the wall clock read this much more (or less) than the true time, from now on.
    ///
    /// # Panics
    ///
    /// If it is further than [`VIRTUAL_TIME_MAX`].
    pub fn set_skew(&self, skew: TimeDelta) {
        check_move(skew.abs().to_std().unwrap_or(Duration::MAX));
        let mut own = self.skew();
        *own = Skew { by: skew, since: Instant::now(), ..*own };
        drop(own);
        self.world.changed.send_replace(());
    }

    /// Makes the wall clock gain (or lose) so many microseconds a second, from now on.
    pub fn set_drift(&self, ppm: i32) {
        let mut own = self.skew();
        *own = Skew { by: own.now(), since: Instant::now(), drift_ppm: ppm };
        drop(own);
        self.world.changed.send_replace(());
    }

    /// Suspends the machine: the wall clocks of all that are one [another](Self::another)'s go on, the
    /// monotonic ones and the timers stand still, as those of Linux do.
    ///
    /// # Panics
    ///
    /// If it is longer than [`VIRTUAL_TIME_MAX`].
    pub fn suspend(&self, time: TimeDelta) {
        check_move(time.abs().to_std().unwrap_or(Duration::MAX));
        *self.world.slept.lock().unwrap_or_else(PoisonError::into_inner) += time;
        self.world.changed.send_replace(());
    }

    fn skew(&self) -> MutexGuard<'_, Skew> {
        self.skew.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> DateTime<Utc> {
        let slept = *self.world.slept.lock().unwrap_or_else(PoisonError::into_inner);
        self.start + self.origin.elapsed() + slept + self.skew().now()
    }

    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    fn next_look(&self) -> BoxFuture<'static, ()> {
        let mut changed = self.world.changed.subscribe();
        let drifts = self.skew().drift_ppm != 0;
        let changed = async move {
            if changed.changed().await.is_err() {
                // The clock is gone: nobody can change it any more.
                pending().await
            }
        };
        async move {
            if drifts {
                // Whichever comes first.
                let _ = timeout(DRIFT_LOOK_EVERY, changed).await;
            } else {
                changed.await;
            }
        }
        .boxed()
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualClock").field("start", &self.start).finish_non_exhaustive()
    }
}

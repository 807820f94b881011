//! What time it is.

#[cfg(target_os = "linux")]
mod steps;

#[cfg(target_os = "linux")]
use std::sync::{Arc, OnceLock};
use std::{
    fmt,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

/// How often an engine compares its clocks, to notice that one was set or that the machine slept: every 250
/// ms, unless the clock tells by itself.
pub const CLOCK_LOOK_EVERY: Duration = Duration::from_millis(250);

/// Two clocks are read at one instant if it took no longer than this.
const READ_MAX: Duration = Duration::from_micros(100);
/// How often that is tried: a thread may be interrupted between two readings.
const READS_MAX: usize = 16;

/// The clocks of a node. Only the actors read them; decisions get the readings as arguments.
///
/// Timers are tokio's, on the runtime of the actor that arms them: a virtual clock must agree with the paused
/// time of that runtime.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The wall clock. It may step.
    fn now(&self) -> DateTime<Utc>;

    /// The time since any fixed instant of this process. It never goes back. It need not go on while the
    /// machine sleeps.
    fn elapsed(&self) -> Duration;

    /// Both clocks at one instant, as nearly as can be told. If anything the monotonic one was read later.
    fn read(&self) -> (DateTime<Utc>, Duration) {
        let mut best: Option<(Duration, DateTime<Utc>, Duration)> = None;
        for _ in 0..READS_MAX {
            let before = self.elapsed();
            let wall = self.now();
            let elapsed = self.elapsed();
            let took = elapsed.saturating_sub(before);
            if best.is_none_or(|(least, ..)| took < least) {
                best = Some((took, wall, elapsed));
            }
            if took <= READ_MAX {
                break;
            }
        }
        let (_, wall, elapsed) = best.expect("invariant: it is read at least once");
        (wall, elapsed)
    }

    /// Resolves when the engine is to compare the wall clock with the monotonic one again. What happens to
    /// the clocks after this was called and before the next call must not be missed.
    ///
    /// Default: [`CLOCK_LOOK_EVERY`] from now. A clock that knows when it is set may resolve only then.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    fn next_look(&self) -> BoxFuture<'static, ()> {
        async { tokio::time::sleep(CLOCK_LOOK_EVERY).await }.boxed()
    }
}

/// The clocks of the operating system. Linux tells at once when somebody sets the wall clock and when the machine
/// wakes up; there they are compared once a second beside, elsewhere every [`CLOCK_LOOK_EVERY`].
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: Instant,
    /// Made for the first look.
    #[cfg(target_os = "linux")]
    steps: OnceLock<Option<Arc<steps::ClockSteps>>>,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            #[cfg(target_os = "linux")]
            steps: OnceLock::new(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    #[cfg(target_os = "linux")]
    fn next_look(&self) -> BoxFuture<'static, ()> {
        match self.steps.get_or_init(|| steps::ClockSteps::start(CLOCK_LOOK_EVERY)) {
            Some(steps) => steps.next_look(),
            None => async { tokio::time::sleep(CLOCK_LOOK_EVERY).await }.boxed(),
        }
    }
}

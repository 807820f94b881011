//! What time it is.

use std::{
    fmt,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

/// The clocks of a node. Only the actors read them; decisions get the readings as arguments.
///
/// Timers are tokio's, on the runtime of the actor that arms them: a virtual clock must agree with the paused time of
/// that runtime.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The wall clock. It may step.
    fn now(&self) -> DateTime<Utc>;

    /// The time since any fixed instant of this process. It never goes back.
    fn elapsed(&self) -> Duration;
}

/// The clocks of the operating system.
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

//! Linux tells when the wall clock is set, and when the machine slept.

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use rustix::{
    fd::OwnedFd,
    io::Result,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{sleep, timeout},
};

/// How often clocks are compared beside: they may also drift apart, or one process may see another time than
/// the kernel.
const LOOK_SELDOM: Duration = Duration::from_secs(1);

const NEVER: Timespec = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// A timer that the kernel cancels when somebody sets the clock.
fn timer() -> Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let when_set = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(&timer, when_set, &Itimerspec { it_interval: NO_TIME, it_value: NEVER })?;
    Ok(timer)
}

// What is not deprecated is unsafe: it has to be taken on trust that the file stays what it is, as an `OwnedFd` does.
#[allow(deprecated)]
fn registered(timer: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(timer, Interest::READABLE).ok()
}

/// Resolves when the clock has been set since this was called, and now and then; after `otherwise` where the system
/// does not tell. To be called on a runtime that waits for files.
pub(super) fn next_look(otherwise: Duration) -> BoxFuture<'static, ()> {
    let timer = timer().ok().and_then(registered);
    async move {
        match timer {
            // It is late, told, or told no more: in each case clocks are to be looked at.
            Some(timer) => drop(timeout(LOOK_SELDOM, timer.readable()).await.map(|ready| ready.map(drop))),
            None => sleep(otherwise).await,
        }
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use tokio::{runtime, time::Instant};

    use super::*;

    #[test]
    fn without_a_step_the_next_look_is_after_a_second() {
        let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let started = Instant::now();

            next_look(Duration::from_millis(250)).await;

            assert_eq!(started.elapsed(), LOOK_SELDOM);
        });
    }
}

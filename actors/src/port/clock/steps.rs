//! Linux tells when the wall clock is set, and when the machine slept.

use std::{fmt, sync::Arc, thread, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use rustix::{
    fd::OwnedFd,
    io::{Errno, read},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// How often clocks are compared beside: they may also drift apart, or one process may see another time than
/// the kernel.
const LOOK_SELDOM: Duration = Duration::from_secs(1);

/// The thread only waits.
const STACK: usize = 64 * 1024;

const NEVER: Timespec = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// A thread that waits for a timer which the kernel cancels when somebody sets the clock. It ends with this value.
///
/// A thread, since the runtime that asks for the next look may have no driver for files, and to register with
/// one panics then.
pub(super) struct ClockSteps {
    timer: Arc<OwnedFd>,
    seen: watch::Receiver<()>,
    /// How often clocks are to be compared if it is told no more.
    otherwise: Duration,
}

impl ClockSteps {
    /// `None` where the system does not tell.
    pub(super) fn start(otherwise: Duration) -> Option<Arc<Self>> {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC).ok()?;
        let when_set = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&timer, when_set, &Itimerspec { it_interval: NO_TIME, it_value: NEVER }).ok()?;
        let (timer, (tell, seen)) = (Arc::new(timer), watch::channel(()));
        let waits_for = timer.clone();
        let wait = move || {
            loop {
                match read(&*waits_for, &mut [0_u8; 8]) {
                    Err(Errno::CANCELED) => tell.send_modify(|()| ()),
                    Err(Errno::INTR) => {}
                    // The timer went off: nobody wants to know any more.
                    Ok(_) | Err(_) => return,
                }
            }
        };
        thread::Builder::new().name("callsheet-clock".to_owned()).stack_size(STACK).spawn(wait).ok()?;
        Some(Arc::new(Self { timer, seen, otherwise }))
    }

    /// Resolves when the clock has been set since this was called, and now and then.
    pub(super) fn next_look(&self) -> BoxFuture<'static, ()> {
        let mut seen = self.seen.clone();
        seen.mark_unchanged();
        let otherwise = self.otherwise;
        async move {
            if let Ok(Err(_)) = timeout(LOOK_SELDOM, seen.changed()).await {
                sleep(otherwise).await;
            }
        }
        .boxed()
    }
}

impl Drop for ClockSteps {
    fn drop(&mut self) {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 1 };
        let goes_off = Itimerspec { it_interval: NO_TIME, it_value: at_once };
        // If it failed the thread would wait for ever, and do nothing else.
        let _ = timerfd_settime(&*self.timer, TimerfdTimerFlags::empty(), &goes_off);
    }
}

impl fmt::Debug for ClockSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClockSteps").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{runtime, time::Instant};

    use super::*;

    const OTHERWISE: Duration = Duration::from_millis(250);

    fn paused(test: impl Future<Output = ()>) {
        let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(test);
    }

    #[test]
    fn without_a_step_the_next_look_is_after_a_second() {
        paused(async {
            let steps = ClockSteps::start(OTHERWISE).expect("Linux");
            let started = Instant::now();

            steps.next_look().await;

            assert_eq!(started.elapsed(), LOOK_SELDOM);
        });
    }

    #[test]
    fn a_thread_that_is_gone_is_made_up_for() {
        paused(async {
            let steps = ClockSteps::start(OTHERWISE).expect("Linux");
            let mut seen = steps.seen.clone();
            let next = steps.next_look();
            drop(steps);
            assert!(seen.changed().await.is_err(), "the thread ends with the value");
            let started = Instant::now();

            next.await;

            assert_eq!(started.elapsed(), OTHERWISE);
        });
    }
}

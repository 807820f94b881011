//! How the supervisor notices that a clock was set or that the machine slept, and makes right the timers that
//! are wrong by it.
//!
//! [`ClockWatch`](crate::core::clock::ClockWatch) decides whether a clock was set. Decided here: whose timers
//! are wrong by it, and in which order they are made right. Each job's machine arms its own timer.
//!
//! Timers are monotonic: they see neither. A few looks a second at one pair of clocks stand for every job of
//! the node.
//!
//! A timer is right if it is set again before its job is due. So those that are due soon are set again at
//! once, the soonest first, and the others page by page:
//!
//! ```text
//! clock       11:00:00 │ 12:00:00                                                             it is set an hour ahead
//! due                  │ ▲ by 12:00:30, soonest first   ▲ later, in the order of names
//! set again           │ at once ······················ a page every 50 ms, all by 12:00:10
//! ```

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
    vec,
};

use actix::prelude::*;
use chrono::TimeDelta;
use futures_util::future::BoxFuture;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{Entry, SupervisorActor};
use crate::{
    core::{job::Input, policy::Fires, sweep::Sweep},
    event::EventKind,
    job::JobHandle,
    lock::ReadClock,
    name::JobName,
    port::{Clock, Decision, DecisionRecord},
};

/// The shortest time between two looks, whatever the clock wants.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(10);

/// Whoever is due sooner than this is woken up before all others.
const SOON: TimeDelta = TimeDelta::seconds(30);

/// How long it takes to wake all others up: well less than [`SOON`], for a machine that is busy.
const REARM_WITHIN: Duration = Duration::from_secs(10);

/// The pause between two pages of them, in which the supervisor and the jobs do what else there is to do.
const REARM_PAUSE: Duration = Duration::from_millis(50);

/// The least in a page.
const REARM_PAGE_MIN: usize = 1_000;

/// The most that are woken up at a time, of those who are due soon.
const SOON_PAGE: usize = 10_000;

/// The next of those whose timers may be wrong are to be woken up.
#[derive(Message)]
#[rtype(result = "()")]
struct RearmNext;

/// The clocks that have moved.
#[derive(Debug, Clone, Copy, Default)]
struct MovedClocks {
    wall: bool,
    store: bool,
}

/// What is left to do after a clock has moved.
pub(super) struct Rearming {
    moved: MovedClocks,
    /// Due soon, the soonest first.
    soon: vec::IntoIter<(i64, Arc<JobHandle>)>,
    /// All others, in the order of their names.
    rest: Sweep<JobName>,
    /// How many of these have been looked at.
    done: usize,
    /// By the monotonic clock.
    started_at: Duration,
    next: Option<SpawnHandle>,
}

/// The task that looks at the clocks; dropped, it looks no more.
struct Looks(JoinHandle<bool>);

impl Future for Looks {
    /// Whether it is the store's clock that has moved.
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<bool> {
        // A clock that panicked is looked at again.
        Pin::new(&mut self.0).poll(task).map(Result::unwrap_or_default)
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl MovedClocks {
    /// Whether the timer of a job that fires so follows one of them.
    fn concerns(self, fires: Fires) -> bool {
        match fires {
            Fires::Local => self.wall,
            Fires::Leader | Fires::AnyNode => self.store,
        }
    }
}

fn next_look(clock: &dyn Clock, has_io: bool) -> BoxFuture<'static, ()> {
    if has_io { clock.next_look_with_io() } else { clock.next_look() }
}

impl SupervisorActor {
    /// Looks at the clocks now, and whenever one of them may have moved.
    pub(super) fn watch_clocks(&mut self, ctx: &mut Context<Self>) {
        if self.parts.able.single_node {
            return self.watch_own_clocks(ctx);
        }
        // Before the look: a step that comes after it ends the wait.
        let next_look = next_look(&*self.node().clock, self.parts.has_io);
        self.look_at_clocks(ctx);
        let earliest = Instant::now() + LOOK_PAUSE_MIN;
        // One after the other: a timer that nobody needs would wake this thread up as often as the look does.
        let next_look = async move {
            next_look.await;
            if Instant::now() < earliest {
                sleep_until(earliest).await;
            }
        };
        ctx.spawn(next_look.into_actor(self).map(|(), actor, ctx| actor.watch_clocks(ctx)));
    }

    /// The same where the store is in this process: all that there is to look at is at hand, and nobody is
    /// asked.
    ///
    /// A task of its own looks. An actor would be woken up for each look, by way of the set of tasks that it
    /// is in, and of a system call that wakes up its own thread: several times the cost of the look, all day.
    fn watch_own_clocks(&mut self, ctx: &mut Context<Self>) {
        // Before the look: a step that comes after it ends the wait.
        let has_io = self.parts.has_io;
        let mut next = next_look(&*self.node().clock, has_io);
        self.look_at_clocks(ctx);
        let (node, mut watch) = (self.node().clone(), self.wall_clock.clone());
        let moved = Looks(tokio::spawn(async move {
            loop {
                let earliest = Instant::now() + LOOK_PAUSE_MIN;
                next.await;
                if Instant::now() < earliest {
                    sleep_until(earliest).await;
                }
                next = next_look(&*node.clock, has_io);
                let store = node.measure_store_clock();
                let (wall, elapsed) = node.clock.read();
                if store || watch.look(wall, elapsed).is_some() {
                    break store;
                }
            }
        }));
        ctx.spawn(moved.into_actor(self).map(|store, actor, ctx| {
            if store {
                actor.on_store_clock_moved(ctx);
            }
            actor.watch_own_clocks(ctx);
        }));
    }

    fn look_at_clocks(&mut self, ctx: &mut Context<Self>) {
        // The store's clock is told by how far the node's is from it. If it has moved, too, the lock actor
        // reports it. Of a store in this process nothing else is measured, and no other thread is woken up.
        if !self.parts.able.single_node {
            self.parts.lock.do_send(ReadClock);
        } else if self.node().measure_store_clock() {
            self.on_store_clock_moved(ctx);
        }
        let (wall, elapsed) = self.node().clock.read();
        if let Some(by) = self.wall_clock.look(wall, elapsed) {
            self.node().meters.clock_steps.increment(1);
            self.publish(|| EventKind::ClockStepped { by });
            let node = self.node();
            node.recorder.decision(0, node.clock.elapsed(), || {
                // What the store's clock reads is not known again yet.
                DecisionRecord::new(None, wall, node.id, Decision::ClockStepped { by })
            });
            self.rearm(MovedClocks { wall: true, store: false }, ctx);
        }
    }

    /// The store's time, as this node knows it, has moved against the monotonic clock.
    pub(super) fn on_store_clock_moved(&mut self, ctx: &mut Context<Self>) {
        self.rearm(MovedClocks { wall: false, store: true }, ctx);
    }

    /// Makes every timer right that follows a clock which has moved, before its job is due.
    ///
    /// Whoever is woken up reads the clock and sets its timer again; that is harmless at any time. An actor
    /// that read the clock before it moved and arms its timer only now either is seen here or sees itself
    /// that the clock has moved.
    fn rearm(&mut self, mut moved: MovedClocks, ctx: &mut Context<Self>) {
        self.node().clock_moves.count();
        self.look_at_all_alarms(ctx);
        if let Some(former) = self.rearming.take() {
            // It is done from the start: whom it has woken up is wrong again, and whom it has not may be due
            // soon by now.
            moved.wall |= former.moved.wall;
            moved.store |= former.moved.store;
            former.next.map(|next| ctx.cancel_future(next));
        }
        self.rearming = Some(Rearming {
            moved,
            soon: self.due_soon(moved).into_iter(),
            rest: Sweep::default(),
            done: 0,
            started_at: self.node().clock.elapsed(),
            next: None,
        });
        self.rearm_next(ctx);
    }

    /// The jobs whose timers are wrong already or will be soon, the soonest first.
    fn due_soon(&self, moved: MovedClocks) -> Vec<(i64, Arc<JobHandle>)> {
        let [wall, store] = [self.node().now(), self.node().now_in_store()]
            .map(|now| now.wall.checked_add_signed(SOON).unwrap_or(now.wall).timestamp_micros());
        let soon = |Entry { job, firing, .. }: &Entry| {
            let until = if firing.fires() == Fires::Local { wall } else { store };
            job.wake_time.micros().filter(|wake_time| *wake_time <= until)
        };
        // Nothing is read of the others: memory that is not at hand is most of what a look at a million jobs
        // costs.
        let entries = self.jobs.values().filter(|entry| moved.concerns(entry.firing.fires()));
        let mut due: Vec<_> = entries.filter_map(|entry| Some((soon(entry)?, entry.job.clone()))).collect();
        due.sort_unstable_by_key(|(wake_time, _)| *wake_time);
        due
    }

    /// Wakes up those who are due soon, and then page by page the others.
    fn rearm_next(&mut self, ctx: &mut Context<Self>) {
        let Some(mut rearming) = self.rearming.take() else { return };
        let host = self.parts.jobs.clone();
        let held = host.placement.hold();
        for (_, job) in rearming.soon.by_ref().take(SOON_PAGE) {
            job.send(Input::ClockMoved);
        }
        let pause = if rearming.soon.len() > 0 {
            // As soon as the supervisor has handled what came meanwhile.
            Duration::ZERO
        } else if self.rearm_page(&mut rearming) {
            REARM_PAUSE
        } else {
            return;
        };
        drop(held);
        rearming.next = Some(ctx.notify_later(RearmNext, pause));
        self.rearming = Some(rearming);
    }

    /// Answers whether there may be another page.
    fn rearm_page(&self, rearming: &mut Rearming) -> bool {
        let took = self.node().clock.elapsed().saturating_sub(rearming.started_at);
        let left = self.jobs.len().saturating_sub(rearming.done);
        let page = page_len(left, REARM_WITHIN.saturating_sub(took));
        let page = rearming.rest.next_page(&self.jobs, page, |_| true);
        rearming.done += page.len();
        for (_, Entry { job, firing, .. }) in page {
            if rearming.moved.concerns(firing.fires()) && job.wake_time.micros().is_some() {
                job.send(Input::ClockMoved);
            }
        }
        rearming.rest.goes_on()
    }
}

/// How many of those who are left to be woken up make a page, for all to be woken up within the time that is
/// left.
fn page_len(left: usize, time_left: Duration) -> usize {
    let pages = time_left.as_millis() / REARM_PAUSE.as_millis();
    left.div_ceil(usize::try_from(pages).unwrap_or(usize::MAX).max(1)).max(REARM_PAGE_MIN)
}

impl Handler<RearmNext> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: RearmNext, ctx: &mut Self::Context) {
        self.rearm_next(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_very_many_are_as_long_as_the_time_that_is_left_wants() {
        // left, time left in ms, expected
        let cases = [
            (1_000_000, 10_000, 5_000),
            (1_000_001, 10_000, 5_001),
            // It took longer than planned.
            (900_000, 5_000, 9_000),
            (20_000, 60, 20_000),
            (20_000, 0, 20_000),
            // Not worth a pause.
            (999, 10_000, 1_000),
            (0, 0, 1_000),
        ];
        for (left, time_left, expected) in cases {
            assert_eq!(
                page_len(left, Duration::from_millis(time_left)),
                expected,
                "{left} in {time_left} ms"
            );
        }
    }
}

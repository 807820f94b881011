//! The cast of a thread: the job actors that live on it.
//!
//! A job is idle nearly all its life. So its actor has no task, no mailbox and no timer of its own, as an
//! actor of actix in its usual context has, and no room for them either: the cast has one task, one inbox and
//! one timer for all of them. In one turn of the task
//!
//! 1. the messages that have come are handled, in their order: answers and ends go before new work;
//! 2. the actors whose time has come are woken up, the soonest first;
//! 3. the timer is set for the one that is due next.
//!
//! What they start begins together, so many at a time, and the rest at the end of the turn: a thread for bodies
//! is woken up for many.
//!
//! An actor that panics dies, and no other one with it.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use actix::prelude::*;
use chrono::{DateTime, Utc};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    actor::JobActor,
    bell::{Bell, BellHold},
    context::JobContext,
    handle::JobHandle,
    host::JobHost,
    message::Envelope,
    report::Report,
    run_task::RunTask,
    snapshot::JobSnapshot,
};
use crate::{body_queue::Watch, coalesced::Coalesced, core::due_queue::DueQueue, placement::JobThreads};

/// How many messages a cast handles in one turn, and how many actors it wakes up, before others of its thread
/// have theirs.
const MESSAGES_A_TURN: usize = 256;
const WAKES_A_TURN: usize = 64;

/// So many runs begin together.
const STARTS_TOGETHER: usize = 16;

/// For so many deliveries a cast keeps memory while none comes.
const ROOM_KEPT: usize = 1_024;

/// With what an actor begins.
pub(crate) enum Beginning {
    /// The job is new: everything up to here is decided.
    New(DateTime<Utc>),
    /// An actor before it died.
    Left(Box<JobSnapshot>),
}

/// What is on its way to a cast.
enum Delivery {
    Start(Arc<JobHandle>, Beginning),
    Message(Envelope),
}

/// Where the actors live: on the threads, in turn, or on the caller's thread and local set.
pub(crate) struct Placement(Vec<Arc<Doors>>);

/// The way into a cast, from whatever thread.
#[derive(Default)]
struct Doors {
    inbox: Coalesced<Delivery>,
    bell: Bell,
    places: Mutex<Places>,
    /// Nobody sends anything any more.
    over: AtomicBool,
}

/// The places of a cast: an actor has one from before it is started until it has stopped.
#[derive(Default)]
struct Places {
    taken: u32,
    free: Vec<u32>,
}

impl Doors {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, delivery: Delivery) {
        self.bell.send(|| self.inbox.push(delivery));
    }
}

impl Placement {
    /// Makes a cast on each of the threads; without any, one where this is called.
    pub(crate) fn on(threads: &JobThreads) -> Self {
        let doors: Vec<Arc<Doors>> = (0..threads.count().max(1)).map(|_| Arc::default()).collect();
        for (nth, doors) in doors.iter().enumerate() {
            let doors = doors.clone();
            threads.start(nth, move || drop(actix_rt::spawn(Cast::new(doors))));
        }
        Self(doors)
    }

    /// The place of an actor that is to be the `nth` one of the node.
    pub(crate) fn place(&self, nth: u64) -> u32 {
        let mut places = self.doors(nth).places();
        places.free.pop().unwrap_or_else(|| {
            places.taken += 1;
            places.taken - 1
        })
    }

    /// Starts the actor of a job, in its place.
    ///
    /// It is made there: what waits for a busy thread is small, and nothing is copied from the memory of one
    /// thread to that of another.
    pub(crate) fn start(&self, job: Arc<JobHandle>, beginning: Beginning) {
        self.doors(job.generation).deliver(Delivery::Start(job, beginning));
    }

    /// Sends a message to the `nth` actor. If its thread is gone, or goes before it comes to this, the message
    /// is dropped.
    pub(super) fn post(&self, nth: u64, message: Envelope) {
        self.doors(nth).deliver(Delivery::Message(message));
    }

    /// What this thread sends wakes no thread up while this is held: for one that sends to many actors in a
    /// row. A thread that is woken up for the first of them would be through before the second is sent, and
    /// would be woken up again for each.
    pub(crate) fn hold(&self) -> Hold<'_> {
        Hold { _bells: self.0.iter().map(|doors| doors.bell.hold()).collect() }
    }

    fn doors(&self, nth: u64) -> &Doors {
        &self.0[usize::try_from(nth).unwrap_or_default() % self.0.len()]
    }
}

/// See [`Placement::hold`].
pub(crate) struct Hold<'a> {
    _bells: Vec<BellHold<'a>>,
}

impl Drop for Placement {
    fn drop(&mut self) {
        // Whoever could send anything holds this: nobody is left, neither here nor in a cast.
        for doors in &self.0 {
            doors.over.store(true, Ordering::Release);
            doors.bell.ring();
        }
    }
}

/// The actors of a thread.
struct Cast {
    doors: Arc<Doors>,
    /// By their places.
    actors: Vec<Option<Box<JobActor>>>,
    /// What was taken out of the inbox and is still to be handled, the first of it at the end.
    deliveries: Vec<Delivery>,
    /// When which actor is to be woken up, in nanoseconds since `began`.
    due: DueQueue,
    began: Instant,
    timer: Pin<Box<Sleep>>,
    /// The runs that were started in this turn and are still to begin.
    starts: Vec<RunTask>,
    /// What has begun, and may wait behind a body that blocks.
    watched: Option<(Arc<JobHost>, Watch)>,
}

impl Cast {
    fn new(doors: Arc<Doors>) -> Self {
        let began = Instant::now();
        Self {
            doors,
            actors: Vec::new(),
            deliveries: Vec::new(),
            due: DueQueue::default(),
            began,
            timer: Box::pin(sleep_until(began)),
            starts: Vec::new(),
            watched: None,
        }
    }

    fn next_delivery(&mut self) -> Option<Delivery> {
        if self.deliveries.is_empty() {
            self.deliveries.shrink_to(ROOM_KEPT);
            self.doors.inbox.take_into(&mut self.deliveries);
            self.deliveries.reverse();
        }
        self.deliveries.pop()
    }

    fn handle(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Start(job, beginning) => {
                let place = job.place;
                let cursor = match &beginning {
                    Beginning::New(cursor) => *cursor,
                    Beginning::Left(snapshot) => snapshot.machine.cursor(),
                };
                let make = || {
                    let snapshot = match beginning {
                        Beginning::New(cursor) => JobSnapshot::fresh(&job, cursor),
                        Beginning::Left(snapshot) => *snapshot,
                    };
                    Box::new(JobActor::new(job.clone(), snapshot))
                };
                let Ok(actor) = catch_unwind(AssertUnwindSafe(make)) else {
                    // What its predecessor had in hand is gone with it.
                    job.report(Report::Died(Box::new(JobSnapshot::fresh(&job, cursor))));
                    return self.doors.places().free.push(place);
                };
                let number = place as usize;
                if number >= self.actors.len() {
                    self.actors.resize_with(number + 1, || None);
                }
                self.actors[number] = Some(actor);
                self.with(place, JobActor::started);
            }
            Delivery::Message(message) => {
                let (place, generation) = message.receiver();
                let actor = self.actors.get(place as usize).and_then(Option::as_ref);
                if actor.is_some_and(|actor| actor.job.generation == generation) {
                    self.with(place, |actor, ctx| actor.handle(message, ctx));
                }
            }
        }
    }

    /// Lets an actor do something. It dies if it panics.
    fn with(&mut self, place: u32, work: impl FnOnce(&mut JobActor, &mut JobContext)) {
        let Some(actor) = self.actors.get_mut(place as usize).and_then(Option::as_mut) else { return };
        let mut ctx = JobContext::lent(mem::take(&mut self.starts));
        let done = catch_unwind(AssertUnwindSafe(|| work(actor, &mut ctx)));
        self.starts = mem::take(&mut ctx.starts);
        if self.starts.len() >= STARTS_TOGETHER {
            self.begin_together();
        }
        if done.is_err() || !ctx.state().alive() {
            self.stop(place);
        } else if let Some(at) = ctx.wake_at {
            let at = at.map(|at| nanos(at.saturating_duration_since(self.began)));
            self.due.set(place, at);
        }
    }

    fn stop(&mut self, place: u32) {
        self.due.set(place, None);
        let actor = self.actors.get_mut(place as usize).and_then(Option::take);
        if let Some(actor) = actor {
            let_go(actor);
            self.doors.places().free.push(place);
        }
    }

    /// The first actor whose time has come.
    fn first_due(&self, now: u64) -> Option<u32> {
        self.due.first().filter(|(_, at)| *at <= now).map(|(place, _)| place)
    }

    fn begin_together(&mut self) {
        let Some(host) = self.starts.first().map(|run| run.job().host.clone()) else { return };
        let Some(watch) = host.bodies.start_all(&mut self.starts) else { return };
        match &mut self.watched {
            Some((_, watched)) => watched.extend(&watch),
            None => self.watched = Some((host, watch)),
        }
    }

    /// Sees to it that what has begun does not wait for long. Answers when it is to be looked at again.
    fn watch(&mut self) -> Option<Instant> {
        let again = self.watched.as_mut().and_then(|(host, watch)| host.bodies.watch(watch));
        if again.is_none() {
            self.watched = None;
        }
        again
    }

    /// Sets the timer for the actor that is due next, and for what is watched. Answers whether the time has
    /// come already.
    fn set_timer(&mut self, task: &mut TaskContext<'_>) -> bool {
        let due = self.due.first().map(|(_, at)| self.began + Duration::from_nanos(at));
        let Some(at) = due.into_iter().chain(self.watch()).min() else { return false };
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        self.timer.as_mut().poll(task).is_ready()
    }
}

impl Future for Cast {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        // Before the look into the inbox: what comes after it wakes this up.
        this.doors.bell.listen(task.waker());
        let mut goes_on = false;
        for left in (0..MESSAGES_A_TURN).rev() {
            let Some(delivery) = this.next_delivery() else { break };
            this.handle(delivery);
            goes_on = left == 0;
        }
        let now = nanos(this.began.elapsed());
        for left in (0..WAKES_A_TURN).rev() {
            let Some(place) = this.first_due(now) else { break };
            this.with(place, JobActor::on_time);
            goes_on |= left == 0;
        }
        this.begin_together();
        if goes_on || this.set_timer(task) {
            task.waker().wake_by_ref();
        } else if this.doors.over.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        // The thread ends.
        mem::take(&mut self.actors).into_iter().flatten().for_each(let_go);
        self.doors.inbox.close();
    }
}

/// An actor has stopped, or has died.
fn let_go(mut actor: Box<JobActor>) {
    let gone = catch_unwind(AssertUnwindSafe(|| {
        actor.stopped(&mut JobContext::default());
        drop(actor);
    }));
    if gone.is_err() {
        tracing::error!(target: "callsheet", "what an actor of a job held panicked when it was dropped");
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

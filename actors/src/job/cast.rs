//! The cast of a thread: the job actors that live on it.
//!
//! A job is idle nearly all its life. So its actor has no task, no mailbox and no timer of its own, as an
//! actor of actix in its usual context has, and no room for them either: the cast has one task, one inbox and
//! one timer for all of them. In one turn of the task
//!
//! 1. whoever asks whether the thread turns is answered;
//! 2. the messages that have come are handled, in their order: answers and ends go before new work;
//! 3. the actors whose time has come are woken up, the soonest first;
//! 4. the timer is set for the one that is due next.
//!
//! What they start begins together, so many at a time, and the rest at the end of the turn: a thread for bodies
//! is woken up for many. It begins before, if it would wait for longer than [`TOGETHER_MAX`], or for a schedule
//! that may block.
//!
//! An actor that panics dies, and no other one with it. Somebody who wants to talk to one actor gets an
//! [address](super::address) of it.

use std::{
    mem,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Poll, Wake, Waker},
    time::Duration,
};

use actix::{dev::EnvelopeProxy, prelude::*};
use chrono::{DateTime, Utc};
use tokio::{
    task::yield_now,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    actor::JobActor,
    address::Mailboxes,
    bell::{Bell, BellHold},
    context::JobContext,
    handle::JobHandle,
    host::JobHost,
    message::Envelope,
    places::Places,
    report::Report,
    run_task::RunTask,
    snapshot::JobSnapshot,
};
use crate::{
    body_queue::Watch,
    coalesced::Coalesced,
    contained::unharmed,
    core::due_queue::DueQueue,
    placement::{JobThreads, Turns},
};

/// How many messages a cast handles in one turn, and how many actors it wakes up, before others of its thread
/// have theirs.
const MESSAGES_A_TURN: usize = 256;
const WAKES_A_TURN: usize = 64;

/// So many runs begin together.
const STARTS_TOGETHER: usize = 16;

/// The longest time that a run waits for others to begin together with it, besides what one step takes.
const TOGETHER_MAX: Duration = Duration::from_micros(100);

/// For so many deliveries an idle cast keeps memory, in its inbox and beside it.
const ROOM_KEPT: usize = 128;

/// How many places a cast has memory for when it has fewer actors.
const PLACES_KEPT: usize = 1_024;

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
    /// Something has come to a mailbox of the actor in this place, or nobody has its address any more.
    Knock(u32, u64),
}

/// Where the actors live: on the threads, in turn, or on the caller's thread and local set.
pub(crate) struct Placement(Vec<Arc<Doors>>);

/// The way into a cast, from whatever thread.
#[derive(Default)]
struct Doors {
    inbox: Coalesced<Delivery>,
    bell: Bell,
    places: Places,
    /// Nobody sends anything any more.
    over: AtomicBool,
}

impl Doors {
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
            threads.start(nth, move |turns| drop(actix_rt::spawn(Cast::new(doors, turns))));
        }
        Self(doors)
    }

    /// The place of an actor that is to be the `nth` one of the node.
    pub(crate) fn place(&self, nth: u64) -> u32 {
        self.doors(nth).places.take()
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

/// Wakes a cast up for one mailbox.
struct Knock {
    doors: Arc<Doors>,
    place: u32,
    mailbox: u64,
}

impl Wake for Knock {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.doors.deliver(Delivery::Knock(self.place, self.mailbox));
    }
}

/// The actors of a thread.
struct Cast {
    doors: Arc<Doors>,
    turns: Turns,
    /// By their places.
    actors: Vec<Option<Box<JobActor>>>,
    /// Of the actors of which somebody has an address.
    mailboxes: Mailboxes,
    /// What was taken out of the inbox and is still to be handled, the first of it at the end.
    deliveries: Vec<Delivery>,
    /// There were more of them at a time than memory is kept for.
    is_crowded: bool,
    /// When which actor is to be woken up, in nanoseconds since `began`.
    due: DueQueue,
    began: Instant,
    timer: Pin<Box<Sleep>>,
    /// The runs that were started in this turn and are still to begin.
    starts: Vec<RunTask>,
    /// Since when the first of them waits for others, if one was started in another step.
    starts_since: Option<Instant>,
    /// What has begun, and may wait behind a body that blocks.
    watched: Option<(Arc<JobHost>, Watch)>,
}

impl Cast {
    fn new(doors: Arc<Doors>, turns: Turns) -> Self {
        let began = Instant::now();
        Self {
            doors,
            turns,
            actors: Vec::new(),
            mailboxes: Mailboxes::default(),
            deliveries: Vec::new(),
            is_crowded: false,
            due: DueQueue::default(),
            began,
            timer: Box::pin(sleep_until(began)),
            starts: Vec::new(),
            starts_since: None,
            watched: None,
        }
    }

    /// Handles what has come, and wakes up whose time has come, up to the bounds of a turn. Answers whether
    /// there may be more.
    fn turn(&mut self) -> bool {
        let mut goes_on = false;
        for left in (0..MESSAGES_A_TURN).rev() {
            let Some(delivery) = self.next_delivery() else { break };
            self.handle(delivery);
            goes_on = left == 0;
        }
        let now = nanos(self.began.elapsed());
        for left in (0..WAKES_A_TURN).rev() {
            let Some(place) = self.first_due(now) else { break };
            self.with(place, JobActor::on_time);
            goes_on |= left == 0;
        }
        self.begin_together();
        goes_on
    }

    fn next_delivery(&mut self) -> Option<Delivery> {
        if self.deliveries.is_empty() {
            self.doors.inbox.take_into(&mut self.deliveries);
            self.deliveries.reverse();
            self.is_crowded |= self.deliveries.len() > ROOM_KEPT;
        }
        self.deliveries.pop()
    }

    /// Gives back what a crowd has taken.
    fn shrink(&mut self) {
        if mem::take(&mut self.is_crowded) {
            self.deliveries.shrink_to(ROOM_KEPT);
            self.doors.inbox.shrink_to(ROOM_KEPT);
        }
    }

    fn handle(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Start(job, beginning) => self.start(job, beginning),
            Delivery::Message(message) => {
                if message.may_block() {
                    self.begin_before_what_may_block();
                }
                let (place, generation) = message.receiver();
                let actor = self.actors.get(place as usize).and_then(Option::as_ref);
                if actor.is_some_and(|actor| actor.job.generation == generation) {
                    self.with(place, |actor, ctx| actor.handle(message, ctx));
                }
            }
            Delivery::Knock(place, mailbox) => {
                if let Some(mut message) = self.mailboxes.next(place, mailbox) {
                    self.with(place, |actor, ctx| message.handle(actor, ctx));
                }
            }
        }
    }

    fn start(&mut self, job: Arc<JobHandle>, beginning: Beginning) {
        let place = job.place;
        let cursor = match &beginning {
            Beginning::New(cursor) => *cursor,
            Beginning::Left(snapshot) => snapshot.machine.cursor(),
        };
        let made = unharmed(|| {
            let snapshot = match beginning {
                Beginning::New(cursor) => JobSnapshot::fresh(&job, cursor),
                Beginning::Left(snapshot) => *snapshot,
            };
            Box::new(JobActor::new(job.clone(), snapshot))
        });
        let Some(actor) = made else {
            // What its predecessor had in hand is gone with it.
            job.report(Report::Died(Box::new(JobSnapshot::fresh(&job, cursor))));
            return self.doors.places.give_back(place);
        };
        let number = place as usize;
        if number >= self.actors.len() {
            self.actors.resize_with(number + 1, || None);
        }
        self.actors[number] = Some(actor);
        self.with(place, JobActor::started);
    }

    /// Lets an actor do something. It dies if it panics.
    fn with(&mut self, place: u32, work: impl FnOnce(&mut JobActor, &mut JobContext)) {
        if !self.starts.is_empty() || self.watched.is_some() {
            self.begin_before(place);
        }
        let Some(actor) = self.actors.get_mut(place as usize).and_then(Option::as_mut) else { return };
        let mut ctx = JobContext::lent(mem::take(&mut self.starts));
        let done = unharmed(|| work(actor, &mut ctx));
        self.starts = mem::take(&mut ctx.starts);
        if self.starts.len() >= STARTS_TOGETHER {
            self.begin_together();
        }
        if done.is_none() || !ctx.state().alive() {
            return self.stop(place);
        }
        if let Some(at) = ctx.wake_at {
            let at = at.map(|at| nanos(at.saturating_duration_since(self.began)));
            self.due.set(place, at);
        }
        if let Some(mailbox) = ctx.mailbox {
            let doors = self.doors.clone();
            let knock = |number| Waker::from(Arc::new(Knock { doors, place, mailbox: number }));
            self.mailboxes.open(place, *mailbox, knock);
        }
    }

    fn stop(&mut self, place: u32) {
        self.due.set(place, None);
        let Some(actor) = self.actors.get_mut(place as usize).and_then(Option::take) else { return };
        // First of all: the supervisor is told whatever becomes of the rest.
        let_go(actor);
        self.mailboxes.close(place);
        self.doors.places.give_back(place);
        // Those that come take the lowest places.
        while let Some(None) = self.actors.last() {
            self.actors.pop();
        }
        let (length, room) = (self.actors.len(), self.actors.capacity());
        if room > PLACES_KEPT && length < room / 4 {
            self.actors.shrink_to(length.max(PLACES_KEPT / 2) * 2);
            self.due.shrink_to(length);
        }
    }

    /// The first actor whose time has come.
    fn first_due(&self, now: u64) -> Option<u32> {
        self.due.first().filter(|(_, at)| *at <= now).map(|(place, _)| place)
    }

    /// What was started begins before the step of this actor, if it has waited long enough, or if it might have
    /// to wait for that step.
    fn begin_before(&mut self, place: u32) {
        let actor = self.actors.get(place as usize).and_then(Option::as_ref);
        if actor.is_some_and(|actor| actor.job.definition.may_block) {
            return self.begin_before_what_may_block();
        }
        if !self.starts.is_empty() {
            let now = Instant::now();
            let since = *self.starts_since.get_or_insert(now);
            if now - since > TOGETHER_MAX {
                self.begin_together();
            }
        }
    }

    /// Nothing that was started waits for what this thread does next.
    fn begin_before_what_may_block(&mut self) {
        self.begin_together();
        if let Some((host, watch)) = self.watched.take() {
            host.bodies.hand_over(watch);
        }
    }

    fn begin_together(&mut self) {
        self.starts_since = None;
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
    fn set_timer(&mut self, watch_again: Option<Instant>, task: &mut TaskContext<'_>) -> bool {
        let due = self.due.first().map(|(_, at)| self.began + Duration::from_nanos(at));
        let Some(at) = due.into_iter().chain(watch_again).min() else { return false };
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
        this.turns.say(task.waker());
        // What panics beside the actors themselves is what is dropped, and whoever hears of it. The rest is
        // for the next turn.
        let goes_on = unharmed(|| this.turn()).unwrap_or(true);
        // In every turn: a cast that is busy for long sets no timer meanwhile.
        let watch_again = this.watch();
        if goes_on || this.set_timer(watch_again, task) {
            // Not woken up at once: the thread would come back to this task up to 61 times before it looks
            // at its timers and at what other threads want of it.
            let _ = pin!(yield_now()).poll(task);
        } else if this.doors.over.load(Ordering::Acquire) {
            return Poll::Ready(());
        } else {
            this.shrink();
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
    let gone = unharmed(|| {
        actor.stopped(&mut JobContext::default());
        drop(actor);
    });
    if gone.is_none() {
        // Whoever listens to the log may panic as well.
        unharmed(|| {
            tracing::error!(target: "callsheet", "what an actor of a job held panicked when it was dropped");
        });
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! The running instance of a job on this node: what everybody who deals with the job needs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering},
    },
    time::Duration,
};

use actix::{Addr, dev::channel::channel};
use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{
    actor::JobActor,
    address::MAILBOX_CAPACITY,
    ask::{Ask, RecordEnd},
    conclude::Conclusion,
    hook_calls::HookCalls,
    host::JobHost,
    message::{Envelope, JobMessage},
    record::RunNotes,
    report::{JobReport, Report},
};
use crate::{
    core::{
        job::{Input, PermitAnswer, RunEnded},
        policy::Fires,
        time::Now,
    },
    definition::Definition,
    job_names::KeyInUse,
    labels::Labelled,
    metrics::JobMeters,
    node::Node,
};

/// One actor of a job on this node, with the definition that it has at present.
pub(crate) struct JobHandle {
    pub(crate) definition: Arc<Definition>,
    /// Grows with every actor that is started on this node.
    pub(crate) generation: u64,
    /// The generation of the job's first actor: the same for all that took it over after a death.
    pub(crate) instance: u64,
    /// Where the actor lives in the cast of its thread.
    pub(crate) place: u32,
    pub(crate) meters: Arc<Labelled<JobMeters>>,
    pub(crate) hook_calls: HookCalls,
    pub(crate) wake_time: WakeTime,
    pub(crate) on_trial: OnTrial,
    /// Its body was not quick when it ran last.
    pub(crate) body_takes_time: AtomicBool,
    pub(crate) host: Arc<JobHost>,
    /// Its key; `None` on a node that has one backend.
    pub(crate) key_in_use: Option<Arc<KeyInUse>>,
}

impl JobHandle {
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.host.node
    }

    /// As far as is known from the last run.
    pub(crate) fn body_takes_time(&self) -> bool {
        self.body_takes_time.load(Ordering::Relaxed)
    }

    /// Feeds an input to the job's machine.
    pub(crate) fn send(self: &Arc<Self>, input: Input) {
        self.post(JobMessage::Input(input));
    }

    /// Tells the job's actor something.
    pub(crate) fn post(self: &Arc<Self>, message: JobMessage) {
        self.host.placement.post(self.generation, Envelope::new(self.clone(), message));
    }

    /// Asks the job's actor. There is no answer if it died over the question.
    pub(crate) fn ask<T>(
        self: &Arc<Self>,
        question: impl FnOnce(oneshot::Sender<T>) -> JobMessage,
    ) -> oneshot::Receiver<T> {
        let (reply, answer) = oneshot::channel();
        self.post(question(reply));
        answer
    }

    /// An address of the job's actor. It is closed once that has stopped, or has died.
    pub(crate) fn address(self: &Arc<Self>) -> Addr<JobActor> {
        let (address, mailbox) = channel(MAILBOX_CAPACITY);
        self.post(JobMessage::Open(Box::new(mailbox)));
        Addr::new(address)
    }

    /// Asks whoever serves claims.
    pub(super) fn ask_store(&self, ask: Ask) {
        self.host.asks.ask(ask);
    }

    /// Tells whoever supervises the jobs.
    pub(super) fn report(self: &Arc<Self>, report: Report) {
        self.host.reports.do_send(JobReport { job: self.clone(), report });
    }

    /// The job's alarm was told something, by which it is to be asked, or is not.
    pub(super) fn alarm_noted(self: &Arc<Self>, is_to_be_asked: bool) {
        if is_to_be_asked {
            self.report(Report::AlarmNoted);
        }
    }

    /// Gives a permit back: to the job that waits for one, if there is one. If that job is gone, the message
    /// comes back to the supervisor, which gives the permit back again.
    pub(crate) fn release_permit(&self) {
        if let Some(next) = self.host.permits.release() {
            next.send(Input::Permit(PermitAnswer::Granted));
        }
    }

    /// Has the end of a run recorded of which no actor is left; its handle died with the actor.
    pub(crate) fn conclude_undelivered(self: &Arc<Self>, ended: RunEnded) {
        let from_completion = self.definition.schedule.counts_from_completion();
        let conclusion = Conclusion::new(self.clone(), ended, None, None, RunNotes::default());
        // Of a job whose actor is gone: whoever follows is told.
        for input in self.host.asks.record_end(RecordEnd { conclusion, from_completion }) {
            self.send(input);
        }
    }

    /// The readings of this instant by the clock that decides the job's ticks: the store's, unless the job is
    /// local.
    pub(crate) fn now(&self) -> Now {
        match self.definition.policies.fires {
            Fires::Leader | Fires::AnyNode => self.node().now_in_store(),
            Fires::Local => self.node().now(),
        }
    }

    /// What the clock that decides the job's ticks reads. No run id is made of it, unlike with [`now`](Self::now).
    pub(crate) fn wall(&self) -> DateTime<Utc> {
        self.wall_at(self.node().clock.elapsed())
    }

    /// What the clock that decides the job's ticks reads while the monotonic one reads this, which is now.
    pub(crate) fn wall_at(&self, elapsed: Duration) -> DateTime<Utc> {
        match self.definition.policies.fires {
            Fires::Leader | Fires::AnyNode => self.node().clock_offset.store_time(elapsed),
            Fires::Local => self.node().clock.now(),
        }
    }

    /// [`now`](Self::now), for a timer that is to follow from it.
    pub(super) fn read(&self) -> Reading {
        // First of all: whoever counts a move sees the clock that has moved.
        let clock_moves = self.node().clock_moves.counted();
        Reading { now: self.now(), clock_moves }
    }

    /// As [`read`](Self::read), of the instant at which the store answered: its clock decides the job's ticks.
    /// Whatever has moved since the reading before is seen at the end of the step.
    pub(super) fn read_at(&self, elapsed: Duration, before: Reading) -> Reading {
        Reading { now: self.node().in_store_at(elapsed), ..before }
    }

    /// Whether no clock has moved since this reading: otherwise the timer that follows from it may be wrong.
    ///
    /// A move is counted before the supervisor looks for wrong timers, and the wake time is published before
    /// the count is read again: either the supervisor sees this wake time, or the actor sees the move. For
    /// this all four are sequentially consistent.
    pub(super) fn is_unmoved_since(&self, reading: &Reading) -> bool {
        self.node().clock_moves.counted() == reading.clock_moves
    }
}

/// What an actor read when it began to decide.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    pub(super) now: Now,
    /// How often a clock had moved before.
    pub(super) clock_moves: u32,
}

impl Reading {
    /// So long from now, as a [`WakeTime`] has it.
    pub(super) fn wake_time(&self, wait: Option<Duration>) -> i64 {
        let wake_time = wait.map(|wait| {
            let wait = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
            self.now.wall.timestamp_micros().saturating_add(wait)
        });
        wake_time.unwrap_or(WakeTime::NEVER)
    }
}

/// The instant for which the timer of a job is armed, by the clock that decides the job's ticks.
///
/// Only the job's actor writes it. The supervisor reads it to find the timers that are wrong once a clock has
/// moved.
#[derive(Debug)]
pub(crate) struct WakeTime(AtomicI64);

impl WakeTime {
    /// It is not armed.
    const NEVER: i64 = i64::MAX;

    pub(super) fn is(&self, wake_time: i64) -> bool {
        self.0.load(Ordering::Relaxed) == wake_time
    }

    pub(super) fn publish(&self, wake_time: i64) {
        self.0.store(wake_time, Ordering::SeqCst);
    }

    /// In microseconds since the Unix epoch; `None` if no timer is armed.
    pub(crate) fn micros(&self) -> Option<i64> {
        Some(self.0.load(Ordering::SeqCst)).filter(|micros| *micros != Self::NEVER)
    }
}

impl Default for WakeTime {
    fn default() -> Self {
        Self(AtomicI64::new(Self::NEVER))
    }
}

/// What of a job the store refused for its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RefusedStep {
    Enrolment = 1,
    Claim,
    /// An advance of its cursor.
    Advance,
    End,
}

/// What the store has to take of a job that was parked before it is no longer: the job is on trial. What it
/// asks is asked by itself, so that it spoils nothing for others.
#[derive(Debug, Default)]
pub(crate) struct OnTrial(AtomicU8);

impl OnTrial {
    pub(crate) fn set(&self, step: Option<RefusedStep>) {
        self.0.store(step.map_or(0, |step| step as u8), Ordering::Relaxed);
    }

    /// For any step.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn is_for(&self, step: RefusedStep) -> bool {
        self.0.load(Ordering::Relaxed) == step as u8
    }

    /// The same for another incarnation of the job.
    pub(crate) fn share(&self) -> Self {
        Self(AtomicU8::new(self.0.load(Ordering::Relaxed)))
    }
}

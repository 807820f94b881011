//! What the history is told of a job: runs that ended, and decisions that started nothing.

use std::{sync::Arc, time::Duration};

use super::{actor::JobActor, handle::JobHandle, message::SkipAsked};
use crate::{
    core::{
        backfill::BackfillId,
        end_text::EndText,
        job::{BodyEnd, Missed, Retried, RunEnded},
        reported::Reported,
        text::{TEXT_MAX, bounded},
        time::FireTime,
    },
    error::TriggerError,
    event::CancelReason,
    event_log::Level,
    history::Attempts,
    name::{By, JobName, LockKey, RunId},
    node::Node,
    note::Attribution,
    port::{
        AttemptRecord, Decision, DecisionRecord, JobOperation, OperationRecord, Pause, RunOrigin, RunRecord,
        SkipReason,
    },
    run::{Origin, Run},
};

/// What the actor of a job keeps of a run beyond the end of an attempt.
pub(super) struct Unfinished {
    run: RunId,
    /// If hooks want to hear of its end.
    pub(super) of_hooks: Option<Run>,
    /// Those that failed, for the history.
    attempts: Attempts,
}

/// What only the actor of a job knows of a run that ended, for its record.
#[derive(Default)]
pub(crate) struct RunNotes {
    next_fire_time: Option<FireTime>,
    /// What few runs have.
    more: Option<Box<MoreNotes>>,
}

#[derive(Default)]
struct MoreNotes {
    /// The lock key, if it is another one than that of the job.
    key: Option<LockKey>,
    attempts: Vec<AttemptRecord>,
    /// Who triggered it, and what it names.
    by: Option<By>,
    named: Option<FireTime>,
    reported: Reported,
}

impl JobActor {
    /// What is kept of a run, made if there is nothing yet.
    fn unfinished(&mut self, run: RunId) -> &mut Unfinished {
        let all = self.unfinished.list_mut();
        let at = all.iter().position(|one| one.run == run).unwrap_or_else(|| {
            all.push(Unfinished { run, of_hooks: None, attempts: Attempts::default() });
            all.len() - 1
        });
        &mut all[at]
    }

    /// Hooks want to hear of the end of a run, with its last attempt.
    pub(super) fn keep_for_hooks(&mut self, run: &Run) {
        self.unfinished(run.id()).of_hooks = Some(run.clone());
    }

    pub(super) fn take_unfinished(&mut self, run: RunId) -> Option<Unfinished> {
        let at = self.unfinished.iter().position(|one| one.run == run)?;
        Some(self.unfinished.list_mut().swap_remove(at))
    }

    /// Keeps an attempt that failed, until its run ends.
    pub(super) fn keep_attempt(&mut self, retried: &Retried) {
        if !self.node().recorder.is_on() {
            return;
        }
        let Retried { run, attempt, outcome, ended_at, end, took, .. } = retried;
        let record = AttemptRecord::new(*attempt, *ended_at, *took, *outcome);
        self.unfinished(*run).attempts.push(record, end.error().cloned());
    }

    /// What the record of a run that ended is to have.
    ///
    /// `last` is its last attempt, if that had a body.
    pub(super) fn notes(&self, run: RunId, last: Option<&Run>, unfinished: Option<Unfinished>) -> RunNotes {
        if !self.node().recorder.is_on() {
            return RunNotes::default();
        }
        let own = &self.job.definition.key;
        let key = Some(self.former_keys.key_of(run, own)).filter(|key| !std::ptr::eq(*key, own)).cloned();
        let attempts = unfinished.map(|unfinished| unfinished.attempts.into_records()).unwrap_or_default();
        let reported = last.map(Run::reported).unwrap_or_default();
        let (by, named) = match last.map(Run::origin).or(self.origin_of(run)) {
            Some(Origin::Trigger { by, fire_time, .. }) => (by.clone(), *fire_time),
            Some(Origin::Backfill { by, fire_time, .. }) => (by.clone(), Some(*fire_time)),
            Some(Origin::Tick(_)) | None => (None, None),
        };
        let is_rare = key.is_some() || !attempts.is_empty() || by.is_some() || named.is_some();
        let is_rare = is_rare || !reported.is_empty();
        let more = is_rare.then(|| Box::new(MoreNotes { key, attempts, by, named, reported }));
        RunNotes { next_fire_time: self.machine.next_fire_time(), more }
    }

    /// Records ticks that were skipped.
    pub(super) fn record_skipped(&self, ticks: Missed, reason: SkipReason, asked: Option<&SkipAsked>) {
        let Missed { first, newest, count, at_least } = ticks;
        let now = self.node().clock.elapsed();
        self.node().recorder.decision(self.job.generation, now, || {
            let pause = self.machine.pause().filter(|_| reason == SkipReason::Paused);
            let text = pause.and_then(|pause| Some(pause.note.as_deref()?.into()));
            let text = text.or_else(|| Some(asked?.by.note.clone()?.into()));
            let by = pause.and_then(|pause| pause.by.clone()).or_else(|| asked?.by.by.clone());
            let overlaps = reason == SkipReason::Overlap;
            let run = self.machine.active_runs().next().filter(|_| overlaps).map(|run| run.run);
            let decision = Decision::Skipped { reason, count, at_least, text, by, run };
            DecisionRecord {
                first: Some(first),
                fire_time: Some(newest),
                ..decided(&self.job, now, decision)
            }
        });
    }

    /// Records a trigger that started nothing.
    pub(super) fn record_refused(&self, run: RunId, error: &TriggerError) {
        let now = self.node().clock.elapsed();
        self.node().recorder.decision(self.job.generation, now, || {
            let text = bounded(error, TEXT_MAX).into();
            let by = self.origin_of(run).and_then(|origin| match origin {
                Origin::Trigger { by, .. } => by.clone(),
                Origin::Tick(_) | Origin::Backfill { .. } => None,
            });
            decided(&self.job, now, Decision::TriggerRefused { count: 1, by, text })
        });
    }
}

/// A decision about a job, when the monotonic clock reads `now`.
fn decided(job: &JobHandle, now: Duration, decision: Decision) -> DecisionRecord {
    let (node, name) = (job.node(), Some(job.definition.name.clone()));
    let record = DecisionRecord::new(name, job.wall_at(now), node.id, decision);
    DecisionRecord { term: node.leadership.term(now), ..record }
}

/// Records that a run was asked to stop, and logs by whom if it is known: the event of its end does not say
/// so.
pub(crate) fn record_cancelled(node: &Node, job: &JobName, run: RunId, asked: &Attribution) {
    record_operation(node, job, JobOperation::Cancelled, asked, || Some(format!("run {run}").into()));
    if let Some(by) = &asked.by {
        let line = format_args!("run {run} of {job} was asked to stop by {by}");
        node.publisher.log("asked to stop", Level::Info, job, &line);
    }
}

/// Records what somebody did to a job. `detail`: what exactly, if the operation alone does not say it.
pub(crate) fn record_operation(
    node: &Node,
    job: &JobName,
    operation: JobOperation,
    asked: &Attribution,
    detail: impl FnOnce() -> Option<Arc<str>>,
) {
    node.recorder.operation(|| {
        let Attribution { by, note } = asked.clone();
        let record = OperationRecord::new(job.clone(), operation, node.store_time(), node.id);
        OperationRecord { by, note: note.map(Into::into), detail: detail(), ..record }
    });
}

/// Records that a job has paused itself: its policies did, or its body.
pub(crate) fn record_own_pause(job: &JobHandle, pause: &Pause) {
    let (node, name) = (job.node(), &job.definition.name);
    node.recorder.paused(name, node.store_time(), Some(pause));
    record_paused(node, name, pause);
}

/// Records the operation that a job was paused.
pub(crate) fn record_paused(node: &Node, job: &JobName, pause: &Pause) {
    node.recorder.operation(|| {
        let record = OperationRecord::new(job.clone(), JobOperation::Paused, node.store_time(), node.id);
        OperationRecord { by: pause.by.clone(), note: pause.note.as_deref().map(Into::into), ..record }
    });
}

/// Records a run that ended.
pub(super) fn record_end(job: &JobHandle, ended: &RunEnded, notes: RunNotes) {
    let recorder = &job.node().recorder;
    // Whoever found that it was lost has recorded that.
    if !recorder.is_on() || ended.closes_lost_for_good() {
        return;
    }
    let definition = &job.definition;
    let RunEnded { run, facts, cancelled, end, started_at, took, .. } = ended;
    let outcome = ended.outcome_told();
    let RunNotes { next_fire_time, more } = notes;
    let MoreNotes { key, attempts, by, named, reported } = more.map(|more| *more).unwrap_or_default();
    let tick = facts.as_ref().and_then(|facts| facts.tick);
    let origin = match facts {
        Some(_) if tick.is_some() => RunOrigin::Tick,
        Some(facts) if facts.is_known => match BackfillId::of_run(*run) {
            Some((backfill, _)) => RunOrigin::Backfill { backfill, by },
            None => RunOrigin::Trigger { by, own_arguments: run.has_own_arguments() },
        },
        Some(_) | None => RunOrigin::Unknown,
    };
    let veto = match end {
        BodyEnd::NotStarted { veto } => veto.as_ref().map(EndText::share),
        BodyEnd::Returned
        | BodyEnd::Failed { .. }
        | BodyEnd::Panicked(_)
        | BodyEnd::Aborted
        | BodyEnd::BetweenAttempts => None,
    };
    if let Some(text) = &veto {
        let now = job.node().clock.elapsed();
        recorder.decision(job.generation, now, || {
            let decision = Decision::Vetoed { run: *run, count: 1, text: text.clone() };
            DecisionRecord { first: tick, fire_time: tick, ..decided(job, now, decision) }
        });
    }
    let ended_at = facts.as_ref().and_then(|facts| facts.ended_at).unwrap_or_else(|| job.wall());
    recorder.run(
        job.generation,
        RunRecord {
            job: definition.name.clone(),
            run: *run,
            origin,
            key: key.unwrap_or_else(|| definition.key.clone()),
            slot: facts.as_ref().map_or(0, |facts| facts.slot),
            node: job.node().id,
            term: facts.as_ref().and_then(|facts| facts.term),
            token: facts.as_ref().and_then(|facts| facts.token),
            fire_time: tick.or(named),
            started_at: *started_at,
            ended_at: Some(ended_at),
            lateness: tick.zip(*started_at).map(|(tick, at)| tick.lateness(at)).unwrap_or_default(),
            took: Some(*took),
            outcome: Some(outcome),
            unknown_outcome: None,
            is_stale: false,
            cancelled: cancelled.or_else(|| veto.is_some().then_some(CancelReason::Vetoed)),
            error: end.error().map(EndText::share).or(veto),
            attempt: facts.as_ref().map_or(1, |facts| facts.attempt),
            attempts,
            report: reported.report,
            measures: reported.measures,
            progress: reported.progress,
            next_fire_time,
        },
    );
}

//! How a backfill is asked for: which fire times its range has, and which of them had a run.
//!
//! The job's actor says what its schedule answers, the history which fire times ran. A backfill that breaks a
//! rule is refused whole.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use actix::prelude::*;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::future::ready;
use tokio::time::{Instant, sleep, timeout};

use super::{
    ANSWER_DEADLINE, SupervisorActor,
    backfills::{call, unavailable},
};
use crate::{
    core::{
        backfill::{
            BACKFILL_CONCURRENT_MAX, BACKFILL_SPACING_MAX, BACKFILL_TICKS_MAX, BACKFILLS_OPEN_MAX,
            BackfillId, BackfillStatus, StoredBackfill,
        },
        duration::DurationText,
        policy::Fires,
        time::FireTime,
    },
    error::{BackfillError, Fault, Faults, given_name},
    history::{Reader, Recorder},
    job::{JobHandle, JobMessage},
    message::{Backfill, BackfillPreview, PreviewBackfill},
    port::{
        AskGaps, BackfillPut, Backfills, HISTORY_PAGE_MAX, LockError, RecordsOf, Retention, RunHistory,
        RunOrigin, RunRecord,
    },
};

/// The most pages of runs that are read to find out which fire times had one: as many runs as are kept of a
/// job by default, of each outcome, and some.
const PAGES_MAX: usize = 100;

/// How long before its fire time the id of a tick's run can be made: clocks differ.
const BEFORE: TimeDelta = TimeDelta::seconds(75);

/// How long other nodes take to record that a run of theirs has ended: what ended before is known by then, unless the
/// history does not keep up.
const RECORDED_AFTER: Duration = Duration::from_secs(3);

/// How long a new backfill is offered to a store that does not answer, with the same id each time.
const PUT_DEADLINE: Duration = Duration::from_secs(10);
/// How often a new backfill is offered, each time without what others have been asked for since.
const PUTS_MAX: usize = 10;
/// The pause between two such calls.
const PUT_AGAIN: Duration = Duration::from_millis(250);

/// What is to run, and what is not.
struct Found {
    fire_times: Vec<FireTime>,
    left_out: Vec<FireTime>,
}

/// What a backfill is asked of.
struct Asking {
    store: Arc<dyn Backfills>,
    job: Arc<JobHandle>,
    asked: Backfill,
    recorder: Recorder,
    retention: Retention,
    now: DateTime<Utc>,
    /// Other nodes may run the job.
    is_shared: bool,
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn invalid(job: &JobHandle, fault: Fault) -> BackfillError {
    BackfillError::Invalid(of_job(job, fault).into())
}

fn of_job(job: &JobHandle, fault: Fault) -> Fault {
    fault.within(&format!("job {:?}", job.definition.name.as_str()))
}

/// What is wrong with a backfill, whatever the job.
fn faults(asked: &Backfill, now: DateTime<Utc>) -> Vec<Fault> {
    let Backfill { from, to, max_concurrent, spacing, max_ticks, .. } = asked;
    let mut faults = Vec::new();
    let mut fault = |subject: &str, value: String, rule: String, cure: &str| {
        faults.push(Fault::new(subject, value, rule, cure));
    };
    if *to > now {
        let rule = format!("a backfill ends in the past, and it is {} by the store's clock", text(now));
        fault("to", text(*to), rule, "choose an earlier instant; what is to come is run by the schedule");
    }
    if from > to {
        let value = format!("{} to {}", text(*from), text(*to));
        let rule = "a range does not end before it starts".to_owned();
        fault("from", value, rule, "write the earlier instant first");
    }
    if !(1..=BACKFILL_CONCURRENT_MAX).contains(max_concurrent) {
        let rule = format!("1 to {BACKFILL_CONCURRENT_MAX} runs of a backfill are in progress at a time");
        fault("max_concurrent", max_concurrent.to_string(), rule, "choose another number; 1 is the default");
    }
    if *spacing > BACKFILL_SPACING_MAX {
        let rule = format!("starts are at most {} apart", DurationText(BACKFILL_SPACING_MAX));
        fault("spacing", DurationText(*spacing).to_string(), rule, "choose a shorter one; 0 is the default");
    }
    if !(1..=BACKFILL_TICKS_MAX).contains(max_ticks) {
        let rule = format!("a backfill has 1 to {BACKFILL_TICKS_MAX} fire times");
        fault("max_ticks", max_ticks.to_string(), rule, "choose another bound, and a shorter range for each");
    }
    faults
}

/// What is wrong with a job that is to have a backfill.
fn job_fault(job: &JobHandle) -> Option<Fault> {
    let (definition, name) = (&job.definition, job.definition.name.as_str());
    if definition.policies.fires == Fires::Local {
        let rule = "each run of a backfill is claimed, and a job that fires on its node only claims nothing";
        let cure = "trigger it for one fire time after the other (TriggerJob::fire_time), or let it fire as the leader's";
        return Some(Fault::new("job", name, rule, cure));
    }
    if definition.schedule.counts_from_completion() {
        let rule = "a backfill runs fire times of the past, and those that follow from the ends of runs are not known any more";
        let cure = "trigger it for the instants that are wanted (TriggerJob::fire_time)";
        return Some(Fault::new("job", name, rule, cure));
    }
    None
}

impl Asking {
    async fn find(&self) -> Result<Found, BackfillError> {
        let Backfill { from, to, max_ticks, again, .. } = self.asked;
        let fire_times =
            self.job.ask(|reply| JobMessage::FireTimesIn { range: (from, to), max: max_ticks, reply });
        let name = self.job.definition.name.clone();
        let Ok(Ok(Some(fire_times))) = timeout(ANSWER_DEADLINE, fire_times).await else {
            return Err(BackfillError::Unresponsive { job: name });
        };
        if fire_times.len() > max_ticks {
            let value = format!("{} to {}", text(from), text(to));
            let rule = format!("the range has at most {max_ticks} fire times (max_ticks), and this has more");
            let cure = "ask for a shorter range, and for the next one when it is finished";
            return Err(invalid(&self.job, Fault::new("range", value, rule, cure)));
        }
        if again || fire_times.is_empty() {
            return Ok(Found { fire_times, left_out: Vec::new() });
        }
        self.are_decided(&fire_times).await?;
        // Asked first: whatever is open no more has ended, and is to stand in the history.
        let open = call(self.store.open_fire_times(&self.job.definition.name)).await.map_err(unavailable)?;
        if self.is_shared && self.recorder.is_to_be_pruned() {
            sleep(RECORDED_AFTER).await;
        }
        // Whatever ends between the two questions stands in the history then.
        let mut taken = self.of_backfills().await?;
        taken.extend(open);
        taken.extend(self.ran(&fire_times).await?);
        let (left_out, fire_times) = fire_times.into_iter().partition(|at| taken.contains(at));
        Ok(Found { fire_times, left_out })
    }

    /// Refuses fire times whose ticks may still run: those of a job that is paused, or that wait.
    async fn are_decided(&self, fire_times: &[FireTime]) -> Result<(), BackfillError> {
        let cursor = call(self.store.decided_to(&self.job.definition.name)).await.map_err(unavailable)?;
        let (Some(last), Some(cursor)) = (fire_times.last(), cursor) else { return Ok(()) };
        if last.instant() <= cursor {
            return Ok(());
        }
        let rule = format!(
            "a fire time whose tick may still run is not backfilled, and those after {} are not decided yet",
            text(cursor)
        );
        let cure = "end the range there, or wait until the job has caught up, or ask with again(true): then each may run twice";
        Err(invalid(&self.job, Fault::new("to", text(self.asked.to), rule, cure)))
    }

    /// The fire times of backfills of the job: of those that are running, where each has its run, or had it; and those
    /// that had their runs of others, which the history of another node may not tell yet.
    async fn of_backfills(&self) -> Result<BTreeSet<FireTime>, BackfillError> {
        let name = &self.job.definition.name;
        let backfills = call(self.store.rows(Some(name), false)).await.map_err(unavailable)?;
        Ok(backfills.iter().flat_map(StoredBackfill::taken_fire_times).collect())
    }

    /// Which of these had a run.
    async fn ran(&self, fire_times: &[FireTime]) -> Result<BTreeSet<FireTime>, BackfillError> {
        let (Some(first), Some(last)) = (fire_times.first(), fire_times.last()) else {
            return Ok(BTreeSet::new());
        };
        let (first, after) = (first.instant(), last.instant() + TimeDelta::milliseconds(1));
        if !self.recorder.is_on() {
            return Err(self.not_known("no history is kept"));
        }
        let kept = TimeDelta::from_std(self.retention.runs_for).unwrap_or(TimeDelta::MAX);
        let kept_since = self.now.checked_sub_signed(kept).unwrap_or(DateTime::<Utc>::MIN_UTC);
        if first < kept_since {
            return Err(self.not_known(&format!("runs from before {} are not kept", text(kept_since))));
        }
        let from = first.checked_sub_signed(BEFORE).unwrap_or(first).max(DateTime::UNIX_EPOCH);
        let job = self.job.definition.name.clone();
        let of_range = RunHistory::new().fire_times(job.clone(), first..after);
        let mut asked = of_range.from(from).limit(HISTORY_PAGE_MAX);
        let reader = self.recorder.read().await;
        let mut ran = BTreeSet::new();
        for _ in 0..PAGES_MAX {
            let page = reader.runs(asked.clone()).await?;
            ran.extend(page.runs.iter().filter(|run| is_of_schedule(run)).filter_map(|run| run.fire_time));
            let Some(next) = page.next else {
                // Asked last: what was dropped while these were read counts.
                return self.is_all_kept(&reader, first).await.map(|()| ran);
            };
            asked = asked.before(next);
        }
        Err(self.not_known("the job has had too many runs since to look at"))
    }

    /// Refuses fire times from `first` on if the history may not have all of their runs.
    async fn is_all_kept(&self, reader: &Reader<'_>, first: DateTime<Utc>) -> Result<(), BackfillError> {
        let job = self.job.definition.name.clone();
        let pruned = reader.job(job.clone()).await?.and_then(|record| record.pruned_to);
        if let Some(pruned) = pruned.filter(|pruned| first < *pruned) {
            let why = format!("of the runs from before {} some are not kept any more", text(pruned));
            return Err(self.not_known(&why));
        }
        let since = AskGaps { of: RecordsOf::Runs, job: Some(job), from: Some(first), to: None };
        match reader.gaps(since, self.now, self.retention.runs_for).await?.dropped {
            0 => Ok(()),
            dropped => {
                let why = format!("{dropped} records from after {} were dropped", text(first));
                Err(self.not_known(&why))
            }
        }
    }

    fn not_known(&self, why: &str) -> BackfillError {
        let value = format!("{} to {}", text(self.asked.from), text(self.asked.to));
        let rule =
            format!("fire times that had a run are left out, and it is not known which had one: {why}");
        let cure = "ask for a later range, or with again(true) for all of them";
        invalid(&self.job, Fault::new("range", value, rule, cure))
    }

    async fn put(self) -> Result<StoredBackfill, BackfillError> {
        let id = BackfillId::new(self.job.now().spare);
        for _ in 0..PUTS_MAX {
            let Found { fire_times, left_out } = self.find().await?;
            let Self { job, asked, store, .. } = &self;
            if fire_times.is_empty() {
                let value = format!("{} to {}", text(asked.from), text(asked.to));
                let rule = format!(
                    "a backfill has something to run, and this has nothing: {} fire times, all of which had a run",
                    left_out.len()
                );
                let cure = "ask for another range, or with again(true)";
                return Err(invalid(job, Fault::new("range", value, rule, cure)));
            }
            let name = job.definition.name.clone();
            let backfill = StoredBackfill {
                max_concurrent: asked.max_concurrent,
                spacing: asked.spacing,
                again: asked.again,
                by: asked.asked.by.clone(),
                left_out: u32::try_from(left_out.len()).unwrap_or(u32::MAX),
                ..StoredBackfill::new(id, name, (asked.from, asked.to), fire_times.into())
            };
            match put_until_decided(&**store, &backfill).await? {
                BackfillPut::Kept => return Ok(backfill),
                BackfillPut::Full => return Err(BackfillError::TooMany { max: BACKFILLS_OPEN_MAX }),
                // Somebody was faster: what is left to run is looked for once more.
                BackfillPut::Overlaps => {}
            }
        }
        Err(unavailable("other backfills of the job are asked for all the time"))
    }
}

/// A call without an answer may have kept it: it is asked again with the same id, so that what is kept is known, and
/// recorded.
async fn put_until_decided(
    store: &dyn Backfills,
    backfill: &StoredBackfill,
) -> Result<BackfillPut, BackfillError> {
    let deadline = Instant::now() + PUT_DEADLINE;
    loop {
        match call(store.put(backfill)).await {
            Ok(put) => return Ok(put),
            Err(LockError::Timeout | LockError::SessionLost { .. }) if Instant::now() < deadline => {
                sleep(PUT_AGAIN).await;
            }
            Err(error @ LockError::NotDone { .. }) => return Err(unavailable(error)),
            Err(error) => {
                return Err(unavailable(format!("{error}; it may have kept backfill {}", backfill.id)));
            }
        }
    }
}

/// That of its tick, or of a former backfill; a trigger may name anything.
fn is_of_schedule(run: &RunRecord) -> bool {
    match run.origin {
        RunOrigin::Tick | RunOrigin::Backfill { .. } | RunOrigin::Unknown => true,
        RunOrigin::Trigger { .. } => false,
    }
}

impl SupervisorActor {
    fn ask_backfill(&self, asked: Backfill) -> Result<Asking, BackfillError> {
        let store = self.backfill_store()?;
        let Some(entry) = self.jobs.get(asked.job.as_str()) else {
            return Err(BackfillError::UnknownJob { name: given_name(&asked.job) });
        };
        let (job, now) = (entry.job.clone(), entry.job.wall());
        let mut faults = faults(&asked, now);
        faults.extend(job_fault(&job));
        let faults = faults.into_iter().map(|fault| of_job(&job, fault)).collect();
        Faults::check(faults).map_err(BackfillError::Invalid)?;
        let (recorder, retention) = (self.node().recorder.clone(), self.parts.retention);
        let is_shared = !self.parts.able.single_node;
        Ok(Asking { store, job, asked, recorder, retention, now, is_shared })
    }
}

impl Handler<Backfill> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<BackfillStatus, BackfillError>>;

    fn handle(&mut self, asked: Backfill, _: &mut Self::Context) -> Self::Result {
        let note = asked.asked.note.clone();
        let asking = self.ask_backfill(asked);
        let put = async move { asking?.put().await };
        Box::pin(put.into_actor(self).map(move |kept, actor, ctx| {
            let kept = kept?;
            actor.on_backfill_kept(&kept, note, ctx);
            Ok(BackfillStatus::from(&kept))
        }))
    }
}

impl Handler<PreviewBackfill> for SupervisorActor {
    type Result = ResponseFuture<Result<BackfillPreview, BackfillError>>;

    fn handle(&mut self, PreviewBackfill(asked): PreviewBackfill, _: &mut Self::Context) -> Self::Result {
        let asking = match self.ask_backfill(asked) {
            Ok(asking) => asking,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        Box::pin(async move {
            let Found { fire_times, left_out } = asking.find().await?;
            Ok(BackfillPreview { count: fire_times.len(), fire_times, left_out })
        })
    }
}

//! How the schedule of a job is asked for its next fire time, where the answer may never come: on a thread that may
//! block, and not on that of the supervisor, which watches all jobs.
//!
//! Nothing is decided here but how long an answer is waited for. What nobody knows counts as due at once, so that a
//! job whose schedule hangs is noticed as one whose tick is not decided.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use chrono::{DateTime, Utc};
use tokio::time::timeout;

use super::{
    ANSWER_DEADLINE, SupervisorActor,
    alarms::{next_due, unknown_after},
};
use crate::{core::time::FireTime, definition::Definition, job::JobHandle, name::JobName};

/// How many schedules are asked at once, not counting those that hang: others wait until one has answered.
const ASKED_MAX: usize = 4;

/// How many schedules may hang, each with a thread. If so many do, no other one that may is asked: it counts as
/// one that hangs.
const HANGING_MAX: usize = 16;

/// After how long a schedule is asked again for which no thread was free.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The schedules that are being asked, each once at a time, and the jobs that wait for others to be answered.
#[derive(Default)]
pub(super) struct AskedSchedules {
    /// At most `ASKED_MAX + HANGING_MAX`.
    asked: Vec<Asked>,
    /// Whether the history of each was asked.
    waiting: BTreeMap<JobName, bool>,
    in_order: VecDeque<JobName>,
}

struct Asked {
    /// A job that is changed or added anew has another one, whose schedule may be a good one.
    definition: Arc<Definition>,
    /// It had its time to answer.
    hangs: bool,
}

/// Whether a schedule can be asked now.
enum Can {
    Ask,
    Wait,
    /// It does not answer, or so many do not that it is not tried.
    Never,
}

impl AskedSchedules {
    fn can_ask(&self, definition: &Arc<Definition>) -> Can {
        let same = self.asked.iter().find(|asked| Arc::ptr_eq(&asked.definition, definition));
        match same {
            Some(same) if same.hangs => Can::Never,
            Some(_) => Can::Wait,
            None if self.hanging() >= HANGING_MAX => Can::Never,
            None if self.free() == 0 => Can::Wait,
            None => Can::Ask,
        }
    }

    fn hanging(&self) -> usize {
        self.asked.iter().filter(|asked| asked.hangs).count()
    }

    /// How many more can be asked.
    fn free(&self) -> usize {
        ASKED_MAX.saturating_sub(self.asked.len() - self.hanging())
    }

    fn hangs(&mut self, definition: &Arc<Definition>) {
        if let Some(asked) = self.asked.iter_mut().find(|asked| Arc::ptr_eq(&asked.definition, definition)) {
            asked.hangs = true;
        }
    }

    fn answered(&mut self, definition: &Arc<Definition>) {
        self.asked.retain(|asked| !Arc::ptr_eq(&asked.definition, definition));
    }

    fn wait(&mut self, job: JobName, is_asked: bool) {
        if let Some(before) = self.waiting.insert(job.clone(), is_asked) {
            self.waiting.entry(job).and_modify(|asked| *asked |= before);
        } else {
            self.in_order.push_back(job);
        }
    }

    fn next_that_waits(&mut self) -> Option<(JobName, bool)> {
        let job = self.in_order.pop_front()?;
        let is_asked = self.waiting.remove(&job)?;
        Some((job, is_asked))
    }
}

impl SupervisorActor {
    /// Asks the schedule of a job for the first fire time after an instant, and then looks at the job's alarm.
    pub(super) fn ask_schedule(
        &mut self,
        job: Arc<JobHandle>,
        after: DateTime<Utc>,
        is_asked: bool,
        ctx: &mut Context<Self>,
    ) {
        let name = job.definition.name.clone();
        match self.watch.schedules.can_ask(&job.definition) {
            Can::Ask => {}
            Can::Wait => return self.watch.schedules.wait(name, is_asked),
            Can::Never => return self.judge_alarm(&job, unknown_after(after), is_asked, ctx),
        }
        self.watch.schedules.asked.push(Asked { definition: job.definition.clone(), hangs: false });
        let begun = Arc::new(AtomicBool::new(false));
        let (definition, begins) = (job.definition.clone(), begun.clone());
        let mut answer = self.parts.jobs.body_runtime.spawn_blocking(move || {
            begins.store(true, Ordering::Relaxed);
            next_due(&definition, after)
        });
        let soon = async move { (timeout(ANSWER_DEADLINE, &mut answer).await, answer) };
        ctx.spawn(soon.into_actor(self).map(move |(soon, answer), actor, ctx| {
            match soon {
                Ok(due) => {
                    actor.watch.schedules.answered(&job.definition);
                    let due: Option<FireTime> = due.unwrap_or_else(|_| unknown_after(after));
                    actor.on_schedule_answered(&job, due, is_asked, ctx);
                    return actor.ask_those_that_wait(ctx);
                }
                Err(_) if begun.load(Ordering::Relaxed) => {
                    actor.watch.schedules.hangs(&job.definition);
                    actor.on_schedule_answered(&job, unknown_after(after), is_asked, ctx);
                    actor.ask_those_that_wait(ctx);
                }
                // Bodies hold the threads.
                Err(_) => {
                    answer.abort();
                    actor.watch.plan(&name, Some(actor.node().clock.elapsed() + ASK_AGAIN));
                    actor.set_alarm_timer(ctx);
                }
            }
            // It has a thread for as long as it takes.
            ctx.spawn(answer.into_actor(actor).map(move |_, actor, ctx| {
                actor.watch.schedules.answered(&job.definition);
                actor.look_at_alarm_now(&job, ctx);
                actor.ask_those_that_wait(ctx);
            }));
        }));
    }

    fn ask_those_that_wait(&mut self, ctx: &mut Context<Self>) {
        for _ in 0..self.watch.schedules.free() {
            let Some((name, is_asked)) = self.watch.schedules.next_that_waits() else { return };
            if let Some(job) = self.jobs.get(&name).map(|entry| entry.job.clone()) {
                self.look_at_next_tick(&job, is_asked, ctx);
            }
        }
    }

    fn on_schedule_answered(
        &mut self,
        job: &Arc<JobHandle>,
        due: Option<FireTime>,
        is_asked: bool,
        ctx: &mut Context<Self>,
    ) {
        // It may have been removed, or changed, meanwhile.
        let entry = self.jobs.get(&job.definition.name);
        let Some(current) = entry.map(|entry| entry.job.clone()) else { return };
        if current.instance == job.instance && Arc::ptr_eq(&current.definition, &job.definition) {
            self.judge_alarm(&current, due, is_asked, ctx);
        }
        self.set_alarm_timer(ctx);
    }
}

//! How the schedule of a job is asked for its next fire time, where the answer may never come: on a thread that may
//! block, and not on that of the supervisor, which watches all jobs.
//!
//! Nothing is decided here but how long an answer is waited for. What nobody knows counts as due at once, so that a
//! job whose schedule hangs is noticed as one whose tick is not decided.

use std::{
    collections::BTreeSet,
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
use crate::{core::time::FireTime, job::JobHandle, name::JobName};

/// How many schedules may hold a thread at once. If so many hang, no other one that may is asked: it counts as one
/// that hangs.
const HANGING_MAX: usize = 4;

/// After how long a schedule is asked again for which no thread was free.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The jobs whose schedules are being asked, each once at a time.
#[derive(Default)]
pub(super) struct AskedSchedules(BTreeSet<JobName>);

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
        let asked = &mut self.watch.schedules.0;
        if asked.contains(&name) || asked.len() >= HANGING_MAX {
            return self.judge_alarm(&job, unknown_after(after), is_asked, ctx);
        }
        asked.insert(name.clone());
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
                    actor.watch.schedules.0.remove(&name);
                    let due: Option<FireTime> = due.unwrap_or_else(|_| unknown_after(after));
                    return actor.on_schedule_answered(&job, due, is_asked, ctx);
                }
                Err(_) if begun.load(Ordering::Relaxed) => {
                    actor.on_schedule_answered(&job, unknown_after(after), is_asked, ctx);
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
                actor.watch.schedules.0.remove(&name);
                actor.look_at_alarm_now(&job, ctx);
            }));
        }));
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

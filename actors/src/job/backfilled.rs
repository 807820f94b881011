//! Runs of backfills: how the leader asks a job for one, and the fire times of a range.

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{
    actor::JobActor,
    context::JobContext,
    explain::before,
    triggered::{Asked, TriggerReply, TriggeredRun},
};
use crate::{
    core::{
        contract::next_after,
        job::{Input, Refusal},
        time::FireTime,
    },
    name::RunId,
    port::Schedule,
    run::Origin,
};

impl JobActor {
    /// Asks for a run of a backfill, or once more for the same.
    pub(super) fn backfill(
        &mut self,
        run: RunId,
        origin: Origin,
        reply: oneshot::Sender<Result<TriggeredRun, Refusal>>,
        ctx: &mut JobContext,
    ) {
        let asked = self.asked.list_mut();
        // It says more than what the store keeps of a lost run that goes on.
        match asked.iter_mut().find(|asked| asked.run == run) {
            Some(known) => known.origin = origin,
            None => asked.push(Asked::new(run, origin)),
        }
        self.triggers.list_mut().push((run, TriggerReply::Leader(reply)));
        self.step(Input::Backfill { run }, ctx);
    }
}

/// The fire times of a range, its ends included; no more than one beyond `max`. `None` if the schedule breaks
/// its contract.
pub(super) fn fire_times_in(
    schedule: &dyn Schedule,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    max: usize,
) -> Option<Vec<FireTime>> {
    let (mut fire_times, mut after) = (Vec::new(), before(from));
    while fire_times.len() <= max {
        let Some(next) = next_after(schedule, after).ok()?.filter(|next| next.instant() <= to) else { break };
        fire_times.push(next);
        after = next.instant();
    }
    Some(fire_times)
}

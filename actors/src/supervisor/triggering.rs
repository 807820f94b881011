//! How a run is triggered.
//!
//! Decided here: whether the job may be triggered at this moment, and whether what the trigger says can be meant. What
//! becomes of the trigger then is decided by the job's machine.

use std::sync::Arc;

use actix::prelude::*;
use tokio::time::timeout;

use super::{Entry, Phase, SupervisorActor, parking::Parked};
use crate::{
    CALL_DEADLINE,
    arguments::Arguments,
    core::time::FireTime,
    error::{Fault, TriggerError, given_name},
    explain::triggered_for,
    job::{JobMessage, TriggeredRun, record_operation},
    message::TriggerJob,
    name::JobName,
    port::JobOperation,
    run::Origin,
    task::TaskCall,
};

impl SupervisorActor {
    /// The job of this name, if it may be triggered.
    fn triggerable(&self, name: &str) -> Result<(&JobName, &Entry), TriggerError> {
        if !matches!(self.phase, Phase::Running) {
            return Err(TriggerError::ShuttingDown);
        }
        let unknown = || TriggerError::UnknownJob { name: given_name(name) };
        let (job, entry) = self.jobs.get_key_value(name).ok_or_else(unknown)?;
        if let Some(reason) = entry.firing.broken().cloned() {
            return Err(TriggerError::Broken { job: job.clone(), reason });
        }
        if let Some(reason) = entry.firing.refused().cloned() {
            return Err(TriggerError::Conflicting { job: job.clone(), reason });
        }
        match entry.parked.as_deref().filter(|parked| !parked.is_tried_by_claims()) {
            Some(Parked { reason, .. }) => {
                Err(TriggerError::Parked { job: job.clone(), reason: reason.clone() })
            }
            None => Ok((job, entry)),
        }
    }
}

impl Entry {
    /// What a trigger says, if it can be meant.
    fn check_trigger(
        &self,
        fire_time: Option<FireTime>,
        arguments: Option<Result<Arguments, Fault>>,
    ) -> Result<Option<Arc<TaskCall>>, Fault> {
        let now = self.job.wall();
        if let Some(fire_time) = fire_time.filter(|fire_time| fire_time.instant() > now) {
            let rule = "a run names a fire time that has passed";
            let cure = "wait for it, or trigger the job without a fire time";
            return Err(Fault::new("fire_time", fire_time.to_string(), rule, cure));
        }
        let Some(arguments) = arguments.transpose()? else { return Ok(None) };
        let Some(task) = self.job.definition.task() else {
            let rule = "its body is code, which takes no arguments";
            let cure = "trigger it without, or have it run a task";
            return Err(Fault::new("arguments", arguments.excerpt().to_string(), rule, cure));
        };
        task.check(&arguments)?;
        Ok(Some(Arc::new(TaskCall::new(task.call().name.clone(), arguments))))
    }
}

/// What exactly was asked for, if it is more than a run.
fn detail(fire_time: Option<FireTime>, task: Option<&TaskCall>) -> Option<Arc<str>> {
    let named = fire_time.map(triggered_for);
    let given = task.map(|task| format!("with the arguments {}", task.arguments.excerpt()));
    let parts: Vec<_> = named.into_iter().chain(given).collect();
    (!parts.is_empty()).then(|| parts.join(", ").into())
}

impl Handler<TriggerJob> for SupervisorActor {
    type Result = ResponseFuture<Result<TriggeredRun, TriggerError>>;

    fn handle(&mut self, asked: TriggerJob, _: &mut Self::Context) -> Self::Result {
        let TriggerJob { job: name, fire_time, arguments, asked, request } = asked;
        let checked = self.triggerable(&name).and_then(|(job, entry)| {
            let task = entry.check_trigger(fire_time, arguments).map_err(|fault| {
                TriggerError::Invalid(fault.within(&format!("job {:?}", job.as_str())).into())
            })?;
            Ok((job.clone(), entry, task))
        });
        let (job, entry, task) = match checked {
            Ok(checked) => checked,
            Err(error) => return Box::pin(async move { Err(error) }),
        };
        record_operation(self.node(), &job, JobOperation::Triggered, &asked, || {
            detail(fire_time, task.as_deref())
        });
        let by = asked.by;
        let says = by.is_some() || fire_time.is_some() || task.is_some();
        let origin = says.then_some(Origin::Trigger { by, fire_time, task });
        let answer = entry.job.ask(|reply| JobMessage::Trigger { origin, request, reply });
        Box::pin(async move {
            match timeout(CALL_DEADLINE * 2, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => {
                    let reason = "its actor died; see the log for the panic, and ask again".into();
                    Err(TriggerError::Broken { job, reason })
                }
                Err(_) => {
                    let reason = "the job's actor did not answer within the deadline".to_owned();
                    Err(TriggerError::Unavailable { job, reason })
                }
            }
        })
    }
}

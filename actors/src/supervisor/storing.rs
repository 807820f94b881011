//! How jobs are stored, deleted and listed as data.
//!
//! Decided here: whether a definition may be stored. Which of two writers comes first, the catalogue decides; what it
//! means for this node, [`Reconciliation`](crate::core::catalogue::Reconciliation).

use std::time::Duration;

use actix::prelude::*;
use chrono::{DateTime, Utc};
use futures_util::future::ready;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{
    Phase, SupervisorActor,
    catalogue::{Stored, call},
};
use crate::{
    core::catalogue::Standing,
    error::{Fault, given_name},
    job::record_operation,
    message::{DeleteJob, ListStored, PutJob, StoredDetails, StoredHere, StoredPage, StoredStatus},
    name::JobName,
    note::Attribution,
    port::{Catalogue, CatalogueChange, CatalogueError, CatalogueRow, Changed, Expected, JobOperation},
    stored_job::StoredJobError,
};

/// How long a change is asked for, with the same id each time, if the catalogue does not answer.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// The pause between two such calls.
const CHANGE_AGAIN: Duration = Duration::from_millis(250);
/// How long an answer waits for this node to hear of what it has changed itself.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// Makes a change, or finds out that it is made.
async fn make(catalogue: &dyn Catalogue, change: &CatalogueChange) -> Result<CatalogueRow, StoredJobError> {
    let until = Instant::now() + CHANGE_DEADLINE;
    loop {
        let job = change.job.clone();
        match call(catalogue.change(change)).await {
            Ok(Changed::Done(row)) => return Ok(row),
            Ok(Changed::Elsewhere(None)) if change.expected != Expected::Absent => {
                return Err(StoredJobError::UnknownJob { name: job.as_str().to_owned() });
            }
            Ok(Changed::Elsewhere(standing)) => {
                return Err(StoredJobError::Elsewhere { job, standing: standing.map(Box::new) });
            }
            Ok(Changed::Full) => return Err(StoredJobError::Full),
            Err(CatalogueError::Unavailable { .. }) if Instant::now() < until => sleep(CHANGE_AGAIN).await,
            Err(error) => return Err(error.into()),
        }
    }
}

impl SupervisorActor {
    fn stored(&self) -> Result<Stored, StoredJobError> {
        let not_kept = StoredJobError::NotKept { backend: self.parts.able.backend };
        self.parts.stored.clone().ok_or(not_kept)
    }

    /// What a message asks for, if it may be done.
    fn checked_put(&self, asked: PutJob) -> Result<(Stored, CatalogueChange), StoredJobError> {
        let PutJob { job, definition, expected, keeps: _, asked } = asked;
        let stored = self.changeable()?;
        let name = JobName::new(&job).map_err(|fault| StoredJobError::Invalid(fault.into()))?;
        if self.has_override(&name) {
            let rule = "an operator has overridden the schedule of a job of code of this name";
            let cure = "choose another name, or clear that first (ClearOverride)";
            return Err(StoredJobError::Invalid(Fault::new("job name", name.as_str(), rule, cure).into()));
        }
        let within =
            |fault: Fault| StoredJobError::Invalid(fault.within(&format!("job {:?}", name.as_str())).into());
        let text = definition.map_err(within)?;
        let due_at = self.check_stored(&name, &text)?;
        let change = CatalogueChange::put(Uuid::new_v4(), name, text).expecting(expected).due_at(due_at);
        let change = change.by(asked.by);
        Ok((stored, change))
    }

    pub(super) fn changeable(&self) -> Result<Stored, StoredJobError> {
        if !matches!(self.phase, Phase::Running) {
            return Err(StoredJobError::ShuttingDown);
        }
        self.stored()
    }

    /// Whether this node could hold the job. Answers when it is due, if it is a one-shot.
    fn check_stored(&self, name: &JobName, text: &str) -> Result<Option<DateTime<Utc>>, StoredJobError> {
        let (definition, enabled) = self.read_stored(name, text).map_err(StoredJobError::Invalid)?;
        let held = self.keeping.machine.is_held(name.as_str());
        if self.jobs.contains_key(name) && !held {
            let rule = "a job of code has this name on this node";
            let cure = "choose another name, or remove that job from the code";
            return Err(StoredJobError::Invalid(Fault::new("job name", name.as_str(), rule, cure).into()));
        }
        let checked = match (enabled, held) {
            (false, _) => Ok(()),
            (true, true) => self.check_update(&definition, Vec::new()).map_err(|error| error.to_string()),
            (true, false) => self
                .check_new(std::slice::from_ref(&definition), Vec::new())
                .map_err(|error| error.to_string()),
        };
        let due_at = if enabled { self.due_once(&definition) } else { None };
        checked.map(|()| due_at).map_err(|rule| {
            let cure = "change the definition, or store it with enabled = false";
            StoredJobError::Invalid(Fault::new("job", name.as_str(), rule, cure).into())
        })
    }

    /// The status of a stored job on this node.
    fn stored_status(&self, row: CatalogueRow) -> StoredStatus {
        let is_far = self.keeping.machine.is_far(&row);
        let CatalogueRow { job, version, definition, changed_at, changed_by, .. } = row;
        let text = definition.unwrap_or_default();
        let here = match self.keeping.machine.standing(&job) {
            Some((standing, known)) if known >= version => match standing {
                Standing::Held => StoredHere::Held,
                Standing::Disabled => StoredHere::Disabled,
                Standing::Overrides if self.jobs.contains_key(&*job) => StoredHere::Overrides,
                Standing::Overrides => StoredHere::NoJob,
                Standing::Parked(reason) | Standing::Blocked(reason) => {
                    StoredHere::Parked { reason: reason.clone() }
                }
            },
            Some(_) | None if is_far => StoredHere::Far,
            Some(_) | None => StoredHere::Unread,
        };
        let definition = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.to_string()));
        StoredStatus { job, version, definition, changed_at, changed_by, here }
    }

    /// Makes a change, has it recorded, and answers once this node knows it.
    pub(super) fn change_stored(
        &self,
        (stored, change): (Stored, CatalogueChange),
        operation: JobOperation,
        asked: Attribution,
    ) -> ResponseActFuture<Self, Result<CatalogueRow, StoredJobError>> {
        let made = async move { make(&*stored.catalogue, &change).await };
        Box::pin(made.into_actor(self).then(move |made, actor: &mut Self, _| {
            let row = match made {
                Ok(row) => row,
                Err(error) => {
                    return Box::pin(ready(Err(error)).into_actor(actor)) as ResponseActFuture<_, _>;
                }
            };
            if let Ok(name) = JobName::new(&row.job) {
                record_operation(actor.node(), &name, operation, &asked, || row.definition.clone());
            }
            let known = actor.await_version(row.version);
            // An error is the answer: nobody waits any more.
            let known = async move { drop(timeout(KNOWN_WITHIN, known).await) };
            Box::pin(known.into_actor(actor).map(move |(), _, _| Ok(row)))
        }))
    }
}

impl Handler<PutJob> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<StoredStatus, StoredJobError>>;

    fn handle(&mut self, asked: PutJob, _: &mut Self::Context) -> Self::Result {
        let (attribution, keeps) = (asked.asked.clone(), asked.keeps);
        match self.checked_put(asked) {
            Ok(change) => {
                let stored = self.change_stored(change, JobOperation::Stored, attribution);
                Box::pin(stored.map(move |row, actor, _| match row {
                    Err(StoredJobError::Elsewhere { standing: Some(row), .. }) if keeps => {
                        Ok(actor.stored_status(*row))
                    }
                    row => row.map(|row| actor.stored_status(row)),
                }))
            }
            Err(error) => Box::pin(ready(Err(error)).into_actor(self)),
        }
    }
}

impl Handler<DeleteJob> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<u64, StoredJobError>>;

    fn handle(&mut self, asked: DeleteJob, ctx: &mut Self::Context) -> Self::Result {
        self.begin_to_keep(ctx);
        let DeleteJob { job, expected, asked } = asked;
        let change = self.changeable().and_then(|stored| {
            let unknown = || StoredJobError::UnknownJob { name: given_name(&job) };
            let name = JobName::new(&job).map_err(|_| unknown())?;
            if self.has_override(&name) {
                return Err(unknown());
            }
            let change = CatalogueChange::delete(Uuid::new_v4(), name).expecting(expected);
            Ok((stored, change.by(asked.by.clone())))
        });
        match change {
            Ok(change) => {
                let deleted = self.change_stored(change, JobOperation::Deleted, asked);
                Box::pin(deleted.map(|row, _, _| row.map(|row| row.version)))
            }
            Err(error) => Box::pin(ready(Err(error)).into_actor(self)),
        }
    }
}

impl Handler<ListStored> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<StoredPage, StoredJobError>>;

    fn handle(&mut self, ListStored(query): ListStored, ctx: &mut Self::Context) -> Self::Result {
        self.begin_to_keep(ctx);
        let stored = self.stored();
        let page = async move { Ok::<_, StoredJobError>(call(stored?.catalogue.list(&query)).await?) };
        Box::pin(page.into_actor(self).map(|page, actor, _| {
            let page = page?;
            let jobs = page.rows.into_iter().map(|row| actor.stored_status(row)).collect();
            Ok(StoredPage { jobs, next: page.next })
        }))
    }
}

impl Handler<StoredDetails> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<StoredStatus, StoredJobError>>;

    fn handle(&mut self, StoredDetails(name): StoredDetails, ctx: &mut Self::Context) -> Self::Result {
        self.begin_to_keep(ctx);
        let stored = self.stored();
        let row = async move {
            let unknown = StoredJobError::UnknownJob { name: given_name(&name) };
            let Ok(job) = JobName::new(&name) else { return Err(unknown) };
            call(stored?.catalogue.get(&job)).await?.ok_or(unknown)
        };
        Box::pin(row.into_actor(self).map(|row, actor, _| Ok(actor.stored_status(row?))))
    }
}

//! How jobs are stored, deleted and listed as data.
//!
//! Decided here: whether a definition may be stored, and that no job takes the place of an override, or the other way
//! round, though this node has not heard of it. Which of two writers comes first, the catalogue decides; what it
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
    schedule_override::is_override,
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

/// The row of a job, asked for as long as a change.
async fn standing(catalogue: &dyn Catalogue, job: &JobName) -> Result<Option<CatalogueRow>, StoredJobError> {
    let until = Instant::now() + CHANGE_DEADLINE;
    loop {
        match call(catalogue.get(job)).await {
            Err(CatalogueError::Unavailable { .. }) if Instant::now() < until => sleep(CHANGE_AGAIN).await,
            answer => return Ok(answer?),
        }
    }
}

/// What a change is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Job,
    Override,
}

impl Kind {
    fn of(row: &CatalogueRow) -> Self {
        if row.definition.as_deref().is_some_and(is_override) { Self::Override } else { Self::Job }
    }

    /// Why a change of this kind is not made: a row of the other one has the name.
    pub(super) fn refusal(self, name: &JobName, puts: bool) -> StoredJobError {
        match (self, puts) {
            (Self::Job, true) => {
                let rule = "an operator has overridden the schedule of a job of code of this name";
                let cure = "choose another name, or clear that first (ClearOverride)";
                StoredJobError::Invalid(Fault::new("job name", name.as_str(), rule, cure).into())
            }
            (Self::Job, false) => StoredJobError::UnknownJob { name: name.as_str().to_owned() },
            (Self::Override, true) => {
                let rule = "a stored job has this name";
                let cure = "put its new definition into the catalogue (PutJob), or delete it (DeleteJob)";
                let fault = Fault::new("job name", name.as_str(), rule, cure);
                let within = format!("job {:?}", name.as_str());
                StoredJobError::Invalid(fault.within(&within).into())
            }
            (Self::Override, false) => StoredJobError::NotOverridden { name: name.as_str().to_owned() },
        }
    }
}

/// What is expected of a row that stands by this version, if there is one.
fn expected(version: Option<u64>, change: &CatalogueChange) -> Expected {
    match version {
        Some(version) => Expected::Version(version),
        // No row has the version 0: what is to be deleted is then told.
        None if change.definition.is_none() => Expected::Version(0),
        None => Expected::Absent,
    }
}

/// Makes a change that takes the place of no row of another kind. `known` is the version that this node knows: another
/// one is looked at before anything takes its place.
async fn make_of_kind(
    catalogue: &dyn Catalogue,
    mut change: CatalogueChange,
    known: Option<u64>,
    kind: Kind,
) -> Result<CatalogueRow, StoredJobError> {
    let of_any = change.expected == Expected::Any;
    match change.expected {
        Expected::Any => change.expected = expected(known, &change),
        Expected::Version(version) if known != Some(version) => {
            let standing = standing(catalogue, &change.job).await?;
            if standing.is_some_and(|row| row.version == version && Kind::of(&row) != kind) {
                return Err(kind.refusal(&change.job, change.definition.is_some()));
            }
        }
        Expected::Version(_) | Expected::Absent => {}
    }
    let until = Instant::now() + CHANGE_DEADLINE;
    loop {
        let version = match make(catalogue, &change).await {
            Err(StoredJobError::Elsewhere { standing: Some(row), .. })
                if of_any && Instant::now() < until =>
            {
                if Kind::of(&row) != kind {
                    return Err(kind.refusal(&change.job, change.definition.is_some()));
                }
                Some(row.version)
            }
            // It was deleted since.
            Err(StoredJobError::UnknownJob { .. }) if of_any && change.definition.is_some() => None,
            made => return made,
        };
        change.expected = expected(version, &change);
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
        let within =
            |fault: Fault| StoredJobError::Invalid(fault.within(&format!("job {:?}", name.as_str())).into());
        let text = definition.map_err(within)?;
        let change =
            CatalogueChange::put(Uuid::new_v4(), name, text.clone()).expecting(expected).by(asked.by);
        if self.has_override(&change.job) {
            return Err(Kind::Job.refusal(&change.job, true));
        }
        let due_at = self.check_stored(&change.job, &text)?;
        Ok((stored, change.due_at(due_at)))
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
                Standing::Parked(reason) => StoredHere::Parked { reason: reason.clone() },
                Standing::Blocked(blocked) => StoredHere::Parked { reason: blocked.reason.clone() },
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
        (kind, operation): (Kind, JobOperation),
        asked: Attribution,
    ) -> ResponseActFuture<Self, Result<CatalogueRow, StoredJobError>> {
        let known = self.keeping.machine.standing(change.job.as_str()).map(|(_, version)| version);
        let made = async move { make_of_kind(&*stored.catalogue, change, known, kind).await };
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
                let stored = self.change_stored(change, (Kind::Job, JobOperation::Stored), attribution);
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
                let deleted = self.change_stored(change, (Kind::Job, JobOperation::Deleted), asked);
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

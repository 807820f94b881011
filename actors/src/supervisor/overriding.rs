//! How operators override the schedules of jobs of code, on all nodes, and clear that again.
//!
//! An override is a row of the catalogue under the name of the job. A job of code whose name has one fires by the
//! schedule of the row, from the moment on at which it is added: what code says is kept beside it, shown, and comes
//! back when the override is cleared. Everything else of the job is the code's.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::prelude::*;
use futures_util::future::ready;
use uuid::Uuid;

use super::{
    SupervisorActor,
    catalogue::{Stored, unusable},
    storing::Kind,
};
use crate::{
    core::catalogue::{Act, Read},
    definition::Definition,
    error::{Fault, Faults, UpdateError, given_name},
    event_log::Level,
    job::JobHandle,
    message::{ClearOverride, OverrideSchedule},
    name::{By, JobName},
    port::{CatalogueChange, CatalogueRow, Expected, JobOperation, Schedule},
    schedule_override::{ReadOverride, ScheduleOverride, read_as_override, read_override, written_override},
    stored_job::StoredJobError,
};

/// How long the jobs of code wait, when the engine starts, until the overrides are known. Without them they would fire
/// by the schedules that code says.
pub(super) const OVERRIDES_AWAITED_MAX: Duration = Duration::from_secs(10);

/// What the node knows of the overrides, whether it has their jobs or not.
#[derive(Default)]
pub(super) struct Overrides {
    known: BTreeMap<JobName, Known>,
    /// Nothing is enrolled until they are known.
    awaited: bool,
}

struct Known {
    /// `None`: it cannot be read.
    read: Option<ReadOverride>,
    row: CatalogueRow,
    /// What the code of this node says, if the override is in force here.
    code: Option<Code>,
}

struct Code {
    schedule: Arc<dyn Schedule>,
    description: Arc<str>,
}

impl Code {
    fn of(definition: &Definition) -> Self {
        Self { schedule: definition.schedule.clone(), description: definition.description() }
    }
}

impl SupervisorActor {
    /// Waits for the overrides before anything is enrolled.
    pub(super) fn await_overrides(&mut self, ctx: &mut Context<Self>) {
        if self.parts.stored.is_some() {
            self.overrides.awaited = true;
            ctx.run_later(OVERRIDES_AWAITED_MAX, |actor, ctx| {
                if actor.overrides.awaited {
                    tracing::warn!(target: "callsheet", "the catalogue does not answer: jobs of code fire without the overrides of their schedules until it does");
                }
                actor.overrides_known(ctx);
            });
        }
    }

    /// They are known, or the time to wait for them is over.
    pub(super) fn overrides_known(&mut self, ctx: &mut Context<Self>) {
        if std::mem::take(&mut self.overrides.awaited) {
            self.enrol(ctx);
        }
    }

    pub(super) fn awaits_overrides(&self) -> bool {
        self.overrides.awaited
    }

    /// Takes a row in, if it is one of an override. Answers whether it is.
    pub(super) fn take_override(&mut self, row: &CatalogueRow, ctx: &mut Context<Self>) -> bool {
        let Some(read) = self.read_override_of(row) else {
            self.drop_override(&row.job, row.changed_by.clone(), ctx);
            return false;
        };
        if self.keeping.machine.act(&row.job, &Read::Overrides) == Act::Remove {
            self.let_go(&row.job, row.changed_by.clone(), ctx);
        }
        let taken = self.take_read_override(row, read, ctx);
        self.stands(row, taken.map_or_else(unusable, |()| Read::Overrides));
        true
    }

    fn take_read_override(
        &mut self,
        row: &CatalogueRow,
        read: Result<ReadOverride, Faults>,
        ctx: &mut Context<Self>,
    ) -> Result<(), String> {
        let name = JobName::new(&row.job).map_err(|fault| fault.to_string())?;
        let (read, fault) = match read {
            Ok(read) => (Some(read), None),
            Err(faults) => (None, Some(faults.to_string())),
        };
        if fault.is_some() {
            self.restore(&name, row.changed_by.clone(), ctx);
        }
        let code = self.overrides.known.remove(&name).and_then(|known| known.code);
        self.overrides.known.insert(name.clone(), Known { read, row: row.clone(), code });
        fault.map_or_else(|| self.put_in_force(&name, ctx), Err)
    }

    fn read_override_of(&self, row: &CatalogueRow) -> Option<Result<ReadOverride, Faults>> {
        let Stored { reader, .. } = self.parts.stored.as_ref()?;
        read_override(row.definition.as_deref()?, reader)
    }

    /// A job of code that is here already fires by its override from now on.
    fn put_in_force(&mut self, name: &JobName, ctx: &mut Context<Self>) -> Result<(), String> {
        let Some(entry) = self.jobs.get(name) else { return Ok(()) };
        let definition = entry.job.definition.clone();
        let now = self.node().clock.now();
        let Some(known) = self.overrides.known.get_mut(name) else { return Ok(()) };
        let (Some(read), by) = (&known.read, known.row.changed_by.clone()) else { return Ok(()) };
        let changed = definition.rescheduled(read.schedule.clone(), now).map_err(|faults| faults.to_string());
        let checked = changed.and_then(|changed| {
            self.check_update(&changed, Vec::new()).map_err(|error| error.to_string()).map(|()| changed)
        });
        match checked {
            Ok(changed) => {
                if let Some(known) = self.overrides.known.get_mut(name) {
                    known.code.get_or_insert_with(|| Code::of(&definition));
                }
                self.update_stored(changed, by, ctx);
                Ok(())
            }
            Err(reason) => {
                // It goes on by what code says.
                self.restore(name, by, ctx);
                Err(reason)
            }
        }
    }

    /// The override of this name, if there was one, is gone: the job fires by what code says.
    pub(super) fn drop_override(&mut self, name: &str, by: Option<By>, ctx: &mut Context<Self>) {
        if self.overrides.known.is_empty() {
            return;
        }
        let Ok(name) = JobName::new(name) else { return };
        self.restore(&name, by, ctx);
        self.overrides.known.remove(&name);
    }

    /// A job fires by what code says, if it fires by something else.
    fn restore(&mut self, name: &JobName, by: Option<By>, ctx: &mut Context<Self>) {
        let code = self.overrides.known.get_mut(name).and_then(|known| known.code.take());
        let (Some(code), Some(entry)) = (code, self.jobs.get(name)) else { return };
        let now = self.node().clock.now();
        match entry.job.definition.rescheduled(code.schedule, now) {
            Ok(definition) => self.update_stored(definition, by, ctx),
            // It was right when the job was added.
            Err(faults) => tracing::error!(target: "callsheet", "{faults}"),
        }
    }

    /// Definitions of code that are added or changed now, by the schedules that they have on this node.
    pub(super) fn overridden(&mut self, definitions: Vec<Definition>) -> Vec<Definition> {
        if self.overrides.known.is_empty() {
            return definitions;
        }
        definitions.into_iter().map(|definition| self.by_override(definition)).collect()
    }

    pub(super) fn by_override(&mut self, definition: Definition) -> Definition {
        let now = self.node().clock.now();
        let Some(known) = self.overrides.known.get_mut(&definition.name) else { return definition };
        let Some(read) = &known.read else { return definition };
        match definition.rescheduled(read.schedule.clone(), now) {
            Ok(changed) => {
                known.code = Some(Code::of(&definition));
                changed
            }
            Err(faults) => {
                known.code = None;
                let (name, line) = (&definition.name, format_args!("its override is not in force: {faults}"));
                self.node().publisher.log("override not in force", Level::Warn, name, &line);
                definition
            }
        }
    }

    /// A job of code is gone from this node; its override stays in the catalogue.
    pub(super) fn leave_override(&mut self, name: &JobName) {
        if let Some(known) = self.overrides.known.get_mut(name) {
            known.code = None;
        }
    }

    /// The override of a job, if it is in force on this node.
    pub(super) fn override_of(&self, job: &JobHandle) -> Option<ScheduleOverride> {
        let known = self.overrides.known.get(&job.definition.name)?;
        let (Known { read, row, .. }, code) = (known, known.code.as_ref()?);
        Some(ScheduleOverride {
            code: code.description.clone(),
            schedule: job.definition.description(),
            by: row.changed_by.clone(),
            since: row.changed_at,
            note: read.as_ref().and_then(|read| read.note.clone()),
            version: row.version,
        })
    }

    /// An override has this name, whether its job is here or not.
    pub(super) fn has_override(&self, name: &JobName) -> bool {
        self.overrides.known.contains_key(name)
    }

    /// Refuses what would change a schedule that is overridden.
    pub(super) fn check_not_overridden(&self, name: &JobName) -> Result<(), UpdateError> {
        if !self.has_override(name) {
            return Ok(());
        }
        let rule = "an operator has overridden its schedule";
        let cure = "override it anew (OverrideSchedule), or clear that first (ClearOverride)";
        Err(UpdateError::Invalid(Fault::new("job", name.as_str(), rule, cure).into()))
    }

    /// The change that a message asks for, if it may be made.
    fn checked_override(&self, asked: OverrideSchedule) -> Result<(Stored, CatalogueChange), StoredJobError> {
        let OverrideSchedule { job, schedule, expected, asked } = asked;
        let stored = self.changeable()?;
        let unknown = || StoredJobError::NoJobOfCode { name: given_name(&job) };
        let name = JobName::new(&job).map_err(|_| unknown())?;
        let invalid =
            |fault: Fault| StoredJobError::Invalid(fault.within(&format!("job {:?}", name.as_str())).into());
        let known = self.overrides.known.get(&name);
        if known.is_none() && self.keeping.machine.standing(name.as_str()).is_some() {
            return Err(Kind::Override.refusal(&name, true));
        }
        let entry = self.jobs.get(&name).ok_or_else(unknown)?;
        let text = written_override(schedule.map_err(invalid)?, asked.note).map_err(invalid)?;
        let read = read_as_override(&text, &stored.reader).map_err(invalid)?;
        let changed = entry.job.definition.rescheduled(read.schedule, self.node().clock.now());
        let changed = changed.map_err(StoredJobError::Invalid)?;
        self.check_update(&changed, Vec::new()).map_err(|error| {
            let value = changed.description();
            invalid(Fault::new("schedule", &*value, error.to_string(), "choose another schedule"))
        })?;
        let standing = known.map_or(Expected::Absent, |known| Expected::Version(known.row.version));
        let change = CatalogueChange::put(Uuid::new_v4(), name, text);
        Ok((stored, change.expecting(expected.unwrap_or(standing)).by(asked.by)))
    }
}

impl Handler<OverrideSchedule> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<ScheduleOverride, StoredJobError>>;

    fn handle(&mut self, asked: OverrideSchedule, _: &mut Self::Context) -> Self::Result {
        let (attribution, name) = (asked.asked.clone(), given_name(&asked.job));
        match self.checked_override(asked) {
            Ok(change) => {
                let overridden =
                    self.change_stored(change, (Kind::Override, JobOperation::Overridden), attribution);
                Box::pin(overridden.map(move |row, actor, _| {
                    row?;
                    // Removed meanwhile, or changed once more.
                    let entry = actor.jobs.get(name.as_str());
                    let in_force = entry.and_then(|entry| actor.override_of(&entry.job));
                    in_force.ok_or(StoredJobError::NoJobOfCode { name })
                }))
            }
            Err(error) => Box::pin(ready(Err(error)).into_actor(self)),
        }
    }
}

impl Handler<ClearOverride> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<u64, StoredJobError>>;

    fn handle(&mut self, ClearOverride { job, asked }: ClearOverride, _: &mut Self::Context) -> Self::Result {
        let change = self.changeable().and_then(|stored| {
            let unknown = || StoredJobError::NotOverridden { name: given_name(&job) };
            let name = JobName::new(&job).map_err(|_| unknown())?;
            let known = self.overrides.known.get(&name).ok_or_else(unknown)?;
            let version = Expected::Version(known.row.version);
            let change = CatalogueChange::delete(Uuid::new_v4(), name).expecting(version);
            Ok((stored, change.by(asked.by.clone())))
        });
        match change {
            Ok(change) => {
                let cleared =
                    self.change_stored(change, (Kind::Override, JobOperation::OverrideCleared), asked);
                Box::pin(cleared.map(|row, _, _| row.map(|row| row.version)))
            }
            Err(error) => Box::pin(ready(Err(error)).into_actor(self)),
        }
    }
}

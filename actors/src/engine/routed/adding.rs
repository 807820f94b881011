//! Where jobs are added and changed: on the backend that each names.

use std::collections::HashMap;

use actix::prelude::*;

use super::{Answer, Routed};
use crate::{
    definition::Job,
    engine::named::Engines,
    error::{AddError, Faults, UpdateError},
    job_names::on_unknown,
    message::{AddJob, AddJobs, Added, RemoveJobs, UpdateJob},
    note::Attribution,
    supervisor::CheckJobs,
};

impl Engines {
    /// The number of the engine that a job is for.
    fn engine_for(&self, job: &Job) -> Result<usize, Faults> {
        let unknown = || Faults::of(on_unknown(std::slice::from_ref(job), self.names.backends()));
        self.names.engine_named(job.backend()).ok_or_else(unknown)
    }

    /// Adds jobs to their engines, of which each has checked its own: if one refuses its jobs all the same, those of
    /// the others are removed again.
    async fn add_parts(
        &self,
        parts: Vec<(usize, Vec<Job>)>,
        asked: &Attribution,
    ) -> Result<Result<Vec<Added>, AddError>, MailboxError> {
        let mut all = Vec::new();
        for (engine, jobs) in parts {
            let added = self.send(engine, AddJobs { jobs, asked: asked.clone() }).await;
            let error = match added {
                Ok(Ok(added)) => {
                    all.extend(added);
                    continue;
                }
                Ok(Err(error)) => Ok(Err(error)),
                Err(stopped) => Err(stopped),
            };
            for Added { job, .. } in all {
                if let Some(engine) = self.names.engine_of(job.as_str()) {
                    // It is gone already, or its engine is.
                    let removed = RemoveJobs { asked: asked.clone(), ..RemoveJobs::new(&job) };
                    let _ = self.send(engine, removed).await;
                }
            }
            return error;
        }
        Ok(Ok(all))
    }
}

impl Routed for AddJob {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        match engines.engine_for(&self.job) {
            Ok(engine) => engines.send(engine, self).await,
            Err(faults) => Ok(Err(AddError::Invalid(faults))),
        }
    }
}

impl Routed for AddJobs {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        let Self { jobs, asked } = self;
        if let Err(faults) = Faults::check(on_unknown(&jobs, engines.names.backends())) {
            return Ok(Err(AddError::Invalid(faults)));
        }
        let mut parts: Vec<(usize, Vec<Job>)> = (0..engines.all.len()).map(|nth| (nth, Vec::new())).collect();
        // The names in the order in which they were given.
        let order: HashMap<_, _> = jobs.iter().map(|job| job.name().to_owned()).zip(0..).collect();
        for job in jobs {
            let engine = engines.names.engine_named(job.backend()).unwrap_or_default();
            parts[engine].1.push(job);
        }
        parts.retain(|(_, jobs)| !jobs.is_empty());
        if parts.len() > 1 {
            for (engine, jobs) in &parts {
                if let Err(error) = engines.send(*engine, CheckJobs(jobs.clone())).await? {
                    return Ok(Err(error));
                }
            }
        }
        let added = engines.add_parts(parts, &asked).await?;
        Ok(added.map(|mut added| {
            let place = |one: &Added| order.get(one.job.as_str()).copied().unwrap_or(usize::MAX);
            added.sort_by_key(place);
            added
        }))
    }
}

impl Routed for UpdateJob {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        let engine = match engines.engine_for(&self.job) {
            Ok(engine) => engine,
            Err(faults) => return Ok(Err(UpdateError::Invalid(faults))),
        };
        match engines.names.engine_of(self.job.name()) {
            Some(present) if present != engine => {
                Ok(Err(UpdateError::Invalid(engines.names.moved(&self.job, present).into())))
            }
            Some(_) | None => engines.send(engine, self).await,
        }
    }
}

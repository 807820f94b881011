//! The engines of a node that has several backends, one for each.
//!
//! Each has its own session, election, clock offset, history and threads, so that what holds of a store holds of the
//! jobs on it, whatever becomes of the others. They share the names of jobs and the bound of runs in progress.

use std::sync::Arc;

use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    Engine,
    options::{EngineOptions, Share},
    wiring::StopOnDrop,
};
use crate::{error::StartError, job_names::JobNames, name::NodeId, permits::Permits};

/// The engines of a node that has named backends.
pub struct Engines {
    /// That of the default backend is the first.
    pub(super) all: Vec<Engine>,
    pub(super) names: JobNames,
    /// All keep their history in the same place.
    pub(super) share_history: bool,
}

/// Starts an engine for each backend of the options, which were checked.
pub(super) async fn start<F>(
    options: EngineOptions,
    start: impl Fn(EngineOptions) -> F,
) -> Result<Engine, StartError>
where
    F: Future<Output = Result<Engine, StartError>>,
{
    if options.named.is_empty() {
        return start(options).await;
    }
    let names = JobNames::new(options.named.iter().map(|(name, _)| name.clone()));
    let share_history = options.history.store.is_some();
    let parts = parts(options, &names);
    let mut starting: FuturesUnordered<_> = (0..)
        .zip(parts)
        .map(|(nth, options): (usize, _)| {
            let started = start(options);
            async move { (nth, started.await) }
        })
        .collect();
    let mut started = Vec::with_capacity(starting.len());
    while let Some((nth, engine)) = starting.next().await {
        match engine {
            Ok(engine) => started.push((nth, StopOnDrop(Some(engine.supervisor.clone())), engine)),
            Err(error) => {
                // Those that have not started stop by being dropped.
                drop(starting);
                for (_, _, engine) in &started {
                    engine.shutdown_now().await;
                }
                return Err(error);
            }
        }
    }
    started.sort_by_key(|(nth, ..)| *nth);
    let disarmed = started.into_iter().map(|(_, guard, engine)| {
        guard.disarm();
        engine
    });
    let all: Vec<_> = disarmed.collect();
    let first = all.first().cloned().ok_or(StartError::Died)?;
    Ok(Engine { others: Some(Arc::new(Engines { all, names, share_history })), ..first })
}

/// The options of each engine: its backend, its jobs, and all the rest.
fn parts(mut options: EngineOptions, names: &JobNames) -> Vec<EngineOptions> {
    let permits = Permits::new(options.max_concurrent_runs, options.when_full);
    let (jobs, named) = (std::mem::take(&mut options.jobs), std::mem::take(&mut options.named));
    let backends = named.into_iter().map(|(_, backend)| (backend, NodeId::random()));
    let backends: Vec<_> = [(options.backend.clone(), options.node)].into_iter().chain(backends).collect();
    let mut parts: Vec<_> = backends
        .into_iter()
        .enumerate()
        .map(|(nth, (backend, node))| {
            let share = Some(Share { names: names.of_engine(nth), permits: permits.clone() });
            let mut part = EngineOptions { backend, node, share, ..options.clone() };
            if nth > 0 {
                // Stored jobs are those of the default backend.
                (part.catalogue, part.schedule_reader) = (None, None);
            }
            part
        })
        .collect();
    for job in jobs {
        // What names no backend of the node was found before.
        if let Some(part) = names.engine_named(job.backend()).and_then(|nth| parts.get_mut(nth)) {
            part.jobs.push(job);
        }
    }
    parts
}

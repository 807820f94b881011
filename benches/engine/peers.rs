//! Other schedulers, at their own best settings.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Context;
use chrono::{SubsecRound, Utc};
use tokio::runtime;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::{case::Case, notes::note};

/// A program that takes the arguments of a case and prints the lines of one.
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
}

impl Peer {
    /// Of `name=program`.
    pub(crate) fn of(text: &str) -> anyhow::Result<Self> {
        let (name, program) = text.split_once('=').context("--peer wants name=program")?;
        let program = Path::new(&OsString::from(program)).canonicalize();
        Ok(Self { name: name.to_owned(), program: program.with_context(|| format!("--peer {text}"))? })
    }
}

/// Starts tokio-cron-scheduler with jobs that are due at each whole second.
///
/// It says nobody for which second it calls a job: what it calls is taken to be late by less than one.
pub(crate) fn start_tokio_cron(case: &Case) -> anyhow::Result<()> {
    let jobs = usize::try_from(case.jobs)?;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        // A channel that is too small loses calls.
        let scheduler = JobScheduler::new_with_channel_size(4 * jobs).await?;
        for _ in 0..jobs {
            let body = |_, _| {
                note(Utc::now().trunc_subsecs(0));
                Box::pin(std::future::ready(())) as _
            };
            scheduler.add(Job::new_async("* * * * * *", body)?).await?;
        }
        scheduler.start().await?;
        std::mem::forget(scheduler);
        anyhow::Ok(())
    })?;
    // For the rest of the process.
    std::mem::forget(runtime);
    Ok(())
}

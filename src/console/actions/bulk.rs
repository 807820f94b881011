//! Actions on one job, or on many.

use std::cell::RefCell;

use actix_web::web::Json;
use callsheet_actors::{Pause, RunId, TriggerJob, Triggered};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    super::{
        access::{Caller, Edits, Operates},
        cluster::{self, Reach, UnconfirmedView},
        problem::Problem,
    },
    selection::{DryRun, Selected, Selection},
    told,
};
use crate::{error::Error, handle::Callsheet};

/// What was done, or what would be.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum BulkAnswer {
    DryRun(DryRun),
    Done(BulkDone),
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkDone {
    /// Always `false`.
    dry_run: bool,
    /// How many jobs were meant.
    count: usize,
    done: Vec<Done>,
    failed: Vec<Failed>,
    /// Only runs of this node were asked to stop: its backend does not let nodes ask each other.
    here_only: bool,
    /// The nodes that have not answered, and may have runs that go on.
    unconfirmed: Vec<UnconfirmedView>,
}

/// What was done to a job.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Done {
    job: String,
    /// The run that was started, or asked to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// The node of a run that was asked to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// `started` or `queued`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    text: Option<&'static str>,
    /// It was not so before.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    /// How many ticks were skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// There may have been more.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<bool>,
}

/// Why a job was left as it was.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Failed {
    job: String,
    problem: Problem,
}

impl Done {
    fn of(job: &str) -> Self {
        Self { job: job.to_owned(), ..Self::default() }
    }

    fn of_run(job: &str, run: RunId) -> Self {
        Self { run: Some(run.to_string()), ..Self::of(job) }
    }
}

macro_rules! asked {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            /// Their names.
            #[schema(max_items = 1000)]
            jobs: Option<Vec<String>>,
            /// Those that pass this filter.
            filter: Option<super::super::read::Filter>,
            /// How many they are, as a dry run has answered; may be left out for one name.
            count: Option<usize>,
            /// Which they are, as a dry run has answered; may be left out for names.
            digest: Option<String>,
            /// Only answers how many they are.
            #[serde(default)]
            dry_run: bool,
            /// Why.
            #[schema(max_length = 1000)]
            note: Option<String>,
            $($(#[$field_doc])* $field: $type,)*
        }

        impl $name {
            fn selection(&self) -> Selection {
                let (jobs, filter, digest) = (self.jobs.clone(), self.filter.clone(), self.digest.clone());
                Selection { jobs, filter, count: self.count, digest, dry_run: self.dry_run }
            }
        }
    };
}

asked! {
    /// Which jobs.
    AskedJobs {}
}

asked! {
    /// Which jobs to pause, and until when.
    AskedPause {
        /// Until when; until they are resumed, if it is left out.
        until: Option<DateTime<Utc>>,
    }
}

asked! {
    /// Which jobs to run.
    AskedRun {
        /// A fire time that has passed, which the run names.
        fire_time: Option<DateTime<Utc>>,
        /// Arguments of its own for the task of the one job.
        #[schema(value_type = Option<Object>)]
        arguments: Option<Value>,
    }
}

/// Does it to each job, one after the other, and answers what was done and what was not. If one job is meant, what went
/// wrong is the answer.
async fn each<R, T>(
    caller: &Caller<R, T>,
    selection: &Selection,
    note: Option<&str>,
    deed: impl AsyncFn(&Callsheet, &str) -> Result<Vec<Done>, Error>,
) -> Result<Json<BulkAnswer>, Problem> {
    let jobs = told(caller, note)?;
    let names = match selection.select(&caller.shared).await? {
        Selected::DryRun(dry_run) => return Ok(Json(BulkAnswer::DryRun(dry_run))),
        Selected::Jobs(names) => names,
    };
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for name in &names {
        match deed(&jobs, name).await {
            Ok(some) => done.extend(some),
            Err(error) => failed.push(Failed { job: name.clone(), problem: error.into() }),
        }
    }
    caller.shared.board.changed();
    match failed.pop() {
        Some(Failed { problem, .. }) if names.len() == 1 => Err(problem),
        last => {
            failed.extend(last);
            let (count, here_only, unconfirmed) = (names.len(), false, Vec::new());
            let done = BulkDone { dry_run: false, count, done, failed, here_only, unconfirmed };
            Ok(Json(BulkAnswer::Done(done)))
        }
    }
}

/// Starts a run of each job, on this node.
#[utoipa::path(post, path = "/api/actions/run", request_body = AskedRun,
    responses((status = 200, body = BulkAnswer)))]
pub(crate) async fn run(caller: Caller<Operates, Json<AskedRun>>) -> Result<Json<BulkAnswer>, Problem> {
    let AskedRun { fire_time, arguments, note, .. } = &*caller.input;
    let selection = caller.input.selection();
    let is_one = selection.jobs.as_ref().is_some_and(|jobs| jobs.len() == 1);
    if (arguments.is_some() || fire_time.is_some()) && !is_one {
        return Err(Problem::invalid("`arguments` and `fire_time` are for one job"));
    }
    each(&caller, &selection, note.as_deref(), async |jobs, name| {
        let mut asked = TriggerJob::new(name);
        asked = fire_time.iter().fold(asked, |asked, fire_time| asked.fire_time(*fire_time));
        asked = arguments.iter().fold(asked, |asked, arguments| asked.arguments(arguments));
        let triggered = jobs.ask(asked.by(jobs.by.clone()).note(jobs.note.clone())).await??;
        let text = match triggered.triggered() {
            Triggered::Started(_) => "started",
            Triggered::Queued(_) => "queued",
        };
        Ok(vec![Done { text: Some(text), ..Done::of_run(name, triggered.run()) }])
    })
    .await
}

/// Pauses jobs on all nodes.
#[utoipa::path(post, path = "/api/actions/pause", request_body = AskedPause,
    responses((status = 200, body = BulkAnswer)))]
pub(crate) async fn pause(caller: Caller<Operates, Json<AskedPause>>) -> Result<Json<BulkAnswer>, Problem> {
    let pause = caller.input.until.map_or_else(Pause::until_resumed, Pause::until);
    each(&caller, &caller.input.selection(), caller.input.note.as_deref(), async |jobs, name| {
        let changed = jobs.pause_with(name, pause.clone()).await?;
        Ok(vec![Done { changed: Some(!changed.is_empty()), ..Done::of(name) }])
    })
    .await
}

/// Resumes jobs on all nodes.
#[utoipa::path(post, path = "/api/actions/resume", request_body = AskedJobs,
    responses((status = 200, body = BulkAnswer)))]
pub(crate) async fn resume(caller: Caller<Operates, Json<AskedJobs>>) -> Result<Json<BulkAnswer>, Problem> {
    each(&caller, &caller.input.selection(), caller.input.note.as_deref(), async |jobs, name| {
        let changed = jobs.resume(name).await?;
        Ok(vec![Done { changed: Some(!changed.is_empty()), ..Done::of(name) }])
    })
    .await
}

/// Asks the runs of jobs to stop that are in progress, on all nodes where the backend lets nodes ask each other;
/// otherwise on this node.
#[utoipa::path(post, path = "/api/actions/cancel", request_body = AskedJobs,
    responses((status = 200, body = BulkAnswer)))]
pub(crate) async fn cancel(caller: Caller<Operates, Json<AskedJobs>>) -> Result<Json<BulkAnswer>, Problem> {
    let reach = RefCell::<Reach>::default();
    let cancel = async |jobs: &Callsheet, name: &str| {
        let mut so_far = reach.take();
        let stopped = cluster::cancel_runs(jobs, name, &mut so_far).await;
        reach.replace(so_far);
        let done = |run: cluster::Stopped| Done {
            node: Some(run.node.to_string()),
            ..Done::of_run(&run.job, run.run)
        };
        Ok(stopped?.into_iter().map(done).collect())
    };
    let selection = caller.input.selection();
    let mut answer = each(&caller, &selection, caller.input.note.as_deref(), cancel).await?;
    if let BulkAnswer::Done(done) = &mut answer.0 {
        let reach = reach.into_inner();
        (done.here_only, done.unconfirmed) = (reach.here_only, reach.unconfirmed());
    }
    Ok(answer)
}

/// Skips everything that jobs have missed until now.
#[utoipa::path(post, path = "/api/actions/skip-missed", request_body = AskedJobs,
    responses((status = 200, body = BulkAnswer)))]
pub(crate) async fn skip_missed(
    caller: Caller<Operates, Json<AskedJobs>>,
) -> Result<Json<BulkAnswer>, Problem> {
    each(&caller, &caller.input.selection(), caller.input.note.as_deref(), async |jobs, name| {
        let skipped = jobs.skip_missed(name).await?;
        Ok(skipped
            .into_iter()
            .map(|skipped| Done {
                count: Some(skipped.count),
                at_least: Some(skipped.at_least),
                ..Done::of(skipped.job.as_str())
            })
            .collect())
    })
    .await
}

/// Removes jobs: a stored one from all nodes, one of code from this node.
#[utoipa::path(post, path = "/api/actions/remove", request_body = AskedJobs,
    responses((status = 200, body = BulkAnswer)))]
pub(crate) async fn remove(caller: Caller<Edits, Json<AskedJobs>>) -> Result<Json<BulkAnswer>, Problem> {
    each(&caller, &caller.input.selection(), caller.input.note.as_deref(), async |jobs, name| {
        if jobs.details(name).await?.stored.is_some() {
            jobs.delete(name).await?;
        } else {
            jobs.remove(name).await?;
        }
        Ok(vec![Done::of(name)])
    })
    .await
}

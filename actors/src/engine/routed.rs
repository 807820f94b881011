//! Which engine of a node a message is for, and what the answers of several are together.

mod adding;
mod clusters;

use std::future::Future;

use actix::prelude::*;
use chrono::TimeDelta;
use futures_util::future::{join_all, try_join_all};

use super::{
    merged::{self, Newest, Next, OfJob},
    named::Engines,
};
use crate::{
    drain::ShutdownReport,
    error::{
        BackfillError, ExplainError, NextFireTimesError, PauseError, SelectError, SkipMissedError,
        TriggerError, UnknownRun, UpdateError,
    },
    explain::Explain,
    listener::{EventStream, Events, Listen, ListenTo},
    message::{
        ActiveRuns, AnnounceShutdown, Backfill, CancelBackfill, CancelRun, CancelRuns, ClearOverride,
        DeleteJob, Health, JobAddress, JobDetails, ListBackfills, ListJobs, ListStored, ListTasks,
        NextFireTimes, OverrideSchedule, PauseJobs, PreviewBackfill, PutJob, RemoveJobs, RescheduleJob,
        Resign, ResumeJobs, RunsOnNode, Selector, Shutdown, ShutdownNow, SkipMissed, StoredDetails,
        TriggerJob,
    },
    name::JobName,
    port::{DecisionPage, Decisions, JobHistory, OperationPage, Operations, PageStart, RunHistory},
    supervisor::SupervisorActor,
    task::TaskDetails,
};

/// A message to a node, whichever of its backends the jobs that it concerns are on.
///
/// One that concerns a job goes to the engine that has the job. One that selects jobs by a tag, or all of them, goes
/// to each engine, and so does what concerns the node. All messages to the supervisor are of this kind.
pub trait Routed: Message<Result: Send> + Send + Sized + 'static {
    #[doc(hidden)]
    fn route(self, engines: &Engines) -> impl Future<Output = Answer<Self>> + Send;
}

/// An answer, or that the engine has stopped.
type Answer<M> = Result<<M as Message>::Result, MailboxError>;

/// An answer that may be that there is no such thing, or that it cannot be said.
trait Found {
    fn is_found(&self) -> bool;
}

impl<T, E> Found for Result<T, E> {
    fn is_found(&self) -> bool {
        self.is_ok()
    }
}

impl<T> Found for Option<T> {
    fn is_found(&self) -> bool {
        self.is_some()
    }
}

impl Engines {
    async fn send<M>(&self, engine: usize, message: M) -> Answer<M>
    where
        M: Message<Result: Send> + Send + 'static,
        SupervisorActor: Handler<M>,
    {
        self.all.get(engine).ok_or(MailboxError::Closed)?.supervisor.send(message).await
    }

    /// Each answers.
    async fn send_to_each<M>(&self, message: M) -> Result<Vec<M::Result>, MailboxError>
    where
        M: Message<Result: Send> + Clone + Send + 'static,
        SupervisorActor: Handler<M>,
    {
        try_join_all(self.all.iter().map(|engine| engine.supervisor.send(message.clone()))).await
    }

    /// As [`send_to_each`](Self::send_to_each), but those that have stopped do not matter, unless all have.
    async fn send_to_running<M>(&self, message: M) -> Result<Vec<M::Result>, MailboxError>
    where
        M: Message<Result: Send> + Clone + Send + 'static,
        SupervisorActor: Handler<M>,
    {
        let answers = join_all(self.all.iter().map(|engine| engine.supervisor.send(message.clone()))).await;
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        if answers.is_empty() { Err(MailboxError::Closed) } else { Ok(answers) }
    }

    /// The answer of the one that knows what is asked about. Or else the first that could not say, or that it is
    /// unknown.
    async fn send_to_whoever_knows<M>(&self, message: M, is_unknown: fn(&M::Result) -> bool) -> Answer<M>
    where
        M: Message<Result: Found + Send> + Clone + Send + 'static,
        SupervisorActor: Handler<M>,
    {
        let mut answers = self.send_to_running(message).await?;
        let found = answers.iter().position(Found::is_found);
        let best =
            found.or_else(|| answers.iter().position(|answer| !is_unknown(answer))).unwrap_or_default();
        Ok(answers.swap_remove(best))
    }

    /// The engine answers that has the job. One that was removed is perhaps still known.
    async fn send_to_job<M>(&self, job: &str, message: M, is_unknown: fn(&M::Result) -> bool) -> Answer<M>
    where
        M: Message<Result: Found + Send> + Clone + Send + 'static,
        SupervisorActor: Handler<M>,
    {
        match self.names.engine_of(job) {
            Some(engine) => self.send(engine, message).await,
            None => self.send_to_whoever_knows(message, is_unknown).await,
        }
    }

    /// What each answers about a job is one answer, and so is what all answer about several.
    async fn send_to_selected<M, T, E>(
        &self,
        jobs: Selector,
        message: M,
        is_unknown: fn(&M::Result) -> bool,
    ) -> Answer<M>
    where
        M: Message<Result = Result<Vec<T>, E>> + Clone + Send + 'static,
        T: OfJob + Send + 'static,
        E: Send + 'static,
        SupervisorActor: Handler<M>,
    {
        match jobs {
            Selector::Name(job) => self.send_to_job(&job, message, is_unknown).await,
            Selector::Tag(_) | Selector::All => Ok(merged::of_jobs(self.send_to_each(message).await?)),
        }
    }
}

/// Messages that are about one job, and what is answered if there is none.
macro_rules! about_a_job {
    ($($message:ty: |$asked:ident| $job:expr, $unknown:pat),* $(,)?) => {
        $(
            impl Routed for $message {
                async fn route(self, engines: &Engines) -> Answer<Self> {
                    let job = {
                        let $asked = &self;
                        $job.to_string()
                    };
                    let is_unknown = |answer: &<Self as Message>::Result| match answer {
                        $unknown => true,
                        _ => false,
                    };
                    engines.send_to_job(&job, self, is_unknown).await
                }
            }
        )*
    };
}

about_a_job! {
    RescheduleJob: |asked| asked.job, Err(UpdateError::UnknownJob { .. }),
    TriggerJob: |asked| asked.job, Err(TriggerError::UnknownJob { .. }),
    NextFireTimes: |asked| asked.job, Err(NextFireTimesError::UnknownJob { .. }),
    Explain: |asked| asked.job, Err(ExplainError::UnknownJob { .. }),
    JobDetails: |asked| asked.0, None,
    JobAddress: |asked| asked.0, Err(SelectError::UnknownJob { .. }),
    Backfill: |asked| asked.job, Err(BackfillError::UnknownJob { .. }),
    PreviewBackfill: |asked| asked.0.job, Err(BackfillError::UnknownJob { .. }),
}

/// Messages about stored jobs, which are on the default backend.
macro_rules! about_stored_jobs {
    ($($message:ty),* $(,)?) => {
        $(
            impl Routed for $message {
                async fn route(self, engines: &Engines) -> Answer<Self> {
                    engines.send(0, self).await
                }
            }
        )*
    };
}

about_stored_jobs!(PutJob, DeleteJob, ListStored, StoredDetails, OverrideSchedule, ClearOverride);

/// Messages that select jobs.
macro_rules! about_jobs {
    ($($message:ident: $unknown:pat),* $(,)?) => {
        $(
            impl Routed for $message {
                async fn route(self, engines: &Engines) -> Answer<Self> {
                    let jobs = self.jobs.clone();
                    engines.send_to_selected(jobs, self, |answer| matches!(answer, $unknown)).await
                }
            }
        )*
    };
}

about_jobs! {
    RemoveJobs: Err(SelectError::UnknownJob { .. }),
    PauseJobs: Err(PauseError::Select(_)),
    ResumeJobs: Err(PauseError::Select(_)),
    SkipMissed: Err(SkipMissedError::Select(_)),
    CancelRuns: Err(SelectError::UnknownJob { .. })
}

/// Messages about something that one engine knows, and what the others answer.
macro_rules! known_to_one {
    ($($message:ident: $unknown:pat),* $(,)?) => {
        $(
            impl Routed for $message {
                async fn route(self, engines: &Engines) -> Answer<Self> {
                    engines.send_to_whoever_knows(self, |answer| matches!(answer, $unknown)).await
                }
            }
        )*
    };
}

known_to_one! {
    CancelRun: Err(UnknownRun { .. }),
    CancelBackfill: Err(BackfillError::UnknownBackfill { .. } | BackfillError::NotKept { .. })
}

/// Messages that are about the node, and what the answers of its engines are together.
macro_rules! about_the_node {
    ($($message:ident: $together:expr;)*) => {
        $(
            impl Routed for $message {
                async fn route(self, engines: &Engines) -> Answer<Self> {
                    Ok($together(engines.send_to_running(self).await?))
                }
            }
        )*
    };
}

about_the_node! {
    Listen: |_| ();
    ListenTo: |_| ();
    AnnounceShutdown: |_| ();
    Resign: |led: Vec<bool>| led.contains(&true);
    // All have the same.
    ListTasks: |lists: Vec<Vec<TaskDetails>>| lists.into_iter().next().unwrap_or_default();
    Shutdown: ShutdownReport::of_all;
    ShutdownNow: ShutdownReport::of_all;
}

impl Routed for Events {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        let publishers = engines.all.iter().map(|engine| engine.publisher.clone());
        Ok(EventStream::of_all(publishers.collect(), self.0))
    }
}

impl Routed for Health {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        let mut reports = engines.send_to_each(self).await?.into_iter();
        let first = reports.next().ok_or(MailboxError::Closed)?;
        Ok(first.with_named(engines.names.backends().iter().cloned().zip(reports)))
    }
}

impl Routed for ActiveRuns {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        let limit = self.page_limit();
        let all = engines.send_to_each(self).await?;
        Ok(RunsOnNode::together(all, limit))
    }
}

impl Routed for ListJobs {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        let limit = self.page_limit();
        Ok(merged::page_of_jobs(engines.send_to_each(self).await?, limit))
    }
}

impl Routed for ListBackfills {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        if let Some(engine) = self.job.as_ref().and_then(|job| engines.names.engine_of(job.as_str())) {
            return engines.send(engine, self).await;
        }
        Ok(merged::backfills(engines.send_to_each(self).await?))
    }
}

impl Engines {
    /// Where the records are that are asked for, if that is one place.
    fn history_of(&self, job: Option<&JobName>) -> Option<usize> {
        if self.share_history { Some(0) } else { self.names.engine_of(job?.as_str()) }
    }
}

impl Routed for JobHistory {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        if let Some(engine) = engines.history_of(Some(&self.0)) {
            return engines.send(engine, self).await;
        }
        let answers = merged::pages(engines.send_to_each(self).await?);
        // It was on one backend, and later perhaps on another.
        Ok(answers.map(|answers| {
            answers.into_iter().flatten().max_by_key(|record| record.last_run.as_ref().map(|last| last.run))
        }))
    }
}

impl Routed for RunHistory {
    async fn route(self, engines: &Engines) -> Answer<Self> {
        if let Some(engine) = engines.history_of(self.job.as_ref()) {
            return engines.send(engine, self).await;
        }
        let limit = self.page_limit();
        Ok(merged::page_of_runs(engines.send_to_each(self).await?, limit))
    }
}

/// Pages of records that have an instant and a number.
macro_rules! timed_pages {
    ($($message:ident => $page:ident { $records:ident };)*) => {
        $(
            impl $message {
                fn to_engine(&self, engine: u8, limit: usize) -> Self {
                    let before = self.before.map(|before| before.of_engine(engine));
                    Self { before, limit, ..self.clone() }
                }
            }

            impl Routed for $message {
                async fn route(self, engines: &Engines) -> Answer<Self> {
                    if let Some(engine) = engines.history_of(self.job.as_ref()) {
                        return engines.send(engine, self).await;
                    }
                    let limit = self.page_limit();
                    let asked = (0..).zip(&engines.all).map(|(nth, engine)| {
                        engine.supervisor.send(self.to_engine(nth, limit))
                    });
                    let pages: Vec<$page> = match merged::pages(try_join_all(asked).await?) {
                        Ok(pages) => pages,
                        Err(error) => return Ok(Err(error)),
                    };
                    let gaps = merged::gaps(pages.iter().map(|page| page.gaps));
                    let unread = pages.iter().map(|page| page.unread).sum();
                    let pages = pages.into_iter().map(|page| (page.$records, page.next)).collect();
                    let newest = Newest::of(pages, limit, |record| record.at);
                    let next = match newest.next {
                        Next::Nowhere => None,
                        Next::At(start) => Some(start),
                        Next::After { engine, records, at } => {
                            // Only the end of a page tells where the next one starts.
                            let mut asked = self.to_engine(engine, records);
                            // The history may have grown meanwhile.
                            let behind = at + TimeDelta::microseconds(1);
                            asked.to = Some(asked.to.map_or(behind, |to| to.min(behind)));
                            match engines.send(usize::from(engine), asked).await? {
                                Ok(page) => {
                                    let end = PageStart { at, nth: i64::MIN, backend: engine };
                                    Some(PageStart { backend: engine, ..page.next.unwrap_or(end) })
                                }
                                Err(error) => return Ok(Err(error)),
                            }
                        }
                    };
                    Ok(Ok($page { $records: newest.records, unread, next, gaps }))
                }
            }
        )*
    };
}

timed_pages! {
    Decisions => DecisionPage { decisions };
    Operations => OperationPage { operations };
}

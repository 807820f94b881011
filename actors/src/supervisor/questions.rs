//! How the supervisor answers what is asked of jobs.
//!
//! A job that was added, changed or revived fires once the store has answered its enrolment. A question that
//! comes before waits for that answer, so that whoever was told that something is done sees that it is.
//!
//! That waiting is what is decided here. What is answered is what the job's actor says, and what the
//! supervisor knows of the job beside it: that it is broken, conflicting or parked.

use std::{collections::BTreeMap, convert::Infallible, ops::Bound, sync::Arc};

use actix::prelude::*;
use chrono::{DateTime, Utc};
use futures_util::future::{join, join_all, ready};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use super::{ANSWER_DEADLINE, Entry, SupervisorActor};
use crate::{
    core::{catalogue::Standing, time::FireTime},
    error::{FIRE_TIMES_MAX, NextFireTimesError, SelectError, given_name},
    job::{AsksSchedule, JobActor, JobHandle, JobMessage, JobState, JobStatus},
    job_names::JobNames,
    lock::InquiryPurpose,
    message::{JobAddress, JobDetails, JobPage, ListJobs, NextFireTimes, PAGE_MAX},
    name::JobName,
};

/// Questions that wait until jobs are enrolled, by job. Each shares a sender with all the jobs that it waits
/// for: it goes on when the last of them lets go of it.
#[derive(Default)]
pub(super) struct WaitingQuestions(BTreeMap<JobName, Vec<Arc<oneshot::Sender<Infallible>>>>);

impl WaitingQuestions {
    fn wait_for(&mut self, jobs: Vec<JobName>) -> oneshot::Receiver<Infallible> {
        let (sender, receiver) = oneshot::channel();
        let sender = Arc::new(sender);
        for job in jobs {
            let waiting = self.0.entry(job).or_default();
            // Of those that have waited for too long nobody is left.
            waiting.retain(|sender| !sender.is_closed());
            waiting.push(sender.clone());
        }
        receiver
    }

    pub(super) fn go_on(&mut self, job: &JobName) {
        if !self.0.is_empty() {
            self.0.remove(job);
        }
    }
}

impl SupervisorActor {
    /// The store has answered the enrolment of a job, whatever it said; or the job is not to be enrolled.
    pub(super) fn on_enrolment_answered(&mut self, name: &JobName) {
        if let Some(entry) = self.jobs.get_mut(name) {
            entry.firing.enrolment_answered();
        }
        self.questions.go_on(name);
    }

    /// Asks about these jobs: at once, or when the enrolments that are under way are answered, at the latest
    /// after [`ANSWER_DEADLINE`].
    fn ask_enrolled<T, F>(
        &mut self,
        names: &[JobName],
        ask: impl FnOnce(&Self) -> F + 'static,
    ) -> ResponseActFuture<Self, T>
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let jobs = &self.jobs;
        let awaited = |name: &&JobName| {
            // Who has lost the right to fire it meanwhile waits for nothing.
            let entry = jobs.get(*name).filter(|entry| entry.firing.awaits_enrolment());
            entry.is_some_and(|entry| self.authority(entry).is_some())
        };
        let awaited: Vec<_> = names.iter().filter(awaited).cloned().collect();
        if awaited.is_empty() {
            return Box::pin(ask(self).into_actor(self));
        }
        // The answer is that nobody answers any more.
        let answered = timeout(ANSWER_DEADLINE, self.questions.wait_for(awaited));
        Box::pin(answered.into_actor(self).then(move |_, actor, _| ask(actor).into_actor(actor)))
    }

    /// The statuses of jobs that this node has, in their order.
    fn statuses_of(&self, entries: Vec<&Entry>) -> impl Future<Output = Vec<JobStatus>> + use<> {
        let scheduled = entries.iter().map(|entry| entry.job.clone()).collect();
        let scheduled = self.who_fires(scheduled, ANSWER_DEADLINE, InquiryPurpose::Status);
        let backend = self.backend_name();
        let stored = |entry: &&Entry| (self.stored_version(&entry.job), self.override_of(&entry.job));
        let stored: Vec<_> = entries.iter().map(stored).collect();
        let statuses: Vec<_> = entries.into_iter().map(|entry| self.status_of(entry)).collect();
        async move {
            let (statuses, scheduled) = join(join_all(statuses), scheduled).await;
            let whole = |((status, scheduled), (stored, overridden))| JobStatus {
                scheduled: Some(scheduled),
                backend: backend.clone(),
                stored,
                overridden,
                ..status
            };
            statuses.into_iter().zip(scheduled).zip(stored).map(whole).collect()
        }
    }

    /// The name of the backend of these jobs, if it has one.
    fn backend_name(&self) -> Option<Arc<str>> {
        self.parts.names.as_ref().and_then(JobNames::backend).cloned()
    }

    /// The version of a stored job.
    fn stored_version(&self, job: &JobHandle) -> Option<u64> {
        let (standing, version) = self.keeping.machine.standing(job.definition.name.as_str())?;
        (*standing == Standing::Held).then_some(version)
    }

    /// The status of a job that this node has, but for who fires it.
    fn status_of(&self, entry: &Entry) -> impl Future<Output = JobStatus> + use<> {
        // The schedule of a broken one has perhaps brought its actor down.
        let asks_schedule =
            if entry.firing.broken().is_some() { AsksSchedule::No } else { AsksSchedule::Yes };
        self.status_with(entry, asks_schedule)
    }

    /// The same; the actor asks the schedule, or does not.
    pub(super) fn status_with(
        &self,
        entry: &Entry,
        asks_schedule: AsksSchedule,
    ) -> impl Future<Output = JobStatus> + use<> {
        let (broken, refused) = (entry.firing.broken().cloned(), entry.firing.refused().cloned());
        let parked = entry.parked.as_ref().map(|parked| parked.reason.clone());
        let job = entry.job.clone();
        let status = job.ask(|reply| JobMessage::Status { asks_schedule, reply });
        let former = self.statuses_of_removed(&job.definition.name);
        // From now on, whenever it is waited for.
        let deadline = Instant::now() + ANSWER_DEADLINE;
        async move {
            let status = match timeout_at(deadline, status).await {
                Ok(Ok(status)) => match (refused, parked) {
                    (_, Some(reason)) => status.parked(reason),
                    (Some(reason), None) => status.conflicting(reason),
                    (None, None) => status,
                },
                Ok(Err(_)) | Err(_) => JobStatus::without_actor(&job.definition, JobState::Unresponsive),
            };
            let former_runs = former.await.into_iter().flat_map(|former| former.active_runs).collect();
            let status = JobStatus { former_runs, ..status };
            match broken {
                Some(reason) => status.broken(reason),
                None => status,
            }
        }
    }

    /// The jobs of this name that were removed and have not ended yet, the oldest first.
    pub(super) fn removed(&self, name: &JobName) -> impl Iterator<Item = &Arc<JobHandle>> + use<'_> {
        let of_name = (name.clone(), u64::MIN)..=(name.clone(), u64::MAX);
        self.retiring.range(of_name).map(|(_, job)| job)
    }

    /// The status of each job of this name that was removed while runs of it were in progress, the oldest
    /// first.
    fn statuses_of_removed(&self, name: &JobName) -> impl Future<Output = Vec<JobStatus>> + use<> {
        let asked = |job: &Arc<JobHandle>| {
            let job = job.clone();
            let status = job.ask(|reply| JobMessage::Status { asks_schedule: AsksSchedule::No, reply });
            async move {
                match timeout(ANSWER_DEADLINE, status).await {
                    Ok(Ok(status)) => Some(status.removed()).filter(|status| !status.active_runs.is_empty()),
                    // It has ended.
                    Ok(Err(_)) => None,
                    Err(_) => Some(JobStatus::without_actor(&job.definition, JobState::Unresponsive)),
                }
            }
        };
        let asked: Vec<_> = self.removed(name).map(asked).collect();
        async move { join_all(asked).await.into_iter().flatten().collect() }
    }

    /// The status of the job of this name that was removed last, with the runs of those before it.
    fn status_of_removed(&self, name: &JobName) -> impl Future<Output = Option<JobStatus>> + use<> {
        let removed = self.statuses_of_removed(name);
        let backend = self.backend_name();
        async move {
            let mut removed = removed.await;
            let last = removed.pop()?;
            let former_runs = removed.into_iter().flat_map(|former| former.active_runs).collect();
            Some(JobStatus { former_runs, backend, ..last })
        }
    }

    fn list(&mut self, list: ListJobs) -> ResponseActFuture<Self, JobPage> {
        let limit = list.page_limit();
        let ListJobs { prefix, tag, state, after, limit: _ } = list;
        // Which of them are in that state is known only once they are asked.
        let asked = if state.is_some() { PAGE_MAX } else { limit };
        let prefix = prefix.unwrap_or_default();
        let start = match after.as_deref() {
            Some(after) if after >= prefix.as_str() => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix.as_str()),
        };
        let of_removed = state == Some(JobState::Removed);
        let names: Box<dyn Iterator<Item = &JobName>> = match &tag {
            _ if of_removed => Box::new(self.names_of_removed(start, tag.as_deref())),
            Some(tag) => Box::new(self.tags.jobs(tag, start)),
            None => Box::new(self.jobs.range::<str, _>((start, Bound::Unbounded)).map(|(name, _)| name)),
        };
        let mut rest = names.take_while(|name| name.as_str().starts_with(&prefix));
        let page: Vec<_> = rest.by_ref().take(asked).cloned().collect();
        let next = page.last().map(|name| name.as_str().to_owned()).filter(|_| rest.next().is_some());
        drop(rest);
        let names = if of_removed { Vec::new() } else { page.clone() };
        let asked = self.ask_enrolled(&names, move |actor: &Self| {
            let removed = page.iter().filter(|_| of_removed).map(|name| actor.status_of_removed(name));
            let removed = join_all(removed.collect::<Vec<_>>());
            let held = page.iter().filter(|_| !of_removed).filter_map(|name| actor.jobs.get(name));
            let held = actor.statuses_of(held.collect());
            async move { removed.await.into_iter().flatten().chain(held.await).collect::<Vec<_>>() }
        });
        Box::pin(asked.map(move |jobs, _, _| {
            let mut jobs: Vec<_> = jobs;
            let mut next = next;
            if let Some(state) = state {
                jobs.retain(|job| job.state == state);
            }
            if jobs.len() > limit {
                jobs.truncate(limit);
                next = jobs.last().map(|job| job.name.as_str().to_owned());
            }
            JobPage { jobs, next }
        }))
    }

    /// The names of the jobs that were removed and have not ended yet, each once, from `start` on.
    fn names_of_removed<'a>(
        &'a self,
        start: Bound<&'a str>,
        tag: Option<&'a str>,
    ) -> impl Iterator<Item = &'a JobName> + 'a {
        let is_after = move |name: &str| match start {
            Bound::Included(start) => name >= start,
            Bound::Excluded(start) => name > start,
            Bound::Unbounded => true,
        };
        let has_tag = move |job: &JobHandle| {
            tag.is_none_or(|tag| job.definition.tags().iter().any(|other| other.as_str() == tag))
        };
        let mut last = None;
        let removed =
            self.retiring.iter().filter(move |((name, _), job)| is_after(name.as_str()) && has_tag(job));
        removed.map(|((name, _), _)| name).filter(move |name| last.replace(*name) != Some(*name))
    }
}

impl Handler<NextFireTimes> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<Vec<DateTime<Utc>>, NextFireTimesError>>;

    fn handle(&mut self, NextFireTimes { job, count }: NextFireTimes, _: &mut Self::Context) -> Self::Result {
        if count > FIRE_TIMES_MAX {
            return Box::pin(ready(Err(NextFireTimesError::TooMany { count })).into_actor(self));
        }
        let unknown = NextFireTimesError::UnknownJob { name: given_name(&job) };
        let Ok(name) = JobName::new(&job) else {
            return Box::pin(ready(Err(unknown)).into_actor(self));
        };
        let names = [name.clone()];
        self.ask_enrolled(&names, move |actor: &Self| {
            let entry = actor.jobs.get(&name);
            let asked = entry.map(|entry| entry.job.ask(|reply| JobMessage::Upcoming { count, reply }));
            async move {
                match timeout(ANSWER_DEADLINE, asked.ok_or(unknown)?).await {
                    Ok(Ok(fire_times)) => Ok(fire_times.into_iter().map(FireTime::instant).collect()),
                    Ok(Err(_)) | Err(_) => Err(NextFireTimesError::Unresponsive { job: name }),
                }
            }
        })
    }
}

impl Handler<ListJobs> for SupervisorActor {
    type Result = ResponseActFuture<Self, JobPage>;

    fn handle(&mut self, list: ListJobs, _: &mut Self::Context) -> Self::Result {
        self.list(list)
    }
}

impl Handler<JobDetails> for SupervisorActor {
    type Result = ResponseActFuture<Self, Option<JobStatus>>;

    fn handle(&mut self, JobDetails(name): JobDetails, _: &mut Self::Context) -> Self::Result {
        let Ok(name) = JobName::new(&name) else {
            return Box::pin(ready(None).into_actor(self));
        };
        let names = [name.clone()];
        self.ask_enrolled(&names, move |actor: &Self| {
            let status = actor.jobs.get(&name).map(|entry| actor.statuses_of(vec![entry]));
            let removed = status.is_none().then(|| actor.status_of_removed(&name));
            async move {
                match (status, removed) {
                    (Some(status), _) => status.await.pop(),
                    (None, Some(removed)) => removed.await,
                    (None, None) => None,
                }
            }
        })
    }
}

impl Handler<JobAddress> for SupervisorActor {
    type Result = Result<Addr<JobActor>, SelectError>;

    fn handle(&mut self, JobAddress(name): JobAddress, _: &mut Self::Context) -> Self::Result {
        let unknown = || SelectError::UnknownJob { name: given_name(&name) };
        self.jobs.get(name.as_str()).map(|entry| entry.job.address()).ok_or_else(unknown)
    }
}

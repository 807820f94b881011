//! A node that leads, without an engine: it claims and completes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use callsheet::{
    FireTime, JobName, LockKey, Outcome, RunId, Term,
    backend::Postgres,
    port::{
        Authority, Backend, Campaign, ClaimRequest, Completed, Completion, Enrolled, Enrolment, Locker,
        ScheduleIdentity, Skips, TickClaim, Verdict,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{JOBS, harness, server::process_of};

/// How long a number of ticks took to claim, and to claim and complete.
#[derive(Clone, Copy, Default)]
pub(crate) struct Took {
    pub(crate) ticks: u32,
    pub(crate) claims: Duration,
    pub(crate) ends: Duration,
    /// The processor time of the server process, which neither the disk nor other programs stretch.
    pub(crate) server: Duration,
}

impl Took {
    pub(crate) fn add(&mut self, other: Self) {
        self.ticks += other.ticks;
        self.claims += other.claims;
        self.ends += other.ends;
    }

    pub(crate) fn claims(&self) -> f64 {
        f64::from(self.ticks) / self.claims.as_secs_f64()
    }

    pub(crate) fn server_micros(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / f64::from(self.ticks)
    }

    pub(crate) fn ticks(&self) -> f64 {
        f64::from(self.ticks) / (self.claims + self.ends).as_secs_f64()
    }
}

/// A node that leads, and its jobs.
pub(crate) struct Adapter {
    pub(crate) locker: Arc<dyn Locker>,
    term: Term,
    jobs: Vec<(JobName, DateTime<Utc>)>,
    next: usize,
    /// Claimed and not completed.
    pub(crate) open: Vec<Completion>,
    /// The process that serves it.
    pub(crate) server: i32,
}

impl Adapter {
    pub(crate) async fn open(scope: &str) -> anyhow::Result<Self> {
        Self::open_with(scope, JOBS).await
    }

    pub(crate) async fn open_with(scope: &str, jobs: usize) -> anyhow::Result<Self> {
        // Nobody renews the term.
        let backend = Postgres::new(scope, harness::server().url()).lease(Duration::from_secs(600));
        let locker = backend.locker();
        locker.open().await?;
        let Campaign::Won(grant) = backend.elector().campaign(Duration::MAX).await? else {
            bail!("nobody else leads")
        };
        let term = grant.term;
        let names: Vec<_> =
            (0..jobs).map(|nth| JobName::new(format!("job-{nth}")).expect("a name")).collect();
        let mut jobs = Vec::new();
        for page in names.chunks(1_024) {
            let schedule = ScheduleIdentity::of_text("every 1 ms");
            let page: Vec<_> =
                page.iter().map(|job| Enrolment::new(job.clone(), schedule, Authority::Term(term))).collect();
            for (enrolment, answer) in page.iter().zip(locker.enrol(&page).await?) {
                let Enrolled::Done { cursor, .. } = answer else { bail!("not enrolled: {answer:?}") };
                jobs.push((enrolment.job.clone(), cursor));
            }
        }
        let server = process_of(&backend).await?;
        // Every tick that is claimed is due: they are 1 ms apart, and claimed more slowly.
        Ok(Self { locker, term, jobs, next: 0, open: Vec::new(), server })
    }

    fn requests(&mut self, batch: usize) -> Vec<ClaimRequest> {
        (0..batch)
            .map(|_| {
                let jobs = self.jobs.len();
                let (job, cursor) = &mut self.jobs[self.next];
                self.next = (self.next + 1) % jobs;
                let fire_time = FireTime::new(*cursor + TimeDelta::milliseconds(1));
                let tick = TickClaim {
                    fire_time,
                    expected: *cursor,
                    skips: Skips::default(),
                    authority: Authority::Term(self.term),
                };
                *cursor = fire_time.instant();
                let key = LockKey::new(job.as_str()).expect("a key");
                let run = RunId::from(Uuid::now_v7());
                ClaimRequest { tick: Some(tick), ..ClaimRequest::new(job.clone(), key, run) }
            })
            .collect()
    }

    /// Claims, and leaves it open.
    pub(crate) async fn claim(&mut self, batch: usize) -> anyhow::Result<Duration> {
        let requests = self.requests(batch);
        let started = Instant::now();
        let verdicts = self.locker.claim(&requests).await?;
        let claims = started.elapsed();
        self.open = ends(requests, verdicts)?;
        Ok(claims)
    }

    pub(crate) async fn claim_and_complete(&mut self, batch: usize) -> anyhow::Result<Took> {
        let claims = self.claim(batch).await?;
        let started = Instant::now();
        self.finish().await?;
        Ok(Took { ticks: u32::try_from(batch)?, claims, ends: started.elapsed(), ..Took::default() })
    }

    /// As the engine does it: the former batch is completed in the round trip that claims the next one.
    pub(crate) async fn round(&mut self, batch: usize) -> anyhow::Result<Took> {
        let requests = self.requests(batch);
        let open = std::mem::take(&mut self.open);
        let started = Instant::now();
        let answers = self.locker.round(&open, &requests, &[]).await;
        let claims = started.elapsed();
        ensure!(answers.ended?.iter().all(|end| *end == Completed::RECORDED), "an end was refused");
        self.open = ends(requests, answers.claimed?)?;
        Ok(Took { ticks: u32::try_from(batch)?, claims, ..Took::default() })
    }

    pub(crate) async fn finish(&mut self) -> anyhow::Result<()> {
        let open = std::mem::take(&mut self.open);
        let ended = self.locker.complete(&open).await?;
        ensure!(ended.iter().all(|end| *end == Completed::RECORDED), "an end was refused");
        Ok(())
    }
}

fn ends(requests: Vec<ClaimRequest>, verdicts: Vec<Verdict>) -> anyhow::Result<Vec<Completion>> {
    let end = |(request, verdict)| {
        let ClaimRequest { job, key, run, .. } = request;
        let Verdict::Granted { token, .. } = verdict else { bail!("{job}: {verdict:?}") };
        Ok(Completion::new(job, key, run, token, Outcome::Succeeded))
    };
    requests.into_iter().zip(verdicts).map(end).collect()
}

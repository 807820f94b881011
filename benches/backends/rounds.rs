//! Commits of claims and ends, as the engine makes them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use callsheet::port::{
    Change, Commit, Committed, RecordChange, RecordKind, RecordName, RecordSession, Records, Unit,
    UnitAnswer, Version,
};

use crate::Measured;

/// About what a record of a job is.
const RECORD_BYTES: usize = 140;
const LEASE: Duration = Duration::from_secs(600);

pub(crate) struct Rounds {
    records: Arc<dyn Records>,
    session: RecordSession,
    leader: Version,
    /// A job and its key, and their versions.
    jobs: Vec<[(RecordName, Version); 2]>,
}

impl Rounds {
    /// Opens a session, makes it the leader's, and writes the records of so many jobs.
    pub(crate) async fn prepare(records: Arc<dyn Records>, jobs: usize) -> anyhow::Result<Self> {
        let session = records.open(LEASE).await?;
        let name = |kind: &str, nth| RecordName::new(RecordKind::Name, format!("{kind} of customer {nth}"));
        let jobs =
            (0..jobs).map(|nth| [name("report", nth), name("key", nth)].map(|name| (name, Version::ABSENT)));
        let mut rounds = Self { records, session, leader: Version::ABSENT, jobs: jobs.collect() };
        let leader = RecordName::only(RecordKind::Leader);
        let record = RecordChange {
            name: leader,
            version: Version::ABSENT,
            change: Change::Put(vec![0; RECORD_BYTES]),
        };
        let unit = Unit { records: vec![record], hints: Vec::new() };
        let led =
            Commit { alive: vec![session], leader: Some(Version::ABSENT), server: None, units: vec![unit] };
        rounds.leader = match rounds.records.commit(&led).await? {
            Committed::Units { answers, .. } => match answers.as_slice() {
                [UnitAnswer::Made { versions }] => *versions.first().context("a version")?,
                other => bail!("nobody else leads: {other:?}"),
            },
            other => bail!("the guards hold: {other:?}"),
        };
        rounds.commit(rounds.jobs.len()).await?;
        Ok(rounds)
    }

    /// Claims and ends in rounds of this many, for a while.
    pub(crate) async fn run(
        &mut self,
        round: usize,
        time: Duration,
        measured: &mut Measured,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let began = Instant::now();
            self.commit(round).await?;
            let claimed = began.elapsed();
            self.commit(round).await?;
            measured.add(round, claimed, began.elapsed());
        }
        Ok(())
    }

    /// Writes the records of the first jobs, in as many commits as the store asks for.
    async fn commit(&mut self, round: usize) -> anyhow::Result<()> {
        let limits = self.records.limits();
        let units = limits.units.min(limits.commit_records / 2);
        let round = round.min(self.jobs.len());
        for from in (0..round).step_by(units) {
            self.commit_part(from, round.min(from + units)).await?;
        }
        Ok(())
    }

    async fn commit_part(&mut self, from: usize, to: usize) -> anyhow::Result<()> {
        let record = |(name, version): &(RecordName, Version)| RecordChange {
            name: name.clone(),
            version: *version,
            change: Change::Put(vec![b'x'; RECORD_BYTES]),
        };
        let unit = |job: &[(RecordName, Version); 2]| Unit {
            records: job.iter().map(record).collect(),
            hints: Vec::new(),
        };
        let commit = Commit {
            alive: vec![self.session],
            leader: Some(self.leader),
            server: None,
            units: self.jobs.iter().take(to).skip(from).map(unit).collect(),
        };
        let Committed::Units { answers, .. } = self.records.commit(&commit).await? else {
            bail!("the guards hold");
        };
        for (job, answer) in self.jobs.iter_mut().skip(from).zip(answers) {
            let UnitAnswer::Made { versions } = answer else { bail!("nobody else writes") };
            for ((_, version), made) in job.iter_mut().zip(versions) {
                *version = made;
            }
        }
        Ok(())
    }
}

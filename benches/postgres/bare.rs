//! The barest statements that could do the same.

use std::time::Instant;

use anyhow::ensure;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::{JOBS, locker::Took, server::connect};

/// The least that makes a tick run once and records its end: no terms, no sessions, no order, no other keys,
/// and nobody else who may have locked a row.
pub(crate) struct Bare {
    client: Client,
    claim: Statement,
    complete: Statement,
    next: usize,
    /// The process that serves it.
    pub(crate) server: i32,
}

impl Bare {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let client = connect().await?;
        client
            .batch_execute(&format!(
                "CREATE SCHEMA bare;
                 SET search_path = bare;
                 SET jit = off;
                 CREATE TABLE jobs (
                     job text COLLATE \"C\" PRIMARY KEY, cursor timestamptz NOT NULL, token bigint NOT NULL, run uuid
                 ) WITH (fillfactor = 50);
                 CREATE TABLE runs (
                     run uuid PRIMARY KEY, job text COLLATE \"C\" NOT NULL, fire_time timestamptz NOT NULL,
                     token bigint NOT NULL, claimed_at timestamptz NOT NULL, ended_at timestamptz, outcome text
                 ) WITH (fillfactor = 80);
                 INSERT INTO jobs SELECT 'job-' || nth, now(), 0, NULL FROM generate_series(0, {}) AS nth;
                 ANALYZE jobs",
                JOBS - 1
            ))
            .await?;
        let server = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        let claim = client
            .prepare(
                "WITH claimed AS (
                     UPDATE jobs j SET cursor = j.cursor + interval '1 ms', token = j.token + 1, run = a.run
                     FROM unnest($1::text[], $2::uuid[]) AS a (job, run) WHERE j.job = a.job AND j.run IS NULL
                     RETURNING j.job, j.run, j.cursor, j.token
                 ), recorded AS (
                     INSERT INTO runs SELECT run, job, cursor, token, clock_timestamp() FROM claimed
                 )
                 SELECT job, token FROM claimed",
            )
            .await?;
        let complete = client
            .prepare(
                "WITH freed AS (
                     UPDATE jobs j SET run = NULL FROM unnest($1::text[], $2::uuid[]) AS a (job, run)
                     WHERE j.job = a.job AND j.run = a.run
                     RETURNING a.run
                 ), ended AS (
                     UPDATE runs r SET outcome = 'succeeded', ended_at = clock_timestamp()
                     FROM freed f WHERE r.run = f.run
                 )
                 SELECT run FROM freed",
            )
            .await?;
        Ok(Self { client, claim, complete, next: 0, server })
    }

    pub(crate) async fn claim_and_complete(&mut self, batch: usize) -> anyhow::Result<Took> {
        let jobs: Vec<_> = (0..batch).map(|nth| format!("job-{}", (self.next + nth) % JOBS)).collect();
        self.next = (self.next + batch) % JOBS;
        let runs: Vec<_> = (0..batch).map(|_| Uuid::now_v7()).collect();
        let started = Instant::now();
        let claimed = self.client.query(&self.claim, &[&jobs, &runs]).await?;
        let claims = started.elapsed();
        ensure!(claimed.len() == batch, "{} of {batch} claimed", claimed.len());
        let started = Instant::now();
        let ended = self.client.query(&self.complete, &[&jobs, &runs]).await?;
        ensure!(ended.len() == batch, "{} of {batch} ended", ended.len());
        Ok(Took { ticks: u32::try_from(batch)?, claims, ends: started.elapsed(), ..Took::default() })
    }
}

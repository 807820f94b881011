//! Records on their way into the file. What a record changes is decided here; the file is written by one thread.

use std::collections::BTreeMap;

use callsheet_actors::{
    JobName, Outcome,
    adapter::JobRow,
    port::{Batch, Decision, DecisionRecord, OPEN_RUN_STALE, OperationRecord, RunRecord},
};
use chrono::{DateTime, Utc};
use rusqlite::{Connection, Error, OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::books::micros;

/// Writes records, in the transaction of the caller.
pub(super) fn write(connection: &Connection, batch: &Batch, now: DateTime<Utc>) -> rusqlite::Result<()> {
    let mut rows = JobRows { connection, rows: BTreeMap::new() };
    for run in &batch.runs {
        if let Some(ended) = write_run(connection, run, now)? {
            let row = rows.of(&run.job)?;
            row.known.take_run(&ended);
            row.added += 1;
        }
    }
    batch.decisions.iter().try_for_each(|decision| write_decision(connection, decision))?;
    batch.operations.iter().try_for_each(|operation| write_operation(connection, operation))?;
    for change in &batch.pauses {
        rows.of(&change.job)?.known.take_pause(change.clone());
    }
    rows.write()
}

/// Writes a run if that changes something. Answers it if it is to be counted: it has ended, and had not before.
fn write_run(
    connection: &Connection,
    run: &RunRecord,
    now: DateTime<Utc>,
) -> rusqlite::Result<Option<RunRecord>> {
    let id = run.run.as_uuid();
    let mut read = connection.prepare_cached("SELECT record FROM runs WHERE run = ?1")?;
    let former: Option<String> = read.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
    let former = former.and_then(|former| run_from_json(&former));
    let mut run = run.clone();
    if let Some(former) = &former {
        if !run.supersedes(former) {
            return Ok(None);
        }
        run.follow(former);
    }
    connection
        .prepare_cached(
            "INSERT INTO runs (run, job, outcome, written_at, fire_time, ended_at, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (run) DO UPDATE SET outcome = excluded.outcome, written_at = excluded.written_at,
                 fire_time = excluded.fire_time, ended_at = excluded.ended_at, record = excluded.record",
        )?
        .execute(params![
            id.as_bytes(),
            run.job.as_str(),
            run.outcome.map(Outcome::as_str),
            micros(now),
            run.fire_time.map(|fire_time| micros(fire_time.instant())),
            run.ended_at.map(micros),
            to_json(&run)?
        ])?;
    Ok(run.outcome.is_some().then_some(run))
}

fn write_decision(connection: &Connection, record: &DecisionRecord) -> rusqlite::Result<()> {
    let lost = match &record.decision {
        Decision::RunLost { run, .. } => Some(run.as_uuid()),
        _ => None,
    };
    let node = record.node.as_uuid();
    let mut write = connection.prepare_cached(
        "INSERT INTO decisions (at, node, job, reason, lost, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (at, node, job, reason, lost) DO UPDATE SET record = excluded.record",
    )?;
    write
        .execute(params![
            micros(record.at),
            node.as_bytes(),
            record.job.as_ref().map_or("", JobName::as_str),
            record.decision.reason(),
            lost.as_ref().map_or(&[][..], |run| run.as_bytes()),
            to_json(record)?
        ])
        .map(drop)
}

fn write_operation(connection: &Connection, record: &OperationRecord) -> rusqlite::Result<()> {
    let node = record.node.as_uuid();
    let mut write = connection.prepare_cached(
        "INSERT INTO operations (at, node, number, job, record) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
    )?;
    let number = i64::try_from(record.number).unwrap_or(i64::MAX);
    write
        .execute(params![micros(record.at), node.as_bytes(), number, record.job.as_str(), to_json(record)?])
        .map(drop)
}

/// The rows of the jobs of a batch, each read once and written once.
struct JobRows<'a> {
    connection: &'a Connection,
    rows: BTreeMap<&'a JobName, Row>,
}

#[derive(Default)]
struct Row {
    known: JobRow,
    /// How many runs were counted.
    added: i64,
}

impl<'a> JobRows<'a> {
    fn of(&mut self, job: &'a JobName) -> rusqlite::Result<&mut Row> {
        let entry = match self.rows.entry(job) {
            std::collections::btree_map::Entry::Occupied(entry) => return Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => entry,
        };
        let known = job_row(self.connection, job)?.unwrap_or_default();
        Ok(entry.insert(Row { known, added: 0 }))
    }

    fn write(&self) -> rusqlite::Result<()> {
        let mut write = self.connection.prepare_cached(
            "INSERT INTO jobs (job, record, unpruned) VALUES (?1, ?2, ?3)
             ON CONFLICT (job) DO UPDATE SET record = excluded.record, unpruned = unpruned + excluded.unpruned",
        )?;
        for (job, row) in &self.rows {
            write.execute(params![job.as_str(), to_json(&row.known)?, row.added])?;
        }
        Ok(())
    }
}

/// What became of a job so far.
pub(super) fn job_row(connection: &Connection, job: &JobName) -> rusqlite::Result<Option<JobRow>> {
    let mut read = connection.prepare_cached("SELECT record FROM jobs WHERE job = ?1")?;
    let record: Option<String> = read.query_row([job.as_str()], |row| row.get(0)).optional()?;
    Ok(record.and_then(|record| from_json(&record)))
}

/// The instant before which a run that is in progress was said to be so for the last time.
pub(super) fn stale_before(now: DateTime<Utc>) -> i64 {
    micros(now).saturating_sub(i64::try_from(OPEN_RUN_STALE.as_micros()).unwrap_or(i64::MAX))
}

fn to_json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(error.into()))
}

/// A run as it was recorded. Of one that ended in a way that only a newer version knows, the word for it is kept.
pub(super) fn run_from_json(text: &str) -> Option<RunRecord> {
    if let Some(run) = from_json(text) {
        return Some(run);
    }
    let mut record: Value = from_json(text)?;
    let word = record.get_mut("outcome")?.take();
    let mut run: RunRecord = serde_json::from_value(record).ok()?;
    run.unknown_outcome = Some(word.as_str()?.into());
    Some(run)
}

/// What another program wrote, or a newer version, and this one cannot read, is left out.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use callsheet_actors::{NodeId, RunId};

    use super::*;

    #[test]
    fn a_run_that_ended_in_a_way_that_a_newer_version_knows_keeps_its_word() {
        let run = RunId::first_at("2026-03-01T10:00:00Z".parse().expect("an instant"));
        let mut known = RunRecord::new(JobName::new("job").expect("a name"), run, NodeId::numbered(1));
        known.outcome = Some(Outcome::Failed);
        let text = to_json(&known).expect("it is JSON");

        assert_eq!(run_from_json(&text).as_ref(), Some(&known));
        let newer = run_from_json(&text.replace("\"failed\"", "\"deferred\"")).expect("it is read");
        (known.outcome, known.unknown_outcome) = (None, Some("deferred".into()));
        assert_eq!(newer, known);
        assert_eq!(run_from_json("{}"), None);
    }
}

//! What is asked of the file.

use callsheet_actors::{
    JobName, Outcome, RunId,
    port::{
        AskGaps, Decision, DecisionPage, DecisionRecord, Decisions, Gaps, Holder, JobRecord, LastEnds,
        OperationPage, Operations, PageStart, RECORDS_DROPPED, RecordsOf, RunHistory, RunPage,
    },
};
use chrono::{DateTime, Days, Utc};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};
use serde::de::DeserializeOwned;

use super::{
    books::micros,
    write::{from_json, job_row, run_from_json, stale_before},
};

/// One more than a page has, to see whether there is a next one.
fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1
}

pub(super) fn runs(
    connection: &Connection,
    asked: &RunHistory,
    now: DateTime<Utc>,
) -> rusqlite::Result<RunPage> {
    // A condition that is not asked for is not there, so that each text has an index of its own.
    let mut text = "SELECT record, written_at FROM runs WHERE run >= :from AND run < :to".to_owned();
    let (job, outcome) = (asked.job.as_ref().map(JobName::as_str), asked.outcome.map(Outcome::as_str));
    // No run of a tick is asked for before its time, by clocks that agree within a day.
    let of_ticks = asked.fire_from.map(|from| from.checked_sub_days(Days::new(1)).unwrap_or(from));
    let from = asked.from.max(of_ticks);
    let from = from.map_or([0; 16], |from| *RunId::first_at(from).as_uuid().as_bytes());
    let to = asked.to.map(RunId::first_at).into_iter().chain(asked.before).min();
    // No run has the greatest id: it is none of a version.
    let to = to.map_or([u8::MAX; 16], |to| *to.as_uuid().as_bytes());
    let limit = one_more(asked.page_limit());
    let mut parameters: Vec<(&str, &dyn ToSql)> = vec![(":from", &from), (":to", &to), (":limit", &limit)];
    if let Some(job) = &job {
        text += " AND job = :job";
        parameters.push((":job", job));
    }
    if let Some(outcome) = &outcome {
        text += " AND outcome = :outcome";
        parameters.push((":outcome", outcome));
    }
    let (fire_from, fire_to) = (asked.fire_from.map(micros), asked.fire_to.map(micros));
    if fire_from.is_some() || fire_to.is_some() {
        text += " AND fire_time >= coalesce(:fire_from, fire_time) AND fire_time < coalesce(:fire_to, fire_time + 1)";
        parameters.extend([(":fire_from", &fire_from as &dyn ToSql), (":fire_to", &fire_to)]);
    }
    text += " ORDER BY run DESC LIMIT :limit";
    let mut read = connection.prepare_cached(&text)?;
    let stale = stale_before(now);
    let rows = read.query_map(&*parameters, |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    let mut runs = Vec::new();
    for row in rows {
        let (record, written_at) = row?;
        let Some(mut run) = run_from_json(&record) else { continue };
        run.is_stale = run.outcome.is_none()
            && run.unknown_outcome.is_none()
            && run.ended_at.is_none()
            && written_at < stale;
        runs.push(run);
    }
    Ok(RunPage::of(runs, asked.page_limit()))
}

pub(super) fn job(
    connection: &Connection,
    job: &JobName,
    now: DateTime<Utc>,
) -> rusqlite::Result<Option<JobRecord>> {
    let Some(row) = job_row(connection, job)? else { return Ok(None) };
    let mut record = row.record(job.clone());
    let mut pruned = connection.prepare_cached("SELECT pruned_to FROM jobs WHERE job = ?1")?;
    let pruned_to: Option<i64> = pruned.query_row([job.as_str()], |row| row.get(0))?;
    record.pruned_to = pruned_to.and_then(DateTime::from_timestamp_micros);
    let mut open = connection.prepare_cached(
        "SELECT record FROM runs WHERE job = ?1 AND outcome IS NULL AND written_at >= ?2 ORDER BY run DESC LIMIT 1",
    )?;
    let open = open.query_row((job.as_str(), stale_before(now)), |row| row.get::<_, String>(0)).optional()?;
    record.holder =
        open.and_then(|open| run_from_json(&open)).map(|open| Holder { run: open.run, node: open.node });
    Ok(Some(record))
}

/// How the runs of jobs ended last, of those of which something is known.
pub(super) fn last_ends(connection: &Connection, jobs: &[JobName]) -> rusqlite::Result<Vec<LastEnds>> {
    let known = jobs.iter().map(|job| Ok(job_row(connection, job)?.map(|row| row.last_ends(job.clone()))));
    known.filter_map(Result::transpose).collect()
}

/// What a page of decisions or operations is asked with.
struct TimedPage<'a> {
    job: Option<&'a str>,
    from: i64,
    to: i64,
    before: PageStart,
    limit: usize,
}

impl<'a> TimedPage<'a> {
    fn of(
        job: Option<&'a JobName>,
        (from, to): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
        before: Option<PageStart>,
        limit: usize,
    ) -> Self {
        Self {
            job: job.map(JobName::as_str),
            from: from.map_or(i64::MIN, micros),
            to: to.map_or(i64::MAX, micros),
            before: before.unwrap_or(PageStart { at: DateTime::<Utc>::MAX_UTC, nth: i64::MAX, backend: 0 }),
            limit,
        }
    }

    /// The rows of a text, which has the conditions of the page in the place of `{page}`.
    fn rows(&self, connection: &Connection, text: &str) -> rusqlite::Result<Vec<(PageStart, String)>> {
        const PAGE: &str =
            "at >= :from AND at < :to AND (at, nth) < (:at, :nth) ORDER BY at DESC, nth DESC LIMIT :limit";
        let mut read = connection.prepare_cached(&text.replace("{page}", PAGE))?;
        let (limit, at) = (one_more(self.limit), micros(self.before.at));
        let page = named_params! {
            ":from": self.from, ":to": self.to, ":at": at, ":nth": self.before.nth, ":limit": limit,
        };
        let start = |row: &Row<'_>| {
            let at = DateTime::from_timestamp_micros(row.get(0)?).unwrap_or_default();
            Ok((PageStart { at, nth: row.get(1)?, backend: 0 }, row.get(2)?))
        };
        match &self.job {
            None => read.query_map(page, start)?.collect(),
            Some(job) => {
                let mut parameters = page.to_vec();
                parameters.push((":job", job));
                read.query_map(&*parameters, start)?.collect()
            }
        }
    }

    /// The records of a page, how many more rows cannot be read, and where it ends if it is not the last.
    fn page<T: DeserializeOwned>(
        &self,
        mut rows: Vec<(PageStart, String)>,
    ) -> (Vec<T>, usize, Option<PageStart>) {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows.last().map(|(start, _)| *start).filter(|_| more);
        let records: Vec<T> = rows.iter().filter_map(|(_, record)| from_json(record)).collect();
        let unread = rows.len() - records.len();
        (records, unread, next)
    }
}

pub(super) fn decisions(connection: &Connection, asked: &Decisions) -> rusqlite::Result<DecisionPage> {
    let limit = asked.page_limit();
    let page = TimedPage::of(asked.job.as_ref(), (asked.from, asked.to), asked.before, limit);
    // Those about all jobs are about each.
    let text = match page.job {
        None => "SELECT at, nth, record FROM decisions WHERE {page}",
        Some(_) => {
            "SELECT * FROM (SELECT at, nth, record FROM decisions WHERE job = :job AND {page})
             UNION ALL SELECT * FROM (SELECT at, nth, record FROM decisions WHERE job = '' AND {page})
             ORDER BY at DESC, nth DESC LIMIT :limit"
        }
    };
    let rows = page.rows(connection, text)?;
    let mut answer = DecisionPage::default();
    (answer.decisions, answer.unread, answer.next) = page.page(rows);
    Ok(answer)
}

pub(super) fn operations(connection: &Connection, asked: &Operations) -> rusqlite::Result<OperationPage> {
    let limit = asked.page_limit();
    let page = TimedPage::of(asked.job.as_ref(), (asked.from, asked.to), asked.before, limit);
    let text = match page.job {
        None => "SELECT at, nth, record FROM operations WHERE {page}",
        Some(_) => "SELECT at, nth, record FROM operations WHERE job = :job AND {page}",
    };
    let rows = page.rows(connection, text)?;
    let mut answer = OperationPage::default();
    (answer.operations, answer.unread, answer.next) = page.page(rows);
    Ok(answer)
}

/// What is not there of a time.
pub(super) fn gaps(connection: &Connection, asked: &AskGaps) -> rusqlite::Result<Gaps> {
    // Of those without a job, of all jobs.
    let job = asked.job.as_ref().map_or("", JobName::as_str);
    let mut pruned = connection.prepare_cached("SELECT pruned_to FROM jobs WHERE job = ?1")?;
    let pruned_to: Option<Option<i64>> = match asked.of {
        RecordsOf::Runs => pruned.query_row([job], |row| row.get(0)).optional()?,
        RecordsOf::Decisions | RecordsOf::Operations => None,
    };
    let mut read = connection.prepare_cached(
        "SELECT record FROM decisions WHERE job = '' AND at >= ?1 AND reason = ?2 ORDER BY at",
    )?;
    let from = asked.from.map_or(i64::MIN, micros);
    let records = read.query_map((from, RECORDS_DROPPED), |row| row.get::<_, String>(0))?;
    let mut dropped = 0_u64;
    for record in records {
        let Some(DecisionRecord { decision, .. }) = from_json(&record?) else { continue };
        if let Decision::RecordsDropped { count, from, .. } = decision
            && asked.to.is_none_or(|to| from < to)
        {
            dropped = dropped.saturating_add(count);
        }
    }
    Ok(Gaps::new(pruned_to.flatten().and_then(DateTime::from_timestamp_micros), dropped))
}

//! The books: what became of every tick. Three sources that know nothing of each other are held against each other:
//!
//! * the instants at which the jobs are due, computed here from their periods;
//! * the database: the rows that the bodies wrote, the runs that were claimed, and every move of every cursor, which a
//!   trigger of this program's own writes down in the transaction that makes it;
//! * what the nodes said before they ended or died: why ticks were skipped, and which runs were lost.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use tokio_postgres::Client;

use super::{cluster::Said, node::JobPlan};

/// A tick: a job's name, and its fire time in microseconds since 1970.
type Tick = (String, i64);

/// What became of the ticks.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Ticks between the creation of the jobs and the last decision.
    pub(crate) due: usize,
    /// Rows that bodies wrote.
    pub(crate) started: usize,
    /// Ticks that do not run, by the reason that a node gave.
    pub(crate) skipped: BTreeMap<String, usize>,
    /// Ticks that were skipped by a node that died, or lost its session, before it could say so.
    pub(crate) unsaid: usize,
    /// Runs that are recorded as lost with their node.
    pub(crate) lost: usize,
    /// Runs and rows of bodies that a tick has beyond one.
    pub(crate) doubled: usize,
    /// Every promise that was broken, in words.
    pub(crate) broken: Vec<String>,
}

/// Makes the tables of the scheduler (`ddl`) and of the audit.
pub(crate) async fn prepare(client: &Client, ddl: &str, schema: &str) -> anyhow::Result<()> {
    client.batch_execute(ddl).await?;
    let own = format!(
        "
CREATE TABLE {schema}.bodies (
    job text NOT NULL,
    fire_time timestamptz,
    run text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE {schema}.moves (
    nth bigserial PRIMARY KEY,
    job text NOT NULL,
    moved_from timestamptz,
    moved_to timestamptz NOT NULL,
    run uuid,
    term bigint
);
CREATE FUNCTION {schema}.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.moves (job, moved_from, moved_to, run, term)
    SELECT NEW.name, OLD.cursor, NEW.cursor, NEW.cursor_run, epoch FROM {schema}.leader;
    RETURN NULL;
END $$;
CREATE TRIGGER created AFTER INSERT ON {schema}.names FOR EACH ROW
WHEN (NEW.cursor IS NOT NULL) EXECUTE FUNCTION {schema}.note();
CREATE TRIGGER moved AFTER UPDATE ON {schema}.names FOR EACH ROW
WHEN (OLD.cursor IS DISTINCT FROM NEW.cursor) EXECUTE FUNCTION {schema}.note();"
    );
    Ok(client.batch_execute(&own).await?)
}

/// A run as the store has it.
struct Claimed {
    tick: Option<Tick>,
    key: String,
    term: Option<i64>,
    claimed_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    outcome: Option<String>,
}

/// How a tick was decided: by a claim of itself, or with one of a later tick, or by a move of the cursor alone.
enum Decision {
    Claimed { run: String },
    Skipped { with: Option<String>, term: Option<i64> },
}

/// Holds everything against everything else, once all nodes have ended. Every tick up to `until` must be decided.
pub(crate) async fn audit(
    client: &Client,
    schema: &str,
    jobs: &[JobPlan],
    heard: &[(usize, Said)],
    until: DateTime<Utc>,
) -> anyhow::Result<Audit> {
    let mut audit = Audit::default();
    let runs = runs(client, schema).await?;
    let decisions = audit.decisions(client, schema, jobs, until).await?;
    audit.due = decisions.len();
    audit.check_runs(&runs, &decisions);
    audit.check_bodies(client, schema, &runs).await?;
    audit.check_skips(&runs, &decisions, heard);
    audit.check_lost(&runs, heard);
    Ok(audit)
}

async fn runs(client: &Client, schema: &str) -> anyhow::Result<BTreeMap<String, Claimed>> {
    let runs = format!(
        "SELECT run::text, job, key, term, fire_time, claimed_at, ended_at, outcome FROM {schema}.all_runs"
    );
    let run = |row: &tokio_postgres::Row| -> Result<_, tokio_postgres::Error> {
        let job: String = row.try_get("job")?;
        let fire_time: Option<DateTime<Utc>> = row.try_get("fire_time")?;
        let claimed = Claimed {
            tick: fire_time.map(|fire_time| (job, fire_time.timestamp_micros())),
            key: row.try_get("key")?,
            term: row.try_get("term")?,
            claimed_at: row.try_get("claimed_at")?,
            ended_at: row.try_get("ended_at")?,
            outcome: row.try_get("outcome")?,
        };
        Ok((row.try_get("run")?, claimed))
    };
    Ok(client.query(&runs, &[]).await?.iter().map(run).collect::<Result<_, _>>()?)
}

impl Audit {
    fn broken(&mut self, what: String) {
        self.broken.push(what);
    }

    /// Follows every cursor from the creation of its job on.
    async fn decisions(
        &mut self,
        client: &Client,
        schema: &str,
        jobs: &[JobPlan],
        until: DateTime<Utc>,
    ) -> anyhow::Result<BTreeMap<Tick, Decision>> {
        let moves =
            format!("SELECT job, moved_from, moved_to, run::text, term FROM {schema}.moves ORDER BY nth");
        let mut cursors: HashMap<String, i64> = HashMap::new();
        let mut decisions = BTreeMap::new();
        for row in client.query(&moves, &[]).await? {
            let job: String = row.try_get(0)?;
            let from: Option<DateTime<Utc>> = row.try_get(1)?;
            let to = row.try_get::<_, DateTime<Utc>>(2)?.timestamp_micros();
            let (run, term): (Option<String>, Option<i64>) = (row.try_get(3)?, row.try_get(4)?);
            let from = from.map(|from| from.timestamp_micros());
            let cursor = cursors.insert(job.clone(), to);
            if from != cursor || from.is_some_and(|from| to <= from) {
                self.broken(format!("the cursor of {job} jumped: {cursor:?}, then {from:?} to {to}"));
            }
            let (Some(from), Some(plan)) = (from, jobs.iter().find(|plan| plan.name == job)) else {
                continue;
            };
            let mut ticks: Vec<_> = due(plan, from, to).collect();
            if ticks.pop_if(|tick| *tick == to).is_none() {
                self.broken(format!("the cursor of {job} moved to {to}, which is no tick"));
            } else {
                let newest = match &run {
                    Some(run) => Decision::Claimed { run: run.clone() },
                    None => Decision::Skipped { with: None, term },
                };
                decisions.insert((job.clone(), to), newest);
            }
            let skipped = |tick| ((job.clone(), tick), Decision::Skipped { with: run.clone(), term });
            decisions.extend(ticks.into_iter().map(skipped));
        }
        for plan in jobs {
            let Some(cursor) = cursors.get(&plan.name) else {
                self.broken(format!("{} was never scheduled", plan.name));
                continue;
            };
            let open = due(plan, *cursor, until.timestamp_micros()).count();
            if open > 0 {
                self.broken(format!("{open} ticks of {} are not decided", plan.name));
            }
        }
        Ok(decisions)
    }

    /// One run per tick, each by a claim; terms one after the other; keys one run at a time.
    fn check_runs(&mut self, runs: &BTreeMap<String, Claimed>, decisions: &BTreeMap<Tick, Decision>) {
        let mut ticks = HashSet::new();
        let mut in_order: Vec<_> = runs.iter().collect();
        in_order.sort_by_key(|(_, run)| run.claimed_at);
        let mut newest_term = None;
        let mut free_at: HashMap<&str, DateTime<Utc>> = HashMap::new();
        for (id, run) in in_order {
            if let Some(tick) = &run.tick {
                if !ticks.insert(tick) {
                    self.doubled += 1;
                    self.broken(format!("{tick:?} has two runs"));
                }
                if !matches!(decisions.get(tick), Some(Decision::Claimed { run }) if run == id) {
                    self.broken(format!("run {id} of {tick:?} did not move the cursor"));
                }
                if run.term < newest_term {
                    self.broken(format!(
                        "run {id} was claimed in term {:?}, after {newest_term:?}",
                        run.term
                    ));
                }
                newest_term = run.term.max(newest_term);
            }
            if free_at.get(&*run.key).is_some_and(|free_at| run.claimed_at < *free_at) {
                self.broken(format!("run {id} was claimed while another one held the key {}", run.key));
            }
            match run.ended_at {
                Some(ended_at) => drop(free_at.insert(&run.key, ended_at)),
                None => self.broken(format!("run {id} of {:?} never ended", run.tick)),
            }
        }
    }

    /// One row per run, not before its time; only runs that are lost may lack theirs.
    async fn check_bodies(
        &mut self,
        client: &Client,
        schema: &str,
        runs: &BTreeMap<String, Claimed>,
    ) -> anyhow::Result<()> {
        let bodies =
            format!("SELECT job, fire_time, run, coalesce(at < fire_time, false) FROM {schema}.bodies");
        let mut ticks = HashSet::new();
        let mut written = HashSet::new();
        for row in client.query(&bodies, &[]).await? {
            let (job, run): (String, String) = (row.try_get(0)?, row.try_get(2)?);
            let fire_time: Option<DateTime<Utc>> = row.try_get(1)?;
            let tick = fire_time.map(|fire_time| (job, fire_time.timestamp_micros()));
            self.started += 1;
            if row.try_get(3)? {
                self.broken(format!("{tick:?} ran early"));
            }
            if runs.get(&run).is_none_or(|claimed| claimed.tick != tick) {
                self.broken(format!("{tick:?} ran as {run}, which was not claimed for it"));
            }
            if !written.insert(run) || tick.is_some_and(|tick| !ticks.insert(tick)) {
                self.doubled += 1;
                self.broken("a tick ran twice".to_owned());
            }
        }
        for (id, run) in runs.iter().filter(|(id, _)| !written.contains(*id)) {
            if run.outcome.as_deref() != Some("lost") {
                self.broken(format!("run {id} of {:?} left no row and is {:?}", run.tick, run.outcome));
            }
        }
        Ok(())
    }

    /// Each skipped tick was given a reason. Two cases are counted apart, where nobody was left to say it: the last ticks
    /// that a node decided before it died, after all that it had said of the job; and ticks that were skipped together
    /// with a claim whose answer was never read: the claimed run is lost, and nobody said that it started.
    fn check_skips(
        &mut self,
        runs: &BTreeMap<String, Claimed>,
        decisions: &BTreeMap<Tick, Decision>,
        heard: &[(usize, Said)],
    ) {
        let mut reasons: HashMap<(&str, i64), &str> = HashMap::new();
        let mut said_to_start = HashSet::new();
        let mut last_words: HashMap<(usize, &str), i64> = HashMap::new();
        for (node, said) in heard {
            said_to_start.extend(said.run.as_deref().filter(|_| said.event == "run_started"));
            let (Some(job), Some(fire_time)) = (&said.job, said.fire_time) else { continue };
            let newest = fire_time.timestamp_micros();
            let last = last_words.entry((*node, job)).or_default();
            *last = newest.max(*last);
            let (Some(reason), Some(count)) = (&said.reason, said.count) else { continue };
            // Ticks are said to be skipped up to the newest of them.
            let of_job = decisions.range((job.clone(), i64::MIN)..=(job.clone(), newest));
            let skipped = of_job.rev().take(usize::try_from(count).unwrap_or(usize::MAX));
            reasons.extend(skipped.map(|((job, tick), _)| ((job.as_str(), *tick), reason.as_str())));
        }
        let died = leaders_that_died(heard);
        for ((job, tick), decision) in decisions {
            let Decision::Skipped { with, term } = decision else { continue };
            let unread = with.as_ref().is_some_and(|run| {
                let lost = runs.get(run).is_some_and(|run| run.outcome.as_deref() == Some("lost"));
                lost && !said_to_start.contains(run.as_str())
            });
            let silenced = term.and_then(|term| died.get(&term)).is_some_and(|node| {
                last_words.get(&(*node, job.as_str())).is_none_or(|last_words| last_words < tick)
            });
            match reasons.get(&(job.as_str(), *tick)) {
                Some(reason) => *self.skipped.entry((*reason).to_owned()).or_default() += 1,
                None if unread || silenced => self.unsaid += 1,
                None => self.broken(format!("the tick {tick} of {job} was skipped, and nobody said why")),
            }
        }
    }

    /// Each lost run was said to be lost, once.
    fn check_lost(&mut self, runs: &BTreeMap<String, Claimed>, heard: &[(usize, Said)]) {
        let lost: Vec<_> =
            runs.iter().filter(|(_, run)| run.outcome.as_deref() == Some("lost")).map(|(id, _)| id).collect();
        let mut said: Vec<_> = heard
            .iter()
            .filter(|(_, said)| said.event == "run_lost")
            .filter_map(|(_, said)| said.run.as_ref())
            .collect();
        said.sort_unstable();
        if lost != said {
            self.broken(format!("{lost:?} are lost, {said:?} were said to be"));
        }
        self.lost = lost.len();
    }
}

/// The nodes that led and then died, by the terms in which they led.
fn leaders_that_died(heard: &[(usize, Said)]) -> HashMap<i64, usize> {
    let stopped: HashSet<_> =
        heard.iter().filter(|(_, said)| said.event == "shutdown_finished").map(|(node, _)| node).collect();
    let led = heard.iter().filter(|(_, said)| said.event == "leadership_gained");
    let died = led.filter(|(node, _)| !stopped.contains(node));
    died.filter_map(|(node, said)| Some((i64::try_from(said.term?.0).ok()?, *node))).collect()
}

/// The ticks of a job after `from`, up to and including `to`: the whole multiples of its period since 1970.
fn due(job: &JobPlan, from: i64, to: i64) -> impl Iterator<Item = i64> + use<> {
    let period = i64::try_from(job.period_ms * 1_000).unwrap_or(i64::MAX);
    (from.div_euclid(period) + 1..).map(move |nth| nth * period).take_while(move |tick| *tick <= to)
}

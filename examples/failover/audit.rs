//! What became of every tick. Three sources that know nothing of each other are held against each other:
//!
//! * the instants at which the jobs are due, computed here from their periods;
//! * the books: the rows that the bodies wrote, the runs that were claimed, and every move of every cursor;
//! * what the nodes said before they ended or died: why ticks were skipped, and which runs were lost.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::{
    history::{BodyMark, Books, Claimed, Said, Tick, id_of},
    node::JobPlan,
};

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
    /// Those of which nobody said so: whoever closed them died, or lost its session, before it could.
    pub(crate) lost_unsaid: Vec<String>,
    /// Runs and rows of bodies that a tick has beyond one.
    pub(crate) doubled: usize,
    /// Every promise that was broken, in words.
    pub(crate) broken: Vec<String>,
    /// What became of each tick: `started`, `lost` (claimed, without a row), `unsaid`, or the reason of a skip.
    pub(crate) ticks: BTreeMap<Tick, String>,
}

/// How a tick was decided: by a claim of itself, or with one of a later tick, or by a move of the cursor alone.
enum Decision {
    Claimed { run: String },
    Skipped { with: Option<String>, term: Option<i64> },
}

/// Holds everything against everything else, once all nodes have ended. Every tick up to `until` must be decided.
pub(crate) fn audit(
    jobs: &[JobPlan],
    books: &Books,
    bodies: &[BodyMark],
    heard: &[(usize, Said)],
    until: DateTime<Utc>,
) -> Audit {
    let mut audit = Audit::default();
    let runs: BTreeMap<&str, &Claimed> = books.runs.iter().map(|run| (run.run.as_str(), run)).collect();
    let decisions = audit.decisions(jobs, books, &runs, until);
    audit.due = decisions.len();
    audit.check_runs(&books.runs, &decisions);
    audit.check_bodies(bodies, &runs, heard);
    audit.check_skips(&runs, &decisions, heard);
    audit.check_lost(&runs, heard);
    audit
}

impl Audit {
    fn broken(&mut self, what: String) {
        self.broken.push(what);
    }

    /// Follows every cursor from the creation of its job on.
    fn decisions(
        &mut self,
        jobs: &[JobPlan],
        books: &Books,
        runs: &BTreeMap<&str, &Claimed>,
        until: DateTime<Utc>,
    ) -> BTreeMap<Tick, Decision> {
        let mut cursors: HashMap<&str, i64> = HashMap::new();
        let plans: HashMap<&str, &JobPlan> = jobs.iter().map(|plan| (plan.name.as_str(), plan)).collect();
        let mut decisions = BTreeMap::new();
        for one in &books.advances {
            let job = &one.job;
            let (from, to) = (one.from.map(|from| from.timestamp_micros()), one.to.timestamp_micros());
            let cursor = cursors.insert(job, to);
            if from != cursor || from.is_some_and(|from| to <= from) {
                self.broken(format!("the cursor of {job} jumped: {cursor:?}, then {from:?} to {to}"));
            }
            let claimed_in = one.run.as_deref().and_then(|run| runs.get(run)?.term);
            if claimed_in.is_some() && claimed_in != one.term {
                self.broken(format!("{job} was claimed in term {claimed_in:?} during term {:?}", one.term));
            }
            let (Some(from), Some(plan)) = (from, plans.get(job.as_str())) else {
                continue;
            };
            let mut ticks: Vec<_> = due(plan, from, to).collect();
            if ticks.pop_if(|tick| *tick == to).is_none() {
                self.broken(format!("the cursor of {job} moved to {to}, which is no tick"));
            } else {
                let newest = match &one.run {
                    Some(run) => Decision::Claimed { run: run.clone() },
                    None => Decision::Skipped { with: None, term: one.term },
                };
                decisions.insert((job.clone(), to), newest);
            }
            let skipped =
                |tick| ((job.clone(), tick), Decision::Skipped { with: one.run.clone(), term: one.term });
            decisions.extend(ticks.into_iter().map(skipped));
        }
        for plan in jobs {
            let Some(cursor) = cursors.get(plan.name.as_str()) else {
                self.broken(format!("{} was never scheduled", plan.name));
                continue;
            };
            let open = due(plan, *cursor, until.timestamp_micros()).count();
            if open > 0 {
                self.broken(format!("{open} ticks of {} are not decided", plan.name));
            }
        }
        decisions
    }

    /// One run per tick, each by a claim; terms one after the other; keys one run at a time, each with a greater token.
    fn check_runs(&mut self, runs: &[Claimed], decisions: &BTreeMap<Tick, Decision>) {
        let mut ticks = HashSet::new();
        let mut in_order: Vec<_> = runs.iter().collect();
        in_order.sort_by_key(|run| run.claimed_at);
        let mut newest_term = None;
        let mut free_at: HashMap<&str, DateTime<Utc>> = HashMap::new();
        let mut tokens: HashMap<&str, i64> = HashMap::new();
        for run in in_order {
            let id = &run.run;
            if let Some(tick) = run.tick() {
                if !matches!(decisions.get(&tick), Some(Decision::Claimed { run }) if run == id) {
                    self.broken(format!("run {id} of {tick:?} did not move the cursor"));
                }
                if run.term.is_some() && run.term < newest_term {
                    self.broken(format!(
                        "run {id} was claimed in term {:?}, after {newest_term:?}",
                        run.term
                    ));
                }
                newest_term = run.term.max(newest_term);
                if !ticks.insert(tick.clone()) {
                    self.doubled += 1;
                    self.broken(format!("{tick:?} has two runs"));
                }
            }
            if free_at.get(&*run.key).is_some_and(|free_at| run.claimed_at < *free_at) {
                self.broken(format!("run {id} was claimed while another one held the key {}", run.key));
            }
            if let Some(former) = tokens.insert(&run.key, run.token).filter(|former| *former >= run.token) {
                let (key, token) = (&run.key, run.token);
                self.broken(format!("the key {key} had the token {former}, then {token}"));
            }
            match run.ended_at {
                Some(ended_at) => drop(free_at.insert(&run.key, ended_at)),
                None => self.broken(format!("run {id} of {:?} never ended", run.tick())),
            }
        }
    }

    /// One row per run, not before its time; only runs that are lost may lack theirs, and those that were cancelled before their bodies
    /// began, as their nodes say.
    fn check_bodies(
        &mut self,
        bodies: &[BodyMark],
        runs: &BTreeMap<&str, &Claimed>,
        heard: &[(usize, Said)],
    ) {
        let mut ticks = HashSet::new();
        let mut written = HashSet::new();
        for body in bodies {
            let run = body.run.as_str();
            let tick = body.fire_time.map(|fire_time| (body.job.clone(), fire_time.timestamp_micros()));
            self.started += 1;
            if body.fire_time.is_some_and(|fire_time| body.started_at < fire_time) {
                self.broken(format!("{tick:?} ran early"));
            }
            let claimed = runs.get(run);
            if claimed.is_none_or(|claimed| claimed.tick() != tick) {
                self.broken(format!("{tick:?} ran as {run}, which was not claimed for it"));
            }
            if claimed.is_some_and(|claimed| (&claimed.key, claimed.token) != (&body.key, body.token)) {
                self.broken(format!("{tick:?} ran with another key or token than was claimed"));
            }
            let (by, id) = (claimed.and_then(|claimed| claimed.node.as_deref()), id_of(heard, body.node));
            if by.is_some() && id.is_some() && by != id {
                self.broken(format!("{tick:?} ran on node {}, and was claimed by {by:?}", body.node));
            }
            let succeeded = claimed.is_some_and(|claimed| claimed.outcome.as_deref() == Some("succeeded"));
            if succeeded && body.ended_at.is_none() {
                self.broken(format!("run {run} succeeded before its body ended"));
            }
            self.ticks.extend(tick.clone().map(|tick| (tick, "started".to_owned())));
            if !written.insert(run) || tick.clone().is_some_and(|tick| !ticks.insert(tick)) {
                self.doubled += 1;
                self.broken(format!("a tick ran twice: {tick:?} on node {}", body.node));
            }
        }
        let of_run = |said: &Said, id: &str| said.run.as_deref() == Some(id);
        for (id, run) in runs.iter().filter(|(id, _)| !written.contains(*id)) {
            self.ticks.extend(run.tick().map(|tick| (tick, "lost".to_owned())));
            let mut of_run = heard.iter().filter(|(_, said)| of_run(said, id));
            let is_cancelled = run.outcome.as_deref() == Some("cancelled")
                && of_run.any(|(_, said)| said.why.as_deref() == Some("not_started"));
            if !run.is_lost() && !is_cancelled {
                self.broken(format!("run {id} of {:?} left no row and is {:?}", run.tick(), run.outcome));
            }
        }
    }

    /// Each skipped tick was given a reason. Two cases are counted apart, where nobody was left to say it: the last ticks
    /// that a node decided before it died, after all that it had said of the job; and ticks that were skipped together
    /// with a claim whose answer was never read: the claimed run is lost, and nobody said that it started.
    fn check_skips(
        &mut self,
        runs: &BTreeMap<&str, &Claimed>,
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
        for (at, decision) in decisions {
            let (job, tick) = at;
            let Decision::Skipped { with, term } = decision else { continue };
            let unread = with.as_ref().is_some_and(|run| {
                runs.get(run.as_str()).is_some_and(|run| run.is_lost())
                    && !said_to_start.contains(run.as_str())
            });
            let silenced = term.and_then(|term| died.get(&term)).is_some_and(|node| {
                last_words.get(&(*node, job.as_str())).is_none_or(|last_words| last_words < tick)
            });
            match reasons.get(&(job.as_str(), *tick)) {
                Some(reason) => {
                    *self.skipped.entry((*reason).to_owned()).or_default() += 1;
                    self.ticks.insert(at.clone(), (*reason).to_owned());
                }
                None if unread || silenced => {
                    self.unsaid += 1;
                    self.ticks.insert(at.clone(), "unsaid".to_owned());
                }
                None => self.broken(format!("the tick {tick} of {job} was skipped, and nobody said why")),
            }
        }
    }

    /// Each lost run was said to be lost, once; of some nobody was left to say it.
    fn check_lost(&mut self, runs: &BTreeMap<&str, &Claimed>, heard: &[(usize, Said)]) {
        let lost: HashSet<_> =
            runs.values().filter(|run| run.is_lost()).map(|run| run.run.as_str()).collect();
        let said: Vec<_> = heard
            .iter()
            .filter(|(_, said)| said.event == "run_lost")
            .filter_map(|(_, said)| said.run.as_deref())
            .collect();
        let mut once = HashSet::new();
        for run in said {
            if !lost.contains(run) || !once.insert(run) {
                self.broken(format!("run {run} was said to be lost, and is not, or twice"));
            }
        }
        self.lost = lost.len();
        self.lost_unsaid = lost.difference(&once).map(|run| (*run).to_owned()).collect();
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
pub(crate) fn due(job: &JobPlan, from: i64, to: i64) -> impl Iterator<Item = i64> + use<> {
    let period = i64::try_from(job.period_ms * 1_000).unwrap_or(i64::MAX);
    (from.div_euclid(period) + 1..).map(move |nth| nth * period).take_while(move |tick| *tick <= to)
}

//! What became of every tick, where the store keeps no books that others can read. Three sources that know nothing of
//! each other are held against each other: the instants at which the jobs are due, computed here from their periods;
//! the marks that the bodies wrote; and what the nodes said before they ended or died.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    path::Path,
};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::{
    audit::{Audit, due},
    history::{BodyMark, ENDED, Said, Tick},
    node::JobPlan,
};

/// A tick that a node decided just before it died may be one that it never spoke of: what nobody runs is written down
/// at most once a second.
const UNSAID: TimeDelta = TimeDelta::milliseconds(2_500);

/// What is known of a cluster afterwards.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) jobs: Vec<JobPlan>,
    pub(crate) bodies: Vec<BodyMark>,
    pub(crate) heard: Vec<(usize, Said)>,
    /// Every tick after the first instant and up to the second is judged.
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
    /// When nodes did not reach the store.
    pub(crate) away: Vec<Away>,
    /// How long a node may take to hear that its session is gone.
    pub(crate) lease: TimeDelta,
    /// Keys and tokens hold for all nodes, and so does the word of a lost run. Otherwise each node has its own:
    /// a job that any node fires excludes nothing on other nodes, and whoever lost the lead cancels its runs, which end
    /// beside those of the next leader.
    pub(crate) keys: bool,
}

/// A time in which a node did not reach the store; `None`: all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Away {
    pub(crate) node: Option<usize>,
    /// It stood still, and did nothing either.
    pub(crate) asleep: bool,
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
}

impl Away {
    fn concerns(&self, node: usize) -> bool {
        self.node.is_none_or(|away| away == node)
    }
}

/// Reads what the bodies wrote.
pub(crate) fn read_marks(path: &Path) -> anyhow::Result<Vec<BodyMark>> {
    #[derive(Deserialize)]
    struct Mark {
        node: usize,
        job: String,
        key: String,
        run: String,
        token: i64,
        fire_time: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
        ended: bool,
    }
    let mut marks: Vec<BodyMark> = Vec::new();
    let mut open: HashMap<(String, i64), usize> = HashMap::new();
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        let mark: Mark = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let Mark { node, job, key, run, token, fire_time, at: started_at, ended } = mark;
        if ended {
            if let Some(nth) = open.remove(&(run, token)) {
                marks[nth].ended_at = Some(started_at);
            }
            continue;
        }
        open.insert((run.clone(), token), marks.len());
        marks.push(BodyMark { node, job, key, run, token, fire_time, started_at, ended_at: None });
    }
    marks.sort_by_key(|mark| mark.started_at);
    Ok(marks)
}

impl Known {
    /// Holds everything against everything else.
    pub(crate) fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        self.check_ticks(&mut audit);
        self.check_keys(&mut audit);
        self.check_lost(&mut audit);
        audit
    }

    /// Each tick ran once, or somebody said why not.
    fn check_ticks(&self, audit: &mut Audit) {
        let mut ran: BTreeMap<Tick, Vec<&BodyMark>> = BTreeMap::new();
        for body in &self.bodies {
            let Some(fire_time) = body.fire_time else { continue };
            if body.started_at < fire_time {
                audit.broken.push(format!("{} ran before it was due, at {fire_time}", body.job));
            }
            ran.entry((body.job.clone(), fire_time.timestamp_micros())).or_default().push(body);
        }
        let (skipped, lost) = (self.skipped(), self.said_of_ticks("run_lost"));
        let mut cancelled = self.cancelled();
        for job in &self.jobs {
            for at in due(job, self.from.timestamp_micros(), self.until.timestamp_micros()) {
                let tick = (job.name.clone(), at);
                audit.due += 1;
                let bodies = ran.get(&tick).map_or(0, Vec::len);
                audit.started += bodies;
                let what = if bodies > 0 {
                    if bodies > 1 {
                        audit.doubled += bodies - 1;
                        let nodes: Vec<_> = ran[&tick].iter().map(|body| body.node).collect();
                        audit.broken.push(format!("{tick:?} ran {bodies} times, on nodes {nodes:?}"));
                    }
                    "started".to_owned()
                } else if let Some(reason) = skipped.get(&tick) {
                    *audit.skipped.entry((*reason).to_owned()).or_default() += 1;
                    (*reason).to_owned()
                } else if lost.contains(&tick) {
                    "lost".to_owned()
                } else if let Some(cancelled) = cancelled.get_mut(job.name.as_str()).filter(|all| **all > 0) {
                    *cancelled -= 1;
                    *audit.skipped.entry("cancelled".to_owned()).or_default() += 1;
                    "cancelled".to_owned()
                } else if self.nobody_was_left(job, at) {
                    audit.unsaid += 1;
                    "unsaid".to_owned()
                } else if self.is_before_leader(job, at) {
                    *audit.skipped.entry("before the leader".to_owned()).or_default() += 1;
                    "before the leader".to_owned()
                } else {
                    audit.broken.push(format!("{tick:?} neither ran nor was skipped, and nobody said why"));
                    "missing".to_owned()
                };
                audit.ticks.insert(tick, what);
            }
        }
    }

    /// The reasons that nodes gave for ticks. Ticks are said to be skipped up to the newest of them.
    fn skipped(&self) -> BTreeMap<Tick, &str> {
        let mut reasons = BTreeMap::new();
        let jobs: HashMap<&str, &JobPlan> = self.jobs.iter().map(|job| (job.name.as_str(), job)).collect();
        for (_, said) in &self.heard {
            let (Some(job), Some(newest), Some(reason), Some(count)) =
                (said.job.as_deref(), said.fire_time, said.reason.as_deref(), said.count)
            else {
                continue;
            };
            let Some(plan) = jobs.get(job) else { continue };
            let period = i64::try_from(plan.period_ms * 1_000).unwrap_or(i64::MAX);
            for nth in 0..i64::try_from(count).unwrap_or(0) {
                reasons.insert((job.to_owned(), newest.timestamp_micros() - nth * period), reason);
            }
        }
        reasons
    }

    /// The ticks of which this was said.
    fn said_of_ticks(&self, event: &str) -> BTreeSet<Tick> {
        let of = |said: &Said| Some((said.job.clone()?, said.fire_time?.timestamp_micros()));
        self.heard.iter().filter(|(_, said)| said.event == event).filter_map(|(_, said)| of(said)).collect()
    }

    /// How many runs of each job were claimed and cancelled before their bodies began.
    fn cancelled(&self) -> HashMap<&str, usize> {
        let mut cancelled = HashMap::new();
        for (_, said) in &self.heard {
            if said.event == "run_cancelled"
                && said.why.as_deref() == Some("not_started")
                && let Some(job) = said.job.as_deref()
            {
                *cancelled.entry(job).or_default() += 1;
            }
        }
        cancelled
    }

    /// Whether a node that could have decided a tick died, or lost its way to the store, before it could say so: then
    /// it has said nothing of a later one.
    fn nobody_was_left(&self, job: &JobPlan, tick: i64) -> bool {
        let gone = |node: usize, since: DateTime<Utc>, at: DateTime<Utc>| {
            let within = (since - UNSAID).timestamp_micros()..=(at + UNSAID / 5).timestamp_micros();
            within.contains(&tick)
                && self.last_words(node, job, at) < tick
                && (job.any_node || self.led(node, at) || at - since > UNSAID)
        };
        let died = self.heard.iter().filter(|(node, said)| said.event == ENDED && self.died(*node));
        let mut died = died.map(|(node, said)| (*node, said.heard_at));
        let nodes: BTreeSet<usize> = self.heard.iter().map(|(node, _)| *node).collect();
        died.any(|(node, at)| self.spoke_until(node).is_some_and(|until| gone(node, until.min(at), at)))
            || self.away.iter().any(|away| {
                nodes
                    .iter()
                    .filter(|node| away.concerns(**node))
                    .any(|node| gone(*node, away.from, away.from))
            })
    }

    /// Up to when a node said what happened: on a busy machine it speaks late, and what it did not come to say dies
    /// with it, also whether it led. `None`: it never was there.
    fn spoke_until(&self, node: usize) -> Option<DateTime<Utc>> {
        // A report overtakes the events that wait for their listener.
        let is_event = |said: &Said| said.event != ENDED && said.counters.is_none();
        let of_node = self.heard.iter().filter(|(by, said)| *by == node && is_event(said));
        of_node.map(|(_, said)| said.at).max()
    }

    /// Whether the next leader got the job later than its tick. One that keeps what it knows in its memory knows
    /// nothing of the ticks before.
    fn is_before_leader(&self, job: &JobPlan, tick: i64) -> bool {
        if self.keys || job.any_node {
            return false;
        }
        let later = |said: &Said| said.at.timestamp_micros() > tick;
        let gained = self.heard.iter().filter(|(_, said)| said.event == "leadership_gained" && later(said));
        let Some((leader, _)) = gained.min_by_key(|(_, said)| said.at) else { return false };
        let is_added = |said: &Said| said.event == "job_added" && said.job.as_deref() == Some(&*job.name);
        self.heard.iter().any(|(node, said)| node == leader && is_added(said) && later(said))
    }

    fn died(&self, node: usize) -> bool {
        !self.heard.iter().any(|(by, said)| *by == node && said.event == "shutdown_finished")
    }

    /// The newest tick of a job of which a node had spoken by then.
    fn last_words(&self, node: usize, job: &JobPlan, by: DateTime<Utc>) -> i64 {
        let of_job = |said: &&(usize, Said)| {
            said.0 == node && said.1.job.as_deref() == Some(&*job.name) && said.1.heard_at <= by + UNSAID / 5
        };
        let times = self.heard.iter().filter(of_job).filter_map(|(_, said)| said.fire_time);
        times.map(|time| time.timestamp_micros()).max().unwrap_or(0)
    }

    /// Whether a node led, as far as it had said by then.
    fn led(&self, node: usize, by: DateTime<Utc>) -> bool {
        let of_node = |said: &&(usize, Said)| said.0 == node && said.1.heard_at <= by;
        let mut changes =
            self.heard.iter().filter(of_node).filter(|(_, said)| said.event.starts_with("leadership_"));
        changes
            .rfind(|(_, said)| said.event != "leadership_unavailable")
            .is_some_and(|(_, said)| said.event == "leadership_gained")
    }

    /// The bodies of a key run one after the other, each with a greater token. A run that is said to be lost may go on
    /// until its node hears of it, and one whose node stood still may begin late.
    fn check_keys(&self, audit: &mut Audit) {
        let lost = self.lost();
        let any_node: HashSet<&str> =
            self.jobs.iter().filter(|job| job.any_node).map(|job| job.name.as_str()).collect();
        // A key, and the node on which alone it holds.
        let key_of = |body: &'_ BodyMark| {
            let alone = !self.keys && any_node.contains(&*body.job);
            (body.key.clone(), alone.then_some(body.node))
        };
        let mut last: HashMap<_, (&BodyMark, DateTime<Utc>)> = HashMap::new();
        let mut newest = HashMap::new();
        let mut runs = HashSet::new();
        for body in &self.bodies {
            if !runs.insert((&body.run, body.token)) {
                audit.doubled += 1;
                audit.broken.push(format!("run {} has two bodies with one token", body.run));
            }
            let (key, place) = (&body.key, key_of(body));
            let end = self.end_of(body);
            if let Some((former, free_at)) = last.get(&place) {
                let is_lost = lost.contains(&*former.run);
                let allowed =
                    if is_lost || lost.contains(&*body.run) { self.lease } else { TimeDelta::zero() };
                // A lost run may go on for a while after its key was given away.
                let both = if is_lost {
                    self.awake(former.node, body.started_at, *free_at)
                } else {
                    self.awake(body.node, body.started_at, (*free_at).min(end))
                };
                if both > allowed {
                    let ms = both.num_milliseconds();
                    let (one, other) = (former.node, body.node);
                    let [of_one, of_other] = [former, body].map(|body| self.said_of(&body.run));
                    audit.broken.push(format!(
                        "two bodies of the key {key} at once for {ms} ms, on nodes {one} ({of_one}) and {other} \
                         ({of_other}), at {}, until {free_at}",
                        body.started_at
                    ));
                }
            }
            if last.get(&place).is_none_or(|(_, free_at)| *free_at < end) {
                last.insert(place.clone(), (body, end));
            }
            let newest = newest.entry(place).or_insert(i64::MIN);
            if body.token <= *newest && !lost.contains(&*body.run) {
                let token = body.token;
                audit
                    .broken
                    .push(format!("a body of the key {key} began with the token {token} after {newest}"));
            }
            *newest = body.token.max(*newest);
        }
    }

    /// The runs of which a node said that they are lost; without keys that hold for all nodes, also those that a node
    /// cancelled because it had lost the lead.
    fn lost(&self) -> HashSet<&str> {
        let is_lost = |said: &Said| match said.event.as_str() {
            "run_lost" => true,
            "lock_lost" => !self.keys,
            // Its body was over before the node heard that it had lost the lead.
            "run_cancelled" => !self.keys && said.why.as_deref() == Some("lock_lost"),
            _ => false,
        };
        let of_lost = self.heard.iter().filter(|(_, said)| is_lost(said));
        of_lost.filter_map(|(_, said)| said.run.as_deref()).collect()
    }

    /// What was said of a run, and when.
    fn said_of(&self, run: &str) -> String {
        let of_run = self.heard.iter().filter(|(_, said)| said.run.as_deref() == Some(run));
        let words = of_run.map(|(node, said)| {
            let why = said.why.as_deref().unwrap_or_default();
            format!("{} {why} by {node} at {}", said.event, said.heard_at.time())
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// When a body ended, at the latest: with its node, if it did not say so.
    fn end_of(&self, body: &BodyMark) -> DateTime<Utc> {
        let ended = || {
            let ended = self.heard.iter().find(|(node, said)| *node == body.node && said.event == ENDED);
            ended.map(|(_, said)| said.heard_at)
        };
        body.ended_at.or_else(ended).unwrap_or(self.until)
    }

    /// How much of the time between two instants a node had.
    fn awake(&self, node: usize, from: DateTime<Utc>, until: DateTime<Utc>) -> TimeDelta {
        let of_node = self.away.iter().filter(|away| away.asleep && away.node == Some(node));
        let asleep = of_node.map(|away| (away.until.min(until) - away.from.max(from)).max(TimeDelta::zero()));
        until - from - asleep.sum::<TimeDelta>()
    }

    /// Each lost run was said to be lost once.
    fn check_lost(&self, audit: &mut Audit) {
        let mut once = HashSet::new();
        for (_, said) in self.heard.iter().filter(|(_, said)| said.event == "run_lost") {
            let Some(run) = said.run.as_deref() else { continue };
            if !once.insert(run) {
                audit.broken.push(format!("run {run} was said to be lost twice"));
            }
        }
        audit.lost = once.len();
    }
}

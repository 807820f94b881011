//! Holds what is known of a cluster afterwards against what was promised: the books of every tick, as `audit`
//! of the example does, and what is to be seen from outside at every instant.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    audit::{Audit, audit},
    history::{BodyMark, Books, Claimed, Said},
    node::JobPlan,
    pace::{Load, Wait, slowness},
    stage::{Round, ended_at},
    watch::Sample,
};

/// How long a node waits for an answer of the store.
const CALL: TimeDelta = TimeDelta::seconds(callsheet::CALL_DEADLINE.as_secs().cast_signed());

/// Everything that is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) jobs: Vec<JobPlan>,
    pub(crate) lease: TimeDelta,
    pub(crate) books: Books,
    pub(crate) bodies: Vec<BodyMark>,
    pub(crate) heard: Vec<(usize, Said)>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) rounds: Vec<Round>,
    /// When nodes were stopped, and went on.
    pub(crate) standstills: Vec<Standstill>,
    /// What the machine kept everybody waiting for.
    pub(crate) waits: Vec<Wait>,
    /// How busy the machine was.
    pub(crate) loads: Vec<Load>,
    /// Every tick up to here is decided.
    pub(crate) until: DateTime<Utc>,
    /// When the harness began to stop the nodes.
    pub(crate) stopping_at: DateTime<Utc>,
}

/// A time in which a node did nothing, and heard nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standstill {
    pub(crate) node: usize,
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
}

/// What became of the ticks, and all that was broken.
pub(crate) struct Verdict {
    pub(crate) audit: Audit,
    pub(crate) broken: Vec<Broken>,
    /// The longest time without a run after which a node said that it is healthy, which one, and when.
    pub(crate) healthy_silence: Option<(TimeDelta, usize, DateTime<Utc>)>,
}

/// A promise that was broken, and when, if it was at an instant.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub(crate) at: Option<DateTime<Utc>>,
    pub(crate) what: String,
}

impl History {
    pub(crate) fn judge(&self) -> Verdict {
        let audit = audit(&self.jobs, &self.books, &self.bodies, &self.heard, self.until);
        let broken = audit.broken.iter().map(|what| Broken { at: None, what: what.clone() }).collect();
        let mut verdict = Verdict { audit, broken, healthy_silence: None };
        verdict.check_health(self);
        verdict.check_overlaps(self);
        verdict.check_owners(self);
        verdict.check_tokens(self);
        verdict.check_silence(self);
        verdict.check_holdings(self);
        verdict.check_processes(self);
        verdict.check_counters(self);
        verdict.check_recovery(self);
        verdict.check_lost(self);
        verdict.check_unasked(self);
        verdict
    }

    /// The longest time without a run of a job that fires all the time, from when a fault struck until the
    /// next one did: when it began, and how long it was.
    pub(crate) fn silence(&self, nth: usize) -> (DateTime<Utc>, TimeDelta) {
        let round = &self.rounds[nth];
        let until = round.recovered_at.unwrap_or(self.stopping_at);
        let mut last = self.starts().take_while(|start| *start <= round.struck_at).last();
        let mut longest = (round.struck_at, TimeDelta::zero());
        for start in self.starts().filter(|start| *start > round.struck_at).chain([until]) {
            let since = last.unwrap_or(round.struck_at);
            if start - since > longest.1 {
                longest = (since, start - since);
            }
            last = Some(start);
            if start >= until {
                break;
            }
        }
        longest
    }

    /// When runs of the first job started, in order: it is under election, and fires more often than any
    /// other.
    fn starts(&self) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        let first = self.jobs.first().map(|job| job.name.as_str());
        self.bodies.iter().filter(move |body| Some(body.job.as_str()) == first).map(|body| body.started_at)
    }

    /// For how long a node may say that it is healthy while nothing runs.
    ///
    /// A leader says that all is decided while what it asks was not answered yet, for as long as its session
    /// lives without an answer: eight tenths of a lease. Two leases and the time of a call after somebody said
    /// so last nobody is healthy, whoever leads then. A node whose proofs fail is unhealthy before: the next
    /// one begins nine tenths of a lease after the last one that was answered, fails within the time of a
    /// call, and what fails for longer than a lease makes it unhealthy. The last run may have been a period
    /// before, and it is asked on the next turn.
    fn health_bound(&self) -> TimeDelta {
        let unanswered = self.lease * 4 / 5;
        self.lease * 2 + unanswered + CALL + TimeDelta::milliseconds(250)
    }

    /// Whether something was done to the cluster at an instant, and not all was well again.
    fn was_struck(&self, at: DateTime<Utc>) -> bool {
        self.rounds
            .iter()
            .any(|round| round.struck_at <= at && at <= round.recovered_at.unwrap_or(self.stopping_at))
    }

    /// How long a node may take to hear that its session is gone. Its own trust ends after eight tenths of a
    /// lease; the rest is for what it does then.
    fn hears_within(&self) -> TimeDelta {
        self.lease
    }

    fn runs(&self) -> HashMap<&str, &Claimed> {
        self.books.runs.iter().map(|run| (run.run.as_str(), run)).collect()
    }

    /// When a body ended, at the latest: with its node, if it did not say so. A body that is dropped when its
    /// run is cancelled says nothing, and its end is recorded afterwards.
    fn end_of(&self, body: &BodyMark, runs: &HashMap<&str, &Claimed>) -> DateTime<Utc> {
        let run = || runs.get(body.run.as_str());
        let dropped = || run().filter(|run| run.outcome.as_deref() == Some("cancelled"))?.ended_at;
        let ended = body.ended_at.or_else(dropped).or_else(|| ended_at(&self.heard, body.node));
        ended.unwrap_or(self.stopping_at)
    }

    /// How much of the time between two instants a node had: not what it stood still, nor what the machine
    /// kept it waiting.
    fn awake(&self, node: usize, from: DateTime<Utc>, until: DateTime<Utc>) -> TimeDelta {
        let of_node = self.standstills.iter().filter(|standstill| standstill.node == node);
        let asleep = of_node.map(|it| Wait { from: it.from, until: it.until }.within(from, until));
        until - from - asleep.sum::<TimeDelta>() - self.kept_waiting(from, until)
    }

    /// What it cost that the machine kept everybody waiting between two instants. Whoever waits for longer
    /// than the margin of a lease may lose its term or its session, and begins again: that costs another
    /// lease.
    fn cost_of_waiting(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> TimeDelta {
        let mut cost = self.kept_waiting(from, until);
        let mut since = from;
        while since < until {
            let lease = self.kept_waiting(since, since + self.lease);
            if lease > self.lease / 5 {
                cost += self.lease;
            }
            since += self.lease;
        }
        cost
    }

    /// For how long the machine kept everybody waiting between two instants.
    pub(crate) fn kept_waiting(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> TimeDelta {
        // They are in order, and do not overlap.
        let first = self.waits.partition_point(|wait| wait.until <= from);
        self.waits[first..]
            .iter()
            .take_while(|wait| wait.from < until)
            .map(|wait| wait.within(from, until))
            .sum()
    }
}

impl Verdict {
    pub(super) fn broken(&mut self, at: impl Into<Option<DateTime<Utc>>>, what: String) {
        self.broken.push(Broken { at: at.into(), what });
    }

    /// Nobody is healthy while nothing runs.
    fn check_health(&mut self, history: &History) {
        let starts: BTreeSet<_> = history.starts().collect();
        let bound = history.health_bound();
        let mut unwell: HashMap<usize, DateTime<Utc>> = HashMap::new();
        let mut said: HashMap<usize, DateTime<Utc>> = HashMap::new();
        let mut heard: HashMap<usize, DateTime<Utc>> = HashMap::new();
        for (node, report) in history.heard.iter().filter(|(_, said)| said.event == "health") {
            // It is about the instant of the question.
            let at = report.heard_at - TimeDelta::milliseconds(report.waited_ms.unwrap_or(0));
            let former = heard.insert(*node, report.heard_at);
            // What a node found out before it stood still it says when it goes on.
            let is_old = history.standstills.iter().any(|it| {
                it.node == *node
                    && it.until <= report.heard_at
                    && former.is_none_or(|former| former < it.until)
            });
            if report.healthy == Some(false) {
                unwell.insert(*node, at);
            }
            // What it said of one cause of the silence need not hold for the next one.
            let last = starts.range(..=at).next_back().copied().max(unwell.get(node).copied());
            let Some(last) = last.filter(|_| report.healthy == Some(true) && !is_old) else { continue };
            if at >= history.stopping_at {
                continue;
            }
            let silence = history.awake(*node, last, at);
            self.healthy_silence = self.healthy_silence.max(Some((silence, *node, at)));
            // Once for each time that it lasts.
            if silence > bound
                && said.insert(*node, at).is_none_or(|former| at - former > TimeDelta::seconds(2))
            {
                let ms = silence.num_milliseconds();
                self.broken(at, format!("node {node} was healthy after {ms} ms without a run"));
            }
        }
    }

    /// One body at a time per key; of a lost run and its successor for as long as a node may take to see that
    /// it lost it. The lost one may be the later of the two: its node stood still between the grant and the
    /// body.
    fn check_overlaps(&mut self, history: &History) {
        let runs = history.runs();
        let lost_at = |body: &BodyMark| {
            runs.get(body.run.as_str()).filter(|run| run.is_lost()).and_then(|run| run.ended_at)
        };
        let mut last: HashMap<&str, (&BodyMark, DateTime<Utc>)> = HashMap::new();
        let mut bodies: Vec<_> = history.bodies.iter().collect();
        bodies.sort_by_key(|body| body.started_at);
        for body in bodies {
            let end = history.end_of(body, &runs);
            if let Some((former, free_at)) = last.get(body.key.as_str()) {
                let is_lost = lost_at(former).is_some();
                // A lost run may go on for a while after its key was given away.
                let (over, allowed) = if is_lost {
                    (*free_at, history.hears_within())
                } else {
                    (*free_at.min(&end), TimeDelta::zero())
                };
                let both = over - body.started_at;
                let awake = if is_lost { history.awake(former.node, body.started_at, over) } else { both };
                let came_late =
                    lost_at(body).filter(|lost_at| *lost_at <= body.started_at).is_some_and(|lost_at| {
                        history.awake(body.node, lost_at, over.min(end)) <= history.hears_within()
                    });
                if awake > allowed && !came_late {
                    let (key, ms) = (&body.key, both.num_milliseconds());
                    let of = |body: &BodyMark| {
                        let outcome = runs.get(body.run.as_str()).and_then(|run| run.outcome.as_deref());
                        format!("run {} of node {} ({outcome:?})", body.run, body.node)
                    };
                    let (first, second) = (of(former), of(body));
                    self.broken(
                        body.started_at,
                        format!("two bodies of the key {key} at once for {ms} ms: {first}, {second}"),
                    );
                }
            }
            if last.get(body.key.as_str()).is_none_or(|(_, free_at)| *free_at < end) {
                last.insert(&body.key, (body, end));
            }
        }
    }

    /// A run is lost while its body goes on only if its node hears of it: nobody takes a key from a session
    /// that lives. Who stands still cannot be told, and may end a body that is due in the moment in which it
    /// goes on.
    fn check_owners(&mut self, history: &History) {
        let told: BTreeSet<_> = history
            .heard
            .iter()
            .filter(|(_, said)| said.event == "lock_lost")
            .filter_map(|(node, said)| Some((*node, said.run.as_deref()?)))
            .collect();
        let bodies: HashMap<&str, &BodyMark> =
            history.bodies.iter().map(|body| (body.run.as_str(), body)).collect();
        let runs = history.runs();
        for run in history.books.runs.iter().filter(|run| run.is_lost()) {
            let (Some(body), Some(closed_at)) = (bodies.get(run.run.as_str()), run.ended_at) else {
                continue;
            };
            // Of a node that died, its end is known from outside, a moment later.
            let allowed =
                if history.was_struck(closed_at) { history.hears_within() } else { TimeDelta::zero() };
            let goes_on = history.awake(body.node, closed_at, history.end_of(body, &runs)) > allowed;
            if goes_on && !told.contains(&(body.node, run.run.as_str())) {
                let (node, key) = (body.node, &run.key);
                let ms = |at: DateTime<Utc>| (at - body.started_at).num_milliseconds();
                let (closed, ended) = (ms(closed_at), body.ended_at.map(ms));
                let heard = history.heard.iter().filter(|(_, said)| said.run.as_ref() == Some(&run.run));
                let heard: Vec<_> = heard
                    .map(|(by, said)| format!("{} by {by} after {} ms", said.event, ms(said.heard_at)))
                    .collect();
                self.broken(
                    closed_at,
                    format!(
                        "node {node} was not told that it lost the key {key}: closed after {closed} ms, ended after {ended:?} ms; {heard:?}"
                    ),
                );
            }
        }
    }

    /// Bodies begin in the order of their tokens, but for those of runs that were closed as lost before they
    /// began: their nodes were granted them, and had not heard of it yet.
    fn check_tokens(&mut self, history: &History) {
        let runs = history.runs();
        let mut newest: HashMap<&str, i64> = HashMap::new();
        let mut bodies: Vec<_> = history.bodies.iter().collect();
        bodies.sort_by_key(|body| body.started_at);
        for body in bodies {
            let newest = newest.entry(&body.key).or_insert(body.token);
            let at = body.started_at;
            let closed_at =
                runs.get(body.run.as_str()).filter(|run| run.is_lost()).and_then(|run| run.ended_at);
            let late = closed_at.map(|closed_at| history.awake(body.node, closed_at, at));
            if body.token < *newest && late.is_none_or(|late| late > history.hears_within()) {
                let (key, token) = (&body.key, body.token);
                self.broken(
                    at,
                    format!("a body of the key {key} began with the token {token} after {newest}"),
                );
            }
            *newest = body.token.max(*newest);
        }
    }

    /// No fault stops everything for longer than it may.
    fn check_silence(&mut self, history: &History) {
        for (nth, round) in history.rounds.iter().enumerate().filter(|(_, round)| round.not_run.is_none()) {
            let ((since, silence), lasted) = (history.silence(nth), round.healed_at - round.struck_at);
            let slowness = slowness(&history.loads, since, since + silence);
            let bound = round.fault.silence_max(history.lease, lasted, slowness);
            let waited = history.cost_of_waiting(since, since + silence);
            if silence - waited > bound {
                let [ms, bound, waited] =
                    [silence, bound, waited].map(|time| TimeDelta::num_milliseconds(&time));
                self.broken(
                    round.struck_at,
                    format!(
                        "{}: nothing ran for {ms} ms, {bound} at most, {waited} of them the machine's",
                        round.fault
                    ),
                );
            }
        }
    }

    /// Each lost run was said to be lost, unless whoever closed it may have been struck at the same time.
    fn check_lost(&mut self, history: &History) {
        for run in self.audit.lost_unsaid.clone() {
            let closed = history.books.runs.iter().find(|one| one.run == run).and_then(|run| run.ended_at);
            if !closed.is_some_and(|closed| history.was_struck(closed)) {
                self.broken(closed, format!("the run was lost in silence: {run}"));
            }
        }
    }

    /// Nobody pauses a job, nor cancels a run: whoever says so believed a stranger.
    fn check_unasked(&mut self, history: &History) {
        for (node, said) in &history.heard {
            let cancelled = matches!(said.why.as_deref(), Some("requested" | "replaced"));
            if matches!(&*said.event, "job_paused" | "job_resumed")
                || (said.event == "run_cancelled" && cancelled)
            {
                let event = &said.event;
                self.broken(said.heard_at, format!("node {node} said {event}, and nobody asked for it"));
            }
        }
    }

    /// Everything is as before once a fault is over.
    fn check_recovery(&mut self, history: &History) {
        for round in history.rounds.iter().filter(|round| round.recovered_at.is_none()) {
            self.broken(round.healed_at, format!("{}: not all was well again", round.fault));
        }
    }
}

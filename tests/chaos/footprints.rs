//! What nodes take, and what they say: connections, locks, memory and counters, held against what is
//! promised.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    auditor::{History, Verdict},
    history::{Claimed, Said, id_of},
};

/// Connections that coordinate, and advisory locks, of a node.
const CONNECTIONS_MAX: i64 = 2;
const LOCKS_MAX: i64 = 2;
/// The most connections at any instant: those of a session that is lost and not ended yet, those of the next
/// one, and the one that only terminates.
const CONNECTIONS_AT_ONCE_MAX: i64 = 5;
/// How much more memory, and how many more descriptors, a node may have in its last samples than in its first
/// ones.
const MEMORY_GROWTH_MAX: u64 = 64 << 20;
const DESCRIPTORS_GROWTH_MAX: usize = 32;
/// The server ends a session a lease after it heard of it last. It is looked at four times a second, and the
/// look takes its time.
const LOOKED_LATE: TimeDelta = TimeDelta::milliseconds(500);
/// A node is itself only some time after it has started.
const SETTLED_AFTER: TimeDelta = TimeDelta::seconds(5);

impl Verdict {
    /// Few connections and locks per node, whatever is done to it.
    pub(super) fn check_holdings(&mut self, history: &History) {
        let held = history.lease + LOOKED_LATE;
        let mut since: BTreeMap<&str, DateTime<Utc>> = BTreeMap::new();
        for sample in &history.samples {
            let mut over = BTreeSet::new();
            for holding in &sample.holdings {
                let (node, connections, locks) = (&holding.node, holding.connections, holding.locks);
                if connections > CONNECTIONS_AT_ONCE_MAX {
                    self.broken(sample.at, format!("node {node} had {connections} connections"));
                }
                if connections > CONNECTIONS_MAX || locks > LOCKS_MAX {
                    over.insert(node.as_str());
                    let first = since.entry(node).or_insert(sample.at);
                    let lasts = sample.at - *first;
                    if lasts - history.kept_waiting(*first, sample.at) > held {
                        let ms = lasts.num_milliseconds();
                        *first = sample.at;
                        self.broken(
                            sample.at,
                            format!(
                                "node {node} had {connections} connections and {locks} locks for {ms} ms"
                            ),
                        );
                    }
                }
            }
            since.retain(|node, _| over.contains(node));
        }
    }

    /// What a process takes does not grow with the faults.
    pub(super) fn check_processes(&mut self, history: &History) {
        let mut first_seen: BTreeMap<usize, DateTime<Utc>> = BTreeMap::new();
        let mut seen: BTreeMap<usize, Vec<(u64, usize)>> = BTreeMap::new();
        for sample in &history.samples {
            for one in &sample.processes {
                let first = first_seen.entry(one.node).or_insert(sample.at);
                if sample.at - *first > SETTLED_AFTER {
                    seen.entry(one.node).or_default().push((one.memory, one.descriptors));
                }
            }
        }
        for (node, all) in seen {
            let (Some(first), Some(last)) = (all.first(), all.last()) else { continue };
            let descriptors = last.1.saturating_sub(first.1);
            if last.0 > first.0 + MEMORY_GROWTH_MAX || descriptors > DESCRIPTORS_GROWTH_MAX {
                self.broken(
                    None,
                    format!("node {node} grew from {first:?} to {last:?} (bytes, descriptors)"),
                );
            }
        }
    }

    /// What a node has counted, once it has ended in order, is what became of its ticks, and what its bodies
    /// wrote.
    pub(super) fn check_counters(&mut self, history: &History) {
        for (node, said) in history.heard.iter().filter(|(_, said)| said.event == "counted") {
            let Some(counters) = &said.counters else { continue };
            let sum = |prefix: &str| -> u64 {
                let of_kind = counters.iter().filter(|(name, _)| name.starts_with(prefix));
                of_kind.map(|(_, count)| count).sum()
            };
            let (due, ticks) = (sum("callsheet_ticks_due_total"), sum("callsheet_ticks_total"));
            if due != ticks {
                self.broken(
                    said.heard_at,
                    format!("node {node} counted {due} due ticks, and {ticks} decisions"),
                );
            }
            let bodies: BTreeSet<_> = history.bodies.iter().map(|body| body.run.as_str()).collect();
            let id = id_of(&history.heard, *node);
            let own = |run: &&Claimed| {
                !bodies.contains(run.run.as_str()) && run.node.as_deref() == id && run.fire_time.is_some()
            };
            let without: Vec<_> = history.books.runs.iter().filter(own).collect();
            // What it was granted, and lost before the body began, is a tick that was started: it said so.
            let said_so = |run: &&&Claimed| {
                let of_run = |said: &Said| said.run.as_ref() == Some(&run.run);
                let mut heard = history.heard.iter().filter(|(by, said)| by == node && of_run(said));
                heard.any(|(_, said)| said.event == "lock_lost" || said.why.as_deref() == Some("not_started"))
            };
            let least = without.iter().filter(said_so).count() as u64;
            // The answer to another claim was lost: it counts the tick once it knows that it was granted.
            let most = without.len() as u64;
            let started = sum("callsheet_ticks_total started");
            let wrote = history.bodies.iter().filter(|body| body.node == *node).count() as u64;
            if !(wrote + least..=wrote + most).contains(&started) {
                self.broken(
                    said.heard_at,
                    format!(
                        "node {node} counted {started} runs, its bodies wrote {wrote}, and {least} to {most} had none"
                    ),
                );
            }
        }
    }
}

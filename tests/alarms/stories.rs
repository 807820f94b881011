//! Random stories: whatever goes wrong, a due tick that is neither run nor skipped by a policy within its time is
//! said by every node that has the job, and nothing else is.

use callsheet::CATCH_UP_PER_SECOND_DEFAULT;

use super::*;

/// A small generator of numbers, the same for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// How long a tick may wait.
const WITHIN: i64 = 20;
/// How much later a node may notice it.
const NOTICED_WITHIN: i64 = 2;
/// So many other jobs miss ticks in the same gaps.
const OTHERS: usize = 15;

/// From when to when a tick waited for longer than it may, by what the nodes said of runs and skips: seconds
/// after the start of the story.
fn silences(rig: &Rig, start: DateTime<Utc>, end: i64) -> Vec<(i64, i64)> {
    let seconds = |at: DateTime<Utc>| (at - start).num_seconds();
    let mut decided: Vec<(i64, i64)> = Vec::new();
    for recorded in rig.events() {
        let tick = match recorded.event.kind {
            EventKind::RunStarted { fire_time: Some(tick), ref job, .. }
            | EventKind::TickSkipped { fire_time: tick, ref job, .. }
                if job.as_str() == "ledger" =>
            {
                tick
            }
            _ => continue,
        };
        decided.push((seconds(tick.instant()), seconds(recorded.event.at)));
    }
    let mut silences: Vec<(i64, i64)> = Vec::new();
    for tick in (10..end).step_by(10) {
        let at = decided.iter().filter(|(newest, _)| *newest >= tick).map(|(_, at)| *at).min().unwrap_or(end);
        // Instants are cut to seconds: one of this length may be a little longer.
        if at - tick >= WITHIN {
            match silences.last_mut() {
                Some((_, until)) if *until >= tick + WITHIN => *until = (*until).max(at),
                _ => silences.push((tick + WITHIN, at)),
            }
        }
    }
    silences
}

async fn break_something(rig: &mut Rig, numbers: &mut Numbers, nodes: [usize; 2]) {
    let time = secs(numbers.below(90) + 1);
    match numbers.below(5) {
        0 => {
            rig.set_deaf("ledger", true);
            rig.advance(time).await;
            rig.set_deaf("ledger", false);
            for node in nodes {
                rig.send(node, UpdateJob::new(ledger())).await.expect("it is there");
            }
        }
        1 => {
            rig.store().set_locked("ledger", true);
            rig.advance(time).await;
            rig.store().set_locked("ledger", false);
        }
        2 => {
            nodes.iter().for_each(|node| rig.cut_off(*node));
            rig.advance(time).await;
            nodes.iter().for_each(|node| rig.reconnect(*node));
        }
        3 => {
            rig.store().refuse([callsheet::Operation::Claim], "no right to claim");
            rig.advance(time).await;
            rig.store().refuse_nothing();
        }
        _ => {
            if let Some(leader) = rig.leader() {
                rig.end_session(leader);
            }
            rig.advance(time).await;
        }
    }
}

#[test]
fn each_silence_is_said_and_nothing_else() {
    let heard: usize = (0..24).map(|seed| story(seed, None)).sum();
    assert!(heard > 20, "the stories are silent enough: {heard}");
}

/// What is missed is made up for at one tick a second: a tick that waits for its turn is said when it should have had
/// it.
#[test]
fn each_silence_is_said_beside_others_that_wait_for_their_turns_and_nothing_else() {
    let heard: usize = (100..112).map(|seed| story(seed, Some(1))).sum();
    assert!(heard > 10, "the stories are silent enough: {heard}");
}

/// Tells a story, of nodes with a pace or without one. Answers how many silences it had.
fn story(seed: u64, pace: Option<u32>) -> usize {
    let mut heard = 0;
    let noticed_within = NOTICED_WITHIN + pace.map_or(0, |_| OTHERS as i64 + 2);
    simulate(START, async |rig| {
        rig.set_lease(secs(LEASE));
        let mut numbers = Numbers(seed);
        let start = rig.now();
        let history = Arc::new(SharedHistory::default());
        let other = |nth| Job::new(format!("other-{nth}"), every(secs(10))).run(async |_| {});
        let others = || (0..pace.map_or(0, |_| OTHERS)).map(other);
        let node = || {
            let jobs = others().chain([ledger()]);
            let pace = pace.unwrap_or(CATCH_UP_PER_SECOND_DEFAULT);
            node_with(jobs).history(kept_in(&history)).catch_up_per_second(pace)
        };
        let nodes = [rig.node(node()).await, rig.node(node()).await];
        rig.advance(secs(30)).await;
        for _ in 0..4 {
            break_something(rig, &mut numbers, nodes).await;
            rig.advance(secs(60 + numbers.below(30))).await;
        }

        let end = (rig.now() - start).num_seconds();
        let silences = silences(rig, start, end);
        let alarms: Vec<i64> = rig
            .events()
            .iter()
            .filter(|recorded| matches!(recorded.event.kind, EventKind::JobOverdue { .. }))
            .map(|recorded| (recorded.event.at - start).num_seconds())
            .collect();
        for (from, to) in &silences {
            let is_said = alarms.iter().any(|at| (*from..=*from + noticed_within).contains(at));
            assert!(
                is_said || to - from < 1 + noticed_within - NOTICED_WITHIN,
                "seed {seed}: {from} to {to}: {alarms:?}\n{}",
                rig.transcript()
            );
        }
        for at in &alarms {
            // A node that hears of the other's decisions hears of them within its bound.
            let is_silent = silences.iter().any(|(from, to)| (*from..=*to + 1).contains(at));
            assert!(is_silent, "seed {seed}: {at}: {silences:?}\n{}", rig.transcript());
        }
        heard += silences.len();
        for node in nodes {
            assert_eq!(overdue(rig, node).await, [], "seed {seed}");
        }
    });
    heard
}

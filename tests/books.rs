//! P3: each tick and each run is accounted for once, in the events, in the metrics and in the store, though replies are lost.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use callsheet::{
    CancelReason, EventKind, Job, Outcome, RemoveJobs, RunId, SkipReason, TriggerJob,
    schedule::every,
    testkit::{Fault, Node, Record, Rig, simulate},
};

use chrono::{DateTime, TimeZone, Utc};

mod common;
use common::{mins, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";
const PERIOD: Duration = Duration::from_millis(200);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A job that is due every 200 ms and takes 500 ms: two ticks of three overlap.
fn overlapping() -> Job {
    Job::new("job", every(PERIOD)).run(async |_| tokio::time::sleep(ms(500)).await)
}

/// A job that takes 5 s of each minute.
fn hourly() -> Job {
    Job::new("job", every(mins(60))).run(async |_| tokio::time::sleep(secs(5)).await)
}

/// The next call of a node goes wrong, then the server ends its session.
async fn loses(rig: &mut Rig, node: Node, fault: Fault) {
    let id = rig.id(node);
    rig.store().script(id, [fault]);
    rig.advance(ms(3)).await;
    rig.end_session(node);
}

/// Whatever is decided is counted once, by what became of it, and was said once.
fn assert_ticks_are_accounted_for(rig: &mut Rig) {
    let last = rig.store().records().into_iter().filter_map(|record| match record {
        Record::Moved { to, .. } => Some(to.instant()),
        _ => None,
    });
    let cursor = last.last().expect("ticks were decided");
    let since = cursor - START.parse::<DateTime<Utc>>().expect("an instant");
    let due = since.num_milliseconds().unsigned_abs() / 200;
    let mut said: BTreeMap<SkipReason, u64> = BTreeMap::new();
    let mut started_before = 0;
    for recorded in rig.events() {
        match recorded.event.kind {
            EventKind::RunStarted { fire_time: Some(at), .. } if at.instant() <= cursor => {
                started_before += 1;
            }
            EventKind::TickSkipped { fire_time, reason, count, .. } if fire_time.instant() <= cursor => {
                *said.entry(reason).or_default() += count;
            }
            _ => {}
        }
    }
    let counted = |rig: &mut Rig, outcome: &str| rig.counter("callsheet_ticks_total", outcome);
    assert_eq!(rig.counter("callsheet_ticks_due_total", ""), due, "{}", rig.transcript());
    assert_eq!(counted(rig, ""), due);
    for (reason, said) in said {
        assert_eq!(counted(rig, &format!("outcome={}", reason.as_str())), said, "{reason:?}");
    }
    // A claimed run whose reply was lost was never started.
    let never_started = counted(rig, "outcome=started") - started_before;
    assert_eq!(never_started, 1, "{}", rig.transcript());
}

#[test]
fn ticks_of_a_claim_whose_reply_is_lost_are_counted_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([overlapping()])).await;
        // Between the body that ends at 4.9 s and the tick at 5.0 s, which is claimed with two that were skipped.
        rig.advance(ms(4_999)).await;

        loses(rig, node, Fault::ReplyLost).await;
        rig.advance(secs(10)).await;
        rig.shutdown(node, secs(1)).await;

        assert_ticks_are_accounted_for(rig);
        assert_eq!(ends(rig).values().filter(|end| **end == [Outcome::Lost]).count(), 1);
    });
}

#[test]
fn ticks_of_a_claim_that_never_arrived_are_counted_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([overlapping()])).await;
        rig.advance(ms(4_999)).await;

        loses(rig, node, Fault::RequestLost).await;
        rig.advance(secs(10)).await;
        rig.shutdown(node, secs(1)).await;

        let due = rig.counter("callsheet_ticks_due_total", "");
        let started = rig.counter("callsheet_ticks_total", "outcome=started");
        assert_eq!(started, rig.started("job") as u64, "{}", rig.transcript());
        let said: u64 = rig.events().into_iter().fold(0, |said, recorded| match recorded.event.kind {
            EventKind::TickSkipped { count, .. } => said + count,
            _ => said,
        });
        assert!(due - started <= said, "{}", rig.transcript());
    });
}

/// How each run ended, as is said: that a body of a run is over that is lost is not its end.
fn ends(rig: &Rig) -> HashMap<RunId, Vec<Outcome>> {
    let mut ends: HashMap<_, Vec<_>> = HashMap::new();
    for recorded in rig.events() {
        let (run, outcome) = match recorded.event.kind {
            EventKind::RunSucceeded { run, .. } => (run, Outcome::Succeeded),
            EventKind::RunFailed { run, .. } => (run, Outcome::Failed),
            EventKind::RunLost { run, .. } => (run, Outcome::Lost),
            EventKind::RunCancelled { run, why, .. } if why != CancelReason::LockLost => {
                (run, Outcome::Cancelled)
            }
            _ => continue,
        };
        ends.entry(run).or_default().push(outcome);
    }
    ends
}

/// What is said, counted and kept of the ends of all runs is the same.
fn assert_ends_are_accounted_for(rig: &mut Rig) {
    let said = ends(rig);
    let kept = rig.store().records().into_iter().filter_map(|record| match record {
        Record::Closed { run, outcome } => Some((run, vec![outcome])),
        _ => None,
    });
    assert_eq!(said, kept.collect(), "{}", rig.transcript());
    for outcome in Outcome::ALL {
        let counted = rig.counter("callsheet_runs_total", &format!("outcome={}", outcome.as_str()));
        let said = said.values().filter(|ends| **ends == [outcome]).count() as u64;
        assert_eq!(counted, said, "{outcome}: {}", rig.transcript());
    }
}

#[test]
fn an_end_that_got_no_answer_is_one_end() {
    for (fault, outcome) in [(Fault::ReplyLost, Outcome::Succeeded), (Fault::RequestLost, Outcome::Lost)] {
        simulate(START, async |rig| {
            let node = rig.node(node_with([hourly()])).await;
            rig.advance(secs(1)).await;
            let run = rig.send(node, TriggerJob("job".to_owned())).await.expect("it starts");
            rig.advance(ms(4_998)).await;

            loses(rig, node, fault).await;
            // The run of the next hour closes it, if nobody did.
            rig.advance(mins(61)).await;

            assert_ends_are_accounted_for(rig);
            let id = run.run();
            assert_eq!(ends(rig)[&id], [outcome], "{fault:?}");
            assert_eq!(run.finished().await, outcome, "{fault:?}");
        });
    }
}

#[test]
fn a_body_that_ends_when_its_frozen_node_goes_on_is_no_end_of_a_lost_run() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let first = rig.node(node_with([hourly()])).await;
        let second = rig.node(node_with([hourly()])).await;
        rig.advance(mins(60) + secs(4)).await;
        assert_eq!(rig.leader(), Some(first));

        rig.freeze(first);
        rig.advance(mins(2)).await;
        assert_eq!(rig.leader(), Some(second));
        rig.thaw(first);
        rig.advance(mins(2)).await;

        assert_ends_are_accounted_for(rig);
        assert_eq!(ends(rig).into_values().collect::<Vec<_>>(), [[Outcome::Lost]]);
    });
}

/// Each tick up to now has started once, or was said to be skipped once.
fn assert_ticks_are_in_somebodys_hands(rig: &mut Rig, story: &str) {
    let start: DateTime<Utc> = START.parse().expect("an instant");
    let mut hands: BTreeMap<DateTime<Utc>, Vec<String>> = BTreeMap::new();
    for recorded in rig.events() {
        match recorded.event.kind {
            EventKind::RunStarted { fire_time: Some(at), .. } => {
                hands.entry(at.instant()).or_default().push("started".to_owned());
            }
            EventKind::TickSkipped { fire_time, reason, count, .. } => {
                for nth in 0..u32::try_from(count).expect("few") {
                    let at = fire_time.instant() - PERIOD * nth;
                    hands.entry(at).or_default().push(reason.as_str().to_owned());
                }
            }
            _ => {}
        }
    }
    let ticks = (1..).map(|nth| start + PERIOD * nth).take_while(|tick| *tick < rig.now());
    for tick in ticks {
        let held = hands.get(&tick).map_or(0, Vec::len);
        assert_eq!(held, 1, "{story}, {tick}: {:?}: {}", hands.get(&tick), rig.transcript());
    }
    let (due, decided) =
        (rig.counter("callsheet_ticks_due_total", ""), rig.counter("callsheet_ticks_total", ""));
    assert_eq!(due, decided, "{story}");
    assert!(hands.len() as u64 - due <= 3, "{story}: of {} ticks {due} are counted", hands.len());
}

/// A job that is due every 200 ms, and takes so long; one of the same ticks, but of another schedule.
fn due_often(takes: Duration, variant: u64) -> Job {
    let end = Utc.with_ymd_and_hms(2030, 1, 1, 0, 0, u32::try_from(variant % 2).expect("few")).unwrap();
    Job::new("job", every(PERIOD).until(end))
        .run_with(takes, async |_, takes| tokio::time::sleep(takes).await)
}

/// What is done to a job again and again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    RemovedAndAdded,
    RemovedAndAddedAsAnother,
    Updated,
}

#[test]
fn a_job_that_is_changed_in_a_loop_leaves_no_tick_in_nobodys_hands() {
    let changes = [Change::RemovedAndAdded, Change::RemovedAndAddedAsAnother, Change::Updated];
    for change in changes {
        for (on_leader, takes, every_ms) in [
            (true, 0, 270),
            (true, 0, 199),
            (true, 0, 7),
            (true, 500, 270),
            (true, 500, 1_700),
            (false, 0, 270),
            (false, 500, 270),
        ] {
            let story = format!("{change:?}, leader {on_leader}, {takes} ms, every {every_ms} ms");
            simulate(START, async |rig| {
                let leader = rig.node(node_with([due_often(ms(takes), 0)])).await;
                let follower = rig.node(node_with([due_often(ms(takes), 0)])).await;
                rig.advance(secs(2)).await;
                assert_eq!(rig.leader(), Some(leader));
                let node = if on_leader { leader } else { follower };
                // Those of the follower have the same ticks.
                for variant in 1..=(20_000 / every_ms).min(60) {
                    let variant = if on_leader && change != Change::RemovedAndAdded { variant } else { 0 };
                    if change == Change::Updated {
                        rig.update(node, due_often(ms(takes), variant)).await.expect("it is there");
                    } else {
                        rig.send(node, RemoveJobs("job".into())).await.expect("it is there");
                        rig.add(node, due_often(ms(takes), variant)).await.expect("it is not");
                    }
                    rig.advance(ms(every_ms)).await;
                }
                rig.advance(ms(2_401)).await;

                assert_ticks_are_in_somebodys_hands(rig, &story);
            });
        }
    }
}

#[test]
fn a_tick_while_a_job_was_removed_is_owed_by_nobody() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([due_often(ms(0), 0)])).await;
        rig.advance(ms(1_100)).await;

        rig.send(node, RemoveJobs("job".into())).await.expect("it is there");
        rig.advance(ms(500)).await;
        rig.add(node, due_often(ms(0), 0)).await.expect("it is not");
        rig.advance(ms(500)).await;

        assert_eq!(rig.started("job"), 5 + 2, "not at 1.2 s, 1.4 s and 1.6 s: {}", rig.transcript());
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 7);
    });
}

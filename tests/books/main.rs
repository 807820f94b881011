//! Nothing is lost silently: each tick and each run is accounted for once, in the events, in the metrics and
//! in the store, though replies are lost.

use callsheet::{
    CancelReason, EventKind, Fires, Job, Outcome, Overlap, RemoveJobs, RunId, SkipReason, TriggerJob,
    schedule::{Schedule, every},
    testkit::{CallFault, NodeIndex, Record, Rig, fakes::Period, simulate},
};
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

mod changes;
#[path = "../common/mod.rs"]
mod common;
mod ends;
mod replies;

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
async fn loses(rig: &mut Rig, node: NodeIndex, fault: CallFault) {
    let id = rig.id(node);
    rig.store().script(id, [fault]);
    rig.advance(ms(3)).await;
    rig.end_session(node);
}

/// What was said of ticks: how many started, and how many were skipped.
fn said_of_ticks(rig: &Rig) -> (u64, u64) {
    rig.events().into_iter().fold((0, 0), |(started, skipped), recorded| match recorded.event.kind {
        EventKind::RunStarted { fire_time: Some(_), attempt: 1, .. } => (started + 1, skipped),
        EventKind::TickSkipped { count, .. } => (started, skipped + count),
        _ => (started, skipped),
    })
}

/// Whatever was said is counted, and nothing else. For stories in which everything that was said is decided
/// at the end.
fn assert_all_that_was_said_is_counted(rig: &mut Rig) {
    let (started, skipped) = said_of_ticks(rig);
    assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), started, "{}", rig.transcript());
    assert_eq!(rig.counter("callsheet_ticks_total", ""), started + skipped, "{}", rig.transcript());
    assert_eq!(rig.counter("callsheet_ticks_due_total", ""), started + skipped, "{}", rig.transcript());
}

/// Whatever is decided is counted once, by what became of it, and was said once.
fn assert_ticks_are_accounted_for(rig: &mut Rig, claims_lost: u64) {
    let last = rig.store().records().into_iter().filter_map(|record| match record {
        Record::Advanced { to, .. } => Some(to.instant()),
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
    assert_eq!(never_started, claims_lost, "{}", rig.transcript());
}

/// A job that is due every 200 ms and takes so long that all ticks but the first overlap: the cursor is moved
/// over them each second.
fn endless() -> Job {
    due_often(secs(30), 0)
}

/// A job that is due every 200 ms, and takes so long; one of the same ticks, but of another schedule.
fn due_often(takes: Duration, variant: u64) -> Job {
    let end = Utc.with_ymd_and_hms(2030, 1, 1, 0, 0, u32::try_from(variant % 2).expect("few")).unwrap();
    Job::new("job", every(PERIOD).until(end))
        .run_with(takes, async |_, takes| tokio::time::sleep(takes).await)
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

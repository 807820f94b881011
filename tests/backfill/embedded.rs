//! On one node, without a server, in real time.

use callsheet::{Callsheet, EventFilter};
use chrono::TimeDelta;

use super::*;

#[tokio::test]
async fn an_embedded_scheduler_runs_a_backfill() {
    let seen = Seen::default();
    let jobs = Callsheet::builder().job(seen.job(Duration::ZERO)).start().await.expect("it starts");
    let mut events = jobs.events(EventFilter::new());
    let day = four_hours().again(true);

    assert_eq!(jobs.preview_backfill(day.clone()).await.expect("an answer").count, 4);
    let kept = jobs.by("alice").expect("a good name").backfill(day).await.expect("it is kept");
    let finished = async {
        while let Some(event) = events.next().await {
            if let EventKind::BackfillFinished { backfill, .. } = event.kind {
                return backfill;
            }
        }
        panic!("it runs");
    };
    let finished = tokio::time::timeout(secs(30), finished).await.expect("in time");

    assert_eq!(finished, kept.id);
    assert_eq!(seen.backfilled(), ["00:00", "01:00", "02:00", "03:00"]);
    let listed = jobs.backfills(Some(&kept.job)).await.expect("an answer");
    assert_eq!(
        listed.iter().map(|one| (one.id, one.state)).collect::<Vec<_>>(),
        [(kept.id, BackfillState::Finished)]
    );
    let error = jobs.cancel_backfill(kept.id).await.expect_err("it is over");
    assert_eq!(error.kind(), callsheet::ErrorKind::NotFound);
    jobs.shutdown(secs(5)).await;
}

#[tokio::test]
async fn two_that_are_asked_for_at_once_run_each_fire_time_once() {
    let seen = Seen::default();
    let jobs = Callsheet::builder().job(seen.job(Duration::ZERO)).start().await.expect("it starts");
    let to = Utc::now() - TimeDelta::hours(2);
    let last = |hours: i64| Backfill::new("job", to - TimeDelta::hours(hours), to);

    let (first, second) = tokio::join!(jobs.backfill(last(4)), jobs.backfill(last(6)));

    let kept: Vec<_> = [first, second].into_iter().flatten().collect();
    assert_eq!(kept.iter().map(|one| one.ticks).sum::<u32>(), 6, "{kept:?}");
    jobs.shutdown(secs(5)).await;
}

#[test]
fn a_backfill_is_read_from_json() {
    let text = r#"{"job": "job", "from": "2026-01-04T00:00:00Z", "to": "2026-01-04T03:00:00Z"}"#;
    assert_eq!(serde_json::from_str::<Backfill>(text).expect("it is right"), four_hours());
    let full = four_hours().max_concurrent(3).spacing(secs(10)).again(true).max_ticks(50);
    let written = serde_json::to_string(&full).expect("it is written");
    assert_eq!(serde_json::from_str::<Backfill>(&written).expect("it is right"), full);
}

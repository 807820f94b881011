//! Whoever was answered sees what it did, though the store tells it late.

use std::time::Duration;

use callsheet::{Job, PauseJobs, ResumeJobs, schedule::every, testkit::simulate};

mod common;
use common::{details, hours, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

/// Seldom, so that nothing else is asked of the store meanwhile.
fn job() -> Job {
    Job::new("job", every(hours(1))).run(async |_| {})
}

#[test]
fn a_pause_shows_before_its_notification_comes() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job()])).await;
        rig.advance(secs(1)).await;
        rig.store().set_delayed(true);

        rig.send(node, PauseJobs::new("job")).await.expect("it is there");
        assert!(details(rig, node, "job").await.pause.is_some());
        rig.send(node, ResumeJobs::new("job")).await.expect("it is there");
        assert!(details(rig, node, "job").await.pause.is_none());
    });
}

#[test]
fn a_late_notification_of_an_older_pause_undoes_no_resumption() {
    simulate(START, async |rig| {
        let (one, other) = (rig.node(node_with([job()])).await, rig.node(node_with([job()])).await);
        rig.advance(secs(1)).await;
        rig.store().set_delayed(true);
        rig.send(other, PauseJobs::new("job")).await.expect("it is there");

        // The answer comes with the notification of the pause, and before that of the resumption.
        rig.send(one, ResumeJobs::new("job")).await.expect("it is there");

        for _ in 0..10 {
            assert!(details(rig, one, "job").await.pause.is_none());
            rig.advance(Duration::from_millis(100)).await;
        }
        rig.store().set_delayed(false);
        rig.advance(secs(1)).await;
        assert!(details(rig, other, "job").await.pause.is_none());
    });
}

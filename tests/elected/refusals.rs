//! What a job may not need where claims are in the leader's memory.

use std::sync::Arc;

use callsheet::{
    Callsheet, Fires, Job, OnLost, Overlap, PauseJobs, StartError,
    backend::{Elected, Local, OnUnproven},
    port::SystemClock,
    schedule::every,
    testkit::simulate,
};

use crate::{LEASE, START, common::node_with, secs, tick};

#[test]
fn a_job_that_needs_what_no_memory_keeps_is_refused_by_name_when_it_is_added() {
    simulate(START, async |rig| {
        rig.set_lease(LEASE);
        rig.elect_only(OnUnproven::Skip);
        let node = rig.node(node_with([tick()])).await;
        rig.advance(secs(1)).await;

        let job = || Job::new("report", every(secs(60))).run(async |_| {});
        for (job, policy, capability) in [
            (job().fires(Fires::AnyNode), "fires", "cluster_ticks"),
            (job().overlap(Overlap::Queue(2)), "overlap", "cluster_overlap"),
            (job().on_lost(OnLost::Retry), "on_lost", "pending_retries"),
            (job().pause_after(3), "pause_after", "pauses"),
            (job().limit(5), "limit", "durable_cursor"),
            (job().formerly("overview"), "formerly", "renames"),
        ] {
            let error = rig.add(node, job).await.expect_err("it is refused").to_string();
            for words in ["\"report\"", policy, capability, "\"elected\""] {
                assert!(error.contains(words), "{words}: {error}");
            }
        }
        rig.add(node, job()).await.expect("it needs nothing");
        rig.add(node, job().fires(Fires::Local)).await.expect_err("it is there");
    });
}

#[tokio::test]
async fn it_is_refused_at_the_start_as_well() {
    let backend = Elected::over(Local::new(Arc::new(SystemClock::default())));
    let job = Job::new("report", every(secs(60))).on_lost(OnLost::Retry).run(async |_| {});

    let Err(StartError::Invalid(faults)) = Callsheet::builder().job(job).backend(backend).start().await
    else {
        panic!("it started");
    };

    assert!(faults.to_string().contains("on_lost"), "{faults}");
}

#[test]
fn a_pause_is_asked_of_the_leader() {
    simulate(START, async |rig| {
        rig.set_lease(LEASE);
        rig.elect_only(OnUnproven::Skip);
        let leader = rig.node(node_with([tick()])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([tick()])).await;
        rig.advance(secs(2)).await;

        let error = rig.send(follower, PauseJobs::new("tick")).await.expect_err("it does not lead");
        assert!(error.to_string().contains("ask the leader"), "{error}");
        let before = rig.started("tick");
        rig.send(leader, PauseJobs::new("tick")).await.expect("it leads");
        rig.advance(secs(10)).await;
        assert_eq!(rig.started("tick"), before);
    });
}

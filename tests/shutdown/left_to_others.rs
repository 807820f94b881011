//! The fire times that a shutdown leaves to other nodes.

use super::*;

#[test]
fn a_shutdown_names_the_fire_times_that_it_leaves_to_others() {
    simulate(START, async |rig| {
        let soon = Job::new("soon", every(secs(60))).run(async |_| {});
        let later = Job::new("later", hourly()).run(async |_| {});
        let local = Job::new("local", every(secs(60))).fires(Fires::Local).run(async |_| {});
        let over = Job::new("over", at("2026-01-05T00:00:30Z")).run(async |_| {});
        let jobs = [later, soon, local, over];
        let leader = rig.node(node_with(jobs.clone())).await;
        let follower = rig.node(node_with(jobs)).await;
        rig.advance(secs(90)).await;

        let of_follower = rig.shutdown(follower, Duration::ZERO).await;
        let of_leader = rig.shutdown(leader, Duration::ZERO).await;

        assert_eq!((of_follower.left_to_others, of_follower.left), (0, vec![]), "it was to fire nothing");
        let left: Vec<_> = of_leader.left.iter().map(|(job, at)| (job.as_str(), at.to_string())).collect();
        let expected = [("soon", "2026-01-05T00:02:00Z"), ("later", "2026-01-05T01:00:00Z")];
        assert_eq!(left, expected.map(|(job, at)| (job, at.to_owned())));
        assert_eq!(of_leader.to_string(), "drained 0, cancelled 0, aborted 0, left 2 fire times");
    });
}

/// So it is where the term is given up before the actor hears of the drain: what it is asked for then finds
/// the machine dormant.
#[test]
fn a_shutdown_names_the_fire_time_of_a_job_whose_actor_has_died() {
    simulate(START, async |rig| {
        let dies_if_asked = PanickingSchedule::new(hourly(), "2026-01-05T01:00:00Z".parse().unwrap(), 1);
        let node = rig.node(node_with([Job::new("dies", dies_if_asked).run(async |_| {})])).await;
        rig.advance(secs(90)).await;

        // The actor has both in its mailbox.
        rig.supervisor(node).do_send(NextFireTimes { job: "dies".to_owned(), count: 2 });
        let report = rig.shutdown(node, Duration::ZERO).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobRestarted { .. })), 1);
        let left: Vec<_> = report.left.iter().map(|(job, at)| (job.as_str(), at.to_string())).collect();
        assert_eq!((report.left_to_others, left), (1, vec![("dies", "2026-01-05T01:00:00Z".to_owned())]));
    });
}

#[test]
fn of_many_fire_times_that_are_left_the_soonest_are_named() {
    simulate(START, async |rig| {
        let job = |n: usize| Job::new(format!("j{n}"), Period::seconds(60 + n as i64)).run(async |_| {});
        let node = rig.node(node_with((0..REPORTED_RUNS_MAX + 5).rev().map(job))).await;
        rig.advance(secs(1)).await;

        let report = rig.shutdown(node, Duration::ZERO).await;

        assert_eq!(report.left_to_others, REPORTED_RUNS_MAX as u64 + 5);
        assert_eq!(report.left.len(), REPORTED_RUNS_MAX);
        assert!(report.left.is_sorted_by_key(|(_, at)| *at));
        let first = report.left.first().map(|(job, _)| job.as_str());
        let all = (0..REPORTED_RUNS_MAX as i64 + 5).map(|n| Period::seconds(60 + n).next_after(rig.now()));
        let soonest = all.flatten().min().map(FireTime::new);
        assert_eq!(report.left.first().map(|(_, at)| *at), soonest, "{first:?}");
    });
}

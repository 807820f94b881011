//! A clock that is ahead of the store.

use super::*;

#[test]
fn a_clock_that_is_ahead_does_not_starve_a_job_with_a_shorter_period() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([Job::new("tick", every(secs(1))).run(async |_| {})])).await;
        rig.set_skew(node, TimeDelta::milliseconds(1_500));

        rig.advance(ms(30_500)).await;

        assert!(rig.started("tick") >= 25, "{} of 30 ticks started", rig.started("tick"));
    });
}

#[test]
fn a_clock_that_is_ahead_skips_no_tick_before_it_is_due() {
    simulate(START, async |rig| {
        let job = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(7)).await);
        let node = rig.node(node_with([job])).await;
        rig.set_skew(node, TimeDelta::seconds(5));

        rig.advance(secs(99)).await;

        assert_eq!(
            rig.counter("callsheet_ticks_total", "outcome=overlap"),
            0,
            "no run is longer than the period"
        );
        assert_eq!(rig.started("long"), 9);
    });
}

#[test]
fn a_clock_that_stepped_forward_is_noticed_before_the_old_timer_ends() {
    simulate(START, async |rig| {
        let daily = Job::new("daily", every(hours(24))).fires(Fires::Local).run(async |_| {});
        let node = rig.node(node_with([daily])).await;
        rig.advance(secs(10)).await;

        rig.set_skew(node, TimeDelta::hours(23));
        rig.advance(hours(1) + secs(60)).await;

        assert_eq!(rig.started("daily"), 1, "its time came a minute ago by the wall clock");
    });
}

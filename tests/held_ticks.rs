//! Ticks that come due while their job is paused: they are seen as held, and then run or are skipped.

use callsheet::{
    EventKind, Fires, Job, JobState, Misfire, NextFireTimes, PauseJobs, RemoveJobs, ResumeJobs, Selector,
    SkipReason,
    schedule::{Schedule, daily, every},
    testkit::{
        Record, Rig,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};
use chrono::{DateTime, TimeDelta, Utc};

mod common;
use common::{assert_golden, details, hours, mins, node_with, secs, starts};

/// In the evening.
const START: &str = "2026-01-05T20:00:00Z";

fn nightly() -> Job {
    Job::new("nightly", daily().at("02:00")).run(async |_| {})
}

fn pause(until: Option<DateTime<Utc>>) -> PauseJobs {
    PauseJobs::new(Selector::All).until(until)
}

async fn resume(rig: &mut Rig, node: usize) {
    rig.send(node, ResumeJobs::new(Selector::All)).await.expect("all is a selector");
}

/// The ticks that were said to be held: the node, and the fire time.
fn said(rig: &Rig) -> Vec<String> {
    let held = |kind, node| match kind {
        EventKind::TickHeld { fire_time, .. } => {
            Some(format!("{node} {}", fire_time.instant().format("%d %H:%M")))
        }
        _ => None,
    };
    rig.events().into_iter().filter_map(|recorded| held(recorded.event.kind, recorded.node)).collect()
}

fn gauge(rig: &mut Rig) -> f64 {
    rig.gauge("callsheet_ticks_held", "")
}

fn skipped(rig: &mut Rig) -> u64 {
    rig.counter("callsheet_ticks_total", "outcome=paused")
}

fn cursor(rig: &Rig) -> Option<DateTime<Utc>> {
    let moved = rig.store().records().into_iter().filter_map(|record| match record {
        Record::Advanced { to, .. } => Some(to.instant()),
        _ => None,
    });
    moved.last()
}

#[test]
fn in_the_morning_a_nightly_job_that_is_paused_says_that_its_tick_is_held() {
    simulate(START, async |rig| {
        rig.set_lease(mins(10));
        rig.set_lease(mins(10));
        rig.node(node_with([nightly()])).await;
        rig.send(0, pause(None)).await.expect("it is there");

        // A minute after two, and for as long as it may run.
        rig.advance(hours(6) + mins(1)).await;
        assert_eq!(said(rig), ["n1 06 02:00"]);
        for _ in 0..2 {
            assert_eq!((gauge(rig), skipped(rig)), (1.0, 0));
            let status = details(rig, 0, "nightly").await;
            let held = status.held.expect("it is held");
            let tick: DateTime<Utc> = "2026-01-06T02:00:00Z".parse().unwrap();
            assert_eq!((held.count, held.reason), (1, SkipReason::Paused));
            assert_eq!((held.oldest.instant(), held.newest.instant()), (tick, tick));
            assert_eq!(status.state, JobState::Paused);
            rig.advance(hours(6)).await;
        }

        // It is skipped at two in the afternoon, long before the next one.
        rig.advance(secs(2)).await;
        assert_eq!((gauge(rig), skipped(rig), details(rig, 0, "nightly").await.held), (0.0, 1, None));
        assert_eq!(cursor(rig), "2026-01-06T02:00:00Z".parse().ok(), "the cursor does not stay behind");

        rig.advance(hours(12)).await;
        resume(rig, 0).await;
        rig.advance(secs(1)).await;
        assert_eq!(
            starts(rig, "nightly"),
            ["n1 02:00:00"],
            "that of the seventh, which was held for a minute"
        );
        assert_golden(rig, "held_nightly");
    });
}

#[test]
fn a_held_tick_runs_if_its_pause_ends_in_time() {
    for (expires, fires) in
        [(false, Fires::Leader), (true, Fires::Leader), (false, Fires::Local), (true, Fires::AnyNode)]
    {
        simulate(START, async |rig| {
            rig.set_lease(mins(10));
            rig.set_lease(mins(10));
            rig.node(node_with([nightly().fires(fires)])).await;
            let until = (rig.now() + TimeDelta::hours(12)).to_utc();
            rig.send(0, pause(Some(until).filter(|_| expires))).await.expect("it is there");
            rig.advance(hours(12) - secs(1)).await;
            assert_eq!((rig.started("nightly"), gauge(rig)), (0, 1.0), "{fires:?}");

            rig.advance(secs(1)).await;
            if !expires {
                resume(rig, 0).await;
            }
            rig.advance(secs(1)).await;

            assert_eq!((rig.started("nightly"), gauge(rig), skipped(rig)), (1, 0.0, 0), "{fires:?}");
            assert_eq!(said(rig), ["n1 06 02:00"], "{fires:?}");
        });
    }
}

#[test]
fn the_node_that_decides_holds_the_tick_and_so_does_the_next_leader() {
    for die in [false, true] {
        simulate(START, async |rig| {
            rig.set_lease(mins(10));
            rig.set_lease(mins(1));
            for _ in 0..2 {
                rig.node(node_with([nightly()])).await;
            }
            rig.send(1, pause(None)).await.expect("it is there");
            rig.advance(hours(7)).await;
            assert_eq!((said(rig), gauge(rig)), (vec!["n1 06 02:00".to_owned()], 1.0));
            assert_eq!(details(rig, 1, "nightly").await.held, None, "a follower decides nothing");

            if die {
                rig.kill(0);
            } else {
                rig.cut_off(0);
            }
            rig.advance(mins(5)).await;

            assert_eq!(said(rig), ["n1 06 02:00", "n2 06 02:00"]);
            assert_eq!(gauge(rig), 1.0, "one node holds it");
            assert_eq!(details(rig, 1, "nightly").await.held.map(|held| held.count), Some(1));
            if !die {
                assert_eq!(details(rig, 0, "nightly").await.held, None);
            }
            resume(rig, 1).await;
            rig.advance(mins(1)).await;
            assert_eq!((starts(rig, "nightly"), gauge(rig)), (vec!["n2 02:00:00".to_owned()], 0.0));
        });
    }
}

#[test]
fn a_tick_is_held_until_its_window_is_over_whichever_node_is_down() {
    simulate(START, async |rig| {
        rig.set_lease(mins(10));
        rig.node(node_with([nightly()])).await;
        rig.send(0, pause(None)).await.expect("it is there");
        rig.advance(hours(5)).await;
        rig.kill(0);

        // It was down from one in the night to eight in the morning.
        rig.advance(hours(7)).await;
        let late = rig.node(node_with([nightly()])).await;
        rig.advance(mins(1)).await;
        assert_eq!((said(rig), gauge(rig)), (vec!["n2 06 02:00".to_owned()], 1.0));
        rig.kill(late);
        assert_eq!(gauge(rig), 0.0);

        // And until the afternoon.
        rig.advance(hours(8)).await;
        rig.node(node_with([nightly()])).await;
        rig.advance(mins(1)).await;
        assert_eq!((said(rig).len(), gauge(rig), skipped(rig)), (1, 0.0, 1));
    });
}

#[test]
fn several_ticks_are_held_as_far_as_the_policy_makes_up_for_them() {
    simulate(START, async |rig| {
        rig.set_lease(mins(10));
        let misfire = Misfire::All { max: 3, within: hours(4) };
        let hourly = Job::new("hourly", every(hours(1))).misfire(misfire).run(async |_| {});
        rig.node(node_with([hourly])).await;
        rig.send(0, pause(None)).await.expect("it is there");

        rig.advance(mins(5 * 60 + 1)).await;

        assert_eq!(said(rig).len(), 5);
        let held = details(rig, 0, "hourly").await.held.expect("some are held");
        assert_eq!((held.count, gauge(rig), skipped(rig)), (3, 3.0, 2));
        assert_eq!((held.newest.instant() - held.oldest.instant()).num_hours(), 2);
        resume(rig, 0).await;
        assert_eq!(gauge(rig), 0.0);
        rig.advance(secs(5)).await;
        assert_eq!((rig.started("hourly"), skipped(rig)), (3, 2));
    });
}

#[test]
fn an_update_keeps_what_is_held_and_another_schedule_lets_go_of_it() {
    simulate(START, async |rig| {
        rig.set_lease(mins(10));
        rig.node(node_with([nightly()])).await;
        rig.send(0, pause(None)).await.expect("it is there");
        rig.advance(hours(7)).await;

        rig.update(0, nightly().tag("changed")).await.expect("it is there");
        rig.advance(secs(2)).await;
        assert_eq!((said(rig).len(), gauge(rig)), (1, 1.0), "it is the same tick, and said");

        rig.update(0, Job::new("nightly", daily().at("03:30")).run(async |_| {})).await.expect("it is there");
        rig.advance(secs(2)).await;
        assert_eq!((said(rig).len(), gauge(rig), skipped(rig)), (1, 0.0, 0), "that tick is decided");

        rig.advance(hours(1)).await;
        assert_eq!((said(rig).last().map(String::as_str), gauge(rig)), (Some("n1 06 03:30"), 1.0));
        rig.send(0, RemoveJobs::new(Selector::All)).await.expect("all is a selector");
        rig.advance(secs(1)).await;
        assert_eq!(gauge(rig), 0.0, "it is removed");
    });
}

#[test]
fn an_actor_that_dies_holds_the_tick_again_and_says_no_more_of_it() {
    simulate(START, async |rig| {
        rig.set_lease(mins(10));
        let noon = rig.now() + TimeDelta::days(30);
        let schedule = PanickingSchedule::new(Period::hours(24), noon, 1);
        assert!(schedule.next_after(rig.now()).is_some());
        let daily = Job::new("daily", schedule).run(async |_| {});
        rig.node(node_with([daily])).await;
        rig.send(0, pause(None)).await.expect("it is there");
        rig.advance(hours(5)).await;
        assert_eq!((said(rig).len(), gauge(rig)), (1, 1.0));

        // It dies of a question about the far future.
        let dead = rig.send(0, NextFireTimes { job: "daily".to_owned(), count: 100 }).await;
        assert!(dead.is_err(), "{dead:?}");
        rig.advance(secs(1)).await;

        assert_eq!(rig.counter("callsheet_job_actor_restarts_total", ""), 1);
        assert_eq!((said(rig).len(), gauge(rig)), (1, 1.0));
        resume(rig, 0).await;
        rig.advance(secs(1)).await;
        assert_eq!((rig.started("daily"), gauge(rig)), (1, 0.0));
    });
}

#[test]
fn a_node_that_shuts_down_lets_go_of_what_it_holds() {
    simulate(START, async |rig| {
        rig.set_lease(mins(10));
        rig.node(node_with([nightly()])).await;
        rig.send(0, pause(None)).await.expect("it is there");
        rig.advance(hours(7)).await;
        assert_eq!(gauge(rig), 1.0);

        rig.shutdown(0, secs(1)).await;

        assert_eq!(gauge(rig), 0.0);
    });
}

#[test]
fn a_job_that_makes_up_for_nothing_says_at_once_that_its_tick_is_skipped() {
    simulate(START, async |rig| {
        rig.set_lease(mins(10));
        rig.node(node_with([nightly().misfire(Misfire::Skip)])).await;
        rig.send(0, pause(None)).await.expect("it is there");

        rig.advance(hours(6) + secs(2)).await;

        assert_eq!((said(rig).len(), gauge(rig), skipped(rig)), (0, 0.0, 1));
    });
}

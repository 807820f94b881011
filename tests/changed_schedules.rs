//! A job comes back with another schedule, or with the same one from another build: which ticks are owed.

use std::{fmt, sync::Arc, time::Duration};

use callsheet::{
    EventKind, Fires, Job, Misfire, Overlap, Scheduled, UpdateError,
    schedule::{Definition, IntoSchedule, Schedule, ScheduleIdentity, at, every, random},
    testkit::{Record, Recorded, Rig, simulate},
};
use chrono::{DateTime, Utc};

mod common;
use common::{hours, mins, node_with, secs, starts};

const START: &str = "2026-01-05T00:00:00Z";
const VERSION: u32 = ScheduleIdentity::VERSION;

/// A schedule as another build tells it: by another version of identities, and so with another digest.
#[derive(Debug)]
struct OfVersion {
    version: u32,
    of: Arc<dyn Schedule>,
}

impl fmt::Display for OfVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.of, f)
    }
}

impl Schedule for OfVersion {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.of.next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.of.previous_before(before)
    }

    fn identity(&self) -> ScheduleIdentity {
        if self.version == VERSION {
            return self.of.identity();
        }
        let digest = format!("{} in version {}", self.of.identity(), self.version);
        ScheduleIdentity::of_text(&digest).with_version(self.version)
    }
}

fn of_version(version: u32, schedule: impl IntoSchedule) -> Arc<dyn Schedule> {
    Arc::new(OfVersion { version, of: schedule.into_schedule().expect("it is right") })
}

fn job(schedule: impl IntoSchedule) -> Job {
    Job::new("job", schedule).misfire(Misfire::All { max: 100, within: hours(1) }).run(async |_| {})
}

fn json(text: &str) -> Definition {
    text.parse().expect("it is right")
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// The instants of the ticks that ran on a node.
fn ran_on(rig: &Rig, node: &str) -> Vec<DateTime<Utc>> {
    let tick = |recorded: Recorded| match recorded.event.kind {
        EventKind::RunStarted { fire_time, .. } if recorded.node == node => {
            fire_time.map(|tick| tick.instant())
        }
        _ => None,
    };
    rig.events().into_iter().filter_map(tick).collect()
}

/// How often the store noted another schedule for the job.
fn enrolments(rig: &Rig) -> usize {
    rig.store().records().iter().filter(|record| matches!(record, Record::Enrolled { .. })).count()
}

/// A node with the job of the first schedule, five and a half minutes; nobody for ten; one with the second.
fn across_a_deployment(before: Arc<dyn Schedule>, after: Arc<dyn Schedule>) -> Vec<DateTime<Utc>> {
    let mut ran = Vec::new();
    simulate(START, async |rig| {
        let old = rig.node(node_with([job(before)])).await;
        rig.advance(mins(5) + secs(30)).await;
        rig.shutdown(old, secs(1)).await;
        rig.advance(mins(10)).await;

        rig.node(node_with([job(after)])).await;
        rig.advance(mins(5)).await;
        ran = ran_on(rig, "n2");
    });
    ran
}

#[test]
fn ticks_missed_between_two_builds_are_owed() {
    for [before, after] in
        [[VERSION; 2], [0, VERSION], [VERSION, 0], [VERSION + 1, VERSION], [VERSION, 1_000]]
    {
        let ran = across_a_deployment(of_version(before, every("1m")), of_version(after, every("1m")));

        let minutes: Vec<_> = ran.iter().map(|tick| tick.format("%M").to_string()).collect();
        let expected: Vec<_> = (6..=20).map(|minute| format!("{minute:02}")).collect();
        assert_eq!(minutes, expected, "from version {before} to {after}");
    }
}

#[test]
fn a_change_that_the_text_hides_owes_nothing_from_before_it() {
    let list = |last| {
        at([
            "2026-01-05T00:01:00Z",
            "2026-01-05T00:02:00Z",
            "2026-01-05T00:03:00Z",
            last,
            "2026-01-05T00:18:00Z",
        ])
    };
    let unnamed = |first: &str| {
        json(&format!(
            r#"{{"every": "1m", "except": [{{"times": [{{"from": "{first}", "to": "23:59"}}]}}]}}"#
        ))
    };
    let seeded = |seed| random("50s", "70s").seed(seed);
    let changes: [[Definition; 2]; 3] = [
        [list("2026-01-05T00:10:00Z").into(), list("2026-01-05T00:11:00Z").into()],
        [unnamed("22:00"), unnamed("23:00")],
        [seeded("a").into(), seeded("b").into()],
    ];
    let back_at = time("2026-01-05T00:15:30Z");

    for [one, other] in changes {
        let [one, other] = [one, other].map(|schedule| schedule.into_schedule().expect("it is right"));
        assert_eq!(one.to_string(), other.to_string(), "the text hides it");

        let same = across_a_deployment(one.clone(), one.clone());
        let changed = across_a_deployment(one, other);

        assert!(same[0] < back_at, "what was missed is owed: {same:?}");
        assert!(changed[0] > back_at, "and nothing from before the change: {changed:?}");
    }
}

#[test]
fn an_update_that_the_text_hides_owes_ticks_from_the_change_on() {
    simulate(START, async |rig| {
        let list = |fourth| {
            at([
                "2026-01-05T00:01:00Z",
                "2026-01-05T00:02:00Z",
                "2026-01-05T00:03:00Z",
                fourth,
                "2026-01-05T00:10:00Z",
            ])
        };
        let node = rig.node(node_with([job(list("2026-01-05T00:09:00Z"))])).await;
        rig.advance(mins(5) + secs(30)).await;

        rig.update(node, job(list("2026-01-05T00:05:00Z"))).await.expect("it is right");
        rig.advance(mins(10)).await;

        let ticks = ["n1 00:01:00", "n1 00:02:00", "n1 00:03:00", "n1 00:10:00"];
        assert_eq!(starts(rig, "job"), ticks, "00:05 was over when it came in");

        let over = rig.update(node, job(list("2026-01-05T00:06:00Z"))).await;
        assert!(matches!(over, Err(UpdateError::Over(_))), "another list that is over: {over:?}");
        rig.update(node, job(list("2026-01-05T00:05:00Z")).priority(1)).await.expect("it is the same list");
    });
}

#[test]
fn policies_and_a_body_that_change_keep_what_is_owed() {
    simulate(START, async |rig| {
        let old = rig.node(node_with([job(every("1m"))])).await;
        rig.advance(mins(1) + secs(30)).await;
        rig.shutdown(old, secs(1)).await;
        rig.advance(mins(3)).await;

        let other = Job::new("job", every("60s"))
            .misfire(Misfire::All { max: 50, within: hours(2) })
            .overlap(Overlap::Queue(3))
            .timeout(secs(30))
            .tag("t")
            .run(async |_| tokio::time::sleep(secs(1)).await);
        rig.node(node_with([other])).await;
        rig.advance(mins(1)).await;

        let ticks = ["n1 00:01:00", "n2 00:02:00", "n2 00:03:00", "n2 00:04:00", "n2 00:05:00"];
        assert_eq!(starts(rig, "job"), ticks);
    });
}

#[test]
fn living_nodes_of_different_versions_share_a_job_without_a_word() {
    for versions in [[VERSION, VERSION + 1], [VERSION + 1, VERSION]] {
        simulate(START, async |rig| {
            let with = |version| job(of_version(version, every("10m"))).fires(Fires::AnyNode);
            for version in versions {
                rig.node(node_with([with(version)])).await;
            }
            rig.advance(mins(1)).await;
            let at_start = enrolments(rig);

            rig.advance(hours(1)).await;

            assert_eq!(rig.started("job"), 6, "each tick once");
            assert_eq!(enrolments(rig), at_start, "nobody writes its own identity again and again");
            // A session that was lost enrols the job anyway.
            rig.end_session(0);
            rig.advance(mins(1)).await;
            assert!(enrolments(rig) <= at_start + 2, "{} after {at_start}", enrolments(rig));
        });
    }
}

#[test]
fn a_leader_of_another_version_is_not_said_to_have_another_schedule() {
    for [leads, follows] in [[VERSION, VERSION + 1], [VERSION + 1, VERSION], [VERSION, VERSION]] {
        simulate(START, async |rig| {
            let leader = rig.node(node_with([job(of_version(leads, every("1m")))])).await;
            let follower = rig.node(node_with([])).await;
            rig.advance(secs(5)).await;
            assert_eq!(rig.leader(), Some(leader));

            let added = rig.add(follower, job(of_version(follows, every("1m")))).await.expect("it is right");
            assert_eq!(added.scheduled, Scheduled::ByLeader, "{leads} leads {follows}");
            rig.advance(secs(90)).await;
            rig.shutdown(leader, secs(1)).await;
            rig.advance(mins(2)).await;

            let ticks = ["n1 00:01:00", "n2 00:02:00", "n2 00:03:00"];
            assert_eq!(starts(rig, "job"), ticks, "{leads}, then {follows}: {}", rig.transcript());
        });
    }
}

#[test]
fn a_leader_with_a_change_that_the_text_hides_has_another_schedule() {
    simulate(START, async |rig| {
        let seeded = |seed| job(random("50s", "70s").seed(seed));
        let leader = rig.node(node_with([seeded("a")])).await;
        let follower = rig.node(node_with([])).await;
        rig.advance(secs(5)).await;
        assert_eq!(rig.leader(), Some(leader));

        let added = rig.add(follower, seeded("b")).await.expect("it is right");

        assert_eq!(added.scheduled, Scheduled::OtherSchedule);
    });
}

/// During the roll of two nodes each takes the lead with its own build, again and again.
#[test]
fn no_tick_is_lost_or_repeated_however_often_versions_take_turns() {
    simulate(START, async |rig| {
        let mut expected = Vec::new();
        for turn in 0..6 {
            let version = VERSION + turn % 2;
            let node = rig.node(node_with([job(of_version(version, every("1m")))])).await;
            rig.advance(mins(2) + secs(10)).await;
            rig.shutdown(node, Duration::ZERO).await;
            rig.advance(secs(70)).await;
        }
        let ticks = starts(rig, "job");
        let minutes: Vec<_> = ticks.iter().filter_map(|start| start.get(6..8)).collect();
        for minute in 1..=minutes.len() {
            expected.push(format!("{minute:02}"));
        }
        assert_eq!(minutes, expected, "{ticks:?}");
        assert!(minutes.len() >= 17, "{ticks:?}");
    });
}

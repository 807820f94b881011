//! Why a job ran late, or not at all: stories on the rig, each explained by the node that is asked.

use std::{sync::Arc, time::Duration};

use callsheet::{
    Answer, Backfill, By, Callsheet, Delay, Error, EventKind, Explain, ExplainError, Explanation, Fires,
    HistoryOptions, Job, JobName, JobOperation, MemoryBounds, Misfire, NotDecided, NotKnown, OnLost,
    Operations, Outcome, Overlap, PauseJobs, ResumeJobs, SkipReason, TriggerJob, When,
    port::History,
    schedule::{at, calendar, cron, every},
    testkit::{
        Rig,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};
use callsheet_actors::adapter::MemoryHistory;
use chrono::{DateTime, TimeDelta, Utc};

mod common;
#[path = "common/explained.rs"]
mod told;
use common::{hours, mins, node_with, obedient, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn instant(time: &str) -> DateTime<Utc> {
    format!("2026-01-05T{time}Z").parse().expect("an instant")
}

fn hourly(name: &str) -> Job {
    Job::new(name, every(hours(1))).run(async |_| {})
}

fn by(name: &str) -> By {
    By::new(name).expect("a good name")
}

async fn explained(rig: &mut Rig, node: usize, job: &str, when: impl Into<When>) -> Explanation {
    let mut explained = rig.send(node, Explain::new(job, when)).await.expect("it is explained");
    assert_eq!(explained.explanations.len(), 1, "{explained}");
    explained.explanations.remove(0)
}

async fn answer(rig: &mut Rig, node: usize, job: &str, time: &str) -> Answer {
    explained(rig, node, job, instant(time)).await.answer
}

#[test]
fn a_run_is_explained_with_its_outcome_and_what_its_body_said() {
    simulate(START, async |rig| {
        let body = async |run: callsheet::Run| {
            run.report("no paper");
            Err::<(), _>("out of paper")
        };
        let node = rig.node(node_with([Job::new("print", every(hours(1))).run(body)])).await;
        rig.advance(hours(1) + mins(5)).await;

        let explained = explained(rig, node, "print", instant("01:00:00")).await;

        let Answer::Ran { outcome, node: ran_on, ref because, .. } = explained.answer else {
            panic!("{explained}")
        };
        assert_eq!((outcome, ran_on, because.is_empty()), (Outcome::Failed, rig.id(node), true));
        let text = explained.to_string();
        assert!(text.contains("failed: out of paper: no paper"), "{text}");
    });
}

#[test]
fn a_paused_job_says_who_paused_it_and_why() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([hourly("report")])).await;
        rig.advance(mins(30)).await;
        let pause = PauseJobs::new("report").note("the disk is full").by(by("alice"));
        rig.send(node, pause).await.expect("it is there");
        rig.advance(mins(40)).await;
        let held = answer(rig, node, "report", "01:00:00").await;
        assert!(
            matches!(&held, Answer::NotDecided { because: NotDecided::Pause(pause) } if pause.by == Some(by("alice"))),
            "{held:?}"
        );

        rig.advance(hours(3)).await;
        let skipped = answer(rig, node, "report", "01:00:00").await;
        assert_eq!(skipped.to_string(), "skipped: the job was paused by alice: the disk is full");

        // The newest waits for the end of the pause, and runs then.
        rig.send(node, ResumeJobs::new("report").by(by("bob"))).await.expect("it is paused");
        rig.advance(mins(1)).await;
        let late = answer(rig, node, "report", "04:00:00").await;
        assert!(
            matches!(&late, Answer::Ran { because, .. } if *because == [Delay::Paused { resumed_by: Some(by("bob")) }]),
            "{late:?}"
        );
    });
}

#[test]
fn an_overlap_names_the_run_that_was_in_the_way() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(hours(1))).run_with(mins(90), obedient);
        let node = rig.node(node_with([long])).await;
        rig.advance(hours(2) + mins(5)).await;

        let first = answer(rig, node, "long", "01:00:00").await;
        let Answer::Running { run, .. } = first else { panic!("{first:?}") };
        let second = answer(rig, node, "long", "02:00:00").await;

        let Answer::Skipped { reason: SkipReason::Overlap, run: in_the_way, .. } = second else {
            panic!("{second:?}")
        };
        assert_eq!(in_the_way, Some(run));
    });
}

#[test]
fn a_hook_that_vetoed_is_quoted() {
    simulate(START, async |rig| {
        let vetoed = Job::new("vetoed", every(hours(1))).before(async |_| Err::<(), _>("maintenance"));
        let node = rig.node(node_with([vetoed.run(async |_| {})])).await;
        rig.advance(hours(1) + mins(5)).await;

        let answer = answer(rig, node, "vetoed", "01:00:00").await;

        assert!(
            matches!(&answer, Answer::Vetoed { text: Some(text), .. } if &**text == "maintenance"),
            "{answer:?}"
        );
    });
}

#[test]
fn a_tick_in_a_leader_gap_says_from_when_to_when_nobody_led() {
    simulate(START, async |rig| {
        rig.set_lease(mins(10));
        let leader = rig.node(node_with([hourly("report")])).await;
        let follower = rig.node(node_with([hourly("report")])).await;
        rig.advance(mins(59)).await;
        rig.freeze(leader);
        rig.advance(mins(30)).await;

        let late = answer(rig, follower, "report", "01:00:00").await;

        let Answer::Ran { because, node, .. } = &late else { panic!("{late:?}") };
        assert_eq!(*node, rig.id(follower));
        let [Delay::LeaderGap { from, to }] = &because[..] else { panic!("{late:?}") };
        // As far as the next leader knows: it heard of the former one until the lease was nearly over.
        assert!(from < to && *to > instant("01:00:00"), "{late:?}");
    });
}

#[test]
fn a_follower_of_nobody_says_that_nobody_leads_and_since_when() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let leader = rig.node(node_with([hourly("report")])).await;
        let follower = rig.node(node_with([hourly("report")]).may_lead(async || false)).await;
        rig.advance(hours(1) + mins(30)).await;
        rig.kill(leader);
        let killed_at = rig.now();
        rig.advance(hours(1)).await;

        // What was decided is not said to be open, though the history of this node has nothing of it.
        let decided = answer(rig, follower, "report", "01:00:00").await;
        assert_eq!(decided, Answer::NotKnown { because: NotKnown::NotRecorded });
        let open = answer(rig, follower, "report", "02:00:00").await;
        let Answer::NotDecided { because: NotDecided::NoLeader { since } } = open else { panic!("{open:?}") };
        let heard = killed_at - since;
        assert!(heard < TimeDelta::seconds(10) && heard > TimeDelta::seconds(-10), "{since} {killed_at}");

        rig.node(node_with([hourly("report")])).await;
        rig.advance(secs(10)).await;
        let late = answer(rig, follower, "report", "02:00:00").await;
        assert!(!matches!(late, Answer::NotDecided { .. }), "the next leader has decided it: {late:?}");
    });
}

#[test]
fn a_follower_says_of_a_tick_that_is_held_elsewhere_who_paused_the_job() {
    simulate(START, async |rig| {
        rig.node(node_with([hourly("report")])).await;
        let follower = rig.node(node_with([hourly("report")])).await;
        rig.advance(mins(30)).await;
        let pause = PauseJobs::new("report").note("the disk is full").by(by("alice"));
        rig.send(follower, pause).await.expect("it is there");
        rig.advance(mins(40)).await;

        let held = answer(rig, follower, "report", "01:00:00").await;
        assert_eq!(held.to_string(), "not decided yet: the job is paused by alice: the disk is full");

        rig.send(follower, ResumeJobs::new("report")).await.expect("it is paused");
        rig.advance(secs(10)).await;
        let resumed = answer(rig, follower, "report", "01:00:00").await.to_string();
        assert!(!resumed.contains("paused by"), "{resumed}");
    });
}

#[test]
fn a_machine_that_slept_is_named() {
    simulate(START, async |rig| {
        let local = Job::new("local", every(hours(1))).fires(callsheet::Fires::Local).run(async |_| {});
        let node = rig.node(node_with([local])).await;
        rig.advance(mins(30)).await;
        rig.suspend(TimeDelta::minutes(40));
        rig.advance(mins(5)).await;

        let late = answer(rig, node, "local", "01:00:00").await;

        let Answer::Ran { because, .. } = &late else { panic!("{late:?}") };
        assert!(matches!(&because[..], [Delay::ClockStepped { by }] if by.num_minutes() == 40), "{late:?}");
    });
}

#[test]
fn a_run_that_waited_for_a_slot_is_said_to_have_waited() {
    simulate(START, async |rig| {
        let hog = Job::new("hog", at([instant("00:59:59")])).run_with(mins(10), obedient);
        let node = rig.node(node_with([hog, hourly("report")]).max_concurrent_runs(1)).await;
        rig.advance(hours(1) + mins(20)).await;

        let late = answer(rig, node, "report", "01:00:00").await;

        assert!(matches!(&late, Answer::Ran { because, .. } if *because == [Delay::Slot]), "{late:?}");
    });
}

#[test]
fn a_lost_run_names_its_node_and_whether_it_goes_on() {
    simulate(START, async |rig| {
        let long = || {
            let long = Job::new("long", at([instant("00:10:00")]));
            long.on_lost(OnLost::Record).run_with(mins(30), obedient)
        };
        let leader = rig.node(node_with([long()])).await;
        let follower = rig.node(node_with([long()])).await;
        rig.advance(mins(15)).await;
        let dead = rig.id(leader);
        rig.kill(leader);
        rig.advance(mins(5)).await;

        let lost = answer(rig, follower, "long", "00:10:00").await;

        let Answer::Lost { node, is_retried, .. } = lost else { panic!("{lost:?}") };
        assert_eq!((node, is_retried), (dead, false));
    });
}

#[test]
fn a_run_that_was_lost_before_it_was_recorded_names_the_node_that_ran_it() {
    simulate(START, async |rig| {
        let long = || Job::new("long", at([instant("00:10:00")])).run_with(mins(30), obedient);
        let leader = rig.node(node_with([long()])).await;
        let follower = rig.node(node_with([long()])).await;
        rig.advance(mins(10) + Duration::from_millis(100)).await;
        let dead = rig.id(leader);
        rig.kill(leader);
        rig.advance(mins(5)).await;

        let lost = answer(rig, follower, "long", "00:10:00").await;

        assert!(matches!(lost, Answer::Lost { node, .. } if node == dead), "{lost:?}, {dead}");
    });
}

#[test]
fn what_is_no_fire_time_names_the_calendar_and_the_fire_times_beside_it() {
    simulate(START, async |rig| {
        let closed = calendar("stocktaking").dates("2026-01-05");
        let schedule = cron("0 9 * * *").except(closed);
        let node = rig.node(node_with([Job::new("shop", schedule).run(async |_| {})])).await;

        let answer = answer(rig, node, "shop", "09:00:00").await;

        assert_eq!(
            answer.to_string(),
            "it does not fire then: the calendar \"stocktaking\" leaves it out; the fire times beside it are \
             2026-01-04T09:00:00Z and 2026-01-06T09:00:00Z"
        );
    });
}

#[test]
fn what_was_before_the_job_and_what_is_to_come_is_said_to_be_so() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([])).await;
        rig.advance(mins(90)).await;
        rig.add(node, hourly("new")).await.expect("it is right");
        rig.advance(mins(1)).await;

        let before = answer(rig, node, "new", "01:00:00").await;
        assert!(matches!(before, Answer::NotKnown { because: NotKnown::BeforeJob { .. } }), "{before:?}");
        let later = answer(rig, node, "new", "02:00:00").await;
        assert_eq!(later, Answer::NotDecided { because: NotDecided::Time });
    });
}

#[test]
fn a_run_that_was_triggered_for_a_fire_time_is_evidence_beside_its_tick() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([hourly("report")])).await;
        rig.advance(hours(1) + mins(5)).await;
        let again = TriggerJob::new("report").fire_time(instant("01:00:00")).by(by("alice"));
        rig.send(node, again).await.expect("nothing runs");
        rig.advance(mins(5)).await;

        let explained = explained(rig, node, "report", instant("01:00:00")).await;

        assert!(matches!(explained.answer, Answer::Ran { .. }), "{explained}");
        let text = explained.to_string();
        assert!(text.contains(" by alice: for 2026-01-05T01:00:00Z"), "{text}");
        assert!(text.contains(", triggered by alice, started 2026-01-05T01:05:00"), "{text}");
    });
}

#[test]
fn a_tick_that_was_skipped_and_backfilled_a_day_later_has_both_as_evidence() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([hourly("report").misfire(Misfire::Skip)])).await;
        rig.send(node, PauseJobs::new("report").by(by("alice"))).await.expect("it is there");
        rig.advance(hours(2) + mins(5)).await;
        rig.send(node, ResumeJobs::new("report")).await.expect("it is paused");
        rig.advance(hours(24)).await;
        let missed = Backfill::new("report", instant("01:00:00"), instant("01:59:59")).by(by("bob"));
        let kept = rig.send(node, missed).await.expect("it is kept");
        rig.advance(mins(5)).await;

        let explained = explained(rig, node, "report", instant("01:00:00")).await;

        assert!(
            matches!(explained.answer, Answer::Skipped { reason: SkipReason::Paused, .. }),
            "it is still so: {explained}"
        );
        let text = explained.to_string();
        let run = format!("run: {} on node", kept.id.run(0));
        let (asked, ran) = (
            format!("by bob: backfill {}, 1 fire times", kept.id),
            format!(", of backfill {} by bob", kept.id),
        );
        assert!([&run, &asked, &ran].into_iter().all(|said| text.contains(said)), "{text}");
        assert!(text.contains("started 2026-01-06T02:05:00"), "{text}");
    });
}

#[test]
fn a_range_explains_each_of_its_fire_times_and_says_where_to_go_on() {
    simulate(START, async |rig| {
        let often = Job::new("often", every(mins(1))).run(async |_| {});
        let node = rig.node(node_with([often])).await;
        rig.advance(hours(3)).await;

        let range = instant("00:10:00")..instant("02:00:00");
        let explained = rig.send(node, Explain::new("often", range)).await.expect("it is explained");

        assert_eq!(explained.explanations.len(), 100);
        assert!(
            explained.explanations.iter().all(|one| matches!(one.answer, Answer::Ran { .. })),
            "{explained}"
        );
        assert_eq!(explained.next, Some(instant("01:50:00")));
        let json = serde_json::to_string(&explained).expect("it can be written");
        assert_eq!(
            serde_json::from_str::<callsheet::Explanations>(&json).expect("it can be read"),
            explained
        );
    });
}

#[test]
fn each_tick_that_was_missed_in_a_downtime_is_explained() {
    simulate(START, async |rig| {
        let local = hourly("local").fires(Fires::Local).misfire(Misfire::Latest { within: mins(5) });
        let shared = hourly("shared").misfire(Misfire::Latest { within: mins(5) });
        let node = rig.node(node_with([local, shared])).await;
        rig.advance(mins(30)).await;
        rig.suspend(TimeDelta::hours(6));
        rig.advance(hours(1)).await;

        for job in ["local", "shared"] {
            for hour in 1..=6 {
                let missed = answer(rig, node, job, &format!("0{hour}:00:00")).await;
                assert!(
                    matches!(missed, Answer::Skipped { reason: SkipReason::Misfire, .. }),
                    "{job} {hour}: {missed:?}"
                );
            }
            let range = instant("00:30:00")..instant("07:30:00");
            let all = rig.send(node, Explain::new(job, range)).await.expect("it is explained");
            let is_skip = |one: &&Explanation| matches!(one.answer, Answer::Skipped { .. });
            assert_eq!(all.explanations.iter().filter(is_skip).count(), 6, "{all}");
            assert_eq!(all.explanations.len(), 7, "{all}");
        }
    });
}

#[test]
fn the_tick_that_runs_after_a_downtime_leaves_those_before_it_explained() {
    simulate(START, async |rig| {
        let jobs = [hourly("local").fires(Fires::Local), hourly("shared")];
        let node =
            rig.node(node_with(jobs.map(|job| job.misfire(Misfire::Latest { within: hours(1) })))).await;
        rig.advance(mins(30)).await;
        rig.suspend(TimeDelta::hours(6));
        rig.advance(mins(5)).await;

        for job in ["local", "shared"] {
            for hour in 1..=5 {
                let missed = answer(rig, node, job, &format!("0{hour}:00:00")).await;
                assert!(
                    matches!(missed, Answer::Skipped { reason: SkipReason::Misfire, .. }),
                    "{job} {hour}: {missed:?}"
                );
            }
            let newest = answer(rig, node, job, "06:00:00").await;
            assert!(matches!(newest, Answer::Ran { .. }), "{job}: {newest:?}");
        }
    });
}

#[test]
fn of_a_minute_of_overlaps_what_ran_and_what_did_not_are_told_apart() {
    simulate(START, async |rig| {
        let often = Job::new("often", every(secs(1))).run_with(Duration::from_millis(1_500), obedient);
        let node = rig.node(node_with([often])).await;
        rig.advance(mins(3)).await;

        let range = instant("00:01:00")..instant("00:02:00");
        let all = rig.send(node, Explain::new("often", range)).await.expect("it is explained");

        let ran = all.explanations.iter().filter(|one| matches!(one.answer, Answer::Ran { .. })).count();
        let overlap =
            |one: &&Explanation| matches!(one.answer, Answer::Skipped { reason: SkipReason::Overlap, .. });
        assert_eq!((ran, all.explanations.iter().filter(overlap).count()), (30, 30), "{all}");
    });
}

#[test]
fn a_pause_by_the_failure_policy_is_nobodys_though_somebody_paused_the_job_before() {
    simulate(START, async |rig| {
        let fails =
            |name: &str| Job::new(name, every(hours(1))).pause_after(2).run(async |_| Err::<(), _>("no"));
        let node = rig.node(node_with([fails("shared"), fails("local").fires(Fires::Local)])).await;
        for job in ["shared", "local"] {
            rig.send(node, PauseJobs::new(job).note("a test").by(by("alice"))).await.expect("it is there");
            rig.advance(secs(1)).await;
            rig.send(node, ResumeJobs::new(job).by(by("alice"))).await.expect("it is there");
        }
        rig.advance(hours(5)).await;

        for job in ["shared", "local"] {
            let skipped = answer(rig, node, job, "03:00:00").await;
            assert_eq!(
                skipped.to_string(),
                "skipped: the job was paused: runs that failed in a row: 2",
                "{job}"
            );
            let operations = rig.send(node, Operations::new().job(JobName::new(job).expect("a name"))).await;
            let newest = operations.expect("it is kept").operations.remove(0);
            assert_eq!((newest.operation, newest.by), (JobOperation::Paused, None), "{job}");
        }
    });
}

#[test]
fn a_run_that_waited_for_a_long_one_names_it() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(hours(1))).overlap(Overlap::Queue(3)).run_with(mins(90), obedient);
        let node = rig.node(node_with([long])).await;
        rig.advance(hours(4) + mins(30)).await;
        let Answer::Ran { run: first, .. } = answer(rig, node, "long", "01:00:00").await else {
            panic!("it has ended")
        };

        let late = answer(rig, node, "long", "02:00:00").await;

        let Answer::Ran { because, .. } = &late else { panic!("{late:?}") };
        assert!(matches!(&because[..], [Delay::Run { run, .. }] if *run == first), "{late:?}");
    });
}

#[test]
fn of_a_job_that_counts_from_its_ends_a_range_lists_what_is_recorded_and_the_next() {
    simulate(START, async |rig| {
        let job = Job::new("poll", every(mins(10)).from_completion()).run_with(mins(5), obedient);
        let node = rig.node(node_with([job])).await;
        rig.advance(hours(1)).await;

        let range = instant("00:00:00")..instant("02:00:00");
        let all = rig.send(node, Explain::new("poll", range)).await.expect("it is explained");

        let at: Vec<_> = all.explanations.iter().map(|one| one.at.format("%H:%M").to_string()).collect();
        let expected = ["00:10", "00:25", "00:40", "00:55", "01:10"];
        assert_eq!(at, expected, "{all}");
        let (next, ran) = all.explanations.split_last().expect("some");
        assert!(
            ran.iter().all(|one| matches!(one.answer, Answer::Ran { .. } | Answer::Running { .. })),
            "{all}"
        );
        assert_eq!(next.answer, Answer::NotDecided { because: NotDecided::Time });
        let between = answer(rig, node, "poll", "00:20:00").await;
        let said = "it does not fire then: its fire times count from the end of its runs; the next one is \
                    2026-01-05T01:10:00";
        assert!(between.to_string().starts_with(said), "{between}");
    });
}

#[test]
fn a_schedule_that_panics_when_it_is_asked_for_an_explanation_harms_nothing() {
    simulate(START, async |rig| {
        let far = "2030-01-01T00:00:00Z".parse::<DateTime<Utc>>().expect("an instant");
        let schedule = PanickingSchedule::new(Period::hours(1), far, u32::MAX);
        let node = rig.node(node_with([Job::new("custom", schedule).run(async |_| {})])).await;

        for _ in 0..10 {
            let asked = rig.send(node, Explain::new("custom", far)).await;
            assert!(matches!(asked, Err(ExplainError::Unresponsive { .. })), "{asked:?}");
        }

        rig.advance(hours(1) + mins(5)).await;
        let ran = answer(rig, node, "custom", "01:00:00").await;
        assert!(matches!(ran, Answer::Ran { .. }), "{ran:?}");
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobRestarted { .. })), 0);
    });
}

#[test]
fn the_ends_of_time_are_explained() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([hourly("report")])).await;
        rig.advance(mins(61)).await;
        for at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            explained(rig, node, "report", at).await;
        }
        let all = DateTime::<Utc>::MIN_UTC..DateTime::<Utc>::MAX_UTC;
        rig.send(node, Explain::new("report", all)).await.expect("it is explained");
        let still = answer(rig, node, "report", "01:00:00").await;
        assert!(matches!(still, Answer::Ran { .. }), "{still:?}");
    });
}

#[tokio::test]
async fn a_wrong_question_is_refused_with_value_rule_and_cure() {
    let jobs = Callsheet::builder().job(hourly("report")).start().await.expect("it starts");
    let (from, to) = (instant("02:00:00"), instant("01:00:00"));

    let error = jobs.explain("report", from..to).await.expect_err("it ends before it starts");
    assert!(matches!(&error, Error::Explain(ExplainError::Invalid(_))), "{error:?}");
    assert_eq!(
        error.to_string(),
        "when \"2026-01-05 02:00:00 UTC to 2026-01-05 01:00:00 UTC\": a range does not end before it starts; write the \
         earlier instant first"
    );
    let error = jobs.explain("nobody", from).await.expect_err("it is not there");
    assert!(matches!(&error, Error::Explain(ExplainError::UnknownJob { .. })), "{error:?}");
    jobs.shutdown(secs(1)).await;
}

#[test]
fn what_comes_after_the_last_run_of_a_limited_job_says_so() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([hourly("twice").limit(2)])).await;
        rig.advance(hours(5)).await;

        let second = answer(rig, node, "twice", "02:00:00").await;
        assert!(matches!(second, Answer::Ran { .. }), "{second:?}");
        for time in ["03:00:00", "09:00:00"] {
            assert_eq!(answer(rig, node, "twice", time).await, Answer::Exhausted { limit: 2 }, "{time}");
        }
    });
}

#[test]
fn every_reason_that_is_recorded_is_told_by_a_history_in_memory() {
    simulate(START, async |rig| {
        let history = Arc::new(MemoryHistory::new(MemoryBounds::default()));
        let mut options = HistoryOptions::default();
        options.store = Some(history.clone());
        let mut builder = node_with([]).history(options);
        let table = told::table(rig.now());
        let mut expected = Vec::new();
        for told::Told { job, name, at, records, said } in table {
            history.write(&records).await.expect("it is written");
            builder = builder.job(job);
            expected.push((name, at, said));
        }
        let node = rig.node(builder).await;

        for (name, at, said) in expected {
            let told = explained(rig, node, &name, at).await.answer.to_string();
            assert_eq!(told, said, "{name}");
        }
    });
}

//! Why a job ran late, or not at all: stories on the rig, each explained by the node that is asked.

use callsheet::{
    Answer, By, Callsheet, Delay, Error, Explain, ExplainError, Explanation, Job, NotDecided, NotKnown,
    OnLost, Outcome, PauseJobs, ResumeJobs, SkipReason, TriggerJob, When,
    schedule::{at, calendar, cron, every},
    testkit::{Rig, simulate},
};
use chrono::{DateTime, TimeDelta, Utc};

mod common;
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

        let Answer::Lost { is_retried, .. } = lost else { panic!("{lost:?}") };
        assert!(!is_retried, "{lost:?} {dead}");
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

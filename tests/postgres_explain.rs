//! Why a job ran, or did not, asked of a node that did not do it: the history is the database's.

use std::time::{Duration, Instant};

use callsheet::{
    Answer, Callsheet, Explanation, Explanations, Job, MemoryBounds, NotKnown, Outcome, Pause, SkipReason,
    backend::Postgres, port::Backend, schedule::every,
};
use chrono::{DateTime, TimeDelta, Utc};

#[path = "common/postgres.rs"]
mod harness;
#[path = "common/explained.rs"]
mod told;

/// How long a test waits for what is to be recorded.
const RECORDED_WITHIN: Duration = Duration::from_secs(20);

fn job() -> Job {
    Job::new("often", every(Duration::from_secs(1))).run(async |run| run.report("1,204 rows"))
}

async fn node(scope: &str) -> Callsheet {
    let builder = Callsheet::builder().backend(Postgres::new(scope, harness::server().url())).job(job());
    builder.start().await.expect("it starts")
}

/// Asks until the answer is one of these.
async fn explained(jobs: &Callsheet, at: DateTime<Utc>, wanted: impl Fn(&Answer) -> bool) -> Explanation {
    let until = Instant::now() + RECORDED_WITHIN;
    loop {
        let Explanations { mut explanations, .. } = jobs.explain("often", at).await.expect("it is explained");
        let explanation = explanations.remove(0);
        if wanted(&explanation.answer) {
            return explanation;
        }
        assert!(Instant::now() < until, "{explanation}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The first fire time of the job that the node has not decided yet.
async fn next(jobs: &Callsheet) -> DateTime<Utc> {
    jobs.next_fire_times("often", 1).await.expect("it is there")[0]
}

#[tokio::test]
async fn a_follower_explains_what_the_leader_decided() {
    let leader = node("explain").await;
    let follower = node("explain").await;

    let tick = next(&leader).await;
    let ran = explained(&follower, tick, |answer| matches!(answer, Answer::Ran { .. })).await;
    let Answer::Ran { outcome, node, .. } = ran.answer else { panic!("{ran}") };
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!(node, leader.health().await.expect("it answers").node, "{ran}");
    assert!(ran.to_string().contains("1,204 rows"), "{ran}");

    let pause = Pause::until_resumed().note("the disk is full");
    follower.by("alice").expect("a good name").pause_with("often", pause).await.expect("it is there");
    let paused = next(&leader).await + TimeDelta::seconds(2);
    // Those of a minute are one record: the node that skipped them says it at once. Who asked for the pause is known
    // to it a little later than that there is one: by the notification, and by the record of the other node.
    let by_alice = |answer: &Answer| matches!(answer, Answer::Skipped { reason: SkipReason::Paused, by: Some(by), .. } if by.as_str() == "alice");
    let skipped = explained(&leader, paused, by_alice).await;
    assert!(skipped.to_string().contains("paused by alice: the disk is full"), "{skipped}");

    let before = tick - TimeDelta::days(3);
    let unknown = explained(&follower, before, |_| true).await;
    assert!(matches!(unknown.answer, Answer::NotKnown { because: NotKnown::BeforeJob { .. } }), "{unknown}");
    for jobs in [leader, follower] {
        jobs.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_run_of_a_backfill_is_evidence_on_another_node() {
    let leader = node("explain_backfill").await;
    let follower = node("explain_backfill").await;
    let at: DateTime<Utc> = "2026-01-05T03:00:00Z".parse().expect("an instant");
    let asked = callsheet::Backfill::new("often", at, at + TimeDelta::seconds(2)).again(true);
    let kept = leader.by("bob").expect("a good name").backfill(asked).await.expect("it is kept");

    let until = Instant::now() + RECORDED_WITHIN;
    loop {
        let text = explained(&follower, at, |_| true).await.to_string();
        let ran = format!("run: {} on node", kept.id.run(0));
        let of = format!(", of backfill {} by bob", kept.id);
        if text.contains(&ran) && text.contains(&of) && text.contains(", succeeded: 1,204 rows") {
            assert!(text.contains(&format!("by bob: backfill {}, 3 fire times", kept.id)), "{text}");
            break;
        }
        assert!(Instant::now() < until, "{text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for jobs in [leader, follower] {
        jobs.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn every_reason_that_is_recorded_is_told_by_the_history_of_the_database() {
    let scope = harness::scope("told");
    let backend = || Postgres::new(&scope, harness::server().url());
    let node = backend();
    // It makes the schema.
    node.locker().open().await.expect("a session opens");
    let history = node.history(MemoryBounds::default()).expect("it has one");
    let mut builder = Callsheet::builder().backend(backend());
    let mut expected = Vec::new();
    for told::Told { job, name, at, records, said } in told::table(Utc::now()) {
        history.write(&records).await.expect("it is written");
        builder = builder.job(job);
        expected.push((name, at, said));
    }
    let jobs = builder.start().await.expect("it starts");

    for (name, at, said) in expected {
        let mut told = jobs.explain(&name, at).await.expect("it is explained");
        assert_eq!(told.explanations.remove(0).answer.to_string(), said, "{name}");
    }
    jobs.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_an_operator_had_skipped_on_the_leader_is_explained_by_a_follower() {
    let leader = node("explain_skip").await;
    let follower = node("explain_skip").await;
    let first = next(&leader).await;
    explained(&follower, first, |answer| matches!(answer, Answer::Ran { .. })).await;
    leader.pause("often").await.expect("it is there");
    let until = Instant::now() + RECORDED_WITHIN;
    while leader.details("often").await.expect("it is there").held.is_none_or(|held_now| held_now.count == 0)
    {
        assert!(Instant::now() < until, "nothing is held");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let refused = follower.skip_missed("often").await.expect_err("another node leads").to_string();
    let leads = leader.health().await.expect("it answers").node;
    assert_eq!(
        refused,
        format!("this node does not decide the ticks of often; node {leads} leads: ask there")
    );
    let asks = leader.by("alice").and_then(|alice| alice.note("it is stale")).expect("good words");
    let skipped = asks.skip_missed("often").await.expect("it leads");

    assert!(skipped[0].count >= 1, "{skipped:?}");
    let newest = loop {
        let page = follower.decisions(callsheet::Decisions::new()).await.expect("a history is kept");
        let is_it = |one: &&callsheet::DecisionRecord| one.decision.reason() == "operator";
        if let Some(tick) = page.decisions.iter().find(is_it).and_then(|one| one.fire_time) {
            break tick.instant();
        }
        assert!(Instant::now() < until, "{page:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let told =
        explained(&follower, newest, |answer| matches!(answer, Answer::Skipped { .. })).await.to_string();
    assert!(told.contains("what was missed was skipped by alice: it is stale"), "{told}");
    for jobs in [leader, follower] {
        jobs.shutdown(Duration::from_secs(5)).await;
    }
}

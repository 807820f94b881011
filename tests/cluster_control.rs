//! Control from any node: what is asked of one node holds on all of them, or the nodes are named that have not
//! confirmed.

use std::{sync::Arc, time::Duration};

use callsheet::{
    Callsheet, CancelledRuns, ClusterError, Error, ErrorKind, EventKind, Job, JobState, ListJobs, NodeId,
    Operations, Overlap, Pause, RunId, Selector, TriggerJob, Unconfirmed, WhyUnconfirmed,
    port::{Backend, ControlRequest, JobSet, NodeAnswer, Posted, REQUESTS_OPEN_MAX, Role, To},
    schedule::every,
    testkit::{NodeIndex, Rig, VirtualClock, simulate},
};
use chrono::TimeDelta;

mod common;
use common::{node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";
/// Long before a node is asked to answer by itself.
const SOON: Duration = Duration::from_secs(2);

/// A job that runs until it is cancelled, when it is triggered.
fn long() -> Job {
    Job::new("long", every(Duration::from_hours(24)))
        .tag("slow")
        .overlap(Overlap::Allow(8))
        .run(async |run| run.cancelled().await)
}

async fn three_with(rig: &mut Rig, jobs: impl Fn() -> Vec<Job>) {
    for _ in 0..3 {
        rig.node(node_with(jobs())).await;
    }
    rig.advance(secs(5)).await;
}

async fn started_on(rig: &mut Rig, node: NodeIndex) -> RunId {
    let run = rig.send(node, TriggerJob::new("long")).await.expect("it starts").run();
    rig.advance(secs(1)).await;
    run
}

fn handle(rig: &Rig, node: NodeIndex) -> Callsheet {
    Callsheet::of_rig(rig, node)
}

fn cluster_error(error: Error) -> ClusterError {
    match error {
        Error::Cluster(error) => error,
        other => panic!("another error: {other}"),
    }
}

/// The runs that were cancelled, and the node of each.
fn runs_of(cancelled: &CancelledRuns) -> Vec<(RunId, NodeId)> {
    cancelled.runs.iter().map(|run| (run.run, run.node)).collect()
}

fn why(unconfirmed: &[Unconfirmed]) -> Vec<(&str, &WhyUnconfirmed)> {
    unconfirmed.iter().map(|one| (&*one.name, &one.why)).collect()
}

#[test]
fn a_run_is_cancelled_by_its_id_from_each_node() {
    simulate(START, async |rig| {
        three_with(rig, || vec![long()]).await;
        for asked in 0..3 {
            let run = started_on(rig, 1).await;

            let alice = handle(rig, asked).by("alice").expect("a name").note("too slow").expect("a note");
            let cancelled = alice.cluster().cancel_run(run).await.expect("somebody runs it");

            assert_eq!(runs_of(&cancelled), [(run, rig.id(1))], "asked at {asked}");
            assert_eq!(cancelled.unconfirmed, []);
            rig.advance(secs(1)).await;
        }
        let ended = |kind: &EventKind| matches!(kind, EventKind::RunCancelled { .. });
        assert_eq!(rig.count(ended), 3);
        let operations =
            handle(rig, 1).operations(Operations::new()).await.expect("they are kept").operations;
        let by_alice = operations.iter().filter(|operation| {
            let by = operation.by.as_ref().is_some_and(|by| by.as_str() == "alice");
            by && operation.note.as_deref() == Some("too slow")
        });
        assert_eq!(by_alice.count(), 3, "{operations:?}");
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn the_runs_of_a_job_are_cancelled_on_all_nodes() {
    simulate(START, async |rig| {
        three_with(rig, || vec![long()]).await;
        for selector in [Selector::from("long"), Selector::Tag("slow".to_owned()), Selector::All] {
            let mut runs = Vec::new();
            for node in 0..3 {
                runs.push((started_on(rig, node).await, rig.id(node)));
            }
            runs.sort();

            let cancelled =
                handle(rig, 2).cluster().cancel_runs(selector.clone()).await.expect("it is known");

            let mut found = runs_of(&cancelled);
            found.sort();
            assert_eq!(found, runs, "{selector:?}");
            rig.advance(secs(1)).await;
            assert_eq!(rig.store().held(), 0);
        }
    });
}

#[test]
fn what_no_node_knows_is_an_error_once_all_have_answered() {
    simulate(START, async |rig| {
        three_with(rig, || vec![long()]).await;
        let run = started_on(rig, 1).await;
        let cluster = handle(rig, 0).cluster();
        cluster.cancel_run(run).await.expect("it runs");
        rig.advance(secs(1)).await;

        let unknown = [
            cluster_error(cluster.cancel_run(run).await.expect_err("it has ended")),
            cluster_error(cluster.cancel_runs("other").await.expect_err("no such job")),
            cluster_error(cluster.details("other").await.expect_err("no such job")),
            cluster_error(cluster.trigger("other").await.expect_err("no such job")),
            cluster_error(cluster.pause("other").await.expect_err("no such job")),
        ];

        assert!(unknown.iter().all(|error| error.kind() == ErrorKind::NotFound), "{unknown:?}");
        let none = cluster.cancel_runs(Selector::Tag("none".to_owned())).await.expect("no error");
        assert_eq!((none.runs.len(), none.unconfirmed.len()), (0, 0));
    });
}

#[test]
fn a_node_that_is_cut_off_is_named_as_not_confirmed() {
    simulate(START, async |rig| {
        three_with(rig, || vec![long()]).await;
        let run = started_on(rig, 2).await;
        rig.cut_off(2);
        let cluster = handle(rig, 0).cluster().within(SOON);
        let before = rig.now();

        let cancelled = cluster.cancel_run(run).await.expect("it may be there");

        assert_eq!(cancelled.runs, []);
        assert_eq!(why(&cancelled.unconfirmed), [("n3", &WhyUnconfirmed::NoAnswer)]);
        assert!(rig.now() - before < chrono::TimeDelta::seconds(3), "not beyond the deadline");
        let error = cluster.details("elsewhere").await.expect_err("it may be there");
        assert!(error.to_string().contains("\"n3\""), "{error}");

        rig.reconnect(2);
        rig.advance(secs(120)).await;
        assert_eq!(rig.store().held(), 1, "what was not confirmed in time is not done later");
        let cancelled = cluster.cancel_run(run).await.expect("it is there");
        assert_eq!((runs_of(&cancelled), cancelled.unconfirmed), (vec![(run, rig.id(2))], Vec::new()));
    });
}

#[test]
fn a_node_that_dies_while_it_is_asked_is_not_waited_for() {
    simulate(START, async |rig| {
        three_with(rig, || vec![long()]).await;
        let run = started_on(rig, 2).await;
        rig.freeze(2);
        let cluster = handle(rig, 0).cluster().within(secs(60));
        let before = rig.now();
        let asked = tokio::spawn(async move { cluster.cancel_run(run).await });
        rig.advance(secs(5)).await;
        assert!(!asked.is_finished(), "it has not answered");

        rig.kill(2);
        let cancelled = asked.await.expect("no panic").expect("it was there");

        assert_eq!(why(&cancelled.unconfirmed), [("n3", &WhyUnconfirmed::SessionOver)]);
        assert!(rig.now() - before < chrono::TimeDelta::seconds(7), "at once");
    });
}

#[test]
fn a_job_is_triggered_on_a_node_that_has_it() {
    simulate(START, async |rig| {
        let empty = rig.node(node_with([])).await;
        let has_it = rig.node(node_with([long()])).await;
        let has_it_too = rig.node(node_with([long()])).await;
        rig.advance(secs(5)).await;

        let elsewhere = handle(rig, empty).cluster().trigger("long").await.expect("somebody has it");
        let here = handle(rig, has_it_too).cluster().trigger("long").await.expect("it has it");

        assert_eq!(elsewhere.node, rig.id(has_it), "the first of those that have it: the leader does not");
        assert_eq!(here.node, rig.id(has_it_too), "the node that is asked");
        rig.advance(secs(1)).await;
        assert_eq!(rig.started("long"), 2, "once each");
        let running = handle(rig, empty).cluster().active_runs().await.expect("all answer");
        let on: Vec<_> = running.runs.iter().map(|run| (run.run.status.run, run.node)).collect();
        assert_eq!(
            on,
            [(elsewhere.triggered.run(), rig.id(has_it)), (here.triggered.run(), rig.id(has_it_too))]
        );
        assert_eq!((running.count, running.unconfirmed.len()), (2, 0));
    });
}

#[test]
fn the_leader_is_preferred_for_a_trigger() {
    simulate(START, async |rig| {
        let leads = rig.node(node_with([long()])).await;
        rig.advance(secs(5)).await;
        for _ in 0..2 {
            rig.node(node_with([long()])).await;
        }
        let empty = rig.node(node_with([])).await;
        rig.advance(secs(5)).await;
        assert_eq!(rig.leader(), Some(leads));

        let triggered = handle(rig, empty).cluster().trigger("long").await.expect("somebody has it");

        assert_eq!(triggered.node, rig.id(leads));
    });
}

#[test]
fn a_silent_node_does_not_keep_a_job_from_being_triggered() {
    simulate(START, async |rig| {
        let empty = rig.node(node_with([])).await;
        rig.advance(secs(5)).await;
        let has_it = rig.node(node_with([long()])).await;
        let silent = rig.node(node_with([long()])).await;
        rig.advance(secs(5)).await;
        rig.freeze(silent);
        let before = rig.now();

        let triggered = handle(rig, empty).cluster().trigger("long").await.expect("another one has it");

        assert_eq!(triggered.node, rig.id(has_it));
        assert!(rig.now() - before < TimeDelta::seconds(2), "a quarter of the time");
        rig.advance(secs(1)).await;
        assert_eq!(rig.started("long"), 1);
    });
}

#[test]
fn nobody_is_waited_for_once_the_leader_says_that_it_has_the_job() {
    simulate(START, async |rig| {
        // A follower hears of the leader when its campaign ends, and knows it for so long.
        rig.set_lease(secs(60));
        let leader = rig.node(node_with([long()])).await;
        rig.advance(secs(5)).await;
        let empty = rig.node(node_with([])).await;
        let silent = rig.node(node_with([long()])).await;
        rig.advance(secs(70)).await;
        rig.freeze(silent);
        let before = rig.now();

        let triggered = handle(rig, empty).cluster().trigger("long").await.expect("the leader has it");

        assert_eq!(triggered.node, rig.id(leader));
        let took = rig.now() - before;
        assert!(took < TimeDelta::milliseconds(700), "one look at most: {took}");
    });
}

#[test]
fn a_node_that_drains_answers_until_its_session_closes() {
    simulate(START, async |rig| {
        three_with(rig, || vec![long()]).await;
        let run = started_on(rig, 2).await;
        let drains = handle(rig, 2);
        let drained = tokio::spawn(async move { drains.shutdown(secs(600)).await });
        rig.advance(secs(1)).await;
        let cluster = handle(rig, 0).cluster();

        let runs = cluster.active_runs().await.expect("all answer");
        let cancelled = cluster.cancel_run(run).await.expect("it is there");

        assert_eq!((runs.count, runs.unconfirmed), (1, Vec::new()));
        assert_eq!((runs_of(&cancelled), cancelled.unconfirmed), (vec![(run, rig.id(2))], Vec::new()));
        rig.advance(secs(5)).await;
        assert!(drained.is_finished(), "nothing is left to drain");
    });
}

#[test]
fn a_refusal_of_the_node_that_has_the_job_is_told_with_its_name() {
    simulate(START, async |rig| {
        let alone = || long().overlap(Overlap::Skip);
        let empty = rig.node(node_with([])).await;
        rig.node(node_with([alone()])).await;
        rig.advance(secs(5)).await;
        let cluster = handle(rig, empty).cluster();
        cluster.trigger("long").await.expect("it starts");
        rig.advance(secs(1)).await;

        let error = cluster_error(cluster.trigger("long").await.expect_err("it runs"));

        assert_eq!(error.kind(), ErrorKind::Busy);
        let text = error.to_string();
        assert!(text.contains("\"n2\"") && text.contains("its lock key is held by run"), "{text}");
    });
}

#[test]
fn jobs_of_any_node_are_paused_and_resumed() {
    simulate(START, async |rig| {
        let often = || Job::new("often", every(secs(1))).run(async |_| {});
        let empty = rig.node(node_with([])).await;
        let has_it = rig.node(node_with([often()])).await;
        rig.advance(secs(40)).await;
        let cluster = handle(rig, empty).by("alice").expect("a name").cluster();

        let paused =
            cluster.pause_with("often", Pause::until_resumed().note("no paper")).await.expect("it is known");
        let started = rig.started("often");
        assert!(started > 0);
        rig.advance(secs(30)).await;

        assert_eq!(paused.jobs.iter().map(|job| job.as_str()).collect::<Vec<_>>(), ["often"]);
        assert_eq!(paused.unconfirmed, []);
        assert_eq!(rig.started("often"), started);
        let pause =
            handle(rig, has_it).details("often").await.expect("it has it").pause.expect("it is paused");
        assert_eq!(pause.by.expect("it was said").as_str(), "alice");
        assert_eq!(pause.note.as_deref(), Some("no paper"));
        let again = cluster.pause_with("often", Pause::until_resumed().note("no paper")).await;
        assert_eq!(again.expect("it is known").jobs, [], "it was paused");
        assert_eq!(cluster.resume("often").await.expect("it is known").jobs.len(), 1);
        rig.advance(secs(30)).await;
        assert!(rig.started("often") > started);
    });
}

#[test]
fn a_node_that_hears_late_of_a_pause_does_not_undo_a_later_change() {
    simulate(START, async |rig| {
        let often = || Job::new("often", every(secs(1))).run(async |_| {});
        three_with(rig, || vec![often()]).await;
        rig.freeze(2);
        let cluster = handle(rig, 0).cluster().within(secs(60));
        let paused = tokio::spawn(async move { cluster.pause("often").await });
        rig.advance(secs(2)).await;
        let pause = handle(rig, 1).details("often").await.expect("it has it").pause;
        assert!(pause.is_some(), "the first node has written it");

        handle(rig, 1).resume("often").await.expect("the store answers");
        rig.thaw(2);
        rig.advance(secs(10)).await;

        let paused = paused.await.expect("no panic").expect("it is known");
        assert_eq!((paused.jobs.len(), paused.unconfirmed), (1, Vec::new()));
        for node in 0..3 {
            let pause = handle(rig, node).details("often").await.expect("it has it").pause;
            assert_eq!(pause, None, "node {node}: it was resumed after that");
        }
        let started = rig.started("often");
        rig.advance(secs(10)).await;
        assert!(rig.started("often") > started);
    });
}

#[test]
fn what_was_done_is_no_error_though_the_others_are_not_asked() {
    simulate(START, async |rig| {
        three_with(rig, || vec![long()]).await;
        let run = started_on(rig, 0).await;
        let stranger = rig.store().backend(NodeId::numbered(9), VirtualClock::starting_at(rig.now()));
        stranger.locker().open().await.expect("a session opens");
        let control = stranger.control().expect("the store keeps requests");
        for _ in 0..REQUESTS_OPEN_MAX {
            let request = ControlRequest::new(callsheet::uuid::Uuid::new_v4(), NodeId::numbered(9), "{}");
            control.post(&request, To::Others, secs(60), REQUESTS_OPEN_MAX).await.expect("it is kept");
        }
        let cluster = handle(rig, 0).cluster();

        let paused = cluster.pause("long").await.expect("the store has it");
        let refused = cluster_error(cluster.cancel_run(run).await.expect_err("nobody can be asked"));

        assert_eq!(paused.jobs.iter().map(|job| job.as_str()).collect::<Vec<_>>(), ["long"]);
        let unasked = why(&paused.unconfirmed);
        assert_eq!(unasked.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["n2", "n3", "n9"]);
        assert!(unasked.iter().all(|(_, why)| matches!(why, WhyUnconfirmed::Unable(_))), "{unasked:?}");
        assert!(matches!(refused, ClusterError::TooMany { .. }), "{refused}");
        rig.advance(secs(1)).await;
        assert_eq!(rig.store().held(), 1, "what is refused is not done");
        stranger.locker().close().await;
    });
}

#[test]
fn each_job_is_listed_once_with_the_nodes_that_have_it() {
    simulate(START, async |rig| {
        let named = |name: &str| Job::new(name, every(Duration::from_hours(1))).run(async |_| {});
        rig.node(node_with([named("a"), named("c")])).await;
        rig.advance(secs(5)).await;
        rig.node(node_with([named("b"), named("c"), named("d")])).await;
        let asked = rig.node(node_with([])).await;
        rig.advance(secs(5)).await;
        let cluster = handle(rig, asked).cluster();

        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = cluster.list(ListJobs::default().limit(2).after(after)).await.expect("all answer");
            assert_eq!(page.unconfirmed, []);
            all.extend(page.jobs);
            after = page.next;
            if after.is_none() {
                break;
            }
        }

        let found: Vec<_> = all
            .iter()
            .map(|job| (job.job.name.as_str(), job.on.iter().map(|on| on.node).collect::<Vec<_>>()))
            .collect();
        let [n1, n2] = [0, 1].map(|node| rig.id(node));
        assert_eq!(found, [("a", vec![n1]), ("b", vec![n2]), ("c", vec![n1, n2]), ("d", vec![n2])]);
        let details = cluster.details("c").await.expect("it is known");
        assert_eq!((details.job.said_by, details.unconfirmed.len()), (n1, 0), "the leader says what it is");
        let written = serde_json::to_string(&details).expect("it is written");
        assert_eq!(
            serde_json::from_str::<callsheet::DetailsInCluster>(&written).expect("it is read"),
            details
        );
    });
}

#[test]
fn jobs_in_a_state_are_listed_with_the_nodes_that_see_them_so() {
    simulate(START, async |rig| {
        three_with(rig, || vec![long()]).await;
        let run = started_on(rig, 1).await;
        let cluster = handle(rig, 0).cluster();

        let page = cluster.list(ListJobs::default().state(JobState::Running)).await.expect("all answer");

        let job = &page.jobs[0];
        assert_eq!((page.jobs.len(), job.said_by, job.on.len()), (1, rig.id(1), 1));
        assert_eq!((job.on[0].node, job.on[0].active_runs[0].run), (rig.id(1), run));
        let details = cluster.details("long").await.expect("it is known");
        assert_eq!((details.job.said_by, details.job.on.len()), (rig.id(0), 3));
    });
}

#[test]
fn nodes_are_listed_with_role_jobs_and_runs() {
    simulate(START, async |rig| {
        three_with(rig, || vec![long()]).await;
        started_on(rig, 2).await;
        let leader = rig.leader().expect("somebody leads");
        rig.advance(secs(70)).await;
        for asked in 0..3 {
            let list = handle(rig, asked).cluster().nodes().await.expect("all answer");

            assert_eq!(list.unconfirmed, []);
            let ids: Vec<_> = list.nodes.iter().map(|node| node.node).collect();
            assert_eq!(ids, [0, 1, 2].map(|node| rig.id(node)));
            for (nth, node) in list.nodes.iter().enumerate() {
                let role = if nth == leader { Role::Leader } else { Role::Follower };
                assert_eq!((node.role, node.term.is_some()), (role, nth == leader));
                assert_eq!(node.is_asked, nth == asked);
                assert_eq!(node.code_jobs.expect("it says so").count, 1);
                let now = node.now.expect("it answers");
                assert_eq!((now.jobs, now.runs), (1, usize::from(nth == 2)), "node {nth}");
            }
            let written = serde_json::to_string(&list).expect("it is written");
            assert_eq!(serde_json::from_str::<callsheet::NodeList>(&written).expect("it is read"), list);
        }
    });
}

#[test]
fn a_node_with_other_jobs_in_its_code_is_said_and_that_it_is_over() {
    simulate(START, async |rig| {
        let named = |name: &str| Job::new(name, every(secs(20))).run(async |_| {});
        rig.node(node_with([named("a"), named("b")])).await;
        let other = rig.node(node_with([named("a")])).await;
        let drifts = |kind: &EventKind| matches!(kind, EventKind::JobSetDrift { .. });
        rig.advance(secs(30)).await;
        assert_eq!(rig.count(drifts), 0, "it may pass");

        rig.advance(secs(600)).await;

        assert_eq!(rig.count(drifts), 2, "each node says it once");
        let counts = |kind: &EventKind| matches!(kind, EventKind::JobSetDrift { own, other, .. } if own.count + other.count == 3);
        assert_eq!(rig.count(counts), 2);
        rig.add(other, named("b")).await.expect("it is right");
        rig.advance(secs(600)).await;
        assert_eq!(rig.count(drifts), 2);
        assert!(rig.gauge("callsheet_job_set_drift", "").abs() < 0.5);
    });
}

/// What each node says of its jobs.
async fn code_jobs(rig: &Rig, asked: NodeIndex) -> Vec<JobSet> {
    let list = handle(rig, asked).cluster().nodes().await.expect("all answer");
    list.nodes.into_iter().map(|node| node.code_jobs.expect("it has said so")).collect()
}

#[test]
fn a_node_says_within_seconds_that_jobs_of_its_code_have_changed() {
    simulate(START, async |rig| {
        let named = |name: &str, often| Job::new(name, every(secs(often))).run(async |_| {});
        for _ in 0..2 {
            rig.node(node_with([named("a", 20)])).await;
        }
        rig.advance(secs(90)).await;
        let before = code_jobs(rig, 0).await;
        assert_eq!(before[0], before[1]);

        handle(rig, 1).update(named("a", 30)).await.expect("it is there");
        rig.advance(secs(5)).await;
        let updated = code_jobs(rig, 0).await;
        rig.add(1, named("b", 20)).await.expect("it is right");
        rig.advance(secs(5)).await;
        let added = code_jobs(rig, 0).await;
        handle(rig, 1).remove("b").await.expect("it is there");
        handle(rig, 1).update(named("a", 20)).await.expect("it is there");
        rig.advance(secs(5)).await;

        assert!(updated[1].count == 1 && updated[1] != updated[0], "{updated:?}");
        assert_eq!((added[0], added[1].count), (before[0], 2));
        assert_eq!(code_jobs(rig, 0).await, before);
        rig.advance(secs(300)).await;
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobSetDrift { .. })), 0, "it was over soon");
    });
}

#[test]
fn what_somebody_writes_into_the_store_harms_nobody() {
    simulate(START, async |rig| {
        three_with(rig, || vec![long()]).await;
        // Somebody who has a session, and is no node of this library.
        let clock = VirtualClock::starting_at(rig.now());
        let stranger = rig.store().backend(NodeId::numbered(9), clock);
        stranger.locker().open().await.expect("a session opens");
        let control = stranger.control().expect("the store keeps requests");
        for body in
            ["", "{", r#"{"ask": "explode"}"#, r#"{"ask": "cancel_run", "run": "x"}"#, "[[[[[[", "\u{0}"]
        {
            let request = ControlRequest::new(callsheet::uuid::Uuid::new_v4(), NodeId::numbered(9), body);
            let posted =
                control.post(&request, To::Others, secs(60), REQUESTS_OPEN_MAX).await.expect("it is kept");
            assert!(matches!(posted, Posted::Asked(asked) if asked.len() == 3));
            rig.advance(secs(1)).await;
            for (_, answer) in control.answers(request.id, &[]).await.expect("they are kept") {
                let NodeAnswer::Answered(answer) = answer else {
                    panic!("no answer to {body:?}: {answer:?}")
                };
                assert!(answer.contains("cannot read the request"), "{answer}");
            }
            control.close(request.id).await.expect("it is forgotten");
        }

        let answers = Arc::clone(&control);
        let asked = handle(rig, 0).cluster().within(secs(10));
        let asked = tokio::spawn(async move { asked.active_runs().await });
        rig.advance(Duration::from_millis(100)).await;
        for taken in answers.take().await.expect("it is asked as well") {
            answers.answer(taken.request.id, r#"{"runs": "none"}"#.into()).await.expect("it is kept");
        }

        let runs = asked.await.expect("no panic").expect("the others answer");
        assert!(matches!(why(&runs.unconfirmed)[..], [("n9", WhyUnconfirmed::Unable(_))]), "{runs:?}");
        let run = started_on(rig, 1).await;
        let cancelled = handle(rig, 0).cluster().within(SOON).cancel_run(run).await.expect("it is there");
        assert_eq!(runs_of(&cancelled), [(run, rig.id(1))], "the nodes go on");
        stranger.locker().close().await;
    });
}

#[tokio::test]
async fn one_node_alone_answers_for_all_that_there_are() {
    let jobs = Callsheet::builder().job(long()).start().await.expect("it starts");
    let cluster = jobs.cluster();
    let run = cluster.trigger("long").await.expect("it has it").triggered.run();

    let list = cluster.nodes().await.expect("an answer");
    assert_eq!((list.nodes.len(), list.nodes[0].role), (1, Role::Local));
    assert_eq!(cluster.active_runs().await.expect("an answer").count, 1);
    assert_eq!(cluster.cancel_run(run).await.expect("it runs").runs.len(), 1);
    jobs.shutdown(secs(5)).await;
}

#[test]
fn a_backend_without_it_refuses_by_its_name() {
    simulate(START, async |rig| {
        rig.elect_only(callsheet::backend::OnUnproven::default());
        let node = rig.node(node_with([long().overlap(Overlap::Skip)])).await;
        rig.advance(secs(5)).await;
        let cluster = handle(rig, node).cluster();

        let refused = [
            cluster_error(cluster.nodes().await.expect_err("it knows no other")),
            cluster_error(cluster.active_runs().await.expect_err("it knows no other")),
            cluster_error(cluster.cancel_runs(Selector::All).await.expect_err("it knows no other")),
            cluster_error(cluster.trigger("long").await.expect_err("though this node has it")),
            cluster_error(cluster.pause("long").await.expect_err("it knows no other")),
            cluster_error(cluster.list(ListJobs::default()).await.expect_err("it knows no other")),
        ];

        for error in refused {
            assert!(matches!(error, ClusterError::Unsupported { backend: "elected" }));
            assert!(error.to_string().contains("without `cluster()`"), "{error}");
        }
        assert_eq!(rig.started("long"), 0, "nothing was done");
    });
}

//! Control at runtime: add, remove, trigger, list, and the policies of a job.

use std::time::Duration;

use callsheet::{
    CancelReason, CancelRuns, EventKind, FIRE_TIMES_MAX, Fires, Health, Job, JobDetails, JobState, ListJobs,
    Misfire, NextFireTimes, NextFireTimesError, Outcome, PAGE_MAX, RemoveJobs, SelectError, Selector,
    TriggerError, TriggerJob, UpdateJob,
    port::Role,
    schedule::{at, cron, every},
    testkit::{
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};

mod common;
use common::{hours, node_with, secs, starts};

const START: &str = "2026-01-05T00:00:00Z";

fn job(name: &str) -> Job {
    Job::new(name, every(secs(1))).run(async |_| {})
}

#[test]
fn jobs_are_added_and_removed_while_it_runs() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([])).await;
        rig.advance(Duration::from_millis(2_500)).await;
        rig.add(node, job("late")).await.expect("it is right");
        rig.advance(secs(3)).await;
        assert_eq!(rig.started("late"), 3, "its ticks count from its creation on");

        let removed = rig.send(node, RemoveJobs::new("late")).await.expect("it is there");
        assert_eq!(removed.len(), 1);
        rig.advance(secs(10)).await;
        assert_eq!(rig.started("late"), 3);

        rig.add(node, job("late")).await.expect("the name is free again");
        rig.advance(secs(3)).await;
        assert_eq!(rig.started("late"), 6, "no tick counts of the time in which it was removed");
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=misfire"), 0);
    });
}

#[test]
fn a_removed_job_lets_its_run_end() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(5)).await);
        let node = rig.node(node_with([long])).await;
        rig.advance(secs(11)).await;

        rig.send(node, RemoveJobs::new("long")).await.expect("it is there");
        rig.advance(secs(20)).await;

        assert_eq!(rig.started("long"), 1);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 1);
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn jobs_are_removed_by_tag_and_all_together() {
    simulate(START, async |rig| {
        let tagged = |name: &str| Job::new(name, every(secs(1))).tag("mail").run(async |_| {});
        let node = rig.node(node_with([tagged("a"), tagged("b"), job("c"), job("d")])).await;

        let mail = rig.send(node, RemoveJobs::new(Selector::Tag("mail".to_owned()))).await.expect("two");
        assert_eq!(mail.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let rest = rig.send(node, RemoveJobs::new(Selector::All)).await.expect("two");
        assert_eq!(rest.len(), 2);
        assert_eq!(rig.send(node, Health).await.jobs, 0);
    });
}

#[test]
fn a_trigger_answers_what_really_happened_on_leader_and_follower() {
    simulate(START, async |rig| {
        let long = || Job::new("long", every(hours(1))).run(async |_| tokio::time::sleep(secs(5)).await);
        let leader = rig.node(node_with([long()])).await;
        let follower = rig.node(node_with([long()])).await;
        rig.advance(secs(1)).await;

        let run = rig.send(follower, TriggerJob::new("long")).await.expect("nothing runs");
        let refused = rig.send(leader, TriggerJob::new("long")).await;
        assert!(
            matches!(&refused, Err(TriggerError::Overlap { holder: Some(holder), .. }) if *holder == run.run()),
            "the key is held on the other node: {refused:?}"
        );
        let refused = rig.send(follower, TriggerJob::new("long")).await;
        assert!(matches!(refused, Err(TriggerError::Overlap { .. })));

        rig.advance(secs(10)).await;
        rig.send(leader, TriggerJob::new("long")).await.expect("nothing runs");
        rig.advance(secs(10)).await;
        assert_eq!(rig.started("long"), 2);
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 0, "a trigger is no tick");
    });
}

#[test]
fn a_trigger_right_after_the_start_works() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("now")])).await;

        rig.send(node, TriggerJob::new("now")).await.expect("it starts");
    });
}

/// Times are those of the engine's clock.
#[test]
fn a_timeout_cancels_then_aborts() {
    simulate(START, async |rig| {
        let obedient =
            Job::new("obedient", every(secs(60))).timeout(secs(2)).run(async |run| run.cancelled().await);
        let stubborn = Job::new("stubborn", every(secs(60)))
            .timeout(secs(2))
            .abort_after(secs(3))
            .run(async |_| std::future::pending::<()>().await);
        rig.node(node_with([obedient, stubborn])).await;

        rig.advance(secs(61)).await;
        rig.advance(secs(10)).await;

        let took = |name: &str| {
            rig.events().into_iter().find_map(|recorded| match recorded.event.kind {
                EventKind::RunTimedOut { job, took, .. } if job.as_str() == name => Some(took.as_secs()),
                _ => None,
            })
        };
        assert_eq!((took("obedient"), took("stubborn")), (Some(2), Some(5)));
        assert_eq!(rig.store().held(), 0);
    });
}

#[test]
fn an_overlap_is_skipped_and_the_schedule_is_not_delayed() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(secs(2))).run(async |_| tokio::time::sleep(secs(3)).await);
        rig.node(node_with([long])).await;

        rig.advance(Duration::from_millis(20_500)).await;

        assert_eq!(rig.started("long"), 5, "every other tick");
        let overlaps = rig.count(|kind| matches!(kind, EventKind::TickSkipped { .. }));
        assert_eq!(overlaps, 5);
    });
}

/// A delay is attributed to the newest tick.
#[test]
fn misfires_after_a_freeze_are_decided_by_policy() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        let with = |name: &str, misfire| Job::new(name, every(secs(10))).misfire(misfire).run(async |_| {});
        let jobs = [
            with("latest", Misfire::Latest { within: secs(60) }),
            with("too-late", Misfire::Latest { within: secs(3) }),
            with("skip", Misfire::Skip),
        ];
        let node = rig.node(node_with(jobs)).await;
        rig.advance(secs(11)).await;

        // Less than the lease, so that it is still the leader when it wakes up, five seconds after a tick.
        rig.freeze(node);
        rig.advance(secs(34)).await;
        rig.thaw(node);
        rig.advance(secs(1)).await;

        assert_eq!((rig.started("latest"), rig.started("too-late"), rig.started("skip")), (2, 1, 1));
        let misfired = |rig: &mut callsheet::testkit::Rig, job: &str| {
            rig.count(|kind| matches!(kind, EventKind::TickSkipped { job: name, .. } if name.as_str() == job))
        };
        assert_eq!((misfired(rig, "latest"), misfired(rig, "too-late"), misfired(rig, "skip")), (1, 1, 1));
        assert_eq!(starts(rig, "latest"), ["n1 00:00:10", "n1 00:00:40"], "the newest of the missed ones");
        let late = rig.events().into_iter().rev().find_map(|recorded| match recorded.event.kind {
            EventKind::RunStarted { lateness, .. } => Some(lateness.as_secs()),
            _ => None,
        });
        assert_eq!(late, Some(5), "counted from that tick");
    });
}

#[test]
fn a_job_that_is_exhausted_says_so_and_stays() {
    simulate(START, async |rig| {
        let node =
            rig.node(node_with([Job::new("once", at("2026-01-05T00:01:00Z")).run(async |_| {})])).await;
        rig.advance(secs(120)).await;

        let status = rig.send(node, JobDetails("once".to_owned())).await.expect("it is listed");

        assert_eq!(rig.started("once"), 1);
        assert_eq!((status.state, status.next_fire_time), (JobState::Exhausted, None));
        assert_eq!(status.last_runs.first().expect("it ran").outcome, Outcome::Succeeded);
    });
}

#[test]
fn a_listing_is_paged_in_the_order_of_names() {
    simulate(START, async |rig| {
        let names: Vec<_> = (0..25).map(|n| format!("job-{n:02}")).collect();
        let node = rig.node(node_with(names.iter().rev().map(|name| job(name)))).await;
        rig.advance(secs(2)).await;

        let mut listed = Vec::new();
        let mut after = None;
        loop {
            let page = rig.send(node, ListJobs::default().after(after).limit(10)).await;
            listed.extend(page.jobs.iter().map(|job| job.name.as_str().to_owned()));
            assert!(
                page.jobs.iter().all(|job| job.state == JobState::Scheduled && job.next_fire_time.is_some())
            );
            after = page.next;
            if after.is_none() {
                break;
            }
        }

        assert_eq!(listed, names);
    });
}

#[test]
fn leader_and_follower_tell_their_role_and_the_same_next_fire_time() {
    simulate(START, async |rig| {
        let job = || Job::new("c", cron("0 3 * * *").timezone("Europe/Lisbon")).run(async |_| {});
        let leader = rig.node(node_with([job()])).await;
        let follower = rig.node(node_with([job()])).await;
        rig.advance(secs(1)).await;

        let [one, two] = [rig.send(leader, Health).await, rig.send(follower, Health).await];
        assert_eq!((one.role, two.role), (Role::Leader, Role::Follower));
        assert_eq!((one.term.map(|term| term.0), two.term), (Some(1), None));
        assert!(one.healthy && two.healthy);
        let details = JobDetails("c".to_owned());
        let one = rig.send(leader, details.clone()).await.expect("it is there");
        let two = rig.send(follower, details).await.expect("it is there");
        assert_eq!(one.next_fire_time, two.next_fire_time);
        assert_eq!((one.state, two.state), (JobState::Scheduled, JobState::Standby));
        assert_eq!(one.timezone.as_deref(), Some("Europe/Lisbon"));
    });
}

#[test]
fn a_job_at_three_runs_on_both_days_of_a_dst_weekend() {
    simulate("2026-03-28T00:00:00Z", async |rig| {
        rig.node(node_with([Job::new("c", cron("0 3 * * *").timezone("Europe/Lisbon")).run(async |_| {})]))
            .await;

        rig.advance(hours(48)).await;

        assert_eq!(rig.started("c"), 2);
        let at: Vec<_> = rig
            .events()
            .into_iter()
            .filter_map(|recorded| match recorded.event.kind {
                EventKind::RunStarted { fire_time, .. } => fire_time.map(|fire_time| fire_time.to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(
            at,
            ["2026-03-28T03:00:00Z", "2026-03-29T02:00:00Z"],
            "the clocks went forward in between"
        );
    });
}

#[test]
fn a_run_that_was_cancelled_says_why() {
    simulate(START, async |rig| {
        let node = rig
            .node(node_with([Job::new("l", every(secs(10))).run(async |run| run.cancelled().await)]))
            .await;
        rig.advance(secs(11)).await;

        rig.shutdown(node, Duration::ZERO).await;

        let why =
            |kind: &EventKind| matches!(kind, EventKind::RunCancelled { why: CancelReason::Shutdown, .. });
        assert_eq!(rig.count(why), 1);
    });
}

#[test]
fn the_job_label_is_bounded() {
    simulate(START, async |rig| {
        let jobs = ["a", "b", "c", "d"].map(job);
        rig.node(node_with(jobs).job_labels_max(2)).await;

        rig.advance(Duration::from_millis(5_500)).await;

        let started = |label: &str| format!("name={label}");
        let each = ["a", "b", "c", "d", "_other"]
            .map(|name| rig.counter("callsheet_ticks_due_total", &started(name)));
        assert_eq!(each, [5, 5, 0, 0, 10]);
    });
}

#[test]
fn a_listing_can_be_narrowed_to_a_prefix_and_a_tag() {
    simulate(START, async |rig| {
        let tagged = |name: &str, tag: &str| job(name).tag(tag);
        let jobs =
            [tagged("mail.out", "slow"), tagged("mail.in", "fast"), job("mail"), tagged("zip", "slow")];
        let node = rig.node(node_with(jobs)).await;
        let list = |prefix: Option<&str>, tag: Option<&str>, after: Option<&str>, limit| {
            let mut list = ListJobs::default().after(after.map(str::to_owned)).limit(limit);
            list.prefix = prefix.map(str::to_owned);
            list.tag = tag.map(str::to_owned);
            list
        };
        let cases = [
            (list(Some("mail."), None, None, 0), vec!["mail.in", "mail.out"], None),
            (list(Some("mail"), None, Some("mail"), 1), vec!["mail.in"], Some("mail.in")),
            (list(Some("mail"), None, Some("a"), 0), vec!["mail", "mail.in", "mail.out"], None),
            (list(None, Some("slow"), None, 1), vec!["mail.out"], Some("mail.out")),
            (list(None, Some("slow"), Some("mail.out"), 1), vec!["zip"], None),
            (list(Some("zip"), Some("fast"), None, 0), vec![], None),
            (list(Some("mail"), None, Some("zip"), 0), vec![], None),
        ];
        for (message, names, next) in cases {
            let page = rig.send(node, message.clone()).await;
            let listed: Vec<_> = page.jobs.iter().map(|job| job.name.as_str()).collect();
            assert_eq!((listed, page.next.as_deref()), (names, next), "{message:?}");
        }

        // A tag goes with the definition that has it.
        rig.send(node, UpdateJob::new(tagged("mail.out", "fast"))).await.expect("it is there");
        rig.send(node, RemoveJobs::new("mail.in")).await.expect("it is there");
        for (tag, name) in [("slow", "zip"), ("fast", "mail.out")] {
            let page = rig.send(node, list(None, Some(tag), None, 0)).await;
            assert_eq!(page.jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), [name]);
        }
    });
}

#[test]
fn a_listing_of_one_state_looks_at_no_more_jobs_than_a_page_holds() {
    simulate(START, async |rig| {
        // Sorted: three that are exhausted, a page of scheduled ones, two that run.
        let once = |n: usize| Job::new(format!("a{n}"), at("2026-01-05T00:00:05Z")).run(async |_| {});
        let rare = |n: usize| Job::new(format!("b{n:04}"), every(hours(1))).run(async |_| {});
        let long = |n: usize| {
            Job::new(format!("c{n}"), every(secs(10))).run(async |_| tokio::time::sleep(hours(1)).await)
        };
        let jobs = (0..3).map(once).chain((0..PAGE_MAX).map(rare)).chain((0..2).map(long));
        let node = rig.node(node_with(jobs)).await;
        rig.advance(secs(11)).await;

        let list = |state, after: Option<&str>, limit| {
            ListJobs::default().state(state).after(after.map(str::to_owned)).limit(limit)
        };
        let last_of_the_first = format!("b{:04}", PAGE_MAX - 4);
        let last_of_the_first = Some(last_of_the_first.as_str());
        let cases = [
            (list(JobState::Exhausted, None, 0), vec!["a0", "a1", "a2"], last_of_the_first),
            (list(JobState::Exhausted, None, 3), vec!["a0", "a1", "a2"], last_of_the_first),
            (list(JobState::Exhausted, None, 2), vec!["a0", "a1"], Some("a1")),
            (list(JobState::Exhausted, Some("a1"), 2), vec!["a2"], Some("b1022")),
            (list(JobState::Exhausted, last_of_the_first, 0), vec![], None),
            (list(JobState::Running, None, 0), vec![], last_of_the_first),
            (list(JobState::Running, last_of_the_first, 1), vec!["c0"], Some("c0")),
            (list(JobState::Running, Some("c0"), 1), vec!["c1"], None),
            (list(JobState::Running, Some("c1"), 0), vec![], None),
            (list(JobState::Broken, Some("b9"), 0), vec![], None),
        ];
        for (message, names, next) in cases {
            let page = rig.send(node, message.clone()).await;
            let listed: Vec<_> = page.jobs.iter().map(|job| job.name.as_str()).collect();
            assert_eq!((listed, page.next.as_deref()), (names, next), "{message:?}");
        }
        let page = rig.send(node, list(JobState::Scheduled, None, 0)).await;
        assert_eq!(page.jobs.len(), PAGE_MAX - 3, "what a page looked at, but for the three");
        let rest = rig.send(node, list(JobState::Scheduled, page.next.as_deref(), 0)).await;
        assert_eq!((rest.jobs.len(), rest.next), (3, None));
    });
}

#[test]
fn the_next_fire_times_of_a_job_can_be_asked() {
    simulate(START, async |rig| {
        let ends = at(["2026-01-05T00:00:30Z", "2026-01-05T00:01:00Z"]);
        let node = rig.node(node_with([job("c"), Job::new("ends", ends).run(async |_| {})])).await;
        rig.advance(Duration::from_millis(10_500)).await;
        let ask = |job: &str, count| NextFireTimes { job: job.to_owned(), count };

        let five = rig.send(node, ask("c", 5)).await.expect("it is there");
        let most = rig.send(node, ask("c", FIRE_TIMES_MAX)).await.expect("it is there");
        let few = rig.send(node, ask("ends", 5)).await.expect("it is there");
        let unknown = rig.send(node, ask("d", 5)).await;

        let five: Vec<_> = five.iter().map(|at| at.format("%T").to_string()).collect();
        assert_eq!(five, ["00:00:11", "00:00:12", "00:00:13", "00:00:14", "00:00:15"]);
        assert_eq!((most.len(), few.len()), (FIRE_TIMES_MAX, 2));
        assert_eq!(unknown, Err(NextFireTimesError::UnknownJob { name: "d".to_owned() }));
    });
}

#[test]
fn a_schedule_that_panics_when_it_is_asked_ahead_harms_its_own_job_only() {
    simulate(START, async |rig| {
        let panics = PanickingSchedule::new(
            Period::seconds(1),
            "2026-01-05T01:00:00Z".parse().expect("an instant"),
            1,
        );
        let node = rig.node(node_with([job("c"), Job::new("bad", panics).run(async |_| {})])).await;
        rig.advance(Duration::from_millis(500)).await;

        let ahead = rig.send(node, NextFireTimes { job: "bad".to_owned(), count: 1_000 }).await;
        assert!(ahead.is_ok(), "not so far: {ahead:?}");
        rig.advance(hours(1) - secs(600)).await;
        let ahead = rig.send(node, NextFireTimes { job: "bad".to_owned(), count: 1_000 }).await;

        assert!(matches!(ahead, Err(NextFireTimesError::Unresponsive { .. })), "{ahead:?}");
        rig.advance(secs(10)).await;
        assert_eq!(rig.started("bad"), rig.started("c"), "it was started again");
    });
}

#[test]
fn a_job_changed_while_its_actor_dies_goes_on_by_the_new_definition() {
    for fires in [Fires::Leader, Fires::Local] {
        simulate(START, async move |rig| {
            let in_an_hour = "2026-01-05T01:00:00Z".parse().expect("an instant");
            let panics = PanickingSchedule::new(Period::seconds(1), in_an_hour, 1);
            let bad = Job::new("bad", panics).fires(fires).run(async |_| {});
            let node = rig.node(node_with([bad])).await;
            rig.advance(hours(1) - secs(500)).await;
            let before = rig.started("bad");

            // Both are in the actor's mailbox when it dies of the first.
            rig.supervisor(node).do_send(NextFireTimes { job: "bad".to_owned(), count: 1_000 });
            let changed = Job::new("bad", every(secs(10))).fires(fires).run(async |_| {});
            rig.update(node, changed).await.expect("it is right");
            rig.advance(secs(60)).await;

            assert_eq!(rig.started("bad") - before, 6, "{fires:?}");
            assert_eq!(rig.count(|event| matches!(event, EventKind::JobRestarted { .. })), 1);
        });
    }
}

#[test]
fn runs_are_cancelled_on_request_and_aborted_later() {
    simulate(START, async |rig| {
        let polite = Job::new("polite", every(secs(10))).tag("t").run(async |run| run.cancelled().await);
        let stubborn = Job::new("stubborn", every(secs(10)))
            .tag("t")
            .abort_after(secs(3))
            .run(async |_| tokio::time::sleep(hours(1)).await);
        let idle = Job::new("idle", every(hours(1))).tag("t").run(async |_| {});
        let node = rig.node(node_with([polite, stubborn, idle])).await;
        rig.advance(secs(11)).await;

        let told = rig.send(node, CancelRuns::new(Selector::Tag("t".to_owned()))).await.expect("a tag");

        let names: Vec<_> = told.iter().map(|(job, _)| job.as_str()).collect();
        assert_eq!(names, ["polite", "stubborn"]);
        rig.advance(secs(1)).await;
        assert_eq!(rig.store().held(), 1, "the polite one ended");
        rig.advance(secs(3)).await;
        assert_eq!(rig.store().held(), 0);
        let requested =
            |kind: &EventKind| matches!(kind, EventKind::RunCancelled { why: CancelReason::Requested, .. });
        assert_eq!(rig.count(requested), 2);
        let unknown = rig.send(node, CancelRuns::new("nobody")).await;
        assert_eq!(unknown, Err(SelectError::UnknownJob { name: "nobody".to_owned() }));
        rig.advance(secs(10)).await;
        assert_eq!(rig.started("polite"), 2, "the job goes on");
        assert_eq!(rig.store().held(), 2, "each run has a cancellation of its own");
    });
}

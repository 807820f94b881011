//! Each question, and each thing that is done to jobs, by one handle for the jobs on all stores.

use callsheet::{
    Added, Backfill, Callsheet, Decisions, Error, JobDetails, JobName, ListJobs, Operations, Outcome,
    RunHistory, Selector,
    port::JobOperation,
    testkit::{Rig, simulate},
};

use super::{CRITICAL, START, both, common::secs, each_second, node};

fn names<'a>(jobs: impl IntoIterator<Item = &'a JobName>) -> Vec<&'a str> {
    jobs.into_iter().map(JobName::as_str).collect()
}

async fn handle_of(rig: &mut Rig) -> Callsheet {
    let node = rig.node(both()).await;
    rig.advance(secs(5)).await;
    Callsheet::of_rig(rig, node)
}

const BOTH: [&str; 2] = ["invoices", "rest"];

#[test]
fn a_job_is_found_by_its_name_whichever_store_it_is_on() {
    simulate(START, async |rig| {
        let handle = handle_of(rig).await;
        for (job, backend) in [("rest", None), ("invoices", Some(CRITICAL))] {
            let details = handle.details(job).await.expect("it is there");
            assert_eq!((details.name.as_str(), details.backend.as_deref()), (job, backend));
            assert!(handle.ask(JobDetails(job.to_owned())).await.expect("it runs").is_some());
            assert_eq!(handle.next_fire_times(job, 3).await.expect("it is there").len(), 3);
            let explained = handle.explain(job, rig.now()).await.expect("it is there");
            assert!(explained.to_string().starts_with(job), "{explained}");
            handle.job_address(job).await.expect("it is there");
            let run = handle.trigger(job).await.expect("it may run");
            assert_eq!(run.finished().await, Outcome::Succeeded, "{job}");
            handle.reschedule(job, callsheet::schedule::every(secs(2))).await.expect("it is there");
            assert_eq!(handle.pause(job).await.expect("it is there").len(), 1);
            assert!(handle.details(job).await.expect("it is there").pause.is_some());
            assert_eq!(handle.resume(job).await.expect("it is there").len(), 1);
            assert_eq!(handle.skip_missed(job).await.expect("this node leads").len(), 1);
            let record = handle.history(&JobName::new(job).expect("a name")).await.expect("it is kept");
            assert!(record.is_some(), "{job}");
            assert_eq!(names(&handle.remove(job).await.expect("it is there")), [job]);
        }
        assert!(matches!(handle.details("nobody").await, Err(Error::Select(_))));
        assert!(matches!(handle.trigger("nobody").await, Err(Error::Trigger(_))));
        assert!(matches!(handle.pause("nobody").await, Err(Error::Pause(_))));
        assert!(matches!(handle.remove("nobody").await, Err(Error::Select(_))));
        assert!(matches!(handle.explain("nobody", rig.now()).await, Err(Error::Explain(_))));
    });
}

#[test]
fn jobs_on_all_stores_are_selected_by_tag_and_together() {
    simulate(START, async |rig| {
        let handle = handle_of(rig).await;
        let tag = || Selector::Tag("each second".to_owned());

        assert_eq!(names(&handle.pause(tag()).await.expect("an answer")), BOTH);
        rig.advance(secs(5)).await;
        let before = BOTH.map(|job| rig.started(job));
        rig.advance(secs(5)).await;
        assert_eq!(BOTH.map(|job| rig.started(job)), before, "both are paused");
        let skipped = handle.skip_missed(Selector::All).await.expect("this node leads");
        assert_eq!(names(skipped.iter().map(|skipped| &skipped.job)), BOTH);
        assert_eq!(names(&handle.resume(Selector::All).await.expect("an answer")), BOTH);
        assert_eq!(handle.cancel_runs(Selector::All).await.expect("an answer"), []);
        assert_eq!(names(&handle.remove(tag()).await.expect("an answer")), BOTH);
        assert_eq!(handle.list(ListJobs::default()).await.expect("it runs").jobs.len(), 0);
    });
}

#[test]
fn pages_of_jobs_go_on_from_one_store_to_the_other() {
    simulate(START, async |rig| {
        let jobs = (0..20).map(|nth| {
            let job = each_second(&format!("job-{nth:02}"));
            if nth % 3 == 0 { job.on(CRITICAL) } else { job }
        });
        let node = rig.node(node(jobs)).await;
        let handle = Callsheet::of_rig(rig, node);
        for limit in [1, 3, 7, 20, 0] {
            let (mut listed, mut after) = (Vec::new(), None);
            loop {
                let page = handle.list(ListJobs::default().limit(limit).after(after)).await.expect("it runs");
                assert!(limit == 0 || page.jobs.len() <= limit);
                listed.extend(page.jobs.into_iter().map(|job| job.name.as_str().to_owned()));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(listed, (0..20).map(|nth| format!("job-{nth:02}")).collect::<Vec<_>>(), "{limit}");
        }
    });
}

#[test]
fn the_history_of_all_stores_is_read_together_the_newest_first() {
    simulate(START, async |rig| {
        let handle = handle_of(rig).await;
        for job in BOTH {
            handle.pause(job).await.expect("it is there");
            handle.resume(job).await.expect("it is there");
        }
        rig.advance(secs(30)).await;
        handle.pause(Selector::All).await.expect("an answer");
        rig.advance(secs(10)).await;

        for limit in [1, 7, 1_000] {
            let (mut runs, mut before) = (Vec::new(), None);
            loop {
                let page =
                    handle.runs(RunHistory::new().limit(limit).before(before)).await.expect("it is kept");
                runs.extend(page.runs);
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            assert!(runs.is_sorted_by(|one, next| one.run > next.run), "each once, the newest first");
            for job in BOTH {
                let ran = runs.iter().filter(|run| run.job.as_str() == job).count();
                assert_eq!(ran, rig.started(job), "{job} in pages of {limit}");
            }
        }
        let operations = handle.operations(Operations::new()).await.expect("it is kept").operations;
        let mut at_once = Vec::new();
        let mut before = None;
        loop {
            let page =
                handle.operations(Operations::new().limit(1).before(before)).await.expect("it is kept");
            at_once.extend(page.operations);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(at_once, operations, "one by one they are the same");
        assert!(operations.is_sorted_by(|one, next| one.at >= next.at));
        for job in BOTH {
            let paused = operations.iter().filter(|one| one.operation == JobOperation::Paused);
            assert_eq!(paused.filter(|one| one.job.as_str() == job).count(), 2, "{operations:#?}");
            let of_job = RunHistory::new().job(JobName::new(job).expect("a name")).limit(1_000);
            let runs = handle.runs(of_job).await.expect("it is kept").runs;
            assert_eq!(runs.len(), rig.started(job));
        }
        handle.decisions(Decisions::new()).await.expect("it is kept");
    });
}

#[test]
fn runs_and_backfills_are_cancelled_by_their_ids() {
    simulate(START, async |rig| {
        let long = |name: &str| {
            callsheet::Job::new(name, callsheet::schedule::every(secs(3_600)))
                .run(async |run: callsheet::Run| run.cancelled().await)
        };
        let node = rig.node(node([long("rest"), long("invoices").on(CRITICAL)])).await;
        let handle = Callsheet::of_rig(rig, node);
        rig.advance(secs(1)).await;
        for job in BOTH {
            let run = handle.trigger(job).await.expect("it may run").run();
            assert_eq!(handle.cancel_run(run).await.expect("it is in progress").as_str(), job);
            rig.advance(secs(1)).await;
            assert!(matches!(handle.cancel_run(run).await, Err(Error::CancelRun(_))), "it is over");
        }
        rig.advance(secs(3 * 3_600)).await;
        let now = rig.now();
        for job in BOTH {
            let asked = Backfill::new(job, now - secs(2 * 3_600), now).again(true);
            let preview = handle.preview_backfill(asked.clone()).await.expect("it is there");
            assert!(preview.count > 0, "{job}");
            let backfill = handle.backfill(asked).await.expect("it is kept");
            assert_eq!(handle.backfills(Some(&backfill.job)).await.expect("they are kept").len(), 1);
            let cancelled = handle.cancel_backfill(backfill.id).await.expect("it runs");
            assert_eq!(cancelled.job.as_str(), job);
        }
        assert_eq!(handle.backfills(None).await.expect("they are kept").len(), 2);
    });
}

#[test]
fn jobs_for_several_stores_are_added_at_once_and_answered_in_their_order() {
    simulate(START, async |rig| {
        let node = rig.node(node([])).await;
        let handle = Callsheet::of_rig(rig, node);
        let jobs = [each_second("c"), each_second("b").on(CRITICAL), each_second("a")];

        let added = handle.add_all(jobs).await.expect("they are new");

        assert_eq!(names(added.iter().map(|Added { job, .. }| job)), ["c", "b", "a"]);
        assert_eq!(handle.details("b").await.expect("it is there").backend.as_deref(), Some(CRITICAL));
    });
}

#[test]
fn what_a_job_that_was_moved_did_last_is_its_history() {
    simulate(START, async |rig| {
        let handle = handle_of(rig).await;
        let job = JobName::new("rest").expect("a name");
        handle.remove("rest").await.expect("it is there");
        rig.advance(secs(5)).await;
        handle.add(each_second("rest").on(CRITICAL)).await.expect("its runs have ended");
        rig.advance(secs(5)).await;
        let last = rig.now() - secs(2);
        handle.remove("rest").await.expect("it is there");
        rig.advance(secs(1)).await;

        let record = handle.history(&job).await.expect("it is kept").expect("it ran");

        assert!(record.last_success.expect("it succeeded") >= last, "{record:?}");
    });
}

#[test]
fn a_store_that_is_away_does_not_hide_the_backfills_of_another() {
    simulate(START, async |rig| {
        let job = callsheet::Job::new("invoices", callsheet::schedule::every(secs(3_600)))
            .on(CRITICAL)
            .run(async |run: callsheet::Run| run.cancelled().await);
        let node = rig.node(node([each_second("rest"), job])).await;
        let handle = Callsheet::of_rig(rig, node);
        rig.advance(secs(3 * 3_600)).await;
        let now = rig.now();
        let asked = Backfill::new("invoices", now - secs(2 * 3_600), now).again(true);
        let backfill = handle.backfill(asked).await.expect("it is kept");

        rig.cut_off(node);

        let cancelled = handle.cancel_backfill(backfill.id).await.expect("its store is there");
        assert_eq!(cancelled.job.as_str(), "invoices");
    });
}

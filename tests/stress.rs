//! Many callers at once, on real threads: nothing deadlocks, nothing is lost, and what was answered holds.

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use callsheet::{
    Callsheet, Error, ErrorKind, Fires, Job, JobState, ListJobs, NodeId, RunId, Selector, TriggerError,
    WhyUnconfirmed,
    schedule::{Schedule, every, random},
    testkit::fakes::Period,
};
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

/// A net under every wait. Nothing takes this long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(120);

const OFTEN: Duration = Duration::from_millis(1);

/// Runs a story on threads of its own, with a net.
fn on_threads(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { timeout(DEADLINE, story).await.expect("it ends") });
}

async fn started(jobs: impl IntoIterator<Item = Job>) -> Callsheet {
    Callsheet::builder().arbiters(2).jobs(jobs).start().await.expect("it starts")
}

/// Starts `count` workers, and waits for them.
async fn workers<F: Future<Output = ()> + Send + 'static>(count: usize, work: impl Fn(usize) -> F) {
    let workers: Vec<JoinHandle<()>> = (0..count).map(|nth| tokio::spawn(work(nth))).collect();
    for worker in join_all(workers).await {
        worker.expect("no worker panics");
    }
}

async fn assert_orderly_end(jobs: &Callsheet) {
    let report = jobs.shutdown(Duration::from_secs(30)).await;
    assert_eq!((report.aborted, report.still_running), (0, 0), "{report:?}");
}

/// Jobs are added and removed by 10 and by 50 workers at once.
#[test]
fn jobs_are_added_and_removed_by_many_at_once() {
    for count in [10, 50] {
        on_threads(async {
            let jobs = started([]).await;
            let ran = Arc::new(AtomicUsize::new(0));
            let shared = jobs.clone();
            workers(count, move |nth| {
                let (jobs, ran) = (shared.clone(), ran.clone());
                async move {
                    for round in 0..20 {
                        let name = format!("w{nth}-{round}");
                        let job = Job::new(&name, every(OFTEN)).run_with(ran.clone(), async |_, ran| {
                            ran.fetch_add(1, Ordering::Relaxed);
                        });
                        jobs.add(job).await.expect("its name is its own");
                        let removed = jobs.remove(name.as_str()).await.expect("it was added");
                        assert_eq!(removed.len(), 1);
                    }
                }
            })
            .await;

            assert_eq!(jobs.health().await.expect("it runs").jobs, 0);
            assert_orderly_end(&jobs).await;
        });
    }
}

/// The same name, wanted by all: each round exactly one has it.
#[test]
fn of_many_who_add_the_same_name_one_succeeds() {
    on_threads(async {
        let jobs = started([]).await;
        for _ in 0..20 {
            let add = || jobs.add(Job::new("wanted", every(OFTEN)).run(async |_| {}));
            let answers = join_all((0..50).map(|_| add())).await;

            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
            let removals = join_all((0..50).map(|_| jobs.remove("wanted"))).await;
            assert_eq!(removals.iter().filter(|answer| answer.is_ok()).count(), 1);
        }
        assert_orderly_end(&jobs).await;
    });
}

/// 10 and 50 jobs are removed while they run. Each run goes on to its end.
#[test]
fn jobs_are_removed_while_they_run() {
    for count in [10, 50] {
        on_threads(async {
            let (go, ended) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
            let state = (go.clone(), ended.clone());
            let job = |nth| {
                let state = state.clone();
                Job::new(format!("j{nth}"), every(Duration::from_hours(1))).run_with(
                    state,
                    async |_, (go, ended): (Arc<Notify>, Arc<AtomicUsize>)| {
                        go.notified().await;
                        ended.fetch_add(1, Ordering::Relaxed);
                    },
                )
            };
            let jobs = started((0..count).map(job)).await;
            for nth in 0..count {
                jobs.trigger(format!("j{nth}")).await.expect("nothing runs");
            }

            let removed = join_all((0..count).map(|nth| jobs.remove(format!("j{nth}")))).await;

            assert!(removed.iter().all(Result::is_ok), "{removed:?}");
            assert_eq!(ended.load(Ordering::Relaxed), 0, "they go on");
            // Permits, so that a body that has not come to wait yet finds one: each wakes the next.
            while ended.load(Ordering::Relaxed) < count {
                go.notify_one();
                tokio::task::yield_now().await;
            }
            assert_orderly_end(&jobs).await;
        });
    }
}

/// Triggers that meet the shutdown start, or are refused; what starts, ends.
#[test]
fn triggers_that_meet_a_shutdown_start_or_are_refused() {
    on_threads(async {
        for _ in 0..20 {
            let ended = Arc::new(AtomicUsize::new(0));
            let body = async |_, ended: Arc<AtomicUsize>| {
                ended.fetch_add(1, Ordering::Relaxed);
            };
            let job = |n: usize| {
                Job::new(format!("j{n}"), every(Duration::from_hours(1))).run_with(ended.clone(), body)
            };
            let jobs = started((0..20).map(job)).await;
            let triggers: Vec<_> = (0..20)
                .map(|n| {
                    let jobs = jobs.clone();
                    tokio::spawn(async move { jobs.trigger(format!("j{n}")).await })
                })
                .collect();

            assert_orderly_end(&jobs).await;

            let mut began = 0;
            for trigger in triggers {
                match trigger.await.expect("it does not panic") {
                    Ok(_) => began += 1,
                    Err(Error::Stopped | Error::Trigger(TriggerError::ShuttingDown)) => {}
                    // The store is closed, or the actor is gone, before it could answer.
                    Err(Error::Trigger(TriggerError::Unavailable { .. } | TriggerError::Broken { .. })) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            let ended = ended.load(Ordering::Relaxed);
            assert!(ended >= began, "{began} triggers were told that a run started, {ended} ended");
        }
    });
}

/// Everything that can be asked is asked while jobs run, come and go; those of a tag
/// are removed in the midst of it.
#[test]
fn everything_is_asked_while_jobs_run_and_a_tag_is_removed() {
    on_threads(async {
        let job =
            |n: usize, tag: &str| Job::new(format!("{tag}-{n}"), every(OFTEN)).tag(tag).run(async |_| {});
        let jobs = started((0..50).flat_map(|n| [job(n, "stays"), job(n, "goes")])).await;
        let asking = jobs.clone();
        let asked = workers(8, move |nth| {
            let jobs = asking.clone();
            async move {
                for round in 0..100 {
                    let name = format!("stays-{}", (nth * 7 + round) % 50);
                    let status = jobs.details(&name).await.expect("it stays");
                    assert!(status.next_fire_time.is_some());
                    let next = jobs.next_fire_times(&name, 5).await.expect("it stays");
                    assert!(next.len() == 5 && next.is_sorted());
                    let list = ListJobs::default().tag("stays");
                    assert_eq!(jobs.list(list).await.expect("it runs").jobs.len(), 50);
                    let gone = jobs.details(format!("goes-{}", round % 50)).await;
                    assert!(gone.map_or_else(
                        |error| error.kind() == ErrorKind::NotFound,
                        |gone| gone.state != JobState::Broken
                    ));
                }
            }
        });
        let removed = async {
            let removed = jobs.remove(Selector::Tag("goes".to_owned())).await.expect("a tag");
            assert_eq!(removed.len(), 50);
            let again = jobs.remove(Selector::Tag("goes".to_owned())).await.expect("a tag");
            assert!(again.is_empty());
        };

        tokio::join!(asked, removed);

        assert_eq!(jobs.health().await.expect("it runs").jobs, 50);
        assert_orderly_end(&jobs).await;
    });
}

/// On threads: 8 ask 200 times each.
#[test]
fn random_fire_times_can_be_asked_by_many_at_once() {
    on_threads(async {
        let period = random(Duration::from_hours(1), Duration::from_hours(2));
        let jobs = started([Job::new("random", period).run(async |_| {})]).await;
        let expected = jobs.next_fire_times("random", 10).await.expect("it is there");
        let asking = jobs.clone();

        workers(8, move |_| {
            let (jobs, expected) = (asking.clone(), expected.clone());
            async move {
                for _ in 0..200 {
                    assert_eq!(jobs.next_fire_times("random", 10).await.expect("it is there"), expected);
                }
            }
        })
        .await;

        assert_orderly_end(&jobs).await;
    });
}

/// A schedule that blocks its thread while it is told to.
#[derive(Debug, Clone, Default)]
struct Blocking(Arc<(Mutex<bool>, Condvar)>);

impl Blocking {
    fn set(&self, blocked: bool) {
        *self.0.0.lock().expect("nobody panicked") = blocked;
        self.0.1.notify_all();
    }
}

impl fmt::Display for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schedule that blocks its thread")
    }
}

impl Schedule for Blocking {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (blocked, changed) = &*self.0;
        let blocked = blocked.lock().expect("nobody panicked");
        drop(changed.wait_while(blocked, |blocked| *blocked).expect("nobody panicked"));
        Period::hours(1).next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::hours(1).previous_before(before)
    }
}

/// Who asks a job that does not answer is told so, and does not wait for ever.
#[test]
fn a_job_whose_thread_is_blocked_is_said_not_to_answer() {
    on_threads(async {
        let schedule = Blocking::default();
        let jobs =
            Callsheet::builder().arbiters(1).job(Job::new("stuck", schedule.clone()).run(async |_| {}));
        let jobs = jobs.start().await.expect("it starts");
        schedule.set(true);

        let asked = jobs.next_fire_times("stuck", 5).await;
        let status = jobs.details("stuck").await.expect("it is there");
        let health = jobs.health().await.expect("it runs");

        assert!(matches!(asked, Err(Error::NextFireTimes(_))), "{asked:?}");
        assert_eq!(status.state, JobState::Unresponsive);
        assert!(!health.healthy, "{health:?}");
        schedule.set(false);
        assert_orderly_end(&jobs).await;
    });
}

/// What it runs is not known: the answer for all nodes says so, and is no list without it.
#[test]
fn a_job_that_does_not_answer_is_named_where_runs_are_listed_or_cancelled() {
    on_threads(async {
        let schedule = Blocking::default();
        let stuck = Job::new("stuck", schedule.clone()).fires(Fires::Local).run(async |_| {});
        let jobs = Callsheet::builder().arbiters(1).job(stuck);
        let jobs = jobs.start().await.expect("it starts");
        schedule.set(true);
        jobs.next_fire_times("stuck", 5).await.expect_err("its thread is blocked");

        let active = jobs.cluster().active_runs().await.expect("the node answers");
        let of_job = jobs.cluster().cancel_runs("stuck").await.expect("it is known");
        let by_id = jobs
            .cluster()
            .cancel_run(RunId::from(NodeId::numbered(7).as_uuid()))
            .await
            .expect("it may be one of the job");

        for unconfirmed in [active.unconfirmed, of_job.unconfirmed, by_id.unconfirmed] {
            assert!(matches!(unconfirmed[0].why, WhyUnconfirmed::Unable(_)), "{unconfirmed:?}");
        }
        schedule.set(false);
        assert_orderly_end(&jobs).await;
    });
}

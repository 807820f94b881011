//! How records get to a history that takes its time.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use std::{fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tokio::{
    sync::watch,
    task::LocalSet,
    time::{Instant, sleep},
};

use super::{HistoryOptions, HistoryThread, MemoryHistory, Recorder};
use crate::{
    Answer, EngineOptions, Explain, Job, NotKnown,
    core::skip::SkipReason,
    event::Outcome,
    name::{JobName, NodeId, RunIds},
    port::{
        Batch, Decision, DecisionPage, DecisionRecord, Decisions, History, HistoryError, JobHistory,
        JobRecord, LastEnds, MemoryBounds, OperationPage, Operations, Retention, RunHistory, RunPage,
        RunRecord,
    },
    run::Run,
    testkit::{VirtualClock, fakes::Period, simulate},
};

type Write = dyn Fn(usize, usize) -> BoxFuture<'static, Result<(), HistoryError>> + Send + Sync;

/// A history that keeps runs, and writes as a test says: told the number of the try, from 0, and how many records
/// there are.
struct Fake {
    write: Box<Write>,
    tries: AtomicUsize,
    /// How many records each try had.
    lens: Mutex<Vec<usize>>,
    bytes: Mutex<Vec<usize>>,
    written: watch::Sender<Vec<RunRecord>>,
    decisions: Mutex<Vec<DecisionRecord>>,
    /// It refuses decisions for their data.
    refuses_decisions: AtomicBool,
}

impl Fake {
    fn new(
        write: impl Fn(usize, usize) -> BoxFuture<'static, Result<(), HistoryError>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            write: Box::new(write),
            tries: AtomicUsize::new(0),
            lens: Mutex::default(),
            bytes: Mutex::default(),
            written: watch::Sender::default(),
            decisions: Mutex::default(),
            refuses_decisions: AtomicBool::new(false),
        })
    }

    async fn until_written(&self, count: usize) {
        let mut written = self.written.subscribe();
        let all = written.wait_for(|all| all.len() >= count);
        tokio::time::timeout(Duration::from_hours(1), all)
            .await
            .expect("it is written")
            .expect("it is there");
    }

    fn lens(&self) -> Vec<usize> {
        self.lens.lock().expect("nobody panicked").clone()
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

fn unavailable() -> HistoryError {
    HistoryError::Unavailable { history: "fake", reason: "it is down".to_owned() }
}

impl History for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), HistoryError>> {
        async move {
            self.lens.lock().expect("nobody panicked").push(batch.len());
            self.bytes.lock().expect("nobody panicked").push(batch.bytes());
            if self.refuses_decisions.load(Ordering::Relaxed) && !batch.decisions.is_empty() {
                let reason = "it takes no decisions".to_owned();
                return Err(HistoryError::BadData { history: "fake", reason });
            }
            (self.write)(self.tries.fetch_add(1, Ordering::Relaxed), batch.len()).await?;
            self.decisions.lock().expect("nobody panicked").extend(batch.decisions.iter().cloned());
            self.written.send_modify(|all| all.extend(batch.runs.iter().cloned()));
            Ok(())
        }
        .boxed()
    }

    fn runs<'a>(&'a self, _: &'a RunHistory) -> BoxFuture<'a, Result<RunPage, HistoryError>> {
        async { Ok(RunPage::default()) }.boxed()
    }

    fn job<'a>(&'a self, _: &'a JobHistory) -> BoxFuture<'a, Result<Option<JobRecord>, HistoryError>> {
        async { Ok(None) }.boxed()
    }

    fn last_ends<'a>(&'a self, _: &'a [JobName]) -> BoxFuture<'a, Result<Vec<LastEnds>, HistoryError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn decisions<'a>(&'a self, _: &'a Decisions) -> BoxFuture<'a, Result<DecisionPage, HistoryError>> {
        async { Ok(DecisionPage::default()) }.boxed()
    }

    fn operations<'a>(&'a self, _: &'a Operations) -> BoxFuture<'a, Result<OperationPage, HistoryError>> {
        async { Ok(OperationPage::default()) }.boxed()
    }

    fn prune<'a>(&'a self, _: DateTime<Utc>, _: &'a Retention) -> BoxFuture<'a, Result<bool, HistoryError>> {
        async { Ok(false) }.boxed()
    }
}

struct Recorded {
    recorder: Recorder,
    ids: RunIds,
}

impl Recorded {
    fn run(&self) {
        self.run_with(None);
    }

    fn run_with(&self, error: Option<Arc<str>>) {
        self.run_that_ended(DateTime::UNIX_EPOCH, error);
    }

    fn run_that_ended(&self, at: DateTime<Utc>, error: Option<Arc<str>>) {
        let node = NodeId::numbered(1);
        let job = JobName::new("job").expect("a good name");
        let record = RunRecord::new(job, self.ids.next(DateTime::UNIX_EPOCH), node);
        let outcome = Some(Outcome::Succeeded);
        self.recorder.run(0, RunRecord { outcome, error, ended_at: Some(at), ..record });
    }
}

const DROPPED: &str = "dropped";

/// Tells a story of what is recorded for a history, on a virtual clock. Answers how many records were dropped.
fn tell(history: &Arc<Fake>, story: impl AsyncFnOnce(Recorded)) -> u64 {
    tell_with(HistoryOptions::default(), history, story)
}

fn tell_with(options: HistoryOptions, history: &Arc<Fake>, story: impl AsyncFnOnce(Recorded)) -> u64 {
    let counters = DebuggingRecorder::new();
    let snapshotter = counters.snapshotter();
    metrics::with_local_recorder(&counters, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("it needs nothing that could be missing");
        LocalSet::new().block_on(&runtime, async {
            let options = HistoryOptions { store: Some(history.clone()), ..options };
            let node = NodeId::numbered(1);
            let clock = Arc::new(VirtualClock::starting_at(DateTime::UNIX_EPOCH));
            let recorder = Recorder::new(&options, "fake", (node, clock), metrics::counter!(DROPPED));
            recorder.start(HistoryThread::Here);
            story(Recorded { recorder, ids: RunIds::of(node) }).await;
        });
    });
    let counted = snapshotter.snapshot().into_vec().into_iter().find_map(|(key, _, _, value)| match value {
        DebugValue::Counter(count) if key.key().name() == DROPPED => Some(count),
        _ => None,
    });
    counted.expect("it is counted")
}

#[test]
fn what_comes_while_others_are_written_is_written_without_a_further_wake() {
    let history = Fake::new(|_, _| sleep(Duration::from_secs(1)).map(Ok).boxed());
    tell(&history, async |recorded| {
        recorded.run();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(history.lens(), [1], "it is being written");
        recorded.run();

        history.until_written(2).await;
    });
}

#[test]
fn a_batch_that_takes_too_long_is_halved_until_it_does_not() {
    let history = Fake::new(|_, len| {
        let takes = if len > 100 { Duration::from_secs(60) } else { Duration::from_millis(1) };
        sleep(takes).map(Ok).boxed()
    });
    tell(&history, async |recorded| {
        (0..1_000).for_each(|_| recorded.run());

        history.until_written(1_000).await;

        assert_eq!(history.written.borrow().len(), 1_000, "each once");
        let order: Vec<_> = history.written.borrow().iter().map(|run| run.run).collect();
        assert!(order.is_sorted(), "in the order in which they were recorded");
    });
}

#[test]
fn what_is_handed_on_has_its_room_though_the_decision_that_ended_it_is_dropped() {
    let history = Fake::new(|_, _| async { Ok(()) }.boxed());
    let dropped = tell(&history, async |recorded| {
        let skipped = |at: u64, job: String, bytes: usize| {
            let (reason, text) = (SkipReason::Paused, Some("x".repeat(bytes).into()));
            let decision = Decision::Skipped { reason, count: 1, at_least: false, text, by: None, run: None };
            let job = Some(JobName::new(job).expect("a good name"));
            let record = DecisionRecord::new(job, DateTime::UNIX_EPOCH, NodeId::numbered(1), decision);
            recorded.recorder.decision(0, Duration::from_millis(at), || record);
        };
        (0..513).for_each(|nth| skipped(0, format!("old-{nth}"), 1));
        (0..6).for_each(|nth| skipped(30_000, format!("great-{nth}"), 110_000));
        // All but one of the old ones are handed on early; then there is no room for the rest.
        (0..2_000).for_each(|nth| skipped(59_500, format!("young-{nth}"), 1));

        skipped(60_200, "too-great".to_owned(), 110_000);

        recorded.recorder.flush(Duration::from_secs(5)).await;
        let outlet = recorded.recorder.outlet.as_ref().expect("there is a history");
        assert_eq!((outlet.waiting(), outlet.counted()), (0, 0));
    });
    assert!(dropped > 0);
}

#[test]
fn a_part_has_at_most_so_many_bytes() {
    let history = Fake::new(|_, _| async { Ok(()) }.boxed());
    tell(&history, async |recorded| {
        let text: Arc<str> = "x".repeat(100_000).into();
        (0..100).for_each(|_| recorded.run_with(Some(text.clone())));

        history.until_written(100).await;

        let bytes = history.bytes.lock().expect("nobody panicked").clone();
        assert!(bytes.iter().all(|bytes| *bytes <= super::collected::WRITE_BYTES_MAX), "{bytes:?}");
    });
}

#[test]
fn a_shutdown_cuts_the_pause_short_and_tries_once_more() {
    // It is down for four tries: the pause after the fourth one is seconds long.
    let history =
        Fake::new(|nth, _| async move { if nth < 4 { Err(unavailable()) } else { Ok(()) } }.boxed());
    let dropped = tell(&history, async |recorded| {
        recorded.run();
        while history.lens().len() < 4 {
            sleep(Duration::from_millis(10)).await;
        }
        recorded.run();
        let began = Instant::now();

        recorded.recorder.close().await;

        assert_eq!(history.written.borrow().len(), 2, "also what came during the pause");
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    });
    assert_eq!(dropped, 0);
}

#[test]
fn what_is_not_written_at_a_shutdown_is_counted() {
    for is_hanging in [false, true] {
        let history = Fake::new(move |_, _| match is_hanging {
            true => std::future::pending().boxed(),
            false => async { Err(unavailable()) }.boxed(),
        });
        let dropped = tell(&history, async |recorded| {
            (0..3).for_each(|_| recorded.run());
            sleep(Duration::from_secs(1)).await;
            recorded.recorder.close().await;
            recorded.run();
        });
        assert_eq!(dropped, 4, "three that waited, and one that came too late");
    }
}

#[test]
fn that_records_were_dropped_is_recorded_once_there_is_room_with_the_time_of_those_records() {
    let history =
        Fake::new(|nth, _| async move { if nth < 3 { Err(unavailable()) } else { Ok(()) } }.boxed());
    let options = HistoryOptions { queue: 64, ..HistoryOptions::default() };
    let second = |nth| DateTime::UNIX_EPOCH + TimeDelta::seconds(nth);
    let dropped = tell_with(options, &history, async |recorded| {
        (0..100).for_each(|nth| recorded.run_that_ended(second(nth), None));
        history.until_written(64).await;
        let decisions = || history.decisions.lock().expect("nobody panicked").clone();
        assert_eq!(decisions(), [], "more may come within the minute");

        sleep(Duration::from_mins(2)).await;

        let [record] = &decisions()[..] else { panic!("one record: {:?}", decisions()) };
        let decision = Decision::RecordsDropped { count: 36, from: second(64), to: second(99) };
        let expected = DecisionRecord::new(None, second(99), NodeId::numbered(1), decision);
        assert_eq!(*record, expected);

        // Two at the same instants are two records.
        (0..100).for_each(|_| recorded.run_that_ended(second(99), None));
        recorded.recorder.flush(Duration::from_secs(5)).await;
        let [_, record] = &decisions()[..] else { panic!("another one: {:?}", decisions()) };
        assert!(record.at > second(99) && record.at < second(100), "{record:?}");
    });
    assert_eq!(dropped, 36 + 36);
}

#[test]
fn a_history_that_refuses_to_record_what_was_dropped_counts_it_once() {
    let history =
        Fake::new(|nth, _| async move { if nth < 3 { Err(unavailable()) } else { Ok(()) } }.boxed());
    history.refuses_decisions.store(true, Ordering::Relaxed);
    let options = HistoryOptions { queue: 64, ..HistoryOptions::default() };
    let dropped = tell_with(options, &history, async |recorded| {
        (0..100).for_each(|_| recorded.run());
        history.until_written(64).await;
        for _ in 0..20 {
            sleep(Duration::from_mins(1)).await;
            recorded.recorder.flush(Duration::from_secs(5)).await;
        }
        let outlet = recorded.recorder.outlet.as_ref().expect("there is a history");
        assert_eq!((outlet.waiting(), outlet.waiting_bytes()), (0, 0));
        recorded.recorder.close().await;
    });
    assert_eq!(dropped, 36);
}

#[test]
fn a_shutdown_counts_no_record_of_what_was_dropped() {
    let history = Fake::new(|_, _| async { Err(unavailable()) }.boxed());
    let options = HistoryOptions { queue: 64, ..HistoryOptions::default() };
    let dropped = tell_with(options, &history, async |recorded| {
        (0..100).for_each(|_| recorded.run());

        recorded.recorder.close().await;
    });
    assert_eq!(dropped, 100);
}

/// What waits once so many runs were recorded, and how many were dropped.
fn waits(mut options: HistoryOptions, runs: u64, error: Option<&str>) -> (usize, usize, u64) {
    options.store = Some(Fake::new(|_, _| std::future::pending().boxed()));
    let node = NodeId::numbered(1);
    let clock = Arc::new(VirtualClock::starting_at(DateTime::UNIX_EPOCH));
    let recorder = Recorder::new(&options, "silent", (node, clock), metrics::Counter::noop());
    let (ids, job) = (RunIds::of(node), JobName::new("often").expect("a good name"));
    for nth in 0..runs {
        let mut run = RunRecord::new(job.clone(), ids.next(DateTime::UNIX_EPOCH), node);
        run.error = error.map(Into::into);
        recorder.run(nth, run);
    }
    let outlet = recorder.outlet.expect("it is on");
    let dropped = outlet.dropped.counted.load(Ordering::Relaxed);
    let collected = outlet.collect(super::open_runs::Which::Long);
    let (count, bytes) = collected.room();
    assert_eq!((count, bytes), (collected.batch().len(), collected.batch().bytes()));
    (count, bytes, dropped)
}

#[test]
fn thirty_thousand_runs_a_second_for_a_minute_are_bounded_in_count() {
    let options = HistoryOptions::default();
    let queue = options.queue;

    let (waits, _, dropped) = waits(options, 30_000 * 60, None);

    assert_eq!((waits, dropped), (queue, 30_000 * 60 - queue as u64));
}

#[test]
fn what_waits_is_bounded_in_bytes() {
    let queue_bytes = 1024 * 1024;
    let options = HistoryOptions { queue_bytes, ..HistoryOptions::default() };
    let error = "x".repeat(16 * 1024);

    let (count, bytes, dropped) = waits(options, 1_000, Some(&error));

    assert!(bytes <= queue_bytes && bytes > queue_bytes - 32 * 1024, "{bytes}");
    assert_eq!(count as u64 + dropped, 1_000, "each is there or counted");
}

#[test]
fn a_run_in_progress_is_recorded_again_each_minute_and_not_when_somebody_asks() {
    simulate("2026-01-05T00:00:00Z", async |rig| {
        let history = Fake::new(|_, _| async { Ok(()) }.boxed());
        let clock = VirtualClock::starting_at(DateTime::UNIX_EPOCH);
        let mut options = EngineOptions::new(Arc::new(rig.store().backend(NodeId::numbered(9), clock)));
        options.history.store = Some(history.clone());
        let body = async |_| sleep(Duration::from_mins(30)).await;
        options.jobs.push(Job::new("long", Period::hours(1)).run(body));
        let node = rig.node(options).await;
        rig.advance(Duration::from_mins(65)).await;
        let recorded = || history.written.borrow().iter().filter(|run| run.outcome.is_none()).count();
        let before = recorded();
        assert!((3..=6).contains(&before), "once a minute, or each second minute at least: {before}");

        for _ in 0..20 {
            rig.send(node, RunHistory::new()).await.expect("an answer");
        }

        assert!(recorded() <= before + 1, "{} after {before}", recorded());
    });
}

#[test]
fn progress_is_written_within_two_seconds_and_at_most_once_a_second() {
    simulate("2026-01-05T00:00:00Z", async |rig| {
        let history = Fake::new(|_, _| async { Ok(()) }.boxed());
        let clock = VirtualClock::starting_at(DateTime::UNIX_EPOCH);
        let mut options = EngineOptions::new(Arc::new(rig.store().backend(NodeId::numbered(9), clock)));
        options.history.store = Some(history.clone());
        let body = async |run: Run| {
            sleep(Duration::from_secs(10)).await;
            for nth in 0..100 {
                run.progress(f64::from(nth) / 100.0);
                sleep(Duration::from_millis(100)).await;
            }
            sleep(Duration::from_mins(30)).await;
        };
        options.jobs.push(Job::new("long", Period::hours(1)).run(body));
        rig.node(options).await;
        rig.advance(Duration::from_hours(1) + Duration::from_millis(10_100)).await;
        let recorded = || history.written.borrow().iter().filter_map(|run| run.progress).collect::<Vec<_>>();
        rig.advance(Duration::from_secs(2)).await;
        assert!(!recorded().is_empty(), "its first words are written soon");

        rig.advance(Duration::from_secs(10)).await;

        let written = recorded();
        assert!((5..=12).contains(&written.len()), "{written:?}");
        assert_eq!(written.last(), Some(&0.99), "the last that it said");
    });
}

/// A history in memory with these bounds, and what has ended and was decided in it.
fn in_memory(bounds: MemoryBounds, records: impl IntoIterator<Item = Batch>) -> MemoryHistory {
    let history = MemoryHistory::new(bounds);
    for mut batch in records {
        assert!(history.write_now(&mut batch), "it writes at once");
    }
    history
}

/// What a history in memory answers.
fn at_once<T>(asked: BoxFuture<'_, Result<T, HistoryError>>) -> T {
    asked.now_or_never().expect("it does not wait").expect("an answer")
}

fn decided(second: i64, text: &str) -> Batch {
    let (at, node) = (DateTime::UNIX_EPOCH + TimeDelta::seconds(second), NodeId::numbered(1));
    let decision = Decision::TriggerRefused { count: 1, by: None, text: text.into() };
    let record = DecisionRecord::new(JobName::new("job").ok(), at, node, decision);
    Batch { decisions: vec![record], ..Batch::default() }
}

fn ended(ids: &RunIds, second: i64) -> Batch {
    let at = DateTime::UNIX_EPOCH + TimeDelta::seconds(second);
    let record = RunRecord::new(JobName::new("job").expect("a good name"), ids.next(at), NodeId::numbered(1));
    let record = RunRecord { outcome: Some(Outcome::Succeeded), ended_at: Some(at), ..record };
    Batch { runs: vec![record], ..Batch::default() }
}

#[test]
fn what_takes_too_many_bytes_in_memory_costs_the_oldest_records_of_whatever_kind() {
    let bounds = MemoryBounds { bytes: 64 * 1024, ..MemoryBounds::default() };
    let (ids, text) = (RunIds::of(NodeId::numbered(1)), "x".repeat(10_000));
    let old = (0..10).map(|second| decided(second, &text));
    let history = in_memory(bounds, old.chain((20..30).map(|second| ended(&ids, second))));

    let runs = at_once(history.runs(&RunHistory::new())).runs;
    assert_eq!(runs.len(), 10, "they are younger than what takes the room");
    let decisions = at_once(history.decisions(&Decisions::new())).decisions;
    assert!((1..=6).contains(&decisions.len()), "{}", decisions.len());
}

#[test]
fn failures_stay_longer_in_memory_and_take_a_tenth_of_the_room() {
    let bounds = MemoryBounds { runs: 100, ..MemoryBounds::default() };
    let ids = RunIds::of(NodeId::numbered(1));
    let failed = |second| {
        let mut batch = ended(&ids, second);
        batch.runs.iter_mut().for_each(|run| run.outcome = Some(Outcome::Failed));
        batch
    };
    let first = (0..15).map(failed);
    let history = in_memory(bounds, first.chain((100..1_000).map(|second| ended(&ids, second))));

    let all = at_once(history.runs(&RunHistory::new().limit(1_000))).runs;
    let failures = at_once(history.runs(&RunHistory::new().outcome(Outcome::Failed))).runs;

    assert_eq!((all.len(), failures.len()), (100, 10));
    let newest = failures.first().and_then(|run| run.ended_at);
    assert_eq!(newest, Some(DateTime::UNIX_EPOCH + TimeDelta::seconds(14)), "of too many the oldest go");
}

#[test]
fn the_row_of_a_job_says_up_to_when_memory_has_dropped_something() {
    let bounds = MemoryBounds { runs: 2, ..MemoryBounds::default() };
    let ids = RunIds::of(NodeId::numbered(1));
    let history = in_memory(bounds, (0..2).map(|second| ended(&ids, second)));
    let asked = JobHistory(JobName::new("job").expect("a good name"));
    let pruned_to = || at_once(history.job(&asked)).expect("it ran").pruned_to;
    assert_eq!(pruned_to(), None, "all is there");

    assert!(history.write_now(&mut ended(&ids, 7)), "it writes at once");

    assert_eq!(pruned_to(), Some(DateTime::UNIX_EPOCH));
}

#[test]
fn an_explanation_says_what_memory_has_no_room_for_any_more() {
    simulate("2026-01-05T00:00:00Z", async |rig| {
        let clock = VirtualClock::starting_at(DateTime::UNIX_EPOCH);
        let mut options = EngineOptions::new(Arc::new(rig.store().backend(NodeId::numbered(9), clock)));
        let bounds = MemoryBounds { runs: 3, ..MemoryBounds::default() };
        options.history.store = Some(Arc::new(MemoryHistory::new(bounds)));
        options.jobs.push(Job::new("often", Period::hours(1)).run(async |_| {}));
        let node = rig.node(options).await;
        rig.advance(Duration::from_hours(10)).await;
        let first: DateTime<Utc> = "2026-01-05T01:00:00Z".parse().expect("an instant");

        let mut explained = rig.send(node, Explain::new("often", first)).await.expect("it is explained");

        let answer = explained.explanations.remove(0).answer;
        assert!(matches!(answer, Answer::NotKnown { because: NotKnown::Pruned { .. } }), "{answer:?}");
    });
}

#[test]
fn one_explanation_has_what_was_recorded_written_once() {
    simulate("2026-01-05T00:00:00Z", async |rig| {
        // What takes its time to be written is written anew by each who asks for it.
        let history = Fake::new(|_, _| sleep(Duration::from_millis(10)).map(Ok).boxed());
        let clock = VirtualClock::starting_at(DateTime::UNIX_EPOCH);
        let mut options = EngineOptions::new(Arc::new(rig.store().backend(NodeId::numbered(9), clock)));
        options.history.store = Some(history.clone());
        let body = async |run: Run| {
            while !run.is_cancelled() {
                run.progress(run.reported().progress.map_or(0.1, |before| 1.0 - before));
                sleep(Duration::from_millis(1)).await;
            }
        };
        options.jobs.push(Job::new("long", Period::hours(1)).run(body));
        let node = rig.node(options).await;
        rig.advance(Duration::from_hours(1) + Duration::from_secs(10)).await;
        let before = history.lens().len();

        let far = "2026-01-04T01:00:00Z".parse::<DateTime<Utc>>().expect("an instant");
        rig.send(node, Explain::new("long", far)).await.expect("it is explained");

        assert!(history.lens().len() <= before + 2, "{before}, {}", history.lens().len());
    });
}

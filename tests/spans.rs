//! The span of a run: what a subscriber of `tracing` learns of it, and who is inside.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use actix::{Actor, Context, Handler, ResponseFuture};
use callsheet::{
    Bodiless, Callsheet, EventKind, Job, OnLost, Outcome, Retry, Run, RunResult,
    port::Body,
    schedule::{at, every},
    testkit::{Rig, simulate},
};
use tracing::{Instrument, Level, Subscriber, field, info, span};
use tracing_subscriber::{EnvFilter, Layer, Registry, layer, prelude::*, registry::LookupSpan};

mod common;
use common::{node_with, secs, trigger};

const START: &str = "2026-01-05T00:00:00Z";

/// The spans that a subscriber got.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Seen>>>);

#[derive(Debug, Clone)]
struct Seen {
    metadata: &'static tracing::Metadata<'static>,
    is_root: bool,
    fields: Fields,
    /// What was logged inside.
    lines: Vec<String>,
    is_open: bool,
}

/// The fields of a span, or of a line, by name.
#[derive(Debug, Clone, Default, PartialEq)]
struct Fields(BTreeMap<&'static str, Value>);

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Number(u64),
}

impl field::Visit for Fields {
    fn record_debug(&mut self, field: &field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        self.0.insert(field.name(), Value::Text(value.to_owned()));
    }

    fn record_u64(&mut self, field: &field::Field, value: u64) {
        self.0.insert(field.name(), Value::Number(value));
    }
}

impl Seen {
    fn text(&self, field: &str) -> &str {
        match self.fields.0.get(field) {
            Some(Value::Text(text)) => text,
            Some(Value::Number(_)) | None => "",
        }
    }
}

impl Spans {
    /// Those of a job, in the order in which they were made.
    fn of(&self, job: &str) -> Vec<Seen> {
        let seen = self.0.lock().expect("nobody panicked");
        seen.iter().filter(|span| span.text("job") == job).cloned().collect()
    }

    fn outcomes(&self, job: &str) -> Vec<String> {
        self.of(job).iter().map(|span| span.text("outcome").to_owned()).collect()
    }

    /// What was logged in any of the job's spans.
    fn lines(&self, job: &str) -> Vec<String> {
        self.of(job).into_iter().flat_map(|span| span.lines).collect()
    }

    fn at<'a, S: Subscriber + for<'s> LookupSpan<'s>>(
        seen: &'a mut [Seen],
        id: &span::Id,
        context: &layer::Context<'_, S>,
    ) -> Option<&'a mut Seen> {
        let nth = *context.span(id)?.extensions().get::<usize>()?;
        seen.get_mut(nth)
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Spans {
    fn on_new_span(&self, made: &span::Attributes<'_>, id: &span::Id, context: layer::Context<'_, S>) {
        let mut seen = self.0.lock().expect("nobody panicked");
        let span = context.span(id).expect("it was made just now");
        span.extensions_mut().insert(seen.len());
        let mut fields = Fields::default();
        made.record(&mut fields);
        let is_root = span.parent().is_none();
        seen.push(Seen { metadata: made.metadata(), is_root, fields, lines: Vec::new(), is_open: true });
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: layer::Context<'_, S>) {
        let mut seen = self.0.lock().expect("nobody panicked");
        values.record(&mut Self::at(&mut seen, id, &context).expect("it was made").fields);
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: layer::Context<'_, S>) {
        let mut line = Fields::default();
        event.record(&mut line);
        let Some(Value::Text(line)) = line.0.remove("message") else { return };
        let mut seen = self.0.lock().expect("nobody panicked");
        if let (Some(span), true) = (context.lookup_current(), event.metadata().target() == "app")
            && let Some(span) = Self::at(&mut seen, &span.id(), &context)
        {
            span.lines.push(line);
        }
    }

    fn on_close(&self, id: span::Id, context: layer::Context<'_, S>) {
        let mut seen = self.0.lock().expect("nobody panicked");
        Self::at(&mut seen, &id, &context).expect("it was made").is_open = false;
    }
}

/// The spans of the whole process, on whatever thread, from the first call on.
fn of_process() -> Spans {
    static SPANS: OnceLock<Spans> = OnceLock::new();
    let install = || {
        let spans = Spans::default();
        tracing_subscriber::registry().with(spans.clone()).init();
        spans
    };
    SPANS.get_or_init(install).clone()
}

/// The spans, and the lines, that pass a filter of this text while a story is told.
fn filtered(filter: &str, story: impl AsyncFnOnce(&mut Rig)) -> Spans {
    let spans = Spans::default();
    let filter = EnvFilter::builder().parse(filter).expect("it is a filter");
    let subscriber = Registry::default().with(filter).with(spans.clone());
    tracing::subscriber::with_default(subscriber, || simulate(START, story));
    spans
}

/// Starts a scheduler with this job and waits for the end of one run.
async fn run_once(name: &str, job: Job) {
    let jobs = Callsheet::builder().job(job).start().await.expect("it starts");
    let outcome = jobs.trigger(name).await.expect("it starts").finished().await;
    assert_eq!(outcome, Outcome::Succeeded, "{name}");
    jobs.shutdown(secs(10)).await;
}

fn hourly(name: &str) -> Job<Bodiless> {
    Job::new(name, every(Duration::from_hours(1)))
}

fn say(line: &str) {
    info!(target: "app", "{line}");
}

async fn talk(_: Run) {
    say("before the await");
    tokio::task::yield_now().await;
    say("after it");
}

const TALK: [&str; 2] = ["before the await", "after it"];

#[tokio::test]
async fn an_async_body_is_inside() {
    let spans = of_process();

    run_once("closure", hourly("closure").run(async |run| talk(run).await)).await;
    run_once("function", hourly("function").run_with((), async |run, ()| talk(run).await)).await;

    assert_eq!(spans.lines("closure"), TALK);
    assert_eq!(spans.lines("function"), TALK);
}

#[tokio::test]
async fn a_body_that_is_not_send_is_inside() {
    let spans = of_process();
    let local = |run: Run| {
        say("the call");
        let not_send = std::rc::Rc::new(());
        async move {
            talk(run).await;
            drop(not_send);
        }
    };

    run_once("local", hourly("local").run_local(local)).await;

    assert_eq!(spans.lines("local"), ["the call", TALK[0], TALK[1]]);
}

#[tokio::test]
async fn a_body_that_blocks_is_inside() {
    let spans = of_process();

    run_once("blocking", hourly("blocking").run_blocking(|_| say("on a thread of its own"))).await;

    assert_eq!(spans.lines("blocking"), ["on a thread of its own"]);
}

#[tokio::test]
async fn a_body_of_the_applications_own_type_is_inside() {
    struct Talker;
    impl Body for Talker {
        fn start(&self, run: Run) -> callsheet::BoxFuture<'static, RunResult> {
            say("the call");
            Box::pin(async move {
                talk(run).await;
                Ok(())
            })
        }
    }
    let spans = of_process();

    run_once("own", hourly("own").body(Arc::new(Talker))).await;

    assert_eq!(spans.lines("own"), ["the call", TALK[0], TALK[1]]);
}

#[actix::test]
async fn an_actor_enters_it_by_the_run() {
    struct Talker;
    impl Actor for Talker {
        type Context = Context<Self>;
    }
    impl Handler<Run> for Talker {
        type Result = ResponseFuture<RunResult>;

        fn handle(&mut self, run: Run, _: &mut Self::Context) -> Self::Result {
            let span = run.span().clone();
            let work = async move {
                talk(run).await;
                Ok(())
            };
            Box::pin(work.instrument(span))
        }
    }
    let spans = of_process();

    run_once("actor", hourly("actor").run_actor(Talker.start())).await;

    assert_eq!(spans.lines("actor"), TALK);
}

#[tokio::test]
async fn hooks_are_inside() {
    let spans = of_process();
    let hooked = |job: Job| {
        job.before(async |_| say("before"))
            .after_success(async |_| say("after success"))
            .after_failure(async |ended| say(&format!("after failure of attempt {}", ended.run.attempt())))
    };
    let fails = async |_| Err::<(), _>("out of paper");

    run_once("hooked", hooked(hourly("hooked").run(talk))).await;
    run_once("hooked local", hooked(hourly("hooked local").run_local(talk))).await;
    let failing = hooked(
        hourly("hooked failing").retry(Retry::attempts(2).initial(Duration::from_millis(1))).run(fails),
    );
    let jobs = Callsheet::builder().job(failing).start().await.expect("it starts");
    jobs.trigger("hooked failing").await.expect("it starts").finished().await;
    jobs.shutdown(secs(10)).await;

    let told = ["before", TALK[0], TALK[1], "after success"];
    assert_eq!(spans.lines("hooked"), told);
    assert_eq!(spans.lines("hooked local"), told);
    let attempts: Vec<_> = spans.of("hooked failing").into_iter().map(|span| span.lines).collect();
    assert_eq!(attempts, [["before"], ["after failure of attempt 2"]]);
}

#[tokio::test]
async fn no_span_is_open_after_a_shutdown() {
    let spans = of_process();
    let jobs = ["open 1", "open 2", "open 3"].map(|name| hourly(name).run(async |run| run.cancelled().await));
    let jobs = Callsheet::builder().jobs(jobs).start().await.expect("it starts");
    for nth in 1..=3 {
        jobs.trigger(&format!("open {nth}")).await.expect("it starts");
    }
    assert!(spans.of("open 3").iter().all(|span| span.is_open));

    jobs.shutdown(secs(0)).await;

    for nth in 1..=3 {
        let spans = spans.of(&format!("open {nth}"));
        assert!(matches!(&spans[..], [span] if !span.is_open), "{spans:?}");
    }
}

#[test]
fn it_tells_the_run_by_fields_of_the_documented_types() {
    let mut token = None;
    let spans = filtered("callsheet::run=info", async |rig| {
        let outer = tracing::info_span!(target: "callsheet::run", "of the caller");
        async {
            let jobs = [hourly("ticks").run(talk), hourly("local").fires(callsheet::Fires::Local).run(talk)];
            let node = rig.node(node_with(jobs)).await;
            rig.advance(Duration::from_mins(61)).await;
            trigger(rig, node, "ticks").await.expect("it starts");
            rig.advance(secs(1)).await;
        }
        .instrument(outer)
        .await;
        token = rig.events().into_iter().find_map(|recorded| match recorded.event.kind {
            EventKind::RunStarted { job, token, .. } if job.as_str() == "ticks" => token,
            _ => None,
        });
    });

    let [tick, manual] = &spans.of("ticks")[..] else { panic!("{spans:?}", spans = spans.of("ticks")) };
    let [local] = &spans.of("local")[..] else { panic!("{spans:?}", spans = spans.of("local")) };
    for span in [tick, manual, local] {
        let metadata = span.metadata;
        assert_eq!((metadata.target(), metadata.name()), ("callsheet::run", "run"));
        assert_eq!((*metadata.level(), span.is_root, span.is_open), (Level::INFO, true, false));
    }
    let text = |text: &str| Value::Text(text.to_owned());
    let all = [
        ("attempt", Value::Number(1)),
        ("fire_time", text("2026-01-05T01:00:00Z")),
        ("job", text("ticks")),
        ("node", text("00000000-0000-0000-0000-000000000001")),
        ("outcome", text("succeeded")),
        ("run", text(tick.text("run"))),
        ("term", Value::Number(1)),
        ("token", Value::Number(token.expect("it has one").0)),
    ];
    assert_eq!(tick.fields, Fields(all.into()));
    assert!(tick.text("run").parse::<callsheet::uuid::Uuid>().is_ok(), "{tick:?}");
    let names = |span: &Seen| span.fields.0.keys().copied().collect::<Vec<_>>();
    assert_eq!(names(manual), ["attempt", "job", "node", "outcome", "run", "token"]);
    assert_eq!(names(local), ["attempt", "fire_time", "job", "node", "outcome", "run"]);
}

#[test]
fn it_tells_how_each_run_ended() {
    let spans = filtered("callsheet::run=info", async |rig| {
        let once = |name: &str| Job::new(name, at(rig.now() + secs(1)));
        let waits = async |run: Run| run.cancelled().await;
        let jobs = [
            once("good").run(talk),
            once("failing").run(async |_| Err::<(), _>("out of paper")),
            once("panicky").run(async |_| -> () { panic!("on purpose") }),
            once("slow").timeout(secs(1)).run(waits),
            once("stubborn").timeout(secs(1)).run(async |_| std::future::pending::<()>().await),
            once("cancelled").run(waits),
            once("vetoed").before(async |_| Err::<(), _>("not today")).run(talk),
            once("again")
                .retry(Retry::attempts(2).initial(secs(1)))
                .run(async |run: Run| if run.attempt() == 1 { Err("busy") } else { Ok(()) }),
            once("lost").on_lost(OnLost::Retry).run(async |run: Run| {
                if run.attempt() == 1 {
                    run.cancelled().await;
                }
            }),
        ];
        let node = rig.node(node_with(jobs)).await;
        rig.advance(Duration::from_millis(1_500)).await;
        rig.send(node, callsheet::CancelRuns::new("cancelled")).await.expect("it is there");
        rig.advance(secs(20)).await;
        rig.end_session(node);
        rig.advance(Duration::from_mins(5)).await;
    });

    assert_eq!(spans.outcomes("good"), ["succeeded"]);
    assert_eq!(spans.outcomes("failing"), ["failed"]);
    assert_eq!(spans.outcomes("panicky"), ["panicked"]);
    assert_eq!(spans.outcomes("slow"), ["timed_out"]);
    assert_eq!(spans.outcomes("stubborn"), ["timed_out"]);
    assert_eq!(spans.outcomes("cancelled"), ["cancelled"]);
    assert_eq!(spans.outcomes("vetoed"), ["cancelled"]);
    assert_eq!(spans.outcomes("again"), ["failed", "succeeded"]);
    assert_eq!(spans.outcomes("lost"), ["lost", "succeeded"]);
    let attempts = |job| spans.of(job).into_iter().map(|mut span| span.fields.0.remove("attempt"));
    for job in ["again", "lost"] {
        assert_eq!(attempts(job).collect::<Vec<_>>(), [1, 2].map(|nth| Some(Value::Number(nth))), "{job}");
    }
}

/// Two jobs that log at INFO and at DEBUG.
async fn mail_and_report(rig: &mut Rig) {
    let talk = async |_| {
        say("info");
        tracing::debug!(target: "app", "debug");
    };
    rig.node(node_with([hourly("mail").run(talk), hourly("report").run(talk)])).await;
    rig.advance(Duration::from_mins(61)).await;
}

#[test]
fn a_filter_for_the_application_alone_makes_no_span() {
    let spans = filtered("app=info", mail_and_report);

    assert_eq!(spans.0.lock().expect("nobody panicked").len(), 0);
}

#[test]
fn a_filter_asks_for_the_span_by_its_target() {
    for filter in ["app=info,callsheet::run=info", "warn,app=info,callsheet::run=info"] {
        let spans = filtered(filter, mail_and_report);

        assert_eq!(spans.lines("mail"), ["info"], "{filter}");
        assert_eq!(spans.lines("report"), ["info"], "{filter}");
    }
}

#[test]
fn a_filter_asks_for_the_lines_of_one_job() {
    let spans = filtered("app=info,[run{job=mail}]=debug", mail_and_report);

    assert_eq!(spans.lines("mail"), ["info", "debug"]);
    assert_eq!(spans.lines("report"), ["info"]);
}

//! The spans of runs, rounds of claims and elections: they are those of the guide, and a run follows from the request
//! that triggered it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    Bodiless, Job, Operation, Overlap, Retry, Run, TriggerError, TriggerJob, Triggered,
    schedule::every,
    testkit::{NodeIndex, Rig, simulate},
};
use tracing::{Instrument, Metadata, Span, Subscriber, field, info_span, span};
use tracing_subscriber::{EnvFilter, Layer, Registry, layer, prelude::*, registry::LookupSpan};

mod common;
use common::{hours, node_with, secs, trigger};

const START: &str = "2026-01-05T00:00:00Z";
const GUIDE: &str = include_str!("../src/guide/traces.md");

/// A value of a field: its type as the guide names it, and its text.
type Value = (&'static str, String);

/// The spans that a subscriber got, in the order in which they were made.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Seen>>>);

#[derive(Debug, Clone)]
struct Seen {
    metadata: &'static Metadata<'static>,
    id: u64,
    is_root: bool,
    fields: Fields,
    follows: Vec<u64>,
    is_open: bool,
}

#[derive(Debug, Clone, Default)]
struct Fields(BTreeMap<&'static str, Value>);

impl field::Visit for Fields {
    fn record_debug(&mut self, field: &field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), ("text", format!("{value:?}")));
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        self.0.insert(field.name(), ("text", value.to_owned()));
    }

    fn record_u64(&mut self, field: &field::Field, value: u64) {
        self.0.insert(field.name(), ("`u64`", value.to_string()));
    }
}

impl Seen {
    fn get(&self, field: &str) -> &str {
        self.fields.0.get(field).map_or("", |(_, value)| value)
    }

    fn number(&self, field: &str) -> u64 {
        self.get(field).parse().unwrap_or_else(|_| panic!("{field}: {self:?}"))
    }
}

impl Spans {
    fn all(&self) -> Vec<Seen> {
        self.0.lock().expect("nobody panicked").clone()
    }

    /// Those of a name.
    fn named(&self, name: &str) -> Vec<Seen> {
        self.all().into_iter().filter(|span| span.metadata.name() == name).collect()
    }

    /// The runs of a job.
    fn runs(&self, job: &str) -> Vec<Seen> {
        self.named("run").into_iter().filter(|span| span.get("job") == job).collect()
    }

    fn with(&self, id: &span::Id, change: impl FnOnce(&mut Seen)) {
        let mut spans = self.0.lock().expect("nobody panicked");
        // The newest: ids are used again.
        change(spans.iter_mut().rev().find(|span| span.id == id.into_u64()).expect("it was made"));
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Spans {
    fn on_new_span(&self, made: &span::Attributes<'_>, id: &span::Id, context: layer::Context<'_, S>) {
        let is_root = context.span(id).expect("it was made just now").parent().is_none();
        let mut fields = Fields::default();
        made.record(&mut fields);
        let (metadata, id) = (made.metadata(), id.into_u64());
        let seen = Seen { metadata, id, is_root, fields, follows: Vec::new(), is_open: true };
        self.0.lock().expect("nobody panicked").push(seen);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: layer::Context<'_, S>) {
        self.with(id, |span| values.record(&mut span.fields));
    }

    fn on_follows_from(&self, id: &span::Id, follows: &span::Id, _: layer::Context<'_, S>) {
        self.with(id, |span| span.follows.push(follows.into_u64()));
    }

    fn on_close(&self, id: span::Id, _: layer::Context<'_, S>) {
        self.with(&id, |span| span.is_open = false);
    }
}

/// Tells a story to a subscriber with this filter.
fn traced(filter: &str, story: impl AsyncFnOnce(&mut Rig, &Spans)) -> Spans {
    let spans = Spans::default();
    let subscriber = Registry::default().with(EnvFilter::new(filter)).with(spans.clone());
    let seen = spans.clone();
    tracing::subscriber::with_default(subscriber, || {
        simulate(START, async |rig| story(rig, &seen).await);
    });
    spans
}

const ALL: &str = "app=info,callsheet::run=info,callsheet::claim_round=debug,callsheet::election=debug";

/// Triggers a job inside the span of a request.
async fn request(rig: &mut Rig, node: NodeIndex, job: &str) -> (Span, Result<Triggered, TriggerError>) {
    let request = info_span!(target: "app", "request");
    let answer = trigger(rig, node, job).instrument(request.clone()).await;
    (request, answer)
}

fn id(span: &Span) -> u64 {
    span.id().expect("it is wanted").into_u64()
}

fn daily(name: &str) -> Job<Bodiless> {
    Job::new(name, every(hours(24)))
}

/// The rows of the table of the guide that has this header, without the marks of code.
fn table(header: &str) -> Vec<Vec<&'static str>> {
    let (_, rows) = GUIDE.split_once(header).unwrap_or_else(|| panic!("no {header}"));
    let rows = rows.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cell = |cell: &'static str| cell.trim();
    rows.map(|row| row.trim_matches('|').split('|').map(cell).collect()).collect()
}

fn plain(cell: &str) -> &str {
    cell.trim_matches('`')
}

#[test]
fn the_spans_and_their_fields_are_those_of_the_guide() {
    let spans = traced(ALL, async |rig, _| {
        let job = |name| Job::new(name, every(Duration::from_mins(1))).run(async |_| {});
        let leader = rig.node(node_with([job("ticks")])).await;
        rig.node(node_with([job("ticks")])).await;
        rig.advance(hours(2)).await;
        trigger(rig, leader, "ticks").await.expect("it starts");
        rig.store().refuse([Operation::Claim, Operation::Campaign], "it has no right to");
        rig.advance(hours(2)).await;
        rig.store().refuse_nothing();
        rig.advance(hours(2)).await;
    });

    let seen = spans.all();
    let kinds = seen.iter().map(|span| {
        let metadata = span.metadata;
        (metadata.name(), metadata.target(), metadata.level().as_str())
    });
    let told = table("| span | target | level | one for each |");
    let told = told.iter().map(|row| (plain(row[0]), plain(row[1]), row[2]));
    assert_eq!(kinds.collect::<BTreeSet<_>>(), told.collect());
    assert!(seen.iter().all(|span| span.is_root));

    let rows = table("| span | field | type | what it says |");
    let told: BTreeSet<_> = rows.iter().map(|row| (plain(row[0]), plain(row[1]))).collect();
    let declared = seen.iter().flat_map(|span| {
        let fields = span.metadata.fields().iter();
        fields.map(|field| (span.metadata.name(), field.name())).collect::<Vec<_>>()
    });
    assert_eq!(declared.collect::<BTreeSet<_>>(), told);

    // As they were recorded: of each the type, and all of them at some time.
    let told: BTreeSet<_> = rows.iter().map(|row| (plain(row[0]), plain(row[1]), row[2])).collect();
    let recorded = seen.iter().flat_map(|span| {
        let fields = span.fields.0.iter();
        fields.map(|(field, (kind, _))| (span.metadata.name(), *field, *kind)).collect::<Vec<_>>()
    });
    assert_eq!(recorded.collect::<BTreeSet<_>>(), told);
}

#[test]
fn a_triggered_run_follows_from_the_span_of_its_request() {
    let mut asked_in = 0;
    let spans = traced(ALL, async |rig, _| {
        let again = |run: Run| async move { if run.attempt() == 1 { Err("busy") } else { Ok(()) } };
        let retry = Retry::attempts(2).initial(secs(1));
        let node = rig.node(node_with([daily("report").retry(retry).run(again)])).await;
        rig.advance(secs(1)).await;
        let (span, answer) = request(rig, node, "report").await;
        assert!(matches!(answer, Ok(Triggered::Started(_))), "{answer:?}");
        asked_in = id(&span);
        drop(span);
        rig.advance(hours(24)).await;
    });

    let [first, second, tick, ..] = &spans.runs("report")[..] else { panic!("{:?}", spans.all()) };
    assert_eq!(first.follows, [asked_in]);
    assert!(first.is_root && first.get("run") == second.get("run"), "{first:?} {second:?}");
    assert_eq!((&second.follows, &tick.follows), (&Vec::new(), &Vec::new()));
}

#[test]
fn the_span_of_a_request_closes_once_its_run_has_started() {
    traced(ALL, async |rig, spans| {
        let work = async |run: Run| run.cancelled().await;
        let job = daily("queued").overlap(Overlap::Queue(1)).timeout(secs(10)).run(work);
        let node = rig.node(node_with([job])).await;
        rig.advance(secs(1)).await;
        let is_open = |id: u64| spans.all().iter().any(|span| span.id == id && span.is_open);

        let (started, answer) = request(rig, node, "queued").await;
        let started_in = id(&started);
        drop(started);
        assert!(matches!(answer, Ok(Triggered::Started(_))), "{answer:?}");
        assert!(!is_open(started_in));

        let (queued, answer) = request(rig, node, "queued").await;
        let queued_in = id(&queued);
        drop(queued);
        assert!(matches!(answer, Ok(Triggered::Queued(_))), "{answer:?}");
        assert!(is_open(queued_in));

        let (refused, answer) = request(rig, node, "queued").await;
        let refused_in = id(&refused);
        drop(refused);
        assert!(answer.is_err(), "{answer:?}");
        assert!(!is_open(refused_in));

        rig.advance(secs(15)).await;
        let [first, second] = &spans.runs("queued")[..] else { panic!("{:?}", spans.all()) };
        assert_eq!((&first.follows[..], &second.follows[..]), (&[started_in][..], &[queued_in][..]));
        assert!(!is_open(queued_in));
    });
}

#[test]
fn a_message_that_is_made_in_a_span_and_sent_outside_follows_from_it() {
    let mut asked_in = 0;
    let spans = traced(ALL, async |rig, _| {
        let node = rig.node(node_with([daily("report").run(async |_| {})])).await;
        rig.advance(secs(1)).await;
        let span = info_span!(target: "app", "request");
        asked_in = id(&span);
        let asked = span.in_scope(|| TriggerJob::new("report"));
        rig.send(node, asked).await.expect("it starts");
    });

    assert_eq!(spans.runs("report")[0].follows, [asked_in]);
}

#[test]
fn a_round_says_what_was_asked_and_what_was_granted() {
    let spans = traced(ALL, async |rig, _| {
        let job = |name| daily(name).run(async |_| {});
        rig.node(node_with([job("a"), job("b"), job("c")])).await;
        rig.advance(hours(25)).await;
    });

    let rounds = spans.named("claim_round");
    let sum = |field| rounds.iter().map(|round| round.number(field)).sum::<u64>();
    assert_eq!((sum("claims"), sum("granted"), sum("ends")), (3, 3, 3), "{rounds:#?}");
    assert!(rounds.iter().all(|round| round.get("outcome") == "answered" && !round.is_open), "{rounds:#?}");
}

#[test]
fn an_election_says_who_leads() {
    let spans = traced(ALL, async |rig, _| {
        rig.node(node_with([daily("a").run(async |_| {})])).await;
        rig.advance(secs(1)).await;
        rig.node(node_with([daily("a").run(async |_| {})])).await;
        rig.advance(hours(3)).await;
    });

    let elections = spans.named("election");
    let [first, rest @ ..] = &elections[..] else { panic!("nobody campaigned") };
    assert_eq!((first.get("outcome"), first.number("term")), ("won", 1));
    let lost = rest.iter().find(|election| election.get("outcome") == "lost").expect("the other node asked");
    assert_eq!(lost.get("leader"), first.get("node"));
    assert_ne!(lost.get("node"), first.get("node"));
}

#[test]
fn at_info_there_are_spans_of_runs_only() {
    let spans = traced("callsheet=info", async |rig, _| {
        rig.node(node_with([daily("a").run(async |_| {})])).await;
        rig.advance(hours(25)).await;
    });

    let names: BTreeSet<_> = spans.all().iter().map(|span| span.metadata.name()).collect();
    assert_eq!(names, BTreeSet::from(["run"]));
}

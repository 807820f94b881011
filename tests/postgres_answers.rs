//! Answers that this version does not know: a statement with a typo, as a proxy writes it into the text that a node prepares.

#[path = "common/postgres.rs"]
mod harness;
#[path = "chaos/wire.rs"]
#[allow(dead_code, reason = "the tests of chaos use the rest")]
mod wire;

use std::{fmt::Debug, sync::Arc, time::Duration};

use callsheet::{
    FireTime, JobName, LockKey, NodeId, RunId,
    backend::Postgres,
    port::{
        Advanced, Authority, Backend, ClaimRequest, CursorAdvance, Enrolled, Enrolment, Inquiry, LockError,
        Locker, ScheduleIdentity, Skips, TickClaim, Verdict,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    io::{AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

use self::harness::{scope, server};

const SCHEDULE: &str = "a schedule";

/// A node whose statements have `typo.1` where this version has `typo.0`.
async fn node(scope: &str, typo: (&'static str, &'static str)) -> Arc<dyn Locker> {
    let port = proxy(typo).await;
    let url = server().url().replace(&server().port().to_string(), &port.to_string());
    let locker = Postgres::new(scope, url).locker();
    locker.open().await.expect("a session opens");
    locker
}

async fn proxy((from, to): (&'static str, &'static str)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server().port())).await.expect("it runs");
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let mut next = wire::startup(&mut from_client).await;
                while let Some(mut message) = next {
                    if message[0] == wire::PARSE {
                        wire::rewrite(&mut message, 1, (from, to));
                    }
                    if to_server.write_all(&message).await.is_err() {
                        break;
                    }
                    next = wire::message(&mut from_client).await;
                }
            });
            tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
        }
    });
    port
}

fn job() -> JobName {
    named("job")
}

fn named(name: &str) -> JobName {
    JobName::new(name).expect("a name")
}

/// Of a job that owes the ticks of a minute.
async fn enrol(locker: &dyn Locker) -> Result<DateTime<Utc>, LockError> {
    enrol_job(locker, job()).await
}

async fn enrol_job(locker: &dyn Locker, job: JobName) -> Result<DateTime<Utc>, LockError> {
    let mut enrolment = Enrolment::new(job, ScheduleIdentity::of_text(SCHEDULE), Authority::Any);
    enrolment.known_for = Duration::from_mins(1);
    let enrolled = locker.enrol(&[enrolment]).await?;
    let [Enrolled::Done { cursor, .. }] = enrolled[..] else { panic!("{enrolled:?}") };
    Ok(cursor)
}

fn claim(expected: DateTime<Utc>) -> ClaimRequest {
    claim_of(job(), expected)
}

fn claim_of(job: JobName, expected: DateTime<Utc>) -> ClaimRequest {
    let fire_time = FireTime::new(expected + TimeDelta::milliseconds(1));
    let tick = TickClaim { fire_time, expected, skips: Skips::default(), authority: Authority::Any };
    let run = RunId::from(NodeId::random().as_uuid());
    let key = LockKey::new(job.as_str()).expect("a key");
    let request = ClaimRequest::new(job, key, run);
    ClaimRequest { tick: Some(tick), ..request }
}

fn advance_of(claim: &ClaimRequest) -> CursorAdvance {
    let TickClaim { fire_time: to, expected, skips, authority } = claim.tick.expect("a tick");
    CursorAdvance { id: claim.run.as_uuid(), job: claim.job.clone(), expected, to, skips, authority }
}

fn assert_names<T: Debug>(answer: Result<T, LockError>, what: &str) {
    let Err(LockError::NotDone { reason }) = &answer else { panic!("{answer:?}") };
    assert_says(reason, what);
}

fn assert_says(reason: &str, what: &str) {
    assert!(reason.contains("not understood") && reason.contains(what), "{reason}");
    assert!(reason.contains("; run one version"), "{reason}");
}

#[tokio::test]
async fn a_typo_in_an_enrolment_is_an_error_that_names_it() {
    let node =
        node(&scope("enrolment"), ("SELECT name, 'done', cursor", "SELECT name, 'dnoe', cursor")).await;

    assert_names(enrol(&*node).await, "\"dnoe\"");
}

#[tokio::test]
async fn a_typo_in_an_inquiry_is_an_error_that_names_it() {
    let node = node(&scope("inquiry"), ("THEN 'no leader'", "THEN 'no laeder'")).await;
    let asked = Inquiry { job: job(), schedule: ScheduleIdentity::of_text(SCHEDULE) };

    assert_names(node.inquire(&[asked]).await, "\"no laeder\"");
}

#[tokio::test]
async fn a_typo_in_a_move_is_an_error_that_names_it() {
    let node = node(&scope("move"), ("ELSE 'done'\n", "ELSE 'doen'\n")).await;
    let cursor = enrol(&*node).await.expect("it is enrolled");

    let advanced = node.advance(&[advance_of(&claim(cursor))]).await.expect("an answer");
    let [Advanced::Unavailable { reason }] = &advanced[..] else { panic!("{advanced:?}") };
    assert_says(reason, "\"doen\"");
}

#[tokio::test]
async fn a_claim_with_a_typo_is_an_error_and_can_be_asked_again() {
    let scope = scope("claim");
    let node = node(
        &scope,
        ("'granted' AS verdict, NULL::int8 AS token,", "'grantde' AS verdict, NULL::int8 AS token,"),
    )
    .await;
    let cursor = enrol(&*node).await.expect("it is enrolled");
    let claim = claim(cursor);

    let claimed = node.claim(std::slice::from_ref(&claim)).await.expect("an answer");
    let [Verdict::Unavailable { reason }] = &claimed[..] else { panic!("{claimed:?}") };
    assert_says(reason, "\"grantde\"");

    // The store has granted it, and says so in a word that is known.
    let again = node.claim(&[claim]).await.expect("an answer");
    assert!(matches!(again[..], [Verdict::Granted { .. }]), "{again:?}");
}

#[tokio::test]
async fn a_typo_in_the_answer_to_one_claim_spoils_no_other() {
    let node = node(&scope("one"), ("THEN 'moved'", "THEN 'mvoed'")).await;
    let cursor = enrol(&*node).await.expect("it is enrolled");
    let other = enrol_job(&*node, named("other")).await.expect("it is enrolled");
    let claims = [claim_of(named("other"), other - TimeDelta::seconds(1)), claim(cursor)];

    let round = node.round(&[], &claims, &[advance_of(&claims[0])]).await;

    let claimed = round.claimed.expect("answers");
    let [Verdict::Unavailable { reason }, Verdict::Granted { .. }] = &claimed[..] else {
        panic!("{claimed:?}")
    };
    assert_says(reason, "\"mvoed\"");
    assert!(matches!(round.advanced.expect("answers")[..], [Advanced::Elsewhere { .. }]));
}

#[tokio::test]
async fn an_answer_to_an_item_that_was_not_asked_is_an_error() {
    let node = node(
        &scope("number"),
        ("array_agg(ord) AS ords, array_agg(token)", "array_agg(ord + 7) AS ords, array_agg(token)"),
    )
    .await;
    let cursor = enrol(&*node).await.expect("it is enrolled");

    assert_names(node.claim(&[claim(cursor)]).await, "item 8 of 1");
}

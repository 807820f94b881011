//! What stands in the lease, and what becomes of it when others write, delete or forget it.

use std::time::{Duration, Instant};

use callsheet::{
    Term,
    port::{Campaign, Election, Elector, Handover, LeaderSaid, Renewal},
};
use chrono::Utc;

use crate::{
    LEASE, SECOND, Server, elector_of,
    harness::{ApiServer, WriteFault},
    scope, win,
};

/// What only the stub can do.
fn stub() -> (Server, &'static str) {
    (Server::Stub(ApiServer::start()), "billing")
}

fn of(server: &Server) -> &ApiServer {
    match server {
        Server::Stub(stub) => stub,
        Server::Real(_) => unreachable!("these tests have their own"),
    }
}

fn handover(term: Term) -> Handover {
    Handover {
        term,
        decided_to: Utc::now(),
        behind: Vec::new(),
        starts_to: Some(Utc::now()),
        said: LeaderSaid::default(),
    }
}

#[tokio::test]
async fn a_lease_says_who_leads_as_that_of_any_component_does() {
    let (server, scope) = stub();
    let node = server.node(scope);
    node.set_zone_data("2026f".into());
    let elector = elector_of(&node).await;

    let grant = win(&elector).await;

    let lease = of(&server).lease(scope).expect("it is there");
    let spec = &lease["spec"];
    assert_eq!(
        (spec["leaseDurationSeconds"].as_i64(), spec["leaseTransitions"].as_i64()),
        (Some(2), Some(1))
    );
    let id = Election::node(&node).expect("it has an id").to_string();
    let identity = spec["holderIdentity"].as_str().expect("a text");
    assert!(identity.ends_with(&format!("_{id}")), "{identity}");
    assert!(spec["renewTime"].is_string() && spec["acquireTime"].is_string());
    assert_eq!(lease["metadata"]["annotations"]["callsheet/zone-data"], "2026f");
    assert_eq!(grant.term, Term(1));
    let trust = grant.lease.expect("it has an end");
    assert_eq!(trust.duration, LEASE);
    assert!(trust.margin > LEASE / 4, "a third is for clocks and for runs that are cancelled");
}

#[tokio::test]
async fn what_a_leader_leaves_is_written_with_its_renewal_and_read_by_others() {
    let server = Server::start();
    let scope = scope("handover");
    let (first, second) = (elector_of(&server.node(&scope)).await, elector_of(&server.node(&scope)).await);
    let newest = async |elector: &dyn Elector| {
        elector.handovers().expect("it keeps them").newest().await.expect("an answer")
    };
    let term = win(&first).await.term;
    assert_eq!(newest(&*second).await, None);
    let left = handover(term);

    let renewed = first.handovers().expect("it keeps them").leave(term, &left).await.expect("an answer");
    assert_eq!(renewed, Renewal::Renewed);
    assert_eq!(newest(&*second).await, Some(left.clone()));
    let by_other = second.handovers().expect("it keeps them").leave(term, &left).await.expect("an answer");
    assert_eq!(by_other, Renewal::Deposed);

    first.resign(term).await.expect("an answer");
    let next = win(&second).await.term;
    assert!(next > term);
    assert_eq!(newest(&*second).await, Some(left), "it outlives the term");
}

#[tokio::test]
async fn a_lease_that_was_given_up_is_taken_at_once() {
    let server = Server::start();
    let scope = scope("released");
    let (first, second) = (elector_of(&server.node(&scope)).await, elector_of(&server.node(&scope)).await);
    let term = win(&first).await.term;
    let waiting = tokio::spawn(async move { second.campaign(30 * SECOND).await });
    tokio::time::sleep(SECOND / 5).await;

    let resigned = Instant::now();
    first.resign(term).await.expect("an answer");
    let answer = waiting.await.expect("it does not panic").expect("an answer");

    assert!(matches!(answer, Campaign::Won(_)), "{answer:?}");
    assert!(resigned.elapsed() < LEASE, "it did not wait for the end of the lease");
}

#[tokio::test]
async fn a_holder_that_is_silent_is_succeeded_after_its_lease_and_not_before() {
    let server = Server::start();
    let scope = scope("silent");
    let (first, second) = (elector_of(&server.node(&scope)).await, elector_of(&server.node(&scope)).await);
    let held_at = Instant::now();
    let term = win(&first).await.term;

    let next = win(&second).await;

    assert!(held_at.elapsed() >= LEASE, "{:?}", held_at.elapsed());
    assert!(next.term > term);
    assert_eq!(first.renew(term).await.expect("an answer"), Renewal::Deposed);
}

/// Whatever the times in the lease say.
#[tokio::test]
async fn a_holder_whose_clock_is_wrong_keeps_its_lease_for_as_long_as_it_renews() {
    let (server, scope) = stub();
    let (first, second) = (elector_of(&server.node(scope)).await, elector_of(&server.node(scope)).await);
    let term = win(&first).await.term;
    of(&server).edit(scope, |lease| lease["spec"]["renewTime"] = "2001-01-01T00:00:00.000000Z".into());

    let until = Instant::now() + 2 * LEASE;
    while Instant::now() < until {
        let answer = second.campaign(Duration::from_millis(300)).await.expect("an answer");
        assert!(matches!(answer, Campaign::Lost { leader: Some(_), .. }), "{answer:?}");
        assert_eq!(first.renew(term).await.expect("an answer"), Renewal::Renewed);
    }
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_or_that_somebody_came_between_goes_on() {
    let (server, scope) = stub();
    let elector = elector_of(&server.node(scope)).await;
    let term = win(&elector).await.term;

    of(&server).fail_writes([WriteFault::AnswerLost]);
    elector.renew(term).await.expect_err("no answer");
    assert_eq!(elector.renew(term).await.expect("an answer"), Renewal::Renewed);

    of(&server).edit(scope, |lease| lease["metadata"]["labels"]["team"] = "billing".into());
    assert_eq!(elector.renew(term).await.expect("an answer"), Renewal::Renewed);
    let lease = of(&server).lease(scope).expect("it is there");
    assert_eq!(lease["metadata"]["labels"]["team"], "billing", "it stays");

    of(&server).fail_writes([WriteFault::TooMany]);
    let error = elector.renew(term).await.expect_err("it is overloaded").to_string();
    assert!(error.contains("429"), "{error}");
    assert_eq!(elector.renew(term).await.expect("an answer"), Renewal::Renewed);
}

#[tokio::test]
async fn of_two_that_take_a_lease_at_once_one_holds_it() {
    let server = Server::start();
    for nth in 0..5 {
        let scope = scope(&format!("race-{nth}"));
        let nodes = [elector_of(&server.node(&scope)).await, elector_of(&server.node(&scope)).await];
        let [one, other] = &nodes;

        let (one, other) = tokio::join!(one.campaign(SECOND / 2), other.campaign(SECOND / 2));

        let won = [one, other].map(|answer| matches!(answer.expect("an answer"), Campaign::Won(_)));
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    }
}

#[tokio::test]
async fn a_deleted_lease_is_taken_only_when_its_holder_has_noticed_and_loses_no_handover() {
    let (server, scope) = stub();
    let (first, second) = (elector_of(&server.node(scope)).await, elector_of(&server.node(scope)).await);
    let term = win(&first).await.term;
    let left = handover(term);
    first.handovers().expect("it keeps them").leave(term, &left).await.expect("an answer");
    assert!(matches!(second.campaign(SECOND / 5).await, Ok(Campaign::Lost { .. })));

    let deleted_at = Instant::now();
    of(&server).delete(scope);
    let next = win(&second).await;

    assert!(
        deleted_at.elapsed() > LEASE / 2,
        "the holder was trusted for a while: {:?}",
        deleted_at.elapsed()
    );
    assert!(next.term > term, "terms grow, though the lease is new");
    let newest = second.handovers().expect("it keeps them").newest().await.expect("an answer");
    assert_eq!(newest, Some(left));
    assert_eq!(first.renew(term).await.expect("an answer"), Renewal::Deposed);
}

#[tokio::test]
async fn a_watch_whose_version_is_too_old_is_begun_anew() {
    for as_status in [true, false] {
        let (server, scope) = stub();
        let (first, second) = (elector_of(&server.node(scope)).await, elector_of(&server.node(scope)).await);
        let term = win(&first).await.term;
        let renewing = async {
            loop {
                tokio::time::sleep(SECOND / 4).await;
                assert_eq!(first.renew(term).await.expect("an answer"), Renewal::Renewed);
            }
        };
        let story = async {
            let waiting = second.campaign(20 * SECOND);
            let resigning = async {
                tokio::time::sleep(SECOND / 2).await;
                of(&server).compact(as_status);
                tokio::time::sleep(SECOND).await;
                first.resign(term).await.expect("an answer");
            };
            tokio::join!(waiting, resigning).0.expect("an answer")
        };
        let won = tokio::select! {
            won = story => won,
            () = renewing => unreachable!("it goes on for ever"),
        };

        assert!(matches!(won, Campaign::Won(_)), "{won:?}");
        let watches = of(&server).requests().iter().filter(|verb| *verb == "watch").count();
        assert!(watches >= 2, "it was begun anew: {watches}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_after_the_deadline() {
    let (server, scope) = stub();
    let elector = server.node(scope).deadline(SECOND / 5);
    let elector = elector_of(&elector).await;
    let term = win(&elector).await.term;
    of(&server).set_silent(true);

    let asked_at = Instant::now();
    let error = elector.renew(term).await.expect_err("no answer").to_string();
    assert!(error.contains("deadline"), "{error}");
    assert!(asked_at.elapsed() < SECOND, "{:?}", asked_at.elapsed());

    of(&server).set_silent(false);
    assert_eq!(elector.renew(term).await.expect("an answer"), Renewal::Renewed);
}

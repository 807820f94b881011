//! Who leads while servers are killed and frozen, and what a quorum of leases cannot promise.

use std::time::{Duration, Instant};

use callsheet::port::{Campaign, ElectError, Handover, LeaderSaid, Renewal};
use chrono::Utc;

use super::{LEASE, Quorum, SECOND, win};

const LEADER: &str = "callsheet:{scope}:redlock:leader";

#[tokio::test]
async fn a_minority_that_is_killed_or_frozen_changes_nothing() {
    let quorum = Quorum::start(3).await;
    let (leads, follows) = (quorum.elector(), quorum.elector());
    let term = win(&leads).await.term;

    quorum.0[0].kill();
    let until = Instant::now() + 2 * LEASE;
    while Instant::now() < until {
        assert_eq!(leads.renew(term).await.expect("a majority answers"), Renewal::Renewed);
        let lost = follows.campaign(LEASE / 8).await.expect("an answer");
        assert!(matches!(lost, Campaign::Lost { leader: Some(_), .. }), "{lost:?}");
    }
    quorum.0[0].start_again();

    quorum.0[1].freeze();
    // The one that was restarted has forgotten its vote, so that this is a majority which does not extend it.
    leads.renew(term).await.expect_err("one server of three");
    quorum.0[1].thaw();
    assert_eq!(leads.renew(term).await.expect("two of three"), Renewal::Renewed);
}

#[tokio::test]
async fn a_leader_outlives_servers_that_forget_one_after_the_other() {
    let quorum = Quorum::start(3).await;
    let elector = quorum.elector();
    let term = win(&elector).await.term;

    for server in &quorum.0 {
        server.kill();
        server.start_again();
        // Until it may vote again, and does.
        let until = Instant::now() + LEASE + SECOND;
        while Instant::now() < until {
            assert_eq!(elector.renew(term).await.expect("two of three"), Renewal::Renewed);
            tokio::time::sleep(SECOND / 5).await;
        }
    }
}

#[tokio::test]
async fn a_leader_dies_while_a_minority_is_frozen_and_the_next_one_leads_after_the_lease() {
    let quorum = Quorum::start(5).await;
    let (leads, follows) = (quorum.elector(), quorum.elector());
    let won_at = Instant::now();
    let term = win(&leads).await.term;
    quorum.0[0].freeze();
    quorum.0[4].kill();

    let next = win(&follows).await;

    assert!(won_at.elapsed() >= LEASE, "{:?}", won_at.elapsed());
    assert!(next.term > term);
    assert_eq!(leads.renew(term).await.expect("an answer"), Renewal::Deposed);
    quorum.0[0].thaw();
}

#[tokio::test]
async fn what_reaches_a_minority_extends_nothing_and_nobody_leads_without_a_majority() {
    let quorum = Quorum::start(3).await;
    let (leads, follows) = (quorum.elector(), quorum.elector());
    let grant = win(&leads).await;
    let trusted_until = Instant::now() + grant.lease.map_or(LEASE, |lease| lease.duration - lease.margin);
    quorum.0[1].kill();
    quorum.0[2].kill();

    while Instant::now() + SECOND / 2 < trusted_until {
        let failed = leads.renew(grant.term).await.expect_err("one of three answers");
        let ElectError::Unavailable { reason } = failed else { panic!("{failed:?}") };
        assert!(reason.contains("2 of 3 servers did not answer") && reason.contains("server 2"), "{reason}");
        assert!(!reason.contains(super::PASSWORD), "{reason}");
        tokio::time::sleep(SECOND / 5).await;
    }
    tokio::time::sleep(LEASE).await;
    assert_eq!(leads.renew(grant.term).await.expect("it knows by itself"), Renewal::Deposed);
    follows.campaign(SECOND / 2).await.expect_err("nobody can lead");
}

#[tokio::test]
async fn a_lease_that_was_given_up_is_given_away_at_once() {
    let quorum = Quorum::start(3).await;
    let (first, second) = (quorum.elector(), quorum.elector());
    let term = win(&first).await.term;
    quorum.0[2].freeze();

    first.resign(term).await.expect("a majority answers");
    let resigned = Instant::now();
    let next = win(&second).await;

    assert!(resigned.elapsed() < LEASE, "{:?}", resigned.elapsed());
    assert!(next.term > term);
    quorum.0[2].thaw();
}

/// Votes of candidates that got a minority each, and died before they could give them back.
#[tokio::test]
async fn a_split_election_is_given_back_and_decided_when_dead_votes_lapse() {
    let quorum = Quorum::start(3).await;
    let dead = Duration::from_millis(1_500);
    for (server, node) in
        [(0, "00000000-0000-0000-0000-000000000001"), (1, "00000000-0000-0000-0000-000000000002")]
    {
        quorum.0[server].ask(&format!("SET {LEADER} \"1 {node}\" PX {}", dead.as_millis()));
    }
    let planted_at = Instant::now();
    let elector = quorum.elector();

    let lost = elector.campaign(SECOND / 4).await.expect("an answer");
    assert!(matches!(lost, Campaign::Lost { leader: None, .. }), "{lost:?}");
    tokio::time::sleep(SECOND / 10).await;
    let taken = quorum.0[2].ask(&format!("EXISTS {LEADER}"));
    assert!(taken.contains(":0\r\n"), "what a minority gave is given back: {taken}");

    win(&elector).await;
    assert!(planted_at.elapsed() >= dead, "{:?}", planted_at.elapsed());
}

#[tokio::test]
async fn what_a_leader_leaves_is_read_from_any_majority() {
    let quorum = Quorum::start(3).await;
    let (first, second) = (quorum.elector(), quorum.elector());
    let term = win(&first).await.term;
    let now = Utc::now();
    let left = |nth: i64| Handover {
        term,
        decided_to: now + chrono::TimeDelta::seconds(nth),
        behind: Vec::new(),
        starts_to: Some(now + chrono::TimeDelta::seconds(nth + 1)),
        said: LeaderSaid::default(),
    };
    let newest = async || second.handovers().expect("it keeps them").newest().await.expect("an answer");
    let leave = async |nth| {
        first.handovers().expect("it keeps them").leave(term, &left(nth)).await.expect("an answer")
    };

    // What was asked of the frozen one is over, and its connection is made anew.
    let thaw = async |server: usize| {
        quorum.0[server].thaw();
        tokio::time::sleep(SECOND * 3 / 4).await;
    };

    quorum.0[0].freeze();
    assert_eq!(leave(1).await, Renewal::Renewed);
    thaw(0).await;
    quorum.0[1].freeze();
    assert_eq!(newest().await, Some(left(1)));
    assert_eq!(leave(2).await, Renewal::Renewed);
    thaw(1).await;
    quorum.0[2].freeze();
    assert_eq!(newest().await, Some(left(2)), "two of three have different ones: the newest counts");
    quorum.0[2].thaw();
}

/// What its documentation says: clocks that run too fast on a majority make two leaders.
#[tokio::test]
async fn leases_that_a_majority_ends_early_make_two_leaders_and_those_of_a_minority_do_not() {
    let quorum = Quorum::start(3).await;
    let (first, second) = (quorum.elector(), quorum.elector());
    let won_at = Instant::now();
    let grant = win(&first).await;
    let trusted_until = won_at + grant.lease.map_or(LEASE, |lease| lease.duration - lease.margin);
    let drifts = |server: usize| drop(quorum.0[server].ask(&format!("PEXPIRE {LEADER} 1")));

    drifts(0);
    let lost = second.campaign(SECOND / 4).await.expect("an answer");
    assert!(matches!(lost, Campaign::Lost { .. }), "one clock of three: {lost:?}");
    drifts(1);
    win(&second).await;

    assert!(Instant::now() < trusted_until, "the first one still trusts its lease: the limit is real");
}

#[tokio::test]
async fn a_renewal_that_comes_late_puts_no_older_handover_over_a_newer_one() {
    let quorum = Quorum::start(3).await;
    let elector = quorum.elector();
    let term = win(&elector).await.term;
    let memory = "callsheet:{scope}:redlock:memory";
    for server in &quorum.0 {
        server.ask(&format!("HSET {memory} of {} seq 1000 handover newer", term.0));
    }
    let older = Handover {
        term,
        decided_to: Utc::now(),
        behind: Vec::new(),
        starts_to: None,
        said: LeaderSaid::default(),
    };

    let left = elector.handovers().expect("it keeps them").leave(term, &older).await.expect("an answer");

    assert_eq!(left, Renewal::Renewed);
    for server in &quorum.0 {
        let kept = server.ask(&format!("HGET {memory} handover"));
        assert!(kept.contains("newer"), "{kept}");
    }
}

//! Servers that come back with nothing.

use std::time::Instant;

use callsheet::{
    FireTime, SkipReason,
    port::{Campaign, TickVoted},
};
use chrono::{TimeDelta, Utc};

use super::{LEASE, Quorum, SECOND, ask, rival, tick, tick_at, win};

#[tokio::test]
async fn a_majority_that_forgot_gives_the_lease_to_nobody_before_a_lease_has_passed() {
    let quorum = Quorum::start(3).await;
    let (first, second) = (quorum.elector(), quorum.elector());
    win(&first).await;
    for server in &quorum.0[..2] {
        server.kill();
        server.start_again();
    }
    let back_at = Instant::now();

    let lost = second.campaign(LEASE / 2).await.expect("an answer");
    assert!(matches!(lost, Campaign::Lost { leader: None, .. }), "they may have promised it: {lost:?}");
    win(&second).await;

    assert!(back_at.elapsed() >= LEASE - SECOND / 10, "{:?}", back_at.elapsed());
}

#[tokio::test]
async fn a_tick_is_not_given_again_by_servers_that_forgot_it() {
    let quorum = Quorum::start(3).await;
    let (first, second) = (quorum.votes(), quorum.votes());
    let given = tick("job");
    assert_eq!(ask(&first, &given).await, TickVoted::Given);

    for server in &quorum.0[1..] {
        server.kill();
        server.start_again();
    }
    // Also by a client that connects anew.
    for votes in [second, quorum.votes()] {
        for _ in 0..5 {
            let voted = ask(&votes, &rival(&given)).await;
            let lapsed = matches!(voted, TickVoted::Lapsed { reason: SkipReason::Unproven });
            assert!(lapsed || matches!(voted, TickVoted::Unknown { .. }), "{voted:?}");
            tokio::time::sleep(SECOND / 10).await;
        }
        let later = tick("job");
        tokio::time::sleep(SECOND / 100).await;
        assert_eq!(
            ask(&votes, &later).await,
            TickVoted::Given,
            "of a tick that was not due yet they had said nothing"
        );
    }
}

#[tokio::test]
async fn a_server_whose_memory_was_cleared_is_one_that_forgot() {
    let quorum = Quorum::start(3).await;
    let (first, second) = (quorum.votes(), quorum.votes());
    let given = tick("job");
    assert_eq!(ask(&first, &given).await, TickVoted::Given);
    quorum.0.iter().for_each(|server| drop(server.ask("FLUSHALL")));

    let lapsed = TickVoted::Lapsed { reason: SkipReason::Unproven };
    assert_eq!(ask(&second, &rival(&given)).await, lapsed);
    let later = tick("job");
    tokio::time::sleep(SECOND / 100).await;
    assert_eq!(ask(&second, &later).await, TickVoted::Given);
}

/// The first one sees it at once: what it knows was written.
#[tokio::test]
async fn what_was_left_to_servers_that_forgot_is_not_taken_for_nothing() {
    let quorum = Quorum::start(3).await;
    let elector = quorum.elector();
    win(&elector).await;
    for server in &quorum.0 {
        server.kill();
        server.start_again();
    }
    let back_at = Utc::now();

    let elector = quorum.elector();
    let left = elector.handovers().expect("it keeps them").newest().await.expect("an answer");

    // A leader may have started ticks for a lease after the last time at which it could leave word.
    let starts_to = left.and_then(|left| left.starts_to).expect("nobody knows what was started");
    let unseen = back_at + TimeDelta::from_std(LEASE).expect("short") - TimeDelta::seconds(1);
    assert!(starts_to >= unseen, "{starts_to}, and not {unseen}");
}

#[tokio::test]
async fn a_clock_that_is_set_back_opens_no_tick() {
    let quorum = Quorum::start(3).await;
    let votes = quorum.votes();
    // As if the servers had seen the next hour, and their clocks were set back since.
    let ahead = (Utc::now() + TimeDelta::hours(1)).timestamp_millis();
    ask(&votes, &tick("job")).await;
    for server in &quorum.0 {
        server.ask(&format!("HSET callsheet:{{scope}}:redlock:memory latest {ahead}"));
    }

    let over = tick_at("job", FireTime::new(Utc::now() - TimeDelta::seconds(1)));

    assert_eq!(
        ask(&votes, &over).await,
        TickVoted::Lapsed { reason: SkipReason::Misfire },
        "its window was over by the time that they had seen"
    );
}

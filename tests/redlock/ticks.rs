//! Votes on ticks while servers are away, and what becomes of those that are split.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use callsheet::{
    Callsheet, FireTime, Fires, Job, Misfire, SkipReason, SkippedTicks,
    backend::Elected,
    port::{TickVote, TickVoted},
    schedule::every,
};
use chrono::{TimeDelta, Utc};

use super::{Quorum, SECOND, ask, rival, tick, tick_at};

fn key(tick: &TickVote) -> String {
    let due = tick.fire_time.instant().timestamp_millis();
    format!("callsheet:{{scope}}:redlock:tick:{due}:{}", tick.job)
}

#[tokio::test]
async fn a_minority_that_is_killed_or_frozen_delays_no_vote() {
    let quorum = Quorum::start(5).await;
    let (first, second) = (quorum.votes(), quorum.votes());
    ask(&first, &tick("before")).await;
    ask(&second, &tick("before")).await;
    quorum.0[1].kill();
    quorum.0[3].freeze();

    for nth in 0..20 {
        let one = tick(&format!("job {nth}"));
        let asked_at = Instant::now();
        assert_eq!(ask(&first, &one).await, TickVoted::Given);
        assert!(asked_at.elapsed() < SECOND / 2, "it waits for no deadline: {:?}", asked_at.elapsed());
        assert_eq!(ask(&second, &rival(&one)).await, TickVoted::GivenTo(one.run));
    }
    quorum.0[3].thaw();
}

#[tokio::test]
async fn without_a_majority_it_is_unknown_and_nothing_is_given() {
    let quorum = Quorum::start(3).await;
    let votes = quorum.votes();
    quorum.0[0].kill();
    quorum.0[1].freeze();

    let voted = ask(&votes, &tick("job")).await;

    let TickVoted::Unknown { reason } = voted else { panic!("{voted:?}") };
    assert!(reason.contains("2 of 3 servers did not answer, and 2 have to"), "{reason}");
    assert!(!reason.contains(super::PASSWORD), "{reason}");
    quorum.0[1].thaw();
}

#[tokio::test]
async fn a_minority_that_was_taken_is_given_back() {
    let quorum = Quorum::start(3).await;
    let votes = quorum.votes();
    let contended = tick("job");
    for (server, other) in [(0, rival(&contended)), (1, rival(&contended))] {
        quorum.0[server].ask(&format!("SET {} \"1 {}\" PX 60000", key(&contended), other.run));
    }

    assert_eq!(ask(&votes, &contended).await, TickVoted::Split);

    tokio::time::sleep(SECOND / 5).await;
    let left = quorum.0[2].ask(&format!("EXISTS {}", key(&contended)));
    assert!(left.contains(":0\r\n"), "{left}");
}

#[tokio::test]
async fn a_vote_outlives_the_window_in_which_anybody_may_ask() {
    let quorum = Quorum::start(3).await;
    let votes = quorum.votes();
    let window = Duration::from_millis(1_500);
    let given = TickVote { window, ..tick("job") };
    assert_eq!(ask(&votes, &given).await, TickVoted::Given);
    // A majority has voted; the answer waits for no more.
    let left = quorum.0.iter().map(|server| server.ask(&format!("PTTL {}", key(&given))));
    let left = left.filter_map(|left| left.lines().find_map(|line| line.strip_prefix(':')?.parse().ok()));
    let left: Vec<u64> = left.collect();
    assert!(left.len() >= 2, "{left:?}");
    assert!(left.iter().all(|millis| u128::from(*millis) > window.as_millis()), "{left:?} ms");

    // From the last moment of its window until long after its key has expired.
    let until = Instant::now() + window + 4 * SECOND;
    while Instant::now() < until {
        assert_ne!(ask(&votes, &rival(&given)).await, TickVoted::Given);
        tokio::time::sleep(SECOND / 20).await;
    }
    let gone = quorum.0[0].ask(&format!("EXISTS {}", key(&given)));
    assert!(gone.contains(":0\r\n"), "it has expired: {gone}");
}

#[tokio::test]
async fn a_window_may_be_as_short_or_as_long_as_any() {
    let quorum = Quorum::start(3).await;
    let votes = quorum.votes();

    let endless = TickVote { window: Duration::MAX, ..tick("endless") };
    assert_eq!(ask(&votes, &endless).await, TickVoted::Given);
    assert_eq!(ask(&votes, &rival(&endless)).await, TickVoted::GivenTo(endless.run));

    let none = TickVote { window: Duration::ZERO, ..tick("none") };
    tokio::time::sleep(SECOND / 50).await;
    let lapsed = TickVoted::Lapsed { reason: SkipReason::Misfire };
    assert_eq!(ask(&votes, &none).await, lapsed, "it is late at once");
}

/// Nodes that died took a minority each, and the tick stays split for as long as it may run.
#[tokio::test]
async fn a_tick_that_stays_split_is_asked_for_again_and_then_skipped_as_contended() {
    let quorum = Quorum::start(3).await;
    let (runs, skips) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let period = 4 * SECOND;
    let millis = i64::try_from(period.as_millis()).expect("few");
    let next = (Utc::now().timestamp_millis() / millis + 1) * millis;
    let due = chrono::DateTime::from_timestamp_millis(next).expect("an instant");
    let split = tick_at("split", FireTime::new(due));
    for server in [0, 1] {
        quorum.0[server].ask(&format!("SET {} \"1 {}\" PX 60000", key(&split), rival(&split).run));
    }
    let (started, contended) = (runs.clone(), skips.clone());
    let on_skip = move |skipped: SkippedTicks| {
        assert_eq!((skipped.reason, skipped.count), (SkipReason::Contended, 1));
        contended.fetch_add(1, Ordering::Relaxed);
        async {}
    };
    let job = Job::new("split", every(period))
        .fires(Fires::AnyNode)
        .misfire(Misfire::Latest { within: 2 * SECOND })
        .run(move |run| {
            started.fetch_add(1, Ordering::Relaxed);
            async move { drop(run) }
        });

    let node = Callsheet::builder().job(job).on_skip(on_skip).backend(Elected::new(quorum.node("scope")));
    let node = node.start().await.expect("it starts");
    super::store::until("skipped", async || skips.load(Ordering::Relaxed) == 1).await;
    let late = Utc::now() - due;
    assert!(late >= TimeDelta::seconds(2), "it was asked for until its window was over: {late}");
    super::store::until("at work", async || runs.load(Ordering::Relaxed) >= 1).await;
    node.shutdown(SECOND).await;

    assert!(quorum.0[0].ask(&format!("EXISTS {}", key(&split))).contains(":1\r\n"), "the dead vote stands");
}

/// Of the servers a majority forgets how it voted on a tick whose window is long: it is decided at once, and told.
#[tokio::test]
async fn a_due_tick_that_a_majority_forgot_is_skipped_at_once_and_the_next_runs() {
    let quorum = Quorum::start(3).await;
    let (runs, skips) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let (started, unproven) = (runs.clone(), skips.clone());
    let on_skip = move |skipped: SkippedTicks| {
        unproven.fetch_add(usize::from(skipped.reason == SkipReason::Unproven), Ordering::Relaxed);
        async {}
    };
    let job = Job::new("forgotten", every(4 * SECOND))
        .fires(Fires::AnyNode)
        .misfire(Misfire::All { max: 100, within: Duration::from_secs(3_600) })
        .run(move |run| {
            started.fetch_add(1, Ordering::Relaxed);
            async move { drop(run) }
        });
    let node = Callsheet::builder().job(job).on_skip(on_skip).backend(Elected::new(quorum.node("scope")));
    let node = node.start().await.expect("it starts");
    super::store::until("at work", async || runs.load(Ordering::Relaxed) >= 1).await;

    // The next tick is due while they are away.
    quorum.0[0].kill();
    quorum.0[1].kill();
    tokio::time::sleep(5 * SECOND).await;
    let before = runs.load(Ordering::Relaxed);
    quorum.0[0].start_again();
    quorum.0[1].start_again();

    super::store::until("skipped", async || skips.load(Ordering::Relaxed) >= 1).await;
    super::store::until("at work again", async || runs.load(Ordering::Relaxed) > before).await;
    node.shutdown(SECOND).await;
}

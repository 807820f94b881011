//! Names that are forgotten while nodes use them, on a real PostgreSQL server.

#[path = "common/postgres.rs"]
mod harness;

use std::{collections::HashSet, time::Duration};

use callsheet::{
    FencingToken, FireTime, JobName, LockKey, NodeId, Outcome, RunId, Term,
    backend::Postgres,
    port::{
        Authority, Backend, Campaign, ClaimRequest, Completed, Completion, Enrolled, Enrolment,
        ScheduleIdentity, Skips, TickClaim, Verdict,
    },
};
use chrono::TimeDelta;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use self::harness::{scope, server};

/// How long the race goes on.
const RACE: Duration = Duration::from_secs(4);

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

fn name(name: &str) -> JobName {
    JobName::new(name).expect("a name")
}

/// The leader forgets everything that is not in use at this very moment, again and again, while another node
/// enrols a job, claims its ticks, pauses and resumes it.
#[tokio::test]
async fn forgetting_a_used_name_runs_no_tick_twice_and_lowers_no_token() {
    let scope = scope("race");
    let open = || Postgres::new(&scope, server().url());
    let (leader, user) = (open(), open());
    leader.locker().open().await.expect("a session opens");
    user.locker().open().await.expect("a session opens");
    let Ok(Campaign::Won(grant)) = leader.elector().campaign(Duration::MAX).await else {
        panic!("nobody else leads")
    };
    let until = Instant::now() + RACE;
    let forgets = async {
        let (locker, elector) = (leader.locker(), leader.elector());
        let mut names = 0;
        while Instant::now() < until {
            elector.renew(grant.term).await.expect("an answer");
            names += locker.forget(grant.term, Duration::ZERO).await.expect("an answer").names;
        }
        names
    };
    let uses = async {
        let locker = user.locker();
        let (mut ticks, mut last, mut unknown) = (HashSet::new(), FencingToken(0), 0);
        let key = LockKey::from(&name("job"));
        while Instant::now() < until {
            // As one that was held all the time: it would owe ticks of the last hour.
            let mut enrolment =
                Enrolment::new(name("job"), ScheduleIdentity::of_text("a schedule"), Authority::Any);
            enrolment.known_for = Duration::from_secs(3_600);
            let enrolled = locker.enrol(&[enrolment]).await.expect("an answer");
            let [Enrolled::Done { cursor, .. }] = enrolled[..] else { continue };
            // Or it would be kept.
            locker.retract(std::slice::from_ref(&key)).await.expect("an answer");
            if unknown % 3 == 0 {
                sleep(Duration::from_millis(2)).await;
            }
            let fire_time = FireTime::new(cursor + TimeDelta::milliseconds(1));
            let (skips, authority) = (Skips::default(), Authority::Any);
            let tick = TickClaim { fire_time, expected: cursor, skips, authority };
            let run = RunId::from(NodeId::random().as_uuid());
            let claim = ClaimRequest { tick: Some(tick), ..ClaimRequest::new(name("job"), key.clone(), run) };
            match &locker.claim(&[claim]).await.expect("an answer")[..] {
                [Verdict::Granted { token, .. }] => {
                    assert!(ticks.insert(fire_time), "{fire_time:?} ran twice");
                    assert!(*token > last, "{token} after {last}");
                    last = *token;
                    let end = Completion::new(name("job"), key.clone(), run, last, Outcome::Succeeded);
                    // Whoever looks at the name may have locked its row.
                    while locker.complete(std::slice::from_ref(&end)).await.expect("an answer")
                        != [Completed::RECORDED]
                    {
                        assert!(Instant::now() < until + RACE, "the end is recorded");
                    }
                }
                [Verdict::Unknown] => unknown += 1,
                // It was forgotten and enrolled before the claim, or its row is locked.
                [Verdict::Elsewhere { .. } | Verdict::Locked { .. }] => {}
                other => panic!("{other:?}"),
            }
        }
        (ticks.len(), unknown)
    };
    let (names, (ticks, unknown)) = tokio::join!(forgets, uses);

    assert!(names > 10, "{names} were forgotten");
    assert!(ticks > 10, "{ticks} ran");
    assert!(unknown > 0, "no claim met a name that was forgotten");
}

/// Forgets until a name is gone.
async fn forgets(leader: &Postgres, term: Term, name: &str) {
    let admin = admin().await;
    let find = "SELECT FROM callsheet.names WHERE scope = $1 AND name = $2";
    let until = Instant::now() + RACE;
    while !admin.query(find, &[&&*leader.scope(), &name]).await.expect("an answer").is_empty() {
        assert!(Instant::now() < until, "{name} is kept");
        leader.elector().renew(term).await.expect("an answer");
        leader.locker().forget(term, Duration::ZERO).await.expect("an answer");
    }
}

/// Only whoever closed a run as lost says what became of it.
#[tokio::test]
async fn an_end_that_comes_after_its_key_was_forgotten_is_what_the_runs_say() {
    let scope = scope("late");
    let open = || Postgres::new(&scope, server().url());
    let (leader, user) = (open(), open());
    leader.locker().open().await.expect("a session opens");
    user.locker().open().await.expect("a session opens");
    let Ok(Campaign::Won(grant)) = leader.elector().campaign(Duration::MAX).await else {
        panic!("nobody else leads")
    };
    let mut ends = Vec::new();
    for key in ["lost", "ended"] {
        let run = RunId::from(NodeId::random().as_uuid());
        let claim = ClaimRequest::new(name(key), LockKey::from(&name(key)), run);
        let claimed = user.locker().claim(&[claim]).await.expect("an answer");
        let [Verdict::Granted { token, .. }] = claimed[..] else { panic!("{claimed:?}") };
        ends.push(Completion::new(name(key), LockKey::from(&name(key)), run, token, Outcome::Succeeded));
    }
    let [lost, ended] = [&ends[..1], &ends[1..]];
    assert_eq!(user.locker().complete(ended).await.expect("an answer"), [Completed::RECORDED]);
    user.locker().close().await;
    while leader.locker().close_lost(10).await.expect("an answer").lost.is_empty() {}
    forgets(&leader, grant.term, "lost").await;
    forgets(&leader, grant.term, "ended").await;

    user.locker().open().await.expect("the same node opens a session");

    assert_eq!(user.locker().complete(lost).await.expect("an answer"), [Completed::Stale]);
    assert_eq!(user.locker().complete(ended).await.expect("an answer"), [Completed::RECORDED]);
    assert_eq!(user.locker().release(lost).await.expect("an answer"), [Completed::Stale]);
    let admin = admin().await;
    let prune = "DELETE FROM callsheet.runs WHERE scope = $1";
    admin.execute(prune, &[&scope]).await.expect("an answer");
    assert_eq!(user.locker().complete(lost).await.expect("an answer"), [Completed::Unknown]);
}

/// A pause decides that a name is kept, whichever comes first.
#[tokio::test]
async fn a_pause_is_never_forgotten_with_its_name() {
    let scope = scope("pauses");
    let open = || Postgres::new(&scope, server().url());
    let (leader, user) = (open(), open());
    leader.locker().open().await.expect("a session opens");
    user.locker().open().await.expect("a session opens");
    let Ok(Campaign::Won(grant)) = leader.elector().campaign(Duration::MAX).await else {
        panic!("nobody else leads")
    };
    let until = Instant::now() + RACE;
    let forgets = async {
        let (locker, elector) = (leader.locker(), leader.elector());
        while Instant::now() < until {
            elector.renew(grant.term).await.expect("an answer");
            locker.forget(grant.term, Duration::ZERO).await.expect("an answer");
        }
    };
    let pauses = async {
        let locker = user.locker();
        let job = [name("job")];
        let pause = callsheet::port::Pause::until_resumed();
        let mut rounds = 0;
        while Instant::now() < until {
            locker.pause(&job, Some(&pause)).await.expect("an answer");
            let again = locker.pause(&job, Some(&pause)).await.expect("an answer");
            assert_eq!(again, [false], "it is paused already");
            assert_eq!(locker.pause(&job, None).await.expect("an answer"), [true], "it is resumed once");
            rounds += 1;
        }
        rounds
    };
    let ((), rounds) = tokio::join!(forgets, pauses);

    assert!(rounds > 10, "{rounds} rounds");
}

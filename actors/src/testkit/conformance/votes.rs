//! What all votes on ticks are.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;

use crate::{
    core::time::FireTime,
    name::{JobName, NodeId, RunIds},
    port::{TickVote, TickVoted, TickVotes},
};

/// How late a tick may be.
const WINDOW: Duration = Duration::from_secs(5);
/// How often a tick is asked for until it is given.
const ASKED_MAX: usize = 200;
/// How many ticks the nodes race for, and how often.
const RACED: usize = 50;

/// Checks votes on ticks, as several nodes of one scope ask for them: one run at most is given each tick, from the
/// instant at which it is due until its window is over, and none after a vote has expired. What is given back can be
/// given again. It waits for the end of a window, and runs for about 10 s. Voters that have forgotten are not among
/// them.
///
/// # Panics
///
/// If a check fails.
pub async fn tick_votes(nodes: &[Arc<dyn TickVotes>], now: impl Fn() -> DateTime<Utc>) {
    let [first, second, ..] = nodes else { panic!("there are two nodes or more") };
    let suite = Suite { ids: RunIds::of(NodeId::random()), now };
    suite.a_tick_is_given_once_and_to_the_same_run_again(&**first, &**second).await;
    suite.what_is_given_back_is_given_to_another_run(&**first, &**second).await;
    suite.a_tick_is_not_given_before_it_is_due(&**first).await;
    suite.each_tick_is_decided_by_itself(&**first, &**second).await;
    suite.of_those_that_race_one_gets_the_tick(nodes).await;
    suite.a_vote_that_expires_opens_no_tick(&**first, &**second).await;
}

struct Suite<F> {
    ids: RunIds,
    now: F,
}

impl<F: Fn() -> DateTime<Utc>> Suite<F> {
    fn tick(&self, job: &str, fire_time: FireTime) -> TickVote {
        let job = JobName::new(job).expect("a good name");
        TickVote { job, fire_time, run: self.ids.next((self.now)()), window: WINDOW }
    }

    fn due(&self) -> FireTime {
        FireTime::new((self.now)())
    }

    /// What becomes of a tick, once the vote is not split.
    async fn decided(&self, votes: &dyn TickVotes, tick: &TickVote) -> TickVoted {
        for _ in 0..ASKED_MAX {
            match votes.ask(std::slice::from_ref(tick)).await.pop().expect("one answer per tick") {
                // Its clock is a little behind.
                TickVoted::Early { wait } if wait < WINDOW => tokio::time::sleep(wait).await,
                TickVoted::Split => tokio::time::sleep(Duration::from_millis(5)).await,
                decided => return decided,
            }
        }
        panic!("the vote on {tick:?} is split for ever");
    }

    async fn a_tick_is_given_once_and_to_the_same_run_again(
        &self,
        first: &dyn TickVotes,
        second: &dyn TickVotes,
    ) {
        let due = self.due();
        let [one, other] = [(); 2].map(|()| self.tick("once", due));
        assert_eq!(self.decided(first, &one).await, TickVoted::Given);
        assert_eq!(self.decided(second, &other).await, TickVoted::GivenTo(one.run));
        assert_eq!(self.decided(first, &one).await, TickVoted::Given, "asking again does no harm");
        let next = self.tick("once", FireTime::new(due.instant() + TimeDelta::milliseconds(1)));
        assert_eq!(self.decided(second, &next).await, TickVoted::Given, "it is another tick");
    }

    async fn what_is_given_back_is_given_to_another_run(
        &self,
        first: &dyn TickVotes,
        second: &dyn TickVotes,
    ) {
        let due = self.due();
        let [one, other] = [(); 2].map(|()| self.tick("back", due));
        assert_eq!(self.decided(first, &one).await, TickVoted::Given);
        first.give_back(std::slice::from_ref(&one)).await;
        for _ in 0..ASKED_MAX {
            match self.decided(second, &other).await {
                TickVoted::Given => return,
                // Nobody waits for what is given back.
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        panic!("a tick that was given back is given again");
    }

    async fn a_tick_is_not_given_before_it_is_due(&self, votes: &dyn TickVotes) {
        let early = self.tick("early", FireTime::new((self.now)() + TimeDelta::hours(1)));
        let voted = votes.ask(&[early]).await;
        assert!(
            matches!(voted[..], [TickVoted::Early { wait }] if wait > Duration::from_secs(3_000)),
            "{voted:?}"
        );
    }

    async fn each_tick_is_decided_by_itself(&self, first: &dyn TickVotes, second: &dyn TickVotes) {
        let due = self.due();
        let [taken, free] = ["taken", "free"].map(|job| self.tick(job, due));
        assert_eq!(self.decided(first, &taken).await, TickVoted::Given);
        let early = self.tick("free", FireTime::new(due.instant() + TimeDelta::hours(1)));
        let asked = [self.tick("taken", due), free, early];
        let voted = second.ask(&asked).await;
        let [TickVoted::GivenTo(run), TickVoted::Given, TickVoted::Early { .. }] = voted[..] else {
            panic!("{voted:?}")
        };
        assert_eq!(run, taken.run);
    }

    async fn of_those_that_race_one_gets_the_tick(&self, nodes: &[Arc<dyn TickVotes>]) {
        for nth in 0..RACED {
            let due = FireTime::new((self.now)() - TimeDelta::milliseconds(1));
            let asked: Vec<_> = nodes.iter().map(|_| self.tick("raced", due)).collect();
            let racing = nodes.iter().zip(&asked).map(|(node, tick)| self.decided(&**node, tick));
            let voted = join_all(racing).await;
            let winners = voted.iter().filter(|voted| **voted == TickVoted::Given).count();
            assert_eq!(winners, 1, "race {nth}: {voted:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn a_vote_that_expires_opens_no_tick(&self, first: &dyn TickVotes, second: &dyn TickVotes) {
        let one = self.tick("expired", self.due());
        assert_eq!(self.decided(first, &one).await, TickVoted::Given);
        let until = one.fire_time.instant() + TimeDelta::from_std(2 * WINDOW).unwrap_or_default();
        while (self.now)() < until {
            let other = TickVote { run: self.ids.next((self.now)()), ..one.clone() };
            let voted = second.ask(&[other]).await;
            assert_ne!(voted, [TickVoted::Given], "at {}", (self.now)());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

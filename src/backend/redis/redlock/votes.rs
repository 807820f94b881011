//! Ticks that any node may fire: each server votes for one run of each.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    RunId,
    port::{TickVote, TickVoted, TickVotes},
};
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::{
    node::Node,
    servers::{Question, millis},
    tally::{self, TickAnswer},
};
use crate::backend::random::random;

/// How often a vote that is split is asked again at once; later the engine asks.
const TRIES: u32 = 4;
/// The longest pause before it is, which is a random one; it doubles with each try.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// How many ticks one question has.
const TICKS_MAX: usize = 256;
/// No try begins later than so long after the first one.
const ASK_MAX: Duration = Duration::from_secs(2);
/// No answer is waited for longer after the first one began: less than a call may take, whatever the deadline is.
const WAIT_MAX: Duration = Duration::from_secs(4);

pub(super) struct RedlockVotes {
    pub(super) node: Arc<Node>,
}

impl TickVotes for RedlockVotes {
    fn ask<'a>(&'a self, ticks: &'a [TickVote]) -> BoxFuture<'a, Vec<TickVoted>> {
        async move {
            let began = Instant::now();
            let questions = ticks.chunks(TICKS_MAX).map(|ticks| self.ask_since(began, ticks));
            join_all(questions).await.concat()
        }
        .boxed()
    }

    fn give_back<'a>(&'a self, ticks: &'a [TickVote]) -> BoxFuture<'a, ()> {
        async move {
            for ticks in ticks.chunks(TICKS_MAX) {
                self.give_back_now(self.node.next_attempt(), ticks);
            }
        }
        .boxed()
    }
}

impl RedlockVotes {
    async fn ask_since(&self, began: Instant, ticks: &[TickVote]) -> Vec<TickVoted> {
        let until = began + ASK_MAX;
        let mut voted = vec![TickVoted::Split; ticks.len()];
        for nth in 0..TRIES {
            let split: Vec<_> = (0..ticks.len()).filter(|at| voted[*at] == TickVoted::Split).collect();
            let asked: Vec<_> = split.iter().map(|at| ticks[*at].clone()).collect();
            if asked.is_empty() || nth > 0 && Instant::now() >= until {
                break;
            }
            if nth > 0 {
                // Those that were split together do not ask together again.
                let longest = u64::try_from((PAUSE_MAX * 2_u32.pow(nth - 1)).as_millis()).unwrap_or(1);
                sleep(Duration::from_millis(random() % longest.max(1))).await;
            }
            for (at, answer) in split.into_iter().zip(self.ask_once(began + WAIT_MAX, &asked).await) {
                voted[at] = answer;
            }
        }
        voted
    }

    /// Asks each server once, and waits for no answer longer than until then. What is not given is given back.
    async fn ask_once(&self, until: Instant, ticks: &[TickVote]) -> Vec<TickVoted> {
        let attempt = self.node.next_attempt();
        let of_tick = |tick: &TickVote| {
            let due = tick.fire_time.instant().timestamp_millis();
            [due.to_string(), millis(tick.window).to_string(), tick.run.to_string()]
        };
        let arguments = std::iter::once(attempt.to_string()).chain(ticks.iter().flat_map(of_tick));
        let mut round = self.node.servers.ask(Question::new("vote", arguments).about(self.keys(ticks)));
        let servers = self.node.servers.count();
        let mut answers = vec![Vec::with_capacity(servers); ticks.len()];
        let mut voted = vec![None; ticks.len()];
        while voted.iter().any(Option::is_none)
            && let Ok(Some(answer)) = timeout_at(until, round.next::<Vec<String>>()).await
        {
            let of_server = answer.unwrap_or_default();
            for (nth, answers) in answers.iter_mut().enumerate() {
                answers.extend(of_server.get(nth).and_then(|text| read(text)));
                if voted[nth].is_none() {
                    voted[nth] = tally::tick(servers, round.pending(), answers);
                }
            }
        }
        let unknown = |voted: Option<TickVoted>| match voted {
            Some(TickVoted::Unknown { .. }) | None => TickVoted::Unknown { reason: round.why() },
            Some(voted) => voted,
        };
        let voted: Vec<_> = voted.into_iter().map(unknown).collect();
        let not_given = ticks.iter().zip(&voted).filter(|(_, voted)| **voted != TickVoted::Given);
        let not_given: Vec<_> = not_given.map(|(tick, _)| tick.clone()).collect();
        self.give_back_now(attempt, &not_given);
        voted
    }

    /// Gives back what was asked for up to an attempt, on all servers. Nobody waits for it.
    fn give_back_now(&self, attempt: u64, ticks: &[TickVote]) {
        if ticks.is_empty() {
            return;
        }
        let runs = ticks.iter().map(|tick| tick.run.to_string());
        let arguments = std::iter::once(attempt.to_string()).chain(runs);
        drop(self.node.servers.ask(Question::new("give back", arguments).about(self.keys(ticks))));
    }

    fn keys(&self, ticks: &[TickVote]) -> Vec<String> {
        let key = |tick: &TickVote| {
            self.node.servers.key_of_tick(tick.fire_time.instant().timestamp_millis(), tick.job.as_str())
        };
        ticks.iter().map(key).collect()
    }
}

/// What a server says of a tick, as the script writes it.
fn read(text: &str) -> Option<TickAnswer> {
    let (word, rest) = text.split_at_checked(1)?;
    match word {
        "y" => Some(TickAnswer::Yes),
        "h" => Some(TickAnswer::Held(run(rest))),
        "e" => Some(TickAnswer::Early(Duration::from_millis(rest.parse().ok()?))),
        "l" => Some(TickAnswer::Late),
        "f" => Some(TickAnswer::Forgot),
        _ => None,
    }
}

/// A run; one that cannot be read is nobody's.
fn run(text: &str) -> RunId {
    Uuid::parse_str(text).unwrap_or_default().into()
}

//! What is wrong with the servers and with clocks, as a node sees it.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use callsheet_actors::port::{ElectError, LockError, OBSTACLES_MAX, Obstacle};
use tokio::time::Instant;

use super::{
    clocks::Clocks,
    node::{Node, Read},
    servers::{Question, Round},
    tally::is_lost,
};

/// How long the other servers are waited for once a majority is there.
const ALL_MAX: Duration = Duration::from_millis(250);

impl Node {
    fn clocks(&self) -> MutexGuard<'_, Clocks> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server that answered last said what its clock reads.
    pub(super) fn note_clock(&self, round: &Round, millis: i64) {
        let ((asked_at, since), now) = (round.asked_at, Instant::now());
        self.clocks().note(round.nth, asked_at, now - since, millis, now);
    }

    /// The servers that are off: their clocks, or they have no vote.
    pub(super) fn obstacles(&self) -> Vec<Obstacle> {
        let mut obstacles = self.servers.obstacles();
        let apart = self.clocks().apart(self.settings.margin(), Instant::now());
        obstacles.extend(apart.into_iter().map(|(nth, off)| Obstacle {
            reason: format!(
                "the clock of {} is off by {} ms from most of the others",
                self.servers.shown(nth),
                off.num_milliseconds()
            ),
            cure: "synchronise the clocks of all servers".to_owned(),
            held_for: Duration::ZERO,
        }));
        obstacles.truncate(OBSTACLES_MAX);
        obstacles
    }

    /// Who leads is to be sure up to when a leader before started ticks: it compares the clocks of servers.
    pub(super) fn check_clocks(&self) -> Result<(), ElectError> {
        let apart = self.clocks().apart(self.settings.margin(), Instant::now());
        if !is_lost(self.servers.count(), apart.len()) {
            return Ok(());
        }
        let of_each: Vec<_> = apart
            .iter()
            .map(|(nth, off)| format!("{} by {} ms", self.servers.shown(*nth), off.num_milliseconds()))
            .collect();
        let reason = format!(
            "the clocks of the servers differ by more than a fifth of the lease, {}; synchronise them",
            of_each.join(", ")
        );
        Err(ElectError::Unavailable { reason })
    }

    /// Whether a majority answers, and no server is named twice. Whoever answers soon is waited for.
    pub(super) async fn reach(&self) -> Result<(), LockError> {
        let mut round = self.servers.ask(Question::new("read", []));
        let mut answered = 0;
        while answered < self.majority() {
            match round.next::<Read>().await {
                Some(answer) => answered += usize::from(answer.is_some()),
                None => return Err(round.to_lock_error()),
            }
        }
        let all = async { while round.next::<Read>().await.is_some() {} };
        // The others are away, and that is told.
        let _ = tokio::time::timeout(ALL_MAX, all).await;
        if let Some(reason) = self.servers.doubled() {
            return Err(LockError::Refused { reason });
        }
        // Once more, over connections that stand: now the clocks are read.
        self.look().await.map(drop).map_err(|error| LockError::Unavailable { reason: error.to_string() })
    }
}

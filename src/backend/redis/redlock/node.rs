//! What a node knows of the lease that a majority gave it, and how it asks.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use callsheet_actors::{
    NodeId, Term,
    port::{Campaign, ElectError, Grant, Handover, LeaderSaid, Lease, Renewal},
};
use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{
    clocks::Clocks,
    servers::{Question, Servers, millis},
    settings::Settings,
    tally::{is_lost, majority},
};
use crate::backend::random::random;

/// How often in a lease a node that does not lead looks whether somebody does.
const LOOKS: u32 = 20;
/// The longest time between two looks.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// The longest pause after nobody got a majority; a random part of it is waited.
const SPLIT_PAUSE_MAX: Duration = Duration::from_millis(100);

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) settings: Settings,
    pub(super) servers: Servers,
    zone_data: OnceLock<Arc<str>>,
    /// Each attempt to get votes has a number of its own.
    attempts: AtomicU64,
    state: Mutex<State>,
    pub(super) clocks: Mutex<Clocks>,
}

#[derive(Default)]
struct State {
    own: Option<Own>,
    /// How many handovers were written.
    handovers: u64,
}

/// The lease that a majority gave this node.
#[derive(Clone, Copy)]
struct Own {
    term: Term,
    attempt: u64,
    trusted_until: Instant,
}

/// What the servers say of the leader.
pub(super) struct Seen {
    leader: Option<NodeId>,
    /// The newest handover, and its number.
    newest: Option<(Handover, u64)>,
    /// What was left before this instant, by the clock of a server, may be forgotten.
    remembers_from: DateTime<Utc>,
}

/// What came of asking for a majority.
enum Taken {
    Won(Grant),
    Held(NodeId),
    Split,
}

/// `since`, what the server's clock reads, whose lease it is, how long it lasts, and what is kept: term, zone data, the
/// number of the handover, the handover.
pub(super) type Read = (i64, i64, String, i64, String, String, String, String);

impl Node {
    pub(super) fn new(settings: Settings) -> Self {
        let servers = Servers::new(&settings);
        Self {
            id: NodeId::random(),
            clocks: Mutex::new(Clocks::of(servers.count())),
            servers,
            settings,
            zone_data: OnceLock::new(),
            attempts: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    pub(super) fn set_zone_data(&self, version: Arc<str>) {
        // Told once.
        let _ = self.zone_data.set(version);
    }

    pub(super) fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn majority(&self) -> usize {
        majority(self.servers.count())
    }

    /// What a majority says.
    pub(super) async fn look(&self) -> Result<Seen, ElectError> {
        let mut round = self.servers.ask(Question::new("read", []));
        let mut read: Vec<Read> = Vec::new();
        while read.len() < self.majority() || !self.is_seen(&read) && round.pending() > 0 {
            match round.next::<Read>().await {
                Some(answer) => {
                    answer.iter().for_each(|read| self.note_clock(&round, read.1));
                    read.extend(answer);
                }
                None => return Err(round.to_elect_error()),
            }
        }
        let leader = self.leader_of(&read);
        let mut newest: Option<(Handover, u64)> = None;
        for (_, _, _, _, _, _, nth, text) in read.iter().filter(|read| !read.7.is_empty()) {
            let handover: Handover = serde_json::from_str(text).map_err(|error| ElectError::Unavailable {
                reason: format!(
                    "what a leader left cannot be read: {error}; delete the keys of the scope that end with memory"
                ),
            })?;
            let nth = nth.parse().unwrap_or_default();
            if newest.as_ref().is_none_or(|(known, count)| (known.term, *count) < (handover.term, nth)) {
                newest = Some((handover, nth));
            }
        }
        // Any majority, also the one that a leader wrote to, has one of these servers.
        let mut since: Vec<_> = read.iter().map(|read| read.0).collect();
        since.sort_unstable();
        let since = since.get(self.majority() - 1).copied().unwrap_or_default();
        let remembers_from = DateTime::from_timestamp_millis(since).unwrap_or(DateTime::UNIX_EPOCH);
        Ok(Seen { leader, newest, remembers_from })
    }

    /// Whether it is known who leads, as far as so many say it.
    fn is_seen(&self, read: &[Read]) -> bool {
        let nobody = read.iter().filter(|read| read.2.is_empty()).count();
        self.leader_of(read).is_some() || is_lost(self.servers.count(), nobody)
    }

    fn leader_of(&self, read: &[Read]) -> Option<NodeId> {
        let votes = |who: &str| read.iter().filter(|read| read.2 == who).count();
        let leader = read.iter().find(|read| !read.2.is_empty() && votes(&read.2) >= self.majority())?;
        node_of(&leader.2)
    }

    pub(super) async fn leader(&self) -> Result<Option<NodeId>, ElectError> {
        Ok(self.look().await?.leader)
    }

    /// What the newest leader left. A majority whose memory is younger may lack what it left last: it may have
    /// started ticks for a lease after the last time that it could leave something.
    pub(super) async fn newest_handover(&self) -> Result<Option<Handover>, ElectError> {
        let Seen { newest, remembers_from, .. } = self.look().await?;
        let unseen = remembers_from + self.settings.lease;
        Ok(Some(match newest {
            Some((handover, _)) => {
                let starts_to = handover.starts_to.max(Some(unseen));
                Handover { starts_to, ..handover }
            }
            None => Handover {
                term: Term(0),
                decided_to: DateTime::UNIX_EPOCH,
                behind: Vec::new(),
                starts_to: Some(unseen),
                said: LeaderSaid::default(),
            },
        }))
    }

    pub(super) async fn campaign(&self, patience: Duration) -> Result<Campaign, ElectError> {
        let began = Instant::now();
        let until = began.checked_add(patience).unwrap_or(began);
        let look_every = (self.settings.lease / LOOKS).min(LOOK_MAX);
        loop {
            let taken = match self.look().await?.leader {
                // Its own lease of before is not trusted any more.
                Some(leader) if leader != self.id => Taken::Held(leader),
                Some(_) | None => {
                    self.check_clocks()?;
                    self.take(began).await?
                }
            };
            let (leader, pause) = match taken {
                Taken::Won(grant) => return Ok(Campaign::Won(grant)),
                Taken::Held(leader) => (Some(leader), look_every),
                Taken::Split => {
                    let longest = u64::try_from(SPLIT_PAUSE_MAX.as_millis()).unwrap_or(1);
                    (None, Duration::from_millis(random() % longest.max(1)))
                }
            };
            let again_at = Instant::now() + pause;
            if again_at >= until {
                return Ok(Campaign::Lost { leader, retry_in: Duration::ZERO });
            }
            sleep_until(again_at).await;
        }
    }

    /// Asks all servers for the lease: a majority has to give it, in time. What a minority gave is given back.
    async fn take(&self, began: Instant) -> Result<Taken, ElectError> {
        self.state().own = None;
        let attempt = self.next_attempt();
        let asked_at = Instant::now();
        let taken = self.take_in(attempt, asked_at).await;
        let (term, former_zone_data) = match taken {
            Ok(Ok(won)) => won,
            Ok(Err(lost)) => {
                self.give_back(attempt);
                return Ok(lost);
            }
            Err(error) => {
                self.give_back(attempt);
                return Err(error);
            }
        };
        let lease = Lease { duration: self.settings.lease, margin: self.settings.margin() };
        let trusted_until = asked_at + lease.duration.saturating_sub(lease.margin);
        if Instant::now() >= trusted_until {
            self.give_back(attempt);
            return Ok(Taken::Split);
        }
        self.state().own = Some(Own { term, attempt, trusted_until });
        Ok(Taken::Won(Grant {
            term,
            lease: Some(lease),
            waited: asked_at - began,
            former_zone_data,
            undecided_from: None,
        }))
    }

    async fn take_in(
        &self,
        attempt: u64,
        asked_at: Instant,
    ) -> Result<Result<(Term, Option<Arc<str>>), Taken>, ElectError> {
        let arguments = [attempt.to_string(), self.id.to_string(), millis(self.settings.lease).to_string()];
        let mut round = self.servers.ask(Question::new("elect", arguments));
        let (mut yes, mut answered, mut held) = (0, 0, Vec::new());
        let mut former = (0, String::new());
        while yes < self.majority() {
            let Some(answer) = round.next::<(String, String, String, String)>().await else { break };
            let Some((said, holder, term, zone)) = answer else { continue };
            answered += 1;
            former = former.max((term.parse().unwrap_or_default(), zone));
            match said.as_str() {
                "yes" => yes += 1,
                "held" => held.extend(node_of(&holder)),
                // It may have voted before it forgot.
                _ => {}
            }
        }
        if yes < self.majority() {
            let votes = |who: NodeId| held.iter().filter(|other| **other == who).count();
            let leader = held.iter().find(|who| votes(**who) >= self.majority());
            return match leader {
                Some(leader) => Ok(Err(Taken::Held(*leader))),
                None if answered < self.majority() => Err(round.to_elect_error()),
                None => Ok(Err(Taken::Split)),
            };
        }
        // Greater than any that one of a majority remembers; and, if they forgot, than those of before.
        let (term, zone) = former;
        let seconds = u64::try_from(Utc::now().timestamp()).unwrap_or_default();
        let term = Term((term + 1).max(seconds));
        let zone_data = self.zone_data.get().cloned().unwrap_or_default();
        let of = [attempt.to_string(), self.id.to_string(), term.0.to_string(), zone_data.to_string()];
        let patience = self.settings.lease.saturating_sub(self.settings.margin());
        let confirmed = self.count("confirm", of, asked_at + patience).await?;
        Ok(match confirmed {
            true => Ok((term, Some(zone).filter(|zone| !zone.is_empty()).map(Into::into))),
            false => Err(Taken::Split),
        })
    }

    /// Whether a majority does what is asked: each says 1, or what its clock reads. `false` once none can. An error: a
    /// minority did it, and the others did not answer, or not in time.
    async fn count<const N: usize>(
        &self,
        asked: &'static str,
        arguments: [String; N],
        until: Instant,
    ) -> Result<bool, ElectError> {
        let mut round = self.servers.ask(Question::new(asked, arguments));
        let (mut yes, mut no) = (0, 0);
        let counting = async {
            while let Some(answer) = round.next::<i64>().await {
                match answer {
                    Some(said) if said > 0 => {
                        yes += 1;
                        if said > 1 {
                            self.note_clock(&round, said);
                        }
                    }
                    Some(_) => no += 1,
                    None => {}
                }
                if yes >= self.majority() {
                    return Some(true);
                }
                if is_lost(self.servers.count(), no) {
                    return Some(false);
                }
            }
            None
        };
        match tokio::time::timeout_at(until, counting).await {
            Ok(Some(done)) => Ok(done),
            Ok(None) | Err(_) => Err(round.to_elect_error()),
        }
    }

    /// Gives the lease of an attempt back, on all servers. Nobody waits for it: it lapses otherwise.
    fn give_back(&self, attempt: u64) {
        drop(self.servers.ask(Question::new("resign", [attempt.to_string(), self.id.to_string()])));
    }

    fn own(&self, term: Term) -> Option<Own> {
        self.state().own.filter(|own| own.term == term)
    }

    /// Extends the lease on a majority, in time, and leaves a handover there. What reaches a minority extends nothing.
    /// A server that is free, as it was away at the election or has forgotten it, gives the lease as if it had been
    /// asked then: so a leader outlives servers that go one after the other.
    pub(super) async fn extend(
        &self,
        term: Term,
        handover: Option<&Handover>,
    ) -> Result<Renewal, ElectError> {
        let Some(own) = self.own(term) else { return Ok(Renewal::Deposed) };
        let started = Instant::now();
        let (nth, text) = match handover {
            None => (0, String::new()),
            Some(handover) => {
                let text = serde_json::to_string(handover);
                let text = text.map_err(|error| ElectError::Unavailable { reason: error.to_string() })?;
                let mut state = self.state();
                state.handovers += 1;
                (state.handovers, text)
            }
        };
        let lease = millis(self.settings.lease).to_string();
        let zone_data = self.zone_data.get().map(ToString::to_string).unwrap_or_default();
        let term = own.term.0.to_string();
        let of =
            [own.attempt.to_string(), self.id.to_string(), lease, term, zone_data, nth.to_string(), text];
        let extended = started < own.trusted_until && self.count("renew", of, own.trusted_until).await?;
        let mut state = self.state();
        if !extended || Instant::now() >= own.trusted_until {
            state.own.take_if(|held| held.attempt == own.attempt);
            drop(state);
            self.give_back(own.attempt);
            return Ok(Renewal::Deposed);
        }
        let trust = self.settings.lease.saturating_sub(self.settings.margin());
        if let Some(held) = state.own.as_mut().filter(|held| held.attempt == own.attempt) {
            held.trusted_until = started + trust;
        }
        Ok(Renewal::Renewed)
    }

    pub(super) async fn resign(&self, term: Term) -> Result<(), ElectError> {
        let Some(own) = self.own(term) else { return Ok(()) };
        self.state().own = None;
        let of = [own.attempt.to_string(), self.id.to_string()];
        // Servers on which it has lapsed say no.
        self.count("resign", of, Instant::now() + self.settings.deadline()).await.map(drop)
    }
}

/// The node that a lease names.
fn node_of(text: &str) -> Option<NodeId> {
    Uuid::parse_str(text).ok().map(|id| NodeId::numbered(id.as_u128()))
}

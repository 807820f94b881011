//! Ticks of jobs that any node fires: those that elect vote on each of them.

use chrono::{DateTime, Utc};

use super::shared::{Shared, State};
use crate::port::{
    Authority, ClaimRequest, LockError, Session, TickClaim, TickVote, TickVoted, TickVotes, Verdict,
};

/// What is to be done about a claim.
enum Asks {
    /// The votes decide about this tick.
    Votes(TickClaim),
    /// Nothing is asked: it is answered already.
    Nothing(Verdict),
    /// It is the leader's.
    Leader,
}

/// Whether a claim is one of a tick that any node fires.
pub(super) fn is_voted(request: &ClaimRequest) -> bool {
    voted_tick(request).is_some()
}

fn voted_tick(request: &ClaimRequest) -> Option<&TickClaim> {
    request.tick.as_ref().filter(|tick| tick.authority == Authority::Any)
}

fn vote_of(request: &ClaimRequest, tick: &TickClaim) -> TickVote {
    let ClaimRequest { job, run, window, .. } = request.clone();
    TickVote { job, run, window, fire_time: tick.fire_time }
}

impl Shared {
    /// Claims of which some are of ticks that any node fires. What is voted on is decided by the votes, and then by
    /// what this node knows by that time.
    pub(super) async fn claim_by_votes(
        &self,
        votes: &dyn TickVotes,
        requests: &[ClaimRequest],
    ) -> Result<Vec<Verdict>, LockError> {
        let (session, asks) = self.on_session(|state, session, now| {
            let asks: Vec<_> = requests.iter().map(|request| state.asks(session, now, request)).collect();
            (session, asks)
        })?;
        let asked: Vec<_> = requests
            .iter()
            .zip(&asks)
            .filter_map(|(request, asks)| match asks {
                Asks::Votes(tick) => Some(vote_of(request, tick)),
                Asks::Nothing(_) | Asks::Leader => None,
            })
            .collect();
        let voted = if asked.is_empty() { Vec::new() } else { votes.ask(&asked).await };
        let mut given =
            asked.iter().zip(&voted).filter(|(_, voted)| **voted == TickVoted::Given).map(|(of, _)| of);
        let claimed = self.on_session(|state, open, now| {
            if open != session {
                let reason = state.lost.clone();
                return Err(LockError::SessionLost { reason });
            }
            let mut voted = voted.iter().cloned();
            let verdicts: Vec<_> = requests
                .iter()
                .zip(asks)
                .map(|(request, asks)| match asks {
                    Asks::Votes(tick) => state.decide(session, now, request, &tick, voted.next()),
                    Asks::Nothing(verdict) => verdict,
                    Asks::Leader => state.claim(session, now, request),
                })
                .collect();
            Ok(verdicts)
        });
        let claimed = claimed.flatten();
        let is_granted = |vote: &TickVote| {
            let Ok(verdicts) = &claimed else { return false };
            let mut of_run = requests.iter().zip(verdicts).filter(|(request, _)| request.run == vote.run);
            of_run.any(|(_, verdict)| matches!(verdict, Verdict::Granted { .. }))
        };
        let unused: Vec<_> = given.by_ref().filter(|vote| !is_granted(vote)).cloned().collect();
        if !unused.is_empty() {
            votes.give_back(&unused).await;
        }
        claimed
    }
}

impl State {
    fn asks(&self, session: Session, now: DateTime<Utc>, request: &ClaimRequest) -> Asks {
        match voted_tick(request) {
            None => Asks::Leader,
            Some(tick) => match self.ledger.refusal(now, session, request, tick) {
                Some(verdict) => Asks::Nothing(verdict),
                None => Asks::Votes(*tick),
            },
        }
    }

    fn decide(
        &mut self,
        session: Session,
        now: DateTime<Utc>,
        request: &ClaimRequest,
        tick: &TickClaim,
        voted: Option<TickVoted>,
    ) -> Verdict {
        match voted {
            Some(TickVoted::Given) => self.ledger.claim(now, session, request),
            Some(TickVoted::GivenTo(run)) => self.ledger.taken_elsewhere(request, tick, run),
            Some(TickVoted::Early { wait }) => Verdict::NotYet { wait },
            Some(TickVoted::Split) => Verdict::Contended,
            Some(TickVoted::Lapsed { reason }) => Verdict::Lapsed { reason },
            Some(TickVoted::Unknown { reason }) => Verdict::Unavailable { reason },
            None => Verdict::Unavailable { reason: "the vote on the tick has no answer".to_owned() },
        }
    }
}

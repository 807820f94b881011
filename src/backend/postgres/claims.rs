//! Claims of a batch: each by the statement that does the least of what it needs, and by others if that was
//! not enough.

use std::sync::Arc;

use callsheet_actors::{
    Term,
    port::{ClaimRequest, LockError, Verdict},
};
use foldhash::HashMap;
use uuid::Uuid;

use super::{
    batch::{Parts, each_alone, place, positions},
    session::{OpenSession, StatementError},
    statement::{
        answer::{Answer, read},
        claim::{self, Kind},
        claim_as_leader::{self, Ticks},
        claim_status::{self, FORMER_SESSION_LIVES, FormerSession, Granted},
        names,
    },
};

/// Why it is not known what became of a claim, or of an end.
pub(super) const FORMER_SESSION: &str = "a former session of this node is not over on the server, which may still do what it was asked; its \
                              lease ends it";

/// By which statement a claim is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    AsLeader,
    Claimed(Kind),
    Rechecked,
}

impl Way {
    /// The leader's term is that of the first claim of the batch that has one.
    fn of(request: &ClaimRequest, leader: Option<Term>) -> Self {
        match Kind::of(request) {
            _ if request.recheck => Self::Rechecked,
            Kind::Plain if leader.is_some() && claim_as_leader::term(request) == leader => Self::AsLeader,
            kind => Self::Claimed(kind),
        }
    }

    /// Whether claims are asked by several statements.
    pub(super) fn differ(requests: &[ClaimRequest]) -> bool {
        let term = requests.iter().find_map(claim_as_leader::term);
        let mut ways = requests.iter().map(|request| Self::of(request, term));
        let first = ways.next();
        ways.any(|way| Some(way) != first)
    }
}

impl OpenSession {
    pub(super) async fn claim(
        self: &Arc<Self>,
        requests: &[&ClaimRequest],
    ) -> Result<Vec<Verdict>, LockError> {
        let answers = each_alone(requests.len(), self.claim_parts(requests).await)?;
        self.finish_claims(requests, answers).await
    }

    /// Answers as well the claims that were not decided. What was granted stays so, if the server refuses to
    /// decide about the others.
    pub(super) async fn finish_claims(
        self: &Arc<Self>,
        requests: &[&ClaimRequest],
        mut answers: Vec<Answer<Verdict>>,
    ) -> Result<Vec<Verdict>, LockError> {
        let of = |at: &[usize]| at.iter().map(|at| requests[*at]).collect::<Vec<_>>();
        let not_said = positions(&answers, |answer| matches!(answer, Answer::NotSaid));
        let said = self.claim_runs(Kind::Plain, &of(&not_said)).await;
        place(&mut answers, not_said, said)?;
        let not_granted = |answer: &Answer<Verdict>| matches!(answer, Answer::Is(Verdict::NotGranted));
        let open = positions(&answers, not_granted).into_iter().filter(|at| requests[*at].recheck);
        let open: Vec<_> = open.collect();
        let checked = self.recheck(&of(&open)).await;
        place(&mut answers, open, checked)?;
        let taken_over = positions(&answers, |answer| matches!(answer, Answer::NeedsTakeover));
        let claimed = self.claim_runs(Kind::Full, &of(&taken_over)).await;
        place(&mut answers, taken_over, claimed)?;
        let missing = positions(&answers, |answer| matches!(answer, Answer::Missing));
        let explained = self.explain_missing(&of(&missing)).await;
        place(&mut answers, missing, explained)?;
        let new = positions(&answers, |answer| matches!(answer, Answer::NoKey));
        let claimed = self.claim_new(&of(&new)).await;
        place(&mut answers, new, claimed)?;
        let verdict = |answer| match answer {
            Answer::Is(verdict) => verdict,
            // Made a moment ago, and taken by somebody else since.
            Answer::Missing | Answer::NoKey | Answer::NeedsTakeover | Answer::NotSaid => {
                Verdict::Locked { holder: None }
            }
        };
        Ok(answers.into_iter().map(verdict).collect())
    }

    /// Asks once for each claim, and answers those whose rows are there and not locked.
    pub(super) async fn claim_parts(self: &Arc<Self>, requests: &[&ClaimRequest]) -> Parts<Verdict> {
        let [mut of_leader, mut rechecked, mut plain, mut full, mut keyed, mut named, mut resumed] =
            [const { Vec::new() }; 7];
        let term = requests.iter().find_map(|request| claim_as_leader::term(request));
        for (at, request) in requests.iter().enumerate() {
            match Way::of(request, term) {
                Way::AsLeader => of_leader.push(at),
                Way::Rechecked => rechecked.push(at),
                Way::Claimed(Kind::Plain) => plain.push(at),
                Way::Claimed(Kind::Full) => full.push(at),
                Way::Claimed(Kind::WithKey) => keyed.push(at),
                Way::Claimed(Kind::Named) => named.push(at),
                Way::Claimed(Kind::Resumed) => resumed.push(at),
            }
        }
        of_leader.sort_unstable_by_key(|at| requests[*at].key.as_str());
        let group = |group: &[usize]| group.iter().map(|at| requests[*at]).collect::<Vec<_>>();
        let groups = [&of_leader, &plain, &full, &keyed, &named, &resumed, &rechecked]
            .map(|positions| group(positions));
        // Sent together.
        let (as_leader, plainly, fully, with_key, by_name, again, found) = tokio::join!(
            self.claim_as_leader(term, &groups[0]),
            self.claim_runs(Kind::Plain, &groups[1]),
            self.claim_runs(Kind::Full, &groups[2]),
            self.claim_runs(Kind::WithKey, &groups[3]),
            self.claim_runs(Kind::Named, &groups[4]),
            self.claim_runs(Kind::Resumed, &groups[5]),
            self.claim_status(&groups[6]),
        );
        let claimed =
            [(plain, plainly), (full, fully), (keyed, with_key), (named, by_name), (resumed, again)];
        [(of_leader, as_leader), (rechecked, found)].into_iter().chain(claimed).collect()
    }

    async fn claim_as_leader(
        self: &Arc<Self>,
        term: Option<Term>,
        requests: &[&ClaimRequest],
    ) -> Result<Vec<Answer<Verdict>>, StatementError> {
        let Some(term) = term.filter(|_| !requests.is_empty()) else { return Ok(Vec::new()) };
        let asked = Ticks::of(self.asker(), term, requests);
        let rows = self.ask(&self.statements.claim_as_leader, &asked.list()).await?;
        let (answers, places) = asked.answers(&rows)?;
        self.places.add(places);
        Ok(answers)
    }

    async fn claim_runs(
        self: &Arc<Self>,
        kind: Kind,
        requests: &[&ClaimRequest],
    ) -> Result<Vec<Answer<Verdict>>, StatementError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let asked = claim::Claims::of(self.asker(), requests);
        let list = asked.list();
        let rows = match kind.statement(&self.statements) {
            Ok(prepared) => self.ask(prepared, kind.takes(&list)).await?,
            Err(text) => self.ask(text, kind.takes(&list)).await?,
        };
        Ok(kind.answers(requests.len(), &rows)?)
    }

    /// What became of claims whose replies were lost, as it stands.
    async fn claim_status(
        self: &Arc<Self>,
        requests: &[&ClaimRequest],
    ) -> Result<Vec<Answer<Verdict>>, StatementError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let asked = Granted::of(self.asker(), requests);
        let rows = self.ask(&self.statements.claim_status, &asked.list()).await?;
        let mut granted: HashMap<Uuid, Verdict> = read(&rows, claim_status::granted)?.into_iter().collect();
        let verdict = |run: Uuid| granted.remove(&run).unwrap_or(Verdict::NotGranted);
        Ok(requests.iter().map(|request| request.run.as_uuid()).map(verdict).map(Answer::Is).collect())
    }

    /// The answers to claims whose replies were lost, none of which can change any more.
    async fn recheck(
        self: &Arc<Self>,
        requests: &[&ClaimRequest],
    ) -> Result<Vec<Answer<Verdict>>, LockError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        if self.former_session_lives().await? {
            let unknown = || Answer::Is(Verdict::Unavailable { reason: FORMER_SESSION.to_owned() });
            return Ok(requests.iter().map(|_| unknown()).collect());
        }
        // It was over before this question, so nothing is granted after it.
        Ok(self.claim_status(requests).await?)
    }

    /// Whether the server may still do what a former session of this node asked.
    pub(super) async fn former_session_lives(self: &Arc<Self>) -> Result<bool, LockError> {
        let asked = FormerSession::of(self.asker());
        let rows = self.ask(FORMER_SESSION_LIVES, &asked.list()).await?;
        Ok(read(&rows, claim_status::lives)?.into_iter().any(|lives| lives))
    }

    /// Why claims have no answer.
    async fn explain_missing(
        self: &Arc<Self>,
        requests: &[&ClaimRequest],
    ) -> Result<Vec<Answer<Verdict>>, LockError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let names = requests.iter().flat_map(|request| [request.job.as_str(), request.key.as_str()]);
        let found = self.look_up(names).await?;
        let explained = requests.iter().zip(found.as_chunks().0).map(|(request, [job, key])| {
            match (request.tick, job.cursor) {
                // It was never enrolled.
                (Some(_), None) => Answer::Is(Verdict::Unknown),
                _ if request.resume_lost && !job.row => Answer::Is(Verdict::NotGranted),
                _ if !key.row => Answer::NoKey,
                _ => Answer::Is(Verdict::Locked { holder: key.holder }),
            }
        });
        Ok(explained.collect())
    }

    /// Claims keys that have no rows yet.
    async fn claim_new(
        self: &Arc<Self>,
        requests: &[&ClaimRequest],
    ) -> Result<Vec<Answer<Verdict>>, LockError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        self.make_keys(requests).await?;
        each_alone(requests.len(), self.claim_parts(requests).await)
    }

    async fn make_keys(self: &Arc<Self>, requests: &[&ClaimRequest]) -> Result<(), LockError> {
        let keys = requests.iter().map(|request| request.key.as_str()).collect();
        let asked = names::Keys::of(self.asker(), keys);
        self.ask(&self.statements.make_keys, &asked.list()).await?;
        Ok(())
    }
}

/// What the verdict on a claim says of a later claim of the same key, if anything.
pub(super) fn same_for(later: &ClaimRequest, asked: &ClaimRequest, verdict: &Verdict) -> Option<Verdict> {
    if later.recheck {
        return None;
    }
    let (tick, of_asked) = (later.tick.as_ref(), asked.tick.as_ref());
    // Its holder is to be told.
    if later.replace && !asked.replace {
        return None;
    }
    let same = match verdict {
        Verdict::Granted { .. } if later.replace => return None,
        Verdict::Granted { .. } => return Some(Verdict::Busy { holder: Some(asked.run), own: true }),
        // Unless it is that very run, asked for again.
        Verdict::Busy { holder, .. } => *holder != Some(later.run),
        Verdict::Locked { .. } => true,
        // It may be of that item alone, and it is not known what became of it.
        Verdict::Unavailable { .. } => return Some(Verdict::Locked { holder: None }),
        Verdict::Deposed { .. } => tick.map(|tick| tick.authority) == of_asked.map(|tick| tick.authority),
        Verdict::NotYet { .. } => tick.map(|tick| tick.fire_time) == of_asked.map(|tick| tick.fire_time),
        _ => false,
    };
    same.then(|| verdict.clone())
}

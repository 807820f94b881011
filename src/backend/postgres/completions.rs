//! Ends of a batch, as claims are.

use std::sync::Arc;

use callsheet_actors::port::{Completed, Completion, LockError};
use futures_util::future::join4;

use super::{
    batch::positions,
    claims::FORMER_SESSION,
    session::{OpenSession, StatementError},
    statement::{
        answer::{Answer, in_order},
        complete::{self, Kind},
        complete_in_place,
        names::{Found, Place},
    },
};

/// What an end is asked by.
#[derive(Debug, Clone, Copy)]
pub(super) enum EndBy {
    Complete,
    Release,
}

impl OpenSession {
    pub(super) async fn complete(
        self: &Arc<Self>,
        ends: &[&Completion],
    ) -> Result<Vec<Completed>, LockError> {
        let answers = self.complete_once(ends).await?;
        self.finish_ends(ends, answers, EndBy::Complete).await
    }

    pub(super) async fn complete_once(
        self: &Arc<Self>,
        ends: &[&Completion],
    ) -> Result<Vec<Answer<Completed>>, StatementError> {
        let mut answers: Vec<_> = ends.iter().map(|_| Answer::Missing).collect();
        let [mut plain, mut full, mut keyed] = [const { Vec::new() }; 3];
        let mut in_place = Vec::new();
        for (at, end) in ends.iter().enumerate() {
            match Kind::of(end) {
                Kind::Plain => match self.places.take(end.run.as_uuid()) {
                    Some(place) => in_place.push((place, at)),
                    None => plain.push(at),
                },
                Kind::Full => full.push(at),
                Kind::WithKey => keyed.push(at),
            }
        }
        // Page by page.
        in_place.sort_unstable();
        let group = |group: &[usize]| group.iter().map(|at| ends[*at]).collect::<Vec<_>>();
        let groups = [&plain, &full, &keyed].map(|positions| group(positions));
        let placed: Vec<_> = in_place.iter().map(|(place, at)| (*place, ends[*at])).collect();
        // Sent together.
        let (in_places, plainly, fully, with_key) = join4(
            self.end_in_place(&placed),
            self.end_runs(Kind::Plain, &groups[0]),
            self.end_runs(Kind::Full, &groups[1]),
            self.end_runs(Kind::WithKey, &groups[2]),
        )
        .await;
        let in_place = in_place.into_iter().map(|(_, at)| at).collect();
        for (positions, group) in
            [(in_place, in_places?), (plain, plainly?), (full, fully?), (keyed, with_key?)]
        {
            positions.into_iter().zip(group).for_each(|(at, answer)| answers[at] = answer);
        }
        Ok(answers)
    }

    async fn end_in_place(
        self: &Arc<Self>,
        ends: &[(Place, &Completion)],
    ) -> Result<Vec<Answer<Completed>>, StatementError> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let asked = complete_in_place::Ends::of(self.asker(), ends);
        let rows = self.ask(&self.statements.complete_in_place, &asked.list()).await?;
        Ok(asked.answers(&rows)?)
    }

    async fn end_runs(
        self: &Arc<Self>,
        kind: Kind,
        ends: &[&Completion],
    ) -> Result<Vec<Answer<Completed>>, StatementError> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let asked = complete::Ends::of(self.asker(), ends);
        let rows = self.ask(kind.statement(&self.statements), kind.takes(&asked.list())).await?;
        Ok(kind.answers(ends.len(), &rows)?)
    }

    pub(super) async fn release(self: &Arc<Self>, ends: &[&Completion]) -> Result<Vec<Completed>, LockError> {
        let answers = self.release_once(ends).await?;
        self.finish_ends(ends, answers, EndBy::Release).await
    }

    async fn release_once(
        self: &Arc<Self>,
        ends: &[&Completion],
    ) -> Result<Vec<Answer<Completed>>, StatementError> {
        let asked = complete::Released::of(self.asker(), ends);
        let rows = self.ask(&self.statements.release, &asked.list()).await?;
        Ok(in_order(ends.len(), &rows, complete::completed)?)
    }

    pub(super) async fn finish_ends(
        self: &Arc<Self>,
        ends: &[&Completion],
        mut answers: Vec<Answer<Completed>>,
        by: EndBy,
    ) -> Result<Vec<Completed>, LockError> {
        let not_said: Vec<_> = positions(&answers, |answer| matches!(answer, Answer::NotSaid));
        if !not_said.is_empty() {
            let asked: Vec<_> = not_said.iter().map(|at| ends[*at]).collect();
            let said = self.end_runs(Kind::Plain, &asked).await?;
            not_said.into_iter().zip(said).for_each(|(at, answer)| answers[at] = answer);
        }
        let stale = positions(&answers, |answer| matches!(answer, Answer::Is(Completed::Stale)));
        if !stale.is_empty() {
            let asked: Vec<_> = stale.iter().map(|at| ends[*at]).collect();
            let unknown = || Completed::Unavailable { reason: FORMER_SESSION.to_owned() };
            // Of another session, which may still record it: what is asked once it is over cannot change any
            // more.
            let checked = match (self.former_session_lives().await?, by) {
                (true, _) => asked.iter().map(|_| Answer::Is(unknown())).collect(),
                (false, EndBy::Complete) => self.complete_once(&asked).await?,
                (false, EndBy::Release) => self.release_once(&asked).await?,
            };
            stale.into_iter().zip(checked).for_each(|(at, answer)| answers[at] = answer);
        }
        self.or_missing_ends(ends, answers).await
    }

    async fn or_missing_ends(
        self: &Arc<Self>,
        ends: &[&Completion],
        answers: Vec<Answer<Completed>>,
    ) -> Result<Vec<Completed>, LockError> {
        let missing = |found: &Found| if found.row { Completed::Locked } else { Completed::Unknown };
        let mut answers = self.or_missing(answers, |at| ends[at].key.as_str(), missing).await?;
        self.ends_of_forgotten_keys(ends, &mut answers).await?;
        Ok(answers)
    }
}

//! Ends of a batch, as claims are.

use std::sync::Arc;

use callsheet_actors::port::{Completed, Completion, LockError};
use futures_util::future::join4;

use super::{
    batch::{Parts, each_alone, place, positions},
    claims::FORMER_SESSION,
    places::Places,
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

/// Where in a batch the ends are that one statement is asked.
#[derive(Debug, Default)]
struct Groups {
    /// Page by page.
    in_place: Vec<(Place, usize)>,
    plain: Vec<usize>,
    full: Vec<usize>,
    keyed: Vec<usize>,
}

impl Groups {
    /// The places of all these ends are known no longer, whatever they are asked by: they are asked once.
    fn of(places: &Places, ends: &[&Completion]) -> Self {
        let mut groups = Self::default();
        for (at, end) in ends.iter().enumerate() {
            match (Kind::of(end), places.take(end.run.as_uuid())) {
                (Kind::Plain, Some(place)) => groups.in_place.push((place, at)),
                (Kind::Plain, None) => groups.plain.push(at),
                (Kind::Full, _) => groups.full.push(at),
                (Kind::WithKey, _) => groups.keyed.push(at),
            }
        }
        groups.in_place.sort_unstable();
        groups
    }
}

impl OpenSession {
    pub(super) async fn complete(
        self: &Arc<Self>,
        ends: &[&Completion],
    ) -> Result<Vec<Completed>, LockError> {
        let answers = each_alone(ends.len(), self.complete_parts(ends).await)?;
        self.finish_ends(ends, answers, EndBy::Complete).await
    }

    pub(super) async fn complete_parts(self: &Arc<Self>, ends: &[&Completion]) -> Parts<Completed> {
        let Groups { in_place, plain, full, keyed } = Groups::of(&self.places, ends);
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
        vec![(in_place, in_places), (plain, plainly), (full, fully), (keyed, with_key)]
    }

    /// Whether ends are asked by several statements.
    pub(super) fn ends_differ(&self, ends: &[Completion]) -> bool {
        let in_place = |kind, end: &Completion| kind == Kind::Plain && self.places.knows(end.run.as_uuid());
        let mut ways = ends.iter().map(|end| (Kind::of(end), in_place(Kind::of(end), end)));
        let first = ways.next();
        ways.any(|way| Some(way) != first)
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
        for end in ends {
            self.places.take(end.run.as_uuid());
        }
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
        let of = |at: &[usize]| at.iter().map(|at| ends[*at]).collect::<Vec<_>>();
        let not_said = positions(&answers, |answer| matches!(answer, Answer::NotSaid));
        let said = self.end_runs(Kind::Plain, &of(&not_said)).await;
        place(&mut answers, not_said, said)?;
        let stale = positions(&answers, |answer| matches!(answer, Answer::Is(Completed::Stale)));
        let checked = self.check_stale(&of(&stale), by).await;
        place(&mut answers, stale, checked)?;
        self.or_missing_ends(ends, answers).await
    }

    /// What became of ends that are not of this session, or were not: a former one may still record them. What
    /// is asked once it is over cannot change any more.
    async fn check_stale(
        self: &Arc<Self>,
        ends: &[&Completion],
        by: EndBy,
    ) -> Result<Vec<Answer<Completed>>, LockError> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let unknown = || Completed::Unavailable { reason: FORMER_SESSION.to_owned() };
        match (self.former_session_lives().await?, by) {
            (true, _) => Ok(ends.iter().map(|_| Answer::Is(unknown())).collect()),
            (false, EndBy::Complete) => each_alone(ends.len(), self.complete_parts(ends).await),
            (false, EndBy::Release) => Ok(self.release_once(ends).await?),
        }
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

#[cfg(test)]
mod tests {
    use callsheet_actors::{FencingToken, JobName, LockKey, NodeId, Outcome, RunId};
    use tokio_postgres::types::{FromSql, Type};

    use super::*;

    fn end(key: &str) -> Completion {
        let run = RunId::from(NodeId::random().as_uuid());
        let (job, key) = (JobName::new("job").expect("a name"), LockKey::new(key).expect("a key"));
        Completion::new(job, key, run, FencingToken(1), Outcome::Succeeded)
    }

    #[test]
    fn no_place_is_kept_of_a_run_whose_end_was_asked_for() {
        let ends = [
            end("job"),
            Completion { pause_after: Some(1), ..end("job") },
            Completion { from_completion: true, ..end("job") },
            end("key"),
        ];
        let place = || Place::from_sql(&Type::TID, &[0; 6]).expect("a place");
        let places = Places::default();
        places.add(ends.iter().map(|end| (end.run.as_uuid(), place())).collect());

        let groups = Groups::of(&places, &ends.iter().collect::<Vec<_>>());

        assert!(ends.iter().all(|end| !places.knows(end.run.as_uuid())));
        assert_eq!(groups.in_place, [(place(), 0)]);
        assert_eq!((groups.plain, groups.full, groups.keyed), (vec![], vec![1, 2], vec![3]));
    }
}

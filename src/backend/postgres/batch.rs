//! Rounds of a batch: what one statement can be asked, and what is asked of several in one transaction.

use std::{hash::Hash, sync::Arc};

use callsheet_actors::port::{ClaimRequest, Completion, CursorAdvance, LockError, RoundAnswers};
use foldhash::{HashSet, HashSetExt};
use futures_util::future::{join3, join5};

use super::{
    completions::EndBy,
    session::{OpenSession, StatementError},
    statement::{
        Statements,
        answer::{Answer, Single, read},
        names::{self, Found},
    },
};

/// What statements that were sent together answered: each with where in the batch its items are.
pub(super) type Parts<A> = Vec<(Vec<usize>, Result<Vec<Answer<A>>, StatementError>)>;

/// The answers of a batch of which every statement was answered.
///
/// # Errors
///
/// Of the first statement that was not.
pub(super) fn together<A>(count: usize, parts: Parts<A>) -> Result<Vec<Answer<A>>, StatementError> {
    let mut answers: Vec<_> = (0..count).map(|_| Answer::Missing).collect();
    for (at, part) in parts {
        at.into_iter().zip(part?).for_each(|(at, answer)| answers[at] = answer);
    }
    Ok(answers)
}

/// The same of statements that were each a transaction of its own: those that were answered are committed,
/// whatever became of the others.
///
/// # Errors
///
/// As of [`place`].
pub(super) fn each_alone<A: Single>(count: usize, parts: Parts<A>) -> Result<Vec<Answer<A>>, LockError> {
    let mut answers: Vec<_> = (0..count).map(|_| Answer::Missing).collect();
    for (at, part) in parts {
        place(&mut answers, at, part)?;
    }
    Ok(answers)
}

/// Enters the answers to part of a batch. If the server refuses that part alone, its items are unavailable: the
/// answers to the others are committed, and stay.
///
/// # Errors
///
/// What concerns the whole batch: the session is lost, or its part is the batch. And
/// [`LockError::BadData`], for which the caller halves the batch: it asks again for what was granted as well,
/// and is told so.
pub(super) fn place<A: Single>(
    answers: &mut [Answer<A>],
    at: Vec<usize>,
    part: Result<Vec<Answer<A>>, impl Into<LockError>>,
) -> Result<(), LockError> {
    match part.map_err(Into::into) {
        Ok(part) => at.into_iter().zip(part).for_each(|(at, answer)| answers[at] = answer),
        Err(LockError::NotDone { reason }) if at.len() < answers.len() => {
            at.into_iter().for_each(|at| answers[at] = Answer::Is(A::unavailable(reason.clone())));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The most statements, one after the other, for the items of one batch that need one name: more would take
/// longer than the deadline of them all. What is left is to be asked again.
const ROUNDS_MAX: usize = 32;

impl OpenSession {
    /// Asks all of it in one transaction, which costs one wait for the disk instead of one a statement. `None`:
    /// it was undone.
    ///
    /// Everything is sent in one turn of one thread, as all statements of a session are: nothing comes
    /// between.
    pub(super) async fn round_at_once(
        self: &Arc<Self>,
        ends: &[&Completion],
        claims: &[&ClaimRequest],
        advances: &[&CursorAdvance],
    ) -> Option<RoundAnswers> {
        let Statements { begin, commit, .. } = &self.statements;
        let (begun, ended, claimed, advanced, committed) = join5(
            self.ask(begin, &[]),
            self.complete_parts(ends),
            self.claim_parts(claims),
            self.advance_once(advances),
            self.ask(commit, &[]),
        )
        .await;
        let round = async {
            begun?;
            let answers = (together(ends.len(), ended)?, together(claims.len(), claimed)?, advanced?);
            // Only now are they more than promises.
            committed?;
            Ok(answers)
        };
        match round.await {
            Ok((ended, claimed, advanced)) => {
                let (ended, claimed, advanced) = join3(
                    self.finish_ends(ends, ended, EndBy::Complete),
                    self.finish_claims(claims, claimed),
                    self.finish_advances(advances, advanced),
                )
                .await;
                Some(RoundAnswers { ended, claimed, advanced })
            }
            Err(StatementError::Undone(_)) => {
                // Of what was not granted after all.
                self.places.forget();
                None
            }
            Err(StatementError::Lock(error)) => Some(RoundAnswers::failed(&error)),
        }
    }

    /// The answers, those that are missing by what is found under their names.
    pub(super) async fn or_missing<'a, A>(
        self: &Arc<Self>,
        mut answers: Vec<Answer<A>>,
        name: impl Fn(usize) -> &'a str,
        missing: impl Fn(&Found) -> A,
    ) -> Result<Vec<A>, LockError>
    where
        A: Single,
    {
        let skipped = positions(&answers, |answer| !matches!(answer, Answer::Is(_)));
        if !skipped.is_empty() {
            let found = self.look_up(skipped.iter().map(|at| name(*at))).await;
            let found = found.map(|found| found.iter().map(|found| Answer::Is(missing(found))).collect());
            place(&mut answers, skipped, found)?;
        }
        let answer = |answer| match answer {
            Answer::Is(answer) => Some(answer),
            Answer::Missing | Answer::NoKey | Answer::NeedsTakeover | Answer::NotSaid => None,
        };
        answers.into_iter().map(answer).collect::<Option<_>>().ok_or(LockError::Timeout)
    }

    /// What is found under names, in their order.
    pub(super) async fn look_up<'a>(
        self: &Arc<Self>,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Found>, LockError> {
        let asked = names::Names::of(self.asker(), names.collect());
        let rows = self.ask(&self.statements.look_up, &asked.list()).await?;
        let found = read(&rows, names::found)?;
        if found.len() == asked.count() { Ok(found) } else { Err(LockError::Timeout) }
    }
}

/// Where in a batch something is.
pub(super) fn positions<T>(items: &[T], is: impl Fn(&T) -> bool) -> Vec<usize> {
    items.iter().enumerate().filter(|(_, item)| is(item)).map(|(at, _)| at).collect()
}

/// Asks for a batch in rounds: each holds an item only if nothing that it excludes is excluded by an earlier
/// one of the round, so that a statement never sees two claims of one name. After [`ROUNDS_MAX`] rounds the
/// rest is `not_asked`. If the server refuses a round after the first one, what is left is unavailable, and the
/// answers of the earlier rounds stay.
pub(super) async fn in_rounds<'a, T, K: Hash + Eq + 'a, A: Clone + Single, F, const N: usize>(
    items: &'a [T],
    not_asked: A,
    excluded: impl Fn(&'a T) -> [Option<K>; N],
    ask: impl Fn(Vec<&'a T>) -> F,
) -> Result<Vec<A>, LockError>
where
    F: Future<Output = Result<Vec<A>, LockError>>,
{
    if is_one_round(items, &excluded) {
        return ask(items.iter().collect()).await;
    }
    let mut answers: Vec<Option<A>> = items.iter().map(|_| None).collect();
    let mut waiting: Vec<usize> = (0..items.len()).collect();
    for _ in 0..ROUNDS_MAX {
        if waiting.is_empty() {
            break;
        }
        let (round, later) = first_round(waiting, |at| excluded(&items[*at]));
        match ask(round.iter().map(|at| &items[*at]).collect()).await {
            Ok(answered) => {
                round.into_iter().zip(answered).for_each(|(at, answer)| answers[at] = Some(answer));
                waiting = later;
            }
            Err(LockError::NotDone { reason }) if round.len() + later.len() < items.len() => {
                for at in round.into_iter().chain(later) {
                    answers[at] = Some(A::unavailable(reason.clone()));
                }
                break;
            }
            Err(error) => return Err(error),
        }
    }
    // Each was asked once, or is to be asked again.
    Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| not_asked.clone())).collect())
}

/// What can be asked in one statement, and what must wait for another.
pub(super) fn first_round<T, K: Hash + Eq, const N: usize>(
    items: impl IntoIterator<Item = T>,
    excluded: impl Fn(&T) -> [Option<K>; N],
) -> (Vec<T>, Vec<T>) {
    let mut taken = HashSet::new();
    items.into_iter().partition(|item| is_free(&mut taken, excluded(item)))
}

/// Whether all items can be asked in one statement.
pub(super) fn is_one_round<'a, T, K: Hash + Eq, const N: usize>(
    items: &'a [T],
    excluded: impl Fn(&'a T) -> [Option<K>; N],
) -> bool {
    let mut taken = HashSet::with_capacity(items.len());
    items.iter().all(|item| is_free(&mut taken, excluded(item)))
}

/// Whether nothing that an item excludes is taken; takes all of it.
fn is_free<K: Hash + Eq, const N: usize>(taken: &mut HashSet<K>, excludes: [Option<K>; N]) -> bool {
    // Each of them is taken, whatever another one says.
    excludes.into_iter().flatten().fold(true, |free, key| taken.insert(key) & free)
}

/// The names whose rows a claim needs.
pub(super) fn names_of(request: &ClaimRequest) -> [Option<&str>; 2] {
    let (job, key) = (request.job.as_str(), request.key.as_str());
    [Some(job), Some(key).filter(|key| *key != job)]
}

/// The names whose rows an end needs.
pub(super) fn names_of_end(end: &Completion) -> [Option<&str>; 2] {
    let (job, key) = (end.job.as_str(), end.key.as_str());
    [Some(key), Some(job).filter(|job| *job != key)]
}

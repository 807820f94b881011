//! Who may run what, on PostgreSQL.

use std::{collections::HashSet, hash::Hash, sync::Arc, time::Duration};

use callsheet_actors::{
    FencingToken, FireTime, JobName, RunId, Term,
    port::{
        ClaimRequest, Completed, Completion, CursorMove, Enrolled, Enrolment, Inquiry, LockError, Locker,
        LostRun, Moved, Session, Standing, Verdict,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::sleep;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{
    Shared, failure,
    session::{OpenSession, Refusal, Statements},
};

/// How often a row that somebody else has locked is asked for again, and the first pause, which grows fourfold.
const ATTEMPTS_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_millis(1);

pub(super) struct PostgresLocker {
    pub(super) shared: Arc<Shared>,
}

/// The answer to one item of a batch.
enum Answer<T> {
    Is(T),
    /// Somebody else has locked its row: ask again.
    Locked,
    /// Its key was never claimed before: make its row, and ask again.
    NoKey,
}

/// What is asked in one statement.
struct Round<'a, T> {
    items: Vec<&'a T>,
    /// Items whose keys have no rows.
    missing: Vec<&'a T>,
    /// How often something was locked, or missing, before.
    attempt: u32,
}

impl PostgresLocker {
    fn session(&self) -> Result<Arc<OpenSession>, LockError> {
        let none = || LockError::SessionLost { reason: "there is no session with the server".to_owned() };
        self.shared.session().ok_or_else(none)
    }
}

impl Locker for PostgresLocker {
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
        self.shared.open().boxed()
    }

    fn lost(&self, session: Session) -> BoxFuture<'_, ()> {
        async move {
            let mut loss = match self.shared.session() {
                Some(open) if open.id() == session => open.loss(),
                // Another one was opened since, or it was closed.
                _ => return,
            };
            // An error: the session was dropped.
            let _ = loss.wait_for(Option::is_some).await;
        }
        .boxed()
    }

    fn clock_ahead(&self) -> TimeDelta {
        self.shared.clocks.ahead()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            let open = self.shared.current().take();
            if let Some(open) = open {
                open.close().await;
            }
        }
        .boxed()
    }

    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>> {
        async move {
            let session = self.session()?;
            let session = &session;
            in_rounds(jobs, |job| [Some(&job.job)], |round| async move { session.enrol(&round.items).await })
                .await?
                .into_iter()
                .map(|answer| answer.ok_or(LockError::Timeout))
                .collect()
        }
        .boxed()
    }

    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<Standing>, LockError>> {
        async move {
            let session = self.session()?;
            let names: Vec<_> = jobs.iter().map(|job| job.job.as_str()).collect();
            let schedules: Vec<_> = jobs.iter().map(|job| job.schedule.as_str()).collect();
            let statement = &session.statements.inquire;
            let rows = session.ask(statement, &[&session.settings.scope, &names, &schedules]).await;
            read(&rows.map_err(Refusal::into_lock_error)?, |row| {
                let standing: &str = row.try_get("standing")?;
                Ok(match standing {
                    "no leader" => Standing::NoLeader,
                    "not held" => Standing::NotHeld,
                    "other schedule" => Standing::OtherSchedule,
                    _ => Standing::Scheduled,
                })
            })
        }
        .boxed()
    }

    fn withdraw<'a>(&'a self, term: Term, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>> {
        async move {
            let session = self.session()?;
            let names: Vec<_> = jobs.iter().map(JobName::as_str).collect();
            let statement = &session.statements.withdraw;
            let withdrawn = session.ask(statement, &[&session.settings.scope, &names, &number(term)]).await;
            withdrawn.map(|_| ()).map_err(Refusal::into_lock_error)
        }
        .boxed()
    }

    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
        async move {
            let session = self.session()?;
            let excluded = |request: &'a ClaimRequest| {
                [
                    Some(request.job.as_str()),
                    Some(request.key.as_str()).filter(|key| *key != request.job.as_str()),
                ]
            };
            let session = &session;
            let ask = |round: Round<'a, ClaimRequest>| async move {
                session.make_keys(&round.missing).await?;
                session.claim(&round.items).await
            };
            let verdicts = in_rounds(requests, excluded, ask).await?;
            let locked = || Verdict::Unavailable { reason: LOCKED.to_owned() };
            Ok(verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(locked)).collect())
        }
        .boxed()
    }

    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        async move {
            let session = self.session()?;
            let session = &session;
            in_rounds(ends, |end| [Some(&end.key)], |round| async move { session.complete(&round).await })
                .await?
                .into_iter()
                .map(|answer| answer.ok_or(LockError::Timeout))
                .collect()
        }
        .boxed()
    }

    fn advance<'a>(&'a self, moves: &'a [CursorMove]) -> BoxFuture<'a, Result<Vec<Moved>, LockError>> {
        async move {
            let session = self.session()?;
            let session = &session;
            let ask = |round: Round<'a, CursorMove>| async move { session.advance(&round.items).await };
            let moved = in_rounds(moves, |asked| [Some(&asked.job)], ask).await?;
            let locked = || Moved::Unavailable { reason: LOCKED.to_owned() };
            Ok(moved.into_iter().map(|moved| moved.unwrap_or_else(locked)).collect())
        }
        .boxed()
    }

    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<Vec<LostRun>, LockError>> {
        async move {
            let session = self.session()?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let scope = &session.settings.scope;
            let closed = session.ask(&session.statements.close_lost, &[scope, &session.beacon, &limit]).await;
            let rows = closed.map_err(Refusal::into_lock_error)?;
            read(&rows, |row| lost_run(row, "job", "run", "fire_time"))
                .map(|lost| lost.into_iter().flatten().collect())
        }
        .boxed()
    }
}

const LOCKED: &str = "somebody else has locked its row; nothing was changed";

impl OpenSession {
    async fn make_keys(self: &Arc<Self>, requests: &[&ClaimRequest]) -> Result<(), LockError> {
        if requests.is_empty() {
            return Ok(());
        }
        let keys: Vec<_> = requests.iter().map(|request| request.key.as_str()).collect();
        let made = self.ask(&self.statements.make_keys, &[&self.settings.scope, &keys]).await;
        made.map(|_| ()).map_err(Refusal::into_lock_error)
    }

    async fn enrol(self: &Arc<Self>, jobs: &[&Enrolment]) -> Result<Vec<Answer<Enrolled>>, LockError> {
        let names: Vec<_> = jobs.iter().map(|job| job.job.as_str()).collect();
        let schedules: Vec<_> = jobs.iter().map(|job| job.schedule.as_str()).collect();
        let terms: Vec<_> = jobs.iter().map(|job| number(job.term)).collect();
        let asked =
            self.ask(&self.statements.enrol, &[&self.settings.scope, &names, &schedules, &terms]).await;
        let rows = asked.map_err(Refusal::into_lock_error)?;
        let enrolled = read(&rows, |row| {
            let cursor: Option<DateTime<Utc>> = row.try_get("cursor")?;
            let enrolled = match cursor {
                Some(cursor) => Enrolled::Done { cursor },
                None => Enrolled::Deposed { term: term(row)? },
            };
            Ok((row.try_get::<_, String>("job")?, enrolled))
        })?;
        let enrolled: std::collections::HashMap<_, _> = enrolled.into_iter().collect();
        let answer =
            |job: &&Enrolment| enrolled.get(job.job.as_str()).cloned().map_or(Answer::Locked, Answer::Is);
        Ok(jobs.iter().map(answer).collect())
    }

    async fn claim(self: &Arc<Self>, requests: &[&ClaimRequest]) -> Result<Vec<Answer<Verdict>>, LockError> {
        let (settled, claims): (Vec<_>, Vec<_>) = (0..requests.len()).partition(|at| requests[*at].settle);
        let mut answers: Vec<_> = requests.iter().map(|_| Answer::Is(Verdict::NotGranted)).collect();
        if !claims.is_empty() {
            let asked: Vec<_> = claims.iter().map(|at| requests[*at]).collect();
            match self.claim_runs(&asked).await {
                Ok(verdicts) => claims.iter().zip(verdicts).for_each(|(at, verdict)| answers[*at] = verdict),
                Err(Refusal::Lock(error)) => return Err(error),
                Err(Refusal::Statement(error)) => {
                    let verdict = Verdict::Unavailable { reason: failure::explain(&error) };
                    claims.iter().for_each(|at| answers[*at] = Answer::Is(verdict.clone()));
                }
            }
        }
        if !settled.is_empty() {
            let runs: Vec<_> = settled.iter().map(|at| requests[*at].run.as_uuid()).collect();
            let asked = self.ask(&self.statements.settle, &[&self.beacon, &runs]).await;
            let rows = asked.map_err(Refusal::into_lock_error)?;
            for (run, token) in read(&rows, |row| Ok((row.try_get::<_, Uuid>("run")?, token(row)?)))? {
                let of_run = settled.iter().filter(|at| requests[**at].run.as_uuid() == run);
                of_run.for_each(|at| answers[*at] = Answer::Is(Verdict::Granted { token, lost: None }));
            }
        }
        Ok(answers)
    }

    async fn claim_runs(
        self: &Arc<Self>,
        requests: &[&ClaimRequest],
    ) -> Result<Vec<Answer<Verdict>>, Refusal> {
        let jobs: Vec<_> = requests.iter().map(|request| request.job.as_str()).collect();
        let keys: Vec<_> = requests.iter().map(|request| request.key.as_str()).collect();
        let runs: Vec<_> = requests.iter().map(|request| request.run.as_uuid()).collect();
        let ticks = || requests.iter().map(|request| request.tick);
        let fire_times: Vec<_> = ticks().map(|tick| tick.map(|tick| tick.fire_time.instant())).collect();
        let expected: Vec<_> = ticks().map(|tick| tick.map(|tick| tick.expected)).collect();
        let terms: Vec<_> = ticks().map(|tick| tick.map(|tick| number(tick.term))).collect();
        let (scope, node) = (&self.settings.scope, self.settings.node.as_uuid());
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
            [scope, &self.beacon, &node, &jobs, &keys, &runs, &fire_times, &expected, &terms];
        let rows = self.ask(&self.statements.claim, &parameters).await?;
        in_order(requests.len(), &rows, |row| verdict(row, requests)).map_err(Refusal::Lock)
    }

    async fn complete(
        self: &Arc<Self>,
        round: &Round<'_, Completion>,
    ) -> Result<Vec<Answer<Completed>>, LockError> {
        let ends = &round.items;
        let keys: Vec<_> = ends.iter().map(|end| end.key.as_str()).collect();
        let runs: Vec<_> = ends.iter().map(|end| end.run.as_uuid()).collect();
        let tokens: Vec<_> = ends.iter().map(|end| i64::try_from(end.token.0).unwrap_or(-1)).collect();
        let outcomes: Vec<_> = ends.iter().map(|end| end.outcome.as_str()).collect();
        let Statements { complete, complete_waiting, .. } = &self.statements;
        let (scope, statement) =
            (&self.settings.scope, if round.attempt == 0 { complete } else { complete_waiting });
        let asked = self.ask(statement, &[scope, &self.beacon, &keys, &runs, &tokens, &outcomes]).await;
        let rows = asked.map_err(Refusal::into_lock_error)?;
        in_order(ends.len(), &rows, |row| {
            Ok(match row.try_get("verdict")? {
                "now" | "before" => Answer::Is(Completed::Recorded),
                "locked" => Answer::Locked,
                _ => Answer::Is(Completed::Stale),
            })
        })
    }

    async fn advance(self: &Arc<Self>, moves: &[&CursorMove]) -> Result<Vec<Answer<Moved>>, LockError> {
        let jobs: Vec<_> = moves.iter().map(|asked| asked.job.as_str()).collect();
        let expected: Vec<_> = moves.iter().map(|asked| asked.expected).collect();
        let until: Vec<_> = moves.iter().map(|asked| asked.to.instant()).collect();
        let terms: Vec<_> = moves.iter().map(|asked| number(asked.term)).collect();
        let (scope, statement) = (&self.settings.scope, &self.statements.advance);
        let rows = match self.ask(statement, &[scope, &jobs, &expected, &until, &terms]).await {
            Ok(rows) => rows,
            Err(Refusal::Lock(error)) => return Err(error),
            Err(Refusal::Statement(error)) => {
                let reason = failure::explain(&error);
                return Ok(moves
                    .iter()
                    .map(|_| Answer::Is(Moved::Unavailable { reason: reason.clone() }))
                    .collect());
            }
        };
        in_order(moves.len(), &rows, |row| {
            Ok(match row.try_get("verdict")? {
                "done" => Answer::Is(Moved::Done),
                "deposed" => Answer::Is(Moved::Deposed { term: term(row)? }),
                "locked" => Answer::Locked,
                _ => Answer::Is(Moved::Elsewhere { cursor: row.try_get("cursor")? }),
            })
        })
    }
}

/// Asks for a batch in rounds: each holds an item at most if nothing that it excludes is excluded by an earlier one of
/// the round, so that a statement never sees two claims of one job or key. Items whose rows are locked are asked
/// again, up to a bound; then their answer is `None`.
async fn in_rounds<'a, T, K: Hash + Eq + 'a, A, F, const N: usize>(
    items: &'a [T],
    excluded: impl Fn(&'a T) -> [Option<K>; N],
    ask: impl Fn(Round<'a, T>) -> F,
) -> Result<Vec<Option<A>>, LockError>
where
    F: Future<Output = Result<Vec<Answer<A>>, LockError>>,
{
    let mut answers: Vec<Option<A>> = items.iter().map(|_| None).collect();
    let mut waiting: Vec<usize> = (0..items.len()).collect();
    let mut missing: Vec<&'a T> = Vec::new();
    let mut attempt = 0;
    while !waiting.is_empty() && attempt < ATTEMPTS_MAX {
        let mut taken = HashSet::new();
        let (round, mut later): (Vec<usize>, Vec<usize>) = waiting.into_iter().partition(|at| {
            let excludes = excluded(&items[*at]);
            let free = excludes.iter().flatten().all(|key| !taken.contains(key));
            taken.extend(excludes.into_iter().flatten());
            free
        });
        let asked: Vec<_> = round.iter().map(|at| &items[*at]).collect();
        let mut locked = false;
        let answered = ask(Round { items: asked, missing: std::mem::take(&mut missing), attempt }).await?;
        for (at, answer) in round.into_iter().zip(answered) {
            match answer {
                Answer::Is(answer) => answers[at] = Some(answer),
                Answer::Locked => {
                    locked = true;
                    later.push(at);
                }
                Answer::NoKey => {
                    missing.push(&items[at]);
                    later.push(at);
                }
            }
        }
        if locked {
            sleep(PAUSE * 4_u32.pow(attempt)).await;
        }
        if locked || !missing.is_empty() {
            attempt += 1;
        }
        later.sort_unstable();
        waiting = later;
    }
    Ok(answers)
}

/// One answer per item, in the order of the items, from rows that name them by number from 1.
fn in_order<A>(
    count: usize,
    rows: &[Row],
    answer: impl Fn(&Row) -> Result<Answer<A>, Error>,
) -> Result<Vec<Answer<A>>, LockError> {
    // An item without a row was not decided.
    let mut answers: Vec<_> = (0..count).map(|_| Answer::Locked).collect();
    for (ord, answer) in read(rows, |row| Ok((row.try_get::<_, i64>("ord")?, answer(row)?)))? {
        if let Some(place) = usize::try_from(ord - 1).ok().and_then(|at| answers.get_mut(at)) {
            *place = answer;
        }
    }
    Ok(answers)
}

/// Reads rows. What cannot be read is as good as no answer.
fn read<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, Error>) -> Result<Vec<T>, LockError> {
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| {
        tracing::error!(target: "callsheet", "an answer of the server: {}", failure::explain(&error));
        LockError::Timeout
    })
}

fn verdict(row: &Row, requests: &[&ClaimRequest]) -> Result<Answer<Verdict>, Error> {
    let holder = || row.try_get::<_, Option<Uuid>>("holder").map(|run| run.map(RunId::from));
    Ok(Answer::Is(match row.try_get("verdict")? {
        "granted" => {
            let lost = lost_run(row, "lost_job", "lost_run", "lost_fire_time")?.map(Box::new);
            Verdict::Granted { token: token(row)?, lost }
        }
        "again" => Verdict::Granted { token: token(row)?, lost: None },
        "not granted" => Verdict::NotGranted,
        "already run" => {
            let run: Uuid = row.try_get("tick_run")?;
            Verdict::AlreadyRun { run: RunId::from(run), cursor: row.try_get("cursor")? }
        }
        "moved" => Verdict::Moved { cursor: row.try_get("cursor")? },
        "busy" => Verdict::Busy { holder: holder()? },
        "deposed" => Verdict::Deposed { term: term(row)? },
        "not yet" => {
            let wait: f64 = row.try_get("wait")?;
            Verdict::NotYet { wait: Duration::try_from_secs_f64(wait / 1e6).unwrap_or_default() }
        }
        "locked" => return Ok(Answer::Locked),
        "no key" => return Ok(Answer::NoKey),
        other => Verdict::Unavailable {
            reason: format!("an unknown verdict on {} claims: {other}", requests.len()),
        },
    }))
}

/// A run that was closed as lost, if the row holds one.
fn lost_run(row: &Row, job: &str, run: &str, fire_time: &str) -> Result<Option<LostRun>, Error> {
    let (Some(job), Some(run)) =
        (row.try_get::<_, Option<String>>(job)?, row.try_get::<_, Option<Uuid>>(run)?)
    else {
        return Ok(None);
    };
    let fire_time: Option<DateTime<Utc>> = row.try_get(fire_time)?;
    // Its name was checked when the job was claimed.
    let Ok(job) = JobName::new(job) else { return Ok(None) };
    Ok(Some(LostRun { job, run: RunId::from(run), fire_time: fire_time.map(FireTime::new) }))
}

fn token(row: &Row) -> Result<FencingToken, Error> {
    row.try_get::<_, i64>("token").map(|token| FencingToken(token.unsigned_abs()))
}

fn term(row: &Row) -> Result<Term, Error> {
    row.try_get::<_, Option<i64>>("epoch").map(|epoch| Term(epoch.unwrap_or(0).unsigned_abs()))
}

/// A term that is too large for the server is none that it granted.
fn number(term: Term) -> i64 {
    i64::try_from(term.0).unwrap_or(-1)
}

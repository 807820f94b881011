//! Who may run what, on PostgreSQL.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use callsheet_actors::{
    CALL_DEADLINE, FencingToken, FireTime, JobName, LockKey, RunId, Term,
    core::storable::storable,
    port::{
        Authority, ClaimRequest, ClosedRuns, Completed, Completion, CursorMove, Debt, Declaration,
        Divergence, Enrolled, Enrolment, Forgotten, Inquiry, Kept, KnownHistory, LockError, Locker, LostRun,
        Moved, News, Obstacle, OtherZoneData, OwedRun, Pause, Proof, Proved, RoundAnswers, Session, Standing,
        Verdict,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{
    FutureExt,
    future::{BoxFuture, join, join3, join4, join5, pending},
};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Error, Row, Statement, error::SqlState, types::ToSql};
use uuid::Uuid;

use super::{
    Shared, failure,
    lost_runs::{DEBTS_BOUND, LOSSES_BOUND},
    news,
    session::{OpenSession, Refusal, Statements},
    sessions,
    settings::LOCK_TIMEOUT,
    sql,
    text::Text,
};

/// The most statements, one after the other, for the items of one batch that need one name: more would take longer than the
/// deadline of them all. What is left is to be asked again.
const ROUNDS_MAX: usize = 32;
/// A job that was held for longer owes ticks no further back: what is before has no place on the server's calendar.
const HELD_FOR_MAX: Duration = Duration::from_secs(1_000 * 365 * 24 * 3600);
/// How long a change may take in all that waits for rows which others have locked: a little less than the engine waits, whatever the
/// lease, so that no statement is given up on, and the session with it.
const CHANGE_TIMEOUT: Duration = CALL_DEADLINE.saturating_sub(Duration::from_millis(500));
/// How often a job that is to be paused may be found locked before its row is waited for.
const SKIPS_MAX: usize = 5;
/// The pause before a job that somebody else has locked is asked again to be paused; it doubles up to [`LOCKED_MAX`].
const LOCKED_MIN: Duration = Duration::from_millis(2);
const LOCKED_MAX: Duration = Duration::from_millis(100);
/// Why it is not known what became of a claim, or of an end.
const FORMER_SESSION: &str = "a former session of this node is not over on the server, which may still do what it was asked; its \
                              lease ends it";

pub(super) struct PostgresLocker {
    pub(super) shared: Arc<Shared>,
}

/// What a statement of claims does.
#[derive(Clone, Copy)]
enum Claims {
    /// What most need: it robs nobody.
    Plain,
    /// Everything, on the row of the key.
    Full,
    /// Everything, on the rows of the job and of another key.
    WithKey,
}

/// What a statement of ends does.
#[derive(Clone, Copy)]
enum Ends {
    /// What most need: it neither pauses a job nor moves a cursor.
    Plain,
    /// Everything, on the row of the key.
    Full,
    /// Everything, on the rows of the job and of another key.
    WithKey,
}

/// The answer to one item of a batch.
enum Answer<T> {
    Is(T),
    /// Its row was skipped, or is not there.
    Missing,
    /// Its key was never claimed before: make its row, and ask again.
    NoKey,
    /// Its key has a dead owner: ask again with the statement that robs.
    Robs,
}

/// What is known of a name whose row was missing in an answer.
struct Found {
    row: bool,
    /// Up to here the job's ticks are decided; `None` if no job has the name.
    cursor: Option<DateTime<Utc>>,
    /// The run that holds the key, if its session lives.
    holder: Option<RunId>,
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

    fn lost(&self, session: Session) -> BoxFuture<'_, String> {
        async move {
            let mut loss = match self.shared.session() {
                Some(open) if open.id() == session => open.loss(),
                // Another one was opened since, or it was closed.
                _ => return "it was closed".to_owned(),
            };
            let lost = loss.wait_for(Option::is_some).await;
            // An error: the session was dropped.
            let ended = lost.ok().and_then(|ended| ended.clone());
            ended.map_or_else(|| "it was dropped".to_owned(), |ended| ended.reason)
        }
        .boxed()
    }

    fn trusts(&self, session: Session) -> bool {
        self.shared.session().is_some_and(|open| open.id() == session && open.lost_reason().is_none())
    }

    fn obstacles(&self) -> Vec<Obstacle> {
        self.shared.session().map_or_else(Vec::new, |session| session.obstacles.all())
    }

    fn snapshot_age(&self) -> Duration {
        self.shared.session().map_or(Duration::ZERO, |session| session.snapshot_age.read())
    }

    fn clock_ahead(&self) -> TimeDelta {
        self.shared.clocks.ahead()
    }

    fn round_trip(&self) -> Option<Duration> {
        self.shared.clocks.round_trip()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.shared.close().await;
        }
        .boxed()
    }

    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>> {
        async move {
            let session = self.session()?;
            let session = &session;
            in_rounds(
                jobs,
                Enrolled::Locked,
                |job| [Some(&job.job)],
                |round| async move { session.enrol(&round).await },
            )
            .await
        }
        .boxed()
    }

    fn conflicts<'a>(
        &'a self,
        asked: &'a [Declaration],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, LockError>> {
        async move {
            let session = self.session()?;
            let jobs: Vec<_> = asked.iter().map(|asked| asked.job.as_str()).collect();
            let keys: Vec<_> = asked.iter().map(|asked| asked.key.as_str()).collect();
            let overlaps: Vec<_> = asked.iter().map(|asked| asked.overlap.to_string()).collect();
            let parameters: [&(dyn ToSql + Sync); 5] =
                [&session.settings.scope, &session.beacon, &jobs, &keys, &overlaps];
            let rows = session.ask(&session.statements.conflicts, &parameters).await;
            read(&rows.map_err(Refusal::into_lock_error)?, |row| row.try_get("declared"))
        }
        .boxed()
    }

    fn other_zone_data(&self) -> BoxFuture<'_, Result<Vec<OtherZoneData>, LockError>> {
        async move { sessions::other_zone_data(&self.session()?).await }.boxed()
    }

    fn retract<'a>(&'a self, keys: &'a [LockKey]) -> BoxFuture<'a, Result<(), LockError>> {
        async move { self.session()?.retract(keys).await }.boxed()
    }

    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<Standing>, LockError>> {
        async move {
            let session = self.session()?;
            let names: Vec<_> = jobs.iter().map(|job| job.job.as_str()).collect();
            let schedules: Vec<_> = jobs.iter().map(|job| job.schedule.to_string()).collect();
            let statement = &session.statements.inquire;
            let rows = session.ask(statement, &[&session.settings.scope, &names, &schedules]).await;
            let standings = read(&rows.map_err(Refusal::into_lock_error)?, |row| {
                let standing: &str = row.try_get("standing")?;
                Ok(match standing {
                    "no leader" => Ok(Standing::NoLeader),
                    "not held" => Ok(Standing::NotHeld),
                    "other schedule" => Ok(Standing::OtherSchedule),
                    "scheduled" => Ok(Standing::Scheduled),
                    other => Err(unknown(other)),
                })
            })?;
            standings.into_iter().collect()
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

    fn compare<'a>(&'a self, known: &'a KnownHistory) -> BoxFuture<'a, Result<Divergence, LockError>> {
        async move { self.session()?.compare(known).await }.boxed()
    }

    fn prove(&self, proof: Proof) -> BoxFuture<'_, Result<Proved, LockError>> {
        async move { self.session()?.prove(proof).await }.boxed()
    }

    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
        async move {
            let session = self.session()?;
            let mut answers: Vec<Option<Verdict>> = requests.iter().map(|_| None).collect();
            let mut waiting: Vec<usize> = (0..requests.len()).collect();
            while !waiting.is_empty() {
                let (round, later) = first_round(waiting, |at| names_of(&requests[*at]));
                let asked: Vec<_> = round.iter().map(|at| &requests[*at]).collect();
                let verdicts = session.claim(&asked).await?;
                let of_keys: HashMap<_, _> = asked
                    .iter()
                    .zip(&verdicts)
                    .map(|(asked, verdict)| (&asked.key, (*asked, verdict)))
                    .collect();
                let known = |later: &ClaimRequest| {
                    of_keys.get(&later.key).and_then(|(asked, verdict)| same_for(later, asked, verdict))
                };
                // Not one by one: each round trip of very many claims of one key would add to the deadline of all.
                waiting = Vec::new();
                for at in later {
                    answers[at] = known(&requests[at]);
                    if answers[at].is_none() {
                        waiting.push(at);
                    }
                }
                round.into_iter().zip(verdicts).for_each(|(at, verdict)| answers[at] = Some(verdict));
            }
            // Each was asked once, or known.
            answers.into_iter().collect::<Option<_>>().ok_or(LockError::Timeout)
        }
        .boxed()
    }

    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        async move {
            let session = self.session()?;
            let session = &session;
            in_rounds(
                ends,
                Completed::Locked,
                names_of_end,
                |round| async move { session.complete(&round).await },
            )
            .await
        }
        .boxed()
    }

    fn release<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        async move {
            let session = self.session()?;
            let session = &session;
            in_rounds(
                ends,
                Completed::Locked,
                |end| [Some(&end.key)],
                |round| async move { session.release(&round).await },
            )
            .await
        }
        .boxed()
    }

    fn advance<'a>(&'a self, moves: &'a [CursorMove]) -> BoxFuture<'a, Result<Vec<Moved>, LockError>> {
        async move {
            let session = self.session()?;
            let session = &session;
            in_rounds(
                moves,
                Moved::Locked,
                |asked| [Some(&asked.job)],
                |round| async move { session.advance(&round).await },
            )
            .await
        }
        .boxed()
    }

    fn round<'a>(
        &'a self,
        ends: &'a [Completion],
        claims: &'a [ClaimRequest],
        moves: &'a [CursorMove],
    ) -> BoxFuture<'a, RoundAnswers> {
        async move {
            let parts = [!ends.is_empty(), !claims.is_empty(), !moves.is_empty()];
            let several = parts.into_iter().filter(|asked| *asked).count() > 1;
            let once = several
                && first_round(ends, |end| names_of_end(end)).1.is_empty()
                && first_round(claims, |claim| names_of(claim)).1.is_empty()
                && first_round(moves, |asked| [Some(asked.job.as_str())]).1.is_empty();
            if once {
                let session = match self.session() {
                    Ok(session) => session,
                    Err(error) => return RoundAnswers::failed(&error),
                };
                let (ends, claims, moves): (Vec<_>, Vec<_>, Vec<_>) =
                    (ends.iter().collect(), claims.iter().collect(), moves.iter().collect());
                if let Some(answers) = session.round_at_once(&ends, &claims, &moves).await {
                    return answers;
                }
            }
            // One by one: what is refused is refused alone.
            let (ended, claimed, moved) =
                join3(self.complete(ends), self.claim(claims), self.advance(moves)).await;
            RoundAnswers { ended, claimed, moved }
        }
        .boxed()
    }

    fn pause<'a>(
        &'a self,
        jobs: &'a [JobName],
        pause: Option<&'a Pause>,
    ) -> BoxFuture<'a, Result<Vec<bool>, LockError>> {
        async move { self.session()?.pause(jobs, pause).await }.boxed()
    }

    fn news(&self, session: Session) -> BoxFuture<'_, News> {
        async move {
            match self.shared.session().filter(|open| open.id() == session) {
                // Not the session itself: it ends when it is let go.
                Some(open) => open.hearing(),
                None => return pending().await,
            }
            .next()
            .await
        }
        .boxed()
    }

    fn hold<'a>(&'a self, jobs: &'a [JobName], fresh: Duration) -> BoxFuture<'a, Result<(), LockError>> {
        async move { self.session()?.hold(jobs, fresh).await }.boxed()
    }

    fn forget(&self, term: Term, after: Duration) -> BoxFuture<'_, Result<Forgotten, LockError>> {
        async move { self.session()?.forget(term, after).await }.boxed()
    }

    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>> {
        async move { self.session()?.close_lost(limit).await }.boxed()
    }

    fn debts(&self, after: Option<RunId>, limit: usize) -> BoxFuture<'_, Result<Vec<Debt>, LockError>> {
        async move {
            let session = self.session()?;
            let after = after.map_or(Uuid::nil(), |after| after.as_uuid());
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let parameters: [&(dyn ToSql + Sync); 3] = [&session.settings.scope, &after, &limit];
            let rows = session.ask(&session.statements.debts, &parameters).await;
            let debts = read(&rows.map_err(Refusal::into_lock_error)?, |row| {
                let run: Uuid = row.try_get("run")?;
                let fire_time: Option<DateTime<Utc>> = row.try_get("fire_time")?;
                let losses: i32 = row.try_get("losses")?;
                let (run, fire_time) = (RunId::from(run), fire_time.map(FireTime::new));
                let owed = OwedRun { run, fire_time, losses: losses.unsigned_abs() };
                // Its name was checked when the job was claimed.
                Ok(JobName::new(row.try_get::<_, String>("job")?).ok().map(|job| Debt { job, owed }))
            })?;
            Ok(debts.into_iter().flatten().collect())
        }
        .boxed()
    }
}

impl OpenSession {
    async fn enrol(self: &Arc<Self>, jobs: &[&Enrolment]) -> Result<Vec<Enrolled>, LockError> {
        let names: Vec<_> = jobs.iter().map(|job| job.job.as_str()).collect();
        let schedules: Vec<_> = jobs.iter().map(|job| job.schedule.to_string()).collect();
        let (terms, unled) = authorities(jobs.iter().map(|job| Some(job.authority)));
        let retry_lost = unless_none(jobs.iter().map(|job| job.retry_lost.then_some(true)));
        let anchors = unless_none(jobs.iter().map(|job| job.from_completion.then_some(true)));
        let held_for: Vec<_> =
            jobs.iter().map(|job| job.held_for.min(HELD_FOR_MAX).as_secs_f64() * 1e3).collect();
        let overlaps: Vec<_> = jobs.iter().map(|job| job.overlap.to_string()).collect();
        let other_key = |job: &&Enrolment| {
            Some(job.key.as_str()).filter(|key| *key != job.job.as_str()).map(str::to_owned)
        };
        let keys = unless_none(jobs.iter().map(other_key));
        // They are of one page. What is not known takes nothing.
        let asked_at = jobs.iter().find_map(|job| job.asked_at).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let asked_at = asked_at.min(Utc::now() + TimeDelta::days(1));
        let parameters: [&(dyn ToSql + Sync); 13] = [
            &self.settings.scope,
            &names,
            &schedules,
            &terms,
            &unled,
            &retry_lost,
            &anchors,
            &held_for,
            &self.beacon,
            &overlaps,
            &keys,
            &DEBTS_BOUND,
            &asked_at,
        ];
        let keyed: Vec<_> = jobs.iter().copied().filter(|job| other_key(job).is_some()).collect();
        // Sent together: nothing of this node comes between.
        let (contradicted, asked) =
            join(self.declare(&keyed), self.ask(&self.statements.enrol, &parameters)).await;
        let contradicted = contradicted.map_err(Refusal::into_lock_error)?;
        let rows = asked.map_err(Refusal::into_lock_error)?;
        let enrolled: HashMap<String, Option<Enrolled>> = read(&rows, |row| {
            let enrolled = match row.try_get("answer")? {
                "deposed" => Some(Enrolled::Deposed { term: term(row)? }),
                "led" => Some(Enrolled::Led),
                "conflict" => Some(Enrolled::Conflict { declared: row.try_get("pause_note")? }),
                // Its key is contradicted, or somebody else has locked it. It has no mark of this node's term any more.
                "undeclared" => None,
                "done" => Some(Enrolled::Done { cursor: row.try_get("cursor")?, kept: Box::new(kept(row)?) }),
                other => return Ok(Err(unknown(other))),
            };
            Ok(Ok((row.try_get("job")?, enrolled)))
        })?
        .into_iter()
        .collect::<Result<_, _>>()?;
        let answer = |job: &&Enrolment| match enrolled.get(job.job.as_str()) {
            Some(Some(answer)) => answer.clone(),
            Some(None) => match contradicted.get(job.key.as_str()) {
                Some(declared) => Enrolled::Conflict { declared: declared.clone() },
                None => Enrolled::Locked,
            },
            None => Enrolled::Locked,
        };
        Ok(jobs.iter().map(answer).collect())
    }

    /// Declares the policies of keys that are not the names of their jobs. Answers those that contradict, by key.
    async fn declare(self: &Arc<Self>, jobs: &[&Enrolment]) -> Result<HashMap<String, String>, Refusal> {
        if jobs.is_empty() {
            return Ok(HashMap::new());
        }
        let names: Vec<_> = jobs.iter().map(|job| job.job.as_str()).collect();
        let keys: Vec<_> = jobs.iter().map(|job| job.key.as_str()).collect();
        let overlaps: Vec<_> = jobs.iter().map(|job| job.overlap.to_string()).collect();
        let (terms, unled) = authorities(jobs.iter().map(|job| Some(job.authority)));
        let scope = &self.settings.scope;
        let declared: [&(dyn ToSql + Sync); 7] =
            [scope, &self.beacon, &names, &keys, &overlaps, &terms, &unled];
        // Sent together.
        let (made, contradicted) = join(
            self.ask(&self.statements.make_keys, &[scope, &keys]),
            self.ask(&self.statements.declare, &declared),
        )
        .await;
        match made {
            // Somebody else is making one of them, and was waited for in vain: those that are missing are asked again.
            Err(Refusal::Statement(error)) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            made => drop(made?),
        }
        let contradicted = read(&contradicted?, |row| Ok((row.try_get("key")?, row.try_get("declared")?)));
        Ok(contradicted.map_err(Refusal::Lock)?.into_iter().collect())
    }

    /// Until the row of each key could be changed.
    async fn retract(self: &Arc<Self>, keys: &[LockKey]) -> Result<(), LockError> {
        let until = Instant::now() + self.settings.trust().min(CHANGE_TIMEOUT);
        let mut open: HashSet<_> = keys.iter().map(|key| key.as_str().to_owned()).collect();
        let mut wait = LOCKED_MIN;
        loop {
            let asked: Vec<_> = open.iter().collect();
            let parameters: [&(dyn ToSql + Sync); 3] = [&self.settings.scope, &self.beacon, &asked];
            let rows = self.ask(&self.statements.retract, &parameters).await;
            for retracted in read(&rows.map_err(Refusal::into_lock_error)?, |row| row.try_get("name"))? {
                let retracted: String = retracted;
                open.remove(&retracted);
            }
            if open.is_empty() {
                return Ok(());
            }
            // Somebody else has locked the others.
            if Instant::now() + wait >= until {
                return Err(LockError::Timeout);
            }
            sleep(wait).await;
            wait = (wait * 2).min(LOCKED_MAX);
        }
    }

    /// Until the row of each job could be changed.
    async fn pause(
        self: &Arc<Self>,
        jobs: &[JobName],
        pause: Option<&Pause>,
    ) -> Result<Vec<bool>, LockError> {
        let until = Instant::now() + self.settings.trust().min(CHANGE_TIMEOUT);
        let mut open: Vec<_> = jobs.iter().map(JobName::as_str).collect::<HashSet<_>>().into_iter().collect();
        let mut changed: HashMap<String, bool> = HashMap::new();
        let mut wait = LOCKED_MIN;
        for turn in 0.. {
            changed.extend(self.pause_once(&self.statements.pause, &open, pause).await?);
            open.retain(|job| !changed.contains_key(*job));
            // Somebody else has locked the others: perhaps only for a moment, or again and again.
            if turn >= SKIPS_MAX && !open.is_empty() && Instant::now() + LOCK_TIMEOUT < until {
                let in_turn = [open[turn % open.len()]];
                changed.extend(self.pause_once(&self.statements.pause_in_turn, &in_turn, pause).await?);
                open.retain(|job| !changed.contains_key(*job));
            }
            if open.is_empty() || Instant::now() + wait >= until {
                break;
            }
            sleep(wait).await;
            wait = (wait * 2).min(LOCKED_MAX);
        }
        // All of them, or it was not in time.
        jobs.iter()
            .map(|job| changed.get(job.as_str()).copied())
            .collect::<Option<_>>()
            .ok_or(LockError::Timeout)
    }

    /// Which jobs were changed, of those whose rows are not locked.
    async fn pause_once(
        self: &Arc<Self>,
        statement: &Statement,
        jobs: &[&str],
        pause: Option<&Pause>,
    ) -> Result<Vec<(String, bool)>, LockError> {
        // Other nodes hear the note as the store keeps it.
        let told =
            pause.map(|pause| Pause { note: pause.note.as_deref().map(storable).map(Into::into), ..*pause });
        let words = serde_json::to_string(&told).expect("invariant: a pause can be written as JSON");
        let (until, note) = pause.map_or((None, None), |pause| (pause.until, pause.note.as_deref()));
        let (words, note) = (Text::of(&words), note.map(Text::of));
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&self.settings.scope, &jobs, &pause.is_some(), &until, &note, &words, &self.channel];
        match self.ask(statement, &parameters).await {
            Ok(rows) => read(&rows, |row| Ok((row.try_get("job")?, row.try_get("changed")?))),
            // It was waited for in vain.
            Err(Refusal::Statement(error)) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                Ok(Vec::new())
            }
            Err(refusal) => Err(refusal.into_lock_error()),
        }
    }

    async fn claim(self: &Arc<Self>, requests: &[&ClaimRequest]) -> Result<Vec<Verdict>, LockError> {
        let answers = self.claim_once(requests).await.map_err(Refusal::into_lock_error)?;
        self.finish_claims(requests, answers).await
    }

    /// Answers as well the claims whose rows were missing.
    async fn finish_claims(
        self: &Arc<Self>,
        requests: &[&ClaimRequest],
        mut answers: Vec<Answer<Verdict>>,
    ) -> Result<Vec<Verdict>, LockError> {
        self.settle_for_good(requests, &mut answers).await?;
        let robbing: Vec<_> = positions(&answers, |answer| matches!(answer, Answer::Robs));
        if !robbing.is_empty() {
            let asked: Vec<_> = robbing.iter().map(|at| requests[*at]).collect();
            let claimed = self.claim_runs(Claims::Full, &asked).await.map_err(Refusal::into_lock_error)?;
            robbing.into_iter().zip(claimed).for_each(|(at, answer)| answers[at] = answer);
        }
        let missing: Vec<_> = positions(&answers, |answer| matches!(answer, Answer::Missing));
        if !missing.is_empty() {
            self.explain_missing(requests, &missing, &mut answers).await?;
        }
        let new: Vec<_> = positions(&answers, |answer| matches!(answer, Answer::NoKey));
        if !new.is_empty() {
            let asked: Vec<_> = new.iter().map(|at| requests[*at]).collect();
            self.make_keys(&asked).await?;
            let claimed = self.claim_once(&asked).await.map_err(Refusal::into_lock_error)?;
            new.into_iter().zip(claimed).for_each(|(at, answer)| answers[at] = answer);
        }
        let verdict = |answer| match answer {
            Answer::Is(verdict) => verdict,
            // Made a moment ago, and taken by somebody else since.
            Answer::Missing | Answer::NoKey | Answer::Robs => Verdict::Locked { holder: None },
        };
        Ok(answers.into_iter().map(verdict).collect())
    }

    /// Asks once for each claim, and answers those whose rows are there and not locked.
    async fn claim_once(
        self: &Arc<Self>,
        requests: &[&ClaimRequest],
    ) -> Result<Vec<Answer<Verdict>>, Refusal> {
        let mut answers: Vec<_> = requests.iter().map(|_| Answer::Missing).collect();
        let [mut settled, mut plain, mut full, mut keyed] = [const { Vec::new() }; 4];
        for (at, request) in requests.iter().enumerate() {
            let of_key_alone = request.tick.is_none() && !request.retake;
            let own_key = of_key_alone || request.job.as_str() == request.key.as_str();
            match (request.settle, own_key) {
                (true, _) => settled.push(at),
                (false, true) if request.retake || request.replace => full.push(at),
                (false, true) => plain.push(at),
                (false, false) => keyed.push(at),
            }
        }
        let group = |group: &[usize]| group.iter().map(|at| requests[*at]).collect::<Vec<_>>();
        let groups = [&plain, &full, &keyed, &settled].map(|positions| group(positions));
        // Sent together.
        let (plainly, fully, with_key, found) = join4(
            self.claim_runs(Claims::Plain, &groups[0]),
            self.claim_runs(Claims::Full, &groups[1]),
            self.claim_runs(Claims::WithKey, &groups[2]),
            self.settle(&groups[3]),
        )
        .await;
        for (positions, group) in [(plain, plainly?), (full, fully?), (keyed, with_key?), (settled, found?)] {
            positions.into_iter().zip(group).for_each(|(at, answer)| answers[at] = answer);
        }
        Ok(answers)
    }

    async fn claim_runs(
        self: &Arc<Self>,
        kind: Claims,
        requests: &[&ClaimRequest],
    ) -> Result<Vec<Answer<Verdict>>, Refusal> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let jobs: Vec<_> = requests.iter().map(|request| request.job.as_str()).collect();
        let keys: Vec<_> = requests.iter().map(|request| request.key.as_str()).collect();
        let runs: Vec<_> = requests.iter().map(|request| request.run.as_uuid()).collect();
        let ticks = || requests.iter().map(|request| request.tick);
        let fire_times: Vec<_> = ticks().map(|tick| tick.map(|tick| tick.fire_time.instant())).collect();
        let expected: Vec<_> = ticks().map(|tick| tick.map(|tick| tick.expected)).collect();
        let (terms, unled) = authorities(ticks().map(|tick| tick.map(|tick| tick.authority)));
        let (scope, node) = (&self.settings.scope, self.settings.node.as_uuid());
        let limit = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
        let limits = unless_none(requests.iter().map(|request| request.limit.map(limit)));
        let replaces = unless_none(requests.iter().map(|request| request.replace.then_some(true)));
        let retakes = unless_none(requests.iter().map(|request| request.retake.then_some(true)));
        let parameters: [&(dyn ToSql + Sync); 16] = [
            scope,
            &self.beacon,
            &node,
            &jobs,
            &keys,
            &runs,
            &fire_times,
            &expected,
            &terms,
            &unled,
            &limits,
            &replaces,
            &retakes,
            &self.channel,
            &LOSSES_BOUND,
            &DEBTS_BOUND,
        ];
        let (statement, parameters) = match kind {
            Claims::Plain => (&self.statements.claim, &parameters[..11]),
            Claims::Full => (&self.statements.claim_fully, &parameters[..]),
            Claims::WithKey => (&self.statements.claim_with_key, &parameters[..]),
        };
        let rows = self.ask(statement, parameters).await?;
        in_order(requests.len(), &rows, claimed).map_err(Refusal::Lock)
    }

    async fn settle(self: &Arc<Self>, requests: &[&ClaimRequest]) -> Result<Vec<Answer<Verdict>>, Refusal> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let runs: Vec<_> = requests.iter().map(|request| request.run.as_uuid()).collect();
        let keys: Vec<_> = requests.iter().map(|request| request.key.as_str()).collect();
        let parameters: [&(dyn ToSql + Sync); 4] = [&self.settings.scope, &self.beacon, &runs, &keys];
        let rows = self.ask(&self.statements.settle, &parameters).await?;
        let granted = read(&rows, |row| {
            let (run, own, token) = (row.try_get("run")?, row.try_get("own")?, token(row)?);
            Ok((run, if own { Verdict::Granted { token, lost: None } } else { Verdict::GrantedBefore }))
        });
        let mut granted: HashMap<Uuid, Verdict> = granted.map_err(Refusal::Lock)?.into_iter().collect();
        Ok(runs.iter().map(|run| Answer::Is(granted.remove(run).unwrap_or(Verdict::NotGranted))).collect())
    }

    /// The answers to claims that settle, none of which can change any more.
    async fn settle_for_good(
        self: &Arc<Self>,
        requests: &[&ClaimRequest],
        answers: &mut [Answer<Verdict>],
    ) -> Result<(), LockError> {
        let not_granted = |answer: &Answer<Verdict>| matches!(answer, Answer::Is(Verdict::NotGranted));
        let open = positions(answers, not_granted).into_iter().filter(|at| requests[*at].settle);
        let open: Vec<_> = open.collect();
        if open.is_empty() {
            return Ok(());
        }
        if self.former_session_lives().await? {
            let unknown = || Answer::Is(Verdict::Unavailable { reason: FORMER_SESSION.to_owned() });
            open.into_iter().for_each(|at| answers[at] = unknown());
            return Ok(());
        }
        // It was over before this question, so nothing is granted after it.
        let asked: Vec<_> = open.iter().map(|at| requests[*at]).collect();
        let settled = self.settle(&asked).await.map_err(Refusal::into_lock_error)?;
        open.into_iter().zip(settled).for_each(|(at, answer)| answers[at] = answer);
        Ok(())
    }

    /// Whether the server may still do what a former session of this node asked.
    async fn former_session_lives(self: &Arc<Self>) -> Result<bool, LockError> {
        let node = self.settings.node.as_uuid();
        let parameters: [&(dyn ToSql + Sync); 3] = [&self.settings.scope, &self.beacon, &node];
        let rows = self.ask(sql::FORMER_SESSION_LIVES, &parameters).await;
        let lives = read(&rows.map_err(Refusal::into_lock_error)?, |row| row.try_get("lives"))?;
        Ok(lives.into_iter().any(|lives| lives))
    }

    /// Why claims have no answer.
    async fn explain_missing(
        self: &Arc<Self>,
        requests: &[&ClaimRequest],
        missing: &[usize],
        answers: &mut [Answer<Verdict>],
    ) -> Result<(), LockError> {
        let names = missing.iter().flat_map(|at| [requests[*at].job.as_str(), requests[*at].key.as_str()]);
        let found = self.look_up(names).await?;
        for (at, names) in missing.iter().zip(found.chunks_exact(2)) {
            let [job, key] = names else { continue };
            answers[*at] = match (requests[*at].tick, job.cursor) {
                // It was never enrolled.
                (Some(_), None) => Answer::Is(Verdict::Unknown),
                _ if requests[*at].retake && !job.row => Answer::Is(Verdict::NotGranted),
                _ if !key.row => Answer::NoKey,
                _ => Answer::Is(Verdict::Locked { holder: key.holder }),
            };
        }
        Ok(())
    }

    async fn make_keys(self: &Arc<Self>, requests: &[&ClaimRequest]) -> Result<(), LockError> {
        let keys: Vec<_> = requests.iter().map(|request| request.key.as_str()).collect();
        let made = self.ask(&self.statements.make_keys, &[&self.settings.scope, &keys]).await;
        made.map(|_| ()).map_err(Refusal::into_lock_error)
    }

    async fn look_up(self: &Arc<Self>, names: impl Iterator<Item = &str>) -> Result<Vec<Found>, LockError> {
        let names: Vec<_> = names.collect();
        let parameters: [&(dyn ToSql + Sync); 3] = [&self.settings.scope, &self.beacon, &names];
        let rows = self.ask(&self.statements.look_up, &parameters).await.map_err(Refusal::into_lock_error)?;
        let found = read(&rows, |row| {
            let holder: Option<Uuid> = row.try_get("holder")?;
            Ok(Found {
                row: row.try_get("found")?,
                cursor: row.try_get("cursor")?,
                holder: holder.map(RunId::from),
            })
        })?;
        if found.len() == names.len() { Ok(found) } else { Err(LockError::Timeout) }
    }

    async fn complete(self: &Arc<Self>, ends: &[&Completion]) -> Result<Vec<Completed>, LockError> {
        let answers = self.complete_once(ends).await.map_err(Refusal::into_lock_error)?;
        self.finish_ends(ends, answers, EndBy::Complete).await
    }

    async fn complete_once(
        self: &Arc<Self>,
        ends: &[&Completion],
    ) -> Result<Vec<Answer<Completed>>, Refusal> {
        let mut answers: Vec<_> = ends.iter().map(|_| Answer::Missing).collect();
        let [mut plain, mut full, mut keyed] = [const { Vec::new() }; 3];
        for (at, end) in ends.iter().enumerate() {
            match end.job.as_str() == end.key.as_str() {
                true if end.pause_after.is_some() || end.from_completion => full.push(at),
                true => plain.push(at),
                false => keyed.push(at),
            }
        }
        let group = |group: &[usize]| group.iter().map(|at| ends[*at]).collect::<Vec<_>>();
        let groups = [&plain, &full, &keyed].map(|positions| group(positions));
        // Sent together.
        let (plainly, fully, with_key) = join3(
            self.end_runs(Ends::Plain, &groups[0]),
            self.end_runs(Ends::Full, &groups[1]),
            self.end_runs(Ends::WithKey, &groups[2]),
        )
        .await;
        for (positions, group) in [(plain, plainly?), (full, fully?), (keyed, with_key?)] {
            positions.into_iter().zip(group).for_each(|(at, answer)| answers[at] = answer);
        }
        Ok(answers)
    }

    async fn end_runs(
        self: &Arc<Self>,
        kind: Ends,
        ends: &[&Completion],
    ) -> Result<Vec<Answer<Completed>>, Refusal> {
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<_> = ends.iter().map(|end| end.key.as_str()).collect();
        let runs: Vec<_> = ends.iter().map(|end| end.run.as_uuid()).collect();
        let tokens: Vec<_> = ends.iter().map(|end| i64::try_from(end.token.0).unwrap_or(-1)).collect();
        let outcomes: Vec<_> = ends.iter().map(|end| end.outcome.as_str()).collect();
        let pauses = unless_none(ends.iter().map(|end| end.pause_after.map(i64::from)));
        let anchors = unless_none(ends.iter().map(|end| end.from_completion.then_some(true)));
        let scope = &self.settings.scope;
        let jobs: Vec<_> = ends.iter().map(|end| end.job.as_str()).collect();
        let parameters: [&(dyn ToSql + Sync); 10] =
            [scope, &self.beacon, &keys, &runs, &tokens, &outcomes, &pauses, &anchors, &self.channel, &jobs];
        let (statement, parameters) = match kind {
            Ends::Plain => (&self.statements.complete, &parameters[..6]),
            Ends::Full => (&self.statements.complete_fully, &parameters[..9]),
            Ends::WithKey => (&self.statements.complete_with_key, &parameters[..]),
        };
        let rows = self.ask(statement, parameters).await?;
        in_order(ends.len(), &rows, completed).map_err(Refusal::Lock)
    }

    async fn release(self: &Arc<Self>, ends: &[&Completion]) -> Result<Vec<Completed>, LockError> {
        let answers = self.release_once(ends).await?;
        self.finish_ends(ends, answers, EndBy::Release).await
    }

    async fn release_once(
        self: &Arc<Self>,
        ends: &[&Completion],
    ) -> Result<Vec<Answer<Completed>>, LockError> {
        let keys: Vec<_> = ends.iter().map(|end| end.key.as_str()).collect();
        let runs: Vec<_> = ends.iter().map(|end| end.run.as_uuid()).collect();
        let tokens: Vec<_> = ends.iter().map(|end| i64::try_from(end.token.0).unwrap_or(-1)).collect();
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&self.settings.scope, &self.beacon, &keys, &runs, &tokens];
        let rows = self.ask(&self.statements.release, &parameters).await.map_err(Refusal::into_lock_error)?;
        in_order(ends.len(), &rows, completed)
    }

    async fn finish_ends(
        self: &Arc<Self>,
        ends: &[&Completion],
        mut answers: Vec<Answer<Completed>>,
        by: EndBy,
    ) -> Result<Vec<Completed>, LockError> {
        let stale = positions(&answers, |answer| matches!(answer, Answer::Is(Completed::Stale)));
        if !stale.is_empty() {
            let asked: Vec<_> = stale.iter().map(|at| ends[*at]).collect();
            let unknown = || Completed::Unavailable { reason: FORMER_SESSION.to_owned() };
            // Of another session, which may still record it: what is asked once it is over cannot change any more.
            let settled = match (self.former_session_lives().await?, by) {
                (true, _) => asked.iter().map(|_| Answer::Is(unknown())).collect(),
                (false, EndBy::Complete) => {
                    self.complete_once(&asked).await.map_err(Refusal::into_lock_error)?
                }
                (false, EndBy::Release) => self.release_once(&asked).await?,
            };
            stale.into_iter().zip(settled).for_each(|(at, answer)| answers[at] = answer);
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

    async fn advance(self: &Arc<Self>, moves: &[&CursorMove]) -> Result<Vec<Moved>, LockError> {
        let answers = self.advance_once(moves).await.map_err(Refusal::into_lock_error)?;
        self.finish_moves(moves, answers).await
    }

    async fn advance_once(self: &Arc<Self>, moves: &[&CursorMove]) -> Result<Vec<Answer<Moved>>, Refusal> {
        if moves.is_empty() {
            return Ok(Vec::new());
        }
        let jobs: Vec<_> = moves.iter().map(|asked| asked.job.as_str()).collect();
        let expected: Vec<_> = moves.iter().map(|asked| asked.expected).collect();
        let until: Vec<_> = moves.iter().map(|asked| asked.to.instant()).collect();
        let (terms, unled) = authorities(moves.iter().map(|asked| Some(asked.authority)));
        let ids: Vec<_> = moves.iter().map(|asked| asked.id).collect();
        let (scope, statement) = (&self.settings.scope, &self.statements.advance);
        let rows = self.ask(statement, &[scope, &jobs, &expected, &until, &terms, &unled, &ids]).await?;
        in_order(moves.len(), &rows, |row| {
            Ok(Answer::Is(match row.try_get("verdict")? {
                "done" | "done before" => Moved::Done,
                "deposed" => Moved::Deposed { term: term(row)? },
                "led" => Moved::Led,
                "unknown" => Moved::Unknown,
                "elsewhere" => Moved::Elsewhere { cursor: row.try_get("cursor")? },
                other => Moved::Unavailable { reason: format!("an unknown verdict: {other}") },
            }))
        })
        .map_err(Refusal::Lock)
    }

    async fn finish_moves(
        self: &Arc<Self>,
        moves: &[&CursorMove],
        answers: Vec<Answer<Moved>>,
    ) -> Result<Vec<Moved>, LockError> {
        let missing = |found: &Found| if found.cursor.is_some() { Moved::Locked } else { Moved::Unknown };
        self.or_missing(answers, |at| moves[at].job.as_str(), missing).await
    }

    /// Asks all of it in one transaction, which costs one wait for the disk instead of three. `None`: it was undone.
    ///
    /// Everything is sent in one turn of one thread, as all statements of a session are: nothing comes between.
    async fn round_at_once(
        self: &Arc<Self>,
        ends: &[&Completion],
        claims: &[&ClaimRequest],
        moves: &[&CursorMove],
    ) -> Option<RoundAnswers> {
        let Statements { begin, commit, .. } = &self.statements;
        let (begun, ended, claimed, moved, committed) = join5(
            self.ask(begin, &[]),
            self.complete_once(ends),
            self.claim_once(claims),
            self.advance_once(moves),
            self.ask(commit, &[]),
        )
        .await;
        let round = async {
            begun?;
            let answers = (ended?, claimed?, moved?);
            // Only now are they more than promises.
            committed?;
            Ok(answers)
        };
        match round.await {
            Ok((ended, claimed, moved)) => {
                let (ended, claimed, moved) = join3(
                    self.finish_ends(ends, ended, EndBy::Complete),
                    self.finish_claims(claims, claimed),
                    self.finish_moves(moves, moved),
                )
                .await;
                Some(RoundAnswers { ended, claimed, moved })
            }
            Err(Refusal::Statement(_)) => None,
            Err(Refusal::Lock(error)) => Some(RoundAnswers::failed(&error)),
        }
    }

    /// The answers, those that are missing by what is found under their names.
    async fn or_missing<'a, A>(
        self: &Arc<Self>,
        answers: Vec<Answer<A>>,
        name: impl Fn(usize) -> &'a str,
        missing: impl Fn(&Found) -> A,
    ) -> Result<Vec<A>, LockError> {
        let skipped = positions(&answers, |answer| !matches!(answer, Answer::Is(_)));
        let found = if skipped.is_empty() {
            Vec::new()
        } else {
            self.look_up(skipped.iter().map(|at| name(*at))).await?
        };
        let mut found = found.iter();
        let answer = |answer| match answer {
            Answer::Is(answer) => Some(answer),
            Answer::Missing | Answer::NoKey | Answer::Robs => found.next().map(&missing),
        };
        answers.into_iter().map(answer).collect::<Option<_>>().ok_or(LockError::Timeout)
    }
}

/// What an end is asked by.
#[derive(Debug, Clone, Copy)]
enum EndBy {
    Complete,
    Release,
}

/// An answer of a statement that this version does not know.
fn unknown(answer: &str) -> LockError {
    LockError::NotDone { reason: format!("an unknown answer: {answer}") }
}

/// Where in a batch something is.
fn positions<T>(items: &[T], is: impl Fn(&T) -> bool) -> Vec<usize> {
    items.iter().enumerate().filter(|(_, item)| is(item)).map(|(at, _)| at).collect()
}

/// Asks for a batch in rounds: each holds an item only if nothing that it excludes is excluded by an earlier one of
/// the round, so that a statement never sees two claims of one name. After [`ROUNDS_MAX`] rounds the rest is `not_asked`.
async fn in_rounds<'a, T, K: Hash + Eq + 'a, A: Clone, F, const N: usize>(
    items: &'a [T],
    not_asked: A,
    excluded: impl Fn(&'a T) -> [Option<K>; N],
    ask: impl Fn(Vec<&'a T>) -> F,
) -> Result<Vec<A>, LockError>
where
    F: Future<Output = Result<Vec<A>, LockError>>,
{
    let mut answers: Vec<Option<A>> = items.iter().map(|_| None).collect();
    let mut waiting: Vec<usize> = (0..items.len()).collect();
    for _ in 0..ROUNDS_MAX {
        if waiting.is_empty() {
            break;
        }
        let (round, later) = first_round(waiting, |at| excluded(&items[*at]));
        let answered = ask(round.iter().map(|at| &items[*at]).collect()).await?;
        round.into_iter().zip(answered).for_each(|(at, answer)| answers[at] = Some(answer));
        waiting = later;
    }
    // Each was asked once, or is to be asked again.
    Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| not_asked.clone())).collect())
}

/// What can be asked in one statement, and what must wait for another.
fn first_round<T, K: Hash + Eq, const N: usize>(
    items: impl IntoIterator<Item = T>,
    excluded: impl Fn(&T) -> [Option<K>; N],
) -> (Vec<T>, Vec<T>) {
    let mut taken = HashSet::new();
    items.into_iter().partition(|item| {
        let excludes = excluded(item);
        let free = excludes.iter().flatten().all(|key| !taken.contains(key));
        taken.extend(excludes.into_iter().flatten());
        free
    })
}

/// The names whose rows a claim needs.
fn names_of(request: &ClaimRequest) -> [Option<&str>; 2] {
    let (job, key) = (request.job.as_str(), request.key.as_str());
    [Some(job), Some(key).filter(|key| *key != job)]
}

/// The names whose rows an end needs.
fn names_of_end(end: &Completion) -> [Option<&str>; 2] {
    let (job, key) = (end.job.as_str(), end.key.as_str());
    [Some(key), Some(job).filter(|job| *job != key)]
}

/// What the verdict on a claim says of a later claim of the same key, if anything.
fn same_for(later: &ClaimRequest, asked: &ClaimRequest, verdict: &Verdict) -> Option<Verdict> {
    if later.settle {
        return None;
    }
    let (tick, of_asked) = (later.tick.as_ref(), asked.tick.as_ref());
    // Its holder is to be told.
    if later.replace && !asked.replace {
        return None;
    }
    let same = match verdict {
        Verdict::Granted { .. } if later.replace => return None,
        Verdict::Granted { .. } => return Some(Verdict::Busy { holder: Some(asked.run) }),
        // Unless it is that very run, asked for again.
        Verdict::Busy { holder } => *holder != Some(later.run),
        Verdict::Locked { .. } | Verdict::Unavailable { .. } => true,
        Verdict::Deposed { .. } => tick.map(|tick| tick.authority) == of_asked.map(|tick| tick.authority),
        Verdict::NotYet { .. } => tick.map(|tick| tick.fire_time) == of_asked.map(|tick| tick.fire_time),
        _ => false,
    };
    same.then(|| verdict.clone())
}

/// One answer per item, in the order of the items, from rows that name them by number from 1.
fn in_order<A>(
    count: usize,
    rows: &[Row],
    answer: impl Fn(&Row) -> Result<Answer<A>, Error>,
) -> Result<Vec<Answer<A>>, LockError> {
    let mut answers: Vec<_> = (0..count).map(|_| Answer::Missing).collect();
    for (ord, answer) in read(rows, |row| Ok((row.try_get::<_, i64>("ord")?, answer(row)?)))? {
        if let Some(place) = usize::try_from(ord - 1).ok().and_then(|at| answers.get_mut(at)) {
            *place = answer;
        }
    }
    Ok(answers)
}

/// Reads rows. What cannot be read is as good as no answer.
pub(super) fn read<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, Error>) -> Result<Vec<T>, LockError> {
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| {
        tracing::error!(target: "callsheet", "an answer of the server: {}", failure::explain(&error));
        LockError::Timeout
    })
}

fn claimed(row: &Row) -> Result<Answer<Verdict>, Error> {
    Ok(match row.try_get("verdict")? {
        "robs" => Answer::Robs,
        _ => Answer::Is(verdict(row)?),
    })
}

fn verdict(row: &Row) -> Result<Verdict, Error> {
    Ok(match row.try_get("verdict")? {
        "granted" => {
            let lost = lost_run(row)?.map(Box::new);
            Verdict::Granted { token: token(row)?, lost }
        }
        "again" => Verdict::Granted { token: token(row)?, lost: None },
        "not granted" => Verdict::NotGranted,
        "granted before" => Verdict::GrantedBefore,
        "already run" => {
            let run: Uuid = row.try_get("run")?;
            Verdict::AlreadyRun { run: RunId::from(run), cursor: row.try_get("cursor")? }
        }
        "unknown" => Verdict::Unknown,
        "moved" => Verdict::Moved { cursor: row.try_get("cursor")? },
        "busy" => Verdict::Busy { holder: row.try_get::<_, Option<Uuid>>("run")?.map(RunId::from) },
        "deposed" => Verdict::Deposed { term: term(row)? },
        "led" => Verdict::Led,
        "paused" => Verdict::Paused(paused(row)?),
        "exhausted" => Verdict::Exhausted,
        "not yet" => {
            let wait: f64 = row.try_get("wait")?;
            Verdict::NotYet { wait: Duration::try_from_secs_f64(wait / 1e6).unwrap_or_default() }
        }
        other => Verdict::Unavailable { reason: format!("an unknown verdict: {other}") },
    })
}

fn completed(row: &Row) -> Result<Answer<Completed>, Error> {
    if !row.try_get("recorded")? {
        return Ok(Answer::Is(Completed::Stale));
    }
    let pauses: bool = row.try_get("pauses")?;
    let note = row.try_get("pause_note")?;
    let pause = pauses.then_some(Pause { until: None, note });
    Ok(Answer::Is(Completed::Recorded { cursor: row.try_get("cursor")?, pause }))
}

/// A run that was closed as lost, if the row holds one.
pub(super) fn lost_run(row: &Row) -> Result<Option<LostRun>, Error> {
    let (Some(job), Some(run)) =
        (row.try_get::<_, Option<String>>("lost_job")?, row.try_get::<_, Option<Uuid>>("run")?)
    else {
        return Ok(None);
    };
    let fire_time: Option<DateTime<Utc>> = row.try_get("lost_fire_time")?;
    let (run, fire_time) = (RunId::from(run), fire_time.map(FireTime::new));
    let losses: Option<i32> = row.try_get("losses")?;
    let owed = losses.map(|losses| OwedRun { run, fire_time, losses: losses.unsigned_abs() });
    // Its name was checked when the job was claimed.
    Ok(JobName::new(job).ok().map(|job| LostRun { job, run, fire_time, owed }))
}

/// What is kept of a job.
fn kept(row: &Row) -> Result<Kept, Error> {
    let pause = if row.try_get("paused")? { Some(paused(row)?) } else { None };
    let failures: i32 = row.try_get("failures")?;
    let owed = match row.try_get::<_, Option<&str>>("owed")?.map(news::read_debts) {
        Some(Ok(owed)) => owed,
        // It is asked for later.
        Some(Err(error)) => {
            tracing::error!(target: "callsheet", "what a job owes cannot be read: {error}");
            Vec::new()
        }
        None => Vec::new(),
    };
    Ok(Kept { pause, failures: failures.unsigned_abs(), owed })
}

/// The pause of a job that is paused.
fn paused(row: &Row) -> Result<Pause, Error> {
    Ok(Pause { until: row.try_get("paused_until")?, note: row.try_get("pause_note")? })
}

fn token(row: &Row) -> Result<FencingToken, Error> {
    row.try_get::<_, i64>("token").map(|token| FencingToken(token.unsigned_abs()))
}

fn term(row: &Row) -> Result<Term, Error> {
    row.try_get::<_, Option<i64>>("epoch").map(|epoch| Term(epoch.unwrap_or(0).unsigned_abs()))
}

/// An array for a statement of something that few claims have: empty, which costs nothing, if none has it.
fn unless_none<T>(values: impl Iterator<Item = Option<T>>) -> Vec<Option<T>> {
    let values: Vec<_> = values.collect();
    if values.iter().all(Option::is_none) { Vec::new() } else { values }
}

/// What the statements are told of authorities: the terms, and whether the leader goes first.
fn authorities(authorities: impl Iterator<Item = Option<Authority>>) -> (Vec<Option<i64>>, Vec<bool>) {
    let told = |authority: Option<Authority>| {
        (authority.and_then(Authority::term).map(number), authority == Some(Authority::Unled))
    };
    authorities.map(told).unzip()
}

/// A term that is too large for the server is none that it granted.
pub(super) fn number(term: Term) -> i64 {
    i64::try_from(term.0).unwrap_or(-1)
}

//! Connections that keep what others need, and say nothing: who they are, and their end.
//!
//! A client cannot promise that its bytes arrive together. The server ends a connection that is idle for too
//! long, but one that was cut off in the middle of a statement waits for the rest of it, and keeps its beacon
//! and its locks for as long as its network connection looks open. So whoever meets a silent one ends it, if
//! it may, and else says who it is and what would help.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use callsheet_actors::{
    adapter::one_line,
    port::{OBSTACLES_MAX, Obstacle},
};
use tokio::time::Instant;
use tokio_postgres::{Client, Error, Row, error::SqlState, types::ToSql};

use super::{
    silent_connections::{Judged, Seen, Silences, Who},
    statement::eviction,
};

/// The longest name of an application or a role that is shown, in bytes.
const NAME_MAX: usize = 64;

/// What is in the way is named after this part of its lease.
const NAMED_PART: u32 = 4;

/// A connection that holds something.
pub(super) struct Holder {
    pub(super) seen: Seen,
    /// Whether it may be ended once it was silent for its lease: not while it works for a client who is none
    /// of ours; `None` if this role is not shown what it does.
    may_end: Option<bool>,
    role: String,
    application: String,
    /// The transaction that it is in, if it is looked at for that: it must still be in it when it is ended.
    transaction: Option<String>,
    /// When it did something last, by the server's clock, if that is shown: it must have done nothing since
    /// when it is ended.
    changed: Option<String>,
}

impl Holder {
    /// Reads a row with `holder`, `mark`, `quiet` and `lease` (in milliseconds), `role`, `application`,
    /// `may_end`, `changed`, and what it must still hold when it is ended, since its process may serve
    /// somebody else by then: `beacon` or `transaction`. `None`: the row has no holder.
    pub(super) fn of(row: &Row) -> Result<Option<Self>, Error> {
        let Some(pid) = row.try_get("holder")? else { return Ok(None) };
        let millis = |column: &str| {
            let millis: Option<f64> = row.try_get(column)?;
            Ok::<_, Error>(Duration::try_from_secs_f64(millis.unwrap_or_default() / 1e3).unwrap_or_default())
        };
        let text =
            |column: &str| Ok::<_, Error>(row.try_get::<_, Option<String>>(column)?.unwrap_or_default());
        let who = Who { pid, beacon: row.try_get("beacon")? };
        let seen = Seen { who, mark: text("mark")?, quiet: millis("quiet")?, lease: millis("lease")? };
        Ok(Some(Self {
            seen,
            may_end: row.try_get("may_end")?,
            role: text("role")?,
            application: text("application")?,
            transaction: row.try_get("transaction")?,
            changed: row.try_get("changed")?,
        }))
    }

    fn who(&self) -> String {
        process(self.seen.who.pid, &self.role, &self.application)
    }
}

/// A process of the server, in words.
pub(super) fn process(pid: i32, role: &str, application: &str) -> String {
    if pid == 0 {
        return "a prepared transaction".to_owned();
    }
    let [role, application] = [role, application].map(|name| one_line(name, NAME_MAX));
    format!("process {pid} of the server (role {role:?}, application {application:?})")
}

/// How to end it.
pub(super) fn end_of(pid: i32) -> String {
    match pid {
        0 => "find it in pg_prepared_xacts; commit it or roll it back".to_owned(),
        _ => format!("end it: SELECT pg_terminate_backend({pid})"),
    }
}

/// What came of the attempt to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It was not tried.
    None,
    /// The server was told to end it.
    Told,
    /// This role may not.
    NotPermitted,
}

/// How a holder is ended.
#[derive(Clone, Copy)]
pub(super) enum Through<'a> {
    /// By its advisory lock, on this connection.
    Lock(&'a Client),
    /// By its transaction, on this connection.
    Transaction(&'a Client),
}

impl Through<'_> {
    /// Whether it still held what it is ended for.
    async fn end(self, holder: &Holder) -> Result<bool, Error> {
        let Who { pid, beacon } = &holder.seen.who;
        let ended = match self {
            Self::Lock(client) => client.query_opt(eviction::EVICT, &[pid, beacon, &holder.changed]).await?,
            Self::Transaction(client) => {
                let still: [&(dyn ToSql + Sync); 3] = [pid, &holder.transaction, &holder.changed];
                client.query_opt(eviction::EVICT_TRANSACTION, &still).await?
            }
        };
        Ok(ended.is_some())
    }
}

/// Watches those who hold one kind of thing.
pub(super) struct Holders {
    /// What such a one keeps from others, as in "{what} is held by …".
    what: &'static str,
    /// Whether it is in the way of others all the time, or only once it was silent for too long.
    in_the_way: bool,
    silences: Silences,
    known: HashMap<Who, Known>,
}

struct Known {
    outcome: Outcome,
    since: Instant,
    /// What was said of it last.
    said: String,
}

impl Holders {
    pub(super) fn new(what: &'static str, in_the_way: bool) -> Self {
        Self { what, in_the_way, silences: Silences::default(), known: HashMap::new() }
    }

    /// When to look again, if it is to be sooner than usual.
    pub(super) fn next(&self) -> Option<Duration> {
        self.silences.next()
    }

    /// Nobody held anything when this was asked.
    pub(super) fn none(&mut self, asked: Instant) {
        self.silences.look(asked, Instant::now(), &[]);
        self.known.clear();
    }

    /// Takes in a look that was asked at `asked` and answered just now.
    pub(super) async fn look(
        &mut self,
        asked: Instant,
        holders: Vec<Holder>,
        through: Through<'_>,
    ) -> Result<Vec<Obstacle>, Error> {
        let now = Instant::now();
        let seen: Vec<_> = holders.iter().map(|holder| holder.seen.clone()).collect();
        let judged = self.silences.look(asked, now, &seen);
        let mut known = std::mem::take(&mut self.known);
        let mut obstacles = Vec::new();
        for (holder, judged) in holders.iter().zip(judged) {
            let mut it = known.remove(&holder.seen.who).unwrap_or_else(|| Known {
                outcome: Outcome::None,
                since: now,
                said: String::new(),
            });
            if judged == Judged::Silent && holder.may_end == Some(true) {
                it.outcome = match through.end(holder).await {
                    Ok(true) => {
                        let (what, who) = (self.what, holder.who());
                        tracing::warn!(target: "callsheet", "ended a connection that was silent beyond its lease: {what} was held by {who}");
                        Outcome::Told
                    }
                    // It ended, or let go, by itself.
                    Ok(false) => Outcome::None,
                    Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                        Outcome::NotPermitted
                    }
                    Err(error) => return Err(error),
                };
            }
            let held_for = now.saturating_duration_since(it.since);
            if let Some(cure) = self.cure(holder, judged, it.outcome, held_for) {
                let reason = format!("{} is held by {}", self.what, holder.who());
                if it.said != cure {
                    tracing::warn!(target: "callsheet", "{reason}; {cure}");
                    it.said.clone_from(&cure);
                }
                obstacles.push(Obstacle { reason, cure, held_for });
            }
            self.known.insert(holder.seen.who, it);
        }
        Ok(obstacles)
    }

    /// What would help against one that is in the way.
    fn cure(&self, holder: &Holder, judged: Judged, outcome: Outcome, held_for: Duration) -> Option<String> {
        let Seen { who: Who { pid, .. }, lease, .. } = holder.seen;
        let end_it = end_of(pid);
        match (outcome, judged) {
            _ if pid == 0 => Some(end_it),
            (Outcome::NotPermitted, _) => Some(format!("grant pg_signal_backend to this role, or {end_it}")),
            (Outcome::Told, Judged::Stuck) => Some(
                "it does not react to pg_terminate_backend, so its process stands still: continue it, or kill it, on the \
                 server's machine"
                    .to_owned(),
            ),
            (Outcome::Told, _) => None,
            // Everybody waits for a moment now and then.
            (Outcome::None, _) if !self.in_the_way || held_for < lease / NAMED_PART => None,
            (Outcome::None, _) => Some(match holder.may_end {
                // The same whether it works at this moment: it is said once.
                Some(_) => format!("once its client says nothing for {lease:?} it is ended; if it works, {end_it}"),
                None => format!("grant pg_signal_backend and pg_read_all_stats to this role, or {end_it}"),
            }),
        }
    }
}

/// What is in the way of a session, by who noticed it, and when.
#[derive(Default)]
pub(super) struct Obstacles(Mutex<[Option<Found>; 2]>);

struct Found {
    at: Instant,
    obstacles: Vec<Obstacle>,
}

/// Who noticed an obstacle.
#[derive(Debug, Clone, Copy)]
pub(super) enum Noticed {
    /// The heartbeat, on other sessions.
    OnSessions,
    /// The election, on the leader row.
    OnLeaderRow,
}

/// Says what keeps the second connection of a session from the leader row, while that connection is there.
pub(super) struct OnRow(pub(super) Arc<Obstacles>);

impl OnRow {
    pub(super) fn show(&self, obstacles: Vec<Obstacle>) {
        self.0.set(Noticed::OnLeaderRow, obstacles);
    }
}

impl Drop for OnRow {
    fn drop(&mut self) {
        self.show(Vec::new());
    }
}

impl Obstacles {
    pub(super) fn set(&self, noticed: Noticed, obstacles: Vec<Obstacle>) {
        self.read()[noticed as usize] = Some(Found { at: Instant::now(), obstacles });
    }

    pub(super) fn all(&self) -> Vec<Obstacle> {
        let read = self.read();
        let all = read.iter().flatten().flat_map(|Found { at, obstacles }| {
            let since = at.elapsed();
            obstacles.iter().cloned().map(move |it| Obstacle { held_for: it.held_for + since, ..it })
        });
        all.take(OBSTACLES_MAX).collect()
    }

    fn read(&self) -> MutexGuard<'_, [Option<Found>; 2]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

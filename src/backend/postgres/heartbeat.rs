//! What keeps a session's lease on the server, and the node's trust in it.
//!
//! The server ends a session that it has not heard of for a lease. So each answer of it keeps the session,
//! and a heartbeat is sent only when nothing else was for a while.
//!
//! ```text
//! proof       P                       P                       P      every nine tenths of a lease, unless something is claimed
//! heartbeat              H                       H
//! trust       [===================]
//!                        [===================]
//! ```

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_postgres::{
    Client, Error, Row, Statement,
    error::{Severity, SqlState},
};

use super::{
    clock::{Clocks, Sent},
    failure::{self, POOLED, SWITCHED},
    lock_holders::{Holder, Holders, Noticed, Obstacles, Through},
    loss::{Loss, LossCause, end},
    settings::Settings,
    snapshots::Snapshots,
};

/// After so many of these times a heartbeat looks at the process of the server and at the table of sessions,
/// whatever else is answered.
const LOOK_BEATS: u32 = 2;

/// How many other sessions one session watches: those whose beacons come next to its own, round and round. So
/// what a heartbeat costs does not grow with the number of nodes, and each session is watched by as many.
const WATCHED_MAX: i64 = 16;

/// Keeps the lease while nothing else does, notices a pooler that changes the server process between
/// transactions, notices tables that do not know the session (scope $1, beacon $2, channel $4), reads the
/// clock, and looks at $3 other sessions: one row for each whose process is there, or one without any.
///
/// When a session was last asked something is only shown to its own role and those that may read all
/// statistics. Others see which transaction it is in, if any: a session that is not in one is idle, and ended
/// by the server.
///
/// Processes are looked at one column at a time: a row of `pg_stat_activity` for each session takes twice as
/// long. What only a message says is read once a session seems to be silent.
pub(super) const HEARTBEAT: &str = "
WITH transactions AS MATERIALIZED (
    -- Read once, and only if it is needed.
    SELECT pid, virtualtransaction FROM pg_locks WHERE locktype = 'virtualxid' AND granted
)
SELECT pg_backend_pid() AS pid, clock_timestamp() AS now,
       EXISTS (SELECT FROM sessions WHERE scope = $1 AND beacon = $2)
           AND EXISTS (SELECT FROM scopes WHERE scope = $1 AND channel = $4) AS stands,
       w.*
FROM (SELECT 1) AS one
LEFT JOIN LATERAL (
    SELECT s.pid AS holder, s.beacon, NULL::text AS transaction, pg_get_userbyid(s.role)::text AS role,
           true AS may_end, (extract(epoch FROM s.lease) * 1e3)::float8 AS lease,
           (extract(epoch FROM clock_timestamp() - p.asked_at) * 1e3)::float8 AS quiet,
           CASE WHEN clock_timestamp() - p.asked_at BETWEEN interval '0' AND s.lease * 0.75 THEN '' ELSE (
               SELECT a.application_name FROM pg_stat_get_activity(s.pid) AS a
           ) END AS application,
           p.asked_at::text AS changed,
           CASE WHEN p.asked_at IS NULL THEN (
               SELECT t.virtualtransaction FROM transactions t WHERE t.pid = s.pid LIMIT 1
           ) ELSE p.asked_at::text END AS mark
    FROM (
        (SELECT * FROM sessions WHERE scope = $1 AND beacon > $2 ORDER BY beacon LIMIT $3)
        UNION ALL
        (SELECT * FROM sessions WHERE scope = $1 AND beacon < $2 ORDER BY beacon LIMIT $3)
        LIMIT $3
    ) AS s
    JOIN (
        SELECT pg_stat_get_backend_pid(id) AS pid, pg_stat_get_backend_userid(id) AS role,
               pg_stat_get_backend_activity_start(id) AS asked_at
        FROM pg_stat_get_backend_idset() AS id
    ) AS p ON p.pid = s.pid AND p.role = s.role
) AS w ON w.mark IS NOT NULL";

/// The same without the table of sessions, of which this role may have lost the rights.
pub(super) const PULSE: &str =
    "SELECT pg_backend_pid() AS pid, clock_timestamp() AS now, true AS stands, NULL::int4 AS holder";

const RECREATED: &str =
    "the tables do not know this session: they were dropped, emptied, created again, or restored from before";

/// When the server was heard of last, and who it is.
pub(super) struct Pulse {
    /// A heartbeat is sent when the server was not heard of for so long.
    beat: Duration,
    trust: Duration,
    pid: i32,
    clocks: Arc<Clocks>,
    heard: Mutex<Heard>,
}

/// When what was answered had been sent.
#[derive(Debug, Clone, Copy)]
struct Heard {
    /// The newest statement of any kind.
    last: Instant,
    /// The newest heartbeat.
    looked: Instant,
}

/// What made a session lost although the server answered.
pub(super) enum Stranger {
    Switched,
    Recreated,
}

impl Stranger {
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Switched => SWITCHED.to_owned() + POOLED,
            Self::Recreated => RECREATED.to_owned(),
        }
    }
}

impl Pulse {
    /// The process `pid` of the server has answered what was sent at `sent`.
    pub(super) fn new(settings: &Settings, pid: i32, clocks: Arc<Clocks>, sent: Instant) -> Self {
        let heard = Mutex::new(Heard { last: sent, looked: sent });
        Self { beat: settings.beat(), trust: settings.trust(), pid, clocks, heard }
    }

    /// Up to here the server has certainly not ended the session for its silence: it counts the lease from a
    /// later instant.
    pub(super) fn trusted_until(&self) -> Instant {
        self.read().last + self.trust
    }

    /// The server has answered what was sent at `sent`.
    pub(super) fn heard(&self, sent: Instant) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.last = heard.last.max(sent);
    }

    /// The server refused what was sent at `sent`: its process goes on, unless that was its last word.
    pub(super) fn refused(&self, sent: Instant, error: &Error) {
        if of_living(error) {
            self.heard(sent);
        }
    }

    /// The server has answered who it is, and what its clock reads.
    ///
    /// # Errors
    ///
    /// [`Stranger::Switched`]: another process of the server answered.
    pub(super) fn recognise(&self, clocks: &Sent, row: &Row) -> Result<Result<(), Stranger>, Error> {
        self.clocks.measure(clocks, row.try_get("now")?);
        let same = row.try_get::<_, i32>("pid")? == self.pid;
        Ok(if same { Ok(()) } else { Err(Stranger::Switched) })
    }

    /// The server has answered a heartbeat that was sent at `sent`.
    fn beaten(&self, sent: Instant) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.last = heard.last.max(sent);
        heard.looked = heard.looked.max(sent);
    }

    /// Reads the node's clocks, before something is asked whose answer is to be
    /// [recognised](Self::recognise).
    pub(super) fn clocks(&self) -> Sent {
        self.clocks.read()
    }

    /// When the next heartbeat is due, as it stands: at the latest so long after the last look at other
    /// sessions.
    fn due(&self, look_in: Option<Duration>) -> Instant {
        let Heard { last, looked } = self.read();
        let look_in = look_in.map_or(self.beat * LOOK_BEATS, |sooner| sooner.min(self.beat * LOOK_BEATS));
        (last + self.beat).min(looked + look_in)
    }

    fn read(&self) -> Heard {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the process of the server goes on after this error.
fn of_living(error: &Error) -> bool {
    error.as_db_error().is_some_and(|error| error.parsed_severity() == Some(Severity::Error))
}

/// Sends the heartbeats of a session.
pub(super) struct Heart {
    pub(super) client: Arc<Client>,
    pub(super) heartbeat: Statement,
    pub(super) pulse_alone: Statement,
    pub(super) scope: String,
    pub(super) beacon: i64,
    pub(super) channel: String,
    pub(super) pulse: Arc<Pulse>,
    pub(super) obstacles: Arc<Obstacles>,
    /// The other sessions that it watches.
    pub(super) others: Holders,
}

impl Heart {
    /// Beats until the session is lost, or by ending it. Beside that it looks at snapshots: no heartbeat
    /// waits for that.
    pub(super) async fn run(mut self, snapshots: Snapshots, loss: watch::Sender<Loss>) {
        let mut lost = loss.subscribe();
        let client = self.client.clone();
        let beats = async {
            loop {
                let due = self.pulse.due(self.others.next());
                if Instant::now() < due {
                    sleep_until(due).await;
                    // Something else may have been answered meanwhile.
                    continue;
                }
                let (asked, until) = (Instant::now(), self.pulse.trusted_until());
                let others = match timeout_at(until, self.beat()).await {
                    Ok(Ok(Ok(others))) => others,
                    Ok(Ok(Err(stranger))) => return stranger.reason(),
                    Ok(Err(error)) => return failure::explain(&error),
                    Err(_) => return "the server did not answer a heartbeat in time".to_owned(),
                };
                // It has answered, so there is time until the trust in that answer ends.
                match timeout_at(self.pulse.trusted_until(), self.look(asked, others)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return failure::explain(&error),
                    Err(_) => return "the server did not end a silent session in time".to_owned(),
                }
            }
        };
        tokio::select! {
            reason = beats => end(&loss, LossCause::lost(&reason)),
            never = snapshots.run(&client) => match never {},
            // Ended otherwise; an error cannot be, since this task has a sender.
            _ = lost.wait_for(Option::is_some) => {}
        }
    }

    /// Answers the other sessions that it watches.
    async fn beat(&self) -> Result<Result<Vec<Holder>, Stranger>, Error> {
        let (mut sent, mut clocks) = (Instant::now(), self.pulse.clocks());
        let rows = match self
            .client
            .query(&self.heartbeat, &[&self.scope, &self.beacon, &WATCHED_MAX, &self.channel])
            .await
        {
            Ok(rows) => rows,
            Err(error) if is_undefined(&error) => return Ok(Err(Stranger::Recreated)),
            // Without rights, or while somebody keeps the table locked: whether the session stands in it is
            // not known, but the process of the server answers.
            Err(error) if of_living(&error) => {
                (sent, clocks) = (Instant::now(), self.pulse.clocks());
                self.client.query(&self.pulse_alone, &[]).await?
            }
            Err(error) => return Err(error),
        };
        let Some(row) = rows.first() else { return Ok(Err(Stranger::Recreated)) };
        match self.pulse.recognise(&clocks, row)? {
            Err(stranger) => return Ok(Err(stranger)),
            Ok(()) if !row.try_get("stands")? => return Ok(Err(Stranger::Recreated)),
            Ok(()) => self.pulse.beaten(sent),
        }
        rows.iter().filter_map(|row| Holder::of(row).transpose()).collect::<Result<_, _>>().map(Ok)
    }

    /// Looks at the other sessions, as they were when that was asked: ends those that are silent.
    async fn look(&mut self, asked: Instant, others: Vec<Holder>) -> Result<(), Error> {
        let obstacles = self.others.look(asked, others, Through::Lock(&self.client)).await?;
        self.obstacles.set(Noticed::OnSessions, obstacles);
        Ok(())
    }
}

fn is_undefined(error: &Error) -> bool {
    matches!(error.code(), Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME))
}

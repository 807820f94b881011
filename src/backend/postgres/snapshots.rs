//! The oldest snapshot in the database, which keeps the server from dropping dead versions of rows.
//!
//! Each claim and each end writes a new version of the row of its name. While a snapshot may still need the
//! old ones, every look for that row passes them all.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use callsheet_actors::{DurationText, adapter::one_line};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Error, Row, Statement};

use super::lock_holders::{end_of, process};

/// A session looks once in this many leases: what it asks while it is idle is bounded.
const LOOK_LEASES: u32 = 6;
/// A snapshot that is seen for this many leases is named in the log.
const NAMED_LEASES: u32 = 12;
/// A look may take the lease divided by this. It is worth no session.
const LOOK_PART: u32 = 4;
/// The longest name of a replication slot or a prepared transaction that is shown, in bytes.
const NAME_MAX: usize = 64;

/// Who keeps the oldest dead versions of rows of this database, if anybody does: a process of the server (a
/// transaction, or a standby that gives feedback), a replication slot, or a prepared transaction. A vacuum
/// keeps none.
///
/// Every role is shown which transactions a process needs; since when, and what it does, only some are.
pub(super) const OLDEST_SNAPSHOT: &str = "
SELECT pid, role, application, slot, prepared, xid::text AS xid
FROM (
    SELECT a.pid, pg_get_userbyid(a.usesysid)::text AS role, a.application_name AS application,
           NULL::text AS slot, NULL::text AS prepared,
           CASE WHEN age(a.backend_xid) >= age(a.backend_xmin) THEN a.backend_xid
                ELSE coalesce(a.backend_xmin, a.backend_xid) END AS xid
    FROM pg_stat_get_activity(NULL) AS a
    -- The process of a standby has no database.
    WHERE (a.datid IS NULL OR a.datid = (SELECT oid FROM pg_database WHERE datname = current_database()))
      AND a.pid <> pg_backend_pid() AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)
    UNION ALL
    SELECT active_pid, NULL, NULL, slot_name::text, NULL, xmin FROM pg_replication_slots
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, gid, transaction FROM pg_prepared_xacts WHERE database = current_database()
) AS s
WHERE xid IS NOT NULL ORDER BY age(xid) DESC LIMIT 1";

/// Looks at the oldest snapshot once in six leases.
pub(super) struct Snapshots {
    oldest_snapshot: Statement,
    lease: Duration,
    oldest: Option<Oldest>,
    age: Arc<SnapshotAge>,
}

/// For how long a session has seen one and the same snapshot as the oldest of the database.
#[derive(Debug, Default)]
pub(super) struct SnapshotAge(Mutex<Option<Instant>>);

#[derive(Debug)]
struct Oldest {
    snapshot: Snapshot,
    since: Instant,
    named: bool,
}

/// Who has it, and the oldest transaction that it does not see.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Snapshot {
    who: Who,
    xid: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Process { pid: i32, role: String, application: String },
    Slot(String),
    Prepared(String),
}

impl SnapshotAge {
    /// Zero unless it was seen twice.
    pub(super) fn read(&self) -> Duration {
        self.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn set(&self, since: Option<Instant>) {
        *self.lock() = since;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshots {
    pub(super) fn new(oldest_snapshot: Statement, lease: Duration, age: Arc<SnapshotAge>) -> Self {
        Self { oldest_snapshot, lease, oldest: None, age }
    }

    /// Looks for the first time after a lease, and then once in six leases.
    pub(super) async fn run(mut self, client: &Client) -> Infallible {
        let mut pause = self.lease;
        loop {
            sleep(pause).await;
            self.look_in_time(client).await;
            pause = self.lease * LOOK_LEASES;
        }
    }

    /// What is not answered in time, or refused, is not known, and no session is lost for it.
    async fn look_in_time(&mut self, client: &Client) {
        let now = Instant::now();
        let asked = timeout(self.lease / LOOK_PART, client.query_opt(&self.oldest_snapshot, &[])).await;
        let Ok(Ok(row)) = asked else { return };
        match row.as_ref().map(Snapshot::of).transpose() {
            Ok(snapshot) => self.take(snapshot, now),
            Err(error) => tracing::debug!(target: "callsheet", "the oldest snapshot cannot be read: {error}"),
        }
    }

    /// Takes in what a look at `now` showed.
    fn take(&mut self, snapshot: Option<Snapshot>, now: Instant) {
        let before = self.oldest.take();
        let Some(snapshot) = snapshot else {
            self.say_ended(before);
            return self.age.set(None);
        };
        let mut oldest = match before {
            Some(before) if before.snapshot == snapshot => before,
            before => {
                self.say_ended(before);
                self.age.set(None);
                self.oldest = Some(Oldest { snapshot, since: now, named: false });
                return;
            }
        };
        self.age.set(Some(oldest.since));
        let age = now.saturating_duration_since(oldest.since);
        if age >= self.lease * NAMED_LEASES && !oldest.named {
            oldest.named = true;
            let (who, cure) = (&oldest.snapshot.who, oldest.snapshot.who.cure());
            tracing::warn!(
                target: "callsheet",
                "{who} has had a snapshot for {} or longer: no version of a row that was written since can be \
                 dropped, so that claims of jobs that run often become slower; {cure}",
                DurationText(age)
            );
        }
        self.oldest = Some(oldest);
    }

    fn say_ended(&self, before: Option<Oldest>) {
        if let Some(Oldest { snapshot: Snapshot { who, .. }, since, named: true }) = before {
            let lasted = DurationText(since.elapsed());
            tracing::info!(target: "callsheet", "the snapshot of {who} is over after {lasted}");
        }
    }
}

impl Snapshot {
    fn of(row: &Row) -> Result<Self, Error> {
        let text = |column: &str| row.try_get::<_, Option<String>>(column);
        let who = match (text("slot")?, text("prepared")?) {
            (Some(slot), _) => Who::Slot(slot),
            (None, Some(prepared)) => Who::Prepared(prepared),
            (None, None) => Who::Process {
                pid: row.try_get("pid")?,
                role: text("role")?.unwrap_or_default(),
                application: text("application")?.unwrap_or_default(),
            },
        };
        Ok(Self { who, xid: row.try_get("xid")? })
    }
}

impl Who {
    fn cure(&self) -> String {
        match self {
            Self::Process { pid, .. } => format!(
                "let it end, or {}; if it serves a standby, set hot_standby_feedback = off there",
                end_of(*pid)
            ),
            Self::Slot(_) => {
                "set hot_standby_feedback = off on its standby, or, if that is gone for good, drop the \
                              slot with pg_drop_replication_slot"
                    .to_owned()
            }
            Self::Prepared(_) => "commit it or roll it back (COMMIT PREPARED, ROLLBACK PREPARED)".to_owned(),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, role, application } => f.write_str(&process(*pid, role, application)),
            Self::Slot(name) => write!(f, "the replication slot {:?}", one_line(name, NAME_MAX)),
            Self::Prepared(name) => write!(f, "the prepared transaction {:?}", one_line(name, NAME_MAX)),
        }
    }
}

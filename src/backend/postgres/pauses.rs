//! Pauses of jobs, until the row of each could be changed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use callsheet_actors::{
    CALL_DEADLINE, JobName,
    port::{LockError, Pause},
};
use tokio::time::{Instant, sleep};
use tokio_postgres::Statement;

use super::{
    session::OpenSession,
    settings::LOCK_TIMEOUT,
    statement::{answer::read, pause},
};

/// How long a change may take in all that waits for rows which others have locked: a little less than the
/// engine waits, whatever the lease, so that no statement is given up on, and the session with it.
pub(super) const CHANGE_TIMEOUT: Duration = CALL_DEADLINE.saturating_sub(Duration::from_millis(500));
/// How often a job that is to be paused may be found locked before its row is waited for.
const SKIPS_MAX: usize = 5;
/// The pause before a row that somebody else has locked is asked for again; it doubles up to [`LOCKED_MAX`].
pub(super) const LOCKED_MIN: Duration = Duration::from_millis(2);
pub(super) const LOCKED_MAX: Duration = Duration::from_millis(100);

impl OpenSession {
    /// Until the row of each job could be changed.
    pub(super) async fn pause(
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
        let notified = pause::notified(pause);
        let asked = pause::Parameters::of(self.asker(), jobs, pause, &notified);
        match self.ask(statement, &asked.list()).await {
            Ok(rows) => read(&rows, pause::changed),
            // It was waited for in vain.
            Err(error) if error.is_lock_timeout() => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

//! Forgets names that are out of use, page by page.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    JobName, Term,
    port::{AGES_AT_MOST, Forgotten, LockError},
};
use tokio::time::{Instant, sleep};
use tokio_postgres::types::ToSql;

use super::{
    locker::{number, read},
    session::{OpenSession, Refusal},
};

/// How many names are looked at by one statement, which keeps claims waiting for the leader row as a renewal does.
const PAGE: i64 = 256;
/// The pause between two of them.
const PAGE_PAUSE: Duration = Duration::from_millis(20);
/// How long one call goes on.
const FORGET_MAX: Duration = Duration::from_secs(1);

/// How far a session has forgotten names.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    /// The last name, and its age, that it looked at, if there are more.
    last: Option<(i64, String)>,
    /// The age of the oldest name, or less, once all were looked at that were old enough.
    oldest: Option<i64>,
}

impl OpenSession {
    pub(super) async fn forget(
        self: &Arc<Self>,
        term: Term,
        after: Duration,
    ) -> Result<Forgotten, LockError> {
        let until = Instant::now() + FORGET_MAX.min(self.settings.trust() / 4);
        let (scope, term) = (&self.settings.scope, number(term));
        let (after, gap) = (millis(after), millis(AGES_AT_MOST));
        // One row, of which the place is known: it takes no longer than a renewal.
        let aged = self.ask(&self.statements.age, &[scope, &self.beacon, &term, &gap]).await;
        let ages = read(&aged.map_err(Refusal::into_lock_error)?, |row| row.try_get::<_, i64>("age"))?;
        let Some(age) = ages.first() else {
            // The term is over.
            return Ok(Forgotten::default());
        };
        let mut forgotten = Forgotten::default();
        let mut place = self.forgetting.lock().await;
        let Forgetting { last, oldest } = &mut *place;
        if last.is_none() && oldest.is_some_and(|oldest| oldest > age.saturating_sub(after)) {
            // Names are held anew, or added: none is older than the oldest that stayed.
            return Ok(forgotten);
        }
        loop {
            let (held_age, name) = last.clone().unwrap_or((-1, String::new()));
            let parameters: [&(dyn ToSql + Sync); 7] =
                [scope, &self.beacon, &term, &after, &PAGE, &held_age, &name];
            let rows = self.ask_in_time(&self.statements.forget, &parameters).await;
            let rows = rows.map_err(Refusal::into_lock_error)?;
            let page = read(&rows, |row| {
                let held_age: Option<i64> = row.try_get("held_age")?;
                let counts: (i64, i64) = (row.try_get("looked")?, row.try_get("gone")?);
                let last = held_age.zip(row.try_get::<_, Option<String>>("name")?);
                Ok((counts, last, row.try_get::<_, Option<i64>>("oldest")?))
            })?;
            let ((looked, gone), place, stayed) = page.into_iter().next().unwrap_or_default();
            forgotten.names += usize::try_from(gone).unwrap_or_default();
            *last = place.filter(|_| looked == PAGE);
            if last.is_none() {
                // Those that were looked at are gone, or as good as new. Without any other, the scope is as good as new.
                *oldest = Some(stayed.unwrap_or(*age));
                return Ok(forgotten);
            }
            if Instant::now() + PAGE_PAUSE >= until {
                return Ok(Forgotten { more: true, ..forgotten });
            }
            sleep(PAGE_PAUSE).await;
        }
    }

    pub(super) async fn hold(self: &Arc<Self>, jobs: &[JobName], fresh: Duration) -> Result<(), LockError> {
        let jobs: Vec<_> = jobs.iter().map(JobName::as_str).collect();
        let held =
            self.ask_in_time(&self.statements.hold, &[&self.settings.scope, &jobs, &millis(fresh)]).await;
        held.map(drop).map_err(Refusal::into_lock_error)
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

//! Forgets names that are out of use, page by page.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    JobName, Term,
    port::{Forgotten, LockError},
};
use tokio::time::{Instant, sleep};

use super::{
    session::OpenSession,
    statement::{
        answer::read,
        forget::{Ages, Held, Page, age, looked, millis},
    },
};

/// How many names are looked at by one statement, which keeps claims waiting for the leader row as a renewal
/// does.
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
        let asker = self.asker();
        // One row, of which the place is known: it takes no longer than a renewal.
        let aged = self.ask(&self.statements.age, &Ages::of(asker, term).list()).await?;
        let Some(age) = read(&aged, age)?.into_iter().next() else {
            // The term is over.
            return Ok(Forgotten::default());
        };
        let mut forgotten = Forgotten::default();
        let mut place = self.forgetting.lock().await;
        let Forgetting { last, oldest } = &mut *place;
        // Names are held again, or added: none is older than the oldest that stayed, nor than the scope.
        if last.is_none() && oldest.unwrap_or(0) > age.saturating_sub(millis(after)) {
            return Ok(forgotten);
        }
        loop {
            let asked = Page::of(asker, term, after, PAGE, last.as_ref());
            let rows = self.ask_in_time(&self.statements.forget, &asked.list()).await?;
            let page = read(&rows, looked)?.into_iter().next().unwrap_or_default();
            forgotten.names += usize::try_from(page.gone).unwrap_or_default();
            *last = page.last.filter(|_| page.looked_at == PAGE);
            if last.is_none() {
                // Those that were looked at are gone, or as good as new. Without any other, the scope is as
                // good as new.
                *oldest = Some(page.next_age.unwrap_or(age));
                return Ok(forgotten);
            }
            if Instant::now() + PAGE_PAUSE >= until {
                return Ok(Forgotten { more: true, ..forgotten });
            }
            sleep(PAGE_PAUSE).await;
        }
    }

    pub(super) async fn keep_names(
        self: &Arc<Self>,
        jobs: &[JobName],
        fresh: Duration,
    ) -> Result<(), LockError> {
        let asked = Held::of(self.asker(), jobs, fresh);
        self.ask_in_time(&self.statements.keep_names, &asked.list()).await?;
        Ok(())
    }
}

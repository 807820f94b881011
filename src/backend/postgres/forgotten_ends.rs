//! Ends of runs whose keys are forgotten: a key is forgotten only while no run holds it, so each of these
//! runs was closed.

use std::{collections::HashMap, sync::Arc};

use callsheet_actors::port::{Completed, Completion, LockError};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{session::OpenSession, statement::answer::read};

/// What became of runs ($1), under their tokens ($2), as far as the table says. Locks nothing.
const OUTCOMES: &str = "
SELECT a.run, r.outcome = 'lost' AS lost
FROM unnest($1::uuid[], $2::int8[]) AS a (run, token)
JOIN runs r ON r.run = a.run AND r.token = a.token";

impl OpenSession {
    /// Answers ends whose keys are not known, by what the table of runs says of them. Of what it does not say
    /// anything, nothing is known.
    pub(super) async fn ends_of_forgotten_keys(
        self: &Arc<Self>,
        ends: &[&Completion],
        answers: &mut [Completed],
    ) -> Result<(), LockError> {
        let unknown = || ends.iter().zip(&*answers).filter(|(_, answer)| **answer == Completed::Unknown);
        let runs: Vec<_> = unknown().map(|(end, _)| end.run.as_uuid()).collect();
        if runs.is_empty() {
            return Ok(());
        }
        let tokens: Vec<_> = unknown().map(|(end, _)| i64::try_from(end.token.0).unwrap_or(-1)).collect();
        let parameters: [&(dyn ToSql + Sync); 2] = [&runs, &tokens];
        let rows = self.ask(OUTCOMES, &parameters).await?;
        let closed =
            read(&rows, |row| Ok((row.try_get::<_, Uuid>("run")?, row.try_get::<_, bool>("lost")?)))?;
        let closed: HashMap<_, _> = closed.into_iter().collect();
        for (end, answer) in ends.iter().zip(answers).filter(|(_, answer)| **answer == Completed::Unknown) {
            *answer = match closed.get(&end.run.as_uuid()) {
                Some(true) => Completed::Stale,
                Some(false) => Completed::Recorded { cursor: None, pause: None },
                None => continue,
            };
        }
        Ok(())
    }
}

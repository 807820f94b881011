//! Moves of cursors.

use std::sync::Arc;

use callsheet_actors::port::{Advanced, CursorAdvance, LockError};

use super::{
    session::{OpenSession, StatementError},
    statement::{
        advance,
        answer::{Answer, in_order},
        names::Found,
    },
};

impl OpenSession {
    pub(super) async fn advance(
        self: &Arc<Self>,
        advances: &[&CursorAdvance],
    ) -> Result<Vec<Advanced>, LockError> {
        let answers = self.advance_once(advances).await?;
        self.finish_advances(advances, answers).await
    }

    pub(super) async fn advance_once(
        self: &Arc<Self>,
        advances: &[&CursorAdvance],
    ) -> Result<Vec<Answer<Advanced>>, StatementError> {
        if advances.is_empty() {
            return Ok(Vec::new());
        }
        let asked = advance::Parameters::of(self.asker(), advances);
        let rows = self.ask(&self.statements.advance, &asked.list()).await?;
        Ok(in_order(advances.len(), &rows, advance::advanced)?)
    }

    /// Answers as well the moves whose rows were missing.
    pub(super) async fn finish_advances(
        self: &Arc<Self>,
        advances: &[&CursorAdvance],
        answers: Vec<Answer<Advanced>>,
    ) -> Result<Vec<Advanced>, LockError> {
        let missing =
            |found: &Found| if found.cursor.is_some() { Advanced::Locked } else { Advanced::Unknown };
        self.or_missing(answers, |at| advances[at].job.as_str(), missing).await
    }
}

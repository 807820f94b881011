//! Moves of cursors.

use std::sync::Arc;

use callsheet_actors::port::{CursorMove, LockError, Moved};

use super::{
    session::{OpenSession, StatementError},
    statement::{
        advance,
        answer::{Answer, in_order},
        names::Found,
    },
};

impl OpenSession {
    pub(super) async fn advance(self: &Arc<Self>, moves: &[&CursorMove]) -> Result<Vec<Moved>, LockError> {
        let answers = self.advance_once(moves).await?;
        self.finish_moves(moves, answers).await
    }

    pub(super) async fn advance_once(
        self: &Arc<Self>,
        moves: &[&CursorMove],
    ) -> Result<Vec<Answer<Moved>>, StatementError> {
        if moves.is_empty() {
            return Ok(Vec::new());
        }
        let asked = advance::Parameters::of(self.asker(), moves);
        let rows = self.ask(&self.statements.advance, &asked.list()).await?;
        Ok(in_order(moves.len(), &rows, advance::moved)?)
    }

    /// Answers as well the moves whose rows were missing.
    pub(super) async fn finish_moves(
        self: &Arc<Self>,
        moves: &[&CursorMove],
        answers: Vec<Answer<Moved>>,
    ) -> Result<Vec<Moved>, LockError> {
        let missing = |found: &Found| if found.cursor.is_some() { Moved::Locked } else { Moved::Unknown };
        self.or_missing(answers, |at| moves[at].job.as_str(), missing).await
    }
}

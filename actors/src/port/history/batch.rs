//! What is written to a history together.

use super::{
    decision::DecisionRecord,
    operation::{OperationRecord, PauseChange},
    run::RunRecord,
};

/// Records on their way to a history.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Batch {
    /// Runs that ended, and runs in progress. Of one run, what comes later counts.
    pub runs: Vec<RunRecord>,
    /// Decisions that started nothing.
    pub decisions: Vec<DecisionRecord>,
    /// What was done to jobs.
    pub operations: Vec<OperationRecord>,
    /// Jobs that were paused, or resumed, in this order.
    pub pauses: Vec<PauseChange>,
}

impl Batch {
    /// How many records it has.
    pub fn len(&self) -> usize {
        self.runs.len() + self.decisions.len() + self.operations.len() + self.pauses.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes its records take, with their texts.
    pub fn bytes(&self) -> usize {
        let runs = self.runs.iter().map(|run| size_of_val(run) + run.text_bytes());
        let decisions = self.decisions.iter().map(|one| size_of_val(one) + one.text_bytes());
        let operations = self.operations.iter().map(|one| size_of_val(one) + one.text_bytes());
        let pauses = self.pauses.iter().map(|one| size_of_val(one) + one.text_bytes());
        runs.chain(decisions).chain(operations).chain(pauses).sum()
    }

    /// Takes in what another one has, which came later.
    pub fn extend(&mut self, later: Self) {
        self.runs.extend(later.runs);
        self.decisions.extend(later.decisions);
        self.operations.extend(later.operations);
        self.pauses.extend(later.pauses);
    }
}

//! The span of a round of claims, for the lines that the store's adapter logs in it, and for how long it took.

use tracing::{Span, field::Empty};

use super::rounds::Round;
use crate::{
    name::NodeId,
    port::{LockError, Verdict},
};

/// How much a round asks.
pub(super) struct Asked {
    pub(super) ends: usize,
    pub(super) claims: usize,
    pub(super) advances: usize,
}

/// The fields are those of the table in the guide to traces.
pub(super) fn of(node: NodeId, asked: &Asked) -> Span {
    let Asked { ends, claims, advances } = *asked;
    tracing::debug_span!(
        // Of its own, as that of a run.
        target: "callsheet::claim_round",
        // It is of many jobs.
        parent: None,
        "claim_round",
        %node,
        claims,
        ends,
        advances,
        granted = Empty,
        outcome = Empty,
        error = Empty,
    )
}

/// The store has answered, or has not.
pub(super) fn answered(span: &Span, round: &Round) {
    if span.is_disabled() {
        return;
    }
    let Round { ended, claimed, advanced, .. } = round;
    let granted = |verdict: &&Verdict| matches!(verdict, Verdict::Granted { .. });
    span.record("granted", claimed.1.iter().flatten().filter(granted).count());
    let errors: [Option<&LockError>; 3] =
        [ended.1.as_ref().err(), claimed.1.as_ref().err(), advanced.1.as_ref().err()];
    match errors.into_iter().flatten().next() {
        Some(error) => {
            span.record("outcome", "failed");
            span.record("error", tracing::field::display(error));
        }
        None => {
            span.record("outcome", "answered");
        }
    }
}

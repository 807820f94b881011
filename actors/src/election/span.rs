//! The span of an election: of one campaign for the lead, from the question to its answer.

use tracing::{Span, field::Empty};

use crate::{name::NodeId, port::Campaign};

/// The fields are those of the table in the guide to traces.
pub(super) fn of(node: NodeId) -> Span {
    tracing::debug_span!(
        // Of its own, as that of a run.
        target: "callsheet::election",
        parent: None,
        "election",
        %node,
        outcome = Empty,
        term = Empty,
        leader = Empty,
        error = Empty,
    )
}

/// The store has answered, or there is a reason why not.
pub(super) fn ended(span: &Span, answer: &Result<Campaign, String>) {
    if span.is_disabled() {
        return;
    }
    match answer {
        Ok(Campaign::Won(grant)) => {
            span.record("outcome", "won");
            span.record("term", grant.term.0);
        }
        Ok(Campaign::Lost { leader, .. }) => {
            span.record("outcome", "lost");
            if let Some(leader) = leader {
                span.record("leader", tracing::field::display(leader));
            }
        }
        Err(reason) => {
            span.record("outcome", "failed");
            span.record("error", reason.as_str());
        }
    }
}

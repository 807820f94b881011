//! The span of a run: one for each attempt, for the lines that its body and its hooks log.

use tracing::{Span, field::Empty};

use crate::{core::job::Start, event::Outcome, name::JobName, name::NodeId};

/// The fields are those of the table at [`Run::span`](crate::Run::span).
pub(crate) fn of(job: &JobName, start: &Start, node: NodeId) -> Span {
    tracing::info_span!(
        // Of its own, so that a filter can ask for the spans without the lines of the engine.
        target: "callsheet::run",
        // Whoever polls the actor of a job, or has triggered it, is not what the run is a part of.
        parent: None,
        "run",
        %job,
        run = %start.run,
        attempt = start.attempt,
        fire_time = start.tick.map(display),
        %node,
        term = start.term.map(|term| term.0),
        token = start.token.map(|token| token.0),
        outcome = Empty,
    )
}

/// The attempt is over.
pub(crate) fn ended(span: &Span, outcome: Outcome) {
    if !span.is_disabled() {
        span.record("outcome", outcome.as_str());
    }
}

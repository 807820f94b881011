//! Policies in words.

use callsheet_actors::{Fires, Misfire, OnLost, Overlap, Policies};
use serde::Serialize;
use utoipa::ToSchema;

use super::span;

/// A policy of a job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyView {
    #[schema(value_type = String)]
    policy: &'static str,
    /// Its value, as in a configuration.
    value: String,
    /// What it does.
    text: String,
}

fn fires(fires: Fires) -> &'static str {
    match fires {
        Fires::Leader => "The leader fires it: each tick starts at most once in the cluster.",
        Fires::AnyNode => "Whichever node claims a tick first runs it.",
        // Also what a later version of the engine adds.
        Fires::Local | _ => "Every node that has it fires it for itself.",
    }
}

fn overlap(overlap: Overlap) -> String {
    match overlap {
        Overlap::Skip => "A tick that comes due during a run is skipped.".to_owned(),
        Overlap::Queue(max) => format!("Up to {max} ticks wait for the end of a run."),
        Overlap::Replace => "A new tick asks the run in progress to stop, and takes its place.".to_owned(),
        Overlap::Allow(max) => format!("Up to {max} runs at once."),
        // What a later version of the engine adds.
        other => other.to_string(),
    }
}

fn misfire(misfire: Misfire) -> (String, String) {
    match misfire {
        Misfire::Auto => (
            "auto".to_owned(),
            "Of missed ticks the newest is made up for, unless the next one is nearer.".to_owned(),
        ),
        Misfire::Latest { within } => (
            format!("latest within {}", span(within)),
            format!("Of missed ticks the newest is made up for, up to {} late.", span(within)),
        ),
        Misfire::All { max, within } => (
            format!("all, {max} within {}", span(within)),
            format!("The newest {max} missed ticks are made up for, up to {} late each.", span(within)),
        ),
        // Also what a later version of the engine adds.
        Misfire::Skip | _ => ("skip".to_owned(), "Missed ticks are skipped.".to_owned()),
    }
}

fn on_lost(on_lost: OnLost) -> &'static str {
    match on_lost {
        OnLost::Retry => "A run whose node dies is run again on another one.",
        // Also what a later version of the engine adds.
        OnLost::Record | _ => "A run whose node dies is recorded as lost.",
    }
}

/// The policies of a job, in the order in which they matter to a run.
pub(crate) fn policies(policies: &Policies) -> Vec<PolicyView> {
    let view = |policy, value: String, text: String| PolicyView { policy, value, text };
    let retry = policies.retry;
    let (misfire, misfire_text) = misfire(policies.misfire);
    let retry_text = match retry.attempts {
        0 | 1 => "A run that fails is not tried again.".to_owned(),
        attempts => format!(
            "Up to {attempts} attempts; the pause before the next one grows from {} to {}.",
            span(retry.initial),
            span(retry.max)
        ),
    };
    let mut all = vec![
        view("fires", policies.fires.to_string(), fires(policies.fires).to_owned()),
        view("overlap", policies.overlap.to_string(), overlap(policies.overlap)),
        view("misfire", misfire, misfire_text),
        view(
            "misfire_after",
            span(policies.misfire_after),
            format!("A tick counts as missed when it is more than {} late.", span(policies.misfire_after)),
        ),
        view("retry", format!("{} attempts", retry.attempts), retry_text),
        view("on_lost", policies.on_lost.to_string(), on_lost(policies.on_lost).to_owned()),
    ];
    if let Some(timeout) = policies.timeout {
        all.push(view("timeout", span(timeout), format!("A run is asked to stop after {}.", span(timeout))));
    }
    let after = span(policies.abort_after);
    let text = format!("A run that was asked to stop, and goes on, is aborted {after} later.");
    all.push(view("abort_after", after, text));
    if let Some(limit) = policies.limit {
        all.push(view("limit", limit.to_string(), format!("It has {limit} runs, and no more.")));
    }
    if let Some(after) = policies.pause_after {
        let text = format!("It is paused when {after} runs in a row have failed.");
        all.push(view("pause_after", after.to_string(), text));
    }
    if policies.priority != 0 {
        let text = "When the node has no slot left, jobs of a higher priority go first.".to_owned();
        all.push(view("priority", policies.priority.to_string(), text));
    }
    all
}

//! What follows from an answer of the store, whichever way it was asked: what is counted, what the supervisor
//! has to know, and what the job is told of the end of a run.

use std::sync::Arc;

use actix::prelude::*;

use super::{actor::publish_lost, report::Report};
use crate::{
    core::{
        job::{Advance, Input},
        operation::Operation,
    },
    event::EventKind,
    job::{Answers, JobHandle, record_own_pause},
    node::Node,
    port::{Advanced, Completed, Completion, TickClaim, Verdict},
};

/// A claim was answered.
pub(super) fn after_claim(
    job: &Arc<JobHandle>,
    tick: Option<&TickClaim>,
    verdict: &Verdict,
    reports: &Recipient<Report>,
) {
    let name = || job.definition.name.clone();
    match verdict {
        Verdict::Granted { lost, .. } => {
            if let Some(lost) = lost {
                publish_lost(job.node(), lost);
                reports.do_send(Report::RunsLost(vec![(**lost).clone()]));
            }
            tick.iter().for_each(|tick| job.meters.committed(1, &tick.skips));
        }
        // Nobody else knows what was skipped before it.
        Verdict::TakenElsewhere { .. } => tick.iter().for_each(|tick| job.meters.committed(0, &tick.skips)),
        Verdict::GrantedBefore => tick.iter().for_each(|tick| job.meters.committed(1, &tick.skips)),
        Verdict::Deposed { .. } => {
            let term = tick.and_then(|tick| tick.authority.term());
            term.iter().for_each(|term| reports.do_send(Report::Deposed(*term)));
        }
        Verdict::HasLeader => reports.do_send(Report::TakenByLeader(name())),
        Verdict::Unknown => reports.do_send(Report::UnknownToStore(name())),
        Verdict::Unavailable { .. }
        | Verdict::Locked { .. }
        | Verdict::Elsewhere { .. }
        | Verdict::NotGranted
        | Verdict::RanBefore { .. }
        | Verdict::AlreadyRun { .. }
        | Verdict::Busy { .. }
        | Verdict::NotYet { .. }
        | Verdict::Paused(_)
        | Verdict::Exhausted
        | Verdict::Contended
        | Verdict::Lapsed { .. }
        | Verdict::BadData { .. } => {}
    }
}

/// An advance of a cursor was answered.
pub(super) fn after_advance(
    job: &Arc<JobHandle>,
    advance: &Advance,
    answer: &Advanced,
    reports: &Recipient<Report>,
) {
    let name = || job.definition.name.clone();
    match answer {
        Advanced::Done => job.meters.committed(0, &advance.skips),
        Advanced::Deposed { .. } => {
            let term = advance.authority.term();
            term.iter().for_each(|term| reports.do_send(Report::Deposed(*term)));
        }
        Advanced::HasLeader => reports.do_send(Report::TakenByLeader(name())),
        Advanced::Unknown => reports.do_send(Report::UnknownToStore(name())),
        Advanced::Unavailable { .. }
        | Advanced::Elsewhere { .. }
        | Advanced::BadData { .. }
        | Advanced::Locked => {}
    }
}

/// The end of a run was answered: says if the store did not take it.
pub(super) fn note_end(node: &Node, end: &Completion, answer: &Completed, reports: &Recipient<Report>) {
    if *answer == Completed::Unknown {
        reports.do_send(Report::UnknownToStore(end.job.clone()));
    }
    if matches!(answer, Completed::Stale | Completed::Unknown) {
        node.meters.coordination_error(Operation::StaleCompletion);
        tracing::warn!(target: "callsheet", job = %end.job, run = %end.run, "a completion was refused");
    }
}

/// What the job is told once it is known what became of the end of a run.
pub(super) fn after_end(job: &JobHandle, from_completion: bool, answer: &Completed) -> Answers {
    let (cursor, pause) = match answer {
        Completed::Recorded { cursor, pause } => (*cursor, pause.as_ref()),
        Completed::Stale | Completed::Unknown | Completed::Locked | Completed::Unavailable { .. } => {
            (None, None)
        }
    };
    let mut told = Answers::default();
    if from_completion {
        // Whatever the answer is: the job waits for it.
        told.push(Input::Anchored { cursor });
    }
    if let Some(pause) = pause {
        let (name, pause) = (job.definition.name.clone(), pause.clone().cut());
        record_own_pause(job, &pause);
        job.node().publisher.publish(|| EventKind::JobPaused { job: name, pause: pause.clone() });
        told.push(Input::Pause(Some(pause)));
    }
    told
}

//! A run is triggered on one node of the cluster.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::Instrument;

use super::{
    super::{
        asking::Caller,
        performing::is_triggerable,
        wire::{Ask, Reply, kind},
    },
    Call,
};
use crate::{
    core::control::{Unconfirmed, WhyUnconfirmed},
    error::{ClusterError, ErrorKind, Fault, given_name},
    job::JobState,
    message::{TriggerJob, TriggeredOn},
    note::Attribution,
    port::{AskedNode, To},
};

/// With less time than this left the node that has the job is not asked to start it: it would not hear of it.
const TRIGGER_WITHIN_MIN: Duration = Duration::from_millis(10);

impl Call for TriggerJob {
    /// This node, if it has the job. Else it asks which nodes have it, and then one of them: of two that were asked at
    /// once, both might start it.
    async fn call(self, caller: Caller) -> Result<TriggeredOn, ClusterError> {
        let Self { job, fire_time, arguments, asked, request } = self;
        let invalid =
            |fault: Fault| ClusterError::Invalid(fault.within(&format!("job {:?}", given_name(&job))).into());
        let arguments = arguments.transpose().map_err(invalid)?;
        let trigger = Ask::Trigger { job: job.clone(), fire_time, arguments };
        match caller.own(&trigger, &asked).instrument(request).await {
            Some(Reply::Unknown) => {}
            Some(reply) => return triggered(caller.own, reply),
            None => return Err(caller.own_unanswered()),
        }
        let mut last = Err(ClusterError::UnknownJob { name: given_name(&job) });
        for holder in able(&caller, &job).await? {
            if caller.until.saturating_duration_since(Instant::now()) < TRIGGER_WITHIN_MIN {
                let AskedNode { node, name } = holder;
                let unasked = Unconfirmed { node, name, why: WhyUnconfirmed::NoAnswer };
                return Err(ClusterError::not_all(&[unasked]));
            }
            last = on(&caller, holder, &trigger, &asked).await;
            let has_stopped = |error: &ClusterError| error.kind() == ErrorKind::Stopped;
            // One that shuts down has not started it: the next one may.
            if !last.as_ref().is_err_and(has_stopped) {
                break;
            }
        }
        last
    }
}

/// Has a node start it.
async fn on(
    caller: &Caller,
    holder: AskedNode,
    trigger: &Ask,
    asked: &Attribution,
) -> Result<TriggeredOn, ClusterError> {
    let mut answers = caller.others(To::Node(holder.node), trigger, asked).await?;
    match answers.replies.pop() {
        Some((from, Reply::Unknown)) => {
            let reply = Reply::refused(ErrorKind::NotFound, "it has let go of the job; ask again");
            triggered(from, reply)
        }
        Some((from, reply)) => triggered(from, reply),
        None => Err(ClusterError::Unanswered { node: holder.node, name: holder.name }),
    }
}

/// The nodes that have a job, those first that can run it by what they say; one at least. A job that has not said in
/// time how it is may still be started, and why it is not the node says itself.
async fn able(caller: &Caller, job: &str) -> Result<Vec<AskedNode>, ClusterError> {
    let Holders { able, others, unconfirmed } = holders(caller, job, is_triggerable).await?;
    let all: Vec<_> = able.into_iter().chain(others).collect();
    match all.is_empty() {
        false => Ok(all),
        true if unconfirmed.is_empty() => Err(ClusterError::UnknownJob { name: given_name(job) }),
        true => Err(ClusterError::not_all(&unconfirmed)),
    }
}

/// The other nodes that have a job.
pub(super) struct Holders {
    /// Those that have it in a state that will do, the leader first.
    pub(super) able: Vec<AskedNode>,
    /// Those that have it in another state, the leader first.
    others: Vec<AskedNode>,
    pub(super) unconfirmed: Vec<Unconfirmed>,
}

/// Which other nodes have a job in a state that will do. Nodes that are silent are waited for as long as none has,
/// but no longer than for half of the time: the rest is for what is asked of that node.
pub(super) async fn holders(
    caller: &Caller,
    job: &str,
    will_do: fn(JobState) -> bool,
) -> Result<Holders, ClusterError> {
    let ask = Ask::Details { job: job.to_owned() };
    let mut until = until_somebody_can(caller, will_do);
    let mut answers = caller.others_until(&ask, &mut until).await?;
    let (mut able, mut others) = (Vec::new(), Vec::new());
    for (from, reply) in std::mem::take(&mut answers.replies) {
        match reply {
            Reply::Details(status) if will_do(status.state) => able.push(from),
            Reply::Details(status) if status.state != JobState::Removed => others.push(from),
            Reply::Details(_) => {}
            Reply::Unknown => {}
            odd => answers.odd(from, &odd),
        }
    }
    able.sort_by_key(|from| Some(from.node) != caller.leader);
    others.sort_by_key(|from| Some(from.node) != caller.leader);
    Ok(Holders { able, others, unconfirmed: answers.unconfirmed })
}

/// By when nodes are to say whether they have the job: half of the time; a quarter once one can run it, and no longer
/// once the leader can.
fn until_somebody_can(
    caller: &Caller,
    will_do: fn(JobState) -> bool,
) -> impl FnMut(&[(AskedNode, Arc<str>)]) -> Instant + use<> {
    let (now, leader) = (Instant::now(), caller.leader);
    let time = caller.until.saturating_duration_since(now);
    let mut until = now + time / 2;
    move |answers| {
        for (from, text) in answers {
            let is_able = match serde_json::from_str(text) {
                Ok(Reply::Details(status)) => will_do(status.state),
                // What it is instead is said when the answers are read.
                Ok(_) | Err(_) => false,
            };
            if is_able {
                let latest = if Some(from.node) == leader { now } else { now + time / 4 };
                until = until.min(latest);
            }
        }
        until
    }
}

fn triggered(from: AskedNode, reply: Reply) -> Result<TriggeredOn, ClusterError> {
    let AskedNode { node, name } = from;
    match reply {
        Reply::Triggered(triggered) => Ok(TriggeredOn { node, name, triggered }),
        Reply::Refused { kind: word, reason } => {
            Err(ClusterError::Refused { node, name, reason, kind: kind(&word) })
        }
        // Its answer is one to another question.
        _odd => Err(ClusterError::Unanswered { node, name }),
    }
}

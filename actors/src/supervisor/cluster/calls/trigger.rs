//! A run is triggered on one node of the cluster.

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
    error::{ClusterError, ErrorKind, Fault, given_name},
    message::{TriggerJob, TriggeredOn},
    name::NodeId,
    note::Attribution,
    port::{AskedNode, To},
};

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
            Reply::Unknown => {}
            reply => return triggered(caller.own, reply),
        }
        let holder = holder(&caller, &job).await?;
        let mut answers = caller.others(To::Node(holder.node), &trigger, &asked).await?;
        match answers.replies.pop() {
            Some((from, Reply::Unknown)) => {
                let reply = Reply::refused(ErrorKind::NotFound, "it has let go of the job; ask again");
                triggered(from, reply)
            }
            Some((from, reply)) => triggered(from, reply),
            None => Err(ClusterError::Unanswered { node: holder.node, name: holder.name }),
        }
    }
}

/// The node that is to run a job: the leader if it has it, otherwise any.
async fn holder(caller: &Caller, job: &str) -> Result<AskedNode, ClusterError> {
    let ask = Ask::Details { job: job.to_owned() };
    let answers = caller.others(To::Others, &ask, &Attribution::default()).await?;
    let (mut able, mut unable) = (Vec::new(), None);
    for (from, reply) in answers.replies {
        let Reply::Details(status) = reply else { continue };
        if is_triggerable(status.state) {
            able.push(from);
        } else {
            unable = Some((from, status.state));
        }
    }
    let is_leader = |from: &AskedNode, leader: Option<NodeId>| Some(from.node) == leader;
    let chosen = able.iter().find(|from| is_leader(from, caller.leader)).or(able.first());
    match (chosen, unable) {
        (Some(chosen), _) => Ok(chosen.clone()),
        (None, Some((AskedNode { node, name }, state))) => {
            let reason = format!("the job is {state} there; look at its details");
            Err(ClusterError::Refused { node, name, reason, kind: ErrorKind::Unavailable })
        }
        (None, None) if answers.unconfirmed.is_empty() => {
            Err(ClusterError::UnknownJob { name: given_name(job) })
        }
        (None, None) => Err(ClusterError::not_all(&answers.unconfirmed)),
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

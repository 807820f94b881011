//! Jobs are paused and resumed. The store keeps that for all nodes; here each of them has heard of it.

use super::{
    super::{
        asking::{Answers, Caller},
        wire::{Ask, Reply, kind},
    },
    Call,
};
use crate::{
    error::{ClusterError, given_name},
    message::{ChangedJobs, PauseJobs, ResumeJobs, Selector},
    note::Attribution,
    port::To,
};

/// This node first, and then the others: they find it done, so that the history has it once.
async fn changed(
    caller: &Caller,
    jobs: Selector,
    ask: Ask,
    asked: &Attribution,
) -> Result<ChangedJobs, ClusterError> {
    let own = caller.own(&ask, asked).await;
    if let Reply::Refused { kind: word, reason } = own {
        let (node, name) = (caller.own.node, caller.own.name.clone());
        return Err(ClusterError::Refused { node, name, reason, kind: kind(&word) });
    }
    let mut answers = caller.others(To::Others, &ask, asked).await?;
    answers.replies.insert(0, (caller.own.clone(), own));
    let (mut changed, mut is_known) = (Vec::new(), false);
    for (from, reply) in std::mem::take(&mut answers.replies) {
        match reply {
            Reply::Changed(jobs) => {
                is_known = true;
                changed.extend(jobs);
            }
            Reply::Unknown => {}
            odd => answers.odd(from, &odd),
        }
    }
    changed.sort();
    changed.dedup();
    let Answers { unconfirmed, .. } = answers;
    match jobs {
        Selector::Name(name) if !is_known && unconfirmed.is_empty() => {
            Err(ClusterError::UnknownJob { name: given_name(&name) })
        }
        Selector::Name(_) | Selector::Tag(_) | Selector::All => {
            Ok(ChangedJobs { jobs: changed, unconfirmed })
        }
    }
}

impl Call for PauseJobs {
    async fn call(self, caller: Caller) -> Result<ChangedJobs, ClusterError> {
        let Self { jobs, until, note, by } = self;
        let ask = Ask::Pause { jobs: jobs.clone(), until, note };
        changed(&caller, jobs, ask, &Attribution { by, note: None }).await
    }
}

impl Call for ResumeJobs {
    async fn call(self, caller: Caller) -> Result<ChangedJobs, ClusterError> {
        let Self { jobs, asked } = self;
        changed(&caller, jobs.clone(), Ask::Resume { jobs }, &asked).await
    }
}

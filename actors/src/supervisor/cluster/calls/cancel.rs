//! Runs are cancelled, whichever nodes they are on.

use super::{
    super::{
        asking::{Answers, Caller},
        wire::{Ask, Reply},
    },
    Call,
};
use crate::{
    error::{ClusterError, given_name},
    message::{CancelRun, CancelRuns, CancelledRun, CancelledRuns, Selector},
    note::Attribution,
};

/// What the nodes have cancelled, and whether one of them knew it.
async fn cancelled(
    caller: &Caller,
    ask: Ask,
    asked: &Attribution,
) -> Result<(CancelledRuns, bool), ClusterError> {
    let mut answers = caller.all(&ask, asked).await?;
    let (mut runs, mut is_known) = (Vec::new(), false);
    for (from, reply) in std::mem::take(&mut answers.replies) {
        match reply {
            Reply::Cancelled { runs: cancelled, is_partial } => {
                is_known = true;
                if is_partial {
                    let rest =
                        "jobs of it have not answered: they were told, and may end runs that are not listed";
                    answers.unable(from.clone(), rest);
                }
                let on_node = |(job, run)| CancelledRun { job, run, node: from.node };
                runs.extend(cancelled.into_iter().map(on_node));
            }
            Reply::Unknown => {}
            odd => answers.odd(from, &odd),
        }
    }
    runs.sort_by(|one: &CancelledRun, other| (&one.job, one.run).cmp(&(&other.job, other.run)));
    let Answers { unconfirmed, .. } = answers;
    Ok((CancelledRuns { runs, unconfirmed }, is_known))
}

impl Call for CancelRun {
    async fn call(self, caller: Caller) -> Result<CancelledRuns, ClusterError> {
        let Self { run, asked } = self;
        let (cancelled, is_known) = cancelled(&caller, Ask::CancelRun { run }, &asked).await?;
        if !is_known && cancelled.unconfirmed.is_empty() {
            return Err(ClusterError::UnknownRun { run });
        }
        Ok(cancelled)
    }
}

impl Call for CancelRuns {
    async fn call(self, caller: Caller) -> Result<CancelledRuns, ClusterError> {
        let Self { jobs, asked } = self;
        let (cancelled, is_known) =
            cancelled(&caller, Ask::CancelRuns { jobs: jobs.clone() }, &asked).await?;
        match jobs {
            Selector::Name(name) if !is_known && cancelled.unconfirmed.is_empty() => {
                Err(ClusterError::UnknownJob { name: given_name(&name) })
            }
            Selector::Name(_) | Selector::Tag(_) | Selector::All => Ok(cancelled),
        }
    }
}

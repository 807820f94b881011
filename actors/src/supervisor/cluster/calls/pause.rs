//! Jobs are paused and resumed. The store keeps that for all nodes; here each of them has heard of it.

use futures_util::future::join_all;

use super::{
    super::{
        super::pausing::SharedJobs,
        asking::{Answers, Caller, body},
        wire::{Ask, Reply, Written, kind},
    },
    Call,
    trigger::{Holders, holders},
};
use crate::{
    error::{ClusterError, given_name},
    job::JobState,
    message::{ChangedJobs, PauseJobs, ResumeJobs, Selector},
    name::JobName,
    note::Attribution,
    port::{AskedNode, REQUEST_BYTES_MAX, To},
};

/// The most bytes of names, as JSON, that are said at once to be written: the rest of a request is for what is asked.
const NAMES_BYTES_MAX: usize = REQUEST_BYTES_MAX / 2;

/// One node writes it, so that the history has it once, and a change that comes after it stands: this node, if it has
/// the jobs. Then the others confirm it, and write it for jobs that the first does not have.
async fn changed(
    caller: &Caller,
    jobs: Selector,
    ask: impl Fn(Written) -> Ask,
    asked: &Attribution,
) -> Result<ChangedJobs, ClusterError> {
    body(&ask(Written::default()))?;
    let others = caller.other_nodes().await?;
    let unanswered = || caller.own_unanswered();
    let shared = caller.in_time(caller.node.send(SharedJobs(jobs.clone()))).await.ok_or_else(unanswered)?;
    let mut written = shared.map_err(|_| ClusterError::ShuttingDown)?;
    let own = caller.own(&ask(Written::default()), asked).await.ok_or_else(unanswered)?;
    let mut first = (caller.own.clone(), own);
    if let (Selector::Name(name), Reply::Unknown) = (&jobs, &first.1) {
        let Holders { able, unconfirmed, .. } =
            holders(caller, name, |state| state != JobState::Removed).await?;
        let Some(holder) = able.into_iter().next() else {
            return answer(jobs, Answers { replies: Vec::new(), unconfirmed });
        };
        let answers = caller.others(To::Node(holder.node), &ask(Written::default()), asked).await?;
        let AskedNode { node, name: called } = holder;
        first = answers.replies.into_iter().next().ok_or(ClusterError::Unanswered { node, name: called })?;
        written = JobName::new(name.as_str()).into_iter().collect();
    }
    if let (AskedNode { node, name }, Reply::Refused { kind: word, reason }) = first {
        return Err(ClusterError::Refused { node, name, reason, kind: kind(&word) });
    }
    let confirmed = parts(written).into_iter().map(|part| {
        let (ask, others) = (ask(part), others.clone());
        async move { caller.confirmed(others, &ask, asked).await }
    });
    let mut answers = Answers { replies: vec![first], unconfirmed: Vec::new() };
    for part in join_all(confirmed).await {
        answers.replies.extend(part.replies);
        answers.unconfirmed.extend(part.unconfirmed);
    }
    answers.unconfirmed.sort_by_key(|unconfirmed| unconfirmed.node);
    answers.unconfirmed.dedup_by_key(|unconfirmed| unconfirmed.node);
    answer(jobs, answers)
}

/// What is written, in parts that fit into a request each: together they mean all jobs.
fn parts(written: Vec<JobName>) -> Vec<Written> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Written::default(), 0);
    for name in written {
        bytes += serde_json::to_string(&name).map_or(0, |text| text.len() + 1);
        if bytes > NAMES_BYTES_MAX {
            bytes = 0;
            let to = part.jobs.last().cloned();
            let next = Written { after: to.clone(), ..Written::default() };
            parts.push(Written { to, ..std::mem::replace(&mut part, next) });
        }
        part.jobs.insert(name);
    }
    parts.push(part);
    parts
}

fn answer(jobs: Selector, mut answers: Answers) -> Result<ChangedJobs, ClusterError> {
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
        let selected = jobs.clone();
        let ask = |written| Ask::Pause { jobs: selected.clone(), until, note: note.clone(), written };
        changed(&caller, jobs, ask, &Attribution { by, note: None }).await
    }
}

impl Call for ResumeJobs {
    async fn call(self, caller: Caller) -> Result<ChangedJobs, ClusterError> {
        let Self { jobs, asked } = self;
        let selected = jobs.clone();
        changed(&caller, jobs, |written| Ask::Resume { jobs: selected.clone(), written }, &asked).await
    }
}

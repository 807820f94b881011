//! Who the nodes of the cluster are, and whether they have the same jobs in their code.
//!
//! A node says which tasks and which jobs it has in the table of sessions: when its session was opened, and soon after
//! its jobs have changed. Once a minute it looks what the others say: [`DriftWatch`] decides which differences are to
//! be said.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;

use super::{
    super::{Phase, SupervisorActor},
    asking::Caller,
    calls::Call,
    serving::call,
    wire::{Ask, Description, Reply, TASKS_NAMED_MAX},
};
use crate::{
    core::{
        control::{DriftWatch, JobSet, NodeRow, OwnJobs, Stamp},
        operation::Operation,
        sweep::Sweep,
    },
    error::ClusterError,
    event::EventKind,
    message::{ActiveRuns, NodeList, NodeNow, NodeStatus, Nodes},
    name::{JobName, NodeId},
    note::Attribution,
    port::{ControlError, DESCRIPTION_BYTES_MAX, Role},
};

/// How often a node looks what others say of themselves.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long after an operation that failed it looks again: what failed may be well again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long after its session was opened, or its jobs have changed, it looks: more jobs are added then. A difference
/// has to last for [`LOOK_EVERY`], so two nodes that are changed at once do not differ.
const LOOK_SOON: Duration = Duration::from_secs(2);
/// How many jobs at a time are taken into a fingerprint.
const SWEEP_PAGE: usize = 1_000;
/// The pause between two pages of them.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);

/// What this node has said of itself, and what it knows of others.
#[derive(Default)]
pub(in super::super) struct Describing {
    looking: Option<SpawnHandle>,
    /// It looks within [`LOOK_SOON`].
    is_soon: bool,
    own: OwnJobs,
    drift: DriftWatch,
}

/// The jobs of the node's code, as far as they are counted.
struct Count {
    of: Stamp,
    sweep: Sweep<JobName>,
    set: JobSet,
}

/// Asks this node how it is.
#[derive(Message)]
#[rtype(result = "NodeNow")]
pub(super) struct HowNow;

/// Asks this node for all that it can say of itself.
#[derive(Message)]
#[rtype(result = "NodeStatus")]
struct OwnStatus;

impl SupervisorActor {
    /// A session was opened: the node says who it is, and looks at the others from then on.
    pub(in super::super) fn begin_describing(&mut self, ctx: &mut Context<Self>) {
        if self.parts.control.is_some() {
            self.describing.own.session_opened();
            self.look_at_nodes_soon(ctx);
        }
    }

    /// A job was added or changed, or is to be removed. A stored one is none of the node's code.
    pub(in super::super) fn job_changed(&mut self, job: &JobName, ctx: &mut Context<Self>) {
        if self.parts.control.is_some() && !self.keeping.machine.is_held(job.as_str()) {
            self.describing.own.changed();
            // Without a session it is said when one was opened.
            if self.connected && !self.describing.is_soon {
                self.look_at_nodes_soon(ctx);
            }
        }
    }

    fn look_at_nodes_soon(&mut self, ctx: &mut Context<Self>) {
        self.describing.is_soon = true;
        let looking = ctx.run_later(LOOK_SOON, Self::look_at_nodes);
        self.looks_at_nodes(looking, ctx);
    }

    /// Looks after a pause. If nothing is to be looked at once more, it may take longer, until it is worthwhile.
    fn look_at_nodes_later(&mut self, ctx: &mut Context<Self>) {
        let looking = if self.describing.drift.is_unsure() {
            ctx.run_later(LOOK_EVERY, Self::look_at_nodes)
        } else {
            self.look_again(LOOK_EVERY, ctx, Self::look_at_nodes)
        };
        self.looks_at_nodes(looking, ctx);
    }

    fn looks_at_nodes(&mut self, looking: SpawnHandle, ctx: &mut Context<Self>) {
        if let Some(former) = self.describing.looking.replace(looking) {
            ctx.cancel_future(former);
        }
    }

    fn look_at_nodes(&mut self, ctx: &mut Context<Self>) {
        self.describing.is_soon = false;
        if matches!(self.phase, Phase::Running) {
            // A hint may be lost.
            self.take_requests(ctx);
            let of = self.describing.own.stamp();
            self.count_jobs(Count { of, sweep: Sweep::default(), set: JobSet::default() }, ctx);
        }
    }

    /// Counts which jobs there are, page by page, if that has changed.
    fn count_jobs(&mut self, mut count: Count, ctx: &mut Context<Self>) {
        if count.of != self.describing.own.stamp() {
            // It looks again soon. What was counted before the change may be wrong.
            return;
        }
        if let Some(set) = self.describing.own.known() {
            return self.describe(set, ctx);
        }
        for (name, entry) in count.sweep.next_page(&self.jobs, SWEEP_PAGE, |_| true) {
            if !self.keeping.machine.is_held(name.as_str()) {
                count.set.add(name.as_str(), &entry.job.definition.identity.to_string());
            }
        }
        if count.sweep.goes_on() {
            ctx.run_later(SWEEP_PAUSE, move |actor, ctx| actor.count_jobs(count, ctx));
            return;
        }
        self.describing.own.counted(count.set);
        self.describe(count.set, ctx);
    }

    /// Says which jobs there are, unless it was said, and looks at the others.
    fn describe(&mut self, set: JobSet, ctx: &mut Context<Self>) {
        let Some(control) = self.parts.control.clone() else { return };
        let (of, text) = (self.describing.own.stamp(), self.description(set));
        let is_news = self.describing.own.is_news(&text);
        let asked = async move {
            if is_news {
                call(control.describe(text.clone())).await?;
            }
            Ok((text, call(control.nodes()).await?))
        };
        ctx.spawn(asked.into_actor(self).map(
            move |answer: Result<_, ControlError>, actor, ctx| match answer {
                Ok((text, nodes)) => {
                    actor.node().failures.succeeded(Operation::Control);
                    if actor.describing.own.said(of, text) {
                        actor.compare_jobs(set, &nodes);
                    }
                    if !actor.describing.is_soon {
                        actor.look_at_nodes_later(ctx);
                    }
                }
                Err(error) => actor.on_control_failed(&error, ctx),
            },
        ));
    }

    /// The store did not do what was asked of it: it is asked again soon, so that a fault that is over is seen to be
    /// over.
    pub(super) fn on_control_failed(&mut self, error: &ControlError, ctx: &mut Context<Self>) {
        self.node().failures.failed(Operation::Control, error);
        if !self.describing.is_soon {
            let looking = ctx.run_later(LOOK_AGAIN, Self::look_at_nodes);
            self.looks_at_nodes(looking, ctx);
        }
    }

    /// What this node says of itself.
    fn description(&self, set: JobSet) -> Arc<str> {
        let mut tasks = self.task_names();
        loop {
            let description = Description { tasks: tasks.clone(), code_jobs: Some(set) };
            let text = serde_json::to_string(&description).unwrap_or_default();
            if text.len() <= DESCRIPTION_BYTES_MAX || tasks.is_empty() {
                return text.into();
            }
            tasks.truncate(tasks.len() / 2);
        }
    }

    fn task_names(&self) -> Vec<Arc<str>> {
        self.parts.tasks.names().map(Arc::from).take(TASKS_NAMED_MAX).collect()
    }

    fn compare_jobs(&mut self, own: JobSet, nodes: &[NodeRow]) {
        let node = self.node().clone();
        let others = nodes.iter().filter(|row| row.node != node.id);
        let others = others.filter_map(|row| Some((row.node, said(row).code_jobs?)));
        for (other_node, other) in self.describing.drift.look(own, others.collect::<Vec<_>>()) {
            node.publisher.publish(|| EventKind::JobSetDrift { own, other, other_node });
        }
        node.meters.job_set_drift.set(self.describing.drift.differing() as f64);
    }
}

/// What a node says of itself. Nobody knows who wrote it: what cannot be read says nothing.
fn said(row: &NodeRow) -> Description {
    let nothing = Description { tasks: Vec::new(), code_jobs: None };
    let text = row.description.as_deref().filter(|text| text.len() <= DESCRIPTION_BYTES_MAX);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(nothing)
}

impl Handler<HowNow> for SupervisorActor {
    type Result = ResponseFuture<NodeNow>;

    fn handle(&mut self, HowNow: HowNow, ctx: &mut Self::Context) -> Self::Result {
        let ahead = self.node().locker.clock_ahead().as_seconds_f64();
        let (jobs, own) = (self.jobs.len(), ctx.address());
        Box::pin(async move {
            // Only how many there are.
            let runs = own.send(ActiveRuns::default().limit(1)).await.map_or(0, |runs| runs.count);
            NodeNow::new(ahead, jobs, runs)
        })
    }
}

impl Handler<OwnStatus> for SupervisorActor {
    type Result = MessageResult<OwnStatus>;

    fn handle(&mut self, OwnStatus: OwnStatus, _: &mut Self::Context) -> Self::Result {
        let node = self.node();
        let (wall, elapsed) = node.clock.read();
        let term = node.leadership.term(elapsed);
        MessageResult(NodeStatus {
            node: node.id,
            name: node.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            role: self.role(term),
            term,
            since: wall - elapsed.saturating_sub(self.connected_since),
            seen_at: None,
            zone_data: node.zone_data.clone(),
            tasks: self.task_names(),
            code_jobs: None,
            now: None,
            is_asked: true,
        })
    }
}

fn status(row: NodeRow, own: NodeId) -> NodeStatus {
    let Description { tasks, code_jobs } = said(&row);
    NodeStatus {
        role: if row.term.is_some() { Role::Leader } else { Role::Follower },
        node: row.node,
        name: row.name,
        version: row.version,
        term: row.term,
        since: row.since,
        seen_at: row.seen_at,
        zone_data: row.zone_data,
        tasks,
        code_jobs,
        now: None,
        is_asked: row.node == own,
    }
}

impl Call for Nodes {
    async fn call(self, caller: Caller) -> Result<NodeList, ClusterError> {
        let asked = Attribution::default();
        let own = caller.in_time(caller.node.send(OwnStatus)).await;
        let own = own.ok_or_else(|| caller.own_unanswered())?.map_err(|_| ClusterError::ShuttingDown)?;
        let rows = caller.rows().await?;
        let mut nodes: Vec<_> = rows.into_iter().map(|row| status(row, caller.own.node)).collect();
        match nodes.iter_mut().find(|node| node.is_asked) {
            // It knows it better than the table.
            Some(node) => node.tasks = own.tasks,
            None => nodes.push(own),
        }
        let mut answers = caller.all(&Ask::Now, &asked).await?;
        for (from, reply) in std::mem::take(&mut answers.replies) {
            match reply {
                Reply::Now(now) => {
                    if let Some(node) = nodes.iter_mut().find(|node| node.node == from.node) {
                        node.now = Some(now);
                    }
                }
                odd => answers.odd(from, &odd),
            }
        }
        Ok(NodeList { nodes, unconfirmed: answers.unconfirmed })
    }
}

//! How a node asks the others, and waits for their answers.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use futures_util::future::{Either, join, select};
use serde_json::to_string;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::{
    super::SupervisorActor,
    performing::perform,
    serving::call,
    wire::{Ask, Reply},
};
use crate::{
    contained::caught,
    core::{
        control::{CLUSTER_WITHIN_MAX, CLUSTER_WITHIN_MIN, Gathering, Unconfirmed, WhyUnconfirmed},
        duration::DurationText,
        text::{TEXT_MAX, bounded},
    },
    error::{ClusterError, Fault},
    message::CanAsk,
    name::NodeId,
    note::Attribution,
    port::{
        ANSWERS_BYTES_MAX, AskedNode, Control, ControlRequest, NodeRow, Posted, REQUEST_BYTES_MAX,
        REQUESTS_OPEN_MAX, To,
    },
};

/// How often the store is asked for answers, though nothing was heard of any.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What is answered within this time of a hint is read together.
const COALESCED: Duration = Duration::from_millis(5);

/// The node that asks, on behalf of somebody.
pub(super) struct Caller {
    pub(super) own: AskedNode,
    pub(super) node: Addr<SupervisorActor>,
    /// `None`: there is no other node.
    pub(super) control: Option<Arc<dyn Control>>,
    /// The node that leads, if it is known.
    pub(super) leader: Option<NodeId>,
    /// By when all is to be answered.
    pub(super) until: Instant,
}

/// What nodes have answered, and who has not.
pub(super) struct Answers {
    pub(super) replies: Vec<(AskedNode, Reply)>,
    pub(super) unconfirmed: Vec<Unconfirmed>,
}

impl SupervisorActor {
    /// This node, to ask the others; unless the backend does not let it.
    pub(super) fn caller(&self, within: Duration, node: Addr<Self>) -> Result<Caller, ClusterError> {
        if !matches!(self.phase, super::super::Phase::Running) {
            return Err(ClusterError::ShuttingDown);
        }
        if !(CLUSTER_WITHIN_MIN..=CLUSTER_WITHIN_MAX).contains(&within) {
            let (min, max) = (DurationText(CLUSTER_WITHIN_MIN), DurationText(CLUSTER_WITHIN_MAX));
            let rule = format!("nodes have at least {min} and at most {max} to answer");
            let cure = "choose a time in this range; 5s is the default";
            let fault = Fault::new("within", DurationText(within).to_string(), rule, cure);
            return Err(ClusterError::Invalid(fault.into()));
        }
        let able = self.parts.able;
        if self.parts.control.is_none() && !able.single_node {
            return Err(ClusterError::Unsupported { backend: able.backend });
        }
        let own = self.node();
        Ok(Caller {
            own: AskedNode { node: own.id, name: own.name.clone() },
            node,
            control: self.parts.control.clone().filter(|_| !able.single_node),
            leader: self.known_leader(),
            until: Instant::now() + within,
        })
    }
}

impl Handler<CanAsk> for SupervisorActor {
    type Result = Result<(), ClusterError>;

    fn handle(&mut self, CanAsk(within): CanAsk, ctx: &mut Self::Context) -> Self::Result {
        self.caller(within, ctx.address()).map(drop)
    }
}

impl Caller {
    /// What this node answers itself; `None`: it has not answered by the deadline.
    pub(super) async fn own(&self, ask: &Ask, asked: &Attribution) -> Option<Reply> {
        self.in_time(perform(&self.node, ask.clone(), asked.clone(), self.until)).await
    }

    /// What comes by the deadline.
    pub(super) async fn in_time<T>(&self, awaited: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.until, awaited).await.ok()
    }

    /// This node has not answered: it may have done it.
    pub(super) fn own_unanswered(&self) -> ClusterError {
        ClusterError::Unanswered { node: self.own.node, name: self.own.name.clone() }
    }

    /// What all nodes answer: this one first. It does nothing if the others cannot be asked.
    pub(super) async fn all(&self, ask: &Ask, asked: &Attribution) -> Result<Answers, ClusterError> {
        let posted = self.post(To::Others, ask, asked, self.until, ask.open_max()).await?;
        let (own, mut answers) = join(self.own(ask, asked), posted.answers(|_| self.until)).await;
        match own {
            Some(own) => answers.replies.insert(0, (self.own.clone(), own)),
            None => answers.unconfirmed.insert(0, unconfirmed(self.own.clone(), WhyUnconfirmed::NoAnswer)),
        }
        Ok(answers)
    }

    /// What other nodes answer, by when all is to be answered.
    pub(super) async fn others(
        &self,
        to: To,
        ask: &Ask,
        asked: &Attribution,
    ) -> Result<Answers, ClusterError> {
        let posted = self.post(to, ask, asked, self.until, ask.open_max()).await?;
        Ok(posted.answers(|_| self.until).await)
    }

    /// What other nodes answer, before something is changed, by an instant. It is asked for it before the first answer,
    /// and after each look for the new answers.
    pub(super) async fn others_until(
        &self,
        ask: &Ask,
        mut until: impl FnMut(&[(AskedNode, Arc<str>)]) -> Instant,
    ) -> Result<Answers, ClusterError> {
        let nobody = Attribution::default();
        let posted = self.post(To::Others, ask, &nobody, until(&[]), REQUESTS_OPEN_MAX).await?;
        Ok(posted.answers(until).await)
    }

    /// What the store knows of the nodes; nothing if there is no other node.
    pub(super) async fn rows(&self) -> Result<Vec<NodeRow>, ClusterError> {
        let Some(control) = &self.control else { return Ok(Vec::new()) };
        let rows = self.in_time(call(control.nodes())).await.ok_or_else(not_in_time)?;
        rows.map_err(|error| unavailable(&error))
    }

    /// The other nodes, before this one does what they are to confirm then.
    pub(super) async fn other_nodes(&self) -> Result<Vec<AskedNode>, ClusterError> {
        let others = self.rows().await?.into_iter().filter(|row| row.node != self.own.node);
        Ok(others.map(|row| AskedNode { node: row.node, name: row.name }).collect())
    }

    /// What other nodes answer to what this one has done. That they cannot be asked is no error any more: they have not
    /// confirmed it.
    pub(super) async fn confirmed(&self, known: Vec<AskedNode>, ask: &Ask, asked: &Attribution) -> Answers {
        match self.others(To::Others, ask, asked).await {
            Ok(answers) => answers,
            Err(error) => {
                let why: Arc<str> = bounded(error, TEXT_MAX).into();
                let of = |node| unconfirmed(node, WhyUnconfirmed::Unable(why.clone()));
                Answers { replies: Vec::new(), unconfirmed: known.into_iter().map(of).collect() }
            }
        }
    }

    /// Posts a request that is to be answered by an instant, unless so many are open.
    async fn post(
        &self,
        to: To,
        ask: &Ask,
        asked: &Attribution,
        until: Instant,
        open_max: usize,
    ) -> Result<Request, ClusterError> {
        let Some(control) = &self.control else { return Ok(Request { of: None, to: Vec::new() }) };
        let request = ControlRequest {
            by: asked.by.clone(),
            note: asked.note.clone(),
            ..ControlRequest::new(Uuid::new_v4(), self.own.node, body(ask)?)
        };
        let within = until.saturating_duration_since(Instant::now());
        let posted = timeout_at(until, call(control.post(&request, to, within, open_max))).await;
        match posted.map_err(|_| not_in_time())?.map_err(|error| unavailable(&error))? {
            Posted::Asked(to) => {
                let of = (!to.is_empty()).then(|| (control.clone(), request.id));
                Ok(Request { of, to })
            }
            Posted::TooMany => Err(ClusterError::TooMany { max: open_max }),
        }
    }
}

fn unavailable(reason: &dyn ToString) -> ClusterError {
    ClusterError::Unavailable { reason: bounded(reason.to_string(), TEXT_MAX) }
}

fn not_in_time() -> ClusterError {
    unavailable(&"the store has not answered within the deadline")
}

fn unconfirmed(AskedNode { node, name }: AskedNode, why: WhyUnconfirmed) -> Unconfirmed {
    Unconfirmed { node, name, why }
}

/// What is asked, as JSON, if it is short enough.
pub(super) fn body(ask: &Ask) -> Result<String, ClusterError> {
    let body = to_string(ask).map_err(|error| unavailable(&error))?;
    if body.len() > REQUEST_BYTES_MAX {
        let rule = format!("what is asked of other nodes has at most {REQUEST_BYTES_MAX} bytes as JSON");
        let fault = Fault::new("request", format!("{} bytes", body.len()), rule, "shorten it");
        return Err(ClusterError::Invalid(fault.into()));
    }
    Ok(body)
}

/// A request that was posted.
struct Request {
    /// Where, and its id; `None`: there is nobody to ask.
    of: Option<(Arc<dyn Control>, Uuid)>,
    to: Vec<AskedNode>,
}

impl Request {
    /// What was answered by an instant, which each answer may change.
    async fn answers(self, until: impl FnMut(&[(AskedNode, Arc<str>)]) -> Instant) -> Answers {
        let mut gathering = Gathering::of(self.to);
        if let Some((control, id)) = self.of {
            gather(&control, id, &mut gathering, until).await;
            // Nobody waits for it. What is not closed is forgotten after its deadline.
            actix::spawn(async move { drop(call(control.close(id)).await) });
        }
        Answers::of(gathering)
    }
}

/// Asks the store for the answers until all are there, or the time is over, which each answer may change.
async fn gather(
    control: &Arc<dyn Control>,
    request: Uuid,
    gathering: &mut Gathering,
    mut until: impl FnMut(&[(AskedNode, Arc<str>)]) -> Instant,
) {
    let (mut seen, mut over) = (0, until(&[]));
    loop {
        let heard = gathering.heard();
        let mut bytes = 0;
        match timeout_at(over, call(control.answers(request, &heard))).await {
            Ok(Ok(heard)) => {
                let known = gathering.answers().len();
                gathering.hear(heard);
                let new = &gathering.answers()[known..];
                bytes = new.iter().map(|(_, text)| text.len()).sum();
                over = until(new);
            }
            // Without an answer it is asked again.
            Ok(Err(_)) => {}
            Err(_) => return,
        }
        if gathering.is_complete() || over <= Instant::now() {
            return;
        }
        // There may be more answers already.
        if bytes < ANSWERS_BYTES_MAX && timeout_at(over, hint(control, &mut seen)).await.is_err() {
            return;
        }
    }
}

/// Waits until it is worthwhile to look for answers.
async fn hint(control: &Arc<dyn Control>, seen: &mut u64) {
    let before = *seen;
    let hinted = caught(async move { control.answered(before).await });
    match select(Box::pin(hinted), Box::pin(sleep(LOOK_EVERY))).await {
        Either::Left((Ok(hints), _)) => {
            *seen = hints;
            sleep(COALESCED).await;
        }
        Either::Left((Err(_), pause)) => pause.await,
        Either::Right(_) => {}
    }
}

impl Answers {
    /// Reads what was gathered.
    fn of(gathering: Gathering) -> Self {
        let (answers, mut open) = gathering.end();
        let mut replies = Vec::with_capacity(answers.len());
        for (asked, text) in answers {
            let why = match serde_json::from_str(&text) {
                Ok(Reply::Unable(reason)) => bounded(&*reason, TEXT_MAX),
                Ok(reply) => {
                    replies.push((asked, reply));
                    continue;
                }
                // It may be anything: the text of the error quotes it.
                Err(error) => bounded(format_args!("its answer cannot be read: {error}"), TEXT_MAX),
            };
            open.push(unconfirmed(asked, WhyUnconfirmed::Unable(why.into())));
        }
        Self { replies, unconfirmed: open }
    }

    /// An answer that is none to the question.
    pub(super) fn odd(&mut self, asked: AskedNode, reply: &Reply) {
        let why = match reply {
            Reply::Refused { reason, .. } => bounded(reason, TEXT_MAX),
            Reply::Now(_)
            | Reply::Runs(_)
            | Reply::Cancelled { .. }
            | Reply::Changed(_)
            | Reply::Triggered(_)
            | Reply::Details(_)
            | Reply::Page(_)
            | Reply::Known
            | Reply::Unknown
            | Reply::Unable(_) => "its answer is one to another question".to_owned(),
        };
        self.unable(asked, why);
    }

    /// A node cannot say, or not all of it.
    pub(super) fn unable(&mut self, asked: AskedNode, why: impl Into<Arc<str>>) {
        self.unconfirmed.push(unconfirmed(asked, WhyUnconfirmed::Unable(why.into())));
    }
}

//! How a node asks the others, and waits for their answers.

use std::{sync::Arc, time::Duration};

use actix::Addr;
use futures_util::future::{Either, join, select};
use serde_json::to_string;
use tokio::time::{Instant, sleep, sleep_until};
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
    name::NodeId,
    note::Attribution,
    port::{AskedNode, Control, ControlRequest, Posted, REQUEST_BYTES_MAX, REQUESTS_OPEN_MAX, To},
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

impl Caller {
    /// What this node answers itself.
    pub(super) async fn own(&self, ask: &Ask, asked: &Attribution) -> Reply {
        perform(&self.node, ask.clone(), asked.clone()).await
    }

    /// What all nodes answer: this one first.
    pub(super) async fn all(&self, ask: &Ask, asked: &Attribution) -> Result<Answers, ClusterError> {
        let (own, others) = join(self.own(ask, asked), self.others(To::Others, ask, asked)).await;
        let mut answers = others?;
        answers.replies.insert(0, (self.own.clone(), own));
        Ok(answers)
    }

    /// What other nodes answer.
    pub(super) async fn others(
        &self,
        to: To,
        ask: &Ask,
        asked: &Attribution,
    ) -> Result<Answers, ClusterError> {
        let nobody = Answers { replies: Vec::new(), unconfirmed: Vec::new() };
        let Some(control) = &self.control else { return Ok(nobody) };
        let unavailable = |reason: &dyn ToString| ClusterError::Unavailable {
            reason: bounded(reason.to_string(), TEXT_MAX),
        };
        let body = to_string(ask).map_err(|error| unavailable(&error))?;
        if body.len() > REQUEST_BYTES_MAX {
            let rule = format!("what is asked of other nodes has at most {REQUEST_BYTES_MAX} bytes as JSON");
            let fault = Fault::new("request", format!("{} bytes", body.len()), rule, "shorten it");
            return Err(ClusterError::Invalid(fault.into()));
        }
        let request = ControlRequest {
            by: asked.by.clone(),
            note: asked.note.clone(),
            ..ControlRequest::new(Uuid::new_v4(), self.own.node, body)
        };
        let within = self.until.saturating_duration_since(Instant::now());
        let posted = call(control.post(&request, to, within)).await.map_err(|error| unavailable(&error))?;
        let asked = match posted {
            Posted::Asked(asked) if asked.is_empty() => return Ok(nobody),
            Posted::Asked(asked) => asked,
            Posted::TooMany => return Err(ClusterError::TooMany { max: REQUESTS_OPEN_MAX }),
        };
        let mut gathering = Gathering::of(asked);
        self.gather(control, request.id, &mut gathering).await;
        let (control, id) = (control.clone(), request.id);
        // Nobody waits for it. What is not closed is forgotten after its deadline.
        actix::spawn(async move { drop(call(control.close(id)).await) });
        Ok(Answers::of(gathering))
    }

    /// Asks the store for the answers until all are there, or the time is over.
    async fn gather(&self, control: &Arc<dyn Control>, request: Uuid, gathering: &mut Gathering) {
        let over = sleep_until(self.until);
        let answers = async {
            let mut seen = 0;
            loop {
                // Without an answer it is asked again.
                if let Ok(heard) = call(control.answers(request)).await {
                    gathering.hear(heard);
                }
                if gathering.is_complete() {
                    return;
                }
                let before = seen;
                let hinted = caught(async move { control.answered(before).await });
                match select(Box::pin(hinted), Box::pin(sleep(LOOK_EVERY))).await {
                    Either::Left((Ok(hints), _)) => {
                        seen = hints;
                        sleep(COALESCED).await;
                    }
                    Either::Left((Err(_), pause)) => pause.await,
                    Either::Right(_) => {}
                }
            }
        };
        match select(Box::pin(answers), Box::pin(over)).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    }
}

impl Answers {
    /// Reads what was gathered.
    fn of(gathering: Gathering) -> Self {
        let (answers, mut unconfirmed) = gathering.end();
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
            let why = WhyUnconfirmed::Unable(why.into());
            unconfirmed.push(Unconfirmed { node: asked.node, name: asked.name, why });
        }
        Self { replies, unconfirmed }
    }

    /// An answer that is none to the question.
    pub(super) fn odd(&mut self, asked: AskedNode, reply: &Reply) {
        let why = match reply {
            Reply::Refused { reason, .. } => bounded(reason, TEXT_MAX),
            Reply::Now(_)
            | Reply::Runs(_)
            | Reply::Cancelled(_)
            | Reply::Changed(_)
            | Reply::Triggered(_)
            | Reply::Details(_)
            | Reply::Page(_)
            | Reply::Known
            | Reply::Unknown
            | Reply::Unable(_) => "its answer is one to another question".to_owned(),
        };
        let why = WhyUnconfirmed::Unable(why.into());
        self.unconfirmed.push(Unconfirmed { node: asked.node, name: asked.name, why });
    }
}

//! Which jobs share a lock key.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use actix::prelude::*;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{Entry, SupervisorActor, enrolment::REFUSED_AGAIN};
use crate::{
    CALL_DEADLINE,
    core::policy::Fires,
    definition::Definition,
    error::Fault,
    lock::{FindConflicts, RetractKeys},
    message::PAGE_MAX,
    name::{JobName, LockKey},
    port::Declaration,
};

/// Which jobs share keys, and what is taken back of their policies.
#[derive(Default)]
pub(super) struct Keys {
    /// The jobs whose key is not their own name. Those of all others need no place here.
    shared: HashMap<LockKey, BTreeSet<JobName>>,
    /// Those for which this node is to declare no policy any more.
    to_retract: BTreeSet<LockKey>,
    /// The page of them that is under way.
    retracting: BTreeSet<LockKey>,
    /// Jobs with a key of that page: they are enrolled after it.
    held: Vec<JobName>,
}

impl Keys {
    pub(super) fn add(&mut self, definition: &Definition) {
        if definition.key.as_str() != definition.name.as_str() {
            self.shared.entry(definition.key.clone()).or_default().insert(definition.name.clone());
        }
    }

    pub(super) fn remove(&mut self, definition: &Definition) {
        if let Some(jobs) = self.shared.get_mut(&definition.key) {
            jobs.remove(&definition.name);
            if jobs.is_empty() {
                self.shared.remove(&definition.key);
            }
        }
    }

    /// The key is being taken back.
    pub(super) fn is_retracting(&self, key: &LockKey) -> bool {
        self.retracting.contains(key)
    }

    /// Whether the enrolment of a job with this key has to wait: then it comes back when it can go on.
    pub(super) fn hold(&mut self, key: &LockKey, job: &JobName) -> bool {
        let holds = self.is_retracting(key);
        if holds {
            self.held.push(job.clone());
        }
        holds
    }

    /// Enrolments wait for keys that are being taken back.
    pub(super) fn holds_jobs(&self) -> bool {
        !self.held.is_empty()
    }

    /// What a session declared ends with it.
    pub(super) fn on_disconnected(&mut self) {
        self.to_retract.clear();
    }
}

impl SupervisorActor {
    /// Says that this node declares no policy any more for keys of which it fires no job. A page that fails is asked again; meanwhile only
    /// jobs with a key that is being taken back are not enrolled.
    pub(super) fn retract(&mut self, keys: impl IntoIterator<Item = LockKey>, ctx: &mut Context<Self>) {
        if self.connected && !self.parts.single_node {
            self.keys.to_retract.extend(keys);
            self.retract_next(ctx);
        }
    }

    /// Takes the next page back. An enrolment under way may declare one of them: it goes first.
    pub(super) fn retract_next(&mut self, ctx: &mut Context<Self>) {
        if self.enrolling || !self.keys.retracting.is_empty() {
            return;
        }
        while self.keys.retracting.len() < PAGE_MAX
            && let Some(key) = self.keys.to_retract.pop_first()
        {
            let fired = self.with_key(&key).find(|entry| self.authority(entry).is_some());
            let fired = fired.map(|entry| entry.job.definition.name.clone());
            if let Some(name) = fired {
                // It is taken back when this job lets go of it.
                if let Some(entry) = self.jobs.get_mut(&name) {
                    entry.declared_key_policy = true;
                }
            } else {
                self.keys.retracting.insert(key);
            }
        }
        if self.keys.retracting.is_empty() {
            return;
        }
        let page = self.keys.retracting.iter().cloned().collect();
        let retracted = self.parts.lock.send(RetractKeys(page));
        ctx.spawn(retracted.into_actor(self).map(|answer, actor, ctx| {
            let page = mem::take(&mut actor.keys.retracting);
            actor.to_enrol.extend(mem::take(&mut actor.keys.held));
            if !matches!(answer, Ok(Ok(()))) {
                ctx.run_later(REFUSED_AGAIN, |actor, ctx| actor.retract(page, ctx));
            }
            actor.retract_next(ctx);
            actor.enrol(ctx);
        }));
    }

    /// Which of the definitions other nodes contradict, as far as the store answers; its enrolment decides. Those whose key is their
    /// own name cost no question.
    pub(super) fn contradicted(&self, definitions: &[Definition]) -> Option<BoxFuture<'static, Vec<Fault>>> {
        let asked: Vec<_> =
            definitions.iter().filter(|definition| shares_a_key(definition)).map(declaration).collect();
        if asked.is_empty() || !self.connected || self.parts.single_node {
            return None;
        }
        let lock = self.parts.lock.clone();
        let found = async move {
            let mut faults = Vec::new();
            for page in asked.chunks(PAGE_MAX) {
                let Ok(Ok(conflicts)) = lock.send(FindConflicts(page.to_vec())).await else { break };
                let contradicted = page.iter().zip(conflicts);
                faults
                    .extend(contradicted.filter_map(|(asked, declared)| Some(elsewhere(asked, &declared?))));
            }
            faults
        };
        // Whoever is refused later is told by an event.
        Some(Box::pin(async move { timeout(CALL_DEADLINE, found).await.unwrap_or_default() }))
    }

    /// Another job of this node with this key. All that have it share one policy, so that one stands for all.
    pub(super) fn holder_of(&self, key: &LockKey, but: Option<&JobName>) -> Option<&Definition> {
        let mut all = self.with_key(key).map(|entry| &*entry.job.definition);
        all.find(|other| Some(&other.name) != but)
    }

    /// The jobs of this node with this key.
    fn with_key(&self, key: &LockKey) -> impl Iterator<Item = &Entry> {
        let called_alike = self.jobs.get(key.as_str());
        let keyed = self.keys.shared.get(key).into_iter().flatten().filter_map(|name| self.jobs.get(name));
        called_alike.into_iter().chain(keyed).filter(move |entry| entry.job.definition.key == *key)
    }
}

fn shares_a_key(definition: &Definition) -> bool {
    definition.policies.fires != Fires::Local && definition.key.as_str() != definition.name.as_str()
}

fn declaration(definition: &Definition) -> Declaration {
    let Definition { name, key, policies, .. } = definition;
    Declaration { job: name.clone(), key: key.clone(), overlap: policies.overlap }
}

fn elsewhere(asked: &Declaration, declared: &str) -> Fault {
    let Declaration { job, key, overlap } = asked;
    let rule = format!(
        "jobs that share the lock key {:?} share one overlap policy, and that of other nodes is {declared:?}",
        key.as_str()
    );
    let cure = "choose the same, or another key, or remove the jobs that have it from the other nodes first";
    Fault::new("overlap policy", overlap.to_string(), rule, cure).within(&format!("job {:?}", job.as_str()))
}

/// Why this node may not fire a job, as long as others declare this policy for its key.
pub(super) fn refusal(definition: &Definition, declared: &str) -> Arc<str> {
    elsewhere(&declaration(definition), declared).to_string().into()
}

/// Jobs that share a lock key share one overlap policy: with each other, and with the job that `held` finds.
pub(crate) fn conflicts<'a>(
    definitions: &'a [Definition],
    held: impl Fn(&LockKey) -> Option<&'a Definition>,
) -> Vec<Fault> {
    let mut keys: HashMap<&LockKey, &Definition> = HashMap::new();
    let mut faults = Vec::new();
    for definition in definitions {
        let key = &definition.key;
        let first = *keys.entry(key).or_insert_with(|| held(key).unwrap_or(definition));
        let (overlap, of_first) = (definition.policies.overlap, first.policies.overlap);
        if overlap != of_first {
            let rule = format!(
                "jobs that share the lock key {:?} share one overlap policy, and that of job {:?} is {:?}",
                key.as_str(),
                first.name.as_str(),
                of_first.to_string()
            );
            let fault = Fault::new("overlap policy", overlap.to_string(), rule, "choose the same");
            faults.push(fault.within(&format!("job {:?}", definition.name.as_str())));
        }
    }
    faults
}

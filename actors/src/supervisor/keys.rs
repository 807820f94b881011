//! Which jobs share a lock key.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use actix::prelude::*;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{Entry, SupervisorActor};
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

/// The jobs whose key is not their own name. Those of all others need no place here.
#[derive(Default)]
pub(super) struct Keys(HashMap<LockKey, BTreeSet<JobName>>);

impl Keys {
    pub(super) fn add(&mut self, definition: &Definition) {
        if definition.key.as_str() != definition.name.as_str() {
            self.0.entry(definition.key.clone()).or_default().insert(definition.name.clone());
        }
    }

    pub(super) fn remove(&mut self, definition: &Definition) {
        if let Some(jobs) = self.0.get_mut(&definition.key) {
            jobs.remove(&definition.name);
            if jobs.is_empty() {
                self.0.remove(&definition.key);
            }
        }
    }
}

impl SupervisorActor {
    /// Says that this node declares no policy any more for keys of which it fires no job.
    pub(super) fn retract(&mut self, mut keys: Vec<LockKey>, ctx: &mut Context<Self>) {
        keys.retain(|key| !self.with_key(key).any(|entry| self.authority(entry).is_some()));
        if !self.connected || self.parts.single_node {
            return;
        }
        for page in keys.chunks(PAGE_MAX) {
            let retracted = self.node().lock().send(RetractKeys(page.to_vec()));
            self.hold_enrolments_for(retracted, ctx);
        }
    }

    /// Which of the definitions other nodes contradict, as far as the store answers; its enrolment decides. Those whose key is their
    /// own name cost no question.
    pub(super) fn contradicted(&self, definitions: &[Definition]) -> Option<BoxFuture<'static, Vec<Fault>>> {
        let asked: Vec<_> =
            definitions.iter().filter(|definition| shares_a_key(definition)).map(declaration).collect();
        if asked.is_empty() || !self.connected || self.parts.single_node {
            return None;
        }
        let lock = self.node().lock().clone();
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
        let keyed = self.keys.0.get(key).into_iter().flatten().filter_map(|name| self.jobs.get(name));
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
    let rule =
        format!("jobs that share a lock key share one overlap policy, and that of other nodes is {declared}");
    let value = format!("{:?} with {overlap}", key.as_str());
    let cure = "choose the same, or another key, or remove the jobs that have it from the other nodes first";
    Fault::new("lock key", value, rule, cure).within(&format!("job {:?}", job.as_str()))
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
                "jobs that share a lock key share one overlap policy, and that of job {:?} is {of_first:?}",
                first.name.as_str()
            );
            let key = key.as_str();
            let fault = Fault::new("lock key", format!("{key:?} with {overlap:?}"), rule, "choose the same");
            faults.push(fault.within(&format!("job {:?}", definition.name.as_str())));
        }
    }
    faults
}

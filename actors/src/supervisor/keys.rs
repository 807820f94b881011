//! Which jobs share a lock key.

use std::collections::{BTreeSet, HashMap};

use super::SupervisorActor;
use crate::{
    definition::Definition,
    error::Fault,
    name::{JobName, LockKey},
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
    /// Another job of this node with this key. All that have it share one policy, so that one stands for all.
    pub(super) fn holder_of(&self, key: &LockKey, but: Option<&JobName>) -> Option<&Definition> {
        let called_alike = self.jobs.get(key.as_str());
        let keyed = self.keys.0.get(key).into_iter().flatten().filter_map(|name| self.jobs.get(name));
        let all = called_alike.into_iter().chain(keyed).map(|entry| &*entry.job.definition);
        all.filter(|other| other.key == *key).find(|other| Some(&other.name) != but)
    }
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

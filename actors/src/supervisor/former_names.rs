//! Which jobs of this node have former names.
//!
//! An index, and what follows from it: a node has no job of a name that another one of its jobs had.

use std::collections::BTreeMap;

use crate::{definition::Definition, error::Fault, name::JobName};

/// The jobs that were [renamed](crate::Job::formerly), by their former names. All others cost nothing here.
#[derive(Default)]
pub(crate) struct FormerNames(BTreeMap<JobName, JobName>);

impl FormerNames {
    pub(super) fn add(&mut self, definition: &Definition) {
        if let Some(former) = definition.formerly() {
            self.0.insert(former.clone(), definition.name.clone());
        }
    }

    pub(super) fn remove(&mut self, definition: &Definition) {
        if let Some(former) = definition.formerly()
            && self.0.get(former) == Some(&definition.name)
        {
            self.0.remove(former);
        }
    }

    /// Those of the definitions, in the order of their jobs, that have a name which another job had, or had the name
    /// of another job: of the definitions, and of the jobs that the node `has`.
    pub(crate) fn conflicts(&self, definitions: &[Definition], has: impl Fn(&JobName) -> bool) -> Vec<Fault> {
        let mut renamed = BTreeMap::new();
        let mut faults = Vec::new();
        for job in definitions {
            let Some(former) = job.formerly() else { continue };
            let other = self.0.get(former).filter(|other| **other != job.name);
            if let Some(other) = other.or_else(|| renamed.insert(former, &job.name)) {
                let rule = format!("job {:?} of this node had that name as well", other.as_str());
                faults.push(fault(job, "formerly", former, rule, "leave it out of one of them"));
            } else if has(former) {
                faults.push(both(job, former));
            }
        }
        if renamed.is_empty() && self.0.is_empty() {
            return faults;
        }
        for job in definitions {
            let new = renamed.get(&job.name).copied().or_else(|| self.0.get(&job.name));
            if let Some(new) = new.filter(|new| **new != job.name) {
                let rule = format!(
                    "job {:?} of this node had that name, and takes over what is kept of it",
                    new.as_str()
                );
                faults.push(fault(
                    job,
                    "job name",
                    &job.name,
                    rule,
                    "remove one of the two, or leave `formerly` out",
                ));
            }
        }
        faults
    }
}

fn both(job: &Definition, former: &JobName) -> Fault {
    let rule = "this node has a job of that name, and what is kept of it can be that of one job only";
    fault(job, "formerly", former, rule.to_owned(), "remove that job, or leave `formerly` out")
}

fn fault(job: &Definition, what: &'static str, value: &JobName, rule: String, cure: &str) -> Fault {
    Fault::new(what, value.as_str(), rule, cure).within(&format!("job {:?}", job.name.as_str()))
}

//! Enrolments of jobs, and the policies that they declare for their keys.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use callsheet_actors::{
    LockKey,
    port::{Enrolled, Enrolment, LockError},
};
use futures_util::future::join;
use tokio::time::{Instant, sleep};

use super::{
    pauses::{CHANGE_TIMEOUT, LOCKED_MAX, LOCKED_MIN},
    session::{OpenSession, StatementError},
    statement::{
        answer::read,
        declare::{self, Declarations, Retracted},
        enrol::{self, Enrolments, Told, other_key},
        names::Keys,
        renames::{self, Renamed},
    },
};

impl OpenSession {
    /// Those that stand under another name are moved first, one by one: there are few.
    pub(super) async fn enrol(self: &Arc<Self>, jobs: &[&Enrolment]) -> Result<Vec<Enrolled>, LockError> {
        let mut enrolled = self.enrol_as_named(jobs).await?;
        let renamed = jobs.iter().zip(&mut enrolled).filter(|(_, answer)| answer.is_none());
        let (mut moved, mut places) = (Vec::new(), Vec::new());
        for (job, answer) in renamed {
            let asked = Renamed::of(self.asker(), job);
            let rows = self.ask(&self.statements.take_over, &asked.list()).await?;
            *answer = read(&rows, renames::in_the_way)?.into_iter().next().unwrap_or(Some(Enrolled::Locked));
            if answer.is_none() {
                moved.push(*job);
                places.push(answer);
            }
        }
        if !moved.is_empty() {
            let again = self.enrol_as_named(&moved).await?;
            places.into_iter().zip(again).for_each(|(place, answer)| *place = answer);
        }
        // Somebody else has moved it meanwhile.
        Ok(enrolled.into_iter().map(|answer| answer.unwrap_or(Enrolled::Locked)).collect())
    }

    /// Nothing is answered for a job that may stand under another name.
    async fn enrol_as_named(
        self: &Arc<Self>,
        jobs: &[&Enrolment],
    ) -> Result<Vec<Option<Enrolled>>, LockError> {
        let asked = Enrolments::of(self.asker(), jobs);
        let asked = asked.list();
        let keyed: Vec<_> = jobs.iter().copied().filter(|job| other_key(job).is_some()).collect();
        // Sent together: nothing of this node comes between.
        let (contradicted, rows) = join(self.declare(&keyed), self.ask(&self.statements.enrol, &asked)).await;
        let contradicted = contradicted?;
        let enrolled: HashMap<_, _> = read(&rows?, enrol::enrolled)?.into_iter().collect();
        let answer = |job: &&Enrolment| match enrolled.get(job.job.as_str()) {
            Some(Told::Is(answer)) => Some(answer.clone()),
            Some(Told::Renamed) => None,
            Some(Told::Undeclared) => match contradicted.get(job.key.as_str()) {
                Some(declared) => Some(Enrolled::Conflict { declared: declared.clone() }),
                None => Some(Enrolled::Locked),
            },
            None => Some(Enrolled::Locked),
        };
        Ok(jobs.iter().map(answer).collect())
    }

    /// Declares the policies of keys that are not the names of their jobs. Answers those that contradict, by
    /// key.
    async fn declare(
        self: &Arc<Self>,
        jobs: &[&Enrolment],
    ) -> Result<HashMap<String, String>, StatementError> {
        if jobs.is_empty() {
            return Ok(HashMap::new());
        }
        let declarations = Declarations::of(self.asker(), jobs);
        let keys = Keys::of(self.asker(), jobs.iter().map(|job| job.key.as_str()).collect());
        let (keys, declarations) = (keys.list(), declarations.list());
        // Sent together.
        let (made, contradicted) = join(
            self.ask(&self.statements.make_keys, &keys),
            self.ask(&self.statements.declare, &declarations),
        )
        .await;
        match made {
            // Somebody else is making one of them, and was waited for in vain: those that are missing are
            // asked again.
            Err(error) if error.is_lock_timeout() => {}
            made => drop(made?),
        }
        Ok(read(&contradicted?, declare::contradicted)?.into_iter().collect())
    }

    /// Until the row of each key could be changed.
    pub(super) async fn retract(self: &Arc<Self>, keys: &[LockKey]) -> Result<(), LockError> {
        let until = Instant::now() + self.settings.trust().min(CHANGE_TIMEOUT);
        let mut open: HashSet<_> = keys.iter().map(LockKey::as_str).collect();
        let mut wait = LOCKED_MIN;
        loop {
            let asked = Retracted::of(self.asker(), open.iter().copied().collect());
            let rows = self.ask(&self.statements.retract, &asked.list()).await?;
            for retracted in read(&rows, declare::retracted)? {
                open.remove(retracted.as_str());
            }
            if open.is_empty() {
                return Ok(());
            }
            // Somebody else has locked the others.
            if Instant::now() + wait >= until {
                return Err(LockError::Timeout);
            }
            sleep(wait).await;
            wait = (wait * 2).min(LOCKED_MAX);
        }
    }
}

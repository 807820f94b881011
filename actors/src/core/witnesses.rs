//! Whether a job is to blame for what the store refuses alone, or whatever refuses it refuses everybody.
//!
//! ```text
//! refused alone   a   b   a   b         a rule that nobody keeps: nobody is to blame, all are asked again
//! refused alone   a       a
//! taken               b                 b got through meanwhile: a is to blame
//! ```

use std::collections::HashMap;

use crate::name::JobName;

/// The most jobs that are remembered as refused; others are not blamed meanwhile.
const REFUSED_MAX: usize = 10_000;

/// What the store took, of one kind, while it refused something.
#[derive(Debug, Default)]
pub struct Witnesses {
    /// How much it took.
    taken: u64,
    /// What it had taken when a job was first refused alone.
    refused: HashMap<JobName, u64>,
}

impl Witnesses {
    /// The store took something of a job.
    pub fn took(&mut self, job: &JobName) {
        self.taken = self.taken.wrapping_add(1);
        if !self.refused.is_empty() {
            self.refused.remove(job);
        }
    }

    /// The store refused a job alone. Answers whether another one got through since it did so first.
    pub fn blame(&mut self, job: &JobName) -> bool {
        match self.refused.get(job) {
            Some(before) if *before != self.taken => {
                self.refused.remove(job);
                true
            }
            Some(_) => false,
            None => {
                if self.refused.len() < REFUSED_MAX {
                    self.refused.insert(job.clone(), self.taken);
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_to_blame_only_if_another_one_gets_through_meanwhile() {
        let [a, b] = ["a", "b"].map(|name| JobName::new(name).unwrap());
        let mut witnesses = Witnesses::default();

        witnesses.took(&b);
        assert_eq!([&a, &b, &a, &b].map(|job| witnesses.blame(job)), [false; 4], "everybody is refused");
        witnesses.took(&b);
        assert!(witnesses.blame(&a));
        assert!(!witnesses.blame(&b), "it got through, and is refused for the first time");
        assert!(!witnesses.blame(&a), "blamed before, and tried again since");
    }
}

//! How many bytes there are of what every job has.

use crate::{
    core::{job::JobMachine, ledger, policy::Policies},
    definition::Definition,
    job::{JobActor, JobHandle},
    supervisor,
};

/// The types of which there is at least one value a job, and how many bytes a value takes.
///
/// Policies are shared by jobs that are added together and have equal ones.
pub fn sizes() -> [(&'static str, usize); 7] {
    [
        ("JobActor", size_of::<JobActor>()),
        ("JobMachine, in it", size_of::<JobMachine>()),
        ("JobHandle", size_of::<JobHandle>()),
        ("Definition", size_of::<Definition>()),
        ("Policies", size_of::<Policies>()),
        ("entry of the supervisor", supervisor::ENTRY_BYTES),
        ("row of the ledger", ledger::ROW_BYTES),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_job_has_is_no_greater_than_it_was() {
        let most = [504, 376, 80, 120, 168, 64, 136];

        for ((what, bytes), most) in sizes().into_iter().zip(most) {
            assert!(bytes <= most, "{what}: {bytes}, not {most}");
        }
    }
}

//! How many bytes there are of what every job has.

use actix::prelude::*;

use crate::{
    core::{job::JobMachine, ledger, policy::Policies},
    definition::Definition,
    job::{JobActor, JobHandle},
    supervisor,
};

/// The types of which there is at least one value a job, and how many bytes a value takes.
///
/// Tokio adds about 100 bytes to a task, and makes a multiple of 128 of it. Policies are shared by jobs that
/// are added together and have equal ones.
pub fn sizes() -> [(&'static str, usize); 8] {
    [
        ("task of a JobActor", task()),
        ("JobActor, in it", size_of::<JobActor>()),
        ("JobMachine, in that", size_of::<JobMachine>()),
        ("JobHandle", size_of::<JobHandle>()),
        ("Definition", size_of::<Definition>()),
        ("Policies", size_of::<Policies>()),
        ("entry of the supervisor", supervisor::ENTRY_BYTES),
        ("row of the ledger", ledger::ROW_BYTES),
    ]
}

fn task() -> usize {
    fn size_of_returned<A, B, T>(_: impl FnOnce(A, B) -> T) -> usize {
        size_of::<T>()
    }
    size_of_returned(|context: Context<JobActor>, actor| context.into_future(actor))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With what tokio adds the task takes 1,024 bytes. A few fields more, and each job takes 128 more.
    #[test]
    fn what_every_job_has_is_no_greater_than_it_was() {
        let most = [872, 576, 448, 96, 152, 168, 80, 160];

        for ((what, bytes), most) in sizes().into_iter().zip(most) {
            assert!(bytes <= most, "{what}: {bytes}, not {most}");
        }
    }
}

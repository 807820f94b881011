//! Tasks that bring their schedule along.

use crate::{
    definition::{Bodiless, Job},
    port::IntoSchedule,
    task::Task,
};

/// A task that brings the name and the schedule of its job along, so that one line registers both:
/// `builder.scheduled::<Cleanup>(state)`. The job runs it with its [default](Default) arguments.
pub trait ScheduledTask: Task + Default {
    /// The name of its job. Default: the task's.
    const JOB: &'static str = Self::NAME;

    /// When its job is due. What is wrong with it is told when the job is added.
    fn schedule() -> impl IntoSchedule;

    /// Gives its job policies, tags and hooks. Default: none.
    #[must_use]
    fn configure(job: Job<Bodiless>) -> Job<Bodiless> {
        job
    }
}

impl Job {
    /// The job that a task brings along.
    pub fn scheduled<T: ScheduledTask>() -> Self {
        T::configure(Job::new(T::JOB, T::schedule())).run_task(T::default())
    }
}

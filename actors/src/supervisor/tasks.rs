//! Which tasks this node has.

use actix::prelude::*;

use super::SupervisorActor;
use crate::{message::ListTasks, task::TaskDetails};

impl Handler<ListTasks> for SupervisorActor {
    type Result = Vec<TaskDetails>;

    fn handle(&mut self, ListTasks: ListTasks, _: &mut Self::Context) -> Self::Result {
        self.parts.tasks.list()
    }
}

//! Actors of the application, as those who get messages of the engine.

use actix::prelude::*;

/// An actor of the application that handles a message, as an address or a recipient: a listener of events, or
/// the body of a job.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an actor that handles `{M}`",
    label = "the address of an actor is expected here",
    note = "start an actor that implements `Handler<{M}>`, and give its address: `MyActor.start()`",
    note = "without an actor: `Callsheet::events` is a stream of events, and `Job::run` takes a function as the body"
)]
pub trait IntoRecipient<M: Message<Result: Send> + Send> {
    /// Who gets the messages.
    fn into_recipient(self) -> Recipient<M>;
}

// Without the attribute, an error would list what converts into what in the standard library.
#[diagnostic::do_not_recommend]
impl<M: Message<Result: Send> + Send, T: Into<Recipient<M>>> IntoRecipient<M> for T {
    fn into_recipient(self) -> Recipient<M> {
        self.into()
    }
}

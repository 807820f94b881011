//! Why a session, or one of its connections, is lost.

use tokio::sync::watch;

/// Why a session, or one of its connections, is lost, once it is.
pub(super) type Loss = Option<LossCause>;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Everything was answered, or the server said that it ends it.
    Clean,
    /// It was closed by the other side, which need not be the server.
    Closed,
    /// This node gave it up.
    GivenUp,
}

/// Why something ended.
#[derive(Debug, Clone)]
pub(super) struct LossCause {
    pub(super) reason: String,
    pub(super) ending: Ending,
}

impl LossCause {
    /// This node gave it up: it may have been asked something that was not answered.
    pub(super) fn lost(reason: &str) -> Self {
        Self { reason: reason.to_owned(), ending: Ending::GivenUp }
    }
}

/// Ends a connection whose future is dropped, or fails, so that nothing of it is left behind on the server.
pub(super) struct EndOnDrop {
    pub(super) loss: watch::Sender<Loss>,
    armed: bool,
}

impl EndOnDrop {
    pub(super) fn new() -> Self {
        Self { loss: watch::channel(None).0, armed: true }
    }

    /// It goes on: whoever has the sender ends it.
    pub(super) fn disarm(&mut self) -> watch::Sender<Loss> {
        self.armed = false;
        self.loss.clone()
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if self.armed {
            end(&self.loss, LossCause::lost("it was given up"));
        }
    }
}

/// Ends what a loss stands for. The first reason stays.
pub(super) fn end(loss: &watch::Sender<Loss>, ended: LossCause) {
    loss.send_if_modified(|loss| {
        let first = loss.is_none();
        if first {
            *loss = Some(ended);
        }
        first
    });
}

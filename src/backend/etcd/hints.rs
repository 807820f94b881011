//! What nodes tell each other: keys that are written, and a watch on them that is opened again when it ends.

use std::{sync::Arc, time::Duration};

use callsheet_actors::port::{Heard, RecordsError};
use etcd_client::{GetOptions, WatchFilterType, WatchOptions, WatchResponse, WatchStream};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    connection::{EtcdConnection, Servers},
    failure::{Failure, of_connection},
    keys::Keys,
};
use crate::backend::{
    failure::unavailable,
    hints::{Ear, Listeners},
    link::{Connection, Connector},
};

/// The most bytes that one unit tells. What is more is told as a gap.
const TOLD_BYTES_MAX: usize = 4_096;
/// The first byte of what a unit tells: hints, each with its length before it, or that there were too many.
const HINTS: u8 = b'h';
const GAP: u8 = b'g';
/// How often the server is asked whether the watch still stands.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is written of the hints of a unit.
pub(super) fn encode(hints: &[Arc<[u8]>]) -> Vec<u8> {
    let mut told = vec![HINTS];
    for hint in hints {
        // None is longer than that: the limit is lower.
        told.extend(u16::try_from(hint.len()).unwrap_or(u16::MAX).to_be_bytes());
        told.extend(&**hint);
    }
    if told.len() > TOLD_BYTES_MAX { vec![GAP] } else { told }
}

/// What is heard of what was written. What is of another form is of another version, and left out.
fn decode(told: &[u8]) -> Vec<Heard> {
    let Some((&HINTS, mut rest)) = told.split_first() else {
        return if told == [GAP] { vec![Heard::Lagged] } else { Vec::new() };
    };
    let mut heard = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let Some((hint, more)) = more.split_at_checked(u16::from_be_bytes(*length).into()) else { break };
        heard.push(Heard::Hint(hint.into()));
        rest = more;
    }
    heard
}

/// Watches the hints of the scope, over a connection of its own.
pub(super) struct EtcdEar {
    servers: Servers,
    keys: Keys,
}

/// A watch.
pub(super) struct Channel {
    connection: EtcdConnection,
    watch: WatchStream,
}

impl EtcdEar {
    pub(super) fn new(servers: Servers) -> Self {
        let keys = Keys::of(&servers.settings.scope);
        Self { servers, keys }
    }

    /// A watch from now on: from the revision after the newest that a majority has.
    async fn watch(&self, connection: &EtcdConnection) -> Result<WatchStream, Failure> {
        let newest =
            connection.kv().get(self.keys.leader(), Some(GetOptions::new().with_keys_only())).await?;
        let newest = newest.header().map(etcd_client::ResponseHeader::revision);
        let after = newest.ok_or(Failure::NotUnderstood("a read"))? + 1;
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(after)
            .with_filters([WatchFilterType::NoDelete]);
        let mut watch = connection.watches().watch(self.keys.hints(), Some(options)).await?;
        match watch.message().await? {
            Some(begun) if begun.created() && !begun.canceled() => Ok(watch),
            Some(refused) => Err(Failure::Refused(format!(
                "it refuses a watch: {}; give this user the rights that the documentation of Etcd names",
                callsheet_actors::adapter::one_line(refused.cancel_reason(), TOLD_BYTES_MAX)
            ))),
            None => Err(Failure::Unknown),
        }
    }
}

impl Ear for EtcdEar {
    type Channel = Channel;

    fn deadline(&self) -> Duration {
        self.servers.deadline()
    }

    fn listen<'a>(&'a self, _: &'a Listeners) -> BoxFuture<'a, Result<Channel, RecordsError>> {
        async move {
            let connection = self.servers.connect().await?;
            let failure = match timeout(self.servers.deadline(), self.watch(&connection)).await {
                Ok(Ok(watch)) => return Ok(Channel { connection, watch }),
                Ok(Err(failure)) => of_connection(failure, "the watch"),
                Err(_) => unavailable("the server did not begin a watch in time"),
            };
            connection.give_up();
            Err(failure)
        }
        .boxed()
    }

    fn hear<'a>(&'a self, mut channel: Channel, listeners: &'a Listeners) -> BoxFuture<'a, RecordsError> {
        async move {
            let reason = listen(&mut channel.watch, self.servers.deadline(), listeners).await;
            channel.connection.give_up();
            reason
        }
        .boxed()
    }
}

/// Hands on what a watch says, until it says no more: why not.
async fn listen(watch: &mut WatchStream, deadline: Duration, listeners: &Listeners) -> RecordsError {
    let mut look_at = Instant::now() + LOOK_EVERY;
    let mut asked = false;
    loop {
        match timeout_at(look_at, watch.message()).await {
            Ok(Ok(Some(said))) if !said.canceled() => {
                tell(&said, listeners);
                (look_at, asked) = (Instant::now() + LOOK_EVERY, false);
            }
            Ok(Ok(_)) => return unavailable("the server has ended the watch"),
            Ok(Err(error)) => return of_connection(error.into(), "the watch"),
            Err(_) if asked => return unavailable("the server does not answer on the watch"),
            // Nothing was said for a while: it is asked how far it is, which it answers.
            Err(_) => match watch.request_progress().await {
                Ok(()) => (look_at, asked) = (Instant::now() + deadline, true),
                Err(error) => return of_connection(error.into(), "the watch"),
            },
        }
    }
}

fn tell(said: &WatchResponse, listeners: &Listeners) {
    for event in said.events() {
        for heard in event.kv().map_or_else(Vec::new, |written| decode(written.value())) {
            // An error: nobody listens.
            let _ = listeners.send(heard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard() {
        let hints: Vec<Arc<[u8]>> = [&b"one"[..], b"", &[0, 255]].map(Arc::from).to_vec();
        let heard: Vec<_> = hints.iter().cloned().map(Heard::Hint).collect();

        assert_eq!(decode(&encode(&hints)), heard);
        assert_eq!(decode(b""), []);
        assert_eq!(decode(b"later"), []);
        assert_eq!(decode(&[HINTS, 0, 9, 1]), [], "what is cut off is left out");
    }

    #[test]
    fn what_is_too_much_to_tell_is_a_gap() {
        let hints = vec![Arc::from(vec![1; 512]); 9];

        assert_eq!(decode(&encode(&hints)), [Heard::Lagged]);
    }
}

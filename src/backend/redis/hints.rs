//! What nodes tell each other, by publishing and subscribing.

use std::{sync::Arc, time::Duration};

use callsheet_actors::port::{Heard, RecordsError};
use futures_util::{FutureExt, future::BoxFuture};
use redis::{PushInfo, PushKind, Value};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    connection::{OnPush, RedisConnection, connect},
    failure::{of_connection, unavailable},
    settings::Settings,
};
use crate::backend::{
    hints::{Ear, Listeners},
    link::Connection,
};

/// The first byte of what is published, if it is a hint.
pub(super) const HINT: u8 = b'h';
/// How often the server is asked whether the connection still stands.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Hears the channel of the scope, over a connection of its own.
pub(super) struct RedisEar(pub(super) Arc<Settings>);

/// A connection, and whether it was lost.
pub(super) struct Channel {
    connection: RedisConnection,
    lost: Arc<Notify>,
}

impl Ear for RedisEar {
    type Channel = Channel;

    fn deadline(&self) -> Duration {
        self.0.deadline()
    }

    fn listen<'a>(&'a self, listeners: &'a Listeners) -> BoxFuture<'a, Result<Channel, RecordsError>> {
        async move {
            let lost = Arc::new(Notify::new());
            let connection = connect(&self.0, Some(on_push(listeners.clone(), lost.clone()))).await?;
            let channel = format!("{}hints", self.0.prefix());
            match timeout(self.0.deadline(), connection.subscribe(&channel)).await {
                Ok(Ok(())) => Ok(Channel { connection, lost }),
                Ok(Err(error)) => Err(of_connection(&error, "the subscription")),
                Err(_) => Err(unavailable("the server did not answer a subscription in time")),
            }
        }
        .boxed()
    }

    fn hear<'a>(&'a self, channel: Channel, _: &'a Listeners) -> BoxFuture<'a, RecordsError> {
        async move {
            let Channel { connection, lost } = channel;
            loop {
                tokio::select! {
                    () = lost.notified() => return unavailable("the connection for notifications was closed"),
                    () = sleep(LOOK_EVERY) => {}
                }
                let asked = timeout(self.0.deadline(), connection.ask(&redis::cmd("PING"))).await;
                if !matches!(asked, Ok(Ok(_))) || connection.is_over() {
                    return unavailable("the server does not answer on the connection for notifications");
                }
            }
        }
        .boxed()
    }
}

fn on_push(listeners: Listeners, lost: Arc<Notify>) -> OnPush {
    Arc::new(move |push: PushInfo| match push.kind {
        PushKind::Message => {
            // The channel, and what was said.
            if let Some(Value::BulkString(said)) = push.data.get(1)
                && let Some((&HINT, hint)) = said.split_first()
            {
                // An error: nobody listens.
                let _ = listeners.send(Heard::Hint(hint.into()));
            }
        }
        PushKind::Disconnection => lost.notify_one(),
        // Answers to what was asked, and what was not.
        _ => {}
    })
}

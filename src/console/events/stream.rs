//! The body of a stream of events.

use std::{convert::Infallible, sync::atomic::Ordering, time::Duration};

use actix_web::web::Bytes;
use futures_util::{Stream, stream::unfold};
use tokio::time::{Instant, sleep_until};

use super::hub::{Subscription, notice};

/// How often something is sent even if nothing happens, so that those in between keep the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a stream lasts. The client connects again, and is asked again who it is.
const STREAM_MAX: Duration = Duration::from_mins(15);

enum Place {
    Greeting,
    Open,
    Ended,
}

/// What is sent to one client.
pub(crate) fn body(client: Subscription) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let ends_at = Instant::now() + STREAM_MAX;
    unfold((client, Place::Greeting), move |(mut client, place)| async move {
        match place {
            // At once, so that the client knows that it is connected.
            Place::Greeting => {
                Some((Ok(Bytes::from_static(b"retry: 2000\n: connected\n\n")), (client, Place::Open)))
            }
            Place::Open => {
                let (frame, place) = next(&mut client, ends_at).await?;
                Some((Ok(frame), (client, place)))
            }
            Place::Ended => None,
        }
    })
}

async fn next(client: &mut Subscription, ends_at: Instant) -> Option<(Bytes, Place)> {
    if client.is_slow.load(Ordering::Acquire) {
        let told = notice("dropped", "this client was too slow: connect again, and read everything again");
        return Some((told.into(), Place::Ended));
    }
    if let Some(missed) = client.missed.pop_front() {
        return Some((missed, Place::Open));
    }
    let heartbeat = (Instant::now() + HEARTBEAT).min(ends_at);
    tokio::select! {
        frame = client.frames.recv() => match frame {
            Some(frame) => Some((frame, Place::Open)),
            None if client.is_slow.load(Ordering::Acquire) => Box::pin(next(client, ends_at)).await,
            None => None,
        },
        () = sleep_until(heartbeat) => match Instant::now() >= ends_at {
            true => None,
            false => Some((Bytes::from_static(b": heartbeat\n\n"), Place::Open)),
        },
    }
}

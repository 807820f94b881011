//! What nodes tell each other: keys that are written, and a question that waits until one of them is.
//!
//! Whoever asks sees keys as they are, and not what they were in between. So each client has a ring of keys of its own,
//! with numbers in them: where one is missing, something was missed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use callsheet_actors::port::{Heard, RecordsError};
use futures_util::{FutureExt, future::BoxFuture};
use reqwest::Method;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};

use super::{
    agent::{Agents, Question, path},
    failure::{Failure, not_understood},
    keys::Keys,
    transaction::{Entry, Operation, transact},
};
use crate::backend::{
    hints::{Ear, Listeners},
    random::random,
};

/// How many keys a client has.
const RING: u64 = 32;
/// The most bytes that are told at once. What is more is told as a gap.
const TOLD_BYTES_MAX: usize = 16 * 1_024;
/// The first byte of what is told, after its number: hints, each with its length before it, or that there were too many.
const HINTS: u8 = b'h';
const GAP: u8 = b'g';
/// How long a question waits.
const WAIT: Duration = Duration::from_secs(10);
/// What an agent adds to that at most: a sixteenth, at random.
const WAIT_MORE: Duration = Duration::from_secs(1);
/// The least time between two questions that were answered with nothing new.
const PAUSE: Duration = Duration::from_millis(100);
/// After how long the keys of a client that tells nothing are deleted.
const SILENT_MAX: Duration = Duration::from_mins(10);

/// What a client tells, one after the other.
pub(super) struct Teller {
    client: u64,
    number: Mutex<u64>,
}

/// The right to tell something next.
pub(super) struct Turn<'a> {
    client: u64,
    number: MutexGuard<'a, u64>,
}

impl Teller {
    pub(super) fn new() -> Self {
        Self { client: random(), number: Mutex::new(0) }
    }

    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn { client: self.client, number: self.number.lock().await }
    }
}

impl Turn<'_> {
    /// Tells this.
    pub(super) fn operation(&self, keys: &Keys, hints: &[Arc<[u8]>]) -> Operation {
        let key = format!("{}{:016x}/{:02x}", keys.hints(), self.client, *self.number % RING);
        Operation::overwrite(key, &encode(*self.number, hints), random())
    }

    /// It was told, perhaps.
    pub(super) fn was_taken(&mut self) {
        *self.number += 1;
    }
}

fn encode(number: u64, hints: &[Arc<[u8]>]) -> Vec<u8> {
    let mut told = number.to_be_bytes().to_vec();
    let length: usize = hints.iter().map(|hint| hint.len() + 2).sum();
    if length > TOLD_BYTES_MAX {
        told.push(GAP);
        return told;
    }
    told.push(HINTS);
    for hint in hints {
        // None is longer than that: the limit is lower.
        told.extend(u16::try_from(hint.len()).unwrap_or(u16::MAX).to_be_bytes());
        told.extend(&**hint);
    }
    told
}

/// The number of what was told, and what is heard of it. What is of another form is of another version, and left out.
fn decode(told: &[u8]) -> Option<(u64, Vec<Heard>)> {
    let (number, rest) = told.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    let (kind, mut rest) = rest.split_first()?;
    if *kind == GAP {
        return Some((number, vec![Heard::Lagged]));
    }
    let mut heard = Vec::new();
    while *kind == HINTS
        && let Some((length, more)) = rest.split_first_chunk::<2>()
    {
        let Some((hint, more)) = more.split_at_checked(u16::from_be_bytes(*length).into()) else { break };
        heard.push(Heard::Hint(hint.into()));
        rest = more;
    }
    Some((number, heard))
}

/// Asks for what is told.
pub(super) struct ConsulEar {
    agents: Agents,
    keys: Keys,
}

/// What was heard so far.
pub(super) struct Channel {
    /// The index of what was read last.
    index: u64,
    clients: HashMap<String, Client>,
}

/// A client that tells something.
struct Client {
    /// The number of what it tells next.
    next: u64,
    told_at: Instant,
}

/// All that is told, and the index of that.
struct Told {
    index: u64,
    entries: Vec<Entry>,
}

impl ConsulEar {
    pub(super) fn new(agents: Agents) -> Self {
        let keys = Keys::of(&agents.settings.scope);
        Self { agents, keys }
    }

    /// All that is told; after `index` if that is given, once there is something.
    async fn ask(&self, index: Option<u64>) -> Result<Told, Failure> {
        let hints = path(&self.keys.hints());
        let (path, waits) = match index {
            Some(index) => {
                let wait = WAIT.as_secs();
                (format!("kv/{hints}?recurse&index={index}&wait={wait}s"), WAIT + WAIT_MORE)
            }
            None => (format!("kv/{hints}?recurse&consistent"), Duration::ZERO),
        };
        let answer = self.agents.ask(Question { method: Method::GET, path, body: None, waits }).await?;
        let index = answer.index.ok_or_else(|| not_understood("a question for what is told"))?;
        let entries = match answer.status {
            200 => serde_json::from_slice(&answer.body)
                .map_err(|_| not_understood("a question for what is told"))?,
            // There are no keys.
            _ => Vec::new(),
        };
        // An index is positive, or it would not wait.
        Ok(Told { index: index.max(1), entries })
    }

    async fn hear_next(&self, channel: &mut Channel, listeners: &Listeners) -> Result<(), Failure> {
        let asked_at = Instant::now();
        let told = self.ask(Some(channel.index)).await?;
        if told.index < channel.index {
            return Err(Failure::Away("the servers were restored from a snapshot".to_owned()));
        }
        if !channel.take(told, listeners) && asked_at.elapsed() < PAUSE {
            // Of keys that others write, perhaps.
            sleep(PAUSE).await;
        }
        let silent: Vec<_> = channel.silent().collect();
        for client in silent {
            let delete = Operation::delete_all(format!("{}{client}/", self.keys.hints()));
            transact(&self.agents, &[delete]).await?;
            channel.clients.remove(&client);
        }
        Ok(())
    }
}

impl Channel {
    /// Hands on what is new: whether something is.
    fn take(&mut self, told: Told, listeners: &Listeners) -> bool {
        let mut new: Vec<_> = told
            .entries
            .iter()
            .filter(|entry| entry.modify_index > self.index)
            .filter_map(numbered)
            .collect();
        new.sort_unstable_by_key(|(index, _, number, _)| (*index, *number));
        let any = !new.is_empty();
        for (_, client, number, heard) in new {
            let known = self.clients.get(client).map_or(0, |client| client.next);
            let gap = (number > known).then_some(Heard::Lagged);
            let next = known.max(number + 1);
            self.clients.insert(client.to_owned(), Client { next, told_at: Instant::now() });
            for heard in gap.into_iter().chain(heard) {
                // An error: nobody listens.
                let _ = listeners.send(heard);
            }
        }
        self.index = told.index;
        any
    }

    fn silent(&self) -> impl Iterator<Item = String> {
        let silent = self.clients.iter().filter(|(_, client)| client.told_at.elapsed() > SILENT_MAX);
        silent.map(|(name, _)| name.clone())
    }
}

/// When it was told, by whom, under which number, and what.
fn numbered(entry: &Entry) -> Option<(u64, &str, u64, Vec<Heard>)> {
    let (number, heard) = decode(&entry.bytes().ok()?)?;
    let (client, _) = entry.key.rsplit_once('/')?;
    let (_, client) = client.rsplit_once('/')?;
    Some((entry.modify_index, client, number, heard))
}

impl Ear for ConsulEar {
    type Channel = Channel;

    fn deadline(&self) -> Duration {
        self.agents.settings.deadline()
    }

    fn listen<'a>(&'a self, _: &'a Listeners) -> BoxFuture<'a, Result<Channel, RecordsError>> {
        async {
            let told = self.agents.call(self.ask(None)).await.map_err(Failure::told_first)?;
            let mut channel = Channel { index: told.index, clients: HashMap::new() };
            for (_, client, number, _) in told.entries.iter().filter_map(numbered) {
                let client = channel
                    .clients
                    .entry(client.to_owned())
                    .or_insert(Client { next: 0, told_at: Instant::now() });
                client.next = client.next.max(number + 1);
            }
            Ok(channel)
        }
        .boxed()
    }

    fn hear<'a>(&'a self, mut channel: Channel, listeners: &'a Listeners) -> BoxFuture<'a, RecordsError> {
        async move {
            loop {
                if let Err(failure) = self.hear_next(&mut channel, listeners).await {
                    return match failure {
                        Failure::Unknown => {
                            Failure::Away("the agent did not answer a question in time".to_owned()).told()
                        }
                        other => other.told(),
                    };
                }
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_heard() {
        let hints: Vec<Arc<[u8]>> = [&b"one"[..], b"", &[0, 255]].map(Arc::from).to_vec();
        let heard = hints.iter().cloned().map(Heard::Hint).collect();

        assert_eq!(decode(&encode(7, &hints)), Some((7, heard)));
        assert_eq!(decode(&encode(7, &vec![Arc::from(vec![1; 512]); 40])), Some((7, vec![Heard::Lagged])));
        assert_eq!(decode(b"short"), None);
        assert_eq!(decode(b"12345678later"), Some((u64::from_be_bytes(*b"12345678"), Vec::new())));
    }
}

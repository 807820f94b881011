//! What is not a PostgreSQL server, or stands before one.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

/// The type of the message that ends a turn of the server, and the offset of a startup message's parameters.
const READY_FOR_QUERY: u8 = b'Z';
const PARAMETERS: usize = 8;

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// A port that takes connections and never answers.
pub(crate) async fn silent() -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((client, _)) = listener.accept().await {
            kept.push(client);
        }
    });
    port
}

/// A server that lets anybody in, if `welcomes`, and then answers whatever it is asked with this error.
pub(crate) async fn refusing(welcomes: bool, code: &'static str, message: &'static str) -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut error = format!("SERROR\0VERROR\0C{code}\0M{message}\0\0").into_bytes();
                let length = u32::try_from(error.len() + 4).expect("a short message");
                error.splice(0..0, [b'E'].into_iter().chain(length.to_be_bytes()));
                // Authentication is not needed, and it is idle.
                const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
                startup(&mut client).await?;
                if welcomes {
                    client.write_all(WELCOME).await.ok()?;
                    client.read_u8().await.ok()?;
                }
                client.write_all(&error).await.ok()?;
                client.write_all(b"Z\0\0\0\x05I").await.ok()
            });
        }
    });
    port
}

/// A name that leads to one server the first time, and to another one from then on.
pub(crate) async fn fork(first: u16, then: u16) -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let mut server = first;
        while let Ok((mut client, _)) = listener.accept().await {
            let port = std::mem::replace(&mut server, then);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
                copy_bidirectional(&mut client, &mut server).await.ok()
            });
        }
    });
    port
}

/// A way to a server that holds back the first message with a text in it.
pub(crate) struct Gate {
    pub(crate) port: u16,
    /// The message has come.
    pub(crate) reached: oneshot::Receiver<()>,
    /// Lets it pass.
    pub(crate) open: oneshot::Sender<()>,
}

pub(crate) async fn gate(server: u16, text: &'static str) -> Gate {
    let (listener, port) = listen().await;
    let (come, reached) = oneshot::channel();
    let (open, opened) = oneshot::channel();
    let once = Arc::new(Mutex::new(Some((come, opened))));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let once = once.clone();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let server = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
                // A statement fits into it.
                let mut buffer = [0; 8_192];
                while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                    let bytes = &buffer[..length];
                    if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                        let first = once.lock().expect("nobody panicked").take();
                        if let Some((come, opened)) = first {
                            come.send(()).ok()?;
                            opened.await.ok()?;
                        }
                    }
                    to_server.write_all(bytes).await.ok()?;
                }
                Some(())
            });
        }
    });
    Gate { port, reached, open }
}

/// What stands between and asks for another setting than the client: `to` instead of `from`, which is as long.
pub(crate) async fn meddler(server: u16, from: &'static str, to: &'static str) -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = startup(&mut client).await?;
                let at = asked.windows(from.len()).position(|window| window == from.as_bytes())?;
                asked[at..at + from.len()].copy_from_slice(to.as_bytes());
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
                server.write_all(&asked).await.ok()?;
                copy_bidirectional(&mut client, &mut server).await.ok()
            });
        }
    });
    port
}

/// A pooler that does not hand on the settings that a client asks for.
pub(crate) async fn careless_pooler(server: u16) -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let asked = startup(&mut client).await?;
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
                server.write_all(&without_options(&asked)).await.ok()?;
                copy_bidirectional(&mut client, &mut server).await.ok()
            });
        }
    });
    port
}

/// A pooler in transaction mode: two server processes do whatever the client asks, one after the other, and after `turns`
/// answers of the first one the client hears the second. The server must let the client in without a password.
pub(crate) async fn pooler(server: u16, turns: Arc<AtomicUsize>) -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pool(client, server, turns.clone()));
        }
    });
    port
}

async fn pool(client: TcpStream, server: u16, turns: Arc<AtomicUsize>) -> Option<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut first, mut to_first) = TcpStream::connect(("127.0.0.1", server)).await.ok()?.into_split();
    let (mut second, mut to_second) = TcpStream::connect(("127.0.0.1", server)).await.ok()?.into_split();
    let (asked, mut repeated) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = [0; 8_192];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            // An error: the other end has gone, and with it this one.
            let _ = asked.send(buffer[..length].to_vec());
            let _ = to_first.write_all(&buffer[..length]).await;
        }
    });
    for turn in 0.. {
        let of_first = answer(&mut first).await?;
        while let Ok(bytes) = repeated.try_recv() {
            to_second.write_all(&bytes).await.ok()?;
        }
        let of_second = answer(&mut second).await?;
        let heard = if turn < turns.load(Ordering::Relaxed) { of_first } else { of_second };
        to_client.write_all(&heard).await.ok()?;
    }
    None
}

/// A startup message, which is the only one without a type.
async fn startup(client: &mut TcpStream) -> Option<Vec<u8>> {
    let length = client.read_u32().await.ok()?;
    let mut message = length.to_be_bytes().to_vec();
    message.resize(usize::try_from(length).ok()?, 0);
    client.read_exact(&mut message[4..]).await.ok()?;
    Some(message)
}

fn without_options(startup: &[u8]) -> Vec<u8> {
    let mut kept = startup[..PARAMETERS].to_vec();
    let mut texts = startup[PARAMETERS..].split(|byte| *byte == 0);
    while let (Some(key), Some(value)) = (texts.next(), texts.next()) {
        if !key.is_empty() && key != b"options" {
            kept.extend([key, b"\0", value, b"\0"].concat());
        }
    }
    kept.push(0);
    let length = u32::try_from(kept.len()).expect("a short message");
    kept[..4].copy_from_slice(&length.to_be_bytes());
    kept
}

/// What a server says until it waits for the client.
async fn answer(server: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    loop {
        let kind = server.read_u8().await.ok()?;
        let length = server.read_u32().await.ok()?;
        let start = answer.len() + 5;
        answer.push(kind);
        answer.extend(length.to_be_bytes());
        answer.resize(start + usize::try_from(length).ok()? - 4, 0);
        server.read_exact(&mut answer[start..]).await.ok()?;
        if kind == READY_FOR_QUERY {
            return Some(answer);
        }
    }
}

/// A way to a server that can keep back the ends of what clients ask: with the Sync message of a client whose application name has a
/// text in it, all that comes after is kept back as well. What is between this and the server stays open when that client goes.
pub(crate) struct Withholder {
    pub(crate) port: u16,
    withholds: Arc<Mutex<Option<&'static str>>>,
}

impl Withholder {
    /// From now on, for clients with this text in their startup messages.
    pub(crate) fn withhold(&self, text: &'static str) {
        *self.withholds.lock().expect("nobody panicked") = Some(text);
    }
}

pub(crate) async fn withholder(server: u16) -> Withholder {
    const SYNC: u8 = b'S';
    let (listener, port) = listen().await;
    let withholds: Arc<Mutex<Option<&'static str>>> = Arc::default();
    let held = withholds.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let held = held.clone();
            tokio::spawn(async move {
                let asked = startup(&mut client).await?;
                let (mut from_client, mut to_client) = client.into_split();
                let server = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
                let (mut from_server, mut to_server) = server.into_split();
                to_server.write_all(&asked).await.ok()?;
                tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
                let is_held = || {
                    let text = *held.lock().expect("nobody panicked");
                    text.is_some_and(|text| asked.windows(text.len()).any(|window| window == text.as_bytes()))
                };
                while let Ok(kind) = from_client.read_u8().await {
                    let length = from_client.read_u32().await.ok()?;
                    let mut message = vec![kind];
                    message.extend(length.to_be_bytes());
                    message.resize(usize::try_from(length).ok()? + 1, 0);
                    from_client.read_exact(&mut message[5..]).await.ok()?;
                    if kind == SYNC && is_held() {
                        // For ever, whatever becomes of the client.
                        std::future::pending::<()>().await;
                    }
                    to_server.write_all(&message).await.ok()?;
                }
                Some(())
            });
        }
    });
    Withholder { port, withholds }
}

/// A way to a server on which every byte is late, and turns are counted.
pub(crate) struct Slow {
    pub(crate) port: u16,
    delay: Arc<AtomicU64>,
    /// Of the connections that lead or wait for it, and of all others.
    turns: Arc<[AtomicUsize; 2]>,
}

impl Slow {
    /// How much later each byte comes, each way, from now on.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_millis()).expect("it is short"), Ordering::SeqCst);
    }

    /// How often a client has said something after it had an answer, that is, the round trips; on connections that lead or wait for
    /// it, or on all others.
    pub(crate) fn turns(&self, leadership: bool) -> usize {
        self.turns[usize::from(leadership)].load(Ordering::SeqCst)
    }
}

pub(crate) async fn slow(server: u16, delay: Duration) -> Slow {
    let (listener, port) = listen().await;
    let way = Slow { port, delay: Arc::default(), turns: Arc::default() };
    way.set_delay(delay);
    let (delay, turns) = (way.delay.clone(), way.turns.clone());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (delay, turns) = (delay.clone(), turns.clone());
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
                for stream in [&client, &server] {
                    stream.set_nodelay(true).ok()?;
                }
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let (answered, leads) = (AtomicBool::new(true), AtomicBool::new(false));
                let asked = |bytes: &[u8]| {
                    let leadership = b" leadership ";
                    if bytes.windows(leadership.len()).any(|window| window == leadership) {
                        // It says so when it begins.
                        leads.store(true, Ordering::SeqCst);
                    }
                    if answered.swap(false, Ordering::SeqCst) {
                        turns[usize::from(leads.load(Ordering::SeqCst))].fetch_add(1, Ordering::SeqCst);
                    }
                };
                let answers = |_: &[u8]| answered.store(true, Ordering::SeqCst);
                // The end of either is the end of both.
                tokio::select! {
                    () = late(&mut from_client, &mut to_server, &delay, asked) => {}
                    () = late(&mut from_server, &mut to_client, &delay, answers) => {}
                }
                Some(())
            });
        }
    });
    way
}

async fn late(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, delay: &AtomicU64, heard: impl Fn(&[u8])) {
    let (sender, mut received) = mpsc::unbounded_channel();
    let read = async move {
        let mut buffer = [0; 8_192];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            heard(&buffer[..length]);
            let due = Instant::now() + Duration::from_millis(delay.load(Ordering::SeqCst));
            // An error: the other side is gone.
            let _ = sender.send((due, buffer[..length].to_vec()));
        }
    };
    let written = async move {
        while let Some((due, bytes)) = received.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, written);
}

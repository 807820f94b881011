//! Stands between one node and its server, and knows where messages begin and end. It holds them back, each
//! way by itself, cuts connections, swallows what belongs to a statement, and changes the texts of
//! statements.

use std::{
    collections::VecDeque,
    future::pending,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt, copy, sink},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::wire::{self, Asked, Message, READY_FOR_QUERY, SYNC};

/// How many bytes a [`Flow::Trickle`] lets pass at once.
const TRICKLE: usize = 16;

/// How messages pass in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Flow {
    #[default]
    Pass,
    /// Not at all, until that is over. The connection looks open.
    Stall,
    /// Each that much later than it came.
    Delay(Duration),
    /// A few bytes at a time, with this pause between.
    Trickle(Duration),
}

/// How messages pass in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flows {
    pub(crate) requests: Flow,
    pub(crate) replies: Flow,
    /// Holds for connections that say this when they begin; `None`: for all.
    pub(crate) only: Option<&'static str>,
}

/// How the two ends of a connection hear that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both are reset.
    Reset,
    /// The client hears of its end, the server of nothing until the next [`heal`](Proxy::heal).
    ClientOnly,
    /// The server hears of its end, the client of nothing.
    ServerOnly,
}

/// What becomes of the next statement whose text contains a given one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trap {
    /// It is done, its reply is lost, and both ends are reset.
    DropReply(&'static str),
    /// All of it reaches the server but its end (Sync), and nothing after it.
    WithholdSync(&'static str),
}

/// A proxy of one node.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: AtomicU16,
    flows: watch::Sender<Flows>,
    /// Counts the cuts.
    cuts: watch::Sender<(u64, Option<Cut>)>,
    trap: Mutex<Option<Trap>>,
    sprung: Notify,
    /// Texts in statements, what they are changed into, and how often they were.
    rewrites: Vec<(Rewrite, AtomicUsize)>,
}

/// A text, and what it is changed into.
pub(crate) type Rewrite = (&'static str, &'static str);

impl Proxy {
    /// A proxy to a port of this machine, which changes texts in statements.
    pub(crate) async fn start(server: u16, rewrites: &[Rewrite]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            server: server.into(),
            flows: watch::Sender::default(),
            cuts: watch::Sender::new((0, None)),
            trap: Mutex::default(),
            sprung: Notify::new(),
            rewrites: rewrites.iter().map(|rewrite| (*rewrite, AtomicUsize::default())).collect(),
        });
        let of_all = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, of_all.clone()));
            }
        });
        Self { port, shared }
    }

    /// The texts that nobody has sent yet.
    pub(crate) fn unseen(&self) -> Vec<&'static str> {
        let unseen = self.shared.rewrites.iter().filter(|(_, count)| count.load(Ordering::Relaxed) == 0);
        unseen.map(|((from, _), _)| *from).collect()
    }

    /// Sends new connections to another port.
    pub(crate) fn lead_to(&self, server: u16) {
        self.shared.server.store(server, Ordering::SeqCst);
    }

    pub(crate) fn set(&self, flows: Flows) {
        self.shared.flows.send_replace(flows);
    }

    pub(crate) fn cut(&self, how: Cut) {
        self.shared.cuts.send_modify(|(nth, last)| (*nth, *last) = (*nth + 1, Some(how)));
    }

    /// Lets everything pass, and ends what was left open after a cut.
    pub(crate) fn heal(&self) {
        *self.shared.trap() = None;
        self.set(Flows::default());
        self.shared.cuts.send_modify(|(nth, last)| (*nth, *last) = (*nth + 1, None));
    }

    /// Sets a trap, and waits until it has been sprung.
    pub(crate) async fn trap(&self, trap: Trap) {
        let sprung = self.shared.sprung.notified();
        *self.shared.trap() = Some(trap);
        sprung.await;
    }
}

impl Shared {
    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rewrite(&self, message: &mut Message, before_length: usize) {
        for (rewrite, count) in &self.rewrites {
            if wire::rewrite(message, before_length, *rewrite) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes the trap if a statement with one of these texts springs it.
    fn spring(&self, texts: &[String], wanted: impl Fn(Trap) -> Option<&'static str>) -> bool {
        let mut trap = self.trap();
        let springs = trap.and_then(wanted).is_some_and(|part| texts.iter().any(|text| text.contains(part)));
        if springs {
            *trap = None;
        }
        springs
    }
}

/// What the two directions of a connection know of each other.
#[derive(Default)]
struct Connection {
    /// How the client began.
    startup: OnceLock<Message>,
    /// For each reply that the client waits for, whether it is lost.
    awaited: Mutex<VecDeque<bool>>,
}

impl Connection {
    /// How messages pass, in the direction that `of` reads.
    fn flow(&self, flows: &Flows, of: fn(&Flows) -> Flow) -> Flow {
        let begins = |text: &str| self.startup.get().is_some_and(|startup| wire::contains(startup, text));
        if flows.only.is_none_or(begins) { of(flows) } else { Flow::Pass }
    }

    fn awaited(&self) -> MutexGuard<'_, VecDeque<bool>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    cuts.mark_unchanged();
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.server.load(Ordering::SeqCst))).await else {
        return;
    };
    for stream in [&client, &server] {
        // An error: it has ended.
        let _ = stream.set_nodelay(true);
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let connection = Connection::default();
    // The server answers what it was asked, and ends after its client.
    let asked = async {
        requests(&mut from_client, &mut to_server, &shared, &connection).await;
        pending().await
    };
    let cut = tokio::select! {
        lost = replies(&mut from_server, &mut to_client, &shared, &connection) => lost.map(|()| Cut::Reset),
        () = asked => None,
        cut = next_cut(&mut cuts) => cut,
    };
    match cut {
        None => {}
        Some(Cut::Reset) => {
            reset(&to_client);
            reset(&to_server);
        }
        Some(Cut::ClientOnly) => {
            reset(&to_client);
            drop((from_client, to_client));
            keep_open(&mut from_server, &mut cuts).await;
        }
        Some(Cut::ServerOnly) => {
            reset(&to_server);
            drop((from_server, to_server));
            keep_open(&mut from_client, &mut cuts).await;
        }
    }
}

/// The next cut; not the mere mending of former ones.
async fn next_cut(cuts: &mut watch::Receiver<(u64, Option<Cut>)>) -> Option<Cut> {
    while cuts.changed().await.is_ok() {
        if let (_, Some(cut)) = *cuts.borrow_and_update() {
            return Some(cut);
        }
    }
    None
}

fn reset(stream: &OwnedWriteHalf) {
    // An error: it has ended.
    let _ = stream.as_ref().set_zero_linger();
}

/// Reads what one end still says, and leaves it open until the next change.
async fn keep_open(stream: &mut OwnedReadHalf, cuts: &mut watch::Receiver<(u64, Option<Cut>)>) {
    let read = async {
        let _ = copy(stream, &mut sink()).await;
    };
    tokio::select! {
        () = read => {}
        _ = cuts.changed() => {}
    }
}

async fn requests(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    shared: &Shared,
    connection: &Connection,
) {
    let (sender, received) = mpsc::unbounded_channel();
    let read = async move {
        let mut startup = wire::startup(from).await?;
        shared.rewrite(&mut startup, 0);
        // It begins once.
        let _ = connection.startup.set(startup.clone());
        sender.send((Instant::now(), startup)).ok()?;
        let mut asked = Asked::default();
        loop {
            let mut message = wire::message(from).await?;
            if matches!(message[0], wire::PARSE | wire::QUERY) {
                shared.rewrite(&mut message, 1);
            }
            if let Some(texts) = asked.read(&message) {
                let withheld = message[0] == SYNC
                    && shared.spring(&texts, |trap| match trap {
                        Trap::WithholdSync(part) => Some(part),
                        Trap::DropReply(_) => None,
                    });
                if withheld {
                    // Once what came before has been written.
                    sender.send((Instant::now(), Message::new())).ok()?;
                    // The client goes on, or dies; the server hears nothing more, not even an end, until that
                    // is mended.
                    let mut mended = shared.cuts.subscribe();
                    mended.mark_unchanged();
                    let mut nobody = sink();
                    let _ = tokio::join!(copy(from, &mut nobody), mended.changed());
                    return None;
                }
                let lost = shared.spring(&texts, |trap| match trap {
                    Trap::DropReply(part) => Some(part),
                    Trap::WithholdSync(_) => None,
                });
                connection.awaited().push_back(lost);
            }
            sender.send((Instant::now(), message)).ok()?;
        }
    };
    let flow = |flows: &Flows| connection.flow(flows, |flows| flows.requests);
    let written = forward(received, to, shared, flow);
    let (_, ()): (Option<()>, ()) = tokio::join!(read, written);
}

/// Answers `Some` when a reply was lost, and with it the connection.
async fn replies(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    shared: &Shared,
    connection: &Connection,
) -> Option<()> {
    let (sender, received) = mpsc::unbounded_channel();
    let read = async move {
        let mut started = false;
        loop {
            let message = wire::message(from).await?;
            let mut awaited = connection.awaited();
            let is_end = message[0] == READY_FOR_QUERY;
            if awaited.front() == Some(&true) {
                if is_end {
                    shared.sprung.notify_waiters();
                    return Some(());
                }
                continue;
            }
            if is_end && mem::replace(&mut started, true) {
                awaited.pop_front();
            }
            drop(awaited);
            sender.send((Instant::now(), message)).ok()?;
        }
    };
    let flow = |flows: &Flows| connection.flow(flows, |flows| flows.replies);
    let written = forward(received, to, shared, flow);
    tokio::pin!(written);
    tokio::select! {
        lost = read => {
            if lost.is_none() {
                // The server has ended; what it said before still has to pass.
                written.await;
            }
            lost
        }
        () = &mut written => None,
    }
}

/// Hands on what was read, as it may pass, and ends the other side when it is over. An empty message says
/// that a trap was sprung.
async fn forward(
    mut received: mpsc::UnboundedReceiver<(Instant, Message)>,
    to: &mut OwnedWriteHalf,
    shared: &Shared,
    flow: impl Fn(&Flows) -> Flow,
) {
    let mut flows = shared.flows.subscribe();
    while let Some((at, message)) = received.recv().await {
        if message.is_empty() {
            shared.sprung.notify_waiters();
            continue;
        }
        // An error: the proxy is gone.
        let passes = flows.wait_for(|flows| flow(flows) != Flow::Stall).await.map(|flows| flow(&flows));
        let written = match passes {
            Ok(Flow::Delay(time)) => {
                sleep_until(at + time).await;
                to.write_all(&message).await
            }
            Ok(Flow::Trickle(pause)) => trickle(to, &message, pause).await,
            Ok(Flow::Pass | Flow::Stall) | Err(_) => to.write_all(&message).await,
        };
        if written.is_err() {
            return;
        }
    }
    let mut flows = shared.flows.subscribe();
    // An end is held back like everything else.
    let _ = flows.wait_for(|flows| flow(flows) != Flow::Stall).await;
    let _ = to.shutdown().await;
}

async fn trickle(to: &mut OwnedWriteHalf, message: &[u8], pause: Duration) -> std::io::Result<()> {
    for part in message.chunks(TRICKLE) {
        to.write_all(part).await?;
        sleep(pause).await;
    }
    Ok(())
}

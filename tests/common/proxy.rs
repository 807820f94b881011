//! Stands between a node and its server, whatever they say to each other: holds it back, loses answers, cuts
//! connections.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// How much is read at once.
const CHUNK: usize = 64 * 1_024;
/// No answer is lost by the count of requests.
const ALL: usize = usize::MAX;

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Pass,
    /// Nothing, in either direction. Connections look open, also new ones.
    Stall,
    /// Requests, and no answers: those are lost.
    LoseAnswers,
}

/// A port that leads to a server.
pub(crate) struct Proxy {
    port: u16,
    server: Arc<AtomicU16>,
    flow: watch::Sender<Flow>,
    /// How many requests are answered before answers are lost, or [`ALL`].
    answered: Arc<AtomicUsize>,
    /// How many requests pass as a whole before one is cut in two, or [`ALL`].
    whole: Arc<AtomicUsize>,
    /// Counts how often all connections were cut.
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// A port that leads to this one.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let proxy = Self {
            port,
            server: Arc::new(server.into()),
            flow: watch::Sender::new(Flow::Pass),
            answered: Arc::new(ALL.into()),
            whole: Arc::new(ALL.into()),
            cuts: watch::Sender::default(),
        };
        let (server, answered, whole) = (proxy.server.clone(), proxy.answered.clone(), proxy.whole.clone());
        let (flow, cuts) = (proxy.flow.clone(), proxy.cuts.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = server.load(Ordering::SeqCst);
                let (answered, whole) = (answered.clone(), whole.clone());
                let lose = Lose { answered, whole, flow: flow.clone() };
                tokio::spawn(serve(client, server, lose, cuts.subscribe()));
            }
        });
        proxy
    }

    /// The port on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Says what passes from now on.
    pub(crate) fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }

    /// Lets requests pass, and no answers, until it is called again.
    pub(crate) fn lose_answers(&self, lose: bool) {
        self.set(if lose { Flow::LoseAnswers } else { Flow::Pass });
    }

    /// Answers so many requests more, and loses the answers to all that follow, until the flow is [set](Self::set).
    pub(crate) fn lose_answers_after(&self, requests: usize) {
        self.answered.store(requests, Ordering::SeqCst);
    }

    /// Passes so many requests more, and the first half of the one that follows: nothing more of that connection, which
    /// stays open until all are [cut](Self::cut).
    pub(crate) fn halve_message_after(&self, requests: usize) {
        self.whole.store(requests, Ordering::SeqCst);
    }

    /// Sends new connections to another port.
    pub(crate) fn lead_to(&self, server: u16) {
        self.server.store(server, Ordering::SeqCst);
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// Counts requests, each of which is read at once.
struct Lose {
    answered: Arc<AtomicUsize>,
    whole: Arc<AtomicUsize>,
    flow: watch::Sender<Flow>,
}

impl Lose {
    fn count(&self) {
        let left = self.answered.load(Ordering::SeqCst);
        if left == 0 {
            self.answered.store(ALL, Ordering::SeqCst);
            self.flow.send_replace(Flow::LoseAnswers);
        } else if left != ALL {
            self.answered.store(left - 1, Ordering::SeqCst);
        }
    }

    /// Whether this request is cut in two.
    fn halves(&self) -> bool {
        let left = self.whole.load(Ordering::SeqCst);
        if left != ALL {
            self.whole.store(left.checked_sub(1).unwrap_or(ALL), Ordering::SeqCst);
        }
        left == 0
    }
}

async fn serve(client: TcpStream, server: u16, lose: Lose, mut cut: watch::Receiver<u64>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    for stream in [&client, &server] {
        // An error: it has ended.
        let _ = stream.set_nodelay(true);
    }
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    tokio::select! {
        () = pass(&mut from_client, &mut to_server, &lose, false) => {}
        () = pass(&mut from_server, &mut to_client, &lose, true) => {}
        _ = cut.changed() => {}
    }
}

async fn pass(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, lose: &Lose, answers: bool) {
    let mut flow = lose.flow.subscribe();
    let mut chunk = vec![0; CHUNK];
    loop {
        let Ok(length @ 1..) = from.read(&mut chunk).await else { return };
        if !answers {
            lose.count();
        }
        // An error: the proxy is gone.
        let Ok(flow) = flow.wait_for(|flow| *flow != Flow::Stall).await.map(|flow| *flow) else { return };
        if answers && flow == Flow::LoseAnswers {
            continue;
        }
        let halved = !answers && lose.halves();
        let passes = if halved { length / 2 } else { length };
        if to.write_all(&chunk[..passes]).await.is_err() {
            return;
        }
        if halved {
            // Neither the rest comes nor an end, until the connections are cut.
            return pending().await;
        }
    }
}

//! Stands between a node and its server, and loses answers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A port that leads to a server.
pub(crate) struct Proxy {
    port: u16,
    loses_answers: Arc<AtomicBool>,
    /// Counts how often all connections were cut.
    cuts: watch::Sender<u64>,
}

impl Proxy {
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let loses_answers = Arc::new(AtomicBool::new(false));
        let cuts = watch::Sender::default();
        let (loses, cut) = (loses_answers.clone(), cuts.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server, loses.clone(), cut.subscribe()));
            }
        });
        Self { port, loses_answers, cuts }
    }

    /// The URL of the server by way of this port.
    pub(crate) fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/0", super::harness::PASSWORD, self.port)
    }

    /// Lets requests pass, and no answers, until it is called again.
    pub(crate) fn lose_answers(&self, lose: bool) {
        self.loses_answers.store(lose, Ordering::SeqCst);
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn serve(client: TcpStream, server: u16, loses: Arc<AtomicBool>, mut cut: watch::Receiver<u64>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let answers = async {
        let mut answer = vec![0; 64 * 1_024];
        loop {
            match from_server.read(&mut answer).await {
                Ok(1..) if loses.load(Ordering::SeqCst) => {}
                Ok(length @ 1..) if to_client.write_all(&answer[..length]).await.is_ok() => {}
                _ => return,
            }
        }
    };
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        () = answers => {}
        _ = cut.changed() => {}
    }
}

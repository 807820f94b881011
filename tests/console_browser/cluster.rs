//! Nodes in this process that share a store, each with a console on a port of its own.

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{App, HttpServer, dev::ServerHandle, rt};
use callsheet::{
    Builder, Callsheet, HistoryOptions,
    console::{Access, Console, Decided},
    port::{Clock, MemoryBounds, SystemClock},
    testkit::MemoryRecords,
};
use callsheet_actors::adapter::{MemoryCatalogue, MemoryHistory, RecordsBackend};

/// Longer than a busy machine stands still.
const LEASE: Duration = Duration::from_secs(30);

/// What the nodes have in common.
pub(crate) struct Store {
    records: MemoryRecords,
    history: Arc<MemoryHistory>,
    catalogue: MemoryCatalogue,
}

impl Store {
    pub(crate) fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        Self {
            records: MemoryRecords::new(clock.clone()),
            history: Arc::new(MemoryHistory::new(MemoryBounds::default())),
            catalogue: MemoryCatalogue::new(clock),
        }
    }

    pub(crate) async fn node(&self, builder: Builder) -> Callsheet {
        let mut history = HistoryOptions::default();
        history.store = Some(self.history.clone());
        let backend = RecordsBackend::new(Arc::new(self.records.clone()), "console", LEASE);
        let node = builder.backend(backend).history(history).catalogue(self.catalogue.clone());
        node.start().await.expect("a good definition")
    }
}

/// A console that is served.
pub(crate) struct Served {
    /// Where the page is.
    pub(crate) url: String,
    server: ServerHandle,
}

impl Served {
    /// Whoever asks has this access.
    pub(crate) fn of(node: &Callsheet, access: Access) -> Self {
        let console = Console::new(node.clone()).authorise(move |_| {
            let access = access.clone();
            async move { access }
        });
        Self::console(console)
    }

    pub(crate) fn console(console: Console<Decided>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/console/", listener.local_addr().expect("it is bound"));
        let server = HttpServer::new(move || App::new().service(console.scope("/console")))
            .workers(1)
            .disable_signals()
            .shutdown_timeout(1)
            .listen(listener)
            .expect("it listens")
            .run();
        let handle = server.handle();
        rt::spawn(server);
        Self { url, server: handle }
    }

    pub(crate) async fn stop(self) {
        self.server.stop(false).await;
    }
}

pub(crate) async fn stop(node: Callsheet) {
    node.shutdown(Duration::from_secs(5)).await;
}

//! The suite of electors, on a node that elects by a lease.

use std::sync::Arc;

use callsheet::{
    backend::Elected,
    port::Backend,
    testkit::conformance::{self, Cluster},
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use crate::{Server, scope};

struct Nodes {
    server: Server,
    scope: String,
}

impl Cluster for Nodes {
    fn nodes_max(&self) -> usize {
        usize::MAX
    }

    fn knows_followers(&self) -> bool {
        false
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        let node: Arc<dyn Backend> = Arc::new(Elected::new(self.server.node(&self.scope)));
        async move { node }.boxed()
    }

    /// It is silent from now on, and its lease ends.
    fn kill(&mut self, _: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

#[tokio::test]
async fn kubernetes_is_an_elector() {
    conformance::elector(&mut Nodes { server: Server::start(), scope: scope("elector") }).await;
}

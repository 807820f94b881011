//! Calls to the API server, each with a deadline. Nothing is asked twice of its own accord.

use std::time::Duration;

use callsheet_actors::CALL_DEADLINE;
use futures_util::{StreamExt, stream::BoxStream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client, Config, Error,
    api::{PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    failure::{Failure, Verb, chain},
    settings::Settings,
};

/// For how long the server keeps a watch open, in seconds: a node reads the lease again before.
const WATCH_SECONDS: u32 = 60;

/// One lease, as this node reads and writes it.
pub(super) struct LeaseClient {
    settings: Settings,
    /// It works on the runtime of whoever asks first.
    connected: OnceCell<Connected>,
}

struct Connected {
    leases: Api<Lease>,
    namespace: String,
}

/// What became of a lease that was to be written.
pub(super) enum Written {
    /// It is like this from now on.
    Done(Box<Lease>),
    /// Somebody else has written it meanwhile, or deleted it. Nothing was done.
    Conflict,
}

/// What happened to the lease.
pub(super) enum Change {
    /// It is like this.
    Is(Box<Lease>),
    /// It was deleted.
    Deleted,
    /// There is no telling: it is to be read again.
    Unknown,
}

/// Changes of the lease.
pub(super) struct Changes(BoxStream<'static, Result<WatchEvent<Lease>, Error>>);

impl LeaseClient {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, connected: OnceCell::new() }
    }

    /// The lease; `None`: there is none.
    pub(super) async fn get(&self) -> Result<Option<Lease>, Failure> {
        let Connected { leases, namespace } = self.connected().await?;
        let answer = self.within(leases.get_opt(&self.settings.scope)).await?;
        answer.map_err(|error| Failure::of(Verb::Get, namespace, &error))
    }

    /// Writes a lease where there is none, or in place of the one with the same resource version.
    pub(super) async fn write(&self, lease: &Lease) -> Result<Written, Failure> {
        let Connected { leases, namespace } = self.connected().await?;
        let how = PostParams::default();
        let (verb, answer) = match lease.metadata.resource_version {
            Some(_) => (Verb::Update, self.within(leases.replace(&self.settings.scope, &how, lease)).await?),
            None => (Verb::Create, self.within(leases.create(&how, lease)).await?),
        };
        match answer {
            Ok(lease) => Ok(Written::Done(Box::new(lease))),
            // It exists already, or has another resource version.
            Err(Error::Api(status)) if status.code == 409 => Ok(Written::Conflict),
            Err(Error::Api(status)) if status.code == 404 && verb == Verb::Update => Ok(Written::Conflict),
            Err(error) => Err(Failure::of(verb, namespace, &error)),
        }
    }

    /// The changes of the lease after a resource version; `None`: the server does not know that one any more.
    pub(super) async fn watch(&self, version: &str) -> Result<Option<Changes>, Failure> {
        let Connected { leases, namespace } = self.connected().await?;
        let name = format!("metadata.name={}", self.settings.scope);
        let what = WatchParams::default().fields(&name).timeout(WATCH_SECONDS);
        match self.within(leases.watch(&what, version)).await? {
            Ok(changes) => Ok(Some(Changes(changes.boxed()))),
            Err(Error::Api(status)) if status.code == 410 => Ok(None),
            Err(error) => Err(Failure::of(Verb::Watch, namespace, &error)),
        }
    }

    async fn within<T>(&self, call: impl Future<Output = T>) -> Result<T, Failure> {
        within(self.settings.deadline, call).await
    }

    async fn connected(&self) -> Result<&Connected, Failure> {
        self.connected.get_or_try_init(|| within_start(connect(&self.settings))).await
    }
}

impl Changes {
    /// The next change; `None`: there is no more to be heard.
    pub(super) async fn next(&mut self) -> Option<Change> {
        loop {
            return match self.0.next().await? {
                Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease)) => {
                    Some(Change::Is(Box::new(lease)))
                }
                Ok(WatchEvent::Deleted(_)) => Some(Change::Deleted),
                // Nothing has happened.
                Ok(WatchEvent::Bookmark(_)) => continue,
                // That it is gone (410) among others.
                Ok(WatchEvent::Error(_)) | Err(_) => Some(Change::Unknown),
            };
        }
    }
}

async fn within<T>(deadline: Duration, call: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(deadline, call).await.map_err(|_| Failure::Timeout)
}

/// A plug-in may have to fetch a token first.
async fn within_start<T>(start: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    within(CALL_DEADLINE, start).await?
}

async fn connect(settings: &Settings) -> Result<Connected, Failure> {
    let refused = |error: &dyn std::error::Error| {
        Failure::Refused(format!(
            "it is not known where the API server is: {}; set KUBECONFIG, name a file by Kubernetes::kubeconfig, or run \
             in a pod with a service account",
            chain(error)
        ))
    };
    let mut config = match &settings.kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).map_err(|error| refused(&error))?;
            let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
            config.map_err(|error| refused(&error))?
        }
        None => Config::infer().await.map_err(|error| refused(&error))?,
    };
    // What is asked again is decided here.
    config.default_retry = false;
    config.connect_timeout = Some(settings.deadline);
    let namespace = settings.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| refused(&error))?;
    Ok(Connected { leases: Api::namespaced(client, &namespace), namespace })
}

//! The console: a page and a JSON API in a scope of the application's own actix-web server, to see, understand and
//! operate the jobs. The [guide](crate::guide::console) has more.
//!
//! ```
//! use actix_web::{App, HttpRequest};
//! use callsheet::{Callsheet, console::{Access, Console}};
//!
//! # fn app(jobs: Callsheet) {
//! let console = Console::new(jobs).authorise(async |request: HttpRequest| {
//!     // Whoever the application's own middleware has authenticated.
//!     match request.headers().get("x-example-user").and_then(|user| user.to_str().ok()) {
//!         Some("alice") => Access::Edit("alice".to_owned()),
//!         Some(user) => Access::Read(user.to_owned()),
//!         None => Access::Nobody,
//!     }
//! });
//! let app = App::new().service(console.scope("/console"));
//! # }
//! ```
//!
//! Without a decision on who may read there is no scope, so this does not compile:
//!
//! ```compile_fail
//! # fn app(jobs: callsheet::Callsheet) {
//! let app = actix_web::App::new().service(callsheet::console::Console::new(jobs).scope("/console"));
//! # }
//! ```

mod access;
mod actions;
mod assets;
mod board;
mod cache;
mod cluster;
mod embedded;
mod events;
mod openapi;
mod origin;
mod policy;
mod problem;
mod read;
mod routes;
mod view;

use std::sync::Arc;

use actix_web::{HttpRequest, dev::HttpServiceFactory};
use callsheet_actors::Fault;
use tokio::sync::Semaphore;

pub use self::access::Access;
use self::{
    access::Authorise,
    board::Board,
    cache::Cache,
    cluster::InProgress,
    events::Hub,
    policy::Policy,
    read::{Activities, Calendars, Open},
};
use crate::handle::Callsheet;

/// The most jobs of one bulk action.
pub const BULK_MAX: usize = 1_000;
/// The most streams of events at a time, of one node.
pub const STREAMS_MAX: usize = 1_000;
/// The largest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// How many questions that cost much are answered at a time.
const HEAVY_MAX: usize = 2;
/// How many previews are computed at a time.
const PREVIEWS_MAX: usize = 2;
/// How many edits are computed at a time: whoever only reads cannot keep them from it.
const EDITS_MAX: usize = 2;

/// Nobody has decided yet who may read: see [`Console::anyone_may_read`] and [`Console::authorise`].
#[derive(Debug, Clone, Default)]
pub struct Undecided(Policy);

/// It is decided who may do what.
#[derive(Clone)]
pub struct Decided(Arc<Shared>);

/// The console of one scheduler. Cheap to clone; it goes into the closure of `HttpServer::new`.
///
/// It answers nobody before it is decided who may read: [`anyone_may_read`](Self::anyone_may_read) or
/// [`authorise`](Self::authorise).
#[derive(Clone)]
pub struct Console<D = Undecided> {
    jobs: Callsheet,
    decided: D,
}

/// What all workers of a server share.
pub(crate) struct Shared {
    pub(crate) jobs: Callsheet,
    pub(crate) authorise: Authorise,
    pub(crate) policy: Policy,
    pub(crate) board: Board,
    pub(crate) hub: Hub,
    pub(crate) heavy: Semaphore,
    pub(crate) previews: Arc<Semaphore>,
    pub(crate) edits: Arc<Semaphore>,
    /// The runs in progress on all nodes, after so many changes.
    pub(crate) active: Cache<u64, Arc<InProgress>>,
    /// What the history does not know to have ended.
    pub(crate) open: Cache<(), Arc<Open>>,
    pub(crate) activities: Activities,
    pub(crate) calendars: Calendars,
}

impl Console<Undecided> {
    /// The console of this scheduler.
    pub fn new(jobs: Callsheet) -> Self {
        Self { jobs, decided: Undecided::default() }
    }

    /// Lets pages of these origins show the console in a frame, such as `https://portal.example`. Default: none.
    /// The browser must send the frame's requests with what `authorise` looks at: cookies of another site it may
    /// leave out.
    ///
    /// # Errors
    ///
    /// [`Fault`] if one is no origin: a scheme, `://`, a host and perhaps a port.
    pub fn frame_ancestors<O: AsRef<str>>(self, origins: impl IntoIterator<Item = O>) -> Result<Self, Fault> {
        let Self { jobs, decided: Undecided(policy) } = self;
        Ok(Self { jobs, decided: Undecided(policy.frame_ancestors(origins)?) })
    }

    /// Says at which origin browsers see the console, such as `http://ops.example:8080`. It is the only one then: a
    /// request with another `Origin` is refused, also if that is the `Host` that was asked.
    ///
    /// It is needed behind a proxy that changes the `Host` of requests, in front of browsers that send no
    /// `Sec-Fetch-Site` (they leave it out where neither TLS nor `localhost` is used). Say it also where `authorise`
    /// trusts whoever reaches the address: a name of another site can be made to lead there (DNS rebinding), and
    /// `Host` and `Origin` are alike then. A `GET` has no `Origin`, so that this keeps nobody from reading.
    ///
    /// # Errors
    ///
    /// As for [`frame_ancestors`](Self::frame_ancestors).
    pub fn origin(self, origin: impl AsRef<str>) -> Result<Self, Fault> {
        let Self { jobs, decided: Undecided(policy) } = self;
        Ok(Self { jobs, decided: Undecided(policy.origin(origin.as_ref())?) })
    }

    /// Whoever can reach the server may read, and nobody may do anything. Errors of runs, their reports and the
    /// arguments of stored jobs are shown.
    pub fn anyone_may_read(self) -> Console<Decided> {
        self.decided(Authorise::anyone_may_read())
    }

    /// Asks the application about each request: who it is, and what he may do. It is asked for every request to the
    /// console, its files included, and has 5 s to answer. A stream of events is asked about again after 15 min.
    ///
    /// The name goes into the record of operations. The console has no cookies, log-in or sessions of its own.
    pub fn authorise<F, Fut>(self, authorise: F) -> Console<Decided>
    where
        F: Fn(HttpRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Access> + 'static,
    {
        self.decided(Authorise::by(authorise))
    }

    fn decided(self, authorise: Authorise) -> Console<Decided> {
        let Self { jobs, decided: Undecided(policy) } = self;
        let shared = Shared {
            board: Board::new(jobs.clone()),
            hub: Hub::default(),
            heavy: Semaphore::new(HEAVY_MAX),
            previews: Arc::new(Semaphore::new(PREVIEWS_MAX)),
            edits: Arc::new(Semaphore::new(EDITS_MAX)),
            active: Cache::default(),
            open: Cache::default(),
            activities: Activities::default(),
            calendars: Calendars::default(),
            jobs: jobs.clone(),
            authorise,
            policy,
        };
        Console { jobs, decided: Decided(Arc::new(shared)) }
    }
}

impl Console<Decided> {
    /// The console as a scope at a prefix, such as `/console`; `/` or an empty one is the root, and is then to be
    /// registered after all other services. All its URLs are relative, so that it works behind a proxy that strips a
    /// part of the path, as long as the path in the browser ends in `/`.
    ///
    /// Its headers (a strict content security policy, for one) are on its own answers only.
    pub fn scope(&self, prefix: &str) -> impl HttpServiceFactory + use<> {
        routes::scope(&self.decided.0, prefix)
    }

    /// The description of its API, OpenAPI 3.1, as JSON.
    pub fn openapi() -> String {
        openapi::json()
    }

    /// The scheduler.
    pub fn jobs(&self) -> &Callsheet {
        &self.jobs
    }
}

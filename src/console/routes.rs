//! Every route of the console, with the right that it needs: the scope is made of this table and nothing else.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse, Route as Handlers,
    dev::HttpServiceFactory,
    middleware::from_fn,
    web::{self, Data, JsonConfig, QueryConfig},
};

use super::{
    BODY_BYTES_MAX, Shared,
    access::{Caller, Reads, Right},
    actions, assets, events, openapi, policy,
    problem::Problem,
    read,
};

/// A route below `api/`.
pub(crate) struct Route {
    /// `get` or `post`.
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) right: Right,
    handlers: fn() -> Handlers,
}

macro_rules! routes {
    ($($method:ident $path:literal $right:ident $handler:path;)+) => {
        pub(crate) const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            right: Right::$right,
            handlers: || web::$method().to($handler),
        }),+];
    };
}

routes! {
    get "/api/me" Read read::me;
    get "/api/overview" Read read::overview;
    get "/api/nodes" Read read::nodes;
    get "/api/activity" Read read::activity;
    get "/api/jobs" Read read::jobs;
    get "/api/job" Read read::job;
    get "/api/preview" Read read::preview;
    get "/api/runs" Read read::runs;
    get "/api/run" Read read::run;
    get "/api/decisions" Read read::decisions;
    get "/api/explain" Read read::explain;
    get "/api/operations" Read read::operations;
    get "/api/locks" Read read::locks;
    get "/api/calendar" Read read::calendar;
    get "/api/backfills" Read read::backfills;
    get "/api/tasks" Read read::tasks;
    get "/api/events" Read events::events;
    get "/api/openapi.json" Read openapi::document;
    post "/api/actions/run" Operate actions::run;
    post "/api/actions/pause" Operate actions::pause;
    post "/api/actions/resume" Operate actions::resume;
    post "/api/actions/cancel" Operate actions::cancel;
    post "/api/actions/skip-missed" Operate actions::skip_missed;
    post "/api/actions/cancel-run" Operate actions::cancel_run;
    post "/api/actions/backfill" Operate actions::backfill;
    post "/api/actions/cancel-backfill" Operate actions::cancel_backfill;
    post "/api/actions/edit" Edit actions::edit;
    post "/api/actions/remove" Edit actions::remove;
}

async fn no_route(_: Caller<Reads>) -> Result<HttpResponse, Problem> {
    Err(Problem::no_route())
}

async fn no_method(_: Caller<Reads>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::method(&request))
}

/// The console at a prefix.
pub(crate) fn scope(shared: &Arc<Shared>, prefix: &str) -> impl HttpServiceFactory + use<> {
    let json = JsonConfig::default().limit(BODY_BYTES_MAX);
    let json = json.error_handler(|error, _| Problem::of_json(&error).into());
    let query = QueryConfig::default().error_handler(|error, _| Problem::of_query(&error).into());
    let mut scope = web::scope(prefix.trim_end_matches('/'))
        .app_data(Data::from(shared.clone()))
        .app_data(json)
        .app_data(query);
    for route in ROUTES {
        let resource = web::resource(route.path).route((route.handlers)());
        scope = scope.service(resource.default_service(web::to(no_method)));
    }
    for (path, handlers) in pages() {
        scope = scope.service(web::resource(path).route(handlers).default_service(web::to(no_method)));
    }
    scope.default_service(web::to(no_route)).wrap(from_fn(policy::headers))
}

/// What is not part of the API.
fn pages() -> [(&'static str, Handlers); 3] {
    [
        ("", web::get().to(assets::with_slash)),
        ("/", web::get().to(assets::index)),
        ("/assets/{hash}/{path:.+}", web::get().to(assets::file)),
    ]
}

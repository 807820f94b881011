//! What changes, as server-sent events: serialised once for all who listen, resumable, and bounded in all directions.

mod changes;
mod hub;
mod pump;
mod stream;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, ContentEncoding},
    web::Query,
};
use serde::Deserialize;
use utoipa::IntoParams;

pub(crate) use self::hub::Hub;
use super::{
    access::{Caller, Reads},
    problem::Problem,
};

/// The documented functions, for the description.
pub(crate) mod paths {
    pub(crate) use super::__path_events;
}

/// What a client wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Overview,
    Jobs,
    Runs,
}

impl View {
    const ALL: [Self; 3] = [Self::Overview, Self::Jobs, Self::Runs];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Jobs => "jobs",
            Self::Runs => "runs",
        }
    }
}

/// Some of the views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Views([bool; 3]);

impl Views {
    /// Reads `overview,jobs`; all of them, if nothing is said.
    fn read(text: Option<&str>) -> Result<Self, Problem> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self([true; 3])) };
        let mut views = Self([false; 3]);
        for word in text.split(',') {
            let view = View::ALL.into_iter().find(|view| view.as_str() == word);
            let view = view.ok_or_else(|| Problem::invalid("`views` are of overview, jobs and runs"))?;
            views.0[view as usize] = true;
        }
        Ok(views)
    }

    pub(crate) fn have(self, view: View) -> bool {
        self.0[view as usize]
    }
}

/// What to hear of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AskedEvents {
    /// `overview`, `jobs` and `runs`, with commas between them. Default: all.
    views: Option<String>,
}

/// What changes, as server-sent events. A client that was away sends `Last-Event-ID`, and goes on from there.
#[utoipa::path(get, path = "/api/events",
    params(AskedEvents, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event")),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(crate) async fn events(
    caller: Caller<Reads, Query<AskedEvents>>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let views = Views::read(caller.input.views.as_deref())?;
    let last = request.headers().get("last-event-id").and_then(|last| last.to_str().ok());
    let client = caller.shared.hub.subscribe(views, last)?;
    pump::see_to_it(&caller.shared);
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // A compressor, or a proxy that buffers, would keep events back.
        .insert_header(ContentEncoding::Identity)
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(stream::body(client)))
}

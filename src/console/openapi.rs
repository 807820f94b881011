//! The description of the API: OpenAPI 3.1.

use actix_web::HttpResponse;
use utoipa::OpenApi;

use super::{
    access::{Caller, Reads},
    actions::paths as actions,
    events::paths as events,
    problem::Problem,
    read::paths as read,
    routes::ROUTES,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "The console of Callsheet",
        description = "URLs are relative to the root of the console's scope. Who may do what is up to the application."
    ),
    paths(
        read::me, read::overview, read::nodes, read::activity, read::jobs, read::job, read::preview, read::runs,
        read::run, read::decisions, read::explain, read::operations, read::locks, read::calendar, read::backfills,
        read::tasks, events::events, document, actions::run, actions::pause, actions::resume, actions::cancel,
        actions::skip_missed, actions::cancel_run, actions::backfill, actions::cancel_backfill, actions::edit,
        actions::remove
    ),
    components(schemas(Problem)),
    servers((url = ".."))
)]
struct Description;

/// The description, with the right that each route needs, and with the problems that each may answer.
fn description() -> serde_json::Value {
    let mut description = serde_json::to_value(Description::openapi()).unwrap_or_default();
    for route in ROUTES {
        let operation = description.get_mut("paths").and_then(|paths| paths.get_mut(route.path));
        if let Some(operation) = operation.and_then(|path| path.get_mut(route.method)) {
            operation["x-right"] = route.right.as_str().into();
            operation["responses"]["4XX"] = problem("It was not done.");
            operation["responses"]["5XX"] =
                problem("It cannot be done now, or whether it was done is not known.");
        }
    }
    description
}

/// An answer that is a problem.
fn problem(description: &str) -> serde_json::Value {
    let schema = serde_json::json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
    serde_json::json!({ "description": description, "content": { "application/problem+json": schema } })
}

pub(crate) fn json() -> String {
    description().to_string()
}

/// This description.
#[utoipa::path(get, path = "/api/openapi.json",
    responses((status = 200, content_type = "application/json", body = Object)))]
pub(crate) async fn document(_: Caller<Reads>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(json())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_has_the_routes_that_there_are_and_no_others() {
        let description = description();
        let paths = description["paths"].as_object().expect("there are some");
        let described: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("an object").iter();
                methods.map(move |(method, operation)| {
                    (method.clone(), path.clone(), operation["x-right"].as_str().map(str::to_owned))
                })
            })
            .collect();

        let served: BTreeSet<_> = ROUTES
            .iter()
            .map(|route| {
                (route.method.to_owned(), route.path.to_owned(), Some(route.right.as_str().to_owned()))
            })
            .collect();

        assert_eq!(described, served);
        assert_eq!(description["openapi"], "3.1.0");
    }
}

//! Requests that pages of other sites make a browser send are refused: by Fetch Metadata, or by `Origin` where a
//! browser sends no such headers. Programs send neither.

use actix_web::{HttpRequest, http::Method, http::header};

use super::{policy::Policy, problem::Problem};

/// Whether the request may be looked at. It grants nothing: that is for the application to say.
pub(crate) fn check(request: &HttpRequest, policy: &Policy, is_page: bool) -> Result<(), Problem> {
    let one = |name: &str| {
        let mut values = request.headers().get_all(name);
        let first = values.next().map(|value| value.to_str().unwrap_or("?"));
        // Two of one kind are none of a browser.
        if values.next().is_some() { Some("?") } else { first }
    };
    let origin = one(header::ORIGIN.as_str());
    // Whatever else the browser says: a name that leads here only now is another origin.
    if origin.is_some_and(|origin| policy.excludes(origin)) {
        return Err(Problem::cross_site());
    }
    if let Some(site) = one("sec-fetch-site") {
        let is_shown = match one("sec-fetch-dest") {
            Some("document") => true,
            // Which pages may frame it, the browser learns from the answer.
            Some("iframe" | "frame") => is_page && policy.has_ancestors(),
            _ => false,
        };
        let navigates = is_shown && one("sec-fetch-mode") == Some("navigate");
        return match site {
            "same-origin" | "none" => Ok(()),
            _ if navigates && request.method() == Method::GET => Ok(()),
            _ => Err(Problem::cross_site()),
        };
    }
    match origin {
        None => Ok(()),
        Some(origin) if policy.is_own(origin, one(header::HOST.as_str())) => Ok(()),
        Some(_) => Err(Problem::cross_site()),
    }
}

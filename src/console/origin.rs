//! Requests that pages of other sites make a browser send are refused: by Fetch Metadata, or by `Origin` where a
//! browser sends no such headers. Programs send neither.

use actix_web::{HttpRequest, http::Method, http::header};

use super::{policy::Policy, problem::Problem};

/// Whether the request may be looked at. It grants nothing: that is for the application to say.
pub(crate) fn check(request: &HttpRequest, policy: &Policy) -> Result<(), Problem> {
    let one = |name: &str| {
        let mut values = request.headers().get_all(name);
        let first = values.next().map(|value| value.to_str().unwrap_or("?"));
        // Two of one kind are none of a browser.
        if values.next().is_some() { Some("?") } else { first }
    };
    if let Some(site) = one("sec-fetch-site") {
        let navigates = one("sec-fetch-mode") == Some("navigate")
            && one("sec-fetch-dest") == Some("document")
            && request.method() == Method::GET;
        return match site {
            "same-origin" | "none" => Ok(()),
            _ if navigates => Ok(()),
            _ => Err(Problem::cross_site()),
        };
    }
    match one(header::ORIGIN.as_str()) {
        None => Ok(()),
        Some(origin) if policy.is_own(origin, one(header::HOST.as_str())) => Ok(()),
        Some(_) => Err(Problem::cross_site()),
    }
}

//! What browsers are told of the console's answers, and which origins are its own.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    web::Data,
};
use callsheet_actors::{Fault, adapter::bounded};

use super::{Shared, problem::Problem};

/// Everything but who may frame it.
const CONTENT: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                       font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                       require-trusted-types-for 'script'; trusted-types 'none'; frame-ancestors ";

/// The most bytes of an origin that is shown in an error.
const SHOWN_MAX: usize = 200;

#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    ancestors: Vec<String>,
    origin: Option<String>,
}

impl Policy {
    pub(crate) fn frame_ancestors<O: AsRef<str>>(
        self,
        origins: impl IntoIterator<Item = O>,
    ) -> Result<Self, Fault> {
        let ancestors = origins.into_iter().map(|origin| checked("frame_ancestors", origin.as_ref()));
        Ok(Self { ancestors: ancestors.collect::<Result<_, _>>()?, ..self })
    }

    pub(crate) fn origin(self, origin: &str) -> Result<Self, Fault> {
        let origin = checked("origin", origin)?;
        // Browsers leave the port of the scheme out.
        let port = if origin.starts_with("https://") { ":443" } else { ":80" };
        Ok(Self { origin: Some(origin.strip_suffix(port).unwrap_or(&origin).to_owned()), ..self })
    }

    /// Pages of other sites may show it in a frame.
    pub(crate) fn has_ancestors(&self) -> bool {
        !self.ancestors.is_empty()
    }

    /// An origin was configured, and this is another one.
    pub(crate) fn excludes(&self, origin: &str) -> bool {
        self.origin.as_deref().is_some_and(|own| !own.eq_ignore_ascii_case(origin))
    }

    /// Whether an `Origin` is that of the console: the one that was configured, otherwise the host that was asked.
    pub(crate) fn is_own(&self, origin: &str, host: Option<&str>) -> bool {
        if self.origin.is_some() {
            return !self.excludes(origin);
        }
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
    }

    fn content(&self) -> String {
        match self.ancestors.as_slice() {
            [] => format!("{CONTENT}'none'"),
            some => format!("{CONTENT}{}", some.join(" ")),
        }
    }

    fn put_into(&self, headers: &mut HeaderMap) {
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put(header::CONTENT_SECURITY_POLICY, &self.content());
        put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        put(header::REFERRER_POLICY, "no-referrer");
        put(header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin");
        put(header::CROSS_ORIGIN_OPENER_POLICY, "same-origin");
        if self.ancestors.is_empty() {
            put(header::X_FRAME_OPTIONS, "DENY");
        }
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
}

/// An origin, which goes into a header.
fn checked(subject: &str, origin: &str) -> Result<String, Fault> {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    match host {
        Some(host) if !host.is_empty() && host.bytes().all(is_good) => Ok(origin.to_owned()),
        Some(_) | None => {
            let rule = "it is a scheme, a host and perhaps a port";
            Err(Fault::new(subject, bounded(origin, SHOWN_MAX), rule, "write https://ops.example:8443"))
        }
    }
}

/// Puts the headers on each answer of the scope, also on refusals.
pub(crate) async fn headers(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let shared = request.app_data::<Data<Shared>>().cloned();
    let mut response = next.call(request).await?;
    let shared = shared.ok_or_else(|| Problem::internal("the console has lost its state"))?;
    shared.policy.put_into(response.headers_mut());
    Ok(response)
}

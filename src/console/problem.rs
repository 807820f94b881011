//! Why a request was not done: `application/problem+json`, RFC 9457.

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    body::BoxBody,
    error::{JsonPayloadError, QueryPayloadError},
    http::{StatusCode, header},
};
use callsheet_actors::{
    AddError, BackfillError, ErrorKind, Fault, Faults, PauseError, StoredJobError, UpdateError,
    adapter::bounded,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::access::Right;
use crate::error::{Error, status};

/// The longest text of a problem, in bytes.
const TEXT_BYTES_MAX: usize = 4_096;
/// The most faults of a problem.
const FAULTS_MAX: usize = 20;

/// Why a request was not done.
#[derive(Debug, Clone, Serialize, ToSchema, thiserror::Error)]
#[error("{detail}; {cure}")]
pub(crate) struct Problem {
    /// Always `about:blank`: the kind says more.
    #[schema(value_type = String)]
    r#type: &'static str,
    /// The status in words.
    #[schema(value_type = String)]
    title: &'static str,
    /// The status of the answer.
    pub(crate) status: u16,
    /// What kind of problem it is, in one word.
    #[schema(value_type = String)]
    pub(crate) kind: &'static str,
    /// What happened.
    #[schema(value_type = String)]
    detail: Box<str>,
    /// What would mend it.
    #[schema(value_type = String)]
    cure: Box<str>,
    /// What is wrong with what was sent, value by value.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FaultView>)]
    faults: Box<[FaultView]>,
    /// The right that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    needs: Option<Right>,
    /// The right that the user has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    has: Option<Right>,
    /// How many jobs it would be, or fire times.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    /// Which they would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[allow(clippy::box_collection, reason = "a problem is to be small: it is the error of most functions")]
    digest: Option<Box<String>>,
}

/// One thing that is wrong with what was sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FaultView {
    subject: String,
    value: String,
    rule: String,
    cure: String,
}

impl From<&Fault> for FaultView {
    fn from(fault: &Fault) -> Self {
        let text = |text: &str| bounded(text, TEXT_BYTES_MAX);
        Self {
            subject: text(&fault.subject),
            value: text(&fault.value),
            rule: text(&fault.rule),
            cure: text(&fault.cure),
        }
    }
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>, cure: &str) -> Self {
        Self {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            kind,
            detail: bounded(detail.into(), TEXT_BYTES_MAX).into(),
            cure: cure.into(),
            faults: Box::default(),
            needs: None,
            has: None,
            count: None,
            digest: None,
        }
    }

    pub(crate) fn cure(self, cure: impl Into<Box<str>>) -> Self {
        Self { cure: cure.into(), ..self }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail, "correct it; api/openapi.json has the rules")
    }

    pub(crate) fn faults(faults: &Faults) -> Self {
        Self::invalid(faults.to_string()).cure(cure_of(faults.as_slice())).with(faults.as_slice())
    }

    fn with(self, faults: &[Fault]) -> Self {
        Self { faults: faults.iter().take(FAULTS_MAX).map(FaultView::from).collect(), ..self }
    }

    pub(crate) fn not_found(detail: impl Into<String>, cure: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail, cure)
    }

    pub(crate) fn changed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "changed", detail, "read it again, and change what stands")
    }

    pub(crate) fn count(asked: Option<usize>, found: usize, digest: String) -> Self {
        let detail = match asked {
            Some(asked) => format!("it would be {found} jobs, not {asked}"),
            None => format!("it would be {found} jobs, and the request does not say how many it means"),
        };
        Self::not_as_shown(detail, found, digest)
    }

    /// They are as many as was said, and not the same.
    pub(crate) fn others(what: &str, found: usize, digest: String) -> Self {
        Self::not_as_shown(format!("it would be other {what} than those of the `digest`"), found, digest)
    }

    pub(crate) fn no_digest(what: &str, found: usize, digest: String) -> Self {
        let detail = format!("it would be {found} {what}, and the request has no `digest` that says which");
        Self::not_as_shown(detail, found, digest)
    }

    fn not_as_shown(detail: String, found: usize, digest: String) -> Self {
        let cure = "ask with `dry_run`: true, and send its `count` and `digest`";
        let problem = Self::new(StatusCode::CONFLICT, "count", detail, cure);
        Self { count: u32::try_from(found).ok(), digest: Some(Box::new(digest)), ..problem }
    }

    pub(crate) fn forbidden(needs: Right, has: Right) -> Self {
        let detail =
            format!("this needs the right `{}`, and the user has `{}`", needs.as_str(), has.as_str());
        let cure = "log in as somebody who has it; the application decides who has";
        Self {
            needs: Some(needs),
            has: Some(has),
            ..Self::new(StatusCode::FORBIDDEN, "forbidden", detail, cure)
        }
    }

    pub(crate) fn cross_site() -> Self {
        let detail = "a page of another site made the browser send this";
        let cure = "use the console's own page; behind a proxy that changes `Host`, set `Console::origin`";
        Self::new(StatusCode::FORBIDDEN, "cross_site", detail, cure)
    }

    pub(crate) fn no_route() -> Self {
        Self::not_found("the console has no such page", "look into api/openapi.json")
    }

    pub(crate) fn method(request: &HttpRequest) -> Self {
        let detail = format!("{} is none of its methods", request.method());
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail, "look into api/openapi.json")
    }

    pub(crate) fn too_many(what: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", what, "ask again in some seconds")
    }

    pub(crate) fn unavailable(detail: impl Into<String>, cure: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail, cure)
    }

    pub(crate) fn no_answer() -> Self {
        Self::unavailable(
            "the application does not say who asks",
            "look at what `Console::authorise` waits for",
        )
    }

    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        let cure = "this is a defect: report it";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail, cure)
    }

    /// Of a body that cannot be read.
    pub(crate) fn of_json(error: &JsonPayloadError) -> Self {
        match error {
            JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
                let cure = "send at most 64 KiB";
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large", cure)
            }
            JsonPayloadError::ContentType => {
                let cure = "send JSON, with `Content-Type: application/json`";
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", "the body is not JSON", cure)
            }
            error => Self::invalid(format!("the body is not what is expected: {error}")),
        }
    }

    /// Of a query that cannot be read.
    pub(crate) fn of_query(error: &QueryPayloadError) -> Self {
        Self::invalid(format!("the query is not what is expected: {error}"))
    }
}

fn cure_of(faults: &[Fault]) -> String {
    faults.first().map(|fault| bounded(&fault.cure, TEXT_BYTES_MAX)).unwrap_or_default()
}

fn faults_of(error: &Error) -> Option<&[Fault]> {
    match error {
        Error::Add(AddError::Invalid(faults) | AddError::Exists(faults))
        | Error::Update(UpdateError::Invalid(faults))
        | Error::Pause(PauseError::Invalid(faults))
        | Error::Backfill(BackfillError::Invalid(faults))
        | Error::Stored(StoredJobError::Invalid(faults)) => Some(faults.as_slice()),
        Error::By(fault) | Error::Note(fault) => Some(std::slice::from_ref(fault)),
        _ => None,
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        if let Error::Stored(StoredJobError::Elsewhere { .. }) = &error {
            return Self::changed(error.to_string());
        }
        let kind = error.kind();
        let cure = match kind {
            ErrorKind::NotFound => "list the jobs to see their names",
            ErrorKind::Exists => "choose another name, or change the job",
            ErrorKind::Invalid => "correct it",
            ErrorKind::Over => "give it a later fire time",
            ErrorKind::Busy => "ask again later",
            ErrorKind::Stopped => "start another node, or ask another one",
            // Also what a later version of the engine adds.
            ErrorKind::Unavailable | _ => "ask again later, or mend what is named",
        };
        let problem = Self::new(status(kind), kind.as_str(), error.to_string(), cure);
        match faults_of(&error) {
            Some(faults) => problem.cure(cure_of(faults)).with(faults),
            None => problem,
        }
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CONTENT_TYPE, "application/problem+json"));
        if self.status_code() == StatusCode::TOO_MANY_REQUESTS {
            response.insert_header((header::RETRY_AFTER, "5"));
        }
        // The type says it: no extractor of JSON sets another one.
        response.body(serde_json::to_string(self).unwrap_or_default())
    }
}

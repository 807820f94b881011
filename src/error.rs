//! Why a call to the scheduler did nothing, and what a web server answers then.

use callsheet_actors::{
    AddError, BackfillError, ClusterError, ErrorKind, ExplainError, Fault, HistoryError, NextFireTimesError,
    PauseError, SelectError, SkipMissedError, StoredJobError, TriggerError, UnknownRun, UpdateError,
};

/// Why a call to the scheduler did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Jobs were not added.
    #[error(transparent)]
    Add(#[from] AddError),
    /// There is no such job.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// No run was cancelled.
    #[error(transparent)]
    CancelRun(#[from] UnknownRun),
    /// A job was not changed.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// Jobs were not paused or resumed.
    #[error(transparent)]
    Pause(#[from] PauseError),
    /// What jobs had missed was not skipped.
    #[error(transparent)]
    SkipMissed(#[from] SkipMissedError),
    /// There are no fire times.
    #[error(transparent)]
    NextFireTimes(#[from] NextFireTimesError),
    /// It is not explained what became of a job.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// A trigger started nothing.
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    /// A stored job was not changed or answered.
    #[error(transparent)]
    Stored(#[from] StoredJobError),
    /// What was asked of all nodes was not done.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// No backfill was started, cancelled or listed.
    #[error(transparent)]
    Backfill(#[from] BackfillError),
    /// The history did not answer, or there is none.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The name of [who asks](crate::Callsheet::by) breaks a rule.
    #[error("{0}")]
    By(Fault),
    /// The [note](crate::Callsheet::note) breaks a rule.
    #[error("{0}")]
    Note(Fault),
    /// The scheduler has stopped.
    #[error("the scheduler has stopped; start another one")]
    Stopped,
}

impl Error {
    /// Answers what kind of error it is: what to do about it, whichever call it was.
    ///
    /// ```
    /// use callsheet::{ErrorKind, prelude::*};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let jobs = Callsheet::builder().start().await?;
    ///
    /// let error = jobs.trigger("report").await.expect_err("there is no such job");
    /// assert_eq!(error.kind(), ErrorKind::NotFound);
    /// # jobs.shutdown(std::time::Duration::ZERO).await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Add(error) => error.kind(),
            Self::Select(error) => error.kind(),
            Self::Update(error) => error.kind(),
            Self::Pause(error) => error.kind(),
            Self::SkipMissed(error) => error.kind(),
            Self::NextFireTimes(error) => error.kind(),
            Self::Trigger(error) => error.kind(),
            Self::Explain(error) => error.kind(),
            Self::CancelRun(error) => error.kind(),
            Self::Backfill(error) => error.kind(),
            Self::Stored(error) => error.kind(),
            Self::Cluster(error) => error.kind(),
            Self::History(error) => error.kind(),
            Self::By(_) | Self::Note(_) => ErrorKind::Invalid,
            Self::Stopped => ErrorKind::Stopped,
        }
    }
}

/// So that a handler of actix-web answers an error by `?`, with the status of its [kind](Error::kind) and the
/// error's text:
///
/// | kind | status |
/// |---|---|
/// | `NotFound` | 404 Not Found |
/// | `Exists`, `Busy` | 409 Conflict |
/// | `Invalid`, `Over` | 400 Bad Request |
/// | `Unavailable`, `Stopped` | 503 Service Unavailable |
///
/// The texts name jobs and what is wrong with them, and no passwords or connection strings.
///
/// ```
/// use actix_web::{HttpResponse, web};
/// use callsheet::{Callsheet, Error};
///
/// /// `POST /jobs/{name}/run`
/// async fn trigger(jobs: web::Data<Callsheet>, name: web::Path<String>) -> Result<HttpResponse, Error> {
///     let run = jobs.trigger(name.into_inner()).await?.run();
///     Ok(HttpResponse::Accepted().json(run))
/// }
/// ```
#[cfg(feature = "actix-web")]
impl actix_web::ResponseError for Error {
    fn status_code(&self) -> actix_web::http::StatusCode {
        status(self.kind())
    }
}

/// The status of an answer to a request that met such an error.
#[cfg(feature = "actix-web")]
pub(crate) fn status(kind: ErrorKind) -> actix_web::http::StatusCode {
    use actix_web::http::StatusCode;
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Exists | ErrorKind::Busy => StatusCode::CONFLICT,
        ErrorKind::Invalid | ErrorKind::Over => StatusCode::BAD_REQUEST,
        // Also what a later version of the engine adds.
        ErrorKind::Unavailable | ErrorKind::Stopped | _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

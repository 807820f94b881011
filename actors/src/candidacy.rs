//! Whether a node stands as a candidate for the lead.

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};

use crate::event::StepDownReason;

/// How long the application's own check may take. What takes longer counts as a no.
pub const MAY_LEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a node that was asked to resign does not campaign, unless told otherwise.
pub const RESIGN_PAUSE_DEFAULT: Duration = Duration::from_secs(30);
/// The shortest such time.
pub const RESIGN_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Whether a node stands as a candidate for the lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Candidacy {
    /// It leads, or leads as soon as nobody else does.
    Stands,
    /// It [prefers not to lead](crate::EngineOptions::prefer_not_to_lead), and does so only while nobody else
    /// stands.
    Reluctant,
    /// It does not campaign at present.
    Withdrawn {
        /// Why: [`Refused`](StepDownReason::Refused), [`Requested`](StepDownReason::Requested),
        /// [`Yielded`](StepDownReason::Yielded) or [`BodiesBlocked`](StepDownReason::BodiesBlocked).
        why: StepDownReason,
        /// The same in words.
        reason: Arc<str>,
        /// Since when.
        since: DateTime<Utc>,
    },
}

/// The application's own check whether a node may lead.
#[derive(Clone)]
pub struct MayLead(pub(crate) Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>);

impl MayLead {
    /// Asks `check`, which runs where bodies run.
    pub fn new<F, Fut>(check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        Self(Arc::new(move || check().boxed()))
    }
}

impl fmt::Debug for MayLead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MayLead")
    }
}

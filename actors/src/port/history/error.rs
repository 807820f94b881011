//! Why a history did not answer.

/// Why a history did not answer, or did not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The backend keeps none, or it is switched off.
    #[error("the {backend} backend keeps no history here; {cure}")]
    NotKept {
        /// What the backend is called.
        backend: &'static str,
        /// What would mend it.
        cure: &'static str,
    },
    /// There is no answer: whether something was written is not known.
    #[error("the history of the {history} backend did not answer: {reason}; ask again later")]
    Unavailable {
        /// What the history is called.
        history: &'static str,
        /// What happened, without passwords or connection strings.
        reason: String,
    },
    /// It refuses what was to be written for its data. Nothing was written; asking again would not help.
    #[error("the history of the {history} backend refuses its data: {reason}")]
    BadData {
        /// What the history is called.
        history: &'static str,
        /// What it says, without passwords or connection strings.
        reason: String,
    },
    /// The scheduler has stopped.
    #[error("the scheduler has stopped; ask another node")]
    Stopped,
}

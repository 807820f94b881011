//! Why somebody does something to a job, in their own words.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    core::{pause::PAUSE_NOTE_MAX, storable::storable},
    fault::Fault,
    name::By,
};

/// Why somebody does something to a job, in their own words: 1 to [`PAUSE_NOTE_MAX`] (1,000) bytes. The
/// [history](crate::port::History) keeps it with the [operation](crate::port::OperationRecord).
///
/// ```
/// use callsheet_actors::{By, Note, ResumeJobs};
///
/// # fn main() -> Result<(), callsheet_actors::Fault> {
/// let resume = ResumeJobs::new("report").by(By::new("alice")?).note(Note::new("there is paper again")?);
/// # let _ = resume;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Note(Arc<str>);

impl Note {
    /// A note. A NUL, which stores do not take, is replaced.
    ///
    /// # Errors
    ///
    /// [`Fault`] if it is empty or longer than [`PAUSE_NOTE_MAX`] bytes.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Fault> {
        let text = storable(text.as_ref());
        let refused = |rule, cure| {
            let rule: String = rule;
            Err(Fault::new("note", format!("{} bytes", text.len()), rule, cure))
        };
        match text.len() {
            0 => refused("a note is not empty".to_owned(), "leave it out, or say why"),
            len if len > PAUSE_NOTE_MAX => {
                refused(format!("a note has at most {PAUSE_NOTE_MAX} bytes"), "shorten it")
            }
            _ => Ok(Self(text.into())),
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Note {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        Self::new(text)
    }
}

impl From<Note> for String {
    fn from(note: Note) -> Self {
        note.as_str().to_owned()
    }
}

impl From<Note> for Arc<str> {
    fn from(note: Note) -> Self {
        note.0
    }
}

/// Who asks for something, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attribution {
    pub(crate) by: Option<By>,
    pub(crate) note: Option<Note>,
}

/// Messages whose field `asked` is an [`Attribution`] say who asks, and why: kept with the operation.
macro_rules! says_who_and_why {
    ($($message:ident),* $(,)?) => {
        $(
            impl $message {
                /// Says who asks.
                #[must_use]
                pub fn by(mut self, by: impl Into<Option<$crate::name::By>>) -> Self {
                    self.asked.by = by.into();
                    self
                }

                /// Says why. The [operation](crate::port::OperationRecord) in the history keeps it.
                #[must_use]
                pub fn note(mut self, note: impl Into<Option<$crate::note::Note>>) -> Self {
                    self.asked.note = note.into();
                    self
                }
            }
        )*
    };
}

pub(crate) use says_who_and_why;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_neither_empty_nor_longer_than_its_bound() {
        let longest = "é".repeat(PAUSE_NOTE_MAX / 2);
        assert_eq!(Note::new(&longest).map(String::from), Ok(longest.clone()));
        for (wrong, said) in [
            (longest + "!", "note \"1001 bytes\": a note has at most 1000 bytes; shorten it"),
            (String::new(), "note \"0 bytes\": a note is not empty; leave it out, or say why"),
        ] {
            assert_eq!(Note::new(wrong).map_err(|fault| fault.to_string()), Err(said.to_owned()));
        }
        assert_eq!(Note::new("a\0b").as_ref().map(Note::as_str), Ok("a\u{fffd}b"));
    }
}

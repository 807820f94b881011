//! What a statement answers. All answers are read here: one that is not understood is an error.

use callsheet_actors::{
    FencingToken, Term,
    adapter::one_line,
    port::{Advanced, Completed, Enrolled, LockError, Verdict},
};
use tokio_postgres::{Error, Row};

use super::super::failure;

/// The longest part of an unknown word that is shown, in bytes.
const WORD_MAX: usize = 64;
/// What would mend an answer that is not understood.
const CURE: &str = "run one version of Callsheet on all nodes of the scope, and restore the schema's routines if somebody changed them";

/// The answer to one item of a batch.
pub(in super::super) enum Answer<T> {
    Is(T),
    /// Its row was skipped, or is not there.
    Missing,
    /// Its key was never claimed before: make its row, and ask again.
    NoKey,
    /// Its key has a dead owner: ask again with the statement that takes it over.
    NeedsTakeover,
    /// It was not done: ask again with the statement that says why, or does it.
    NotSaid,
}

/// An answer to one item of a batch, of which the others have answers of their own.
pub(in super::super) trait Single: Sized {
    /// It is not known what became of it: it is to be asked again.
    fn unavailable(reason: String) -> Self;
}

impl Single for Verdict {
    fn unavailable(reason: String) -> Self {
        Self::Unavailable { reason }
    }
}

impl Single for Advanced {
    fn unavailable(reason: String) -> Self {
        Self::Unavailable { reason }
    }
}

impl Single for Completed {
    fn unavailable(reason: String) -> Self {
        Self::Unavailable { reason }
    }
}

/// It has no word of its own for it; to ask again is what it says.
impl Single for Enrolled {
    fn unavailable(_: String) -> Self {
        Self::Locked
    }
}

/// A word that no statement of this version answers.
#[derive(Debug, thiserror::Error)]
#[error("{word:?} is no answer that this version knows")]
pub(super) struct Unknown {
    word: String,
}

impl Unknown {
    pub(super) fn of(word: &str) -> Self {
        Self { word: one_line(word, WORD_MAX) }
    }
}

/// Reads rows.
///
/// # Errors
///
/// [`LockError::NotDone`]: a row is not what the statement answers. What was asked may have been done, and
/// may be asked again.
pub(in super::super) fn read<T>(
    rows: &[Row],
    read: impl Fn(&Row) -> Result<T, Error>,
) -> Result<Vec<T>, LockError> {
    let not_understood = |error| LockError::NotDone { reason: not_understood(&failure::explain(&error)) };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(not_understood)
}

/// One answer per item, in the order of the items, from rows that name them by number (`ord`) from 1. Of a row
/// that is not what the statement answers, only its own item is unavailable: what the others say is so.
///
/// # Errors
///
/// [`LockError::NotDone`], as of [`read`], if a row names no item.
pub(in super::super) fn in_order<A: Single>(
    count: usize,
    rows: &[Row],
    answer: impl Fn(&Row) -> Result<Answer<A>, Error>,
) -> Result<Vec<Answer<A>>, LockError> {
    let answered = read(rows, |row| Ok((row.try_get::<_, i64>("ord")?, singly(row, &answer))))?;
    placed(count, answered, || Answer::Missing)
}

/// The same where a row without a number has the answers to many items (`most`).
///
/// # Errors
///
/// As of [`in_order`], or if that row is not what the statement answers.
pub(in super::super) fn most_in_order<A: Single>(
    count: usize,
    rows: &[Row],
    most: impl Fn(&Row) -> Result<Vec<(i64, Answer<A>)>, Error>,
    answer: impl Fn(&Row) -> Result<Answer<A>, Error>,
) -> Result<Vec<Answer<A>>, LockError> {
    let answered = read(rows, |row| match row.try_get::<_, Option<i64>>("ord")? {
        Some(ord) => Ok(vec![(ord, singly(row, &answer))]),
        None => most(row),
    })?;
    placed(count, answered.into_iter().flatten(), || Answer::Missing)
}

/// The answer of a row to one item; unavailable, if it is not what the statement answers.
pub(super) fn singly<A: Single>(row: &Row, answer: impl Fn(&Row) -> Result<Answer<A>, Error>) -> Answer<A> {
    let unavailable = |error| Answer::Is(A::unavailable(not_understood(&failure::explain(&error))));
    answer(row).unwrap_or_else(unavailable)
}

/// One answer per item, in their order; `none` to those that have none.
pub(super) fn placed<A>(
    count: usize,
    answered: impl IntoIterator<Item = (i64, Answer<A>)>,
    none: impl Fn() -> Answer<A>,
) -> Result<Vec<Answer<A>>, LockError> {
    let mut answers: Vec<_> = (0..count).map(|_| none()).collect();
    for (ord, answer) in answered {
        let place = usize::try_from(ord).ok().and_then(|ord| answers.get_mut(ord.checked_sub(1)?));
        let place = place.ok_or_else(|| {
            let reason = not_understood(&format!("item {ord} of {count} was not asked"));
            LockError::NotDone { reason }
        })?;
        *place = answer;
    }
    Ok(answers)
}

fn not_understood(what: &str) -> String {
    format!("an answer of the server is not understood: {what}; {CURE}")
}

pub(super) fn token(row: &Row) -> Result<FencingToken, Error> {
    row.try_get::<_, i64>("token").map(|token| FencingToken(token.unsigned_abs()))
}

pub(super) fn term(row: &Row) -> Result<Term, Error> {
    row.try_get::<_, Option<i64>>("epoch").map(|epoch| Term(epoch.unwrap_or(0).unsigned_abs()))
}

/// Asserts that statements answer these words, and no others, in a column.
#[cfg(test)]
pub(super) fn assert_words(texts: &[&str], column: &str, known: &[&str]) {
    use std::collections::BTreeSet;

    // A literal that is a value: of a CASE, named as the column, or second in the line of a UNION.
    let named = format!(" AS {column}");
    let is_value = |before: &str, after: &str| {
        let before = before.trim_end();
        before.ends_with("THEN")
            || before.ends_with("ELSE")
            || after.starts_with(&named)
            || before.ends_with("SELECT name,")
            || before.ends_with("SELECT job,")
    };
    let mut answered = BTreeSet::new();
    for text in texts {
        // Comments may contain a quote.
        let lines: Vec<_> = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
        let text = lines.join("\n");
        let parts: Vec<_> = text.split('\'').collect();
        for part in parts.windows(3).step_by(2) {
            // Not the empty array.
            if is_value(part[0], part[2]) && part[1] != "{}" {
                answered.insert(part[1].to_owned());
            }
        }
    }
    let known: BTreeSet<_> = known.iter().map(|&word| word.to_owned()).collect();
    assert_eq!(answered, known);
}

#[cfg(test)]
mod tests {
    use tokio_postgres::types::{FromSql, Type};

    use super::*;

    words! {
        /// Some words.
        Word {
            Granted = "granted",
            Busy = "busy",
        }
    }

    fn read_word(word: &str) -> Result<Word, String> {
        Word::from_sql(&Type::TEXT, word.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_word_with_a_typo_is_an_error_that_names_it() {
        assert_eq!(read_word("granted"), Ok(Word::Granted));
        assert_eq!(read_word("busy"), Ok(Word::Busy));
        for word in ["grantd", "", "GRANTED", "granted "] {
            assert_eq!(read_word(word), Err(format!("{word:?} is no answer that this version knows")));
        }
        assert_eq!(Word::WORDS, ["granted", "busy"]);
    }

    #[test]
    fn an_unknown_word_is_shown_in_part() {
        let shown = read_word(&"x".repeat(10_000)).expect_err("it is unknown");
        assert!(shown.len() < 200, "{shown}");
    }

    #[test]
    fn an_item_without_a_row_is_missing() {
        let answers = placed(3, vec![(3, Answer::Is('c')), (1, Answer::NoKey)], || Answer::Missing)
            .expect("each was asked");
        assert!(matches!(answers[..], [Answer::NoKey, Answer::Missing, Answer::Is('c')]));
    }

    #[test]
    fn an_answer_to_what_was_not_asked_is_an_error() {
        for ord in [0, 3, -1, i64::MAX, i64::MIN] {
            let Err(LockError::NotDone { reason }) =
                placed(2, vec![(ord, Answer::Is(()))], || Answer::Missing)
            else {
                panic!("item {ord} was not asked")
            };
            assert!(reason.contains(&format!("item {ord} of 2")) && reason.contains(CURE), "{reason}");
        }
    }

    #[test]
    #[should_panic(expected = "grantd")]
    fn a_word_of_a_statement_that_is_not_known_is_found() {
        assert_words(
            &["SELECT CASE WHEN true THEN 'grantd' ELSE 'busy' END AS verdict"],
            "verdict",
            Word::WORDS,
        );
    }
}

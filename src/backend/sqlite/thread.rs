//! The thread to which a file belongs. It makes the calls that wait for it in one transaction.

use std::{io, thread};

use callsheet_actors::CALL_DEADLINE;
use rusqlite::Connection;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    failure::{Failure, Trouble},
    file::Place,
};

/// So many calls wait at most; the next one waits outside. They are made in one transaction.
pub(super) const CALLS_WAITING_MAX: usize = 64;

/// What a thread knows besides what is in its file.
pub(super) trait Books: Send + 'static {
    /// Reads what it must know of a file that was just opened.
    fn opened(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    /// Writes what belongs to the calls of the transaction.
    fn before_commit(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    /// After a commit that failed, on a file that was opened again: whether it was made all the same.
    fn is_committed(&self, connection: &Connection) -> rusqlite::Result<bool>;

    /// The transaction was committed, or was not.
    fn ended(&mut self, committed: bool);
}

/// The way to the thread of a file. The thread ends, and closes the file, when this is dropped.
#[derive(Debug)]
pub(super) struct FileThread<B> {
    calls: mpsc::Sender<Box<dyn Waiting<B>>>,
}

/// A call that waits for its answer.
trait Waiting<B>: Send {
    /// Nobody waits any more.
    fn is_given_up(&self) -> bool;

    /// Makes it, once more if the transaction before failed.
    fn make(&mut self, connection: &Connection, books: &mut B) -> rusqlite::Result<()>;

    fn answer(self: Box<Self>, failure: Option<&Failure>);
}

struct Call<W, T> {
    work: W,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<B, T: Send, W> Waiting<B> for Call<W, T>
where
    W: FnMut(&Connection, &mut B) -> rusqlite::Result<T> + Send,
{
    fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }

    fn make(&mut self, connection: &Connection, books: &mut B) -> rusqlite::Result<()> {
        self.done = None;
        self.done = Some((self.work)(connection, books)?);
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<&Failure>) {
        let answer = match (failure, self.done) {
            (None, Some(done)) => Ok(done),
            (Some(failure), _) => Err(failure.clone()),
            (None, None) => Err(Failure::Unknown),
        };
        // Perhaps nobody waits any more.
        let _ = self.reply.send(answer);
    }
}

impl<B: Books> FileThread<B> {
    /// Starts a thread. It opens the file when it is first asked, unless it is given open.
    ///
    /// # Errors
    ///
    /// That of the system, if it starts no thread.
    pub(super) fn start(
        name: &str,
        place: Place,
        connection: Option<Connection>,
        books: B,
        lock: impl Send + 'static,
    ) -> io::Result<Self> {
        let (calls, waiting) = mpsc::channel(CALLS_WAITING_MAX);
        let mut file = OpenFile { place, connection, books };
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            file.serve(waiting);
            // The lock is let go after the file is closed.
            drop(file);
            drop(lock);
        })?;
        Ok(Self { calls })
    }

    /// Asks the thread, and waits for its answer until the deadline of every call. The work may be done twice, of
    /// which the first has left nothing in the file.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnMut(&Connection, &mut B) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        // Whoever asks gives up at that deadline, and should hear why.
        let deadline = Instant::now() + CALL_DEADLINE * 4 / 5;
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Call { work, done: None, reply });
        match timeout_at(deadline, self.calls.send(call)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Failure::Unavailable("the thread of the file has ended".to_owned())),
            Err(_) => return Err(Failure::Unavailable("the disk does not answer".to_owned())),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Failure::Unknown),
        }
    }
}

type Calls<B> = Vec<Box<dyn Waiting<B>>>;

struct OpenFile<B> {
    place: Place,
    /// None after a failure that leaves it in doubt what is in the file.
    connection: Option<Connection>,
    books: B,
}

impl<B: Books> OpenFile<B> {
    fn serve(&mut self, mut waiting: mpsc::Receiver<Box<dyn Waiting<B>>>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut calls = vec![first];
            while calls.len() < CALLS_WAITING_MAX
                && let Ok(next) = waiting.try_recv()
            {
                calls.push(next);
            }
            calls.retain(|call| !call.is_given_up());
            self.make(calls);
        }
    }

    /// Makes calls together, or, if that fails, each by itself: one that cannot be made fails alone.
    fn make(&mut self, mut calls: Calls<B>) {
        match self.transact(&mut calls) {
            Err(Failure::NotDone(_)) if calls.len() > 1 => {
                for call in calls {
                    self.make(vec![call]);
                }
            }
            outcome => {
                let failure = outcome.err();
                calls.into_iter().for_each(|call| call.answer(failure.as_ref()));
            }
        }
    }

    fn transact(&mut self, calls: &mut Calls<B>) -> Result<(), Failure> {
        self.open()?;
        let made = self.within_transaction(calls);
        self.books.ended(made.is_ok());
        made
    }

    /// Opens the file, if it is not open.
    fn open(&mut self) -> Result<(), Failure> {
        if self.connection.is_some() {
            return Ok(());
        }
        let opened = self.place.open().and_then(|connection| {
            self.books.opened(&connection).map_err(|error| Trouble::of(&error))?;
            Ok(connection)
        });
        self.connection = Some(opened.map_err(|trouble| trouble.unavailable(&self.place.path))?);
        Ok(())
    }

    fn within_transaction(&mut self, calls: &mut Calls<B>) -> Result<(), Failure> {
        let Some(connection) = &self.connection else { return Err(Failure::Unknown) };
        let made = (|| {
            run(connection, "BEGIN")?;
            calls.iter_mut().try_for_each(|call| call.make(connection, &mut self.books))?;
            self.books.before_commit(connection)
        })();
        if let Err(error) = made {
            // SQLite has rolled back by itself after some errors.
            if !connection.is_autocommit() && run(connection, "ROLLBACK").is_err() {
                self.connection = None;
            }
            return Err(Trouble::of(&error).not_done(&self.place.path));
        }
        match run(connection, "COMMIT") {
            Ok(()) => Ok(()),
            Err(error) => self.look_whether_committed(&error),
        }
    }

    /// A commit that failed may stand whole in the log all the same, and be found there when the file is opened.
    fn look_whether_committed(&mut self, error: &rusqlite::Error) -> Result<(), Failure> {
        self.connection = None;
        let Ok(connection) = self.place.open() else { return Err(Failure::Unknown) };
        let committed = self.books.is_committed(&connection);
        self.connection = Some(connection);
        match committed {
            Ok(true) => Ok(()),
            Ok(false) => Err(Trouble::of(error).not_done(&self.place.path)),
            Err(_) => {
                self.connection = None;
                Err(Failure::Unknown)
            }
        }
    }
}

fn run(connection: &Connection, text: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(text)?.execute([]).map(drop)
}

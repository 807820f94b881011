//! Who asks, and what he may do: one extractor, which every handler has.

use std::{future::ready, marker::PhantomData, pin::Pin, sync::Arc, time::Duration};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Data};
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use tokio::time::timeout;

use super::{Shared, origin, problem::Problem};
use crate::{error::Error, handle::Callsheet};

/// How long the application may take to say who asks.
const AUTHORISE_TIMEOUT: Duration = Duration::from_secs(5);

/// Who sends a request, and what he may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Nobody,
    /// This user may see everything, and do nothing.
    Read(String),
    /// This user may also pause, resume, run, cancel and backfill jobs.
    Operate(String),
    /// This user may also change and remove jobs.
    Edit(String),
}

/// What somebody may do; each right has those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Right {
    Nobody,
    Read,
    Operate,
    Edit,
}

impl Right {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Edit => "edit",
        }
    }
}

/// What the application says of a request.
#[derive(Clone)]
pub(crate) struct Authorise(Ask);

type Ask = Arc<dyn Fn(HttpRequest) -> LocalBoxFuture<'static, (Right, Option<String>)> + Send + Sync>;

impl Authorise {
    pub(crate) fn anyone_may_read() -> Self {
        Self(Arc::new(|_| Box::pin(ready((Right::Read, None)))))
    }

    pub(crate) fn by<F, Fut>(authorise: F) -> Self
    where
        F: Fn(HttpRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Access> + 'static,
    {
        Self(Arc::new(move |request| {
            let asked = authorise(request);
            Box::pin(async move {
                match asked.await {
                    Access::Nobody => (Right::Nobody, None),
                    Access::Read(user) => (Right::Read, Some(user)),
                    Access::Operate(user) => (Right::Operate, Some(user)),
                    Access::Edit(user) => (Right::Edit, Some(user)),
                }
            })
        }))
    }
}

/// A right that a handler needs.
pub(crate) trait Needs: 'static {
    const RIGHT: Right;
    /// Pages of other sites may show the answer in a frame, if they are named as ancestors.
    const IS_PAGE: bool;
}

macro_rules! needs {
    ($($name:ident: $right:ident $is_page:literal),+) => {
        $(
            pub(crate) enum $name {}

            impl Needs for $name {
                const RIGHT: Right = Right::$right;
                const IS_PAGE: bool = $is_page;
            }
        )+
    };
}

needs!(Reads: Read false, Looks: Read true, Operates: Operate false, Edits: Edit false);

/// A request of somebody who has the right `R`, with what else was extracted from it: only then. Every handler of the
/// console has it, and none gets at the scheduler without it.
pub(crate) struct Caller<R, T = ()> {
    pub(crate) shared: Data<Shared>,
    pub(crate) user: Option<String>,
    pub(crate) right: Right,
    pub(crate) input: T,
    needs: PhantomData<R>,
}

impl<R, T> Caller<R, T> {
    /// The scheduler, told who asks.
    pub(crate) fn jobs(&self) -> Result<Callsheet, Problem> {
        match &self.user {
            Some(user) => self.shared.jobs.by(user).map_err(|error| bad_user(&error)),
            None => Ok(self.shared.jobs.clone()),
        }
    }
}

fn bad_user(error: &Error) -> Problem {
    Problem::internal(format!("the application gave a name of the user that breaks a rule: {error}"))
        .cure("mend the closure that is given to `Console::authorise`")
}

impl<R: Needs, T: FromRequest + 'static> FromRequest for Caller<R, T> {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, mut payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let shared = request.app_data::<Data<Shared>>().cloned();
            let shared = shared.ok_or_else(|| Problem::internal("the console has lost its state"))?;
            origin::check(&request, &shared.policy, R::IS_PAGE)?;
            let asked = timeout(AUTHORISE_TIMEOUT, (shared.authorise.0)(request.clone())).await;
            let (right, user) = asked.map_err(|_| Problem::no_answer())?;
            if right < R::RIGHT {
                return Err(Problem::forbidden(R::RIGHT, right).into());
            }
            let input = T::from_request(&request, &mut payload).await.map_err(Into::into)?;
            Ok(Self { shared, user, right, input, needs: PhantomData })
        })
    }
}

//! A text on its way to the server.

use std::borrow::Cow;

use bytes::BytesMut;
use callsheet_actors::adapter::storable;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// A text that somebody wrote as he liked: every one of them is a parameter by this type. Names are checked
/// when they are made, and need it not.
///
/// The server takes every character but NUL, for which it would refuse the statement. So each node writes the
/// same, and a digest that the server makes of it is the same.
#[derive(Debug)]
pub(super) struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self(storable(text))
    }
}

impl ToSql for Text<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        (&*self.0).to_sql(kind, out)
    }

    fn accepts(kind: &Type) -> bool {
        <&str as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

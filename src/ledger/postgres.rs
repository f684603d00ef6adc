//! The ledger in a schema of a Postgres database: everything that knows its SQL and its connections.
//!
//! A process that writes is known by its row in the table `worker`, and is alive as long as it touches that row. Several
//! workers may share one run; where one of them does not touch its row for as long as its lease, another takes its claims
//! over. Each transaction begins with that row, so that a worker which was taken over writes nothing any more, and
//! so that whether a commit has arrived whose answer was lost is known from the number of commits that the row counts.
//!
//! A connection may break at any time: the server is restarted, or a pooler is. Nothing that is read or written here
//! depends on the session: there are no named statements, no settings and no locks of a session.

mod certificate;
mod connection;
mod failure;
pub(super) mod imported_index;
mod lease;
mod parameters;
mod queries;
pub(super) mod rate_limit;
pub(super) mod reader;
mod rows;
mod schema;
pub(super) mod server;
mod statements;
pub(super) mod store;
mod worker;

pub(super) use self::failure::Failure;

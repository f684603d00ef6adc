//! The ledger in a schema of a Postgres database: everything that depends on its SQL and its connections.
//!
//! Each process that writes has a row in the table `worker` and counts as alive as long as it updates that row. Several
//! workers may share one run; if one of them does not update its row within its lease, another worker takes its claims
//! over. Each transaction begins with an update of that row, for two reasons: a worker whose claims were taken over can
//! write nothing more, and the row counts the commits, so that a worker that lost the reply to a commit can find out
//! whether the commit has arrived.
//!
//! A connection may break at any time, because the server or a pooler is restarted. So nothing depends on the session:
//! there are no named statements, no session settings and no session locks.

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

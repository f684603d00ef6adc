//! The schema of a ledger: recognizes, creates and updates it.
//!
//! The version of the server and the content of the schema are checked before anything is changed. If the schema is up
//! to date, no table is created or altered, so a user without that permission can run imports.

use sqlx::{Row as _, postgres::PgRow};

use super::{
    super::{error::Error, model::RunId},
    connection::Connection,
    failure::Failure,
    parameters::Statement,
    statements::{
        BEGIN, COMMIT, CREATE_SCHEMA, LOCK_SCHEMA, SELECT_MIGRATION, SELECT_SCHEMA, SELECT_SERVER,
        SELECT_UNEXPIRED,
    },
};

/// The migrations: number and statements of each file of the folder.
const MIGRATIONS: [(i64, &str); 4] = [
    (1, include_str!("../../../migrations/postgres/0001_ledger.sql")),
    (2, include_str!("../../../migrations/postgres/0002_workers.sql")),
    (3, include_str!("../../../migrations/postgres/0003_worker_end.sql")),
    (4, include_str!("../../../migrations/postgres/0004_shared_rate.sql")),
];

/// The oldest supported server.
const OLDEST_SERVER: i64 = 12_00_00;

/// The ledger that was found, with the number of its last migration.
enum Found {
    Nothing,
    Ledger(Option<i64>),
}

/// Refuses a ledger that this version cannot read.
///
/// # Errors
/// If there is no ledger, or another version has created it.
pub(super) async fn check(connection: &mut Connection) -> Result<(), Error> {
    check_server(connection).await?;
    let newest = MIGRATIONS.last().map(|(version, _)| *version);
    match find(connection).await? {
        Found::Nothing => Err(Error::Missing { ledger: connection.location(), others: Vec::new() }),
        Found::Ledger(version) if version > newest => Err(Error::Newer(connection.location())),
        Found::Ledger(version) if version < newest => Err(connection.error(Failure::Older)),
        Found::Ledger(_) => Ok(()),
    }
}

/// Creates the ledger if there is none, or updates its schema.
///
/// # Errors
/// If the schema contains other objects or a ledger of a later version, or cannot be written.
pub(super) async fn migrate(connection: &mut Connection) -> Result<(), Error> {
    check_server(connection).await?;
    check_writable(connection).await?;
    let newest = MIGRATIONS.last().map_or(0, |(version, _)| *version);
    if let Found::Ledger(Some(version)) = find(connection).await? {
        if version > newest {
            return Err(Error::Newer(connection.location()));
        }
        if version == newest {
            return Ok(());
        }
    }
    connection.run_text(BEGIN.into()).await?;
    let schema = connection.server().schema().to_owned();
    connection.run(&Statement::new(LOCK_SCHEMA).text(&schema)).await?;
    // Another process may have done it meanwhile.
    let version = match content(&connection.run(&Statement::new(SELECT_SCHEMA).text(&schema)).await?) {
        SchemaContent::Ledger => {
            let rows = connection.run(&Statement::new(SELECT_MIGRATION)).await?;
            rows.first().and_then(|row| row.get(0)).unwrap_or(0)
        }
        SchemaContent::Missing => {
            connection.run_text(CREATE_SCHEMA.into()).await?;
            0
        }
        SchemaContent::Nothing | SchemaContent::OtherObjects => 0,
    };
    if (1..newest).contains(&version) {
        check_unused(connection).await?;
    }
    for (_, text) in MIGRATIONS.into_iter().filter(|(number, _)| *number > version) {
        connection.run_text(text.into()).await?;
    }
    connection.run_text(COMMIT.into()).await
}

/// Refuses to change the tables of a ledger that a worker of an earlier version uses.
async fn check_unused(connection: &mut Connection) -> Result<(), Error> {
    let alive = connection.run(&Statement::new(SELECT_UNEXPIRED)).await?;
    match alive.first() {
        Some(row) => Err(connection.error(Failure::InUse(row.get::<Option<i64>, _>(0).map(RunId)))),
        None => Ok(()),
    }
}

async fn check_server(connection: &mut Connection) -> Result<(), Error> {
    let row = connection.read_one(&Statement::new(SELECT_SERVER)).await?;
    let encoding: String = row.get("encoding");
    if encoding != "UTF8" {
        return Err(connection.error(Failure::Encoding(encoding)));
    }
    let version: i64 = row.get("version");
    if version < OLDEST_SERVER {
        return Err(connection.error(Failure::OldServer(version)));
    }
    Ok(())
}

async fn check_writable(connection: &mut Connection) -> Result<(), Error> {
    let row = connection.read_one(&Statement::new(SELECT_SERVER)).await?;
    if row.get("is_standby") { Err(connection.error(Failure::Standby)) } else { Ok(()) }
}

async fn find(connection: &mut Connection) -> Result<Found, Error> {
    let schema = connection.server().schema().to_owned();
    let rows = connection.read(&Statement::new(SELECT_SCHEMA).text(&schema)).await?;
    match content(&rows) {
        SchemaContent::Ledger => {
            let rows = connection.read(&Statement::new(SELECT_MIGRATION)).await?;
            Ok(Found::Ledger(rows.first().and_then(|row| row.get(0))))
        }
        SchemaContent::OtherObjects => Err(connection.error(Failure::OtherTables(schema))),
        SchemaContent::Nothing | SchemaContent::Missing => Ok(Found::Nothing),
    }
}

/// What a schema contains.
enum SchemaContent {
    /// There is no such schema.
    Missing,
    Nothing,
    Ledger,
    OtherObjects,
}

/// The content of a schema, by the row of `SELECT_SCHEMA`.
fn content(rows: &[PgRow]) -> SchemaContent {
    match rows.first() {
        Some(row) if row.get("is_ledger") => SchemaContent::Ledger,
        Some(row) if row.get("is_used") => SchemaContent::OtherObjects,
        Some(row) if row.get("exists") => SchemaContent::Nothing,
        _ => SchemaContent::Missing,
    }
}

//! The columns by which a failed export of this program is recognized.
//!
//! Pure. `correction` in `customer` says what these columns mean for a row.

use super::{error::Error, heading::plain};

/// The columns that `export failed` adds. They describe an earlier run, not the customer.
pub const EXPORT_COLUMNS: [&str; 7] =
    ["_line", "_outcome", "_field", "_error_code", "_error_message", "_http_status", "_attempts"];

/// The columns that an export must have for its rows to be recognized as corrections.
pub(super) const EXPORT_KEYS: [&str; 3] = ["_line", "_outcome", "_error_code"];

/// Whether a header is that of a failed export of this program.
pub(super) fn is_export(header: &[String]) -> bool {
    EXPORT_KEYS.iter().all(|name| header.iter().any(|column| column == name))
}

/// Refuses a header that has no longer all columns that a failed export needs, although it still has others of an
/// export. Read as any other file, its duplicates would overwrite the customers of the rows that they repeat.
pub(super) fn check_export(name: &str, header: &[String]) -> Result<(), Error> {
    /// Some columns of another file may have such names.
    const OWN_MIN: usize = 4;
    let own: Vec<String> =
        header.iter().filter(|name| name.trim_start().starts_with('_')).map(|name| plain(name)).collect();
    let is_there = |name: &&&str| own.contains(&plain(name));
    if EXPORT_COLUMNS.iter().filter(is_there).count() < OWN_MIN {
        return Ok(());
    }
    let is_missing = |name: &&str| !header.iter().any(|column| column == name);
    let missing: Vec<_> = EXPORT_KEYS.into_iter().filter(is_missing).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::IncompleteExport { name: name.into(), missing }) }
}

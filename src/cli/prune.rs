//! `prune`: deletes old runs from a ledger and shrinks its file.

use std::time::{Duration, SystemTime};

use super::{args, exit_code::code, ledger_location, now, print, runtime};
use crate::{error::Error, ledger, report};

pub(super) fn prune(args: &args::Prune) -> Result<u8, Error> {
    let ledger = ledger_location(args.ledger.ledger.as_deref(), false)?;
    let since = args.before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (before, now) = (i64::try_from(since.as_millis()).unwrap_or(i64::MAX), now());
    let date = report::date(before);
    if before > now {
        return Err(Error::usage(
            format!("--before {date} is in the future and would delete every run"),
            "give a day in the past",
        ));
    }
    let pruned = runtime()?.block_on(ledger::prune(&ledger, before, now))?;
    print(&if pruned.is_nothing() {
        format!("Nothing in {ledger} is older than {date} (UTC)\n")
    } else {
        report::pruned_text(&ledger.to_string(), &pruned)
    })?;
    Ok(code::OK)
}

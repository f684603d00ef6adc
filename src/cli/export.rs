//! `export`: writes rows to standard output, or to a file with mode 0600.

use std::{fs::File, io, path::Path};

use super::{
    args::{self, ExportFormat, ExportWhat},
    check_outputs,
    exit_code::code,
    ledger_path,
    output::{create_private, print_note},
    runtime,
};
use crate::{
    error::Error,
    export::{self, export},
    ledger::{Reader, RunId},
    report::rows,
};

pub(super) fn export_rows(args: &args::Export) -> Result<u8, Error> {
    let path = ledger_path(args.ledger.ledger.as_deref(), false)?;
    let what = match args.what {
        ExportWhat::Created => export::What::Created,
        ExportWhat::Failed => export::What::Failed,
        ExportWhat::All => export::What::All,
    };
    let format = match args.format {
        ExportFormat::Csv => export::Format::Csv,
        ExportFormat::Jsonl => export::Format::Jsonl,
    };
    check_outputs(&[("--output", args.output.as_deref())], &[("the ledger", &path)])?;
    let run = args.run.map(RunId);
    runtime()?.block_on(async {
        let mut reader = Reader::open(&path).await?;
        let Some(output) = &args.output else {
            return export(&mut reader, what, format, run, || Ok(io::stdout().lock())).await.map(drop);
        };
        let open = || if args.force { create_private(output) } else { create_unless_written(output) };
        let written = export(&mut reader, what, format, run, open).await?;
        print_note(&format!("wrote {} to {}", rows(written), output.display()));
        Ok(())
    })?;
    Ok(code::OK)
}

/// Creates the file. One that has content already may be half corrected by hand.
fn create_unless_written(path: &Path) -> Result<File, Error> {
    if std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() > 0) {
        return Err(Error::usage(
            format!("--output {} exists already", path.display()),
            "name another file, or give --force to replace it",
        ));
    }
    create_private(path)
}

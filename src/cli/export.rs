//! `export`: writes rows to standard output, or to a file with mode 0600.

use std::io;

use super::{
    args::{self, ExportFormat, ExportWhat},
    check_outputs,
    exit_code::code,
    ledger_path,
    output::create_private,
    runtime,
};
use crate::{
    error::Error,
    export::{self, export},
    ledger::{Reader, RunId},
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
    runtime()?.block_on(async {
        let mut reader = Reader::open(&path).await?;
        match &args.output {
            None => export(&mut reader, what, format, args.run.map(RunId), || Ok(io::stdout().lock())).await,
            Some(file) => {
                export(&mut reader, what, format, args.run.map(RunId), || create_private(file)).await
            }
        }
    })?;
    Ok(code::OK)
}

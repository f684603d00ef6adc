//! `export`: writes rows to standard output, or to a file with mode 0600. An existing file with other content is
//! renamed, not overwritten.

use super::{
    args::{self, ExportFormat},
    exit_code::code,
    ledger_location,
    output::{check_sources, file_of, print_note, standard_output},
    output_file::{EarlierFile, OutputFile},
    runtime,
};
use crate::{
    error::Error,
    export::{self, ExportRows, Exported, NamedWriter, export},
    ledger::{Reader, RunId},
    report::rows,
    source::is_failed_export,
};

pub(super) fn export_rows(args: &args::Export) -> Result<u8, Error> {
    let ledger = ledger_location(args.ledger.ledger.as_deref(), false)?;
    let which = match args.what {
        args::ExportRows::Created => ExportRows::Created,
        args::ExportRows::Failed => ExportRows::Failed,
        args::ExportRows::All => ExportRows::All,
    };
    let format = match args.format {
        ExportFormat::Csv => export::Format::Csv,
        ExportFormat::Jsonl => export::Format::Jsonl,
    };
    let (run, output) = (args.run.map(RunId), file_of(args.output.as_deref()));
    runtime()?.block_on(async {
        let mut reader = Reader::open(&ledger).await?;
        // A failed export that was corrected and imported is often replaced by the next one.
        if let Some(output) = output.filter(|path| args.force && !is_failed_export(path)) {
            check_sources(output, &mut reader).await?;
        }
        let Some(output) = output else {
            let exported = export(&mut reader, which, format, run, || Ok(standard_output())).await?;
            note_only_references(&exported);
            return Ok::<_, Error>(());
        };
        let earlier = if args.force { EarlierFile::Replace } else { EarlierFile::Keep };
        let mut file = None;
        let slot = &mut file;
        let exported = export(&mut reader, which, format, run, move || {
            let writer = slot.insert(OutputFile::create(output, earlier)?);
            Ok(NamedWriter { name: output.display().to_string(), writer })
        })
        .await?;
        let mut note = format!("wrote {} to {}", rows(exported.rows), output.display());
        if let Some(kept) = file.map(OutputFile::complete).transpose()?.flatten() {
            note += &format!("; the file that was there is now {}", kept.display());
        }
        print_note(&note);
        note_only_references(&exported);
        Ok(())
    })?;
    Ok(code::OK)
}

/// Says that some rows of a failed export cannot be imported from it.
fn note_only_references(exported: &Exported) {
    if exported.only_references > 0 {
        print_note(&format!(
            "{} in flight when a run was killed, with only the reference: import the original file again, not these",
            rows(exported.only_references)
        ));
    }
}

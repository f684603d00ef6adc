//! `export`: writes rows to standard output, or to a file with mode 0600. An existing file with other content is
//! renamed, not overwritten.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::{
    args::{self, ExportFormat},
    exit_code::code,
    ledger_location,
    output::{check_sources, create_private, print_note},
    runtime,
};
use crate::{
    error::Error,
    export::{self, ExportRows, Exported, export},
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
    let run = args.run.map(RunId);
    runtime()?.block_on(async {
        let mut reader = Reader::open(&ledger).await?;
        // A failed export that was corrected and imported is often replaced by the next one.
        if let Some(output) = args.output.as_deref().filter(|path| args.force && !is_failed_export(path)) {
            check_sources(output, &mut reader).await?;
        }
        let Some(output) = &args.output else {
            let exported = export(&mut reader, which, format, run, || Ok(io::stdout().lock())).await?;
            note_only_references(&exported);
            return Ok::<_, Error>(());
        };
        let (mut aside, mut is_begun) = (None, false);
        let open = || {
            aside = if args.force { None } else { set_aside(output)? };
            let file = create_private(output)?;
            is_begun = true;
            Ok(file)
        };
        let exported = export(&mut reader, which, format, run, open).await;
        if exported.is_err() && is_begun {
            undo(output, aside.as_deref());
        }
        let exported = exported?;
        let mut note = format!("wrote {} to {}", rows(exported.rows), output.display());
        if let Some(aside) = aside {
            if have_same_content(output, &aside).unwrap_or(false) {
                drop(std::fs::remove_file(&aside));
            } else {
                note += &format!("; the file that was there is now {}", aside.display());
            }
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

/// Renames a file that has content, with the first free number: the user may have corrected part of it by hand.
fn set_aside(path: &Path) -> Result<Option<PathBuf>, Error> {
    if !std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() > 0) {
        return Ok(None);
    }
    let numbered = (1_u64..).map(|number| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    });
    let Some(free) = numbered.into_iter().find(|name| name.symlink_metadata().is_err()) else {
        return Ok(None);
    };
    std::fs::rename(path, &free).map_err(|error| {
        let text = format!("--output {} exists already, and cannot be renamed: {error}", path.display());
        Error::usage(text, "name another file, or give --force to replace it")
    })?;
    Ok(Some(free))
}

/// Removes an incomplete file, which looks like a complete one, and brings back the one that was there. What is no file, such
/// as a pipe, stays.
fn undo(path: &Path, aside: Option<&Path>) {
    if std::fs::symlink_metadata(path).is_ok_and(|data| data.is_file()) {
        // The error that is reported is the one of the export.
        drop(match aside {
            Some(aside) => std::fs::rename(aside, path),
            None => std::fs::remove_file(path),
        });
    }
}

fn have_same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if length == 0 || left[..length] != right[..length] {
            return Ok(length == 0);
        }
        one.consume(length);
        other.consume(length);
    }
}

//! `validate`: checks a file and reports its faults as text or JSON, or writes the rows at fault as CSV.

use super::{
    args::{self, ValidateFormat},
    exit_code::code,
    import::{expected_rows, shortage},
    json,
    logging::LogWriter,
    logging::start_log,
    output::standard_output,
    print, print_data, print_error, source_options,
};
use crate::{
    error::Error,
    report::{ValidationSummary, validation_text},
    source::Source,
    validate,
};

pub(super) fn validate(args: &args::Validate) -> Result<u8, Error> {
    start_log(&args.log, LogWriter::stderr())?;
    let mut source = Source::open(&source_options(&args.input)?)?;
    let rate = args.rate.0;
    let (findings, read) = match args.format {
        ValidateFormat::Csv => validate::validate_and_export(&mut source, standard_output())?,
        ValidateFormat::Text | ValidateFormat::Json => validate::validate(&mut source)?,
    };
    match args.format {
        ValidateFormat::Text if args.log.quiet => {}
        ValidateFormat::Text => print(&validation_text(&findings, &source, rate))?,
        ValidateFormat::Json => {
            print_data(&json(&ValidationSummary::new(&findings, &source, rate))?)?;
        }
        ValidateFormat::Csv => {}
    }
    // Findings up to a read error are reported before the error.
    read?;
    let expected = expected_rows(&args.input.read, &source);
    let shortage = expected.and_then(|expected| shortage(source.name(), findings.rows(), expected));
    if let Some(message) = &shortage {
        print_error(&message.to_string());
    }
    Ok(if findings.is_clean() && shortage.is_none() { code::OK } else { code::ROWS_LEFT })
}

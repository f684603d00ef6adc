//! Everything the program writes for its user: output files, standard output and error lines.
//!
//! Output files are checked before a run does anything: a typing error in an option must not overwrite the ledger or the
//! source, and a run of hours must not end with a summary that cannot be written. A closed pipe (`| head`) is no error.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use super::{
    args,
    color::{Stream, error_word, painted},
    logging::start_log,
    progress_bar::ProgressDisplay,
};
use crate::{
    customer::{visible, visible_lines},
    error::Error,
    ledger::private_file,
};

/// Refuses an output that is also an input: a typing error would overwrite the ledger, and every customer id in it.
pub(super) fn check_outputs(
    outputs: &[(&str, Option<&Path>)],
    inputs: &[(&str, Option<&Path>)],
) -> Result<(), Error> {
    for (option, output) in outputs {
        for (what, input) in inputs {
            let Some(input) = input else { continue };
            let same = output.and_then(|output| output.canonicalize().ok()).zip(input.canonicalize().ok());
            if same.is_some_and(|(output, input)| output == input) || *output == Some(*input) {
                let text = format!("{option} {} would overwrite {what}", input.display());
                return Err(Error::usage(text, format!("give {option} another file")));
            }
        }
    }
    Ok(())
}

/// Checks every output of a run, starts the log, and returns the progress display.
pub(super) fn open_outputs(
    output: &args::Output,
    inputs: &[(&str, Option<&Path>)],
) -> Result<ProgressDisplay, Error> {
    let summary = output.summary_json.as_deref().filter(|path| *path != Path::new("-"));
    let outputs = [
        ("--summary-json", summary),
        ("--log-file", output.log.log_file.as_deref()),
        ("--metrics-textfile", output.metrics.metrics_textfile.as_deref()),
    ];
    check_outputs(&outputs, inputs)?;
    let display = ProgressDisplay::new(progress_mode(output), Stream::Stderr);
    start_log(&output.log, display.log_writer())?;
    check_output_path("--summary-json", output.summary_json.as_deref())?;
    Ok(display)
}

/// Creates or truncates a file, with mode 0600.
pub(super) fn create_private(path: &Path) -> Result<File, Error> {
    let file = private_file(path).and_then(|file| {
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(file)
    });
    file.map_err(|error| Error::Output { name: path.display().to_string(), error })
}

/// Writes the summary: JSON to `--summary-json`, the text to standard output.
pub(super) fn write_summary(output: &args::Output, json: &str, text: &str) -> Result<(), Error> {
    let path = output.summary_json.as_deref();
    let to_stdout = path == Some(Path::new("-"));
    // The file comes first: a script must get its summary even if the terminal is gone.
    if let Some(path) = path.filter(|_| !to_stdout) {
        let written = std::fs::write(path, json);
        written.map_err(|error| Error::Output { name: path.display().to_string(), error })?;
    }
    if !output.log.quiet {
        // With `--summary-json -`, standard output carries JSON only.
        if to_stdout {
            drop(Stream::Stderr.write(&painted(&visible_lines(text), Stream::Stderr)));
        } else {
            print(text)?;
        }
    }
    if to_stdout { print_data(json) } else { Ok(()) }
}

/// When to show progress. Not among JSON log lines on standard error, which are parsed line by line.
fn progress_mode(args: &args::Output) -> args::ProgressArg {
    let is_json = args.log.log_format == args::LogFormat::Json && args.log.log_file.is_none();
    match args.progress {
        _ if args.log.quiet => args::ProgressArg::Never,
        args::ProgressArg::Auto if is_json => args::ProgressArg::Never,
        mode => mode,
    }
}

/// Checks that the file can be written later; a file that did not exist does not exist afterwards.
pub(super) fn check_output_path(option: &str, path: Option<&Path>) -> Result<(), Error> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(()) };
    let existed = path.exists();
    let open = File::options().append(true).create(true).open(path);
    if open.is_ok() && !existed {
        drop(std::fs::remove_file(path));
    }
    open.map(drop).map_err(|error| {
        let text = format!("cannot write {}: {error}", path.display());
        Error::usage(text, format!("give {option} a file in a folder that exists and can be written"))
    })
}

/// Renders an object as indented JSON with a final line break.
pub(super) fn json(object: &impl serde::Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(object);
    let text = text.map_err(|error| Error::Bug(format!("cannot render the report as JSON ({error})")))?;
    Ok(text + "\n")
}

/// Writes text for people to standard output, colored if the stream is.
pub(super) fn print(text: &str) -> Result<(), Error> {
    print_data(&painted(&visible_lines(text), Stream::Stdout))
}

/// Writes data for programs to standard output. A closed pipe is success: the reader wants no more.
pub(super) fn print_data(text: &str) -> Result<(), Error> {
    match Stream::Stdout.write(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Output { name: "standard output".into(), error })
        }
        _ => Ok(()),
    }
}

/// Prints a note about what was done, apart from the results.
pub(super) fn print_note(text: &str) {
    drop(writeln!(io::stderr(), "{}", visible(text)));
}

/// Writes one error on one line.
pub(super) fn print_error(text: &str) {
    // Some libraries write messages of several lines.
    let line = text.replace(['\n', '\r', '\t'], " ");
    drop(writeln!(io::stderr(), "{} {}", error_word(), visible(&line)));
}

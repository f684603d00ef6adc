//! Everything the program writes for its user: output files, standard output and error lines.
//!
//! Output files are checked before a run does anything: a typing error in an option must not overwrite the ledger or the
//! source, and a run of hours must not end with a summary that cannot be written. A closed pipe (`| head`) is no error.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use clap::ArgMatches;

use super::{
    args,
    color::{Stream, error_word, painted},
    ledger_location,
    logging::start_log,
    progress_bar::ProgressDisplay,
};
use crate::{
    customer::{visible, visible_lines},
    error::Error,
    export::NamedWriter,
    ledger::Reader,
};

/// What errors call it.
const STANDARD_OUTPUT: &str = "standard output";

/// The options that name a file to write, by their ids.
const OUTPUTS: [&str; 4] = ["output", "summary_json", "log_file", "metrics_textfile"];

/// The options that name a file to read, by their ids, and what is in the file.
const INPUTS: [(&str, &str); 7] = [
    ("csv", "the source"),
    ("config", "the settings"),
    ("api_key_file", "the API key"),
    ("ca_file", "the root certificate"),
    ("client_cert", "the client certificate"),
    ("client_key", "the key of the client certificate"),
    ("compare", "the earlier answers"),
];

/// Refuses an output of a command that the command also reads or writes under another option, or that belongs to its
/// ledger: a typing error would overwrite the ledger, and every customer id in it.
pub(super) fn check_outputs(command: &ArgMatches) -> Result<(), Error> {
    let path = |id: &str| command.try_get_one::<PathBuf>(id).ok().flatten();
    let given = OUTPUTS.iter().filter_map(|id| Some((*id, file_of(path(id).map(PathBuf::as_path))?)));
    let outputs: Vec<(&str, &Path)> = given.collect();
    if outputs.is_empty() {
        return Ok(());
    }
    let read = INPUTS.iter().filter_map(|(id, what)| Some((*what, path(id)?)));
    let read =
        read.map(|(what, path)| (what, if **path == *"-" { "/dev/stdin".into() } else { path.clone() }));
    let mut inputs: Vec<(&str, PathBuf)> = read.collect();
    if let Ok(ledger) = command.try_get_one::<PathBuf>("ledger") {
        let simulator = command.try_get_one::<bool>("simulator").ok().flatten().is_some_and(|given| *given);
        let ledger = ledger_location(ledger.map(PathBuf::as_path), simulator)?;
        inputs.extend(ledger.files().into_iter().map(|file| ("the ledger", file)));
    }
    for (at, (id, output)) in outputs.iter().enumerate() {
        let same = |(_, input): &&(&str, PathBuf)| is_same_file(output, input);
        if let Some((what, _)) = inputs.iter().find(same) {
            return Err(would_overwrite(&flag(id), output, what));
        }
        if let Some((other, _)) = outputs[..at].iter().find(|(_, other)| is_same_file(output, other)) {
            let text = format!("{} and {} name the same file {}", flag(other), flag(id), output.display());
            return Err(Error::usage(text, "give each of them a file of its own"));
        }
    }
    Ok(())
}

/// The flag of an option, by its id.
fn flag(id: &str) -> String {
    format!("--{}", id.replace('_', "-"))
}

/// Refuses to replace the source of a run, by the name that it had for the run: not even an import again could send the
/// rows that are left.
pub(super) async fn check_sources(output: &Path, reader: &mut Reader) -> Result<(), Error> {
    if !output.is_file() {
        return Ok(());
    }
    let runs = reader.overview().await?.runs;
    let is_source = runs.iter().any(|run| is_same_file(output, Path::new(&run.source)));
    if is_source { Err(would_overwrite("--output", output, "the source of a run")) } else { Ok(()) }
}

fn would_overwrite(option: &str, output: &Path, what: &str) -> Error {
    let text = format!("{option} {} would overwrite {what}", output.display());
    Error::usage(text, format!("give {option} another file"))
}

/// Whether two paths name one regular file, which one of them may name by a link, or will name one when it is created.
fn is_same_file(output: &Path, input: &Path) -> bool {
    match (output.metadata(), input.metadata()) {
        // Writing to a device or a pipe overwrites nothing.
        (Ok(output), Ok(input)) => {
            output.is_file() && (output.dev(), output.ino()) == (input.dev(), input.ino())
        }
        (Err(_), Err(_)) => {
            output == input || resolved(output).is_some_and(|path| Some(path) == resolved(input))
        }
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// The path of a file that does not exist, by the real path of its folder. The path may be that of a link.
fn resolved(path: &Path) -> Option<PathBuf> {
    let path = path.read_link().map_or_else(|_| path.into(), |target| path.with_file_name(".").join(target));
    let folder = path.parent().filter(|folder| *folder != "").unwrap_or(Path::new("."));
    Some(folder.canonicalize().ok()?.join(path.file_name()?))
}

/// Checks that the summary can be written, starts the log, and returns the progress display.
pub(super) fn open_outputs(output: &args::Output) -> Result<ProgressDisplay, Error> {
    let display = ProgressDisplay::new(progress_mode(output), Stream::Stderr);
    start_log(&output.log, display.log_writer())?;
    check_output_path("--summary-json", output.summary_json.as_deref())?;
    Ok(display)
}

/// The file that an output option names; none for `-`, which is standard output.
pub(super) fn file_of(output: Option<&Path>) -> Option<&Path> {
    output.filter(|path| *path != Path::new("-"))
}

/// Standard output, for an export.
pub(super) fn standard_output() -> NamedWriter<io::StdoutLock<'static>> {
    NamedWriter { name: STANDARD_OUTPUT.into(), writer: io::stdout().lock() }
}

/// Writes the summary: JSON to `--summary-json`, the text to standard output.
pub(super) fn write_summary(output: &args::Output, json: &str, text: &str) -> Result<(), Error> {
    let path = file_of(output.summary_json.as_deref());
    let to_stdout = output.summary_json.is_some() && path.is_none();
    // The file comes first: a script must get its summary even if the terminal is gone.
    if let Some(path) = path {
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
    let Some(path) = file_of(path) else { return Ok(()) };
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
            Err(Error::Output { name: STANDARD_OUTPUT.into(), error })
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

//! `init`: proposes the settings that read a file, on standard output or as a file.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    path::Path,
};

use super::{
    args, check_output_path,
    exit_code::code,
    output::{file_of, print_note},
    print_data,
};
use crate::{
    customer::Field,
    error::Error,
    init::{Given, proposal_toml, propose},
};

pub(super) fn init(args: &args::Init) -> Result<u8, Error> {
    let output = file_of(args.output.as_deref());
    if let Some(path) = output.filter(|path| !args.force && path.symlink_metadata().is_ok()) {
        return Err(exists(path));
    }
    check_output_path("--output", output)?;
    let proposal = propose(&Given {
        path: args.csv.clone(),
        delimiter: args.delimiter,
        quote: args.quote,
        encoding: args.encoding,
        phone_region: args.phone_region.clone(),
    })?;
    let toml = proposal_toml(&proposal);
    match output {
        None => print_data(&toml)?,
        Some(path) => {
            write(path, &toml, args.force)?;
            print_note(&format!(
                "wrote {0}; next: customer-import validate --config {0} {1}",
                path.display(),
                args.csv.display()
            ));
        }
    }
    if !proposal.missing.is_empty() {
        let names: Vec<&str> = proposal.missing.iter().map(|field| Field::name(*field)).collect();
        print_note(&format!(
            "warning: no column found for {}; name it in the settings; until then, validate reports it as missing",
            names.join(" and ")
        ));
    }
    Ok(code::OK)
}

fn exists(path: &Path) -> Error {
    let text = format!("{} exists already", path.display());
    Error::usage(text, "give --output another file, or add --force to replace it")
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), Error> {
    let mut options = File::options();
    let options = options.write(true);
    let options = if force { options.create(true).truncate(true) } else { options.create_new(true) };
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error: io::Error| match error.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => Error::Output { name: path.display().to_string(), error },
    })
}

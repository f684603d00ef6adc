//! The man page and the shell completions, both generated from clap's definition.
//!
//! There is one page for the whole program, with a section per command, because standard output can hold only one. Clap's
//! generators write to memory first, because they panic on a closed pipe.

use std::io;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::config::{PROGRAM, Required, parser};
use crate::error::Error;

/// The completion script of a shell.
pub(super) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut parser(Required::Enforced), PROGRAM, &mut script);
    let script = String::from_utf8_lossy(&script);
    // For a program with a hyphen in its name, the bash script calls functions by other names than it defines:
    // https://github.com/clap-rs/clap/issues/6421.
    script.replace(&PROGRAM.replace('-', "__subcmd__"), &PROGRAM.replace('-', "__"))
}

/// The man page as roff.
pub(super) fn page() -> Result<String, Error> {
    write_page().map_err(|error| Error::Bug(format!("the man page cannot be written ({error})")))
}

fn write_page() -> io::Result<String> {
    let mut definition = parser(Required::Enforced);
    definition.build();
    let whole = Man::new(definition.clone());
    let mut page = Vec::new();
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    for command in definition.get_subcommands().filter(|command| command.get_name() != "help") {
        page.push_str(&section(command)?);
    }
    let mut end = Vec::new();
    whole.render_extra_section(&mut end)?;
    page.push_str(&String::from_utf8_lossy(&end).replace(".SH EXTRA", ".SH NOTES"));
    Ok(page)
}

/// The section of a command, with its headings one level down.
fn section(command: &Command) -> io::Result<String> {
    let own = Man::new(command.clone());
    let mut section = Vec::new();
    own.render_synopsis_section(&mut section)?;
    own.render_description_section(&mut section)?;
    own.render_options_section(&mut section)?;
    own.render_extra_section(&mut section)?;
    let section = String::from_utf8_lossy(&section).replace(".SH EXTRA", ".SH NOTES").replace(".SH ", ".SS ");
    Ok(format!(".SH {}\n{section}", command.get_name().to_uppercase()))
}

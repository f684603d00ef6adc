//! The reader of settings against what the `toml` crate makes of the same text.
//!
//! An input is a byte that chooses the running command and a file. Whatever is in the file: nothing but
//! options of commands come out of it, each from the line where its key stands and as many as there are
//! keys; what is refused is refused with a line of the file; and clap takes the settings as they are.

#![no_main]

use customer_import::cli::config::{definition, is_accepted, toml as settings_file};
use libfuzzer_sys::fuzz_target;
use toml::de::{DeTable, DeValue};

const COMMANDS: [&str; 5] = ["import", "validate", "status", "export", "simulate"];

fuzz_target!(|input: &[u8]| {
    if let [command, file @ ..] = input {
        check(COMMANDS[usize::from(*command) % COMMANDS.len()], file);
    }
});

fn check(running: &str, bytes: &[u8]) {
    let definition = definition();
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    let settings = match settings_file::read(bytes, &definition, running) {
        Ok(settings) => settings,
        Err(fault) => {
            assert!((1..=lines).contains(&fault.line));
            assert!(!fault.text.is_empty() && !fault.hint.is_empty());
            return;
        }
    };
    let text = std::str::from_utf8(bytes).expect("settings are text");
    let table = DeTable::parse(text).expect("settings are TOML");
    let count = |value: &DeValue<'_>| if let DeValue::Table(inside) = value { inside.len() } else { 1 };
    let keys: usize = table.get_ref().values().map(|value| count(value.get_ref())).sum();
    assert_eq!(settings.len(), keys);
    assert!(settings.is_sorted_by_key(|setting| setting.line));
    for setting in &settings {
        let line = text.split('\n').nth(setting.line - 1).expect("a line of the file");
        // Unless a quoted key has escapes, it stands in its line as it is.
        assert!(line.contains(&setting.key) || line.contains('\\'), "{setting:?}");
        let command = definition.find_subcommand(setting.other.as_deref().unwrap_or(running));
        let mut options = command.expect("a command").get_arguments();
        assert!(options.any(|option| option.get_long() == Some(&setting.key)), "{setting:?}");
    }
    assert!(is_accepted(running, settings), "what was judged fit is taken");
}

//! Compares the settings parser with the `toml` crate on the same text.
//!
//! An input is a byte that selects the running command, and a file. Whatever the file contains: only options of
//! commands result, each with the line of its key and as many as there are keys; a rejection names a line of the
//! file; and clap accepts the settings unchanged.

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
        // Unless a quoted key has escapes, its line contains it unchanged.
        assert!(line.contains(&setting.key) || line.contains('\\'), "{setting:?}");
        let command = definition.find_subcommand(setting.other.as_deref().unwrap_or(running));
        let mut options = command.expect("a command").get_arguments();
        assert!(options.any(|option| option.get_long() == Some(&setting.key)), "{setting:?}");
    }
    assert!(is_accepted(running, settings), "what was judged fit is taken");
}

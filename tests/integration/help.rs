//! `-h` fits a screen, `--help` has every option and the fields, and a program typed without arguments shows the
//! first steps.

use std::path::Path;

use crate::{terminal::Terminal, world::World};

/// Every command, and the program itself.
const COMMANDS: [&str; 16] = [
    "",
    "import",
    "init",
    "validate",
    "plan",
    "retry",
    "verify",
    "probe",
    "status",
    "report",
    "export",
    "simulate",
    "prune",
    "config",
    "completions",
    "man",
];

/// The commands that read rows from a file or from the ledger.
const ROW_COMMANDS: [&str; 5] = ["import", "validate", "plan", "retry", "verify"];

/// The help of a command on a terminal of 80 columns.
fn help(world: &World, command: &str, flag: &str) -> String {
    let args = [command, flag];
    let args: &[&str] = if command.is_empty() { &args[1..] } else { &args };
    let (code, shown) = Terminal::new(80).run(world.command(args));
    assert_eq!(code, 0, "{command} {flag}: {shown}");
    shown.replace("\r\n", "\n")
}

/// The options that help lists, each with its placeholder, if it has one.
fn options(help: &str) -> Vec<(&str, Option<&str>)> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let specs = lines.filter_map(|line| line[line.find("--")? + 2..].split("  ").next());
    let parts =
        specs.map(|spec| spec.split_once(' ').map_or((spec, None), |(name, value)| (name, Some(value))));
    parts.map(|(name, value)| (name.trim_end_matches("..."), value)).collect()
}

/// A help without its line breaks, which may stand in the middle of a sentence.
fn words_of(help: &str) -> String {
    help.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_short_help_of_every_command_fits_a_screen() {
    let world = World::new();
    for command in COMMANDS {
        let shown = help(&world, command, "-h");
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.len() <= 30, "{command} -h has {} lines", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(
            shown.contains(&format!("\n  customer-import {command}")) || command == "completions",
            "{shown}"
        );
    }
}

#[test]
fn the_short_help_lists_what_is_common_and_the_long_one_everything() {
    let world = World::new();
    for command in COMMANDS.iter().filter(|command| !["", "config", "completions", "man"].contains(command)) {
        let (short, long) = (help(&world, command, "-h"), help(&world, command, "--help"));
        let (short, long) = (options(&short), options(&long));
        let settings = world.run(&["config", command]).stdout;
        let keys = settings.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        // `API key` and `Proxy` are not options.
        for key in keys.filter(|key| key.starts_with(char::is_lowercase)) {
            let hidden = *command == "retry"
                && ["delimiter", "strict-columns", "ignore", "quote", "encoding"].contains(&key);
            assert_eq!(long.iter().any(|(name, _)| *name == key), !hidden, "{command} --help and --{key}");
        }
        assert!(short.iter().all(|option| long.contains(option)), "{command}: {short:?} {long:?}");
        assert!(short.iter().any(|(name, _)| *name == "help"), "{command}: {short:?}");
    }
    let short = help(&world, "import", "-h");
    for common in
        ["--simulator", "--merchant-id <ID>", "--rate ", "--map <FIELD=COLUMN|TEMPLATE>", "[default: 50]"]
    {
        assert!(short.contains(common), "{common}: {short}");
    }
    assert!(!short.contains("--burst") && short.contains("--help prints all"), "{short}");
}

#[test]
fn a_placeholder_says_what_to_give() {
    let world = World::new();
    let mut seen = 0;
    for command in COMMANDS {
        let long = help(&world, command, "--help");
        assert!(!long.contains('`') && !long.contains("possible values"), "{long}");
        for (name, value) in options(&long) {
            let Some(value) = value else { continue };
            let own_name = name.to_uppercase().replace('-', "_");
            assert!(value.trim_matches(['<', '>']) != own_name, "{command} --{name} {value}");
            assert!(!["<N>", "<DUR>", "<VALUE>"].contains(&value), "{command} --{name} {value}");
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen}");
    let long = help(&world, "import", "--help");
    for spec in
        ["--progress <auto|always|never>", "--log-format <text|json>", "--validation <documented|lenient>"]
    {
        assert!(long.contains(spec), "{spec}: {long}");
    }
}

/// The documentation's tables have each option in the form of the help, with the same placeholder.
#[test]
fn the_documentation_has_the_placeholders_of_help() {
    let world = World::new();
    let long: Vec<String> = COMMANDS.iter().map(|command| help(&world, command, "--help")).collect();
    let offered: Vec<_> = long.iter().flat_map(|long| options(long)).collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    let page = std::fs::read_to_string(page).unwrap().replace("\\|", "|");
    let specs = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let specs = specs.flat_map(|(cell, _)| cell.split('`')).filter_map(|spec| spec.strip_prefix("--"));
    let mut seen = 0;
    for spec in specs {
        let (name, value) =
            spec.split_once(' ').map_or((spec, None), |(name, value)| (name, Some(format!("<{value}>"))));
        assert!(offered.contains(&(name, value.as_deref())), "docs/options.md: --{spec}");
        seen += 1;
    }
    assert!(seen > 60, "{seen}");
}

/// Every default that `config` shows is in the documentation's table.
#[test]
fn the_documentation_has_the_defaults() {
    let world = World::new();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    let page = std::fs::read_to_string(page).unwrap().replace("\\|", "|");
    let rows: Vec<(&str, &str)> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | ")).collect();
    let mut seen = 0;
    for command in COMMANDS.iter().filter(|command| !["", "config", "completions", "man"].contains(command)) {
        let shown = world.run(&["config", command]).stdout;
        for line in shown.lines().filter_map(|line| line.trim_start().strip_suffix(" default")) {
            let Some((key, value)) = line.trim_end().split_once(' ') else { continue };
            let value = value.trim();
            let is_in_words = value.contains(' ') || key == "verbose";
            if is_in_words || ["-", "false"].contains(&value) || !key.starts_with(char::is_lowercase) {
                continue;
            }
            let named = |cell: &str| {
                format!("`{cell} ").contains(&format!("--{key} ")) || cell.contains(&format!("--{key}`"))
            };
            let is_documented = rows.iter().filter(|(cell, _)| named(cell)).any(|(_, rest)| {
                let cell = rest.split(" | ").next().unwrap().replace('`', "");
                cell.split([';', ',', ' ']).any(|word| word == value)
            });
            assert!(
                is_documented,
                "docs/options.md does not say that --{key} of {command} is {value} by default"
            );
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn help_is_grouped_and_the_file_stands_first() {
    let world = World::new();
    let long = help(&world, "import", "--help");
    let headings = [
        "\nArguments:\n  <CSV>",
        "\nOptions:",
        "\nTarget:",
        "\nInput:",
        "\nSending:",
        "\nLedger:",
        "\nOutput:",
        "\nCustomer fields:",
        "\nExamples:",
    ];
    let offsets = headings.map(|heading| long.find(heading).unwrap_or_else(|| panic!("{heading}: {long}")));
    assert!(offsets.is_sorted(), "{long}");
    for variable in
        ["JUSPAY_ENVIRONMENT", "JUSPAY_MERCHANT_ID", "CUSTOMER_IMPORT_LEDGER", "CUSTOMER_IMPORT_RUN"]
    {
        assert!(words_of(&long).contains(&format!("[env: {variable}]")), "{variable}: {long}");
    }
    let codes = help(&world, "", "--help");
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "129, 130, 143 "] {
        assert!(codes.contains(&format!("\n  {code}")), "{code}: {codes}");
    }
}

#[test]
fn help_lists_the_fields_of_a_customer() {
    let world = World::new();
    for command in ROW_COMMANDS {
        let long = help(&world, command, "--help");
        for (field, needed) in [
            ("object_reference_id", "required"),
            ("mobile_number", "required"),
            ("email_address", "optional"),
            ("first_name", "optional"),
            ("last_name", "optional"),
            ("mobile_country_code", "optional"),
            ("options.get_client_auth_token", "optional"),
        ] {
            let line = long.lines().find(|line| line.trim_start().starts_with(&format!("{field} ")));
            assert!(line.is_some_and(|line| line.contains(needed)), "{command} --help, {field}: {line:?}");
        }
    }
}

#[test]
fn help_of_a_command_can_be_asked_for_in_every_way() {
    let world = World::new();
    let (short, long) = (world.run(&["import", "-h"]).stdout, world.run(&["import", "--help"]).stdout);
    assert!(short.len() < long.len());
    for (args, expected) in [
        (&["import", "users.csv", "-vh"][..], &short),
        (&["import", "--rate", "5", "-h"], &short),
        (&["config", "import", "-h"], &short),
        (&["help", "import"], &long),
        (&["import", "users.csv", "--simulator", "--help"], &long),
    ] {
        let done = world.run(args);
        assert_eq!((done.code, done.stderr.as_str(), &done.stdout), (0, "", expected), "{args:?}");
    }
}

/// A user who types only the program's name wants to know what it does.
#[test]
fn without_arguments_a_terminal_shows_the_first_steps_and_a_script_gets_an_error() {
    let world = World::new();
    world.rows("users.csv", 20);
    let (code, shown) = Terminal::new(80).run(world.command::<&str>(&[]));
    assert_eq!((code, shown.replace("\r\n", "\n")), (2, help(&world, "", "-h")));
    let steps: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("  customer-import ")).collect();
    assert_eq!(steps.len(), 3, "{shown}");
    for step in steps {
        let done = world.run(&step.split(' ').collect::<Vec<_>>());
        assert_eq!(done.code, 0, "{step}: {done:?}");
    }
    // Each of the first steps had its effect: a settings file, and a ledger of the simulator.
    assert!(world.path("import.toml").exists() && world.number("select count(*) from run") == 1);
    let script = world.run::<&str>(&[]);
    script.assert_error(2, &["no command", "--help"]);
    assert_eq!(script.stdout, "");
}

#[test]
fn the_man_page_has_every_command_and_the_usual_sections() {
    let world = World::new();
    let page = world.run(&["man"]);
    assert_eq!((page.code, page.stderr.as_str()), (0, ""));
    let page = page.stdout.replace("\\-", "-").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "");
    assert!(page.contains(".TH customer-import 1") && !page.contains('`'), "{page}");
    let mut headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
    let commands: Vec<String> = COMMANDS[1..].iter().map(|command| command.to_uppercase()).collect();
    headings.retain(|heading| !commands.contains(&heading.to_string()));
    assert_eq!(
        headings,
        [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "CUSTOMER FIELDS",
            "EXIT STATUS",
            "ENVIRONMENT",
            "FILES",
            "EXAMPLES"
        ]
    );
    for command in &COMMANDS[1..] {
        let long = help(&world, command, "--help");
        let begin = page.find(&format!(".SH {}\n", command.to_uppercase())).unwrap();
        let section = &page[begin..];
        let section = &section[..section[1..].find(".SH ").unwrap()];
        for (name, value) in options(&long).into_iter().filter(|(name, _)| *name != "help") {
            // The synopsis, and the option's own paragraph.
            let spec = value.map_or(String::new(), |value| format!(" {}", value.trim_matches(['<', '>'])));
            assert!(section.contains(&format!("--{name}{spec}")), "{command} --{name}{spec}: {section}");
        }
        let examples = long.split("Examples:\n").nth(1).unwrap().lines().map(str::trim);
        for example in examples {
            assert!(page[page.find(".SH EXAMPLES").unwrap()..].contains(example), "{example}");
        }
    }
    let environment = &page[page.find(".SH ENVIRONMENT").unwrap()..page.find(".SH FILES").unwrap()];
    for variable in [
        "JUSPAY_API_KEY",
        "JUSPAY_MERCHANT_ID",
        "JUSPAY_ENVIRONMENT",
        "CUSTOMER_IMPORT_LEDGER",
        "NO_PROXY",
        "PGPASSWORD, PGPASSFILE",
        "TERM",
    ] {
        assert!(environment.contains(&format!("{variable}\n")), "{variable}: {environment}");
    }
    assert!(page.contains("customer-import prune --before DATE [OPTIONS]\n"), "a required option: {page}");
    for field in ["object_reference_id\nrequired", "options.get_client_auth_token\noptional"] {
        assert!(page.contains(field), "{field}");
    }
}

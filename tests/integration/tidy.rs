//! Enforces the promises of `src/lib.rs` about the sources.
//!
//! The disaster is a slow one: an import here, a statement there, and after a year the rules contain SQL, the
//! simulator makes the same mistake as the client, and nobody can change one part without three others. A table in a
//! comment does not prevent that; a failing test does.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use sqlx::{ConnectOptions, Row, sqlite::SqliteConnectOptions};

use crate::scanner::{Source, Tree, circle, constants, program, read_all, root, words};

/// The maximum length of the README in characters: what a user reads before a first try.
const README_CHARS_MAX: usize = 12_000;

/// The maximum number of lines of a function: what fits on a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// The module `error` has no line in `lib.rs`; it wraps the errors of these modules.
const ERROR_USES: [&str; 3] = ["api", "ledger", "source"];

fn under(source: &Source, modules: &[&str]) -> bool {
    source.path != "src/main.rs" && source.path != "src/lib.rs" && modules.contains(&source.module())
}

/// Asserts that none of these words occurs in a file that is not allowed to contain it.
fn only_in(words: &[&str], allowed: impl Fn(&Source) -> bool) {
    let sources = program();
    let forbidden = sources.iter().filter(|source| !allowed(source));
    let found: Vec<String> =
        forbidden.flat_map(|source| words.iter().flat_map(|word| source.occurrences(word))).collect();
    assert!(found.is_empty(), "{words:?} must not stand at {found:?}");
}

/// The table "Who may use what": module → the modules it may use, `None` for all of them.
fn table() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let text = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split('`').skip(1).step_by(2).map(|name| name.trim_matches(['[', ']']).to_owned()).collect()
    };
    let lines = text.lines().filter_map(|line| line.strip_prefix("//! | ["));
    let mut table = BTreeMap::new();
    for line in lines {
        let mut cells = line.split('|');
        let module = names(cells.next().unwrap()).pop_first().unwrap();
        let uses = cells.next().unwrap();
        table.insert(module, (!uses.trim().starts_with("all")).then(|| names(uses)));
    }
    table
}

#[test]
fn the_table_of_the_architecture_page_is_true() {
    let table = table();
    assert!(table.len() > 8, "{table:?}");
    let sources = program();
    let lib = sources.iter().find(|source| source.path == "src/lib.rs").unwrap();
    let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        if !matches!(source.path.as_str(), "src/lib.rs" | "src/main.rs") {
            used.entry(source.module()).or_default().extend(source.uses());
        }
    }
    let mut wrong = Vec::new();
    for module in used.keys() {
        if words(&lib.code, &format!("mod {module}")).is_empty() {
            wrong.push(format!("{module} is not a module of lib.rs"));
        }
        if *module != "error" && !table.contains_key(*module) {
            wrong.push(format!("{module} has no line in the table of lib.rs"));
        }
    }
    let of_error: BTreeSet<String> = ERROR_USES.map(str::to_owned).into();
    let of_error = ("error".to_owned(), Some(of_error));
    for (module, may) in table.into_iter().chain([of_error]) {
        let Some(uses) = used.get(module.as_str()) else {
            wrong.push(format!("{module} stands in the table and is no module"));
            continue;
        };
        let Some(may) = may else { continue };
        for extra in uses.difference(&may) {
            wrong.push(format!("{module} uses {extra}, and the table does not say so"));
        }
        for missing in may.difference(uses) {
            wrong.push(format!("the table says that {module} uses {missing}, and it does not"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_simulator_knows_nothing_of_ours() {
    let sources = program();
    let simulator: Vec<&Source> = sources.iter().filter(|source| under(source, &["simulator"])).collect();
    assert!(simulator.len() > 1);
    for source in simulator {
        assert_eq!(source.uses(), BTreeSet::new(), "{}", source.path);
        assert_eq!(source.occurrences("customer_import"), Vec::<String>::new());
    }
}

#[test]
fn sqlx_is_the_ledgers_alone() {
    only_in(&["sqlx"], |source| under(source, &["ledger"]));
}

#[test]
fn reqwest_is_the_apis_alone() {
    // The command line uses the type of a URL.
    only_in(&["reqwest"], |source| {
        under(source, &["api"])
            || (under(source, &["cli"])
                && source.occurrences("reqwest::Url").len() == source.occurrences("reqwest").len())
    });
}

#[test]
fn the_rules_are_pure() {
    only_in(
        &["tokio", "csv", "csv_core", "std::fs", "std::io", "std::time", "std::net", "tracing"],
        |source| !under(source, &["customer"]),
    );
}

#[test]
fn only_the_command_line_prints() {
    only_in(&["println!", "eprintln!", "print!", "eprint!", "dbg!"], |_| false);
    only_in(&["stdout", "stderr", "Stdout", "Stderr"], |source| under(source, &["cli"]));
}

#[test]
fn only_the_command_line_reads_the_environment() {
    only_in(&["env::"], |source| {
        // The crash point at which a test ends the process; behind a feature, not in any release.
        source.path == "src/ledger/crash_point.rs"
            || source.path == "src/main.rs"
                && source.occurrences("env::") == source.occurrences("env::args_os")
            || under(source, &["cli"])
    });
    let ledger = std::fs::read_to_string(root().join("src/ledger.rs")).unwrap();
    assert!(ledger.contains("#[cfg(feature = \"crash-points\")]\nmod crash_point;"));
}

#[test]
fn the_network_is_the_apis_and_the_servers() {
    only_in(&["TcpStream", "TcpListener", "UdpSocket", "hyper"], |source| {
        under(source, &["simulator"]) || source.path == "src/metrics/server.rs"
    });
}

#[test]
fn nothing_sleeps_but_the_sender_the_throttle_and_the_simulator() {
    // No event shows that a server is reachable again, or that another process has released the ledger.
    let polls_a_server = |source: &Source| source.path.starts_with("src/ledger/postgres/");
    only_in(&["sleep"], |source| under(source, &["sender", "simulator"]) || polls_a_server(source));
    // A deadline is an event; the end of the shutdown grace is one.
    only_in(&["sleep_until"], |source| under(source, &["throttle", "simulator", "run"]));
    for source in read_all("tests") {
        for word in ["sleep", "sleep_until"] {
            let occurrences = source.occurrences(word);
            assert!(occurrences.is_empty(), "tests wait for events, not for time: {occurrences:?}");
        }
    }
}

#[test]
fn nothing_gives_up_without_a_word() {
    only_in(&[".unwrap()", "todo!", "unimplemented!", "unreachable!", "panic!"], |_| false);
}

#[test]
fn no_state_is_global() {
    only_in(&["static mut", "OnceLock", "LazyLock", "thread_local!", "lazy_static!"], |source| {
        // Text that is built once and never changes is not state.
        under(source, &["simulator"])
    });
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut silent = Vec::new();
    for source in ["src", "tests", "benches", "examples"].iter().flat_map(|folder| read_all(folder)) {
        if !source.text.starts_with("//! ") {
            silent.push(source.path);
        }
    }
    assert!(silent.is_empty(), "without a //! at the top: {silent:?}");
}

#[test]
fn functions_fit_on_a_screen() {
    let mut long = Vec::new();
    for source in program() {
        let functions = source.functions().into_iter();
        let too_long = functions.filter(|(_, _, lines)| *lines > FUNCTION_LINES_MAX);
        long.extend(too_long.map(|(name, line, lines)| format!("{}:{line} {name}: {lines}", source.path)));
    }
    assert!(long.is_empty(), "more than {FUNCTION_LINES_MAX} lines: {long:#?}");
}

/// The invariants of a type are kept in one place.
#[test]
fn a_type_is_implemented_in_one_file() {
    let mut files: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for source in program() {
        // Each backend has a store and a reader of its own.
        let backend = ["src/ledger/sqlite/", "src/ledger/postgres/"]
            .into_iter()
            .find(|folder| source.path.starts_with(folder));
        for name in source.implemented() {
            let room = backend.unwrap_or(source.module()).to_owned();
            files.entry((room, name)).or_default().push(source.path.clone());
        }
    }
    assert!(files.len() > 100, "only {} types found", files.len());
    files.retain(|_, files| files.len() > 1);
    assert!(files.is_empty(), "implemented in several files: {files:#?}");
}

#[test]
fn no_files_of_a_module_need_each_other() {
    let sources = program();
    let sources: Vec<Source> = sources
        .into_iter()
        .filter(|source| !matches!(source.path.as_str(), "src/lib.rs" | "src/main.rs"))
        .collect();
    let neighbours = Tree::new(&sources).neighbours();
    assert!(neighbours.values().map(BTreeSet::len).sum::<usize>() > 50, "{neighbours:?}");
    let found = circle(&neighbours);
    assert!(found.is_none(), "each needs the next: {found:?}");
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn links_of_the_documentation_lead_somewhere() {
    let pages = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages: Vec<PathBuf> = pages.chain([root().join("README.md")]).collect();
    let (mut followed, mut wrong) = (0, Vec::new());
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("https://")) {
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            // Relative to the repository's page on GitHub, so that its address is not needed.
            let to = match path.strip_prefix("../../actions/workflows/") {
                Some(workflow) => {
                    root().join(".github/workflows").join(workflow.trim_end_matches("/badge.svg"))
                }
                None if path.is_empty() => page.clone(),
                None => page.with_file_name(path),
            };
            let Ok(target) = std::fs::read_to_string(&to) else {
                wrong.push(format!("{}: {link}", page.display()));
                continue;
            };
            let mut headings = target.lines().filter(|line| line.starts_with('#'));
            if !fragment.is_empty() && !headings.any(|line| anchor(line.trim_start_matches('#')) == fragment)
            {
                wrong.push(format!("{}: {link}", page.display()));
            }
            followed += 1;
        }
    }
    assert!(followed > 20 && wrong.is_empty(), "{wrong:#?}");
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(
        readme.chars().count() <= README_CHARS_MAX,
        "README is longer than {README_CHARS_MAX} characters"
    );
}

#[test]
fn names_of_files_are_nouns() {
    for source in ["src", "tests"].iter().flat_map(|folder| read_all(folder)) {
        let name = source.path.rsplit('/').next().unwrap();
        assert!(
            !["mod.rs", "utils.rs", "util.rs", "helpers.rs", "types.rs", "common.rs", "misc.rs"]
                .contains(&name),
            "{}",
            source.path
        );
    }
}

/// A reader of the file listing finds each name explained.
#[test]
fn names_of_files_are_in_the_glossary() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let page = lib.lines().filter_map(|line| line.strip_prefix("//!")).collect::<Vec<_>>().join(" ");
    let (_, glossary) = page.split_once("# Glossary").unwrap();
    let plain = glossary.to_lowercase().replace("  ", " ").replace('-', " ");
    let sources =
        program().into_iter().filter(|source| !matches!(source.path.as_str(), "src/lib.rs" | "src/main.rs"));
    let unknown: Vec<String> = sources
        .map(|source| source.path)
        .filter(|path| {
            let name = path.rsplit('/').next().unwrap().trim_end_matches(".rs").replace('_', " ");
            let is_known = |name: &str| !words(&plain, name).is_empty();
            !is_known(&name) && !is_known(&format!("{name}s"))
        })
        .collect();
    assert!(unknown.is_empty(), "no word of the glossary in src/lib.rs: {unknown:?}");
}

#[test]
fn every_migration_says_why_and_is_compiled_in() {
    let backends = ["src/ledger/sqlite/store.rs", "src/ledger/postgres/schema.rs"];
    let store = backends.map(|path| std::fs::read_to_string(root().join(path)).unwrap()).concat();
    let mut found = 0;
    for backend in std::fs::read_dir(root().join("migrations")).unwrap() {
        for migration in std::fs::read_dir(backend.unwrap().path()).unwrap() {
            let path = migration.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("-- "), "{} has no comment at its head", path.display());
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(store.contains(&name), "{name} stands in the folder, and not in `MIGRATIONS`");
            found += 1;
        }
    }
    assert!(found > 0);
}

/// Whether a literal is a SQL statement: words that occur together only in SQL.
fn is_sql(text: &str) -> bool {
    let text = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let begins = |words: &str| text.starts_with(words);
    let has = |words: &str| text.contains(words);
    begins("insert into ")
        || begins("insert or ")
        || begins("delete from ")
        || begins("create ") && (has(" table ") || has(" index "))
        || begins("update ") && has(" set ")
        || begins("select ") && (has(" from ") || has("("))
        || begins("with ") && has(" select ")
        || begins("pragma ")
        || begins("begin immediate")
        || matches!(text.as_str(), "commit" | "rollback" | "begin")
}

#[test]
fn sql_is_the_ledgers_rooms_alone() {
    let sources = program();
    let outside = sources.iter().filter(|source| source.is_top() || !under(source, &["ledger"]));
    let found: Vec<String> = outside
        .flat_map(|source| {
            let statements = source.strings.iter().filter(|(_, text)| is_sql(text));
            statements.map(|(line, _)| format!("{}:{line}", source.path))
        })
        .collect();
    assert!(found.is_empty(), "SQL at {found:?}");
}

/// A statement that does not fit the tables fails here and not in a user's run.
#[test]
fn every_statement_fits_a_fresh_ledger() {
    let sources = program();
    let mut statements = Vec::new();
    // Those of the other backend are tried on a server, in `postgres`.
    let is_of_file =
        |source: &&Source| under(source, &["ledger"]) && !source.path.starts_with("src/ledger/postgres/");
    for source in sources.iter().filter(is_of_file) {
        for (name, text) in constants(source) {
            if is_sql(&text) {
                statements.push((format!("{} {name}", source.path), text));
            }
        }
        // The few statements that are written where they are used.
        for (line, text) in &source.strings {
            if is_sql(text) && !statements.iter().any(|(_, known)| known == text) {
                statements.push((format!("{}:{line}", source.path), text.clone()));
            }
        }
    }
    assert!(statements.len() > 15, "only {} statements found", statements.len());

    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let wrong: Vec<String> = runtime.unwrap().block_on(async {
        let options =
            SqliteConnectOptions::new().filename(folder.path().join("fresh.db")).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        let migrator = sqlx::migrate::Migrator::new(root().join("migrations/sqlite")).await;
        migrator.unwrap().run(&mut connection).await.unwrap();
        let mut wrong = Vec::new();
        for (name, text) in &statements {
            // `\` at the end of a line and the like are Rust's; SQL has no such escapes.
            assert!(!text.contains('\\'), "{name} has an escape");
            let explain = sqlx::query(sqlx::AssertSqlSafe(format!("explain {text}")));
            match explain.fetch_all(&mut connection).await {
                Err(error) => wrong.push(format!("{name}: {error}")),
                // A check that lists more than two words with `in` builds a temporary table for each row.
                Ok(program)
                    if text.trim_start().starts_with("insert into row (") && text.contains("(values") =>
                {
                    let mut operations = program.iter().map(|row| row.get::<String, _>("opcode"));
                    if operations.any(|operation| operation == "OpenEphemeral") {
                        wrong.push(format!("{name}: a temporary table"));
                    }
                }
                Ok(_) => {}
            }
            // Otherwise each commit might read all rows that cannot be sent.
            if text.trim_start().starts_with("delete from unsendable") && text.contains(" id in (") {
                let plan = sqlx::query(sqlx::AssertSqlSafe(format!("explain query plan {text}")));
                let first: String = plan.fetch_all(&mut connection).await.unwrap()[0].get("detail");
                if !first.contains("INTEGER PRIMARY KEY") {
                    wrong.push(format!("{name}: {first}"));
                }
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_sentence_is_no_statement() {
    assert!(is_sql("\n    select x from y") && is_sql("pragma x"));
    assert!(!is_sql("select the rows to send") && !is_sql("update the file, then run it again"));
}

//! Reads the sources and keeps the promises of `src/lib.rs` about them.
//!
//! The disaster is a slow one: a `use` here, a statement there, and in a year the rules know SQL,
//! the simulator shares a mistake with the client, and nobody can change one thing without three
//! others. A table in a comment does not hold that up; a failing test does.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
};

use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};

/// The most lines of a file before its tests: what one sits down to read.
const LINES_MAX: usize = 700;

/// What `lib.rs` has no line for: the errors of the deep modules, wrapped once.
const ERROR_USES: [&str; 3] = ["api", "ledger", "source"];

/// A source file, split into what is code and what is not.
struct Source {
    /// From the root of the repository, with `/`.
    path: String,
    /// As it stands there.
    text: String,
    /// The program: comments and the insides of literals blanked out, tests cut off.
    code: String,
    /// The string literals of the program, each with its line, its escapes unread.
    strings: Vec<(usize, String)>,
}

impl Source {
    fn read(path: &Path, root: &Path) -> Source {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        let (blanked, literals) = split(&text);
        let end = tests_begin(&blanked);
        let line = |at: usize| text[..at].matches('\n').count() + 1;
        Source {
            path: name,
            code: blanked[..end].to_owned(),
            strings: literals
                .into_iter()
                .filter(|literal| literal.start < end)
                .map(|literal| (line(literal.start), text[literal].to_owned()))
                .collect(),
            text,
        }
    }

    /// The module right under the crate's root that this file belongs to.
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap();
        inside.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// Whether the file is that module itself and not one of its rooms.
    fn is_top(&self) -> bool {
        self.path.matches('/').count() == 1
    }

    /// Where this word stands in the program, as a word of its own; `path:line`.
    fn places(&self, word: &str) -> Vec<String> {
        let places = words(&self.code, word).into_iter();
        places.map(|at| format!("{}:{}", self.path, self.code[..at].matches('\n').count() + 1)).collect()
    }

    /// The modules of ours that the program names: `crate::a`, `crate::{a, b::{c}}`, and from a
    /// module right under the root also `super::a`.
    fn uses(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let roots: &[&str] = if self.is_top() { &["crate", "super"] } else { &["crate"] };
        for root in roots {
            for at in words(&self.code, root) {
                let rest = self.code[at + root.len()..].trim_start();
                let Some(rest) = rest.strip_prefix("::") else {
                    continue;
                };
                let rest = rest.trim_start();
                match rest.strip_prefix('{') {
                    Some(group) => found.extend(first_names(group)),
                    None => found.extend(first_word(rest)),
                }
            }
        }
        found.remove(self.module());
        found
    }
}

/// The first name of each path in a group of imports, of which the opening brace is read.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut expecting) = (1, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => expecting = true,
            _ if expecting && depth == 1 && !c.is_whitespace() => {
                names.extend(first_word(&group[at..]));
                expecting = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn first_word(text: &str) -> Option<String> {
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where this stands and is not part of a longer word. It may be a path or end in a sign.
fn words(text: &str, wanted: &str) -> Vec<usize> {
    let whole = |at: &usize| {
        let before = text[..*at].chars().next_back();
        let after = text[at + wanted.len()..].chars().next();
        let ends_in_word = wanted.chars().next_back().is_some_and(is_word);
        let goes_on = ends_in_word && after.is_some_and(is_word);
        !(before.is_some_and(is_word) || goes_on)
    };
    let found = text.match_indices(wanted).map(|(at, _)| at);
    found.filter(whole).collect()
}

/// Where an inline module of tests begins; it stands last in its file.
fn tests_begin(code: &str) -> usize {
    const MARK: &str = "#[cfg(test)]";
    let begins = |at: &usize| {
        let rest = code[at + MARK.len()..].trim_start();
        rest.starts_with("mod ") && rest.find('{').is_some_and(|brace| !rest[..brace].contains(';'))
    };
    let mut marks = code.match_indices(MARK).map(|(at, _)| at);
    marks.find(begins).unwrap_or(code.len())
}

/// The text with comments and the insides of literals blanked out, and where the insides of string
/// literals are. Byte for byte as long as the text.
fn split(text: &str) -> (String, Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut strings = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let begin = at;
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            blank(&mut out[begin..at]);
        } else if rest.starts_with("/*") {
            let mut depth = 0;
            loop {
                match &bytes[at..] {
                    [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                    [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 || at >= bytes.len() {
                    break;
                }
            }
            blank(&mut out[begin..at]);
        } else if let Some(hashes) = raw_string(text, at) {
            let inside = at + rest.find('"').unwrap() + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            let end = inside + text[inside..].find(&close).unwrap();
            strings.push(inside..end);
            blank(&mut out[inside..end]);
            at = end + close.len();
        } else if bytes[at] == b'"' {
            at += 1;
            while bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            strings.push(begin + 1..at);
            blank(&mut out[begin + 1..at]);
            at += 1;
        } else if let Some(length) = char_literal(rest) {
            blank(&mut out[begin + 1..begin + length - 1]);
            at += length;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    (String::from_utf8(out).unwrap(), strings)
}

/// Lines stay where they are.
fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

/// The number of hashes, if a raw string begins here.
fn raw_string(text: &str, at: usize) -> Option<usize> {
    if text[..at].chars().next_back().is_some_and(is_word) {
        return None;
    }
    let rest = &text[at..];
    let rest = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// Its length, if this is a character and not a lifetime.
fn char_literal(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if inside.starts_with('\\') {
        // The escaped character may be a quote itself.
        return inside[2..].find('\'').map(|end| end + 4);
    }
    let length = inside.chars().next()?.len_utf8();
    inside[length..].starts_with('\'').then_some(length + 2)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read_all(folder: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(Source::read(&path, root()));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// The program's own files; modules of tests that have a file to themselves are not among them.
fn program() -> Vec<Source> {
    let mut sources = read_all("src");
    sources.retain(|source| !source.path.ends_with("/tests.rs"));
    assert!(sources.len() > 10, "the sources are not here");
    sources
}

fn under(source: &Source, modules: &[&str]) -> bool {
    source.path != "src/main.rs" && source.path != "src/lib.rs" && modules.contains(&source.module())
}

/// None of these words stands in a file that may not have it.
fn only_in(words: &[&str], allowed: impl Fn(&Source) -> bool) {
    let sources = program();
    let forbidden = sources.iter().filter(|source| !allowed(source));
    let found: Vec<String> =
        forbidden.flat_map(|source| words.iter().flat_map(|word| source.places(word))).collect();
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
        assert_eq!(source.places("customer_import"), Vec::<String>::new());
    }
}

#[test]
fn sqlx_is_the_ledgers_alone() {
    only_in(&["sqlx"], |source| under(source, &["ledger"]));
}

#[test]
fn reqwest_is_the_apis_alone() {
    // The command line names the type of a URL.
    only_in(&["reqwest"], |source| {
        under(source, &["api"])
            || (under(source, &["cli"])
                && source.places("reqwest::Url").len() == source.places("reqwest").len())
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
        // What a test tells the process to die at; behind a feature, in no release.
        source.path == "src/ledger/sqlite/crash_point.rs"
            || source.path == "src/main.rs" && source.places("env::") == source.places("env::args_os")
            || under(source, &["cli"])
    });
    let ledger = std::fs::read_to_string(root().join("src/ledger/sqlite.rs")).unwrap();
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
    only_in(&["sleep"], |source| under(source, &["sender", "simulator"]));
    // A deadline is an event; the grace of requests in flight is one.
    only_in(&["sleep_until"], |source| under(source, &["throttle", "simulator", "run"]));
    for source in read_all("tests") {
        for word in ["sleep", "sleep_until"] {
            let places = source.places(word);
            assert!(places.is_empty(), "tests wait for events, not for time: {places:?}");
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
        // Text that is built once and never changes is no state.
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
fn files_are_of_a_readable_size() {
    let long: Vec<String> = program()
        .iter()
        .map(|source| (&source.path, source.code.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines}"))
        .collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines before the tests: {long:?}");
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

#[test]
fn every_migration_says_why() {
    let mut found = 0;
    for backend in std::fs::read_dir(root().join("migrations")).unwrap() {
        for migration in std::fs::read_dir(backend.unwrap().path()).unwrap() {
            let path = migration.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("-- "), "{} has no comment at its head", path.display());
            found += 1;
        }
    }
    assert!(found > 0);
}

/// Whether a literal is a statement: the words that only SQL puts together like this.
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

/// The name and text of each `const NAME: &str = "…"` of a file.
fn constants(source: &Source) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for at in words(&source.code, "const") {
        let rest = &source.code[at + "const".len()..];
        let declaration = &rest[..rest.find(';').unwrap()];
        let (Some((name, value)), Some(open)) = (declaration.split_once(": &str ="), declaration.find('"'))
        else {
            continue;
        };
        // A list of texts, or one that a macro makes, is none of these.
        if !value.trim_start().starts_with('"') {
            continue;
        }
        let inside = at + "const".len() + open + 1;
        let end = inside + source.code[inside..].find('"').unwrap();
        found.push((name.trim().to_owned(), source.text[inside..end].to_owned()));
    }
    found
}

/// A statement that no table of ours fits fails here and not in somebody's run.
#[test]
fn every_statement_fits_a_fresh_ledger() {
    let sources = program();
    let mut statements = Vec::new();
    for source in sources.iter().filter(|source| under(source, &["ledger"])) {
        for (name, text) in constants(source) {
            if is_sql(&text) {
                statements.push((format!("{} {name}", source.path), text));
            }
        }
        // The few that stand where they are used.
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
            // `\` at the end of a line and the like are Rust's; in SQL there are none.
            assert!(!text.contains('\\'), "{name} has an escape");
            let explain = sqlx::query(sqlx::AssertSqlSafe(format!("explain {text}")));
            if let Err(error) = explain.fetch_all(&mut connection).await {
                wrong.push(format!("{name}: {error}"));
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_scanner_sees_what_it_should() {
    let text = r##"use crate::{a, b::{c, d}, super_x}; // crate::no
        /* "no" /* nested */ crate::no */
        fn f<'a>(x: &'a str) { let q = '"'; let r = r#"raw "inside" "#; let s = "esc \" crate::no"; }
        const ONE: &str = "
            select x from y";
        #[cfg(test)]
        mod tests;
        fn g() { crate::e::f(); }
        #[cfg(test)]
        mod tests { use crate::no; }
        "##;
    let (code, literals) = split(text);
    assert_eq!(code.len(), text.len());
    let source = Source {
        path: "src/thing/room.rs".into(),
        code: code[..tests_begin(&code)].to_owned(),
        strings: literals.into_iter().map(|range| (0, text[range].to_owned())).collect(),
        text: text.into(),
    };
    let names: Vec<String> = source.uses().into_iter().collect();
    assert_eq!(names, ["a", "b", "e", "super_x"]);
    assert_eq!(source.strings[0].1, r#"raw "inside" "#);
    assert_eq!(source.strings[1].1, r#"esc \" crate::no"#);
    let (name, statement) = &constants(&source)[0];
    assert_eq!((name.as_str(), is_sql(statement)), ("ONE", true));
    assert!(!is_sql("select the rows to send") && !is_sql("update the file, then run it again"));
}

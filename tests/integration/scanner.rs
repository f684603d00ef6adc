//! Parses Rust sources for the rules of `tidy`: code as opposed to comments and literals, words, imports, functions,
//! types.
//!
//! This is not a parser of the whole language: comments and the insides of literals are blanked out, and the rest is
//! searched. That is sufficient for sources formatted by `cargo fmt`, and needs no crate that follows the language.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
};

/// A source file, split into code and the rest.
pub(crate) struct Source {
    /// The path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// The unchanged text.
    pub(crate) text: String,
    /// The program: comments and the insides of literals blanked out, tests removed.
    pub(crate) code: String,
    /// The string literals of the program, each with its line, with escapes left unresolved.
    pub(crate) strings: Vec<(usize, String)>,
}

impl Source {
    pub(crate) fn read(path: &Path, root: &Path) -> Source {
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

    /// The module directly below the crate's root that contains this file.
    pub(crate) fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap();
        inside.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// Whether the file is that module itself and not one of its submodules.
    pub(crate) fn is_top(&self) -> bool {
        self.path.matches('/').count() == 1
    }

    /// The places where this word occurs in the program as a whole word; `path:line`.
    pub(crate) fn occurrences(&self, word: &str) -> Vec<String> {
        let occurrences = words(&self.code, word).into_iter();
        occurrences.map(|at| format!("{}:{}", self.path, self.code[..at].matches('\n').count() + 1)).collect()
    }

    /// The module that the file is, from the crate's root.
    fn names(&self) -> Names {
        let inside = self.path.strip_prefix("src/").unwrap();
        inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect()
    }

    /// The paths in the program that begin with `crate`, `super`, `self` or a declared module.
    fn paths(&self) -> Vec<(Names, String)> {
        let mut found = Vec::new();
        let after_path = |at: usize| self.code[..at].trim_end().ends_with("::");
        for root in ["crate", "super", "self"] {
            for at in words(&self.code, root) {
                let is_path = self.code[at + root.len()..].trim_start().starts_with("::");
                if is_path && !after_path(at) {
                    expand(&self.code[at..], &[], &mut found);
                }
            }
        }
        for at in words(&self.code, "mod") {
            if let Some(name) = first_word(self.code[at + "mod".len()..].trim_start()) {
                for at in words(&self.code, &format!("{name}::")) {
                    if !after_path(at) {
                        expand(&self.code[at..], &["self".to_owned()], &mut found);
                    }
                }
            }
        }
        found
    }

    /// The functions with a body: name, line, and number of lines from the head to the closing brace.
    pub(crate) fn functions(&self) -> Vec<(String, usize, usize)> {
        let line = |at: usize| self.code[..at].matches('\n').count() + 1;
        let function = |at: usize| {
            let name = first_word(self.code[at + "fn".len()..].trim_start())?;
            let head = self.code[at..].find(['{', ';'])?;
            let open = at + head;
            if self.code[open..].starts_with(';') {
                return None;
            }
            let mut depth = 0;
            let end = self.code[open..].char_indices().find_map(|(offset, c)| {
                depth += match c {
                    '{' => 1,
                    '}' => -1,
                    _ => 0,
                };
                (depth == 0).then_some(open + offset)
            })?;
            Some((name, line(at), line(end) - line(at) + 1))
        };
        words(&self.code, "fn").into_iter().filter_map(function).collect()
    }

    /// The types for which the file has inherent methods.
    pub(crate) fn implemented(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for at in words(&self.code, "impl") {
            // Otherwise it is the type of a parameter or of a result.
            let before = self.code[..at].trim_end();
            if !before.is_empty() && !before.ends_with(['}', ';', ']', '{']) {
                continue;
            }
            let head = &self.code[at + "impl".len()..];
            let head = &head[..head.find('{').unwrap_or(head.len())];
            if !words(head, "for").is_empty() || head.contains([';', '(', '=']) {
                continue;
            }
            // Skips the parameters, if there are any.
            let mut depth = 0;
            let behind = head.char_indices().find(|(_, c)| {
                depth += match c {
                    '<' => 1,
                    '>' => -1,
                    _ => 0,
                };
                depth == 0 && !matches!(c, '>' | ' ' | '\n')
            });
            found.extend(behind.and_then(|(at, _)| first_word(&head[at..])));
        }
        found
    }

    /// The modules of the crate that the program names: `crate::a`, `crate::{a, b::{c}}`, and in a module directly
    /// below the root also `super::a`.
    pub(crate) fn uses(&self) -> BTreeSet<String> {
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

/// The first name of each path in a group of imports whose opening brace has been read.
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

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The positions of the whole word; it may be a path or end with punctuation.
pub(crate) fn words(text: &str, wanted: &str) -> Vec<usize> {
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

/// The start of an inline module of tests, which is the last item of its file.
fn tests_begin(code: &str) -> usize {
    const MARK: &str = "#[cfg(test)]";
    let begins = |at: &usize| {
        let rest = code[at + MARK.len()..].trim_start();
        rest.starts_with("mod ") && rest.find('{').is_some_and(|brace| !rest[..brace].contains(';'))
    };
    let mut marks = code.match_indices(MARK).map(|(at, _)| at);
    marks.find(begins).unwrap_or(code.len())
}

/// The text with comments and the insides of literals blanked out, and the ranges of the insides of string literals.
/// The length in bytes stays the same.
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

/// Blanks bytes out and keeps line breaks.
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

/// The length, if this is a character literal and not a lifetime.
fn char_literal(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if inside.starts_with('\\') {
        // The escaped character may be a quote itself.
        return inside[2..].find('\'').map(|end| end + 4);
    }
    let length = inside.chars().next()?.len_utf8();
    inside[length..].starts_with('\'').then_some(length + 2)
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read_all(folder: &str) -> Vec<Source> {
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

/// The program's own files, without modules of tests that have a separate file.
pub(crate) fn program() -> Vec<Source> {
    let mut sources = read_all("src");
    sources.retain(|source| !source.path.ends_with("/tests.rs"));
    assert!(sources.len() > 10, "the sources are not here");
    sources
}

/// A path of names, such as `super`, `claim`, `Claim`.
type Names = Vec<String>;

/// The paths in a tree of imports, each with its local name.
fn expand(text: &str, prefix: &[String], found: &mut Vec<(Names, String)>) -> usize {
    let mut at = text.len() - text.trim_start().len();
    if text[at..].starts_with('{') {
        at += 1;
        loop {
            at += text[at..].len() - text[at..].trim_start().len();
            match text[at..].chars().next() {
                Some('}') | None => return at + 1,
                Some(',') => at += 1,
                Some(_) => at += expand(&text[at..], prefix, found).max(1),
            }
        }
    }
    let Some(name) = first_word(&text[at..]) else { return at + 1 };
    at += name.len();
    let path: Names = prefix.iter().cloned().chain([name.clone()]).collect();
    let rest = text[at..].trim_start();
    if let Some(inner) = rest.strip_prefix("::") {
        let begin = text.len() - inner.len();
        if inner.starts_with(|c: char| c == '{' || is_word(c)) {
            return begin + expand(inner, &path, found);
        }
    }
    let alias = rest.strip_prefix("as ").and_then(|rest| first_word(rest.trim_start()));
    if let Some(alias) = &alias {
        at = at + text[at..].find(alias.as_str()).unwrap() + alias.len();
    }
    found.push((path, alias.unwrap_or(name)));
    at
}

/// The files of one tree of modules, and their references to each other.
pub(crate) struct Tree<'a> {
    sources: BTreeMap<Names, &'a Source>,
    /// The imports of a file: path by local name.
    imports: BTreeMap<Names, BTreeMap<String, Names>>,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(sources: &'a [Source]) -> Tree<'a> {
        let sources: BTreeMap<Names, &Source> =
            sources.iter().map(|source| (source.names(), source)).collect();
        let mut imports = BTreeMap::new();
        for (names, source) in &sources {
            let absolute = source.paths().into_iter().map(|(path, alias)| (alias, absolute(names, &path)));
            imports.insert(names.clone(), absolute.collect());
        }
        Tree { sources, imports }
    }

    /// The file that a path leads to, following re-exports.
    fn file(&self, path: &[String], depth: usize) -> Option<Names> {
        let length = (1..=path.len()).rev().find(|length| self.sources.contains_key(&path[..*length]))?;
        let (file, rest) = path.split_at(length);
        if let Some(name) = rest.first().filter(|_| depth < 8)
            && let Some(handed_on) = self.imports[file].get(name).filter(|to| to.as_slice() != path)
        {
            let handed_on: Names = handed_on.iter().chain(&rest[1..]).cloned().collect();
            if let Some(found) = self.file(&handed_on, depth + 1) {
                return Some(found);
            }
        }
        Some(file.to_vec())
    }

    /// File → the files in the same module that it names. The module's own file is excluded: it names its submodules
    /// and is named by them.
    pub(crate) fn neighbours(&self) -> BTreeMap<Names, BTreeSet<Names>> {
        let of = |(names, source): (&Names, &&Source)| {
            let named =
                source.paths().into_iter().filter_map(|(path, _)| self.file(&absolute(names, &path), 0));
            let beside = |other: &Names| {
                other[0] == names[0] && !names.starts_with(other) && !other.starts_with(names)
            };
            (names.clone(), named.filter(beside).collect())
        };
        self.sources.iter().map(of).collect()
    }
}

/// A path as written in a file → the path from the crate's root.
fn absolute(file: &[String], path: &[String]) -> Names {
    let (mut base, mut rest) = (file.to_vec(), path);
    while let Some((first, more)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => _ = base.pop(),
            _ => break,
        }
        rest = more;
    }
    base.into_iter().chain(rest.iter().cloned()).collect()
}

/// A cycle of files, if there is one: each names the next, and the last the first.
pub(crate) fn circle(edges: &BTreeMap<Names, BTreeSet<Names>>) -> Option<Vec<String>> {
    fn visit(
        edges: &BTreeMap<Names, BTreeSet<Names>>,
        at: &Names,
        path: &mut Vec<Names>,
        done: &mut BTreeSet<Names>,
    ) -> Option<Vec<String>> {
        if let Some(from) = path.iter().position(|names| names == at) {
            return Some(path[from..].iter().map(|names| names.join("/")).collect());
        }
        if !done.insert(at.clone()) {
            return None;
        }
        path.push(at.clone());
        let found = edges.get(at).into_iter().flatten().find_map(|next| visit(edges, next, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|at| visit(edges, at, &mut Vec::new(), &mut done))
}

/// The name and text of each `const NAME: &str = "…"` of a file.
pub(crate) fn constants(source: &Source) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for at in words(&source.code, "const") {
        let rest = &source.code[at + "const".len()..];
        let declaration = &rest[..rest.find(';').unwrap()];
        let (Some((name, value)), Some(open)) = (declaration.split_once(": &str ="), declaration.find('"'))
        else {
            continue;
        };
        // A list of texts, or a text made by a macro, does not count.
        if !value.trim_start().starts_with('"') {
            continue;
        }
        let inside = at + "const".len() + open + 1;
        let end = inside + source.code[inside..].find('"').unwrap();
        found.push((name.trim().to_owned(), source.text[inside..end].to_owned()));
    }
    found
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
    assert_eq!((name.as_str(), statement.trim()), ("ONE", "select x from y"));
}

fn source(path: &str, text: &str) -> Source {
    let (code, _) = split(text);
    Source { path: path.into(), code, strings: Vec::new(), text: text.into() }
}

#[test]
fn the_scanner_sees_functions_and_types() {
    let text = "trait T { fn none(&self); }
        impl<'a, K: Into<Key<u8>>> Plan<'a, K> {
            fn one(&self) -> Box<dyn Fn(&str)> {
                Box::new(|_| {})
            }
        }
        impl T for Other {}
        fn f() -> impl Iterator<Item = u8> { [].into_iter() }
        impl Last { }";
    let source = source("src/a/b.rs", text);
    assert_eq!(source.functions(), [("one".into(), 3, 3), ("f".into(), 8, 1)]);
    assert_eq!(source.implemented().into_iter().collect::<Vec<_>>(), ["Last", "Plan"]);
}

#[test]
fn the_scanner_follows_names_to_the_files_that_have_them() {
    let door = source(
        "src/m.rs",
        "mod a; mod b; mod c; pub use self::{a::{One, Two as Second}, b::Three}; struct Own;",
    );
    let circular = [
        source("src/m/a.rs", "use super::{Own, Three};"),
        source("src/m/b.rs", "fn f() { super::c::g(); }"),
        source("src/m/c.rs", "use crate::m::{Second, missing::X};"),
    ];
    let all: Vec<Source> = [door].into_iter().chain(circular).collect();
    let neighbours = Tree::new(&all).neighbours();
    let named: Vec<String> =
        neighbours.iter().map(|(file, of)| format!("{}: {of:?}", file.join("/"))).collect();
    let expected = ["m: {}", r#"m/a: {["m", "b"]}"#, r#"m/b: {["m", "c"]}"#, r#"m/c: {["m", "a"]}"#];
    assert_eq!(named, expected);
    assert_eq!(circle(&neighbours).unwrap(), ["m/a", "m/b", "m/c"]);
    let open = Tree::new(&all[..3]).neighbours();
    assert_eq!(circle(&open), None);
}

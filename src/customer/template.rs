//! Templates of `--map FIELD=TEMPLATE`: a text with `{column}` in it, such as `cust_{id}`.
//!
//! `{{` and `}}` stand for braces. Blanks around a cell are removed. If all columns of a template are empty, its
//! value is empty. If only some are empty, a mandatory field is at fault: `cust_` alone would be the same reference
//! for every row without an id. A template would also hide the damage that a spreadsheet did to a cell, so each cell
//! of a mandatory field is checked separately.

use super::{Fault, Field, Rule, content::Content, null_marker, spreadsheet, stray_line};

/// A part of a template. `C` is the name of a column as written, or its index once the header is known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<C> {
    Text(String),
    Column(C),
}

/// A template. `C` is the name of a column as written, or its index once the header is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template<C>(Vec<Part<C>>);

/// Checks the text of `--map` after the `=`: the name of a column, or a template.
///
/// # Errors
/// If it is a template with an error; the text says what is wrong.
pub fn check_template(text: &str) -> Result<(), String> {
    Template::parse(text).map(drop)
}

/// A text with single braces in place of doubled ones.
pub fn single_braces(text: &str) -> String {
    text.replace("{{", "{").replace("}}", "}")
}

/// The columns that the text of `--map` after the `=` refers to.
pub fn mapped_columns(text: &str) -> Vec<String> {
    match Template::parse(text) {
        Ok(Some(template)) => template.columns().cloned().collect(),
        Ok(None) | Err(_) => vec![text.to_owned()],
    }
}

/// The column and the cell of a reference, by the text of its `--map`; none if the reference was made of several
/// columns.
pub fn cell_of_reference<'a>(map: &str, reference: &'a str) -> Option<(String, &'a str)> {
    let [_, cell, _] = reference_around_cell(map, reference)?;
    Some((mapped_columns(map).pop()?, cell))
}

/// The cell of a reference with the text before and after it, by the text of its `--map`; none if the reference was
/// made of several columns.
pub fn reference_around_cell<'a>(map: &str, reference: &'a str) -> Option<[&'a str; 3]> {
    let Ok(Some(template)) = Template::parse(map) else { return Some(["", reference, ""]) };
    let (before, after) = match template.0.as_slice() {
        [Part::Column(_)] => ("", ""),
        [Part::Text(before), Part::Column(_)] => (before.as_str(), ""),
        [Part::Column(_), Part::Text(after)] => ("", after.as_str()),
        [Part::Text(before), Part::Column(_), Part::Text(after)] => (before.as_str(), after.as_str()),
        _ => return None,
    };
    let cell = reference.strip_prefix(before)?.strip_suffix(after)?;
    let (before, rest) = reference.split_at(before.len());
    Some([before, cell, &rest[cell.len()..]])
}

impl<C> Template<C> {
    /// The columns of the template, in order.
    pub fn columns(&self) -> impl Iterator<Item = &C> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Column(column) => Some(column),
        })
    }
}

impl Template<String> {
    /// Parses a template; none if the text has no `{` and is the name of a column.
    ///
    /// # Errors
    /// If a brace has no partner, a name is empty, or there is no column; the text says which.
    pub fn parse(text: &str) -> Result<Option<Template<String>>, String> {
        if !text.contains('{') {
            return Ok(None);
        }
        if let Some(sign) = ["$", "\\"].into_iter().find(|sign| text.contains(&format!("{sign}{{"))) {
            let meant =
                single_braces(&text.replace(&format!("{sign}{{"), "{").replace(&format!("{sign}}}"), "}"));
            return Err(format!("a {sign} before a {{, which would be part of the value; write {meant}"));
        }
        let (mut parts, mut current, mut in_name) = (Vec::new(), String::new(), false);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if !in_name && chars.peek() == Some(&c) => {
                    chars.next();
                    current.push(c);
                }
                '{' if in_name => return Err("a { inside a { }; write {{ for a brace".into()),
                '{' => {
                    parts
                        .extend(Some(std::mem::take(&mut current)).filter(|t| !t.is_empty()).map(Part::Text));
                    in_name = true;
                }
                '}' if !in_name => return Err("a } without a {; write }} for a brace".into()),
                '}' if current.trim().is_empty() => return Err("{} has no column name in it".into()),
                '}' => {
                    parts.push(Part::Column(std::mem::take(&mut current).trim().to_owned()));
                    in_name = false;
                }
                c => current.push(c),
            }
        }
        if in_name {
            return Err("a { without a }; write {{ for a brace".into());
        }
        parts.extend(Some(current).filter(|text| !text.is_empty()).map(Part::Text));
        if !parts.iter().any(|part| matches!(part, Part::Column(_))) {
            // Without a column, every row would have the same value.
            let meant = single_braces(text);
            return Err(format!("it has no column, since doubled braces stand for braces; write {meant}"));
        }
        Ok(Some(Template(parts)))
    }

    /// A known column between doubled braces; single ones were probably meant.
    pub fn doubled(&self, is_column: impl Fn(&str) -> bool) -> Option<&str> {
        let texts = self.0.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Column(_) => None,
        });
        let names = texts
            .flat_map(|text| text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0.trim())));
        names.into_iter().find(|name| is_column(name))
    }

    /// Looks up each column by its name.
    pub fn resolve<E>(&self, find: impl Fn(&str) -> Result<usize, E>) -> Result<Template<usize>, E> {
        let resolve = |part: &Part<String>| {
            Ok(match part {
                Part::Text(text) => Part::Text(text.clone()),
                Part::Column(name) => Part::Column(find(name)?),
            })
        };
        Ok(Template(self.0.iter().map(resolve).collect::<Result<_, E>>()?))
    }
}

impl Template<usize> {
    /// The template as text, with the names of this header.
    pub fn text(&self, header: &[String]) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.replace('{', "{{").replace('}', "}}"),
            Part::Column(at) => format!("{{{}}}", header[*at]),
        });
        parts.collect()
    }

    /// The value of a field for one row.
    ///
    /// # Errors
    /// The fault of a mandatory field, if one of its columns is empty and another is not, was damaged by a
    /// spreadsheet, or is a word for a missing value.
    pub fn render<'a>(&self, field: Field, cell: impl Fn(usize) -> &'a str) -> Result<String, Fault> {
        let cell = |at| cell(at).trim();
        if self.columns().all(|at| cell(*at).is_empty()) {
            return Ok(String::new());
        }
        if field.is_mandatory() {
            for at in self.columns().copied() {
                let fault = |rule, seen| Err(Fault::of_field(field, rule, seen));
                if cell(at).is_empty() {
                    return fault(Rule::Required, format!("column {} of its template is empty", at + 1));
                }
                if let Some(word) = null_marker::detect(field, cell(at)) {
                    let seen = format!("`{word}`, which stands for a missing value, in column {}", at + 1);
                    return fault(Rule::NullMarker, seen);
                }
                if let Some(line) =
                    stray_line::detect(cell(at), Content::of(cell(at))).filter(|_| field == Field::Reference)
                {
                    return fault(Rule::StrayLine, format!("{line}, in column {}", at + 1));
                }
                if let Some(damage) = spreadsheet::detect_part(field, cell(at)) {
                    return fault(Rule::Spreadsheet, format!("{damage}, in column {}", at + 1));
                }
            }
        }
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Column(at) => cell(*at),
        });
        Ok(parts.collect())
    }
}

/// The probable template for a text that is not a column of this header but has column names between other signs than
/// braces: `cust_%id%`, `<id>`, `$id`.
pub fn with_braces(text: &str, header: &[String]) -> Option<String> {
    const OPENING: &str = "$%<[({:\"'@#&+";
    const CLOSING: &str = "%>])}\"'@#&";
    let mut names: Vec<&str> = header.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let column = |text: &str| {
        let is_there =
            |name: &&str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        names.iter().copied().find(is_there)
    };
    let (mut meant, mut rest, mut found) = (String::new(), text, false);
    while let Some(c) = rest.chars().next() {
        let inner = rest.trim_start_matches(|c| OPENING.contains(c)).trim_start();
        let named = column(inner).and_then(|name| {
            let after = &inner[name.len()..];
            let closed = after.trim_start().trim_start_matches(|c| CLOSING.contains(c));
            let is_closed = closed.len() < after.trim_start().len();
            // Python's `%(id)s`.
            let closed = if rest.starts_with("%(") { closed.trim_start_matches('s') } else { closed };
            (is_closed || inner.len() < rest.len()).then_some((name, if is_closed { closed } else { after }))
        });
        match named {
            Some((name, after)) => {
                meant.push_str(&format!("{{{name}}}"));
                (rest, found) = (after, true);
            }
            None => {
                meant.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    let is_alone = |name: &&&str| meant == format!("{{{name}}}");
    found.then(|| names.iter().find(is_alone).map_or(meant.clone(), |name| (*name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, field: Field, cells: &[&str]) -> Result<String, String> {
        let template = Template::parse(template).unwrap().unwrap();
        let template = template.resolve(|name| name.parse::<usize>()).unwrap();
        template.render(field, |at| cells[at]).map_err(|fault| format!("{}: {}", fault.rule, fault.seen))
    }

    #[test]
    fn a_template_joins_text_and_cells() {
        let of = |template, cells: &[&str]| render(template, Field::Reference, cells).unwrap();
        assert_eq!(of("cust_{0}", &[" 7 "]), "cust_7");
        assert_eq!(of("{0}-{ 1 }", &["a", "b"]), "a-b");
        assert_eq!(of("{{{0}}}", &["a"]), "{a}");
        assert_eq!(of("cust_{0}{1}", &["", " "]), "");
        assert_eq!(render("{0} {1}", Field::FirstName, &["", "b"]).unwrap(), " b");
    }

    #[test]
    fn a_reference_with_an_empty_or_damaged_part_is_a_fault() {
        let of = |cells: &[&str]| render("{0}_{1}", Field::Reference, cells).unwrap_err();
        assert_eq!(of(&["shop", " "]), "required: column 2 of its template is empty");
        assert!(of(&["shop", "9.87E+09"]).starts_with("spreadsheet: "));
        assert!(of(&["shop", "8.0"]).starts_with("spreadsheet: a program read the column as numbers"));
        assert!(of(&["shop", "ERROR 2013 (HY000)"]).starts_with("stray-line: "));
    }

    #[test]
    fn the_cell_of_a_reference_is_found_where_one_column_made_it() {
        assert_eq!(cell_of_reference("id", "a{b"), Some(("id".into(), "a{b")));
        assert_eq!(cell_of_reference("c_{id}_x", "c_7_x"), Some(("id".into(), "7")));
        assert_eq!(cell_of_reference("c_{id}", "d_7"), None);
        assert_eq!(cell_of_reference("{a}{b}", "77"), None);
        assert_eq!(mapped_columns("{a}-{b}"), ["a", "b"]);
        let template = Template::parse("{{{ID}}}").unwrap().unwrap().resolve(|_| Ok::<_, ()>(0)).unwrap();
        assert_eq!(template.text(&["id".into()]), "{{{id}}}");
    }

    #[test]
    fn braces_come_in_pairs() {
        assert_eq!(Template::parse("id}"), Ok(None));
        for text in ["{", "{id", "{}", "{ }", "{a{b}}", "{a}}", "a}{b}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_template_without_a_column_is_answered_with_the_one_that_is_meant() {
        for (text, meant) in [
            ("cust_{{id}}", "write cust_{id}"),
            ("a{{a}}b{{b}}", "write a{a}b{b}"),
            ("{{ id }}", "write { id }"),
            ("cust_${id}", "write cust_{id}"),
            ("cust_${{ id }}", "write cust_{ id }"),
            ("\\{id\\}", "write {id}"),
        ] {
            let wrong = Template::parse(text).unwrap_err();
            assert!(wrong.ends_with(meant), "{text}: {wrong}");
        }
        let doubled = |text: &str| {
            let template = Template::parse(text).unwrap().unwrap();
            template.doubled(|name| name == "id").map(str::to_owned)
        };
        assert_eq!(doubled("{{id}}_{shop}"), Some("id".into()));
        assert_eq!(doubled("{{{id}}}"), None);
        assert_eq!(doubled("{{x}}_{shop}"), None);
    }

    #[test]
    fn columns_between_other_signs_are_put_into_braces() {
        let header = ["id", "shop id", "mobile_number"].map(str::to_owned);
        for (text, meant) in [
            ("%id%", Some("id")),
            ("cust_%id%", Some("cust_{id}")),
            ("cust_<ID>", Some("cust_{id}")),
            ("<shop id>-<id>", Some("{shop id}-{id}")),
            ("cust_$id", Some("cust_{id}")),
            ("$id_x", Some("{id}_x")),
            ("[id]", Some("id")),
            ("cust_id}", Some("cust_{id}")),
            ("cust_(id)", Some("cust_{id}")),
            ("%(id)s_x", Some("{id}_x")),
            ("cust_+id", Some("cust_{id}")),
            ("< id >", Some("id")),
            ("cust_id", None),
            ("cust_<nope>", None),
            ("é<id>", Some("é{id}")),
        ] {
            assert_eq!(with_braces(text, &header).as_deref(), meant, "{text}");
        }
    }
}

//! Templates of `--map FIELD=TEMPLATE`: a text with `{column}` in it, such as `cust_{id}`.
//!
//! `{{` and `}}` stand for braces. Blanks around a cell are not part of it. Where all columns of a template are empty,
//! its value is empty. Where only some are, a mandatory field is a fault: `cust_` alone would be the same reference for
//! every row without an id. A template would also hide what a spreadsheet did to a cell, so each cell of a mandatory field
//! is checked by itself.

use super::{Fault, Field, Rule, spreadsheet};

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

/// The columns that the text of `--map` after the `=` reads.
pub fn mapped_columns(text: &str) -> Vec<String> {
    match Template::parse(text) {
        Ok(Some(template)) => template.columns().map(str::to_owned).collect(),
        Ok(None) | Err(_) => vec![text.to_owned()],
    }
}

/// The column and the cell that a reference came from, by the text of its `--map`; none if several columns made it.
pub fn cell_of_reference<'a>(map: &str, reference: &'a str) -> Option<(String, &'a str)> {
    let Ok(Some(template)) = Template::parse(map) else { return Some((map.to_owned(), reference)) };
    let (before, column, after) = match template.0.as_slice() {
        [Part::Column(column)] => ("", column, ""),
        [Part::Text(before), Part::Column(column)] => (before.as_str(), column, ""),
        [Part::Column(column), Part::Text(after)] => ("", column, after.as_str()),
        [Part::Text(before), Part::Column(column), Part::Text(after)] => {
            (before.as_str(), column, after.as_str())
        }
        _ => return None,
    };
    Some((column.clone(), reference.strip_prefix(before)?.strip_suffix(after)?))
}

impl Template<String> {
    /// Parses a template; none if the text has no `{` and is the name of a column.
    ///
    /// # Errors
    /// If a brace has no partner, or a name is empty; the text says which.
    pub fn parse(text: &str) -> Result<Option<Template<String>>, String> {
        if !text.contains('{') {
            return Ok(None);
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
        Ok(Some(Template(parts)))
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

    /// The names of its columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Column(name) => Some(name.as_str()),
        })
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

    /// The columns of the template.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Column(at) => Some(*at),
        })
    }

    /// The value of a field for one row.
    ///
    /// # Errors
    /// The fault of a mandatory field, if one of its columns is empty and another is not, or was damaged by a spreadsheet.
    pub fn render<'a>(&self, field: Field, cell: impl Fn(usize) -> &'a str) -> Result<String, Fault> {
        let cell = |at| cell(at).trim();
        if self.columns().all(|at| cell(at).is_empty()) {
            return Ok(String::new());
        }
        if field.is_mandatory() {
            for at in self.columns() {
                let fault = |rule, seen| Err(Fault { field: Some(field), rule, seen });
                if cell(at).is_empty() {
                    return fault(Rule::Required, format!("column {} of its template is empty", at + 1));
                }
                if let Some(damage) = spreadsheet::detect(field, cell(at)) {
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
}

//! Maps the columns of the header to the fields of the API.
//!
//! A column matches by the API's own field name or by `--map`: exactly first, then as headings are compared: ignoring
//! case, blanks, `_`, `-` and invisible characters. `--map` may also join columns by a [`Template`]. Every required
//! column that is missing is part of one error, with the columns found and those that are probably meant. Columns
//! that feed no field are listed, so that a mistyped heading is noticed.

use super::{
    Error, ReadOptions,
    error::{MissingColumn, UnknownColumn},
    export_columns::EXPORT_COLUMNS,
    heading::{HeadingMatch, ends_with_own, has_column, is_alias, is_likely, named_field, plain},
};
use crate::customer::{
    Cells, Fault, Faults, Field, Rules, Template, ValidRecord, single_braces, with_braces,
};

/// Where the value of a field comes from.
pub(super) enum FieldSource {
    /// The cell of one column.
    Column(usize),
    /// Several columns and constant text.
    Template(Template<usize>),
}

impl FieldSource {
    /// The columns that are read.
    fn columns(&self) -> Vec<usize> {
        match self {
            FieldSource::Column(at) => vec![*at],
            FieldSource::Template(template) => template.columns().copied().collect(),
        }
    }
}

/// The position of each field in a record, determined by the header.
pub(super) struct ColumnMap {
    /// Number of columns.
    pub(super) width: usize,
    /// The source of each field of the API.
    pub(super) by_field: [Option<FieldSource>; Field::COUNT],
    /// The columns of the source itself, without those that an earlier failed export added.
    pub(super) kept: Vec<usize>,
    /// The columns `_line`, `_outcome` and `_error_code` of an earlier failed export.
    pub(super) correction: Option<[usize; 3]>,
    /// The column `_field` of that export.
    pub(super) field: Option<usize>,
    /// The column `_error_message` of that export.
    pub(super) message: Option<usize>,
    /// Whether each row ends with an additional empty field.
    pub(super) rows_trail: bool,
    /// The number of columns up to the last mandatory one; the cells after it may be missing.
    pub(super) least_width: usize,
    /// Whether a field is read through a template.
    pub(super) has_templates: bool,
}

/// Which column feeds which field, by name, for the user to check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Each field with a source: the name of its column, its template, or a constant.
    pub fields: Vec<(Field, MappedFrom)>,
    /// Columns that feed no field, in file order, without those in `--ignore` and without an export's own.
    pub unused: Vec<UnusedColumn>,
    /// Columns in `--ignore` that the file does not have.
    pub absent: Vec<AbsentColumn>,
}

/// A name in `--ignore` that is not a column of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentColumn {
    /// The name as given.
    pub name: String,
    /// The column that is probably meant.
    pub likely: Option<String>,
}

/// Where a field is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappedFrom {
    /// The column of that name.
    Column(String),
    /// The template as written.
    Template(String),
    /// The constant of `--set`; no column feeds the field.
    Constant,
}

/// A column that feeds no field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusedColumn {
    /// The name in the header.
    pub name: String,
    /// The field that has this name in other systems, if no column feeds it.
    pub likely: Option<Field>,
}

/// The values of the templates for one row, or their faults; empty without templates.
pub(super) type Rendered = Vec<(Field, Result<String, Fault>)>;

impl ColumnMap {
    /// Maps the header. Fails if a required column is missing or ambiguous.
    pub(super) fn find(name: &str, header: &[String], options: &ReadOptions) -> Result<ColumnMap, Error> {
        let kept = (0..header.len()).filter(|at| !EXPORT_COLUMNS.contains(&header[*at].as_str())).collect();
        let index_of = |name: &str| header.iter().position(|column| column == name);
        let correction = index_of("_line").zip(index_of("_outcome")).zip(index_of("_error_code"));
        let by_field = find_columns(name, header, options)?;
        let is_required = |field: &Field| field.is_mandatory() || options.rules.require.contains(field);
        let required = Field::ALL.iter().filter(|field| is_required(field));
        let sources = required.filter_map(|field| by_field[*field as usize].as_ref());
        let last_required = sources.flat_map(FieldSource::columns).max();
        // An export has all of its columns, and the last ones identify the corrected row.
        let is_export = header.iter().any(|column| EXPORT_COLUMNS.contains(&column.as_str()));
        let least_width = if is_export { header.len() } else { last_required.map_or(1, |last| last + 1) };
        let is_template = |source: &FieldSource| matches!(source, FieldSource::Template(_));
        Ok(ColumnMap {
            width: header.len(),
            has_templates: by_field.iter().flatten().any(is_template),
            by_field,
            kept,
            correction: correction.map(|((line, outcome), code)| [line, outcome, code]),
            field: index_of("_field"),
            message: index_of("_error_message"),
            rows_trail: false,
            least_width,
        })
    }

    /// The columns that are read, for a field or for a correction.
    pub(super) fn read_columns(&self) -> Vec<usize> {
        let corrections = self.correction.iter().flatten().copied();
        let fields = self.by_field.iter().flatten().flat_map(FieldSource::columns);
        fields.chain(corrections).chain(self.field).chain(self.message).collect()
    }

    /// The columns that feed the mandatory fields, in the order of the fields.
    pub(super) fn mandatory_columns(&self) -> Vec<usize> {
        let mandatory = Field::ALL.into_iter().filter(|field| field.is_mandatory());
        mandatory
            .filter_map(|field| self.by_field[field as usize].as_ref())
            .flat_map(FieldSource::columns)
            .collect()
    }

    /// Whether a field is read from this column.
    pub(super) fn is_used(&self, at: usize) -> bool {
        self.by_field.iter().flatten().any(|source| source.columns().contains(&at))
    }

    /// The text of `--map` that would read the field from a file with this header; none if no column feeds it.
    pub(super) fn map_text(&self, field: Field, header: &[String]) -> Option<String> {
        Some(match self.by_field[field as usize].as_ref()? {
            FieldSource::Column(at) => header[*at].clone(),
            FieldSource::Template(template) => template.text(header),
        })
    }

    /// The mapping by name, without the columns in `ignored`.
    pub(super) fn mapping(&self, header: &[String], options: &ReadOptions, ignored: &[String]) -> Mapping {
        let is_constant = |field| options.rules.constants.iter().any(|(of, _)| *of == field);
        let mut fields = Vec::new();
        for field in Field::ALL {
            let from = match (&self.by_field[field as usize], self.map_text(field, header)) {
                (Some(FieldSource::Template(_)), Some(text)) => Some(MappedFrom::Template(text)),
                (Some(FieldSource::Column(_)), Some(name)) => Some(MappedFrom::Column(name)),
                _ if is_constant(field) => Some(MappedFrom::Constant),
                _ => None,
            };
            fields.extend(from.map(|from| (field, from)));
        }
        let is_fed = |field| fields.iter().any(|(of, _)| *of == field);
        let likely =
            |name: &str| Field::ALL.into_iter().find(|field| !is_fed(*field) && is_likely(*field, name));
        let is_unused = |at: &usize| {
            let name = &header[*at];
            let is_named = !name.is_empty() && !name.starts_with('_');
            is_named && !self.is_used(*at) && !has_column(ignored, name)
        };
        let unused = self.kept.iter().copied().filter(is_unused).map(|at| header[at].clone());
        let unused = unused.map(|name| UnusedColumn { likely: likely(&name), name }).collect();
        // An export accepts the settings of its original file as far as they apply.
        let given = ignored.iter().filter(|_| self.correction.is_none());
        let absent = given.filter(|name| !has_column(header, name));
        let absent =
            absent.map(|name| AbsentColumn { name: name.clone(), likely: closest(name, header) }).collect();
        Mapping { fields, unused, absent }
    }

    /// Fails if a column in `--ignore` feeds a field.
    pub(super) fn check_ignored(&self, header: &[String], ignored: &[String]) -> Result<(), Error> {
        let feeds = |field: &Field| {
            let columns = self.by_field[*field as usize].iter().flat_map(FieldSource::columns);
            let names = columns.map(|at| &header[at]);
            let column = names.into_iter().find(|name| has_column(ignored, name))?;
            Some(Error::IgnoredColumn { column: column.clone(), field: *field })
        };
        Field::ALL.iter().find_map(feeds).map_or(Ok(()), Err)
    }

    /// The fields that are read as empty, or without a part, because a cell is a null marker.
    pub(super) fn null_marked<'a>(
        &'a self,
        rules: &'a Rules,
        cell: impl Fn(usize) -> &'a str,
    ) -> impl Iterator<Item = Field> {
        let sources = Field::ALL.into_iter().zip(&self.by_field).filter(|_| !rules.null_markers.is_empty());
        let is_marked =
            move |source: &FieldSource| source.columns().into_iter().any(|at| rules.is_null_marker(cell(at)));
        sources.filter_map(move |(field, source)| source.as_ref().is_some_and(&is_marked).then_some(field))
    }

    /// The values of the templates for one row.
    pub(super) fn render<'a>(&self, cell: impl Fn(usize) -> &'a str) -> Rendered {
        let mut rendered = Vec::new();
        if !self.has_templates {
            return rendered;
        }
        for (field, source) in Field::ALL.into_iter().zip(&self.by_field) {
            if let Some(FieldSource::Template(template)) = source {
                rendered.push((field, template.render(field, &cell)));
            }
        }
        rendered
    }

    /// The cells of one row by field. A template with a fault gives an empty cell.
    pub(super) fn cells<'a>(&self, cell: impl Fn(usize) -> &'a str, rendered: &'a Rendered) -> Cells<'a> {
        let mut cells: Cells<'_> = [None; Field::COUNT];
        for (cell_of, source) in cells.iter_mut().zip(&self.by_field) {
            if let Some(FieldSource::Column(at)) = source {
                *cell_of = Some(cell(*at));
            }
        }
        for (field, value) in rendered {
            cells[*field as usize] = Some(value.as_deref().unwrap_or_default());
        }
        cells
    }
}

/// Adds the faults of templates to the result of a row. Each replaces the fault of the empty cell that the template
/// gave.
pub(super) fn with_template_faults<'a>(
    mut reading: Result<ValidRecord<'a>, Faults>,
    rendered: &Rendered,
) -> Result<ValidRecord<'a>, Faults> {
    for fault in rendered.iter().filter_map(|(_, value)| value.as_ref().err()) {
        let mut faults = match reading {
            Ok(_) => Faults { list: Vec::new(), reference: None },
            Err(faults) => faults,
        };
        faults.list.retain(|other| other.field != fault.field);
        faults.list.push(fault.clone());
        faults.list.sort_by_key(|fault| fault.field);
        reading = Err(faults);
    }
    reading
}

/// Why a name does not match a column.
enum NotFound {
    Missing,
    /// The names of the columns.
    Ambiguous(Vec<String>),
}

/// The column with this name, compared exactly or else as headings are compared. A column whose name begins with `_`
/// must match exactly, because an export marks its own columns this way.
fn find_column(header: &[String], name: &str) -> Result<usize, NotFound> {
    let exact: Vec<usize> = (0..header.len()).filter(|at| header[*at] == name).collect();
    let found = if exact.is_empty() {
        let is_match = |column: &String| !column.starts_with('_') && plain(column) == plain(name);
        (0..header.len()).filter(|at| is_match(&header[*at])).collect()
    } else {
        exact
    };
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(NotFound::Missing),
        several => Err(NotFound::Ambiguous(several.iter().map(|at| header[*at].clone()).collect())),
    }
}

fn find_columns(
    name: &str,
    header: &[String],
    options: &ReadOptions,
) -> Result<[Option<FieldSource>; Field::COUNT], Error> {
    let mut sources = [const { None }; Field::COUNT];
    let mut missing = Vec::new();
    for field in Field::ALL {
        let mapped = options.map.iter().find(|(of, _)| *of == field).map(|(_, text)| text.as_str());
        let constant = options.rules.constants.iter().any(|(of, _)| *of == field);
        let required = field.is_mandatory() || options.rules.require.contains(&field);
        let ambiguous = |names| Error::AmbiguousColumn { field, column: field.name().into(), names };
        sources[field as usize] = match mapped {
            Some(text) => Some(find_mapped(field, text, header)?),
            None => match find_column(header, field.name()) {
                Ok(at) => Some(FieldSource::Column(at)),
                Err(NotFound::Ambiguous(names)) => return Err(ambiguous(names)),
                Err(NotFound::Missing) if required && !constant => {
                    missing.push(MissingColumn { field, likely: likely_column(field, header) });
                    None
                }
                Err(NotFound::Missing) => None,
            },
        };
    }
    if missing.is_empty() {
        return Ok(sources);
    }
    Err(Error::MissingColumns { name: name.into(), missing, found: header.to_vec(), first_line: None })
}

/// The source of a field that `--map` gives: a column or a template.
fn find_mapped(field: Field, text: &str, header: &[String]) -> Result<FieldSource, Error> {
    let find = |name: &str| {
        find_column(header, name).map_err(|why| match why {
            NotFound::Ambiguous(names) => Error::AmbiguousColumn { field, column: name.into(), names },
            NotFound::Missing => Error::UnknownColumn(Box::new(UnknownColumn {
                field,
                map: text.into(),
                column: name.into(),
                found: header.to_vec(),
                // Within braces, the name alone is wrong.
                meant: with_braces(text, header)
                    .filter(|_| name == text)
                    .or_else(|| Some(text.replace(name, &meant_within(name, header)?))),
                first_line: None,
            })),
        })
    };
    let error = |wrong, meant| Error::Template { field, template: text.into(), wrong, meant };
    let Some(template) = Template::parse(text).map_err(|wrong| error(wrong, None))? else {
        return find(text).map(FieldSource::Column);
    };
    if let Some(name) = template.doubled(|name| has_column(header, name)) {
        let wrong = format!("{{{{{name}}}}} stands for the text {{{name}}}, not for the column");
        return Err(error(wrong, Some(single_braces(text))));
    }
    template.resolve(find).map(FieldSource::Template)
}

/// The column that is probably meant for a field: by its own name behind that of a table, by a name in other systems, by
/// its words, or by likeness.
fn likely_column(field: Field, header: &[String]) -> Option<String> {
    let has_words = |column: &&String| named_field(column) == Some((field, HeadingMatch::Words));
    let own = header.iter().find(|column| ends_with_own(field, column));
    let named = own.or_else(|| header.iter().find(|column| is_alias(field, column)));
    named.or_else(|| header.iter().find(has_words)).cloned().or_else(|| closest(field.name(), header))
}

/// The column that is meant by a text within braces: a column with more text around it (`id:05`, `row.id`), or a similar
/// name.
fn meant_within(text: &str, header: &[String]) -> Option<String> {
    let is_sign = |c: char| !c.is_alphanumeric() && c != '_' && c != '-';
    let is_part = |column: &&String| text.split(is_sign).any(|part| plain(part) == plain(column));
    header.iter().find(is_part).cloned().or_else(|| closest(text, header))
}

/// The most similar column name, if it is similar enough to be meant (Jaro-Winkler above 0.8).
fn closest(wanted: &str, header: &[String]) -> Option<String> {
    let score = |column: &String| strsim::jaro_winkler(&plain(wanted), &plain(column));
    let best = header.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.8).then(|| best.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    fn indices(columns: &str, options: &ReadOptions) -> Result<[Option<usize>; Field::COUNT], String> {
        let map = ColumnMap::find("f.csv", &header(columns), options);
        let map = map.map_err(|error| format!("{error}; {}", error.hint()))?;
        Ok(map.by_field.map(|source| match source {
            Some(FieldSource::Column(at)) => Some(at),
            Some(FieldSource::Template(_)) | None => None,
        }))
    }

    #[test]
    fn columns_are_found_by_name_and_by_map() {
        let plain = indices("x,mobile_number,Object_Reference_ID,_line", &ReadOptions::default()).unwrap();
        assert_eq!(plain[..3], [Some(2), Some(1), None]);
        let map = vec![(Field::Reference, "Id".into()), (Field::MobileNumber, "phone".into())];
        let mapped = indices("Id,PHONE", &ReadOptions { map, ..ReadOptions::default() }).unwrap();
        assert_eq!(mapped[..2], [Some(0), Some(1)]);
    }

    #[test]
    fn a_missing_column_names_what_was_found_and_what_is_likely() {
        let missing = |columns: &str| indices(columns, &ReadOptions::default()).unwrap_err();
        assert_eq!(
            missing("object_reference_id,Phone"),
            "no column mobile_number in f.csv (columns found: object_reference_id, Phone); \
             did you mean --map 'mobile_number=Phone'?"
        );
        assert!(missing("object_referense_id,mobile_number").contains("=object_referense_id'"));
        assert!(missing("a,b").ends_with("add --map object_reference_id=COLUMN --map mobile_number=COLUMN"));
        assert!(missing("customer.object_reference_id,id,customer.mobile_number").ends_with(
            "did you mean --map 'object_reference_id=customer.object_reference_id' \
                 --map 'mobile_number=customer.mobile_number'?"
        ));
        let require = Rules { require: vec![Field::LastName], ..Rules::default() };
        let strict = ReadOptions { rules: require, ..ReadOptions::default() };
        let missing_name = indices("object_reference_id,mobile_number", &strict).unwrap_err();
        assert!(missing_name.contains("--set last_name=VALUE"), "{missing_name}");
        let options =
            ReadOptions { map: vec![(Field::LastName, "sirname".into())], ..ReadOptions::default() };
        let unknown = indices("object_reference_id,mobile_number,surname", &options).unwrap_err();
        assert!(unknown.contains("did you mean --map 'last_name=surname'?"), "{unknown}");
        assert!(missing("mobile_number,mobile_number,object_reference_id").ends_with("rename one of them"));
        assert!(
            missing("Mobile Number,mobile-number,object_reference_id")
                .ends_with("--map 'mobile_number=Mobile Number' or --map 'mobile_number=mobile-number'")
        );
    }
}

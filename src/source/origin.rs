//! Where the rows of a failed export come from: its origin is the runs over the files that had these rows.
//!
//! The rows of an export are cells of those files, and mean what those runs read. Read with other options they are
//! other customers: with another `--map` they have another identity, and without `--set` or `--phone-region` a number is
//! one of another country. So what is not given is taken from these runs, and what cannot be is an error. The export
//! does not name the runs: the ledger has them, by the columns of their files.
//!
//! For any other file, these runs show whether its references were made otherwise before. That may be intended, so it
//! is only reported.

use std::borrow::Cow;

use super::{
    error::{Error, UnreadableExport},
    export_columns::{EXPORT_COLUMNS, is_export},
    heading::{has_column, has_columns_of},
    read_options::{ReadOptions, RecordedMap},
};
use crate::customer::{Field, FieldSet, Rules};

/// Why the rows of a file may become other customers than those of earlier runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityRisk {
    /// A failed export, and no recorded run is over a file that its rows come from: it is read only by the options that
    /// are given.
    UnknownExport,
    /// The runs over files with these columns made the references otherwise. Both are the text of `map`.
    OtherReference {
        /// That of the last of these runs.
        before: String,
        /// That of this file.
        now: String,
    },
}

/// The read options for a file with this header. For a failed export, a `map` of a column that it lacks is ignored, and
/// what is not given is read as in the runs over the files that its rows come from.
pub(super) fn read_options<'a>(
    given: &'a ReadOptions,
    name: &str,
    header: &[String],
    origin: &ExportOrigin<'_>,
) -> Result<Cow<'a, ReadOptions>, Error> {
    if !is_export(header) {
        return Ok(Cow::Borrowed(given));
    }
    let unreadable = |why| Error::Export { name: name.into(), why };
    let mut read = given.clone();
    // If nothing else tells the column of a required field, one of the field's own name may be another one.
    let is_only = |field: Field| origin.is_unknown() && field.is_mandatory();
    read.map.retain(|(field, text)| is_only(*field) || has_columns_of(header, text));
    let is_mapped = !read.map.is_empty();
    for field in Field::ALL {
        if read.map.iter().any(|(given, _)| *given == field) {
            continue;
        }
        match origin.map_of(field) {
            Ok(Some(text)) if has_columns_of(header, text) => {
                read.map.push((field, text.to_owned()));
            }
            // Another column may have the field's own name.
            Ok(Some(text)) if field.is_mandatory() => {
                return Err(unreadable(UnreadableExport::ColumnGone(field, text.into())));
            }
            Ok(_) => {}
            // Whoever maps the others may leave an optional one out.
            Err(_) if is_mapped && !field.is_mandatory() => {}
            Err(DifferentMaps) => return Err(unreadable(UnreadableExport::DifferentMaps(field))),
        }
    }
    let is_lacked = |field: &Field| origin.likely.iter().any(|run| !run.has(*field));
    read.rules.unstated_if_empty = FieldSet::FACTS.into_iter().filter(is_lacked).collect();
    let Some((first, others)) = origin.likely.split_first() else { return Ok(Cow::Owned(read)) };
    let is_given = read.rules.differing_values(&Rules::default()).is_some();
    match others.iter().find_map(|other| other.read.rules.differing_values(&first.read.rules)) {
        None => read.rules.fill_values_from(&first.read.rules),
        Some(_) if is_given => {}
        Some(option) => return Err(unreadable(UnreadableExport::DifferentValues(option))),
    }
    Ok(Cow::Owned(read))
}

/// The runs read a field from different columns.
struct DifferentMaps;

/// The runs over files that the rows of a failed export may come from.
pub(super) struct ExportOrigin<'a> {
    recorded: &'a [RecordedMap],
    all: Vec<&'a RecordedMap>,
    /// The likely ones. The rows of an export of now have cells in the ledger; of an export that was imported before,
    /// the ledger has that import.
    likely: Vec<&'a RecordedMap>,
}

impl<'a> ExportOrigin<'a> {
    /// The runs among the recorded ones that may be the origin of an export with this name and header.
    pub(super) fn new(name: &str, header: &[String], recorded: &'a [RecordedMap]) -> ExportOrigin<'a> {
        let all = matching(header, recorded);
        let likely = |is_likely: &dyn Fn(&RecordedMap) -> bool| {
            let likely: Vec<&RecordedMap> = all.iter().copied().filter(|run| is_likely(run)).collect();
            (!likely.is_empty()).then_some(likely)
        };
        let with_cells = || likely(&|run| run.has_cells);
        let of_itself = || likely(&|run| run.source == name);
        let likely = with_cells().or_else(of_itself).unwrap_or_else(|| all.clone());
        ExportOrigin { recorded, all, likely }
    }

    /// The risk of a file with this header, by its own columns and the `map` of its references. A file that is no export is
    /// at risk if it has all columns of earlier files, and each of their runs had another `map`.
    pub(super) fn identity_risk(
        &self,
        header: &[String],
        columns: &[String],
        reference: Option<&str>,
    ) -> Option<IdentityRisk> {
        if is_export(header) {
            return self.is_unknown().then_some(IdentityRisk::UnknownExport);
        }
        let has_its_columns = |run: &&RecordedMap| run.columns.iter().all(|name| has_column(columns, name));
        let before =
            || self.recorded.iter().filter(has_its_columns).filter_map(|run| run.map_of(Field::Reference));
        let (last, now) = (before().next_back()?, reference?);
        let is_other = before().all(|text| text != now);
        is_other.then(|| IdentityRisk::OtherReference { before: last.into(), now: now.into() })
    }

    /// Whether no run is known.
    pub(super) fn is_unknown(&self) -> bool {
        self.all.is_empty()
    }

    /// The text of `map` for a field in these runs; none if they read it from the column of its own name, if any.
    fn map_of(&self, field: Field) -> Result<Option<&'a str>, DifferentMaps> {
        let Some((first, others)) = self.likely.split_first() else { return Ok(None) };
        // An old export has rows that were imported meanwhile. They would become other customers.
        let others = match first.has_cells && field.is_mandatory() {
            true => &self.all,
            false => others,
        };
        let is_same = |other: &&RecordedMap| other.map_of(field) == first.map_of(field);
        others.iter().all(is_same).then(|| first.map_of(field)).ok_or(DifferentMaps)
    }
}

/// The runs over files that have columns of this header.
///
/// An export has the columns of all files that its rows come from. If it has one that no such file had, somebody has
/// removed, renamed or added columns: then each file with any of its columns may be the one.
fn matching<'a>(header: &[String], recorded: &'a [RecordedMap]) -> Vec<&'a RecordedMap> {
    let whole = |run: &&RecordedMap| run.columns.iter().all(|name| has_column(header, name));
    let of_whole: Vec<&RecordedMap> = recorded.iter().filter(whole).collect();
    let mut own = header.iter().filter(|name| !EXPORT_COLUMNS.contains(&name.as_str()));
    if own.all(|name| of_whole.iter().any(|run| has_column(&run.columns, name))) {
        return of_whole;
    }
    let shares = |run: &&RecordedMap| run.columns.iter().any(|name| has_column(header, name));
    recorded.iter().filter(shares).collect()
}

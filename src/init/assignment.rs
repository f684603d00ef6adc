//! Decides which column feeds which field: by the column's heading and by its cells.
//!
//! A heading alone is sufficient only if it is the field's own name, because every command reads that column anyway.
//! The cells of a column with any other name must also look like values of the field. A column is never chosen as the
//! reference by its cells alone: a creation time is as unique as an id.

use super::profile::Column;
use crate::{
    customer::{Field, FieldKind},
    source::{Error, HeadingMatch},
};

/// The minimum percentage of cells that must look like the field if the heading names it.
const NAMED_PERCENT: u64 = 50;

/// The minimum percentage if the heading does not name the field.
const UNNAMED_PERCENT: u64 = 80;

/// The maximum number of other columns listed for a field.
const OTHERS_MAX: usize = 3;

/// The order in which kinds of fields are assigned: first those whose cells are unmistakable.
const ORDER: [FieldKind; 6] = [
    FieldKind::EmailAddress,
    FieldKind::CountryCode,
    FieldKind::MobileNumber,
    FieldKind::PersonName,
    FieldKind::Boolean,
    FieldKind::Reference,
];

/// Why a column feeds a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// The name in the header.
    Heading(HeadingMatch),
    /// The cells alone.
    Cells,
}

/// A column that may feed a field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// The index of the column.
    pub(super) at: usize,
    pub(super) evidence: Evidence,
}

/// The columns of a field.
#[derive(Clone, Debug, Default)]
pub(super) struct Assigned {
    /// The column that feeds it.
    pub(super) column: Option<Candidate>,
    /// Other columns that might.
    pub(super) others: Vec<Candidate>,
}

fn fields_of(kind: FieldKind) -> impl Iterator<Item = Field> {
    Field::ALL.into_iter().filter(move |field| field.kind() == kind)
}

/// Finds the columns of each field.
///
/// # Errors
/// If two columns have the name of a field, so that no setting can distinguish them.
pub(super) fn assign(columns: &[Column]) -> Result<[Assigned; Field::COUNT], Error> {
    let mut all: [Assigned; Field::COUNT] = std::array::from_fn(|_| Assigned::default());
    for field in Field::ALL {
        all[field as usize].column = own_column(field, columns)?;
    }
    let is_taken = |all: &[Assigned; Field::COUNT], at| {
        all.iter().any(|assigned| assigned.column.is_some_and(|taken| taken.at == at))
    };
    for field in ORDER.into_iter().flat_map(fields_of) {
        let mut candidates: Vec<Candidate> = (0..columns.len())
            .filter(|at| columns[*at].is_mappable && !is_taken(&all, *at))
            .filter_map(|at| Some(Candidate { at, evidence: evidence(field, &columns[at])? }))
            .collect();
        candidates.sort_by_key(|candidate| candidate.evidence);
        let assigned = &mut all[field as usize];
        if assigned.column.is_none() {
            let is_sure = |candidate: &Candidate| is_sure(field, &columns[candidate.at], candidate.evidence);
            let chosen = candidates.iter().position(is_sure);
            assigned.column = chosen.map(|at| candidates.remove(at));
        }
        assigned.others = candidates;
    }
    // A column that was assigned to a later field is no longer an alternative for an earlier one.
    let taken: Vec<usize> = all.iter().filter_map(|assigned| Some(assigned.column?.at)).collect();
    for assigned in &mut all {
        assigned.others.retain(|other| !taken.contains(&other.at));
        assigned.others.truncate(OTHERS_MAX);
    }
    Ok(all)
}

/// The column that has the field's own name.
fn own_column(field: Field, columns: &[Column]) -> Result<Option<Candidate>, Error> {
    let own = |at: &usize| columns[*at].names(field) == Some(HeadingMatch::Own);
    let found: Vec<usize> = (0..columns.len()).filter(own).collect();
    let exact =
        found.iter().copied().find(|at| columns[*at].name == field.name() && columns[*at].is_mappable);
    let best = || found.iter().copied().filter(|at| columns[*at].is_mappable);
    let chosen = match found.as_slice() {
        [] => return Ok(None),
        [only] => *only,
        [first, ..] => {
            let best = best().max_by_key(|at| columns[*at].fits[field as usize]);
            let names = || found.iter().map(|at| columns[*at].name.clone()).collect();
            let column = || columns[*first].name.clone();
            exact.or(best).ok_or_else(|| Error::AmbiguousColumn {
                field,
                column: column(),
                names: names(),
            })?
        }
    };
    Ok(Some(Candidate { at: chosen, evidence: Evidence::Heading(HeadingMatch::Own) }))
}

/// The evidence that a column feeds the field; none if there is no evidence.
fn evidence(field: Field, column: &Column) -> Option<Evidence> {
    if let Some(how) = column.names(field) {
        return Some(Evidence::Heading(how));
    }
    let resembles_it = match field {
        Field::EmailAddress | Field::MobileNumber => column.fits(field, UNNAMED_PERCENT),
        Field::Reference => column.is_unique() && column.spaced == 0,
        _ => false,
    };
    (column.named.is_none() && resembles_it).then_some(Evidence::Cells)
}

/// Whether the evidence is sufficient to set the column.
fn is_sure(field: Field, column: &Column, evidence: Evidence) -> bool {
    // In a column without values, the heading is the only evidence.
    let fits = column.filled == 0 || column.fits(field, NAMED_PERCENT);
    match (field.kind(), evidence) {
        (FieldKind::Reference, Evidence::Cells) => false,
        (FieldKind::Reference, _) => column.filled == 0 || column.is_unique(),
        // Numbers of digits only may be anything.
        (FieldKind::MobileNumber, Evidence::Cells) => column.digits * 2 < column.filled,
        (_, Evidence::Cells) => true,
        // The rules do not allow a blank in a name: a column with blanks in most cells has full names.
        (FieldKind::PersonName, _) => fits && column.spaced * 2 <= column.filled,
        _ => fits,
    }
}

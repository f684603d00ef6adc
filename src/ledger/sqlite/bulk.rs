//! A statement that takes many rows at once.
//!
//! Each statement that is run is a message to SQLite's thread and one back, and both wake a thread: with one for
//! each row that is most of what a row costs. So there are a few sizes of each bulk statement, prepared once, and
//! rows are cut into few pieces. A piece that does not fill its statement is followed by nulls, which the
//! statement leaves out by itself (`where column1 is not null`).
//!
//! Pure: what is run, and when, is the caller's.

use std::sync::Arc;

use sqlx::{Arguments as _, error::BoxDynError, sqlite::SqliteArguments};

/// Rows of one statement.
const SIZES: [usize; 4] = [512, 256, 64, 8];

/// So many rows of nulls cost no more than another piece.
const NULLS_MAX: usize = 40;

/// The statement in each of its [`SIZES`].
pub(crate) struct Bulk {
    texts: [Arc<str>; SIZES.len()],
    /// Of one row.
    columns: usize,
}

impl Bulk {
    /// The statement's first row of values, repeated. Its parameters have no numbers, since SQLite looks for
    /// a numbered one by its name, from the beginning of the list each time.
    pub(crate) fn new(sql: &'static str) -> Bulk {
        let (head, rest) = sql.split_once("(values ").unwrap_or((sql, ""));
        let (row, tail) = rest.split_once(')').unwrap_or((rest, ""));
        let text = |rows| format!("{head}(values {}{tail}", vec![format!("{row})"); rows].join(", ")).into();
        Bulk { texts: SIZES.map(text), columns: row.matches('?').count() }
    }

    /// The text that takes one of [`pieces`], and what goes into it: the constants, the rows, and nulls.
    pub(crate) fn fill<T>(
        &self,
        constants: &[i64],
        rows: &[T],
        add: impl Fn(&mut SqliteArguments, &T) -> Result<(), BoxDynError>,
    ) -> (Arc<str>, Result<SqliteArguments, BoxDynError>) {
        let at = SIZES.iter().rposition(|size| *size >= rows.len()).unwrap_or(0);
        let fill = || {
            let mut arguments = SqliteArguments::default();
            arguments.reserve(constants.len() + self.columns * SIZES[at], 0);
            constants.iter().try_for_each(|constant| arguments.add(*constant))?;
            rows.iter().try_for_each(|row| add(&mut arguments, row))?;
            let nulls = self.columns * SIZES[at].saturating_sub(rows.len());
            (0..nulls).try_for_each(|_| arguments.add(None::<i64>))?;
            Ok(arguments)
        };
        (Arc::clone(&self.texts[at]), fill())
    }
}

/// The rows in their order, cut so that there are few pieces and few nulls.
pub(crate) fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let count = rows.len();
        let is_near = SIZES.iter().any(|size| (count..=count + NULLS_MAX).contains(size));
        let filled = SIZES.into_iter().find(|size| *size <= count);
        let (piece, rest) = rows.split_at(filled.filter(|_| !is_near).unwrap_or(count));
        rows = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_every_row_once_and_fit_a_statement() {
        for count in 0..2_000 {
            let rows: Vec<usize> = (0..count).collect();
            assert_eq!(pieces(&rows).flatten().copied().collect::<Vec<_>>(), rows);
            for piece in pieces(&rows) {
                let size = SIZES.into_iter().rfind(|size| *size >= piece.len()).unwrap();
                assert!(size - piece.len() <= NULLS_MAX, "{} of {size}", piece.len());
            }
        }
        let lengths = |count: usize| pieces(&vec![(); count]).map(<[()]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(570), [512, 58], "a batch at full speed");
        assert_eq!(lengths(50), [50], "a batch at the default rate");
        assert_eq!(lengths(1), [1]);
        assert_eq!(lengths(300), [256, 44]);
    }

    #[test]
    fn a_statement_is_filled_to_its_size() {
        let bulk =
            Bulk::new("insert into t (c, a, b) select ?, told.* from (values (?, ?)) told where column1");
        let add = |arguments: &mut SqliteArguments, row: &i64| {
            arguments.add(*row)?;
            arguments.add("text")
        };
        let (text, arguments) = bulk.fill(&[7], &[1_i64, 2, 3], add);
        let arguments = arguments.unwrap();
        assert_eq!(text.matches('?').count(), 1 + 2 * 8);
        assert_eq!(arguments.len(), 1 + 2 * 8);
        assert!(text.ends_with("(?, ?)) told where column1"), "{text}");
    }
}

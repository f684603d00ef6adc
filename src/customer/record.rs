//! The raw cells of one line, unchanged, and content hashes of them.
//!
//! The hashes have a stable definition: the ledger stores one to recognize an invalid row in a later file, whatever
//! the name of the file and the order of its columns. Does not validate anything.

use std::fmt;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The raw cells of one line, exactly as read. One allocation for the text, one for the bounds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Record {
    text: Box<str>,
    ends: Box<[u32]>,
}

impl Record {
    /// Builds a record from its cells.
    pub fn new<'a>(cells: impl IntoIterator<Item = &'a str>) -> Record {
        // Enough for most records, so that building one does not reallocate.
        let (mut text, mut ends) = (String::with_capacity(256), Vec::with_capacity(16));
        for cell in cells {
            text.push_str(cell);
            ends.push(text.len() as u32);
        }
        Record { text: text.into(), ends: ends.into() }
    }

    /// Length of all cells in bytes.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// A 64-bit hash (XXH3) of the cells and their column names. Empty cells and the order of the columns do not matter.
    pub fn content(&self, names: &[String]) -> u64 {
        self.hashes(names).fold(0, u64::wrapping_add)
    }

    /// The same without the cell at index `left_out`; the hash of all cells if that is the only non-empty one.
    pub fn content_without(&self, names: &[String], left_out: Option<usize>) -> u64 {
        let content = self.content(names);
        let one = left_out.and_then(|at| self.hashes(names).nth(at));
        without(content, one.unwrap_or_default())
    }

    /// [`Record::content_without`] for each index in turn.
    pub fn contents_without_one(&self, names: &[String]) -> impl Iterator<Item = u64> {
        let content = self.content(names);
        self.hashes(names).map(move |one| without(content, one))
    }

    /// The hash of each cell and its column name; zero for an empty cell.
    fn hashes(&self, names: &[String]) -> impl Iterator<Item = u64> {
        let seed = |at: usize| names.get(at).map_or(at as u64, |name| xxh3_64(name.as_bytes()));
        let hash = move |(at, cell): (usize, &str)| match cell {
            "" => 0,
            cell => xxh3_64_with_seed(cell.as_bytes(), seed(at)),
        };
        self.cells().enumerate().map(hash)
    }

    /// The cells in order.
    pub fn cells(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter()).map(|(start, end)| &self.text[start as usize..*end as usize])
    }
}

/// The content hash without one cell; the whole hash if nothing else is left.
fn without(content: u64, one: u64) -> u64 {
    if content == one { content } else { content.wrapping_sub(one) }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} cells)", self.ends.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_known_by_its_cells_wherever_they_stand() {
        let of = |names: [&str; 3], cells: [&str; 3]| Record::new(cells).content(&names.map(str::to_owned));
        let one = of(["a", "b", "c"], ["1", "", "2"]);
        assert_eq!(one, of(["c", "x", "a"], ["2", "", "1"]));
        assert_ne!(one, of(["a", "b", "c"], ["2", "", "1"]));
        assert_ne!(one, of(["a", "b", "c"], ["1", "2", ""]));
        let names = ["a", "b", "c"].map(str::to_owned);
        let without = |cells: [&str; 3], at| Record::new(cells).content_without(&names, Some(at));
        assert_eq!(without(["x", "1", "2"], 0), without(["yy", "1", "2"], 0));
        assert_eq!(without(["x", "", ""], 0), Record::new(["x"]).content(&names), "there is nothing else");
        let each: Vec<u64> = Record::new(["x", "1", "2"]).contents_without_one(&names).collect();
        assert_eq!(each, [0, 1, 2].map(|at| without(["x", "1", "2"], at)));
    }

    #[test]
    fn a_record_keeps_its_cells() {
        let cells = ["", "a,b", "", "é\n"];
        assert_eq!(Record::new(cells).cells().collect::<Vec<_>>(), cells);
        assert_eq!(Record::new([]).cells().count(), 0);
    }
}

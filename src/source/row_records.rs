//! The records that are rows, in file order: without the lines between rows that are none, and within the limit.
//!
//! A record borrows the buffer of the CSV reader. To be checked on another thread, the record is copied to a chunk. A
//! chunk is small, because a record may be as large as a megabyte, and several chunks wait for the threads that check
//! them. The threads get the chunks in turn, and each thread has its own counts, so the counts of a thread do not depend
//! on which thread is faster.

use std::{
    io,
    str::Utf8Error,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use super::{
    CHUNK_ROWS, CHUNKS_AHEAD, Error,
    adjustments::{Adjustment, Adjustments},
    csv_reader::{CsvReader, RawCells, RawRecord},
    decode::TextReader,
    row_parser::{RowContext, read_row, reads_as_row},
    skipped_line::{KnownHeader, NoRow, ends_file, no_row},
};
use crate::customer::{Correction, Faults, Rescues, ValidRecord};

/// A chunk also ends with the record with which its copies take this many bytes.
const COPIED_BYTES: usize = 64 * 1024;

/// The records of a source.
pub(super) struct RowRecords {
    pub(super) csv: CsvReader<TextReader>,
    /// The name of the source.
    name: String,
    header: KnownHeader,
    /// The line of a header with other columns; rows after it cannot be read.
    pub(super) other_header: Option<u64>,
    /// How many more rows may be read.
    pub(super) rows_left: u64,
}

impl RowRecords {
    /// The records after the header, at most `limit` of them.
    pub(super) fn new(
        csv: CsvReader<TextReader>,
        name: &str,
        header: KnownHeader,
        limit: Option<u64>,
    ) -> RowRecords {
        let rows_left = limit.unwrap_or(u64::MAX);
        RowRecords { csv, name: name.into(), header, other_header: None, rows_left }
    }

    /// What `read` makes of the next record and of the line of the other header before it; `None` at the end of the
    /// source or at the limit.
    pub(super) fn next<T>(
        &mut self,
        context: RowContext<'_>,
        read: impl FnOnce(&RawRecord<'_>, Option<u64>) -> T,
    ) -> Result<Option<T>, Error> {
        if self.rows_left == 0 {
            return Ok(None);
        }
        let RowContext { columns, rules, quote, delimiter, adjustments, .. } = context;
        let is_row = |cells: RawCells<'_>| reads_as_row(cells, columns, rules, quote);
        loop {
            let line = self.csv.line();
            let record = match self.csv.next(&is_row) {
                Ok(None) => return Ok(None),
                Ok(Some(record)) => record,
                Err(error) => return Err(Error::Read { name: self.name.clone(), line, error }),
            };
            adjustments.add_mark(&record);
            if !record.has_break && record.flaw.is_none() && !ends_file(&record) {
                adjustments.add(Adjustment::UnterminatedLastLine, record.line);
            }
            match no_row(&record, &self.header, delimiter) {
                Some(NoRow::Skipped(adjustment)) => {
                    adjustments.add(adjustment, record.line);
                    if adjustment == Adjustment::RepeatedHeader {
                        self.other_header = None;
                    }
                    continue;
                }
                Some(NoRow::OtherHeader) => self.other_header = Some(record.line),
                None => {}
            }
            self.rows_left -= 1;
            return Ok(Some(read(&record, self.other_header)));
        }
    }

    /// Sends all records in chunks, to each of the threads in turn, until one of them is gone. The records before an
    /// error are sent, too. Chunks that were checked come back through `used` and are filled again, so that no memory
    /// moves between the threads.
    fn send_all(
        &mut self,
        context: RowContext<'_>,
        threads: &[SyncSender<RecordChunk>],
        used: &Receiver<RecordChunk>,
    ) -> Result<(), Error> {
        for thread in threads.iter().cycle() {
            let mut chunk = used.try_recv().unwrap_or_default();
            chunk.clear();
            let read = self.fill(&mut chunk, context);
            let is_full = chunk.is_full();
            if thread.send(chunk).is_err() || !is_full {
                return read;
            }
        }
        Ok(())
    }

    /// Adds records until the chunk is full or the source ends.
    fn fill(&mut self, chunk: &mut RecordChunk, context: RowContext<'_>) -> Result<(), Error> {
        let read = loop {
            match self.next(context, |record, other| chunk.push(record, other)) {
                Ok(Some(())) if !chunk.is_full() => {}
                read => break read.map(drop),
            }
        };
        chunk.find_text();
        read
    }
}

/// Rows that have been read and not been checked.
pub struct UncheckedRows<'a> {
    chunk: &'a RecordChunk,
    context: RowContext<'a>,
}

impl UncheckedRows<'_> {
    /// Checks each row. `inspect` gets its line, the result, and the correction that it is, if it comes from an export.
    pub fn check_each(
        &self,
        mut inspect: impl FnMut(u64, &Result<ValidRecord<'_>, Faults>, Option<&Correction>),
    ) {
        self.chunk.each(|record, text, other_header| {
            read_row(record, text, self.context, other_header, |line, row, correction| {
                inspect(line, row, correction);
                false
            });
        });
    }
}

/// Reads the records on this thread and checks them on a thread for each of `checkers`. Returns the checkers, and an
/// error if the records could not be read to their end.
pub(super) fn check_chunks<C: Send>(
    records: &mut RowRecords,
    context: RowContext<'_>,
    checkers: Vec<C>,
    check: impl Fn(&mut C, &UncheckedRows<'_>) + Sync,
) -> (Vec<C>, Result<(), Error>) {
    let (returner, used) = channel();
    thread::scope(|scope| {
        let (mut senders, mut threads) = (Vec::new(), Vec::new());
        for mut checker in checkers {
            let (sender, chunks) = sync_channel(CHUNKS_AHEAD);
            let (returner, check) = (returner.clone(), &check);
            senders.push(sender);
            threads.push(scope.spawn(move || {
                let counts = check_with(context, &chunks, &returner, |rows| check(&mut checker, rows));
                (checker, counts)
            }));
        }
        let mut read = records.send_all(context, &senders, &used);
        drop(senders);
        let mut checkers = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok((checker, counts)) => {
                    checkers.push(checker);
                    counts.add_to(context);
                }
                Err(_) => {
                    let error = io::Error::other("a thread that checks rows ended early");
                    read = Err(Error::Read { name: records.name.clone(), line: records.csv.line(), error });
                }
            }
        }
        (checkers, read)
    })
}

/// Checks the chunks that a thread gets, and returns them.
fn check_with(
    context: RowContext<'_>,
    chunks: &Receiver<RecordChunk>,
    returner: &Sender<RecordChunk>,
    mut check: impl FnMut(&UncheckedRows<'_>),
) -> ThreadCounts {
    let rescues = context.rescues.map(|_| Mutex::new(Rescues::new(context.rules)));
    let counts = ThreadCounts { adjustments: Adjustments::default(), rescues };
    let context =
        RowContext { adjustments: &counts.adjustments, rescues: counts.rescues.as_ref(), ..context };
    for chunk in chunks {
        check(&UncheckedRows { chunk: &chunk, context });
        // After its last chunk the reader is gone, and takes none back.
        drop(returner.send(chunk));
    }
    counts
}

/// What one thread has counted while it checked rows.
struct ThreadCounts {
    adjustments: Adjustments,
    rescues: Option<Mutex<Rescues>>,
}

impl ThreadCounts {
    /// Adds these counts to those of the source.
    fn add_to(self, context: RowContext<'_>) {
        context.adjustments.merge(self.adjustments);
        if let (Some(all), Some(own)) = (context.rescues, self.rescues) {
            let own = own.into_inner().unwrap_or_else(PoisonError::into_inner);
            all.lock().unwrap_or_else(PoisonError::into_inner).merge(own);
        }
    }
}

/// Copies of successive records.
#[derive(Default)]
struct RecordChunk {
    /// The cells of all records, unless `text` has them.
    bytes: Vec<u8>,
    /// The cells of all records, if all of them are text.
    text: String,
    ends: Vec<usize>,
    records: Vec<CopiedRecord>,
}

/// A record without its cells.
struct CopiedRecord {
    record: RawRecord<'static>,
    other_header: Option<u64>,
    /// The length of the bytes.
    bytes: usize,
    /// The number of cells.
    cells: usize,
}

impl RecordChunk {
    fn clear(&mut self) {
        if !self.text.is_empty() {
            self.bytes = std::mem::take(&mut self.text).into_bytes();
        }
        self.bytes.clear();
        self.ends.clear();
        self.records.clear();
    }

    fn is_full(&self) -> bool {
        let bytes = self.bytes.len() + self.text.len() + size_of_val(&self.ends[..]);
        self.records.len() == CHUNK_ROWS || bytes >= COPIED_BYTES
    }

    fn push(&mut self, record: &RawRecord<'_>, other_header: Option<u64>) {
        let &RawRecord { line, last_line, cells, flaw, is_cut, after_mark, has_break } = record;
        self.bytes.extend_from_slice(cells.bytes);
        self.ends.extend_from_slice(cells.ends);
        let (bytes, ends) = (cells.bytes.len(), cells.ends.len());
        let cells = RawCells { bytes: &[], ends: &[] };
        let record = RawRecord { line, last_line, cells, flaw, is_cut, after_mark, has_break };
        self.records.push(CopiedRecord { record, other_header, bytes, cells: ends });
    }

    /// Finds whether all cells are text. One search in a chunk costs less than one in each record.
    fn find_text(&mut self) {
        match String::from_utf8(std::mem::take(&mut self.bytes)) {
            Ok(text) => self.text = text,
            Err(error) => self.bytes = error.into_bytes(),
        }
    }

    /// Calls `read` with each record, the text of its cells, and the line of the other header before it.
    fn each(&self, mut read: impl FnMut(&RawRecord<'_>, Result<&str, Utf8Error>, Option<u64>)) {
        let (mut begin, mut ends) = (0, &self.ends[..]);
        let bytes = if self.text.is_empty() { &self.bytes } else { self.text.as_bytes() };
        for copied in &self.records {
            let own = begin..begin + copied.bytes;
            begin = own.end;
            let bounds;
            (bounds, ends) = ends.split_at(copied.cells);
            let cells = RawCells { bytes: &bytes[own.clone()], ends: bounds };
            // The halves of a character that two records share are text together, and not in their records.
            let text = self.text.get(own).map_or_else(|| cells.text(), Ok);
            read(&RawRecord { cells, ..copied.record }, text, copied.other_header);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, Read};

    use super::*;
    use crate::source::{Source, SourceOptions};

    /// Fails where the text ends.
    struct Failing;

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }

    /// A source of this text, which a read error follows.
    fn source(text: &str, limit: Option<u64>) -> Source {
        let input = Box::new(Cursor::new(text.to_owned()).chain(Failing));
        let options = SourceOptions { limit, ..SourceOptions::default() };
        Source::from_reader("users.csv".into(), input, &options).unwrap()
    }

    /// The line and the faults of each row, then the error.
    type Seen = (Vec<(u64, Option<Faults>)>, Option<String>);

    fn one_by_one(mut source: Source) -> Seen {
        let mut rows = Vec::new();
        let error = loop {
            match source.next_row() {
                Ok(Some(row)) => rows.push((row.line, row.reading.err())),
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        (rows, error)
    }

    /// What two threads make of the rows, in file order.
    fn checked(mut source: Source) -> Seen {
        let (threads, read) = source.check_rows(vec![Vec::new(), Vec::new()], |rows, chunk| {
            let mut seen = Vec::new();
            chunk.check_each(|line, row, _| seen.push((line, row.as_ref().err().cloned())));
            rows.push(seen);
        });
        let [first, second]: [_; 2] = threads.try_into().unwrap();
        let seconds = second.into_iter().map(Some).chain(std::iter::repeat(None));
        let mut rows = Vec::new();
        for (first, second) in first.into_iter().zip(seconds) {
            rows.extend(first);
            rows.extend(second.into_iter().flatten());
        }
        (rows, read.err().map(|error| error.to_string()))
    }

    #[test]
    fn rows_are_the_same_on_several_threads() {
        let header = "object_reference_id,mobile_number\n";
        let mut text = header.to_owned();
        for number in 0..3 * CHUNK_ROWS {
            text += &match number % 50 {
                7 => format!("\"cust_{number:04}\",\"99\n88\"\n"),
                8 => format!("cust_{number:04},\"1\"2\n\n"),
                9 => format!(",{number}\n{header}"),
                10 => format!("cust_{number:04}\n"),
                11 => format!("cust_{number:04},{}\n", "9".repeat(COPIED_BYTES)),
                12 => format!("cust_{number:04},é\n"),
                _ => format!("cust_{number:04},9988776655\n"),
            };
        }
        text += "mobile_number,object_reference_id\n9988776655,cust_0001\n";
        let rows = one_by_one(source(&text, None)).0.len() as u64;
        assert!(rows > 2 * CHUNK_ROWS as u64, "{rows}");
        for limit in [None, Some(0), Some(1), Some(CHUNK_ROWS as u64), Some(rows - 1), Some(rows)] {
            let seen = checked(source(&text, limit));
            assert_eq!(seen, one_by_one(source(&text, limit)), "{limit:?}");
            assert_eq!(seen.1.is_some(), limit.is_none(), "{limit:?}");
        }
    }
}

//! The records that are rows, in file order: without the lines between rows that are none, and within the limit.
//!
//! A record borrows the buffer of the CSV reader. To be read on a thread of its own, it is copied to a chunk. A chunk is
//! small, because a record may be as large as a megabyte, and several chunks wait for the thread that checks them.

use std::sync::mpsc::{Receiver, SyncSender};

use super::{
    CHUNK_ROWS, Error,
    adjustments::Adjustment,
    csv_reader::{CsvReader, RawFields, RawRecord},
    decode::TextReader,
    row_parser::{RowContext, reads_as_row},
    skipped_line::{KnownHeader, NoRow, ends_file, no_row},
};

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
        let is_row = |fields: RawFields<'_>| reads_as_row(fields, columns, rules, quote);
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

    /// Sends all records in chunks, until the receiver is dropped. The records before an error are sent, too. Chunks that
    /// were read come back through `used` and are filled again, so that no memory moves between the threads.
    pub(super) fn send_all(
        &mut self,
        context: RowContext<'_>,
        sender: &SyncSender<RecordChunk>,
        used: &Receiver<RecordChunk>,
    ) -> Result<(), Error> {
        loop {
            let mut chunk = used.try_recv().unwrap_or_default();
            chunk.clear();
            let read = self.fill(&mut chunk, context);
            let is_full = chunk.is_full();
            if sender.send(chunk).is_err() || !is_full {
                return read;
            }
        }
    }

    /// Adds records until the chunk is full or the source ends.
    fn fill(&mut self, chunk: &mut RecordChunk, context: RowContext<'_>) -> Result<(), Error> {
        while !chunk.is_full() && self.next(context, |record, other| chunk.push(record, other))?.is_some() {}
        Ok(())
    }
}

/// Copies of successive records.
#[derive(Default)]
pub(super) struct RecordChunk {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    records: Vec<CopiedRecord>,
}

/// A record without its fields.
struct CopiedRecord {
    record: RawRecord<'static>,
    other_header: Option<u64>,
    /// The length of the bytes.
    bytes: usize,
    /// The number of fields.
    fields: usize,
}

impl RecordChunk {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.records.clear();
    }

    fn is_full(&self) -> bool {
        let bytes = self.bytes.len() + size_of_val(&self.ends[..]);
        self.records.len() == CHUNK_ROWS || bytes >= COPIED_BYTES
    }

    fn push(&mut self, record: &RawRecord<'_>, other_header: Option<u64>) {
        let &RawRecord { line, last_line, fields, flaw, is_cut, after_mark, has_break } = record;
        self.bytes.extend_from_slice(fields.bytes);
        self.ends.extend_from_slice(fields.ends);
        let (bytes, ends) = (fields.bytes.len(), fields.ends.len());
        let fields = RawFields { bytes: &[], ends: &[] };
        let record = RawRecord { line, last_line, fields, flaw, is_cut, after_mark, has_break };
        self.records.push(CopiedRecord { record, other_header, bytes, fields: ends });
    }

    /// Calls `read` with each record and the line of the other header before it.
    pub(super) fn each(&self, mut read: impl FnMut(&RawRecord<'_>, Option<u64>)) {
        let (mut bytes, mut ends) = (&self.bytes[..], &self.ends[..]);
        for copied in &self.records {
            let fields;
            (fields, bytes) = bytes.split_at(copied.bytes);
            let bounds;
            (bounds, ends) = ends.split_at(copied.fields);
            let fields = RawFields { bytes: fields, ends: bounds };
            read(&RawRecord { fields, ..copied.record }, copied.other_header);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, Read};

    use super::*;
    use crate::{
        customer::Faults,
        source::{Source, SourceOptions},
    };

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

    fn inspected(mut source: Source) -> Seen {
        let mut rows = Vec::new();
        let read = source.inspect_rows(|line, row, _| rows.push((line, row.as_ref().err().cloned())));
        (rows, read.err().map(|error| error.to_string()))
    }

    #[test]
    fn records_are_the_same_on_a_thread_of_their_own() {
        let header = "object_reference_id,mobile_number\n";
        let mut text = header.to_owned();
        for number in 0..3 * CHUNK_ROWS {
            text += &match number % 50 {
                7 => format!("\"cust_{number:04}\",\"99\n88\"\n"),
                8 => format!("cust_{number:04},\"1\"2\n\n"),
                9 => format!(",{number}\n{header}"),
                10 => format!("cust_{number:04}\n"),
                _ => format!("cust_{number:04},9988776655\n"),
            };
        }
        text += "mobile_number,object_reference_id\n9988776655,cust_0001\n";
        let rows = one_by_one(source(&text, None)).0.len() as u64;
        assert!(rows > 2 * CHUNK_ROWS as u64, "{rows}");
        for limit in [None, Some(0), Some(1), Some(CHUNK_ROWS as u64), Some(rows - 1), Some(rows)] {
            let seen = inspected(source(&text, limit));
            assert_eq!(seen, one_by_one(source(&text, limit)), "{limit:?}");
            assert_eq!(seen.1.is_some(), limit.is_none(), "{limit:?}");
        }
    }
}

//! Decompresses gzip and Zstandard; passes anything else through.
//!
//! The format is detected by the first bytes, not by the file name, so files and standard input behave alike.
//!
//! Memory is bounded by the format's window: 32 KiB for gzip, at most [`ZSTD_WINDOW_LOG_MAX`] for Zstandard, whatever the
//! size of the text. Compressed bytes are counted, so that progress and the position of a corruption refer to the source
//! itself. A truncated or corrupt stream is an error that follows all data decompressed before it.
//!
//! What damaged data decompresses to may look like rows, and its checksum comes last. So a file is decompressed once to
//! its end before its rows are used ([`check_file`]). Input that can be read only once is not checked.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::bufread::GzDecoder;

use super::Input;

/// 128 MiB: the largest window that the `zstd` tool accepts by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Number of leading bytes that identify a format.
const MAGIC_BYTES: usize = 6;

/// The compression format of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Plain text.
    None,
    /// `.gz`.
    Gzip,
    /// `.zst`.
    Zstandard,
}

impl Compression {
    /// The common name; none for plain text.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstandard => Some("zstd"),
        }
    }
}

/// A reader that yields the decompressed bytes.
pub(super) struct Decompressor {
    input: Input,
    compression: Compression,
    consumed: Arc<AtomicU64>,
    /// Why the stream cannot be decompressed any further, once that is known.
    damage: Option<(io::ErrorKind, CorruptStream)>,
}

impl Decompressor {
    /// Detects the format from the first bytes.
    pub(super) fn new(mut input: Input) -> io::Result<Decompressor> {
        let head = read_head::<MAGIC_BYTES>(&mut input)?;
        let compression = detect(&head);
        let consumed = Arc::new(AtomicU64::new(0));
        let counted = CountingReader {
            input: BufReader::new(Cursor::new(head).chain(input)),
            consumed: Arc::clone(&consumed),
        };
        let input: Input = match compression {
            Compression::None => Box::new(counted),
            Compression::Gzip => Box::new(GzipMembers { decoder: Some(GzDecoder::new(counted)) }),
            Compression::Zstandard => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(counted)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        };
        Ok(Decompressor { input, compression, consumed, damage: None })
    }

    /// The detected format.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Counter of the compressed bytes consumed; stays current after the reader is moved.
    pub(super) fn consumed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.consumed)
    }
}

impl Read for Decompressor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A caller that reads ahead drops an error that follows data, because the next read reports the error again.
        // A decoder may report the error only once, and after that the end of the file.
        if let Some((kind, corrupt)) = &self.damage {
            return Err(io::Error::new(*kind, corrupt.clone()));
        }
        self.input.read(buffer).map_err(|error| {
            // An I/O error of the system (a failing disk) does not mean that the stream is corrupt.
            let of_system = error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted;
            let Some(format) = self.compression.name().filter(|_| !of_system) else {
                return error;
            };
            let byte = self.consumed.load(Ordering::Relaxed);
            let corrupt = CorruptStream { format, byte, corruption: Corruption::of(&error) };
            self.damage = Some((error.kind(), corrupt.clone()));
            io::Error::new(error.kind(), corrupt)
        })
    }
}

/// The members of a gzip stream in order. Zeros after the last member pad a block of a tape or a disk; `gzip -dc`
/// ignores them too. Any other data there may be a damaged member, and is an error.
struct GzipMembers<R> {
    /// None after the last member.
    decoder: Option<GzDecoder<R>>,
}

impl<R: BufRead> GzipMembers<R> {
    /// The reader of the next member; none at the end of the input.
    fn next_member(mut input: R) -> io::Result<Option<GzDecoder<R>>> {
        let Some(first) = input.fill_buf()?.first().copied() else { return Ok(None) };
        if first != 0 {
            return Ok(Some(GzDecoder::new(input)));
        }
        loop {
            let unread = input.fill_buf()?;
            if unread.is_empty() {
                return Ok(None);
            }
            let zeros = unread.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "data behind the zeros at its end"));
            }
            input.consume(zeros);
        }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.decoder = match self.decoder.take() {
                Some(ended) => GzipMembers::next_member(ended.into_inner())?,
                None => None,
            };
        }
        Ok(0)
    }
}

/// A compressed stream that cannot be decompressed any further.
#[derive(Clone, Debug)]
pub(super) struct CorruptStream {
    format: &'static str,
    /// Offset in the compressed source.
    byte: u64,
    corruption: Corruption,
}

/// Why a stream cannot be decompressed any further.
#[derive(Clone, Debug)]
enum Corruption {
    /// It ends too early.
    Truncated,
    /// It was compressed with a dictionary.
    Dictionary,
    /// Its window is larger than [`ZSTD_WINDOW_LOG_MAX`].
    Window,
    /// The decoder's reason.
    Damaged(String),
}

impl Corruption {
    fn of(error: &io::Error) -> Corruption {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Corruption::Truncated;
        }
        // The library's names of its error codes, which is all that an error of it has.
        match error.to_string().as_str() {
            "Dictionary mismatch" => Corruption::Dictionary,
            "Frame requires too much memory for decoding" => Corruption::Window,
            why => Corruption::Damaged(why.into()),
        }
    }
}

impl CorruptStream {
    /// The corrupt stream that an error is about; none for an I/O error of the system.
    pub(super) fn of(error: &io::Error) -> Option<&CorruptStream> {
        error.get_ref()?.downcast_ref()
    }

    /// What the user can do.
    pub(super) fn hint(&self) -> &'static str {
        match self.corruption {
            Corruption::Truncated => {
                "get the file whole, then run the same command again; the rows before it stand"
            }
            Corruption::Dictionary => "unpack it: zstd -dc -D DICTIONARY FILE | customer-import import -",
            Corruption::Window => "unpack it: zstd -dc --long=31 FILE | customer-import import -",
            Corruption::Damaged(_) => {
                "get the file whole, then run the same command again; rows before it may be damaged too: compare \
                 them with verify"
            }
        }
    }
}

impl fmt::Display for CorruptStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CorruptStream { format, byte, corruption } = self;
        match corruption {
            Corruption::Truncated => write!(f, "the {format} data breaks off at byte {byte} of the file"),
            Corruption::Dictionary => {
                write!(f, "the {format} data needs the dictionary that it was compressed with")
            }
            Corruption::Window => write!(f, "the {format} data needs a window of more than 128 MiB"),
            Corruption::Damaged(why) => {
                write!(f, "the {format} data is damaged at byte {byte} of the file ({why})")
            }
        }
    }
}

impl std::error::Error for CorruptStream {}

/// Decompresses a file to its end. Returns the error if its data is damaged. A truncated file is none: its rows up to
/// that point are whole.
pub(super) fn check_file(path: &Path) -> io::Result<()> {
    let mut decompressor = Decompressor::new(Box::new(File::open(path)?))?;
    match io::copy(&mut decompressor, &mut io::sink()) {
        Err(error)
            if !matches!(
                CorruptStream::of(&error),
                Some(CorruptStream { corruption: Corruption::Truncated, .. })
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Reads `BYTES` bytes, or fewer at the end of the input.
pub(super) fn read_head<const BYTES: usize>(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(BYTES);
    input.take(BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn detect(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A frame, or one of the sixteen kinds of skippable frame that may precede it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstandard,
        _ => Compression::None,
    }
}

/// Counts the bytes consumed, not the bytes buffered.
struct CountingReader<R> {
    input: BufReader<R>,
    consumed: Arc<AtomicU64>,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.consumed.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: Read> BufRead for CountingReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.consumed.fetch_add(count as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression as Level, write::GzEncoder};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 3).unwrap()
    }

    /// The output, the error after it, and the number of bytes consumed.
    fn decompress(bytes: Vec<u8>) -> (Vec<u8>, Option<String>, u64) {
        let mut decompressor = Decompressor::new(Box::new(Cursor::new(bytes))).unwrap();
        let consumed = decompressor.consumed();
        let mut out = Vec::new();
        let error_text = decompressor.read_to_end(&mut out).err().map(|error| error.to_string());
        (out, error_text, consumed.load(Ordering::Relaxed))
    }

    #[test]
    fn every_form_gives_the_same_text() {
        let text = "a,b\n1,2\n".repeat(50_000).into_bytes();
        let (head, tail) = text.split_at(123_457);
        let skip = || vec![0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
        let skippable = [skip(), zstd(&text)].concat();
        for (form, bytes) in [
            ("text", text.clone()),
            ("gzip", gzip(&text)),
            ("gzip in two members", [gzip(head), gzip(tail)].concat()),
            ("zstd", zstd(&text)),
            ("zstd in two frames", [zstd(head), zstd(b""), zstd(tail)].concat()),
            ("zstd behind a frame to skip", skippable),
            ("zstd before and between frames to skip", [zstd(head), skip(), zstd(tail), skip()].concat()),
            ("gzip padded with a zero", [gzip(&text), vec![0]].concat()),
            ("gzip in two members, padded with zeros", [gzip(head), gzip(tail), vec![0; 100_000]].concat()),
        ] {
            let length = bytes.len() as u64;
            let (out, error_text, consumed) = decompress(bytes);
            assert!(
                out == text && error_text.is_none() && consumed == length,
                "{form}: {error_text:?} {consumed}"
            );
        }
        assert_eq!(decompress(Vec::new()), (Vec::new(), None, 0));
    }

    #[test]
    fn a_stream_that_breaks_off_gives_what_it_has_and_names_the_byte() {
        let text: Vec<u8> = (0..60_000u32).flat_map(|n| format!("{},x\n", n * 7919).into_bytes()).collect();
        for whole in [gzip(&text), zstd(&text)] {
            for length in [7, whole.len() / 2, whole.len() - 1] {
                let (out, error_text, _) = decompress(whole[..length].to_vec());
                let error_text = error_text.unwrap();
                assert!(error_text.contains(&format!("breaks off at byte {length} ")), "{error_text}");
                assert!(text.starts_with(&out));
                assert!(length < 1000 || out.len() > text.len() / 4, "{} of {}", out.len(), text.len());
            }
        }
    }

    #[test]
    fn damage_is_told_from_an_end() {
        let mut bytes = gzip(&b"some text, and more of it\n".repeat(1000));
        let last = bytes.len() - 6;
        bytes[last] ^= 0xff;
        assert!(decompress(bytes).1.unwrap().contains("is damaged at byte"));
        for (bytes, words) in [
            ([zstd(b"a,b\n"), b"garbage".to_vec()].concat(), "zstd data is damaged"),
            ([gzip(b"a,b\n"), b"garbage, and more".to_vec()].concat(), "gzip data is damaged"),
            // Whether the zeros are followed by a further member is unknown.
            ([gzip(b"a,b\n"), vec![0; 9], gzip(b"1,2\n")].concat(), "data behind the zeros"),
            ([gzip(b"a,b\n"), vec![0; 9], b"x".to_vec()].concat(), "data behind the zeros"),
        ] {
            let (out, error_text, _) = decompress(bytes);
            assert!(out == b"a,b\n" && error_text.unwrap().contains(words), "{words}");
        }
    }

    #[test]
    fn damage_is_reported_as_often_as_it_is_read() {
        let broken = |mut bytes: Vec<u8>| {
            let last = bytes.len() - 6;
            bytes[last] ^= 0xff;
            bytes
        };
        for bytes in [
            [gzip(b"a,b\n"), vec![0; 9], gzip(b"1,2\n")].concat(),
            [gzip(b"a,b\n"), b"garbage".to_vec()].concat(),
            broken(gzip(b"a,b\n")),
            zstd(b"a,b\n")[..10].to_vec(),
            [zstd(b"a,b\n"), b"garbage".to_vec()].concat(),
        ] {
            let mut decompressor = Decompressor::new(Box::new(Cursor::new(bytes))).unwrap();
            let mut out = Vec::new();
            let first = decompressor.read_to_end(&mut out).unwrap_err();
            let again = decompressor.read_to_end(&mut out).unwrap_err();
            assert_eq!((first.kind(), first.to_string()), (again.kind(), again.to_string()));
        }
    }
}

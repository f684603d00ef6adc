//! Bytes as they lie there → bytes of text: gzip and Zstandard are unpacked on the way.
//!
//! What is compressed tells by its first bytes and not by its name, so that it is the same for a file and
//! for standard input. What is neither text nor one of the two, but known (a workbook instead of the
//! CSV saved from it), is named.
//!
//! Memory is the window that the format needs, 32 KiB for gzip and at most [`ZSTD_WINDOW_LOG_MAX`] for
//! Zstandard, however much comes out. Counts what has gone in, so that progress and the place of a damage
//! are in bytes of the source itself. A stream that breaks off or is damaged is an error behind all that
//! could be unpacked before it.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Cursor, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::bufread::MultiGzDecoder;

use super::Input;

/// 128 MiB: the largest window that the `zstd` tool itself unpacks without being told to.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How many first bytes tell one format from another.
const MAGIC_BYTES: usize = 6;

/// How the source lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// As text.
    None,
    /// `.gz`.
    Gzip,
    /// `.zst`.
    Zstandard,
}

impl Compression {
    /// The name that users know.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstandard => Some("zstd"),
        }
    }
}

/// What is no text, and nothing that is unpacked here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Foreign(pub(super) &'static str);

/// An input that gives the bytes of the text.
pub(super) struct Unpacked {
    input: Input,
    compression: Compression,
    taken: Arc<AtomicU64>,
}

impl Unpacked {
    /// Looks at the first bytes.
    ///
    /// # Errors
    /// Where they cannot be read; or they are no text.
    pub(super) fn new(mut input: Input) -> io::Result<Result<Unpacked, Foreign>> {
        let head = read_head::<MAGIC_BYTES>(&mut input)?;
        let compression = match identify(&head) {
            Ok(compression) => compression,
            Err(foreign) => return Ok(Err(foreign)),
        };
        let taken = Arc::new(AtomicU64::new(0));
        let counted =
            Counted { input: BufReader::new(Cursor::new(head).chain(input)), taken: Arc::clone(&taken) };
        let input: Input = match compression {
            Compression::None => Box::new(counted),
            Compression::Gzip => Box::new(MultiGzDecoder::new(counted)),
            Compression::Zstandard => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(counted)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        };
        Ok(Ok(Unpacked { input, compression, taken }))
    }

    /// How the source lies there.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// How many bytes of the source itself have been taken so far; stays true when this is moved.
    pub(super) fn taken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer).map_err(|error| {
            // The system's own errors (a disk that fails) are no damage of the stream.
            let of_system = error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted;
            let Some(format) = self.compression.name().filter(|_| !of_system) else {
                return error;
            };
            let byte = self.taken.load(Ordering::Relaxed);
            let cut = error.kind() == io::ErrorKind::UnexpectedEof;
            let why = if cut { None } else { Some(error.to_string()) };
            let damage = Damage { format, byte, why };
            io::Error::new(error.kind(), damage)
        })
    }
}

/// A compressed stream that cannot be unpacked any further.
#[derive(Debug)]
pub(super) struct Damage {
    format: &'static str,
    /// Of the source, as it lies there.
    byte: u64,
    /// `None`: it breaks off.
    why: Option<String>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { format, byte, why } = self;
        match why {
            None => write!(f, "the {format} data breaks off at byte {byte} of the file"),
            Some(why) => write!(f, "the {format} data is damaged at byte {byte} of the file ({why})"),
        }
    }
}

impl std::error::Error for Damage {}

/// Whether this is an error of the stream rather than of the system.
pub(super) fn is_damage(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Damage>())
}

/// The first bytes, fewer only where there are no more.
pub(super) fn read_head<const BYTES: usize>(input: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(BYTES);
    input.take(BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn identify(head: &[u8]) -> Result<Compression, Foreign> {
    match head {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        // A frame, or one of sixteen kinds that unpack to nothing and stand before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstandard),
        [b'P', b'K', 3, 4, ..] => Err(Foreign("an Excel workbook or another ZIP archive")),
        [0xd0, 0xcf, 0x11, 0xe0, ..] => Err(Foreign("an old Excel workbook")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(Foreign("an xz archive")),
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', ..] => Err(Foreign("a bzip2 archive")),
        _ => Ok(Compression::None),
    }
}

/// Counts what is used up, not what is buffered.
struct Counted<R> {
    input: BufReader<R>,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: Read> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
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

    /// What comes out, what goes wrong after it, and how many bytes were taken.
    fn unpack(bytes: Vec<u8>) -> (Vec<u8>, Option<String>, u64) {
        let mut unpacked = Unpacked::new(Box::new(Cursor::new(bytes))).unwrap().ok().unwrap();
        let taken = unpacked.taken();
        let mut out = Vec::new();
        let trouble = unpacked.read_to_end(&mut out).err().map(|error| error.to_string());
        (out, trouble, taken.load(Ordering::Relaxed))
    }

    #[test]
    fn every_form_gives_the_same_text() {
        let text = "a,b\n1,2\n".repeat(50_000).into_bytes();
        let (head, tail) = text.split_at(123_457);
        let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &zstd(&text)].concat();
        for (form, bytes) in [
            ("text", text.clone()),
            ("gzip", gzip(&text)),
            ("gzip in two members", [gzip(head), gzip(tail)].concat()),
            ("zstd", zstd(&text)),
            ("zstd in two frames", [zstd(head), zstd(b""), zstd(tail)].concat()),
            ("zstd behind a frame to skip", skippable),
        ] {
            let length = bytes.len() as u64;
            let (out, trouble, taken) = unpack(bytes);
            assert!(out == text && trouble.is_none() && taken == length, "{form}: {trouble:?} {taken}");
        }
        assert_eq!(unpack(Vec::new()), (Vec::new(), None, 0));
    }

    #[test]
    fn a_stream_that_breaks_off_gives_what_it_has_and_names_the_byte() {
        let text: Vec<u8> = (0..60_000u32).flat_map(|n| format!("{},x\n", n * 7919).into_bytes()).collect();
        for whole in [gzip(&text), zstd(&text)] {
            for length in [7, whole.len() / 2, whole.len() - 1] {
                let (out, trouble, _) = unpack(whole[..length].to_vec());
                let trouble = trouble.unwrap();
                assert!(trouble.contains(&format!("breaks off at byte {length} ")), "{trouble}");
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
        assert!(unpack(bytes).1.unwrap().contains("is damaged at byte"));
        let garbage = [zstd(b"a,b\n"), b"garbage".to_vec()].concat();
        let (out, trouble, _) = unpack(garbage);
        assert!(out == b"a,b\n" && trouble.unwrap().contains("zstd data is damaged"));
    }

    #[test]
    fn what_is_no_text_is_named() {
        for (head, what) in [
            (&b"PK\x03\x04\x14\0"[..], "Excel"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel"),
            (b"\xfd7zXZ\0", "xz"),
            (b"BZh91A", "bzip2"),
        ] {
            assert!(identify(head).unwrap_err().0.contains(what));
        }
        assert_eq!(identify(b"BZh9,1").unwrap(), Compression::None);
    }
}

//! Decodes text of any encoding to UTF-8, which is what the CSV reader reads.
//!
//! UTF-8 passes through without a copy; each record is validated when it is parsed. Any other encoding is decoded before
//! parsing, because in `Shift_JIS` or GB18030 the second byte of a character may look like a delimiter or a quote, and in
//! UTF-16 every other byte is a NUL.
//!
//! A byte that does not decode must become a fault of its own row, but this module does not see rows. So the byte is
//! replaced by a two-byte marker ([`encode_invalid_byte`]) that never occurs in UTF-8. The parser carries the marker
//! into its cell, validation of the cell finds it like any other invalid UTF-8, and [`invalid_byte`] recovers the
//! original byte. No list of positions grows with the file.

use std::{
    fmt,
    io::{self, Read},
};

use encoding_rs::{Decoder, DecoderResult, GB18030, UTF_8};

use super::{Input, decompress::read_head, encoding_label};

/// How many bytes are decoded at a time.
const RAW_BYTES: usize = 32 * 1024;

/// Space for the decoded text: at most three bytes per input byte, a marker, and what a decoder holds back.
const TEXT_BYTES: usize = 3 * RAW_BYTES + 64;

/// How far before the current bytes a malformed sequence may begin; the longest has four bytes.
const SEQUENCE_BYTES: usize = 16;

/// The byte order mark in GB18030.
const GB18030_BOM: [u8; 4] = [0x84, 0x31, 0x95, 0x33];

/// A text encoding of the Encoding Standard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Encoding(&'static encoding_rs::Encoding);

impl Default for Encoding {
    fn default() -> Encoding {
        Encoding(UTF_8)
    }
}

impl Encoding {
    /// The encoding with this label, in any letter case.
    ///
    /// # Errors
    /// If the label is unknown; the text suggests a label, or how to convert the file.
    pub fn from_label(label: &str) -> Result<Encoding, String> {
        let found = encoding_rs::Encoding::for_label_no_replacement(label.trim().as_bytes());
        found.map(Encoding).ok_or_else(|| encoding_label::unknown(label))
    }

    /// Labels of common encodings, one for each; others are accepted too.
    pub fn labels() -> impl Iterator<Item = &'static str> {
        encoding_label::LABELS.into_iter()
    }

    /// The encoding found by a detector.
    pub(super) fn detected(encoding: &'static encoding_rs::Encoding) -> Encoding {
        Encoding(encoding)
    }

    /// The name in the Encoding Standard, such as `windows-1252`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Whether each character has at least two bytes.
    pub(super) fn is_utf16(self) -> bool {
        self.name().starts_with("UTF-16")
    }

    /// Whether text passes through without decoding.
    pub(super) fn is_utf8(self) -> bool {
        self.0 == UTF_8
    }
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads any encoding as UTF-8; strips the byte order mark.
pub(super) struct TextReader {
    mode: Mode,
    encoding: Encoding,
    bom_bytes: usize,
}

enum Mode {
    Utf8(Input),
    Transcoded(Box<Transcoder>),
}

impl TextReader {
    /// Determines the encoding by the byte order mark, or else uses the declared one.
    pub(super) fn new(mut input: Input, declared: Encoding) -> io::Result<TextReader> {
        let head = read_head::<4>(&mut input)?;
        let (encoding, bom_bytes) = match encoding_rs::Encoding::for_bom(&head) {
            Some(found) => found,
            // `for_bom` does not support the byte order mark of GB18030, which no other encoding has.
            None => (declared.0, if declared.0 == GB18030 && head == GB18030_BOM { head.len() } else { 0 }),
        };
        let rest = Box::new(io::Cursor::new(head[bom_bytes..].to_vec()).chain(input));
        let encoding = Encoding(encoding);
        let mode = if encoding.is_utf8() {
            Mode::Utf8(rest)
        } else {
            Mode::Transcoded(Box::new(Transcoder::new(rest, encoding)))
        };
        Ok(TextReader { mode, encoding, bom_bytes })
    }

    /// Continues in the middle of UTF-8 text, where there is no byte order mark.
    pub(super) fn resumed(input: Input) -> TextReader {
        TextReader { mode: Mode::Utf8(input), encoding: Encoding::default(), bom_bytes: 0 }
    }

    /// The length of the byte order mark, or 0.
    pub(super) fn bom_bytes(&self) -> usize {
        self.bom_bytes
    }

    /// The encoding of the input.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }
}

impl Read for TextReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.mode {
            Mode::Utf8(input) => input.read(buffer),
            Mode::Transcoded(decoded) => decoded.read(buffer),
        }
    }
}

/// Decodes its input block by block.
struct Transcoder {
    input: Input,
    decoder: Decoder,
    /// The last bytes that were decoded, followed by the bytes that are still to be decoded.
    raw: Box<[u8]>,
    start: usize,
    end: usize,
    at_end: bool,
    text: Box<[u8]>,
    given: usize,
    decoded: usize,
}

impl Transcoder {
    fn new(input: Input, encoding: Encoding) -> Transcoder {
        Transcoder {
            input,
            decoder: encoding.0.new_decoder_without_bom_handling(),
            raw: vec![0; SEQUENCE_BYTES + RAW_BYTES].into(),
            start: SEQUENCE_BYTES,
            end: SEQUENCE_BYTES,
            at_end: false,
            text: vec![0; TEXT_BYTES].into(),
            given: 0,
            decoded: 0,
        }
    }

    /// Decodes at least one byte of text; false at the end of the input.
    fn decode_more(&mut self) -> io::Result<bool> {
        (self.given, self.decoded) = (0, 0);
        while self.decoded == 0 {
            if self.start == self.end {
                if self.at_end {
                    return Ok(false);
                }
                self.fill()?;
            }
            self.decode();
        }
        Ok(true)
    }

    fn fill(&mut self) -> io::Result<()> {
        self.raw.copy_within(self.end - SEQUENCE_BYTES..self.end, 0);
        (self.start, self.end) = (SEQUENCE_BYTES, SEQUENCE_BYTES);
        let count = self.input.read(&mut self.raw[SEQUENCE_BYTES..])?;
        self.end += count;
        self.at_end = count == 0;
        Ok(())
    }

    /// Decodes the bytes that have been read.
    fn decode(&mut self) {
        loop {
            let room = TEXT_BYTES - MARKER_BYTES;
            let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(
                &self.raw[self.start..self.end],
                &mut self.text[self.decoded..room],
                self.at_end,
            );
            self.start += read;
            self.decoded += written;
            match result {
                DecoderResult::InputEmpty | DecoderResult::OutputFull => return,
                DecoderResult::Malformed(length, after) => {
                    let begin = self.start.saturating_sub(usize::from(length) + usize::from(after));
                    let marker = encode_invalid_byte(self.raw[begin]);
                    self.text[self.decoded..][..MARKER_BYTES].copy_from_slice(&marker);
                    self.decoded += MARKER_BYTES;
                    if self.decoded + 64 > room {
                        return;
                    }
                }
            }
        }
    }
}

impl Read for Transcoder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.decoded && !self.decode_more()? {
            return Ok(0);
        }
        let count = buffer.len().min(self.decoded - self.given);
        buffer[..count].copy_from_slice(&self.text[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}

const MARKER_BYTES: usize = 2;

/// The marker for a byte that does not decode. Its first byte does not begin any character of UTF-8; its second is a
/// continuation byte, and so never a delimiter, a quote or a line break.
fn encode_invalid_byte(byte: u8) -> [u8; MARKER_BYTES] {
    [0xf8 | byte >> 6, 0x80 | byte & 0x3f]
}

/// The byte that the marker at the beginning of `text` replaced.
pub(super) fn invalid_byte(text: &[u8]) -> Option<u8> {
    match text {
        [first @ 0xf8..=0xfb, second @ 0x80..=0xbf, ..] => Some(first << 6 | second & 0x3f),
        _ => None,
    }
}

/// Text for display: each marker becomes one replacement character, like any byte that is not UTF-8.
pub(super) fn lossy(text: &[u8], has_markers: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        out.push_str(chunk.valid());
        // Both bytes of a marker are invalid, and are found one after the other.
        let second = has_markers && chunk.valid().is_empty() && matches!(chunk.invalid(), [0x80..=0xbf]);
        if !chunk.invalid().is_empty() && !second {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns at most this many bytes per call.
    struct Pieces(Vec<u8>, usize);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buffer.len()).min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    fn decode(bytes: &[u8], label: &str) -> (&'static str, Vec<u8>) {
        let mut results = [1, 3, usize::MAX].map(|piece| {
            let input = Box::new(Pieces(bytes.to_vec(), piece));
            let mut text = TextReader::new(input, Encoding::from_label(label).unwrap()).unwrap();
            let mut out = Vec::new();
            text.read_to_end(&mut out).unwrap();
            (text.encoding().name(), out)
        });
        assert!(results[0] == results[1] && results[1] == results[2], "the pieces matter: {results:?}");
        std::mem::take(&mut results[0])
    }

    #[test]
    fn a_mark_decides_and_is_no_part_of_the_text() {
        for (bytes, declared, name) in [
            (&b"a,\xc3\xa9\n"[..], "utf-8", "UTF-8"),
            (b"\xef\xbb\xbfa,\xc3\xa9\n", "windows-1252", "UTF-8"),
            (b"\xff\xfea\0,\0\xe9\0\n\0", "utf-8", "UTF-16LE"),
            (b"\xfe\xff\0a\0,\0\xe9\0\n", "windows-1252", "UTF-16BE"),
            (b"a\0,\0\xe9\0\n\0", "utf-16le", "UTF-16LE"),
            (b"a,\xe9\n", "Latin1", "windows-1252"),
            (b"\x84\x31\x95\x33a,\xa8\xa6\n", "gb18030", "gb18030"),
        ] {
            assert_eq!(decode(bytes, declared), (name, "a,é\n".into()), "{bytes:?}");
        }
        assert_eq!(decode(b"", "utf-16"), ("UTF-16LE", vec![]));
    }

    #[test]
    fn bytes_that_do_not_decode_are_marked_where_they_stand() {
        for (bytes, label, expected) in [
            (&b"a\x80b,\xfe\n"[..], "shift_jis", vec![("a\u{80}b,", 0xfe), ("\n", 0)]),
            (b"\x81", "shift_jis", vec![("", 0x81)]),
            (b"x\x81\nb\n", "shift_jis", vec![("x", 0x81), ("\nb\n", 0)]),
            (b"\x30\0\x00\xd8\x31\0", "utf-16le", vec![("0", 0x00), ("1", 0)]),
            (b"\x30\0\x31", "utf-16le", vec![("0", 0x31)]),
            (b"\xd8\x34\0a", "utf-16be", vec![("", 0xd8), ("a", 0)]),
            (b"a\xff,\x84\x31,b", "gb18030", vec![("a", 0xff), (",", 0x84), ("1,b", 0)]),
        ] {
            let mut text = &decode(bytes, label).1[..];
            for (before, byte) in expected {
                assert!(text.starts_with(before.as_bytes()), "{text:x?} after {before:?} in {bytes:x?}");
                text = &text[before.len()..];
                if !text.is_empty() {
                    assert_eq!(invalid_byte(text), Some(byte), "{text:x?} in {bytes:x?}");
                    text = &text[MARKER_BYTES..];
                }
            }
            assert!(text.is_empty(), "{text:x?} in {bytes:x?}");
        }
    }

    #[test]
    fn every_byte_survives_its_mark() {
        for byte in 0..=u8::MAX {
            let marker = encode_invalid_byte(byte);
            assert_eq!((invalid_byte(&marker), std::str::from_utf8(&marker).is_err()), (Some(byte), true));
        }
        assert_eq!(
            lossy(
                &[
                    &encode_invalid_byte(0xff)[..],
                    &encode_invalid_byte(b','),
                    "é".as_bytes(),
                    &encode_invalid_byte(7)
                ]
                .concat(),
                true
            ),
            "��é�"
        );
        assert_eq!(lossy(b"a\xf8\x80", false), "a��");
    }

    #[test]
    fn a_long_text_is_decoded_across_every_boundary() {
        let text: String = (0..40_000).map(|n| ["é", "x", "語", "😀"][n % 4]).collect();
        let utf16: Vec<u8> =
            [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        assert!(decode(&utf16, "utf-8").1 == text.as_bytes());
        let nothing_but_errors = vec![0xff; 100_000];
        assert!(decode(&nothing_but_errors, "euc-kr").1 == encode_invalid_byte(0xff).repeat(100_000));
    }

    #[test]
    fn labels_are_those_of_browsers() {
        for label in ["latin1", "unicode", "CP1252", "ascii", "ks_c_5601-1987", "x-mac-roman", " utf-8 "] {
            assert!(Encoding::from_label(label).is_ok(), "{label}");
        }
        assert!(Encoding::from_label("hz-gb-2312").is_err(), "what browsers refuse to read");
    }
}

//! A hash of the prefix of a file that a run has read, so that a later run can check whether that prefix is
//! unchanged.
//!
//! The hash covers the bytes on the disk, below decompression and decoding, so a compressed file needs no special case.
//! It detects edits, not forgeries: XXH3 is not a cryptographic hash.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use xxhash_rust::xxh3::Xxh3;

use crate::customer::{PrefixHash, SourcePosition};

/// Block size while a prefix is only hashed.
const BLOCK_BYTES: usize = 256 * 1024;

/// The hash of all bytes read so far; shared, because it is queried while the file is being read.
#[derive(Clone, Default)]
pub(super) struct RunningHash(Arc<Mutex<HasherState>>);

#[derive(Default)]
struct HasherState {
    hasher: Xxh3,
    bytes: u64,
}

impl RunningHash {
    /// The prefix read so far.
    pub(super) fn prefix(&self) -> PrefixHash {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        PrefixHash { bytes: state.bytes, hash: state.hasher.digest128() }
    }

    fn add(&self, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.hasher.update(bytes);
        state.bytes += bytes.len() as u64;
    }
}

/// A file whose bytes are hashed as they are read.
pub(super) struct HashingFile {
    file: File,
    hash: RunningHash,
    /// Number of upcoming bytes that the hash already includes.
    already_hashed: u64,
}

impl HashingFile {
    /// Starts at the beginning of the file.
    pub(super) fn new(file: File) -> HashingFile {
        HashingFile { file, hash: RunningHash::default(), already_hashed: 0 }
    }

    /// A handle on the hash that stays current while the file is read.
    pub(super) fn hash(&self) -> RunningHash {
        self.hash.clone()
    }
}

impl Read for HashingFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        let already_hashed = self.already_hashed.min(read as u64);
        self.already_hashed -= already_hashed;
        self.hash.add(&buffer[already_hashed as usize..read]);
        Ok(read)
    }
}

/// Opens the file at `position` and returns it with the byte before, or `None` if its prefix is not the expected one.
pub(super) fn resume(
    path: &Path,
    position: SourcePosition,
    prefix_hash: PrefixHash,
) -> io::Result<Option<(HashingFile, u8)>> {
    let mut file = File::open(path)?;
    let Some((hash, before)) = check(&mut file, position.bytes, prefix_hash)? else { return Ok(None) };
    file.seek(SeekFrom::Start(position.bytes))?;
    let already_hashed = prefix_hash.bytes.saturating_sub(position.bytes);
    Ok(Some((HashingFile { file, hash, already_hashed }, before)))
}

/// Whether the file begins with that prefix.
pub(super) fn is_prefix(path: &Path, prefix_hash: PrefixHash) -> io::Result<bool> {
    Ok(check(&mut File::open(path)?, 0, prefix_hash)?.is_some())
}

/// Hashes the prefix and compares. Returns the hash and the byte before `offset`, or `None` if the prefix has changed.
fn check(file: &mut File, offset: u64, prefix_hash: PrefixHash) -> io::Result<Option<(RunningHash, u8)>> {
    let hash = RunningHash::default();
    let (mut block, mut done, mut before) = (vec![0; BLOCK_BYTES], 0, 0);
    while done < prefix_hash.bytes {
        let most = (prefix_hash.bytes - done).min(BLOCK_BYTES as u64) as usize;
        let read = match file.read(&mut block[..most]) {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        hash.add(&block[..read]);
        if (done + 1..=done + read as u64).contains(&offset) {
            before = block[(offset - done - 1) as usize];
        }
        done += read as u64;
    }
    Ok((hash.prefix() == prefix_hash).then_some((hash, before)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_prefix_is_known_again_and_the_rest_is_added_to_it() {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        let text: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        named.write_all(&text).unwrap();
        let mut whole = HashingFile::new(File::open(named.path()).unwrap());
        whole.read_exact(&mut vec![0; 700_000]).unwrap();
        let prefix = whole.hash().prefix();
        io::copy(&mut whole, &mut io::sink()).unwrap();
        let all = whole.hash().prefix();
        assert_eq!((prefix.bytes, all.bytes), (700_000, 1_000_000));

        let position = SourcePosition { bytes: 600_000, ..SourcePosition::default() };
        let (mut resumed, before) = resume(named.path(), position, prefix).unwrap().expect("the same bytes");
        assert_eq!(before, text[599_999]);
        let mut rest = Vec::new();
        resumed.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, text[600_000..]);
        assert_eq!(resumed.hash().prefix(), all);

        let longer = PrefixHash { bytes: 1_000_001, ..all };
        assert!(resume(named.path(), position, longer).unwrap().is_none(), "there are not so many");
        named.seek(SeekFrom::Start(5)).unwrap();
        named.write_all(b"!").unwrap();
        assert!(resume(named.path(), position, prefix).unwrap().is_none(), "a byte was changed");
    }
}

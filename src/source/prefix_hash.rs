//! What the bytes of a file were: a hash of all that was read, for a later run to hold against its own.
//!
//! The hash is taken below everything else, of the bytes as they lie on the disk, so it is the same question
//! for a compressed file. It finds out what was edited, not who forges: XXH3 is no cryptographic hash.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use xxhash_rust::xxh3::Xxh3;

use crate::customer::{Place, Proof};

/// How much is hashed at a time where nothing else is done with the bytes.
const BLOCK_BYTES: usize = 256 * 1024;

/// The hash so far, asked for while the file is being read.
#[derive(Clone, Default)]
pub(super) struct Hash(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    hasher: Xxh3,
    bytes: u64,
}

impl Hash {
    /// What has been read so far.
    pub(super) fn proof(&self) -> Proof {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Proof { bytes: state.bytes, hash: state.hasher.digest128() }
    }

    fn add(&self, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.hasher.update(bytes);
        state.bytes += bytes.len() as u64;
    }
}

/// A file whose bytes are hashed as they are read.
pub(super) struct Hashed {
    file: File,
    hash: Hash,
    /// So many of the next bytes are part of the hash already.
    known: u64,
}

impl Hashed {
    /// From its beginning.
    pub(super) fn new(file: File) -> Hashed {
        Hashed { file, hash: Hash::default(), known: 0 }
    }

    /// The hash of what is read, also while somebody else reads.
    pub(super) fn hash(&self) -> Hash {
        self.hash.clone()
    }
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        let known = self.known.min(read as u64);
        self.known -= known;
        self.hash.add(&buffer[known as usize..read]);
        Ok(read)
    }
}

/// The file at the place, and the byte before it, if its first bytes are what the proof says.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn resume(path: &Path, place: Place, proof: Proof) -> io::Result<Option<(Hashed, u8)>> {
    let mut file = File::open(path)?;
    let Some((hash, before)) = check(&mut file, place.bytes, proof)? else { return Ok(None) };
    file.seek(SeekFrom::Start(place.bytes))?;
    let known = proof.bytes.saturating_sub(place.bytes);
    Ok(Some((Hashed { file, hash, known }, before)))
}

/// The hash of the first bytes, if they are what the proof says, and the byte before the place.
fn check(file: &mut File, place: u64, proof: Proof) -> io::Result<Option<(Hash, u8)>> {
    let hash = Hash::default();
    let (mut block, mut done, mut before) = (vec![0; BLOCK_BYTES], 0, 0);
    while done < proof.bytes {
        let most = (proof.bytes - done).min(BLOCK_BYTES as u64) as usize;
        let read = match file.read(&mut block[..most]) {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        hash.add(&block[..read]);
        if (done + 1..=done + read as u64).contains(&place) {
            before = block[(place - done - 1) as usize];
        }
        done += read as u64;
    }
    Ok((hash.proof() == proof).then_some((hash, before)))
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
        let mut whole = Hashed::new(File::open(named.path()).unwrap());
        whole.read_exact(&mut vec![0; 700_000]).unwrap();
        let prefix = whole.hash().proof();
        io::copy(&mut whole, &mut io::sink()).unwrap();
        let all = whole.hash().proof();
        assert_eq!((prefix.bytes, all.bytes), (700_000, 1_000_000));

        let place = Place { bytes: 600_000, ..Place::default() };
        let (mut resumed, before) = resume(named.path(), place, prefix).unwrap().expect("the same bytes");
        assert_eq!(before, text[599_999]);
        let mut rest = Vec::new();
        resumed.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, text[600_000..]);
        assert_eq!(resumed.hash().proof(), all);

        let longer = Proof { bytes: 1_000_001, ..all };
        assert!(resume(named.path(), place, longer).unwrap().is_none(), "there are not so many");
        named.seek(SeekFrom::Start(5)).unwrap();
        named.write_all(b"!").unwrap();
        assert!(resume(named.path(), place, prefix).unwrap().is_none(), "a byte was changed");
    }
}

//! A result file (`--output`), which gets its name when it is complete.
//!
//! Until then it is a temporary file in the same folder, so a full disk or a kill leaves no partial file that looks whole,
//! and an earlier file as it was. What cannot be replaced is written in place: a device, a pipe, a link that leads
//! nowhere, a file whose folder may not be written. The file is readable by its owner only: it may name customers.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
};

use crate::{error::Error, ledger::private_file};

/// What becomes of a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EarlierFile {
    /// If it has other content, it gets the first free number behind its name: the user may have corrected part of it.
    Keep,
    /// It is overwritten.
    Replace,
}

/// A result file that is being written.
pub(super) struct OutputFile {
    file: File,
    /// The path as given, or the target of a link.
    path: PathBuf,
    earlier: EarlierFile,
    /// `None` if the file is written in place.
    temporary: Option<PathBuf>,
}

impl OutputFile {
    pub(super) fn create(path: &Path, earlier: EarlierFile) -> Result<OutputFile, Error> {
        OutputFile::open(path, earlier).map_err(|error| not_written(path, error))
    }

    fn open(path: &Path, earlier: EarlierFile) -> io::Result<OutputFile> {
        let is_link = path.is_symlink();
        let can_be_replaced = path.metadata().map_or(!is_link, |data| data.is_file());
        let path = if is_link { path.canonicalize().unwrap_or(path.into()) } else { path.into() };
        if let (true, Some(temporary)) = (can_be_replaced, temporary_path(&path)) {
            match truncated(&temporary) {
                Ok(file) => return Ok(OutputFile { file, path, earlier, temporary: Some(temporary) }),
                Err(error) if error.kind() != ErrorKind::PermissionDenied || earlier == EarlierFile::Keep => {
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        Ok(OutputFile { file: truncated(&path)?, path, earlier, temporary: None })
    }

    /// Gives the file its name. Returns the new name of an earlier file that was kept.
    pub(super) fn complete(mut self) -> Result<Option<PathBuf>, Error> {
        let Some(temporary) = &self.temporary else { return Ok(None) };
        self.file.sync_all().map_err(|error| not_written(&self.path, error))?;
        let kept = match self.earlier {
            EarlierFile::Keep => keep(&self.path, temporary)?,
            EarlierFile::Replace => None,
        };
        match fs::rename(temporary, &self.path) {
            Ok(()) => self.temporary = None,
            // A file that is mounted by itself cannot be replaced.
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                fs::copy(temporary, &self.path).map_err(|error| not_written(&self.path, error))?;
            }
            Err(error) => return Err(not_written(&self.path, error)),
        }
        Ok(kept)
    }
}

impl Write for OutputFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            drop(fs::remove_file(temporary));
        }
    }
}

fn not_written(path: &Path, error: io::Error) -> Error {
    Error::Output { name: path.display().to_string(), error }
}

/// The temporary name in the same folder; `None` for a path that names no file.
fn temporary_path(path: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name()?);
    name.push(format!(".{}.new", std::process::id()));
    Some(path.with_file_name(name))
}

fn truncated(path: &Path) -> io::Result<File> {
    let file = private_file(path)?;
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Renames the file at the path with the first free number, unless it is empty or the new file has the same content.
fn keep(path: &Path, new: &Path) -> Result<Option<PathBuf>, Error> {
    let has_content = fs::metadata(path).is_ok_and(|data| data.len() > 0);
    if !has_content || have_same_content(path, new).unwrap_or(false) {
        return Ok(None);
    }
    let numbered = (1_u64..).map(|number| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    });
    let Some(free) = numbered.into_iter().find(|name| name.symlink_metadata().is_err()) else {
        return Ok(None);
    };
    fs::rename(path, &free).map_err(|error| {
        let text = format!("--output {} exists already, and cannot be renamed: {error}", path.display());
        Error::usage(text, "name another file, or give --force to replace it")
    })?;
    Ok(Some(free))
}

fn have_same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if length == 0 || left[..length] != right[..length] {
            return Ok(length == 0);
        }
        one.consume(length);
        other.consume(length);
    }
}

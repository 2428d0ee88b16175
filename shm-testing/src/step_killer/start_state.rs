//! What a set-up left in /dev/shm, put back for each point: a copy takes a tenth of the time of a process.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::point::left_in_shm;

/// The most bytes of which a copy is faster than the set-up.
const LARGEST: u64 = 256 << 10;

/// The start states of one case, by the names that they were made under.
#[derive(Debug, Default)]
pub(crate) struct StartStates(Mutex<HashMap<String, Option<Arc<StartState>>>>);

/// The files with a name in theirs. The set-up has ended when they are read, and is to leave nothing else.
#[derive(Debug)]
struct StartState(Vec<Kept>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    mode: u32,
    bytes: Vec<u8>,
}

impl StartStates {
    /// Puts back what was kept under this name; `false` if nothing was.
    pub(crate) fn put_back(&self, name: &str) -> io::Result<bool> {
        let known = self.lock().get(name).cloned().flatten();
        match known {
            Some(state) => state.put_back().map(|()| true),
            None => Ok(false),
        }
    }

    /// Keeps what a set-up has left under this name; the first time settles whether it can be.
    pub(crate) fn keep(&self, name: &str) -> io::Result<()> {
        if !self.lock().contains_key(name) {
            let state = StartState::take(name)?;
            self.lock().insert(name.to_owned(), state.map(Arc::new));
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<Arc<StartState>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StartState {
    /// Reads it; `None` if it is large, if a copy would not be the same, or if somebody else takes it away.
    fn take(name: &str) -> io::Result<Option<Self>> {
        let (mut files, mut left) = (Vec::new(), LARGEST);
        for file in left_in_shm(name)? {
            match Kept::read(PathBuf::from("/dev/shm").join(file), left) {
                Ok(Some(kept)) => {
                    left -= kept.bytes.len() as u64;
                    files.push(kept);
                }
                Ok(None) => return Ok(None),
                Err(error) => match error.kind() {
                    ErrorKind::NotFound | ErrorKind::PermissionDenied => return Ok(None),
                    _ => return Err(error),
                },
            }
        }
        Ok(Some(Self(files)))
    }

    fn put_back(&self) -> io::Result<()> {
        for kept in &self.0 {
            let mut file = File::create_new(&kept.path)?;
            file.write_all(&kept.bytes)?;
            file.set_permissions(Permissions::from_mode(kept.mode))?;
        }
        Ok(())
    }
}

impl Kept {
    /// A file of at most so many bytes, without holes, and without another name.
    fn read(path: PathBuf, most: u64) -> io::Result<Option<Self>> {
        let about = fs::symlink_metadata(&path)?;
        let has_holes = about.blocks() * 512 < about.len();
        if !about.is_file() || about.nlink() > 1 || has_holes || about.len() > most {
            return Ok(None);
        }
        Ok(Some(Self {
            mode: about.mode() & 0o7777,
            bytes: fs::read(&path)?,
            path,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::point::clean;
    use super::*;
    use crate::UniqueName;

    /// Takes away all files with its name in theirs.
    struct Files(UniqueName);

    impl Files {
        fn new() -> Self {
            Self(UniqueName::new("start-state"))
        }

        fn path(&self, end: &str) -> PathBuf {
            format!("/dev/shm/.tmp.{}.{end}", &*self.0).into()
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir(self.path("folder"));
            let _ = clean(&self.0);
        }
    }

    #[test]
    fn files_come_back_as_they_were() {
        let files = Files::new();
        let (states, name) = (StartStates::default(), &*files.0);
        assert!(!states.put_back(name).unwrap());
        fs::write(files.path("a"), [7; 5000]).unwrap();
        fs::write(files.path("b"), []).unwrap();
        fs::set_permissions(files.path("b"), Permissions::from_mode(0o620)).unwrap();
        states.keep(name).unwrap();
        fs::write(files.path("a"), [1]).unwrap();
        clean(name).unwrap();
        assert!(states.put_back(name).unwrap());
        assert_eq!(fs::read(files.path("a")).unwrap(), [7; 5000]);
        let mode = fs::metadata(files.path("b")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o620);
        assert_eq!(left_in_shm(name).unwrap().len(), 2);
    }

    #[test]
    fn what_a_copy_would_change_is_not_kept() {
        let files = Files::new();
        let name = &*files.0;
        let refused = || {
            let states = StartStates::default();
            states.keep(name).unwrap();
            assert!(!states.put_back(name).unwrap());
            clean(name).unwrap();
        };
        let hole = File::create(files.path("hole")).unwrap();
        hole.set_len(8192).unwrap();
        refused();
        fs::write(files.path("large"), vec![1; LARGEST as usize + 1]).unwrap();
        refused();
        fs::write(files.path("first"), [1]).unwrap();
        fs::hard_link(files.path("first"), files.path("second")).unwrap();
        refused();
        std::os::unix::fs::symlink(files.path("first"), files.path("link")).unwrap();
        refused();
        fs::create_dir(files.path("folder")).unwrap();
        refused();
    }
}

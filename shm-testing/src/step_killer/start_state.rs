//! What a set-up left in /dev/shm, put back for each point: a copy takes a tenth of the time of a process.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::point::left_in_shm;

/// The most bytes of which a copy is faster than the set-up.
const LARGEST: u64 = 256 << 10;

/// The files with a point's name in theirs. A set-up has ended when they are read: they are all that is left of it.
#[derive(Debug)]
pub(crate) struct StartState(Vec<Kept>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    mode: u32,
    bytes: Vec<u8>,
}

impl StartState {
    /// Reads it; `None` if it is large, or if a copy would not be the same.
    pub(crate) fn take(name: &str) -> io::Result<Option<Self>> {
        let mut files = Vec::new();
        let mut left = LARGEST;
        for file in left_in_shm(name)? {
            let path = PathBuf::from("/dev/shm").join(file);
            let about = fs::symlink_metadata(&path)?;
            let has_holes = about.blocks() * 512 < about.len();
            if !about.is_file() || about.nlink() > 1 || has_holes || about.len() > left {
                return Ok(None);
            }
            left -= about.len();
            files.push(Kept {
                mode: about.mode() & 0o7777,
                bytes: fs::read(&path)?,
                path,
            });
        }
        Ok(Some(Self(files)))
    }

    pub(crate) fn put_back(&self) -> io::Result<()> {
        for kept in &self.0 {
            let mut file = File::create_new(&kept.path)?;
            file.write_all(&kept.bytes)?;
            file.set_permissions(Permissions::from_mode(kept.mode))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::point::clean;
    use super::*;
    use crate::UniqueName;

    #[test]
    fn files_come_back_as_they_were() {
        let name = UniqueName::new("start-state");
        let path = |end: &str| format!("/dev/shm/.tmp.{}.{end}", &*name);
        fs::write(path("a"), [7; 5000]).unwrap();
        fs::write(path("b"), []).unwrap();
        fs::set_permissions(path("b"), Permissions::from_mode(0o020)).unwrap();
        let state = StartState::take(&name).unwrap().unwrap();
        fs::write(path("a"), [1]).unwrap();
        clean(&name).unwrap();
        state.put_back().unwrap();
        assert_eq!(fs::read(path("a")).unwrap(), [7; 5000]);
        assert_eq!(fs::metadata(path("b")).unwrap().mode() & 0o7777, 0o020);
        assert_eq!(left_in_shm(&name).unwrap().len(), 2);
        clean(&name).unwrap();
    }

    #[test]
    fn what_a_copy_would_change_is_not_taken() {
        let name = UniqueName::new("start-state");
        let path = |end: &str| format!("/dev/shm/{}.{end}", &*name);
        let refused = || {
            assert!(StartState::take(&name).unwrap().is_none());
            clean(&name).unwrap();
        };
        File::create(path("hole")).unwrap().set_len(8192).unwrap();
        refused();
        fs::write(path("large"), vec![1; LARGEST as usize + 1]).unwrap();
        refused();
        fs::write(path("first"), [1]).unwrap();
        fs::hard_link(path("first"), path("second")).unwrap();
        refused();
        std::os::unix::fs::symlink(path("first"), path("link")).unwrap();
        refused();
        fs::create_dir(path("folder")).unwrap();
        assert!(StartState::take(&name).unwrap().is_none());
        fs::remove_dir(path("folder")).unwrap();
        assert!(StartState::take(&name).unwrap().unwrap().0.is_empty());
    }
}

//! Taking names away: by identity, under the inode's lock, never by name alone.
//!
//! Between a look at a name and its `unlink` another process may have removed the segment and made
//! a new one of the same name. So every removal of this family takes a lock on the inode that it
//! means, and compares it with what the name refers to. A foreign `rm` knows no such lock; it can
//! still race.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::stat::FileStat;

use super::header::{FLAG_UNLINK_ON_DROP, Header, MAGIC};
use super::listing;
use super::open::read_header;
use super::place::{DIRECTORY, path_of};
use crate::error::Error;
use crate::mutants::mutant;
use crate::participant::ProcessId;
use crate::sys::file::{self, FileId};
use crate::sys::identity;

/// Removes the name of a segment, whatever lives in it, of whatever version. Mappings live on.
///
/// # Errors
/// [`Error::NotFound`], [`Error::InvalidName`], [`Error::NotASegment`] (a file of that name, but
/// not one of this family's), [`Error::ForeignOwner`], [`Error::Busy`].
pub fn unlink(name: &str) -> Result<(), Error> {
    let path = path_of(name)?;
    let file = file::open(name, &path, true)?;
    let stat = file::stat(name, &file)?;
    let me = nix::unistd::geteuid().as_raw();
    if stat.st_uid != me {
        return Err(Error::ForeignOwner {
            segment: name.to_owned(),
            owner: stat.st_uid,
            trusted: me,
        });
    }
    let mut magic = [0; 8];
    file::read_start(name, &file, &mut magic)?;
    if magic[..7] != MAGIC.to_le_bytes()[..7] {
        let why = "its first bytes are not a segment's";
        return Err(Error::NotASegment {
            segment: name.to_owned(),
            why,
        });
    }
    unlink_if(name, &path, FileId::from(&stat))
}

/// Removes a name if it refers to the file `id`.
pub(super) fn unlink_if(name: &str, path: &Path, id: FileId) -> Result<(), Error> {
    match file::id_at(name, path)? {
        None => {
            return Err(Error::NotFound {
                segment: name.to_owned(),
            });
        }
        Some(found) if found != id && !mutant("Segment::UnlinksWhateverHasTheName") => {
            return Err(Error::Replaced {
                segment: name.to_owned(),
            });
        }
        Some(_) => {}
    }
    let _lock = file::lock_inode(name, file::open(name, path, true)?)?;
    match file::id_at(name, path)? {
        Some(found) if found == id || mutant("Segment::UnlinksWhateverHasTheName") => {
            file::unlink(name, path)
        }
        Some(_) => Err(Error::Replaced {
            segment: name.to_owned(),
        }),
        None => Err(Error::NotFound {
            segment: name.to_owned(),
        }),
    }
}

/// Removes the named segments that should have gone with their creators
/// ([`Place::unlink_on_drop`](crate::Place::unlink_on_drop)) and have no living participant.
/// Gives their names.
///
/// # Errors
/// [`Error::DirectoryMissing`], [`Error::PermissionDenied`], [`Error::TooManyDescriptors`],
/// [`Error::System`]; what concerns a single name is passed over.
pub fn sweep() -> Result<Vec<String>, Error> {
    let reclaimed =
        |name: &String| path_of(name).is_ok_and(|path| reclaim(name, &path).unwrap_or(false));
    Ok(names()?.into_iter().filter(reclaimed).collect())
}

pub(super) fn names() -> Result<Vec<String>, Error> {
    file::names_in("(all)", Path::new(DIRECTORY))
}

/// Removes a name if it should have gone with its creator and nobody alive is attached; says
/// whether it is gone. An attaching process registers under the same inode lock, so that it is
/// either seen here or sees that the name is gone.
pub(super) fn reclaim(name: &str, path: &Path) -> Result<bool, Error> {
    let Ok(file) = file::open(name, path, false) else {
        return Ok(false);
    };
    let Ok(stat) = file::stat(name, &file) else {
        return Ok(false);
    };
    let Ok(header) = read_header(name, &file) else {
        return Ok(false);
    };
    let mine = stat.st_uid == nix::unistd::geteuid().as_raw();
    if !mine || header.flags & FLAG_UNLINK_ON_DROP == 0 {
        return Ok(false);
    }
    // Twice: a name that is in use is passed over without a lock, which its users may want.
    if !is_abandoned(name, &file, &stat, &header)? {
        return Ok(false);
    }
    if mutant("Segment::SweepsWithoutTheLock") {
        return file::unlink(name, path).map(|()| true);
    }
    let id = FileId::from(&stat);
    let _lock = file::lock_inode(name, file::open(name, path, true)?)?;
    if file::id_at(name, path)? != Some(id) || !is_abandoned(name, &file, &stat, &header)? {
        return Ok(false);
    }
    file::unlink(name, path).map(|()| true)
}

/// Whether nobody alive can be attached: of another boot, or without a living participant.
fn is_abandoned(
    name: &str,
    file: &OwnedFd,
    stat: &FileStat,
    header: &Header,
) -> Result<bool, Error> {
    // Another namespace's processes cannot be judged from here.
    let Ok(here) = identity::here() else {
        return Ok(false);
    };
    match header.check_origin(name, &here) {
        Ok(()) => {}
        Err(Error::OtherBoot { .. }) => return Ok(true),
        Err(_) => return Ok(false),
    }
    if header.check_sizes(name, stat.st_size as u64).is_err() {
        return Ok(false);
    }
    let segment = listing::look_into(name, file, header)?;
    // Without a table, the creator stands for all.
    let untracked = header.participants == 0;
    let creator_lives = || segment.creator().is_some_and(ProcessId::may_live);
    Ok(segment.table().living().next().is_none() && !(untracked && creator_lives()))
}

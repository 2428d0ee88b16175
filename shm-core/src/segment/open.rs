//! Opening: find, check on a private copy, attach.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use super::create::{assemble, check_region, map, null_mapping, occupy};
use super::header::{CLAIM_OFFSET, FLAG_UNLINK_ON_DROP, HEADER_SIZE, Header, mismatch};
use super::place::Origin;
use super::placement::Placement;
use super::{Backing, Place, Region, Segment, Spec};
use crate::error::{Error, Field};
use crate::layout;
use crate::mutants::mutant;
use crate::participant::ProcessId;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::file;
use crate::sys::identity;

impl Segment {
    /// Attaches to an existing segment, after checking that it is what `spec` says.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotASegment`], [`Error::Truncated`], [`Error::Mismatch`] (with
    /// the field), [`Error::OtherBoot`], [`Error::ForeignOwner`], [`Error::Corrupt`],
    /// [`Error::TooManyParticipants`], [`Error::PermissionDenied`], [`Error::InvalidName`];
    /// in a region also [`Error::NotReady`].
    pub fn open(place: impl Into<Place>, spec: impl Into<Spec>) -> Result<Self, Error> {
        open(&place.into(), &spec.into(), false)
    }

    /// Attaches without the right to write: the pages themselves are read-only. Needs only read
    /// permission, takes no participant slot.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_read_only(place: impl Into<Place>, spec: impl Into<Spec>) -> Result<Self, Error> {
        open(&place.into(), &spec.into(), true)
    }
}

pub(super) fn open(place: &Place, spec: &Spec, read_only: bool) -> Result<Segment, Error> {
    let name = place.display_name();
    let path = place.path()?;
    let spec = &spec.clone().tagged(place.type_tag.as_deref());
    let file = match (&place.origin, &path) {
        (Origin::Region(region), _) => return open_region(&name, region, spec, read_only),
        (Origin::Anonymous, _) => return Err(Error::NotFound { segment: name }),
        (Origin::Descriptor(file), _) => file
            .try_clone()
            .map_err(|error| Error::from_io(&name, "dup", error))?,
        (Origin::Inherited(number), _) => file::open_inherited(&name, *number, read_only)?,
        (_, Some(path)) => file::open(&name, path, read_only)?,
        (_, None) => return Err(Error::NotNamed { segment: name }),
    };
    if path.is_some() {
        check_owner(&name, &file, place.trusted_owner)?;
    }
    let mut segment = open_file(name, file, spec, read_only)?;
    if let Some(expected) = place.generation.filter(|&g| g != segment.generation()) {
        let field = Field::Generation;
        return Err(mismatch(
            segment.name(),
            field,
            expected,
            segment.generation(),
        ));
    }
    if let Some(inner) = Arc::get_mut(&mut segment.inner) {
        inner.path = path.as_deref().map(super::place::wherever);
    }
    attach(segment)
}

/// Registers, and makes sure that a segment that goes with its users did not go meanwhile.
fn attach(segment: Segment) -> Result<Segment, Error> {
    if segment.inner.read_only || segment.inner.header.participants == 0 {
        return Ok(segment);
    }
    let swept_by_others = segment.inner.header.flags & FLAG_UNLINK_ON_DROP != 0;
    let Some(path) = segment.path().filter(|_| swept_by_others) else {
        segment.participant()?;
        return Ok(segment);
    };
    let again = file::open(segment.name(), path, true)?;
    let id = file::FileId::from(&file::stat(segment.name(), &again)?);
    let _lock = file::lock_inode(segment.name(), again)?;
    match &*segment.inner.backing {
        Backing::File { id: mapped, .. } if *mapped == id => {}
        _ => {
            return Err(Error::NotFound {
                segment: segment.name().to_owned(),
            });
        }
    }
    if file::id_at(segment.name(), path)? != Some(id) {
        return Err(Error::NotFound {
            segment: segment.name().to_owned(),
        });
    }
    segment.participant()?;
    Ok(segment)
}

fn check_owner(name: &str, file: &OwnedFd, trusted: Option<u32>) -> Result<(), Error> {
    let owner = file::stat(name, file)?.st_uid;
    let me = nix::unistd::geteuid().as_raw();
    if owner == me || Some(owner) == trusted {
        return Ok(());
    }
    let trusted = trusted.unwrap_or(me);
    Err(Error::ForeignOwner {
        segment: name.to_owned(),
        owner,
        trusted,
    })
}

fn open_file(name: String, file: OwnedFd, spec: &Spec, read_only: bool) -> Result<Segment, Error> {
    let stat = file::stat(&name, &file)?;
    let header = read_header(&name, &file)?;
    check(&name, &header, spec, stat.st_size as u64)?;
    let (map, id) = map(&name, &file, header.total_size, read_only)?;
    let base = NonNull::new(map.as_mut_ptr()).ok_or_else(|| null_mapping(&name))?;
    let mut segment = assemble(name, base, header, Backing::File { map, file, id });
    if let Some(inner) = Arc::get_mut(&mut segment.inner) {
        inner.read_only = read_only;
    }
    Ok(segment)
}

/// The header of a file, by `pread`: no mapping, no race.
pub(super) fn read_header(name: &str, file: &OwnedFd) -> Result<Header, Error> {
    let mut bytes = [0; HEADER_SIZE];
    let got = file::read_start(name, file, &mut bytes)?;
    Header::parse(name, &bytes[..got])
}

fn check(name: &str, header: &Header, spec: &Spec, available: u64) -> Result<(), Error> {
    let here = identity::here()
        .map_err(|error| Error::from_io(name, "reading /proc/self/ns and boot_id", error))?;
    if !mutant("Header::SizesUnchecked") {
        header.check_sizes(name, available)?;
    }
    header.check_origin(name, &here)?;
    if mutant("Header::ContentsUnchecked") {
        return Ok(());
    }
    header.check_contents(name, spec)
}

fn open_region(
    name: &str,
    region: &Region,
    spec: &Spec,
    read_only: bool,
) -> Result<Segment, Error> {
    check_region(name, region, HEADER_SIZE as u64, 64)?;
    if !placement(region).is_ready() {
        return Err(not_ready(name, placement(region)));
    }
    // After `is_ready` the creator's bytes are visible.
    let bytes = copy_header(region);
    let header = Header::parse(name, &bytes)?;
    check(name, &header, spec, region.len() as u64)?;
    let backing = Backing::Region(occupy(name, region, header.total_size)?);
    let mut segment = assemble(name.to_owned(), region.start(), header, backing);
    if let Some(inner) = Arc::get_mut(&mut segment.inner) {
        inner.read_only = read_only;
    }
    attach(segment)
}

/// A private copy of the first bytes of a region that has at least HEADER_SIZE.
fn copy_header(region: &Region) -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    let from = region.start().as_ptr();
    // SAFETY:
    // - in bounds: `check_region` said so; the region keeps its memory alive;
    // - a creator at work writes atomically, word by word; any bytes are `u8`s.
    unsafe { layout::load_bytes(from, bytes.as_mut_ptr(), HEADER_SIZE) };
    bytes
}

/// The two words that creators and openers of a region share.
fn placement(region: &Region) -> Placement<'_> {
    let word = |offset: usize| {
        // SAFETY: `check_region` found HEADER_SIZE bytes there.
        let at = unsafe { region.start().add(offset) }.cast::<AtomicU64>();
        // SAFETY: aligned, as the region is to 64; alive as long as the region; an atomic word.
        unsafe { at.as_ref() }
    };
    Placement {
        magic: word(0),
        claim: word(CLAIM_OFFSET),
    }
}

/// What stands in a region where the magic should be: nothing yet, or something foreign.
fn not_ready(name: &str, placement: Placement<'_>) -> Error {
    // Relaxed: for the error's text only.
    let magic = placement.magic.load(Ordering::Relaxed);
    let claim = placement.claim.load(Ordering::Relaxed);
    if magic != 0 {
        let why = "its first eight bytes are not a segment's";
        return Error::NotASegment {
            segment: name.to_owned(),
            why,
        };
    }
    let creator = ProcessId::from_bits(claim)
        .filter(|id| id.may_live())
        .map(ProcessId::pid);
    Error::NotReady {
        segment: name.to_owned(),
        creator,
    }
}

//! Creation: built where nobody sees it, then published whole.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use memmap2::MmapOptions;
use nix::errno::Errno;

use super::header::{FLAG_UNLINK_ON_DROP, HEADER_SIZE, Header, Sizes};
use super::place::Origin;
use super::placement::Refused;
use super::region::Extent;
use super::spec::MAX_ALIGN;
use super::{Backing, Inner, Participant, Place, Region, Segment, Spec, removal};
use crate::error::Error;
use crate::fork;
use crate::layout;
use crate::mutants::mutant;
use crate::participant::ProcessId;
use crate::sys::file::{self, FileId};
use crate::sys::identity::{self, Identity};

/// Slots of the participant table where nobody says otherwise: header and table fill one page.
const PARTICIPANTS: u32 = 240;

/// How often `open_or_create` starts over while others create and remove the name under it.
const ATTEMPTS: usize = 1000;

impl Segment {
    /// Creates a segment of zeroed bytes and attaches to it.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::InvalidName`], [`Error::ZeroSize`], [`Error::TooLarge`],
    /// [`Error::StorageFull`], [`Error::PermissionDenied`], [`Error::TooManyDescriptors`];
    /// in a region [`Error::RegionTooSmall`], [`Error::Misaligned`] and [`Error::NotReady`]
    /// (another living process is creating there). Nothing is left of a creation that failed.
    ///
    /// # Peer death
    /// A creator killed at any instruction leaves nothing or the whole segment; in a region it
    /// leaves a claim that the next creator takes over.
    pub fn create(place: impl Into<Place>, spec: impl Into<Spec>) -> Result<Self, Error> {
        Self::create_with(place, spec, |_| Ok(()))
    }

    /// As [`create`](Self::create), with contents that are there before anybody else can look.
    ///
    /// # Errors
    /// As [`create`](Self::create), and what `init` returns.
    pub fn create_with(
        place: impl Into<Place>,
        spec: impl Into<Spec>,
        init: impl FnOnce(&Self) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let place = place.into();
        let spec = spec.into();
        create(&place, &spec, init)
    }

    /// Opens a segment, or creates it; whoever is first creates it, everybody gets the same one.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create`](Self::create).
    pub fn open_or_create(place: impl Into<Place>, spec: impl Into<Spec>) -> Result<Self, Error> {
        Self::open_or_create_with(place, spec, |_| Ok(()))
    }

    /// As [`open_or_create`](Self::open_or_create), with contents; `init` runs only in a creator,
    /// perhaps in one that comes second and whose work is thrown away.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create`](Self::create), and what `init` returns.
    pub fn open_or_create_with(
        place: impl Into<Place>,
        spec: impl Into<Spec>,
        init: impl Fn(&Self) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let place = place.into();
        let spec = spec.into();
        if let Origin::Anonymous = place.origin {
            return create(&place, &spec, &init);
        }
        // One that is meant cannot be made anew.
        if place.generation.is_some() {
            return super::open::open(&place, &spec, false);
        }
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match super::open::open(&place, &spec, false) {
                Err(Error::NotFound { .. } | Error::NotReady { creator: None, .. }) => {}
                Err(Error::NotReady { segment, creator }) => {
                    last = Some(Error::NotReady { segment, creator });
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    continue;
                }
                other => return other,
            }
            match create(&place, &spec, &init) {
                Err(error @ (Error::AlreadyExists { .. } | Error::NotReady { .. })) => {
                    last = Some(error);
                }
                other => return other,
            }
        }
        Err(last.unwrap_or(Error::Busy {
            segment: place.display_name(),
        }))
    }
}

fn create(
    place: &Place,
    spec: &Spec,
    init: impl FnOnce(&Segment) -> Result<(), Error>,
) -> Result<Segment, Error> {
    let name = place.display_name();
    if place.generation.is_some() {
        let what = "creating in a handle's place: it can only be opened";
        return Err(Error::Unsupported {
            segment: name,
            what,
        });
    }
    let path = place.path()?;
    let spec = &spec.clone().tagged(place.type_tag.as_deref());
    if spec.size == 0 {
        return Err(Error::ZeroSize { segment: name });
    }
    if spec.type_align > MAX_ALIGN {
        // A mapping starts at a page: where this would be aligned is chance.
        let (offset, align) = (0, spec.type_align.into());
        return Err(Error::Misaligned {
            segment: name,
            offset,
            align,
        });
    }
    let here = identity::here()
        .map_err(|error| Error::from_io(&name, "reading /proc/self/ns and boot_id", error))?;
    let participants = match &place.origin {
        Origin::Region(_) => place.participants.unwrap_or(0),
        _ => place.participants.unwrap_or(PARTICIPANTS),
    };
    let sizes =
        Sizes::of(spec, participants.max(spec.participants)).ok_or_else(|| Error::TooLarge {
            segment: name.clone(),
            requested: spec.size,
        })?;
    let segment = match &place.origin {
        Origin::Region(region) => in_region(&name, region, spec, sizes, &here, init)?,
        Origin::Anonymous => anonymous(name, place, spec, sizes, &here, init)?,
        Origin::Named(_) | Origin::File(_) => {
            let path = path.ok_or_else(|| Error::NotNamed {
                segment: name.clone(),
            })?;
            with_path(name, path, place, spec, sizes, &here, init)?
        }
        Origin::Descriptor(_) | Origin::Inherited(_) => {
            let what = "creating in a descriptor: it can only be opened";
            return Err(Error::Unsupported {
                segment: name,
                what,
            });
        }
    };
    if let Some(scope) = &place.scope {
        scope.add(&segment);
    }
    Ok(segment)
}

fn with_path(
    name: String,
    path: std::path::PathBuf,
    place: &Place,
    spec: &Spec,
    sizes: Sizes,
    here: &Identity,
    init: impl FnOnce(&Segment) -> Result<(), Error>,
) -> Result<Segment, Error> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => std::path::Path::new("."),
    };
    let file = file::unnamed_in(&name, directory, place.mode)?;
    if matches!(place.origin, Origin::File(_)) {
        file::require_local(&name, &file)?;
    }
    let early = mutant("Segment::PublishesBeforeItIsFilled");
    if early {
        file::publish(&name, &file, &path)?;
    }
    let segment = in_file(
        name.clone(),
        file,
        Some(&path),
        place,
        spec,
        sizes,
        here,
        init,
    )?;
    let publish = || file::publish(&name, backing_file(&segment), &path);
    match publish() {
        Err(Error::AlreadyExists { .. }) if early => {}
        // A name that should have gone with its creator is in the way: take it away, once.
        Err(Error::AlreadyExists { .. }) if is_out_of_the_way(&name, &path)? => publish()?,
        other => other?,
    }
    Ok(segment)
}

/// Whether a name is gone: taken away here, or by somebody else meanwhile.
fn is_out_of_the_way(name: &str, path: &std::path::Path) -> Result<bool, Error> {
    match removal::reclaim(name, path) {
        Err(Error::NotFound { .. }) => Ok(true),
        Ok(false) => Ok(file::id_at(name, path)?.is_none()),
        other => other,
    }
}

fn anonymous(
    name: String,
    place: &Place,
    spec: &Spec,
    sizes: Sizes,
    here: &Identity,
    init: impl FnOnce(&Segment) -> Result<(), Error>,
) -> Result<Segment, Error> {
    let file = file::anonymous(&name)?;
    let segment = in_file(name.clone(), file, None, place, spec, sizes, here, init)?;
    file::seal(&name, backing_file(&segment))?;
    Ok(segment)
}

/// Sizes, reserves, maps and fills a file that has no name yet, and that is to get `path`.
#[expect(
    clippy::too_many_arguments,
    reason = "one for each thing that a creation decides"
)]
fn in_file(
    name: String,
    file: std::os::fd::OwnedFd,
    path: Option<&std::path::Path>,
    place: &Place,
    spec: &Spec,
    sizes: Sizes,
    here: &Identity,
    init: impl FnOnce(&Segment) -> Result<(), Error>,
) -> Result<Segment, Error> {
    file::set_size(&name, &file, sizes.total)?;
    let reserve = if place.reserve_all {
        spec.size
    } else {
        spec.reserve
    };
    file::allocate(&name, &file, 0, sizes.payload_offset + reserve)?;
    let (map, id) = map(&name, &file, sizes.total, false)?;
    let base = NonNull::new(map.as_mut_ptr()).ok_or_else(|| null_mapping(&name))?;
    let flags = if place.unlink_on_drop {
        FLAG_UNLINK_ON_DROP
    } else {
        0
    };
    let header = Header::new(spec, sizes, here, flags);
    let mut segment = assemble(name, base, header, Backing::File { map, file, id });
    // Before `init`, which may keep a handle. Until the file has the name, an unlink by identity
    // finds another file there, or none, and leaves it.
    if let Some(inner) = std::sync::Arc::get_mut(&mut segment.inner) {
        inner.path = path.map(super::place::wherever);
        inner.owns_name = (path.is_some() && place.unlink_on_drop).then(crate::fork::stamp);
    }
    segment.store_header();
    initialise(&segment, init)?;
    if sizes.participants > 0 {
        segment.participant()?;
    }
    segment.inner.placement().publish();
    Ok(segment)
}

/// Makes the contents, and refuses a child that was forked meanwhile: the segment is its parent's to publish.
fn initialise(
    segment: &Segment,
    init: impl FnOnce(&Segment) -> Result<(), Error>,
) -> Result<(), Error> {
    let origin = fork::Origin::here();
    init(segment)?;
    match origin.is_here() {
        true => Ok(()),
        false => Err(Error::Unsupported {
            segment: segment.name().to_owned(),
            what: "going on with a creation in a child that was forked in the middle of it",
        }),
    }
}

fn in_region(
    name: &str,
    region: &Region,
    spec: &Spec,
    sizes: Sizes,
    here: &Identity,
    init: impl FnOnce(&Segment) -> Result<(), Error>,
) -> Result<Segment, Error> {
    check_region(name, region, sizes.total, spec.align)?;
    let header = Header::new(spec, sizes, here, 0);
    let segment = assemble(
        name.to_owned(),
        region.start(),
        header,
        Backing::Region(occupy(name, region, sizes.total)?),
    );
    let may_live = |bits| ProcessId::from_bits(bits).is_some_and(ProcessId::may_live);
    let placement = segment.inner.placement();
    placement
        .claim(here.process.to_bits(), may_live)
        .map_err(|refused| match refused {
            Refused::Ready => Error::AlreadyExists {
                segment: name.to_owned(),
            },
            Refused::Claimed(bits) => Error::NotReady {
                segment: name.to_owned(),
                creator: ProcessId::from_bits(bits).map(ProcessId::pid),
            },
        })?;
    let claim = Claim(&segment, fork::Origin::here());
    if mutant("Region::PublishesFirst") {
        placement.publish();
    }
    segment.clear_region();
    segment.store_header();
    initialise(&segment, init)?;
    if sizes.participants > 0 {
        segment.participant()?;
    }
    placement.publish();
    std::mem::forget(claim);
    Ok(segment)
}

/// Gives the claim of a region back when the initialisation fails or panics; not in a forked child.
struct Claim<'a>(&'a Segment, fork::Origin);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.1.is_here() || mutant("Region::KeepsTheClaimOfAFailure") {
            return;
        }
        self.0.inner.placement().give_up();
    }
}

pub(super) fn check_region(
    name: &str,
    region: &Region,
    need: u64,
    align: u32,
) -> Result<(), Error> {
    let (segment, have) = (name.to_owned(), region.len() as u64);
    if have < need {
        return Err(Error::RegionTooSmall {
            segment,
            need,
            have,
        });
    }
    let offset = region.start().as_ptr().addr() as u64;
    let align = u64::from(align);
    match offset % align {
        0 => Ok(()),
        _ => Err(Error::Misaligned {
            segment,
            offset,
            align,
        }),
    }
}

/// Takes the bytes of a region for a segment.
pub(super) fn occupy(name: &str, region: &Region, len: u64) -> Result<Extent, Error> {
    region
        .occupy(len as usize)
        .map_err(|what| Error::Unsupported {
            segment: name.to_owned(),
            what,
        })
}

pub(super) fn map(
    name: &str,
    file: &std::os::fd::OwnedFd,
    size: u64,
    read_only: bool,
) -> Result<(memmap2::MmapRaw, FileId), Error> {
    let too_large = || Error::TooLarge {
        segment: name.to_owned(),
        requested: size,
    };
    let len = usize::try_from(size).map_err(|_| too_large())?;
    let id = FileId::from(&file::stat(name, file)?);
    let mut options = MmapOptions::new();
    options.len(len);
    let map = if read_only {
        options.map_raw_read_only(file)
    } else {
        options.map_raw(file)
    };
    map.map(|map| (map, id))
        .map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOMEM | Errno::EOVERFLOW) => too_large(),
            Some(Errno::EACCES | Errno::EPERM) => Error::PermissionDenied {
                segment: name.to_owned(),
                call: "mmap",
            },
            _ => Error::System {
                segment: name.to_owned(),
                call: "mmap",
                source,
            },
        })
}

pub(super) fn null_mapping(name: &str) -> Error {
    Error::Unsupported {
        segment: name.to_owned(),
        what: "a mapping at address 0",
    }
}

pub(super) fn assemble(
    name: String,
    base: NonNull<u8>,
    header: Header,
    backing: Backing,
) -> Segment {
    Segment {
        inner: std::sync::Arc::new(Inner {
            name,
            path: None,
            base,
            header,
            read_only: false,
            owns_name: None,
            participant: Participant::default(),
            lock_words: std::sync::Mutex::default(),
            backing: ManuallyDrop::new(backing),
        }),
    }
}

fn backing_file(segment: &Segment) -> &std::os::fd::OwnedFd {
    match &*segment.inner.backing {
        Backing::File { file, .. } => file,
        Backing::Region(_) => unreachable!("only called for segments that were made in a file"),
    }
}

impl Segment {
    /// Writes everything of the header but `magic`, and not the claim, which is there already in a
    /// region and would be stored twice.
    fn store_header(&self) {
        use zerocopy::IntoBytes;
        let bytes = self.inner.header.as_bytes();
        let claim = super::header::CLAIM_OFFSET;
        self.store_raw(8, &bytes[8..claim]);
        self.store_raw(claim + 8, &bytes[claim + 8..]);
        // Relaxed: `publish` follows.
        let word = self.inner.placement().claim;
        word.store(self.inner.header.claim, crate::sync::Ordering::Relaxed);
    }

    /// Zeroes participant table and payload of a region: a dead creator may have been here.
    fn clear_region(&self) {
        const ZEROES: [u8; 4096] = [0; 4096];
        const { assert!(HEADER_SIZE.is_multiple_of(8)) };
        let header = &self.inner.header;
        let end = (header.payload_offset + header.payload_size) as usize;
        assert!(end <= header.total_size as usize, "inside the segment");
        for at in (HEADER_SIZE..end).step_by(ZEROES.len()) {
            // SAFETY: in bounds: below `end`.
            let to = unsafe { self.inner.base.add(at) };
            let len = ZEROES.len().min(end - at);
            // SAFETY:
            // - in bounds and mapped writable; a multiple of 8, as the base is aligned to more;
            // - no other writer: the region's claim is ours (INV-R1).
            unsafe { layout::store_words(to.as_ptr(), ZEROES.as_ptr(), len) };
        }
    }

    /// Stores bytes anywhere in a segment that is not published yet.
    fn store_raw(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset + bytes.len() <= self.inner.header.total_size as usize,
            "inside the segment"
        );
        // SAFETY: in bounds, as just checked.
        let to = unsafe { self.inner.base.add(offset) };
        // SAFETY:
        // - in bounds and mapped writable;
        // - no other writer: nobody else knows the file yet, or the region's claim is ours (INV-R1).
        unsafe { layout::store_bytes(to.as_ptr(), bytes.as_ptr(), bytes.len()) };
    }
}

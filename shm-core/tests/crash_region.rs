//! A region of the caller's, shared by processes: who creates in it, and what a killed creator leaves.

use std::fs::OpenOptions;
use std::ptr::NonNull;

use shm_core::{Error, Place, Region, Segment};
use shm_testing::{Child, Peer, UniqueName, peer_main, watchdog};

#[test]
fn peer() {
    peer_main(&[("creates in the region", creates as fn(&mut Peer))]);
}

fn creates(peer: &mut Peer) {
    let region = map(&peer.args()[0]);
    let _segment = Segment::create_with(region, 64, |segment| {
        segment.write(0, b"half-made")?;
        peer.say("building");
        peer.hear();
        Ok(())
    })
    .unwrap();
    peer.say("created");
    peer.hear();
}

/// A shared mapping that has nothing to do with the family.
fn map(path: &str) -> Region {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let file = file.unwrap();
    file.set_len(8192).unwrap();
    let map = memmap2::MmapOptions::new().map_raw(&file).unwrap();
    let start = NonNull::new(map.as_mut_ptr()).unwrap();
    // SAFETY: the mapping is kept by the region; its bytes are used through the family alone.
    unsafe { Region::new(start, map.len(), map) }
}

#[test]
fn a_region_is_not_ready_until_its_creator_has_finished() {
    let _watchdog = watchdog();
    let name = UniqueName::new("region");
    let path = name.path();
    let region = map(path.to_str().unwrap());
    let open = || Segment::open(region.clone(), 64);
    assert!(matches!(open(), Err(Error::NotReady { creator: None, .. })));

    let mut child = Child::spawn("creates in the region", &[path.to_str().unwrap()]);
    child.expect("building");
    let pid = child.pid();
    assert!(matches!(open(), Err(Error::NotReady { creator: Some(p), .. }) if p == pid));
    let create = Segment::create(region.clone(), 64);
    assert!(matches!(create, Err(Error::NotReady { creator: Some(p), .. }) if p == pid));
    child.tell("go on");
    child.expect("created");
    let segment = open().unwrap();
    assert!(matches!(
        Segment::create(region.clone(), 64),
        Err(Error::AlreadyExists { .. })
    ));
    let mut word = [0; 9];
    segment.read(0, &mut word).unwrap();
    assert_eq!(&word, b"half-made");
}

#[test]
fn the_claim_of_a_killed_creator_is_taken_over() {
    let _watchdog = watchdog();
    let name = UniqueName::new("claim");
    let path = name.path();
    let region = map(path.to_str().unwrap());
    let mut child = Child::spawn("creates in the region", &[path.to_str().unwrap()]);
    child.expect("building");
    child.kill_unreaped();
    assert!(matches!(
        Segment::open(region.clone(), 64),
        Err(Error::NotReady { creator: None, .. })
    ));
    let segment = Segment::open_or_create(region.clone(), 64).unwrap();
    let mut word = [1; 9];
    segment.read(0, &mut word).unwrap();
    assert_eq!(word, [0; 9], "nothing of the dead creator's work shows");
}

#[test]
fn a_creation_that_failed_gives_the_region_back() {
    let region = Region::heap(4096);
    let failed = Segment::create_with(region.clone(), 64, |segment| segment.write(64, b"x"));
    assert!(matches!(failed, Err(Error::OutOfBounds { .. })));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Segment::create_with(region.clone(), 64, |_| panic!("in the initialisation"))
    }));
    assert!(panicked.is_err());
    Segment::create(region, 64).unwrap();
}

#[test]
fn regions_too_small_or_misaligned_say_so() {
    let error = Segment::create(Region::heap(300), 64).unwrap_err();
    assert!(
        matches!(
            error,
            Error::RegionTooSmall {
                need: 320,
                have: 300,
                ..
            }
        ),
        "{error}"
    );
    let region = Region::heap(4096);
    let error = Segment::create(region.part(8, 1000).unwrap(), 64).unwrap_err();
    assert!(
        matches!(error, Error::Misaligned { align: 64, .. }),
        "{error}"
    );
    assert!(region.part(4000, 97).is_none() && region.part(usize::MAX, 2).is_none());
    let error = Segment::open(Region::heap(10), 1).unwrap_err();
    assert!(
        matches!(error, Error::RegionTooSmall { need: 256, .. }),
        "{error}"
    );
}

#[test]
fn two_segments_live_side_by_side_in_one_region() {
    let region = Region::heap(8192);
    let a = Segment::create(region.part(0, 1024).unwrap(), 64).unwrap();
    let b = Segment::create(Place::region(region.part(1024, 1024).unwrap()), 64).unwrap();
    a.write(0, &[1; 64]).unwrap();
    b.write(0, &[2; 64]).unwrap();
    let mut byte = [0];
    Segment::open(region.part(0, 1024).unwrap(), 64)
        .unwrap()
        .read(63, &mut byte)
        .unwrap();
    assert_eq!(byte, [1]);
}

#[cfg(feature = "shared_memory")]
#[test]
fn a_users_shmem_is_a_region() {
    let name = UniqueName::new("shmem");
    let create = || {
        shared_memory::ShmemConf::new()
            .os_id(&*name)
            .size(4096)
            .create()
            .unwrap()
    };
    let open = || {
        shared_memory::ShmemConf::new()
            .os_id(&*name)
            .open()
            .unwrap()
    };
    let made = Segment::create(Region::from_shmem(create()), 64).unwrap();
    let opened = Segment::open(Region::from_shmem(open()), 64).unwrap();
    made.write(0, b"through two mappings").unwrap();
    let mut text = [0; 20];
    opened.read(0, &mut text).unwrap();
    assert_eq!(&text, b"through two mappings");
}

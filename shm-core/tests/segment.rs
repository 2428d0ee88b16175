//! Named, anonymous and file-backed segments within one process; bad names, sizes and headers.

use std::os::unix::fs::{FileExt, PermissionsExt};

use shm_core::{Error, Field, Kind, Place, Scope, Segment, Spec};
use shm_testing::UniqueName as Name;

#[test]
fn what_one_handle_writes_the_other_reads() {
    let name = Name::new("share");
    let a = Segment::create(&*name, 10_000).unwrap();
    let b = Segment::open(&*name, 10_000).unwrap();
    a.write(9_990, b"0123456789").unwrap();
    let mut got = [0; 10];
    b.read(9_990, &mut got).unwrap();
    assert_eq!(&got, b"0123456789");
    assert_eq!(a.generation(), b.generation());
    assert_eq!(a.participants().len(), 2, "two attachments of this process");
    drop(b);
    assert_eq!(a.participants().len(), 1);
}

#[test]
fn accesses_outside_name_the_range() {
    let segment = Segment::create(Place::anonymous(), 100).unwrap();
    for (offset, len) in [(100, 1), (0, 101), (usize::MAX, 2), (99, 2)] {
        let error = segment.read(offset, &mut vec![0; len]).unwrap_err();
        assert!(
            matches!(error, Error::OutOfBounds { size: 100, .. }),
            "{error}"
        );
    }
    segment.read(100, &mut []).unwrap();
}

#[test]
fn create_open_and_unlink_say_what_stands_in_the_way() {
    let name = Name::new("life");
    assert!(matches!(
        Segment::open(&*name, 1),
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        shm_core::unlink(&name),
        Err(Error::NotFound { .. })
    ));
    let first = Segment::create(&*name, 64).unwrap();
    let error = Segment::create(&*name, 64).unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }) && error.to_string().contains(&*name));
    first.unlink().unwrap();
    assert!(matches!(first.unlink(), Err(Error::NotFound { .. })));
    let second = Segment::create(&*name, 64).unwrap();
    assert!(
        matches!(first.unlink(), Err(Error::Replaced { .. })),
        "the new one keeps its name"
    );
    assert_ne!(first.generation(), second.generation());
    shm_core::unlink(&name).unwrap();
}

#[test]
fn bad_names_and_sizes_are_refused_before_the_file_system_sees_them() {
    for name in ["", "a/b", "..", ".hidden", "-x", "nul\0", &"x".repeat(201)] {
        assert!(
            matches!(Segment::create(name, 64), Err(Error::InvalidName { .. })),
            "{name:?}"
        );
        assert!(
            matches!(Segment::open(name, 64), Err(Error::InvalidName { .. })),
            "{name:?}"
        );
        assert!(
            matches!(shm_core::unlink(name), Err(Error::InvalidName { .. })),
            "{name:?}"
        );
    }
    let longest = format!("{:x<200}", &*Name::new("longest"));
    Segment::create(Place::named(longest).unlink_on_drop(true), 64).unwrap();
    let name = Name::new("size");
    assert!(matches!(
        Segment::create(&*name, 0),
        Err(Error::ZeroSize { .. })
    ));
    for size in [u64::MAX, u64::MAX - 5000, i64::MAX as u64] {
        let error = Segment::create(&*name, Spec::bytes(size)).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    for place in [Place::named(&*name), Place::anonymous()] {
        let error = Segment::create(place, Spec::bytes(1 << 45)).unwrap_err();
        assert!(
            matches!(error, Error::StorageFull { need, .. } if need > 1 << 44),
            "{error}"
        );
    }
    assert!(
        matches!(Segment::open(&*name, 1), Err(Error::NotFound { .. })),
        "nothing is left"
    );
}

#[test]
fn every_header_field_that_differs_is_named() {
    let spec = || Spec::new(Kind(*b"TEST"), 3, 64).of_type::<u32>();
    let poke = |offset: u64, bytes: &[u8]| {
        let name = Name::new("poke");
        Segment::create(&*name, spec()).unwrap();
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(name.path())
            .unwrap();
        file.write_all_at(bytes, offset).unwrap();
        Segment::open(&*name, spec()).unwrap_err()
    };
    let field = |offset, bytes: &[u8]| match poke(offset, bytes) {
        Error::Mismatch { field, .. } => field,
        other => panic!("{offset}: {other}"),
    };
    assert!(matches!(poke(0, b"ELF"), Error::NotASegment { .. }));
    assert_eq!(field(8, &[9]), Field::FormatVersion);
    assert_eq!(field(12, &[0x0A, 0x0B, 0x0C, 0x0D]), Field::ByteOrder);
    assert_eq!(field(16, &[4]), Field::WordSize);
    assert_eq!(field(18, &[2]), Field::LockAbi);
    assert_eq!(field(20, b"ELSE"), Field::Kind);
    assert_eq!(field(24, &[4]), Field::KindVersion);
    assert_eq!(field(56, &[8]), Field::TypeSize);
    assert_eq!(field(64, &[8]), Field::TypeAlign);
    assert_eq!(field(72, &[0xAA, 0xBB]), Field::TypeTag);
    assert!(matches!(poke(88, &[0; 16]), Error::OtherBoot { .. }));
    assert_eq!(field(104, &[1]), Field::PidNamespace);
    assert_eq!(field(108, &[1]), Field::TimeNamespace);
    assert!(matches!(poke(32, &[0xFF; 8]), Error::Truncated { .. }));
    for (offset, name) in [
        (40, "payload_offset"),
        (48, "payload_size"),
        (68, "participants"),
    ] {
        let error = poke(offset, &[0xFF; 4]);
        assert!(
            matches!(error, Error::Corrupt { field, .. } if field == name),
            "{error}"
        );
    }
    let name = Name::new("small");
    Segment::create(&*name, Spec::new(Kind(*b"TEST"), 3, 63).of_type::<u32>()).unwrap();
    let error = Segment::open(&*name, spec()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Mismatch {
                field: Field::Size,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn files_that_are_no_segments_are_refused() {
    let name = Name::new("foreign");
    std::fs::write(name.path(), b"").unwrap();
    let open = || Segment::open(&*name, 1).unwrap_err();
    assert!(
        matches!(open(), Error::Truncated { size: 0, .. }),
        "{}",
        open()
    );
    std::fs::write(name.path(), vec![7; 9000]).unwrap();
    assert!(matches!(open(), Error::NotASegment { .. }));
    assert!(matches!(
        shm_core::unlink(&name),
        Err(Error::NotASegment { .. })
    ));
    std::fs::remove_file(name.path()).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", name.path()).unwrap();
    assert!(matches!(open(), Error::NotASegment { .. }), "{}", open());
    std::fs::remove_file(name.path()).unwrap();
    std::fs::create_dir(name.path()).unwrap();
    assert!(matches!(open(), Error::NotASegment { .. }), "{}", open());
    std::fs::remove_dir(name.path()).unwrap();

    let segment = Segment::create(&*name, 9000).unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(name.path())
        .unwrap();
    file.set_len(5000).unwrap();
    assert!(matches!(open(), Error::Truncated { size: 5000, .. }));
    file.set_len(100).unwrap();
    assert!(matches!(
        open(),
        Error::Truncated {
            size: 100,
            needed: 256,
            ..
        }
    ));
    drop(segment);
}

#[test]
fn read_only_handles_read_and_write_nothing() {
    let name = Name::new("ro");
    let writer = Segment::create(&*name, 64).unwrap();
    let reader = Segment::open_read_only(&*name, 64).unwrap();
    writer.write(0, b"seen").unwrap();
    let mut got = [0; 4];
    reader.read(0, &mut got).unwrap();
    assert_eq!(&got, b"seen");
    assert!(matches!(reader.write(0, b"x"), Err(Error::ReadOnly { .. })));
    assert!(matches!(reader.allocate(0, 1), Err(Error::ReadOnly { .. })));
    assert!(matches!(reader.participant(), Err(Error::ReadOnly { .. })));
    assert_eq!(writer.participants().len(), 1);
}

#[test]
fn the_mode_is_exactly_what_was_asked_for() {
    let name = Name::new("mode");
    let mode = |name: &Name| std::fs::metadata(name.path()).unwrap().permissions().mode() & 0o777;
    Segment::create(&*name, 64)
        .unwrap()
        .unlink()
        .unwrap_or_default();
    Segment::create(&*name, 64).unwrap();
    assert_eq!(mode(&name), 0o600);
    shm_core::unlink(&name).unwrap();
    Segment::create(Place::named(&*name).mode(0o666), 64).unwrap();
    assert_eq!(mode(&name), 0o666, "the umask does not take bits away");
}

#[test]
fn a_scope_and_an_owner_take_their_names_with_them() {
    let (a, b, c) = (
        Name::new("scope-a"),
        Name::new("scope-b"),
        Name::new("raii"),
    );
    let scope = Scope::new();
    let kept = Segment::create(scope.place(&*a), 64).unwrap();
    Segment::create(scope.place(&*b), 64).unwrap();
    assert!(
        Segment::open(&*b, 64).is_ok(),
        "lives as long as the scope, without a handle"
    );
    drop(scope);
    assert!(Segment::open(&*a, 64).is_err() && Segment::open(&*b, 64).is_err());
    kept.write(0, b"still mapped").unwrap();

    let owner = Segment::create(Place::named(&*c).unlink_on_drop(true), 64).unwrap();
    let clone = owner.clone();
    let other = Segment::open(&*c, 64).unwrap();
    drop(owner);
    assert!(Segment::open(&*c, 64).is_ok(), "a clone of the owner lives");
    drop(clone);
    assert!(
        Segment::open(&*c, 64).is_err(),
        "the last owner's handle went"
    );
    other.write(0, b"mappings live on").unwrap();
}

#[test]
fn an_owner_that_was_replaced_leaves_the_new_segment_alone() {
    let name = Name::new("replaced");
    let old = Segment::create(Place::named(&*name).unlink_on_drop(true), 64).unwrap();
    old.unlink().unwrap();
    let new = Segment::create(&*name, 64).unwrap();
    drop(old);
    assert_eq!(
        Segment::open(&*name, 64).unwrap().generation(),
        new.generation()
    );
}

#[test]
fn list_shows_what_is_there() {
    let name = Name::new("list");
    let spec = Spec::new(Kind(*b"TEST"), 1, 5000).label("for the list");
    let segment = Segment::create(&*name, spec.clone()).unwrap();
    let _second = Segment::open(&*name, spec).unwrap();
    let infos = shm_core::list().unwrap();
    let info = infos.iter().find(|info| info.name == *name).unwrap();
    assert_eq!((info.kind, &*info.label), (Kind(*b"TEST"), "for the list"));
    assert_eq!(info.size, 4096 + 5000);
    assert!(info.allocated >= info.size);
    assert_eq!(info.participants.len(), 1, "each process once");
    assert_eq!(info.creator.unwrap().pid(), std::process::id());
    assert_eq!(info.generation, segment.generation());
    assert!(info.age.as_secs() < 60 && !info.unlink_on_drop && info.mode == 0o600);
}

#[test]
fn a_handle_opens_that_very_segment_or_says_that_it_is_another() {
    let name = Name::new("handle");
    let first = Segment::create(&*name, 64).unwrap();
    let handle = first.handle().unwrap();
    assert_eq!(
        Segment::open(&handle, 64).unwrap().generation(),
        first.generation()
    );
    first.unlink().unwrap();
    for gone in [
        Segment::open(&handle, 64),
        Segment::open_or_create(&handle, 64),
    ] {
        assert!(matches!(gone, Err(Error::NotFound { .. })));
    }
    let made = Segment::create(&handle, 64);
    assert!(
        matches!(made, Err(Error::Unsupported { .. })),
        "it is not that one"
    );
    let _second = Segment::create(&*name, 64).unwrap();
    let error = Segment::open(&handle, 64).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Mismatch {
                field: Field::Generation,
                ..
            }
        ),
        "{error}"
    );
    let anonymous = Segment::create(Place::anonymous(), 64).unwrap();
    assert!(matches!(anonymous.handle(), Err(Error::NotNamed { .. })));
}

#[test]
fn an_anonymous_segment_can_neither_shrink_nor_grow() {
    let segment = Segment::create(Place::anonymous(), 64).unwrap();
    let file = std::fs::File::from(segment.inheritable_fd().unwrap());
    assert!(file.set_len(0).is_err() && file.set_len(1 << 20).is_err());
    assert!(matches!(segment.unlink(), Err(Error::NotNamed { .. })));
}

#[test]
fn a_file_holds_a_segment_too() {
    let directory = std::env::temp_dir();
    let path = directory.join(&*Name::new("file"));
    let segment = Segment::create(Place::file(&path), 64).unwrap();
    assert!(matches!(
        Segment::create(Place::file(&path), 64),
        Err(Error::AlreadyExists { .. })
    ));
    assert!(matches!(segment.handle(), Err(Error::NotNamed { .. })));
    Segment::open(Place::file(&path), 64).unwrap();
    segment.unlink().unwrap();
    let missing = directory.join("no-such-directory").join("x");
    let error = Segment::create(Place::file(&missing), 64).unwrap_err();
    assert!(matches!(error, Error::DirectoryMissing { .. }), "{error}");
    let error = Segment::open(Place::file(&missing), 64).unwrap_err();
    assert!(matches!(error, Error::DirectoryMissing { .. }), "{error}");
}

#[test]
fn open_or_create_has_one_winner_among_threads() {
    let name = Name::new("race");
    for _ in 0..50 {
        let barrier = std::sync::Barrier::new(4);
        let open = || {
            barrier.wait();
            Segment::open_or_create(&*name, 64).unwrap().generation()
        };
        let generations: Vec<u64> = std::thread::scope(|s| {
            let threads: Vec<_> = (0..4).map(|_| s.spawn(open)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(generations.iter().all(|g| *g == generations[0]));
        shm_core::unlink(&name).unwrap();
    }
}

#[test]
fn one_participant_too_many_is_refused_and_the_file_is_unharmed() {
    let name = Name::new("crowd");
    let first = Segment::create(Place::named(&*name).participants(2), 64).unwrap();
    let second = Segment::open(&*name, 64).unwrap();
    let error = Segment::open(&*name, 64).unwrap_err();
    assert!(
        matches!(error, Error::TooManyParticipants { capacity: 2, .. }),
        "{error}"
    );
    drop(second);
    Segment::open(&*name, 64).unwrap();
    drop(first);
}

#[test]
fn sparse_payloads_are_allocated_before_use() {
    let name = Name::new("sparse");
    let spec = Spec::bytes(64 << 20).reserve(4096);
    let segment = Segment::create(&*name, spec.clone()).unwrap();
    let allocated = || {
        let list = shm_core::list().unwrap();
        list.iter()
            .find(|info| info.name == *name)
            .unwrap()
            .allocated
    };
    assert!(allocated() <= 16 << 10, "{}", allocated());
    segment.allocate(32 << 20, 1 << 20).unwrap();
    assert!(allocated() >= 1 << 20);
    segment.unlink().unwrap();
    Segment::create(Place::named(&*name).reserve_all(), spec).unwrap();
    assert!(allocated() >= 64 << 20);
}

#[test]
fn a_descriptor_is_only_opened_and_only_as_far_as_it_permits() {
    let name = Name::new("permits");
    let segment = Segment::create(&*name, 64).unwrap();
    let read_only = || std::os::fd::OwnedFd::from(std::fs::File::open(name.path()).unwrap());
    let error = Segment::open(read_only(), 64).unwrap_err();
    assert!(
        matches!(error, Error::PermissionDenied { call: "mmap", .. }),
        "{error}"
    );
    Segment::open_read_only(read_only(), 64).unwrap();
    let error = Segment::create(segment.inheritable_fd().unwrap(), 64).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(matches!(
        Segment::open(Place::anonymous(), 64),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn a_name_without_tracked_participants_stays_while_its_creator_lives() {
    let name = Name::new("untracked");
    let place = Place::named(&*name).participants(0).unlink_on_drop(true);
    let segment = Segment::create(place, 64).unwrap();
    assert!(matches!(
        segment.participant(),
        Err(Error::TooManyParticipants { capacity: 0, .. })
    ));
    shm_core::sweep().unwrap();
    Segment::open(&*name, 64).unwrap();
}

#[test]
fn a_name_that_goes_while_others_create_it_is_no_error() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let name = Name::new("goes");
    let place = || Place::named(&*name).unlink_on_drop(true);
    let done = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(Segment::create(place(), 64));
                }
            });
        }
        let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
        let mut wrong = None;
        while wrong.is_none() && std::time::Instant::now() < until {
            wrong = match Segment::create(place(), 64) {
                Ok(_) | Err(Error::AlreadyExists { .. }) => None,
                Err(error) => Some(error),
            };
        }
        done.store(true, Ordering::Relaxed);
        assert!(wrong.is_none(), "{wrong:?}");
    });
}

#[test]
fn a_handle_that_the_initialisation_keeps_is_a_handle() {
    let name = Name::new("kept");
    let mut kept = None;
    let made = Segment::create_with(Place::named(&*name).unlink_on_drop(true), 64, |segment| {
        kept = Some(segment.clone());
        Ok(())
    });
    drop(made.unwrap());
    assert!(Segment::open(&*name, 64).is_ok(), "a handle is left");
    drop(kept);
    assert!(matches!(
        Segment::open(&*name, 64),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn an_inherited_fifo_is_refused_without_waiting_for_a_writer() {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    let _watchdog = shm_testing::watchdog();
    let name = Name::new("fifo");
    let mode = nix::sys::stat::Mode::S_IRWXU;
    // Not in /dev/shm, where another test's sweep would open it for writing.
    let path = std::env::temp_dir().join(&*name);
    nix::unistd::mkfifo(&path, mode).unwrap();
    let fifo = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = Segment::open_read_only(Place::inherited(fifo.as_raw_fd()), 64).unwrap_err();
    assert!(matches!(error, Error::NotASegment { .. }), "{error}");
}

#[test]
fn an_alignment_that_cannot_be_kept_is_refused_and_leaves_nothing() {
    #[repr(align(8192))]
    struct Huge;
    let name = Name::new("align");
    let spec = || {
        Spec::new(Kind(*b"TEST"), 1, 64)
            .of_type::<Huge>()
            .align(u32::MAX)
    };
    let error = Segment::create(&*name, spec()).unwrap_err();
    assert!(
        matches!(error, Error::Misaligned { align: 8192, .. }),
        "{error}"
    );
    assert!(!name.path().exists());
    let region = shm_core::Region::heap(8192).part(64, 4096).unwrap();
    let error = Segment::create(region.clone(), Spec::bytes(64).align(256)).unwrap_err();
    assert!(
        matches!(error, Error::Misaligned { align: 256, .. }),
        "{error}"
    );
    Segment::create(region, 64).unwrap();
}

/// Their bytes are a program's own under a lock, and not to be looked at beside it.
#[test]
fn a_segment_with_a_lock_in_it_is_neither_read_nor_written_plainly() {
    let spec = || shm_core::Spec::new(shm_core::Kind(*b"TEST"), 1, 64).locked();
    let init = |segment: &Segment| {
        segment.write(0, b"made")?;
        segment.read(0, &mut [0; 4])
    };
    let segment = Segment::create_with(Place::anonymous(), spec(), init).unwrap();
    let refused = |result| matches!(result, Err(Error::Unsupported { .. }));
    assert!(refused(segment.read(0, &mut [0; 4])));
    assert!(refused(segment.write(0, b"late")));
}

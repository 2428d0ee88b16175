//! What the caller's functions do in the middle of a change: panic, or fork.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use shm_core::Place;
use shm_dict::{Bytes, Dict, DictError, List, Options};
use shm_testing::{UniqueName, watchdog};

type Blobs = Dict<u64, Vec<u8>, Bytes>;

/// What a forked child does.
fn in_a_child(body: impl FnOnce()) {
    // SAFETY: the child touches nothing but the dictionary, and ends at once.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            body();
            abort();
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).unwrap();
        }
    }
}

/// A key of the shard that does not have `list`, which is under key 1.
fn key_of_the_other_shard(dict: &Blobs, list: &List<Vec<u8>, Bytes>) -> u64 {
    let impatient = dict.within(Duration::from_millis(50));
    let (inside, is_inside) = channel();
    let (found, is_found) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            list.retain(|_| {
                let _ = inside.send(());
                let _ = is_found.recv();
                true
            })
        });
        is_inside.recv().unwrap();
        let key = (2..64).find(|key| impatient.set(key, &vec![]).is_ok());
        drop(found);
        key.unwrap()
    })
}

/// The dictionary, the list in it, and what the call gave, unless it panicked.
type Outcome = (Blobs, List<Vec<u8>, Bytes>, Option<Result<(), DictError>>);

/// A list that runs out of room, so that another shard is looked at, whose owner died: `on_recovery` is called with
/// blocks allocated that nothing leads to.
fn extend_beyond(on_recovery: fn()) -> Outcome {
    let place = Place::named(&*UniqueName::new("callbacks")).unlink_on_drop(true);
    let options = Options::new().max_bytes(64 << 10).shards(2);
    let dict = Blobs::create(place, options).unwrap();
    let list: List<Vec<u8>, Bytes> = dict.child_list(&1).unwrap();
    list.push(&vec![1; 20]).unwrap();
    for key in 100..140 {
        dict.set(&key, &vec![1; 300]).unwrap();
    }
    let other = key_of_the_other_shard(&dict, &list);
    in_a_child(|| {
        let _ = dict.modify(&other, |value| {
            let _ = raise(Signal::SIGKILL);
            value
        });
    });
    dict.on_recovery(move |_| on_recovery());
    let values = (0..200).map(|i| vec![i; 400]);
    let result = catch_unwind(AssertUnwindSafe(|| list.extend(values))).ok();
    (dict, list, result)
}

#[test]
fn a_panic_in_on_recovery_leaves_no_block_behind() {
    let _watchdog = watchdog();
    let (dict, list, result) = extend_beyond(|| panic!("in on_recovery"));
    assert_eq!(result, None, "it panicked");
    dict.check().unwrap();
    assert_eq!(list.len(), Ok(1));
}

#[test]
fn a_child_forked_in_on_recovery_takes_back_none_of_its_parents_blocks() {
    let _watchdog = watchdog();
    let me = std::process::id();
    let (dict, list, result) = extend_beyond(|| {
        // SAFETY: the child goes on with the operation, which refuses, and ends below.
        if let ForkResult::Parent { child } = unsafe { fork() }.unwrap() {
            waitpid(child, None).unwrap();
        }
    });
    if std::process::id() != me {
        abort();
    }
    let result = result.expect("no panic");
    assert!(
        matches!(&result, Err(error) if error.is_full()),
        "{result:?}"
    );
    dict.check().unwrap();
    assert_eq!(list.len(), Ok(1));
}

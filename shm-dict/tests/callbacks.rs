//! What the caller's own types do in the middle of an operation: call the dictionary again when they are encoded or
//! dropped, or fork.

use std::cell::RefCell;
use std::ops::{Bound, RangeBounds};
use std::process::abort;
use std::rc::Rc;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use shm_core::{Place, Region};
use shm_dict::{CodecError, Dict, DictError, List, Options};
use shm_testing::{UniqueName, watchdog};

/// What is called when a value is dropped, or encoded and is [`CALLS`].
type Hook = Rc<dyn Fn()>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

fn call() {
    // Taken: values that come and go in the call do not call again.
    if let Ok(Some(hook)) = HOOK.try_with(|place| place.borrow_mut().take()) {
        hook();
        HOOK.set(Some(hook));
    }
}

/// A value that calls when it is dropped.
#[derive(Debug)]
struct Loud(u32);

impl Drop for Loud {
    fn drop(&mut self) {
        call();
    }
}

/// It calls when it is encoded.
const CALLS: u32 = 7;
/// It is encoded, but not decoded.
const NO_VALUE: u32 = 50;
/// It takes more room than there is.
const LARGE: u32 = 60;
/// It is not encoded.
const NOT_ENCODED: u32 = 100;

enum Fussy {}

impl shm_dict::Codec<Loud> for Fussy {
    const NAME: &'static str = "fussy";

    fn encode(value: &Loud, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match value.0 {
            CALLS => call(),
            NOT_ENCODED => return Err(CodecError::Encode("on purpose".to_owned())),
            _ => {}
        }
        out.extend_from_slice(&value.0.to_le_bytes());
        if value.0 == LARGE {
            out.resize(1 << 20, 0);
        }
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Loud, CodecError> {
        match u32::from_le_bytes(bytes[..4].try_into().unwrap()) {
            NO_VALUE => Err(CodecError::Decode("on purpose".to_owned())),
            value => Ok(Loud(value)),
        }
    }
}

type Louds = Dict<u32, Loud, Fussy>;

fn options() -> Options {
    Options::new().max_bytes(256 << 10)
}

fn dict(shards: u32) -> Louds {
    let place = Place::region(Region::heap(1 << 20));
    Dict::create(place, options().shards(shards)).unwrap()
}

fn list() -> List<Loud, Fussy> {
    List::create(Place::region(Region::heap(1 << 20)), options()).unwrap()
}

/// What `ask` gave each time that a value called while `body` ran, and whether `body` said that it failed.
fn calls<T: 'static, R>(
    ask: impl Fn() -> T + 'static,
    body: impl FnOnce() -> Result<R, DictError>,
) -> (Vec<T>, bool) {
    let gave = Rc::new(RefCell::new(Vec::new()));
    let told = Rc::clone(&gave);
    HOOK.set(Some(Rc::new(move || told.borrow_mut().push(ask()))));
    let failed = body().is_err();
    HOOK.set(None);
    (gave.take(), failed)
}

/// As [`calls`], where the call takes a lock of every shard.
fn asking(dict: &Louds, body: impl FnOnce() -> Result<(), DictError>) -> (Vec<bool>, bool) {
    let dict = dict.clone();
    let ask = move || {
        let removed: Vec<_> = (1000..1040).map(|key| dict.remove(&key)).collect();
        let reentered = removed
            .iter()
            .filter(|it| **it == Err(DictError::Reentered));
        match reentered.count() {
            0 => assert!(removed.iter().all(|it| *it == Ok(false)), "{removed:?}"),
            all => assert_eq!(all, 40, "some shards were left alone: {removed:?}"),
        }
        removed[0].is_ok()
    };
    calls(ask, body)
}

#[test]
fn what_is_compared_is_encoded_before_the_lock_is_taken() {
    let dict = dict(4);
    dict.set(&1, &Loud(CALLS)).unwrap();
    let (calls, other) = (Loud(CALLS), Loud(2));
    let swap = |expected: Option<&Loud>, new: Option<&Loud>| {
        let mut swapped = false;
        let swap = || dict.compare_and_swap(&1, expected, new);
        let told = asking(&dict, || swap().map(|it| swapped = it.is_ok()));
        (told.0, swapped)
    };
    assert_eq!(swap(Some(&calls), Some(&other)), (vec![true], true));
    // The new value only if it is going to be stored: under the lock.
    assert_eq!(swap(Some(&other), Some(&calls)), (vec![false], true));
    assert_eq!(swap(Some(&calls), None), (vec![true], true));
    assert_eq!(swap(None, Some(&other)), (vec![], true));
    assert_eq!(dict.check().unwrap().entries, 1);
}

#[test]
fn values_of_the_callers_are_dropped_when_the_lock_is_given_back() {
    let dict = dict(4);
    dict.set(&1, &Loud(1)).unwrap();
    dict.set(&2, &Loud(NO_VALUE)).unwrap();
    let (large, no_value) = (Loud(LARGE), Loud(NOT_ENCODED));
    let once = (vec![true], true);
    let twice = (vec![true, true], false);
    assert_eq!(
        asking(&dict, || dict.setdefault(&1, Loud(3)).map(drop)),
        twice,
        "the default, and what was given"
    );
    assert_eq!(
        asking(&dict, || dict.setdefault(&9, Loud(LARGE)).map(drop)),
        once
    );
    assert_eq!(
        asking(&dict, || dict.entry(&1).or_insert(Loud(3)).map(drop)),
        twice,
        "likewise"
    );
    assert_eq!(
        asking(&dict, || dict.entry(&9).or_insert(Loud(LARGE)).map(drop)),
        once
    );
    assert_eq!(
        asking(&dict, || dict.insert(&1, &no_value).map(drop)),
        once,
        "what was there before"
    );
    let captured = Loud(4);
    let unused = || dict.with(&9, move |_| drop(captured)).map(drop);
    assert_eq!(asking(&dict, unused), (vec![true], false));
    let captured = Loud(4);
    let unused = || {
        let modified = dict.modify(&2, move |_| Some(captured));
        modified.map(drop)
    };
    assert_eq!(asking(&dict, unused), once);
    // What was there before goes in the function; what it gave, afterwards.
    let modified = || {
        dict.modify(&1, |before| Some(Loud(before.map_or(0, |_| NOT_ENCODED))))
            .map(drop)
    };
    assert_eq!(asking(&dict, modified), (vec![false, true], true));
    let full = || {
        let result = dict.transaction(&[&1], |keys| {
            keys.set(&1, &large)?;
            Ok::<_, DictError>(Loud(5))
        });
        assert!(result.as_ref().is_err_and(DictError::is_full), "{result:?}");
        result.map(drop)
    };
    assert_eq!(asking(&dict, full), once);
    assert_eq!(dict.check().unwrap().entries, 2);
}

/// An error of the caller's, whose making calls.
#[derive(Debug)]
struct LoudError;

impl From<DictError> for LoudError {
    fn from(_: DictError) -> Self {
        call();
        Self
    }
}

#[test]
fn an_error_of_the_callers_is_made_when_the_locks_are_given_back() {
    let dict = dict(4);
    let large = Loud(LARGE);
    let full = || {
        let result = dict.transaction(&[&1], |keys| {
            keys.set(&1, &large)?;
            Ok::<_, LoudError>(())
        });
        assert!(result.is_err());
        Ok(())
    };
    assert_eq!(asking(&dict, full), (vec![true], false));
}

/// The range of a caller, who asks the list for it.
struct Asking;

impl RangeBounds<usize> for Asking {
    fn start_bound(&self) -> Bound<&usize> {
        call();
        Bound::Unbounded
    }

    fn end_bound(&self) -> Bound<&usize> {
        call();
        Bound::Unbounded
    }
}

#[test]
fn values_of_a_lists_caller_are_dropped_when_the_lock_is_given_back() {
    let list = list();
    // Nothing takes more room than a longer array.
    while list.push(&Loud(1)).is_ok() {}
    let asking = |body: &dyn Fn() -> Result<(), DictError>| {
        let list = list.clone();
        calls(move || list.clear().is_ok(), body)
    };
    let no_room = |result: Result<Loud, DictError>| {
        assert!(result.as_ref().is_err_and(DictError::is_full), "{result:?}");
        result.map(drop)
    };
    let once = (vec![true], true);
    assert_eq!(asking(&|| no_room(list.pop_at(1))), once);
    list.extend([Loud(1), Loud(NO_VALUE)]).unwrap();
    let large = || list.modify(0, |value| Loud(value.0 * LARGE));
    assert_eq!(
        asking(&|| no_room(large())),
        (vec![false, true], true),
        "the old one in the function, the new one afterwards"
    );
    list.extend([Loud(1), Loud(NO_VALUE)]).unwrap();
    let unused = || {
        let captured = Loud(4);
        list.modify(5, move |_| captured).map(drop)
    };
    assert_eq!(asking(&unused), once);
    list.extend([Loud(NO_VALUE)]).unwrap();
    let unused = || {
        let captured = Loud(4);
        list.sort_by(move |a, b| Some(a.0.cmp(&captured.0).then(b.0.cmp(&captured.0))))
    };
    assert_eq!(asking(&unused), once);
    let values: [Loud; 0] = [];
    let asked = asking(&|| list.splice(Asking, &values));
    assert!(asked.0.iter().all(|gave| *gave), "{asked:?}");
}

/// Lets a thread die with all locks.
fn orphan(dict: &Louds) {
    let dict = dict.clone();
    let dies = move || std::mem::forget(dict.lock().unwrap());
    std::thread::spawn(dies).join().unwrap();
}

#[test]
fn what_is_told_of_a_repair_is_inside_until_it_is_dropped() {
    let dict = dict(4);
    orphan(&dict);
    let (captured, other) = (Loud(1), dict.clone());
    dict.on_recovery(move |_| {
        let _ = &captured;
        // The one that runs is the last to have it now.
        other.on_recovery(|_| {});
    });
    assert_eq!(asking(&dict, || dict.repair()), (vec![false], false));
}

#[test]
fn what_is_told_of_repairs_may_be_replaced_as_it_is_dropped() {
    let _watchdog = watchdog();
    let dict = dict(1);
    let captured = Loud(1);
    dict.on_recovery(move |_| {
        let _ = &captured;
    });
    let other = dict.clone();
    let replaced = calls(
        move || other.on_recovery(|_| {}),
        || {
            dict.on_recovery(|_| {});
            Ok(())
        },
    );
    assert_eq!(replaced, (vec![()], false));
}

#[test]
fn a_child_forked_as_a_value_is_dropped_takes_nothing_out() {
    let _watchdog = watchdog();
    let me = std::process::id();
    let place = Place::named(&*UniqueName::new("drop-forks")).unlink_on_drop(true);
    let dict = Louds::create(place, options().shards(1)).unwrap();
    dict.set(&1, &Loud(1)).unwrap();
    let forks = || {
        // SAFETY: the child goes on with the operation, which refuses, and ends below.
        if let ForkResult::Parent { child } = unsafe { fork() }.unwrap() {
            waitpid(child, None).unwrap();
        }
    };
    let retained = calls(forks, || dict.retain(|_, _| false));
    if std::process::id() != me {
        abort();
    }
    assert_eq!(retained, (vec![()], false));
    assert_eq!(dict.check().unwrap().entries, 0);
}

//! What a sequence value promises to the living.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use shm_core::{Error, Field, Region};
use shm_testing::{Child, Peer, UniqueName, peer_main, wait_until, watchdog};
use shm_value::{SeqValue, Value, ValueError};

#[test]
fn peer() {
    peer_main(&[("follows", follows as fn(&mut Peer))]);
}

/// Says each value that it is woken for, until there is a zero.
fn follows(peer: &mut Peer) {
    let [name, how] = peer.args() else {
        panic!("a name and a way")
    };
    let value = match how.as_str() {
        "read-only" => SeqValue::<u64>::open_read_only(name),
        _ => SeqValue::<u64>::open(name),
    };
    let value = value.unwrap();
    let mut seen = value.get_with_version();
    while seen.0 != 0 {
        peer.say(&seen.0.to_string());
        seen = value.wait_for_change(seen.1);
    }
    peer.say("end");
}

#[test]
fn those_who_wait_in_other_processes_see_each_change() {
    let _watchdog = watchdog();
    let name = UniqueName::new("seq-follow");
    let value = SeqValue::create(&*name, 1_u64).unwrap();
    let mut followers = ["read-only", "writable", "writable"].map(|how| {
        let mut follower = Child::spawn("follows", &[&name, how]);
        follower.expect("1");
        follower
    });
    assert!(wait_until(|| value.waiters() > 0, Duration::from_secs(20)));
    for n in 2..50_u64 {
        value.set(n).unwrap();
        for follower in &mut followers {
            follower.expect(&n.to_string());
        }
    }
    value.set(0).unwrap();
    for follower in &mut followers {
        follower.expect("end");
    }
}

/// Not by the end of their slices: after the commit nobody sleeps.
#[test]
fn a_commit_wakes_those_who_wait() {
    let _watchdog = watchdog();
    let value = SeqValue::create(Region::heap(4096), 0_u32).unwrap();
    let mut missed = false;
    for n in 1..=8 {
        std::thread::scope(|s| {
            let waiters = [0, 1].map(|_| s.spawn(|| value.wait_for_change(n - 1)));
            while value.waiters() != 2 && waiters.iter().all(|waiter| !waiter.is_finished()) {}
            value.set(n as u32).unwrap();
            missed |= value.waiters() != 0;
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), (n as u32, n));
            }
        });
    }
    assert!(!missed, "somebody slept on");
}

#[test]
fn a_wait_ends_at_once_or_in_time() {
    let value = SeqValue::create(Region::heap(4096), 1_u32).unwrap();
    assert_eq!(value.wait_for_change(7), (1, 0), "another than that");
    let begin = Instant::now();
    let limit = Duration::from_millis(20);
    let waited = value.wait_for_change_timeout(0, limit);
    assert_eq!(waited, Err(ValueError::Timeout));
    assert!(begin.elapsed() >= limit);
    let waited = value.wait_for_change_deadline(0, begin);
    assert_eq!(waited, Err(ValueError::Timeout));
    value.set(2).unwrap();
    assert_eq!(value.wait_for_change_timeout(0, limit), Ok((2, 1)));
    assert_eq!(value.wait_for_change_deadline(0, begin), Ok((2, 1)));
}

#[test]
fn a_read_only_attachment_reads_and_waits_and_cannot_write() {
    let name = UniqueName::new("seq-ro");
    let value = SeqValue::create(&*name, [1_u8; 3]).unwrap();
    let reader = SeqValue::<[u8; 3]>::open_read_only(&*name).unwrap();
    value.set([2; 3]).unwrap();
    assert_eq!(reader.get_with_version(), ([2; 3], 1));
    assert_eq!(reader.set([0; 3]), Err(ValueError::ReadOnly));
    assert_eq!(reader.update(|_| ()), Err(ValueError::ReadOnly));
    assert!(matches!(reader.lock(), Err(ValueError::ReadOnly)));
    assert!(matches!(reader.try_lock(), Err(ValueError::ReadOnly)));
    let waited = reader.wait_for_change_timeout(1, Duration::from_millis(5));
    assert_eq!(waited, Err(ValueError::Timeout));
    assert_eq!(reader.wait_for_change(0), ([2; 3], 1));
}

#[test]
fn readers_go_on_inside_an_update_and_a_second_writer_is_refused() {
    let value = SeqValue::create(Region::heap(4096), 1_u32).unwrap();
    value
        .update(|v| {
            *v = 2;
            assert_eq!(value.get(), 1);
            assert_eq!(value.set(3), Err(ValueError::Deadlock));
        })
        .unwrap();
    assert_eq!(value.get(), 2);
    let guard = value.lock().unwrap();
    drop(guard);
    assert_eq!(value.version(), 1, "nothing was touched");
    let mut guard = value.lock().unwrap();
    *guard = 9;
    guard.discard();
    assert_eq!(value.get_with_version(), (2, 1));
}

#[test]
fn a_panic_discards_the_change() {
    let value = SeqValue::create(Region::heap(4096), 1_u32).unwrap();
    for guarded in [true, false] {
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if guarded {
                *value.lock().unwrap() = 2;
                let mut guard = value.lock().unwrap();
                *guard = 3;
                panic!("with the guard");
            }
            value.update(|v| {
                *v = 3;
                panic!("in the update");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(value.get_with_version(), (2, 1));
    }
    assert_eq!(value.set(4), Ok(()), "the lock is free");
}

#[test]
fn another_type_or_kind_is_refused() {
    let name = UniqueName::new("seq-type");
    let _value = SeqValue::create(&*name, [1_u32; 2]).unwrap();
    let field = |error| match error {
        Error::Mismatch { field, .. } => field,
        other => panic!("{other}"),
    };
    let other = SeqValue::<u64>::open(&*name).unwrap_err();
    assert_eq!(field(other), Field::TypeAlign);
    let other = SeqValue::<[i32; 2]>::open_read_only(&*name).unwrap_err();
    assert_eq!(field(other), Field::TypeTag);
    let other = Value::<[u32; 2]>::open(&*name).unwrap_err();
    assert_eq!(field(other), Field::Kind);
}

#[test]
fn a_region_of_the_stated_size_holds_it() {
    fn fits<T>(value: T)
    where
        T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::KnownLayout,
        T: Copy + PartialEq + std::fmt::Debug + Send + Sync + 'static,
    {
        let region = Region::heap(SeqValue::<T>::REGION_SIZE);
        let first = SeqValue::create(region.clone(), value).unwrap();
        let second = SeqValue::<T>::open(region).unwrap();
        for n in 1..9 {
            first.set(value).unwrap();
            assert_eq!(second.get_with_version(), (value, n));
        }
    }
    fits(7_u8);
    fits([1_u16, 2, 3]);
    fits(u128::MAX / 3);
    fits([5_u64; 100]);
    fits(());
}

#[derive(Debug, Clone)]
enum Op {
    Get,
    Set(u32),
    Update(u32),
    Guard(u32, bool),
    Wait(u64),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        Just(Op::Get),
        any::<u32>().prop_map(Op::Set),
        any::<u32>().prop_map(Op::Update),
        any::<(u32, bool)>().prop_map(|(n, discard)| Op::Guard(n, discard)),
        (0..9_u64).prop_map(Op::Wait),
        Just(Op::Reopen),
    ]
}

proptest! {
    /// Random operations through two handles against a pair of a value and a number.
    #[test]
    fn matches_a_counted_variable(ops in prop::collection::vec(op(), 0..60)) {
        let region = Region::heap(SeqValue::<[u32; 3]>::REGION_SIZE);
        let first = SeqValue::create(region.clone(), [0; 3]).unwrap();
        let mut second = SeqValue::<[u32; 3]>::open(region.clone()).unwrap();
        let mut model = ([0; 3], 0_u64);
        for (n, op) in ops.into_iter().enumerate() {
            let value = if n % 2 == 0 { &first } else { &second };
            match op {
                Op::Get => prop_assert_eq!(value.get(), model.0),
                Op::Set(n) => {
                    value.set([n; 3]).unwrap();
                    model = ([n; 3], model.1 + 1);
                }
                Op::Update(n) => {
                    let old = value.update(|v| std::mem::replace(&mut v[1], n));
                    prop_assert_eq!(old, Ok(model.0[1]));
                    model.0[1] = n;
                    model.1 += 1;
                }
                Op::Guard(n, discard) => {
                    let mut guard = value.lock().unwrap();
                    guard[2] = n;
                    if discard {
                        guard.discard();
                    } else {
                        drop(guard);
                        model.0[2] = n;
                        model.1 += 1;
                    }
                }
                Op::Wait(back) => {
                    let since = model.1.wrapping_sub(back);
                    let expected = if back == 0 { Err(ValueError::Timeout) } else { Ok(model) };
                    prop_assert_eq!(value.wait_for_change_timeout(since, Duration::ZERO), expected);
                }
                Op::Reopen => second = SeqValue::open(region.clone()).unwrap(),
            }
            prop_assert_eq!(first.get_with_version(), model);
            prop_assert_eq!(second.version(), model.1);
        }
    }
}

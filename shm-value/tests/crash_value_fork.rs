//! A child that is forked with a guard, and takes the lock itself once its parent has given it back.

use shm_core::{Place, ProcessId};
use shm_testing::{Child, Peer, fork_with, peer_main, watchdog};
use shm_value::{Array, Item, ShareableList, Value, ValueError};

#[test]
fn peer() {
    peer_main(&[
        ("value", value as fn(&mut Peer)),
        ("array", array),
        ("list", list),
    ]);
}

fn value(peer: &mut Peer) {
    let value = Value::create(Place::anonymous(), 1_u32).unwrap();
    let mut guard = value.lock().unwrap();
    *guard = 2;
    fork_with(guard, |inherited| {
        let mut own = value.lock().unwrap();
        assert_eq!(*own, 2);
        *own = 3;
        drop(own);
        let own = value.lock().unwrap();
        drop(inherited);
        assert_eq!(value.inspect().owner, Some(ProcessId::current()));
        drop(own);
    });
    assert_eq!(
        value.get(),
        Ok(3),
        "the child's copy of the parent's change is none"
    );
    peer.say("done");
}

fn array(peer: &mut Peer) {
    let array = Array::create(Place::anonymous(), &[1_u32, 2]).unwrap();
    fork_with(array.lock().unwrap(), |inherited| {
        let own = array.lock().unwrap();
        drop(inherited);
        assert_eq!(array.inspect().owner, Some(ProcessId::current()));
        drop(own);
        assert_eq!(array.inspect().owner, None);
    });
    peer.say("done");
}

fn list(peer: &mut Peer) {
    let list = ShareableList::create(Place::anonymous(), &[Item::Int(1)]).unwrap();
    fork_with(list.lock().unwrap(), |inherited| {
        let own = list.lock().unwrap();
        assert_eq!(inherited.set(0, 2), Err(ValueError::WouldBlock));
        drop(inherited);
        own.set(0, 3).unwrap();
        assert_eq!(list.inspect().owner, Some(ProcessId::current()));
        drop(own);
    });
    assert_eq!(list.get(0), Ok(Item::Int(3)));
    peer.say("done");
}

#[test]
fn a_guard_that_a_child_inherits_changes_and_unlocks_nothing_that_the_child_has_locked() {
    let _watchdog = watchdog();
    for guard in ["value", "array", "list"] {
        Child::spawn(guard, &[]).expect("done");
    }
}

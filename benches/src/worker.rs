//! What the child processes do.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use crate::arena::Arena;
use crate::clock::now;
use crate::company;
use crate::control::{Control, Slot, Task};
use crate::dicts;
use crate::process::{Janitor, Role, Ties, die_with, pin};
use crate::variants::{ALL, Contender, Former, Hold, Site};

/// How long a holder stays in a long critical section.
pub const SECTION: Duration = Duration::from_micros(50);

/// Slots of a holder that is going to be killed, and of the waiter that is going to own its lock.
pub const HOLDER: usize = 0;
/// See [`HOLDER`].
pub const WAITER: usize = 1;

/// The site of the contender of that number in the run of that name.
#[must_use]
pub fn site(arena: &Arena, run: &str, contender: usize) -> Site {
    Site {
        page: arena.page(contender),
        name: format!("{run}{contender}"),
    }
}

/// Plays a role until it is over.
///
/// # Errors
///
/// What the system or the contender says; the parent sees it by the child's end.
pub fn play(role: Role) -> io::Result<()> {
    match role {
        Role::Worker { ties, slot } => {
            let arena = tie(&ties)?;
            follow(&arena, &ties.run, slot, slot).map(|never| match never {})
        }
        Role::Host {
            ties,
            first,
            threads,
        } => {
            let arena = &tie(&ties)?;
            let run = &ties.run;
            thread::scope(|scope| {
                for number in 0..threads {
                    scope.spawn(move || {
                        let Err(error) = follow(arena, run, first + number, number);
                        // The others would go on waiting for orders: the parent must see the end of all.
                        eprintln!("thread {number}: {error}");
                        std::process::exit(1);
                    });
                }
            });
            Ok(())
        }
        Role::Seats {
            ties,
            suite,
            section,
            first,
            threads,
        } => {
            let section = suite.section(&section)?;
            company::sit(&tie(&ties)?, &ties.run, &section, first, threads)
        }
        Role::Holder { ties, contender } => {
            let arena = tie(&ties)?;
            pin(HOLDER)?;
            hold_for_ever(
                arena.control(),
                open(&arena, &ties.run, contender)?.as_ref(),
            )
        }
        Role::Waiter { ties, contender } => {
            let arena = tie(&ties)?;
            pin(WAITER)?;
            wait_for_it(
                arena.control(),
                open(&arena, &ties.run, contender)?.as_ref(),
            )
        }
        Role::DictWriter { parent, dict } => {
            die_with(parent)?;
            dicts::hold_for_ever(&dict)
        }
        Role::Janitor { run } => Janitor::work(&run),
    }
}

fn tie(ties: &Ties) -> io::Result<Arena> {
    die_with(ties.parent)?;
    Arena::attach(ties.parent, ties.arena)
}

fn open(arena: &Arena, run: &str, contender: usize) -> io::Result<Box<dyn Contender>> {
    let entry = ALL
        .get(contender)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    (entry.open)(&site(arena, run, contender))
}

fn lock_of(contender: &dyn Contender) -> io::Result<&dyn Hold> {
    contender
        .lock()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Follows orders for ever; the end comes from outside.
fn follow(arena: &Arena, run: &str, slot: usize, processor: usize) -> io::Result<Infallible> {
    pin(processor)?;
    let control = arena.control();
    let mine = control.slot(slot);
    let mut opened: Vec<Option<Box<dyn Contender>>> = ALL.iter().map(|_| None).collect();
    let mut last = 0;
    loop {
        let order = control.take(slot, &mut last);
        let number = usize::from(order.contender);
        let contender = match opened.get_mut(number) {
            Some(Some(contender)) => &*contender,
            Some(empty) => empty.insert(open(arena, run, number)?),
            None => return Err(io::ErrorKind::InvalidInput.into()),
        };
        match order.task {
            // Relaxed, here and below: orders and answers publish the slots.
            Task::Set => contender.set(mine.value.load(Relaxed)),
            Task::Get => mine.value.store(contender.get(), Relaxed),
            Task::Count => {
                mine.began.store(now(), Relaxed);
                mine.operations
                    .store(contender.count(&control.stop), Relaxed);
            }
            Task::CountCalls => return Err(io::ErrorKind::InvalidInput.into()),
            Task::Hold => hold_again_and_again(control, mine, lock_of(contender.as_ref())?),
        }
        control.answer();
    }
}

/// Long critical sections, the lock asked for again at once. The wait that `stop` found open counts too: it ends with a turn.
fn hold_again_and_again(control: &Control, mine: &Slot, lock: &dyn Hold) {
    let section = SECTION.as_nanos() as u64;
    let (mut operations, mut longest_wait) = (0, 0);
    mine.began.store(now(), Relaxed);
    while !control.stopped() {
        let asked = now();
        lock.hold(&mut |_| {
            let granted = now();
            longest_wait = longest_wait.max(granted - asked);
            while now() - granted < section {
                std::hint::spin_loop();
            }
        });
        operations += 1;
    }
    mine.operations.store(operations, Relaxed);
    mine.longest_wait.store(longest_wait, Relaxed);
}

fn hold_for_ever(control: &Control, contender: &dyn Contender) -> io::Result<()> {
    lock_of(contender)?.hold(&mut |_| {
        control.answer();
        loop {
            thread::park();
        }
    });
    Ok(())
}

fn wait_for_it(control: &Control, contender: &dyn Contender) -> io::Result<()> {
    let mine = control.slot(WAITER);
    let lock = lock_of(contender)?;
    // From here to the lock this process does not sleep: the parent takes its next sleep for the wait.
    mine.began.store(now(), Relaxed);
    let mut former = Former::Left;
    lock.hold(&mut |left| {
        mine.ended.store(now(), Relaxed);
        former = left;
    });
    mine.value.store(u64::from(former == Former::Died), Relaxed);
    control.answer();
    Ok(())
}

//! A user of shm-lock alone: one mutex, two processes that take turns, one that dies holding it; then a day
//! of work for two processes with the rest of the family, and one that dies with a permit.

use std::process::Command;
use std::time::Duration;

use shm_lock::{
    Barrier, BoundedSemaphore, Condvar, Event, LockError, Mutex, Once, OnceValue, Place,
    ReentrantMutex, RobustSemaphore, RwLock, Semaphore,
};

type Anything = Result<(), Box<dyn std::error::Error>>;

const ROUNDS: u64 = 10_000;

fn main() -> Anything {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [] => {
            let name = format!("consumer-lock-{}", std::process::id());
            parent(&name)?;
            day(&name)
        }
        [role, name] if role == "work" => work(name),
        [role, name] if role == "die with a permit" => die_with_a_permit(name),
        [role, name] if role == "count" => count(name),
        [role, name] if role == "die" => die(name),
        other => Err(format!("arguments {other:?}").into()),
    }
}

fn parent(name: &str) -> Anything {
    let me = std::env::current_exe()?;
    let counter = Mutex::create(Place::named(name).unlink_on_drop(true), 0_u64)?;
    let counting = [(); 2].map(|()| Command::new(&me).args(["count", name]).spawn());
    for child in counting {
        let status = child?.wait()?;
        assert!(status.success(), "{status}");
    }
    println!("two processes counted to {}", *counter.lock().unwrap());

    let status = Command::new(&me).args(["die", name]).status()?;
    assert!(!status.success(), "{status}");
    match counter.lock() {
        Err(LockError::OwnerDied(recover)) => {
            println!("the owner died and left {}", *recover);
            let counter = recover.repair(|count| *count = 2 * ROUNDS);
            println!("repaired: {}", *counter);
        }
        other => return Err(format!("{other:?}").into()),
    }
    println!("and again: {}", *counter.lock().unwrap());
    Ok(())
}

fn count(name: &str) -> Anything {
    let counter = Mutex::<u64>::open(name)?;
    for _ in 0..ROUNDS {
        *counter.lock().unwrap() += 1;
    }
    Ok(())
}

fn die(name: &str) -> Anything {
    let counter = Mutex::<u64>::open(name)?;
    let mut held = counter.lock().unwrap();
    *held = 0;
    std::process::abort()
}

const LONG: Duration = Duration::from_secs(10);

/// What two workers share, by the names that begin alike.
struct Office {
    start: Barrier,
    rate: OnceValue<u64>,
    desk: RobustSemaphore,
    sheets: Semaphore,
    pens: BoundedSemaphore,
    board: RwLock<[u64; 2]>,
    report: ReentrantMutex<u64>,
    finished: Mutex<u64>,
    one_more: Condvar,
    opened: Once,
    closed: Event,
}

impl Office {
    fn new(prefix: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let place = |what| Place::named(format!("{prefix}-{what}")).unlink_on_drop(true);
        Ok(Self {
            start: Barrier::open_or_create(place("start"), 2)?,
            rate: OnceValue::open_or_create(place("rate"))?,
            desk: RobustSemaphore::open_or_create(place("desk"), 1)?,
            sheets: Semaphore::open_or_create(place("sheets"), 0)?,
            pens: BoundedSemaphore::open_or_create(place("pens"), 2)?,
            board: RwLock::open_or_create(place("board"), [0; 2])?,
            report: ReentrantMutex::open_or_create(place("report"), 0)?,
            finished: Mutex::open_or_create(place("finished"), 0)?,
            one_more: Condvar::open_or_create(place("one-more"))?,
            opened: Once::open_or_create(place("opened"))?,
            closed: Event::open_or_create(place("closed"))?,
        })
    }
}

fn day(prefix: &str) -> Anything {
    let office = Office::new(prefix)?;
    let me = std::env::current_exe()?;
    let workers = [(); 2].map(|()| Command::new(&me).args(["work", prefix]).spawn());
    office.sheets.release(2)?;

    let all_but = |finished: &mut u64| *finished < 2;
    let (finished, waited) = office
        .one_more
        .wait_timeout_while(office.finished.lock().unwrap(), LONG, all_but)
        .unwrap();
    println!("finished: {}, in time: {}", *finished, !waited.timed_out());
    println!("the board: {:?}", *office.board.read()?);
    office.closed.set();
    for worker in workers {
        let status = worker?.wait()?;
        assert!(status.success(), "{status}");
    }
    println!("sheets left: {}", office.sheets.inspect().permits);

    let status = Command::new(&me)
        .args(["die with a permit", prefix])
        .status()?;
    assert!(!status.success(), "{status}");
    let desk = office.desk.acquire_timeout(LONG)?;
    println!("the desk of the dead: {}", desk.dead_holder().is_some());
    Ok(())
}

fn work(prefix: &str) -> Anything {
    let office = Office::new(prefix)?;
    let number = office.start.wait_timeout(LONG)?.index();
    office.opened.call_once(|| println!("opened"))?;
    office.sheets.acquire().forget();
    {
        let _pen = office.pens.acquire();
        let _desk = office.desk.acquire()?;
        let rate = *office.rate.get_or_init(|| 7)?;
        office.board.write().unwrap()[number as usize] = rate;
        let _report = office.report.lock().unwrap();
        assert_eq!(office.report.lock().unwrap().depth(), 2);
    }
    *office.finished.lock().unwrap() += 1;
    office.one_more.notify_one();
    assert!(office.closed.wait_timeout(LONG));
    Ok(())
}

fn die_with_a_permit(prefix: &str) -> Anything {
    let office = Office::new(prefix)?;
    let _desk = office.desk.acquire()?;
    std::process::abort()
}

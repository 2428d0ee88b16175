//! Queues that are in order, any bytes as a queue, and an attacker who changes bytes of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use shm_core::{Place, Segment};
use shm_queue::{ByteQueue, JoinableQueue, Options, Queue, QueueError, Raw};

use crate::allocation;
use crate::backing::Backing;
use crate::descriptors;
use crate::input::{Few, Rest, by_a_byte};
use crate::told;

by_a_byte! {
    /// What the segment was made as, and what it is opened as.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Content {
        Bytes,
        Text,
        Numbers,
        Tasks,
    }
}

/// Bytes behind the header, and rounds of changes and uses.
#[derive(Debug, Arbitrary)]
pub struct QueueAttack {
    content: Content,
    taken_for: Option<Content>,
    /// See [`Backing::of`].
    place: u8,
    cut: Option<u16>,
    /// What stands from the options on instead.
    payload: Option<Few<u8, 200>>,
    /// Of which three are used.
    rounds: Rest<Round>,
}

/// Changes before a use.
#[derive(Debug, Arbitrary)]
struct Round {
    pokes: Few<Poke, 12>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Poke {
    part: Part,
    at: u8,
    value: Value,
}

by_a_byte! {
    /// Where: docs/format.md, "Queues".
    #[derive(Debug, Clone, Copy)]
    enum Part {
        Options,
        Caches,
        /// Behind the locks of both sides.
        Sides,
        Halves,
        Rings,
        Cells,
        Header,
    }
}

by_a_byte! {
    #[derive(Debug, Clone, Copy)]
    enum Value {
        Small(u8),
        Long(u64),
        Pair(u16, u16),
    }
}

/// Cells of the images, and where their parts begin.
const CELLS_AT: usize = 9728;

fn make(content: Content) -> Vec<u8> {
    let place = Place::anonymous().participants(64);
    let options = Options::new(3)
        .leases(2)
        .dead_letters(2)
        .max_message(600)
        .arena_bytes(16 << 8);
    match content {
        Content::Bytes => {
            let queue = ByteQueue::create(place, options).expect("a queue");
            queue.put(b"small").expect("room");
            queue.put(&[7; 300]).expect("room");
            bytes_of(queue.segment())
        }
        Content::Text => {
            let queue = Queue::<String>::create(place, options).expect("a queue");
            queue.put("small".to_owned()).expect("room");
            queue.put("7".repeat(300)).expect("room");
            bytes_of(queue.segment())
        }
        Content::Numbers => {
            let queue = Queue::<u64, Raw>::create(place, options).expect("a queue");
            queue.put_many([1, 2]).expect("room");
            bytes_of(queue.segment())
        }
        Content::Tasks => {
            let queue = JoinableQueue::<Vec<u8>>::create(place, options).expect("a queue");
            queue.put_many([vec![1], vec![7; 300]]).expect("room");
            bytes_of(queue.segment())
        }
    }
}

fn bytes_of(segment: &Segment) -> Vec<u8> {
    let fd = segment
        .as_fd()
        .expect("an anonymous segment has a descriptor");
    let file = File::from(fd.try_clone_to_owned().expect("a descriptor"));
    let mut bytes = vec![0; file.metadata().expect("its size").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    bytes
}

impl Content {
    fn image(self) -> &'static [u8] {
        static IMAGES: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
            [
                Content::Bytes,
                Content::Text,
                Content::Numbers,
                Content::Tasks,
            ]
            .map(make)
        });
        &IMAGES[self as usize]
    }
}

impl Poke {
    fn apply(self, backing: &Backing, payload: usize) {
        let at = usize::from(self.at);
        let at = match self.part {
            Part::Header => at / 4 * 4,
            Part::Options => payload + at / 4 * 4 % 64,
            Part::Caches => {
                payload + [184, 192, 200, 208, 216, 256, 432, 440, 448, 512, 520][at % 11]
            }
            Part::Sides => payload + [64, 120, 176, 456, 464, 640, 768, 896][at % 8],
            Part::Halves => payload + 1024 + at * 8,
            Part::Rings => payload + 9216 + at % 128 * 4,
            Part::Cells => payload + CELLS_AT + at % 7 * 256 + at / 7 % 8 * 4,
        };
        let bytes = match self.value {
            Value::Small(value) => u64::from(value),
            Value::Long(value) => value,
            Value::Pair(low, high) => u64::from(low) | u64::from(high) << 32,
        };
        // Fields of four bytes are often alone.
        let width = if at % 8 == 4 { 4 } else { 8 };
        backing.poke(at, &bytes.to_ne_bytes()[..width]);
    }
}

/// Runs an attack.
///
/// # Panics
/// If a call does anything but succeed or give a typed error.
pub fn queue_image(attack: &QueueAttack) {
    let image = attack.content.image();
    let cut = usize::from(attack.cut.unwrap_or(0)).min(image.len());
    let backing = Backing::of(&image[..image.len() - cut], attack.place);
    let payload = u64::from_ne_bytes(image[40..48].try_into().expect("eight bytes")) as usize;
    if let Some(Few(instead)) = &attack.payload {
        backing.poke(payload, instead);
    }
    told::forget();
    let taken_for = attack.taken_for.unwrap_or(attack.content);
    let attack = || {
        let (place, change) = (backing.place(), |round: &Round| {
            let pokes = round.pokes.0.iter();
            pokes.for_each(|poke| poke.apply(&backing, payload));
        });
        let mut rounds = attack.rounds.0.iter().take(3);
        if let Some(round) = rounds.next() {
            change(round);
        }
        match taken_for {
            Content::Bytes => {
                let Ok(queue) = ByteQueue::open(place) else {
                    return;
                };
                use_bytes(&queue);
                rounds.for_each(|round| {
                    change(round);
                    use_bytes(&queue);
                });
            }
            Content::Text => {
                let Ok(queue) = Queue::<String>::open(place) else {
                    return;
                };
                rounds.for_each(|round| {
                    change(round);
                    use_queue(&queue, "text".to_owned());
                });
                use_queue(&queue, "7".repeat(400));
            }
            Content::Numbers => {
                let Ok(queue) = Queue::<u64, Raw>::open(place) else {
                    return;
                };
                rounds.for_each(|round| {
                    change(round);
                    use_queue(&queue, 7);
                });
                use_queue(&queue, 8);
            }
            Content::Tasks => {
                let Ok(queue) = JoinableQueue::<Vec<u8>>::open(place) else {
                    return;
                };
                use_tasks(&queue);
                rounds.for_each(|round| {
                    change(round);
                    use_tasks(&queue);
                });
            }
        }
    };
    descriptors::closed(|| allocation::bounded(backing.len(), attack));
}

fn told<T>(result: Result<T, QueueError>) -> Option<T> {
    result.inspect_err(told::told).ok()
}

fn use_bytes(queue: &ByteQueue) {
    let now = Instant::now();
    told(queue.try_put(b"small"));
    told(queue.put_deadline(&[7; 400], now));
    told(queue.put_timeout(&[7; 601], Duration::ZERO));
    if let Some(mut reservation) = told(queue.try_reserve(500)) {
        reservation.fill(9);
        told(reservation.commit());
    }
    drop(queue.reserve_timeout(3, Duration::ZERO));
    if let Some(received) = told(queue.try_recv_ref()) {
        assert!(received.len() <= received.iter().map(|_| 1).sum::<usize>());
        told(received.give_back());
    }
    #[cfg(feature = "planted")]
    crate::planted::in_queue(queue);
    told(queue.recv_ref_timeout(Duration::ZERO));
    told(queue.try_get());
    told(queue.get_deadline(now));
    told(queue.inspect());
    told(queue.dead_letters());
    told(queue.len());
    told(queue.recover());
    told(queue.try_put(b"again"));
    told(queue.try_get());
}

fn use_queue<T, C: shm_queue::Codec<T>>(queue: &Queue<T, C>, value: T) {
    let now = Instant::now();
    let value = queue.try_put(value).err().map(|refused| refused.value);
    if let Some(value) = value {
        let _ = queue
            .put_deadline(value, now)
            .map_err(|refused| told::<()>(Err(refused.error)));
    }
    told(queue.try_get());
    told(queue.get_deadline(now));
    told(queue.get_timeout(Duration::ZERO));
    told(queue.inspect());
    told(queue.dead_letters());
    told(queue.is_full());
    told(queue.recover());
    told(queue.shutdown(queue.is_closed()));
}

fn use_tasks(queue: &JoinableQueue<Vec<u8>>) {
    for len in [3, 400] {
        let put = queue.try_put(vec![7; len]);
        told(put.map_err(|refused| refused.error));
    }
    if let Some(task) = told(queue.try_get()) {
        told(task.extend(Duration::ZERO));
        told(task.requeue());
    }
    if let Some(task) = told(queue.get_deadline(Instant::now())) {
        told(task.task_done());
    }
    if let Some(task) = told(queue.get_timeout(Duration::ZERO)) {
        let _ = task.detach();
        told(queue.task_done());
    }
    told(queue.unfinished());
    told(queue.join_timeout(Duration::ZERO));
    told(queue.inspect());
    told(queue.dead_letters());
    told(queue.recover());
    drop(queue.try_get());
}

//! Fifty buyers race for the last ten tickets.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use shm_lock::Mutex;
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use super::Findings;
use super::child::{Actor, Failure, Role, Said, now};
use super::children::{Act, Trouble};
use super::report::{self, Expectation};
use super::teller::Teller;
use crate::figures::elapsed;

const BUYERS: u32 = 50;
const TICKETS: usize = 10;
/// Between the look whether one is left and the taking of it.
const HESITATION: Duration = Duration::from_micros(200);

/// What the buyers share, behind the lock.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout)]
#[repr(C)]
struct Hall {
    left: u32,
    /// Buyer of each ticket; 0: not sold.
    sold_to: [u32; TICKETS],
}

#[derive(Debug, Serialize)]
pub(super) struct Figures {
    buyers: u32,
    tickets: usize,
    sold: usize,
    left: u32,
    /// Buyer of each ticket, in the order of sale.
    sold_to: Vec<u32>,
    /// Buyers who were told that there is none left.
    turned_away: usize,
    /// From the first buyer's start until the last ticket was sold.
    seconds: f64,
}

/// A child: looks whether a ticket is left, hesitates, and takes it.
pub(super) fn buy(actor: &Actor, name: &str, buyer: u32) -> Result<(), Failure> {
    let hall = Mutex::<Hall>::open(name)?;
    actor.wait_for_start()?;
    let began = now();
    let mut ticket = None;
    {
        let mut hall = hall.lock().map_err(|error| error.to_string())?;
        let left = hall.left;
        if left > 0 {
            thread::sleep(HESITATION);
            let next = TICKETS.saturating_sub(left as usize);
            *hall
                .sold_to
                .get_mut(next)
                .ok_or("there is no such ticket")? = buyer;
            hall.left = left - 1;
            ticket = Some(next as u32 + 1);
        }
    }
    let ended = now();
    actor.say(Said::Served {
        ticket,
        began,
        ended,
    })
}

/// The part.
pub(super) fn run(act: &mut Act, teller: &mut Teller) -> Result<Findings, Trouble> {
    let told = Trouble::Output;
    teller
        .say(format!(
            "Fifty processes want a ticket, and ten are left. They start at once. Each takes the \
             lock, looks whether a ticket is left, hesitates for {}, and takes it. Whoever else \
             looked in that moment would sell the same ticket a second time.",
            elapsed(HESITATION)
        ))
        .map_err(told)?;

    let empty = Hall {
        left: TICKETS as u32,
        sold_to: [0; TICKETS],
    };
    let hall = act.create("hall", |place| Mutex::create(place, empty))?;
    let roles: Vec<_> = (1..=BUYERS)
        .map(|buyer| Role::Buy {
            name: act.name("hall"),
            buyer,
        })
        .collect();
    let words = act.race(&roles, || teller.progress("buyers at work"))?;

    // What each buyer says it got.
    let mut got = Vec::new();
    let (mut first, mut last) = (u64::MAX, 0);
    for (buyer, said) in (1..).zip(words) {
        let Said::Served {
            ticket,
            began,
            ended,
        } = said
        else {
            return Err(act.unexpected((buyer as usize - 1, said)));
        };
        first = first.min(began);
        if let Some(ticket) = ticket {
            got.push((ticket, buyer));
            last = last.max(ended);
        }
    }
    got.sort_unstable();
    // What the hall says.
    let hall = *hall
        .lock()
        .map_err(|error| Trouble::Lock(error.to_string()))?;
    let figures = Figures {
        buyers: BUYERS,
        tickets: TICKETS,
        sold: got.len(),
        left: hall.left,
        sold_to: got.iter().map(|&(_, buyer)| buyer).collect(),
        turned_away: BUYERS as usize - got.len(),
        seconds: last.saturating_sub(first) as f64 / 1e9,
    };
    tell(&figures, teller).map_err(told)?;
    let expectations = expectations(&figures, &got, hall);
    Ok((report::Figures::Tickets(figures), expectations))
}

fn tell(figures: &Figures, teller: &mut Teller) -> std::io::Result<()> {
    let (mut tickets, mut buyers) = ("ticket".to_owned(), "buyer ".to_owned());
    for (ticket, buyer) in (1..).zip(&figures.sold_to) {
        let _ = write!(tickets, "{ticket:>5}");
        let _ = write!(buyers, "{buyer:>5}");
    }
    teller.gap()?;
    teller.columns(tickets)?;
    teller.row(buyers)?;
    teller.then_say(format!(
        "{} tickets are sold, {} left; {} buyers went away with nothing. The last ticket was sold \
         {} after the start. For everybody else, a look and the taking that follows are one step: \
         that is what the lock is for.",
        figures.sold,
        figures.left,
        figures.turned_away,
        elapsed(Duration::from_secs_f64(figures.seconds))
    ))
}

fn expectations(figures: &Figures, got: &[(u32, u32)], hall: Hall) -> Vec<Expectation> {
    let buyers: BTreeSet<_> = got.iter().map(|&(_, buyer)| buyer).collect();
    let ledger: Vec<_> = (1..).zip(hall.sold_to).collect();
    vec![
        Expectation::new(
            "exactly ten tickets are sold, none is left",
            figures.sold == TICKETS && hall.left == 0,
            format!("{} sold, {} left", figures.sold, hall.left),
        ),
        Expectation::new(
            "no buyer has two, no ticket has two buyers",
            buyers.len() == TICKETS && got.is_sorted_by(|a, b| a.0 < b.0),
            format!("(ticket, buyer): {got:?}"),
        ),
        Expectation::new(
            "what the buyers say is what the shared ledger says",
            got == ledger,
            format!("buyers: {got:?}; ledger: {ledger:?}"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdicts on ten sales, of which some differ from the good ones.
    fn verdicts(change: impl FnOnce(&mut Vec<(u32, u32)>, &mut Hall)) -> Vec<bool> {
        let mut got: Vec<_> = (1..=10).map(|ticket| (ticket, 50 - ticket)).collect();
        let sold_to = std::array::from_fn(|at| 49 - at as u32);
        let mut hall = Hall { left: 0, sold_to };
        change(&mut got, &mut hall);
        let figures = Figures {
            buyers: BUYERS,
            tickets: TICKETS,
            sold: got.len(),
            left: hall.left,
            sold_to: Vec::new(),
            turned_away: 0,
            seconds: 0.0,
        };
        let expectations = expectations(&figures, &got, hall);
        expectations.iter().map(|expected| expected.ok).collect()
    }

    #[test]
    fn ten_sales_to_ten_buyers_are_as_expected() {
        assert_eq!(verdicts(|_, _| {}), [true, true, true]);
    }

    #[test]
    fn a_ticket_sold_twice_or_not_at_all_is_noticed() {
        assert_eq!(verdicts(|got, _| got[3].0 = 3), [true, false, false]);
        assert_eq!(verdicts(|got, _| got.push((10, 1))), [false, false, false]);
        assert_eq!(verdicts(|got, _| got.truncate(9)), [false, false, false]);
        assert_eq!(verdicts(|_, hall| hall.left = 1), [false, true, true]);
    }

    #[test]
    fn a_buyer_with_two_tickets_and_a_wrong_ledger_are_noticed() {
        assert_eq!(
            verdicts(|got, hall| {
                got[4].1 = got[3].1;
                hall.sold_to[4] = hall.sold_to[3];
            }),
            [true, false, true]
        );
        assert_eq!(verdicts(|_, hall| hall.sold_to[0] = 0), [true, true, false]);
    }
}

//! One process writes a value and an array, another one reads them.

use serde::Serialize;
use shm_value::{Array, Value};

use super::Findings;
use super::child::{Actor, Failure, Role, Said};
use super::children::{Act, Trouble};
use super::report::{self, Expectation};
use super::teller::Teller;

#[expect(
    clippy::approx_constant,
    reason = "a number that is easy to recognise, not pi"
)]
const NUMBER: f64 = 3.1415927;
const ARRAY: [i32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

#[derive(Debug, Serialize)]
pub(super) struct Figures {
    number_before: f64,
    number: f64,
    array_before: Vec<i32>,
    array: Vec<i32>,
}

/// A child: sets the number and negates the array.
pub(super) fn write(actor: &Actor, number: &str, array: &str) -> Result<(), Failure> {
    let number = Value::<f64>::open(number)?;
    let array = Array::<i32>::open(array)?;
    actor.wait_for_start()?;
    number.set(NUMBER)?;
    for element in array.lock().map_err(|error| error.to_string())?.iter_mut() {
        *element = -*element;
    }
    actor.say(Said::Finished)
}

/// The part.
pub(super) fn run(act: &mut Act, teller: &mut Teller) -> Result<Findings, Trouble> {
    let told = Trouble::Output;
    teller
        .say(
            "A number and an array lie in shared memory. Another process is told their names. It \
             sets the number to 3.1415927 and negates the array. This process then reads them.",
        )
        .map_err(told)?;

    let number = act.create("number", |place| Value::create(place, 0.0))?;
    let array = act.create("array", |place| Array::create(place, &ARRAY))?;
    let read = || -> Result<(f64, Vec<i32>), Trouble> {
        let number = number.get().map_err(|e| Trouble::Lock(e.to_string()))?;
        let array = array.lock().map_err(|e| Trouble::Lock(e.to_string()))?;
        Ok((number, array.to_vec()))
    };
    let (number_before, array_before) = read()?;
    let role = Role::Write {
        number: act.name("number"),
        array: act.name("array"),
    };
    let words = act.race(&[role], || teller.progress("writing"))?;
    for said in words {
        if !matches!(said, Said::Finished) {
            return Err(act.unexpected((0, said)));
        }
    }
    let (number, array) = read()?;

    let row = |what: &str, number: &str, array: &str| format!("{what:<7} {number:>10}   {array}");
    teller.gap().map_err(told)?;
    teller.columns(row("", "number", "array")).map_err(told)?;
    let before = row(
        "before",
        &format!("{number_before:?}"),
        &list(&array_before),
    );
    teller.row(before).map_err(told)?;
    let after = row("after", &format!("{number:?}"), &list(&array));
    teller.row(after).map_err(told)?;
    teller
        .then_say(
            "Nothing was sent: the other process wrote into the memory that this one reads. A \
             name opened as another type than it was created with would have been refused.",
        )
        .map_err(told)?;

    let negated: Vec<_> = ARRAY.iter().map(|element| -element).collect();
    let expectations = vec![
        Expectation::new("the number is 3.1415927", number == NUMBER, number),
        Expectation::new("the array is 0 to -9", array == negated, list(&array)),
    ];
    let figures = Figures {
        number_before,
        number,
        array_before,
        array,
    };
    Ok((report::Figures::Value(figures), expectations))
}

fn list(array: &[i32]) -> String {
    let elements: Vec<_> = array
        .iter()
        .map(|element| format!("{element:>2}"))
        .collect();
    elements.join(" ")
}

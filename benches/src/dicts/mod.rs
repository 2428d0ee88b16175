//! The sections of the bench `dict`: one way of use each, then types, growth and repair.

use crate::section::Section;

mod growth;
mod in_process;
#[cfg(feature = "rivals")]
mod lmdb;
pub(crate) mod map;
mod peers;
mod python;
mod repair;
mod shm;
mod speed;
mod typed;

pub use repair::hold_for_ever;

/// All of them, in the order of the tables.
#[must_use]
pub fn sections() -> Vec<Section> {
    let mut sections = speed::sections();
    sections.extend([typed::section(), growth::section()]);
    sections
}

/// Those that are measured only when they are named.
#[must_use]
pub fn long_sections() -> Vec<Section> {
    vec![growth::ten_million(), speed::update_many()]
}

/// Who is not here: without `rivals`, and in any build.
fn absent() -> Vec<String> {
    let mut lines = crate::variants::absent(&["dashmap", "papaya", "LMDB through heed"]);
    lines.push(
        "absent: Redis over a unix socket, boost interprocess map; this bench has no code for them"
            .into(),
    );
    lines
}

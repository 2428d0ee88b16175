//! A table for people: aligned, and valid Markdown, so that it can be quoted as it was printed.

use std::fmt;

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// For words.
    Left,
    /// For figures.
    Right,
}

/// A titled table with notes below it.
#[derive(Clone, Debug)]
pub struct Table {
    title: String,
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    /// An empty table. The first column is for words, all others for figures.
    #[must_use]
    pub fn new(title: &str, columns: &[&str]) -> Self {
        let align = |at| if at == 0 { Align::Left } else { Align::Right };
        Self {
            title: title.to_owned(),
            columns: columns
                .iter()
                .enumerate()
                .map(|(at, name)| ((*name).to_owned(), align(at)))
                .collect(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Says how the column of that number stands.
    ///
    /// # Panics
    ///
    /// If there is no such column.
    #[must_use]
    pub fn align(mut self, column: usize, align: Align) -> Self {
        self.columns[column].1 = align;
        self
    }

    /// Adds a row.
    ///
    /// # Panics
    ///
    /// If it does not have a cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// Adds a line below the table.
    pub fn note(&mut self, line: impl Into<String>) {
        self.notes.push(line.into());
    }

    /// The lines below the table.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn widths(&self) -> Vec<usize> {
        let width = |at: usize| {
            let heading = self.columns[at].0.chars().count();
            self.rows
                .iter()
                .map(|row| row[at].chars().count())
                .fold(heading, usize::max)
        };
        (0..self.columns.len()).map(width).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let line = |f: &mut fmt::Formatter<'_>, cells: &mut dyn Iterator<Item = &String>| {
            for ((cell, (_, align)), &width) in cells.zip(&self.columns).zip(&widths) {
                match align {
                    Align::Left => write!(f, "| {cell:<width$} ")?,
                    Align::Right => write!(f, "| {cell:>width$} ")?,
                }
            }
            writeln!(f, "|")
        };

        writeln!(f, "{}\n", self.title)?;
        line(f, &mut self.columns.iter().map(|(name, _)| name))?;
        for ((_, align), &width) in self.columns.iter().zip(&widths) {
            match align {
                Align::Left => write!(f, "|{}", "-".repeat(width + 2))?,
                Align::Right => write!(f, "|{}:", "-".repeat(width + 1))?,
            }
        }
        writeln!(f, "|")?;
        for row in &self.rows {
            line(f, &mut row.iter())?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

/// Figures of one variant with one, two and four peers, side by side in one cell; NaN shows as a dash.
#[must_use]
pub fn figures(values: &[f64], width: usize, decimals: usize) -> String {
    let cells: Vec<String> = values
        .iter()
        .map(|&value| figure(value, decimals))
        .map(|cell| format!("{cell:>width$}"))
        .collect();
    cells.join(" ")
}

/// One figure; NaN shows as a dash, and so does a value that no row has.
#[must_use]
pub fn figure(value: f64, decimals: usize) -> String {
    if value.is_finite() {
        format!("{value:.decimals$}")
    } else {
        "-".to_owned()
    }
}

/// A count with its thousands set apart.
#[must_use]
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::{Align, Table, figure, figures, thousands};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new("Sizes", &["name", "n", "word"]).align(2, Align::Left);
        table.row(vec!["a".into(), "1000".into(), "x".into()]);
        table.row(vec!["longer".into(), "7".into(), "yy".into()]);
        table.note("below");
        let expected = "\
Sizes

| name   |    n | word |
|--------|-----:|------|
| a      | 1000 | x    |
| longer |    7 | yy   |

below
";
        assert_eq!(table.to_string(), expected);
        assert_eq!(table.notes(), ["below"]);
    }

    #[test]
    #[should_panic(expected = "a cell for each column")]
    fn row_of_another_width_is_refused() {
        Table::new("t", &["a", "b"]).row(vec!["only one".into()]);
    }

    #[test]
    fn figures_stand_below_each_other() {
        assert_eq!(
            figures(&[1.25, f64::NAN, 100.0], 6, 1),
            "   1.2      -  100.0"
        );
        assert_eq!(figure(f64::INFINITY, 2), "-");
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
    }
}

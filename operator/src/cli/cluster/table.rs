//! Text in columns, and times in words. Pure.

use k8s_openapi::jiff;
use weft_types::Timestamp;

/// Rows under headings; each column is as wide as its widest cell.
pub(super) struct Table {
    headings: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// No rows yet. A heading that begins with `>` is that of a column of numbers, which are
    /// aligned to the right.
    pub(super) fn new(headings: &[&'static str]) -> Table {
        Table {
            headings: headings.iter().map(|heading| heading.trim_start_matches('>')).collect(),
            right: headings.iter().map(|heading| heading.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that are left out are empty.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Headings and rows, a line each; nothing when there are no rows.
    pub(super) fn render(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let headings: Vec<String> = self.headings.iter().map(|&text| text.to_owned()).collect();
        let lines = || std::iter::once(&headings).chain(&self.rows);
        let width = |column: usize| {
            let cells = lines().filter_map(|cells| cells.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        lines().map(|cells| self.line(cells, &widths)).collect()
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (column, &width) in widths.iter().enumerate() {
            let cell = cells.get(column).map(String::as_str).unwrap_or_default();
            let gap = if column == 0 { "" } else { "  " };
            match self.right.get(column) {
                Some(true) => line.push_str(&format!("{gap}{cell:>width$}")),
                _ => line.push_str(&format!("{gap}{cell:<width$}")),
            }
        }
        format!("{}\n", line.trim_end())
    }
}

/// Seconds since 1970 of a time in RFC 3339; `None` when it is none.
pub(super) fn parse(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(|time| time.as_second())
}

/// Seconds since 1970.
pub(super) fn seconds(time: Timestamp) -> i64 {
    i64::try_from(time.unix_nanos() / 1_000_000_000).unwrap_or(i64::MAX)
}

/// How long that is, in its largest sensible unit: `90 s`, `5 min`, `7 h`, `41 days`.
pub(super) fn span(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7_199 => format!("{} min", s / 60),
        s @ 7_200..=172_799 => format!("{} h", s / 3_600),
        s => format!("{} days", s / 86_400),
    }
}

/// When that is, seen from `now`: `in 41 days`, `5 min ago`.
pub(super) fn when(time: i64, now: i64) -> String {
    if time >= now {
        format!("in {}", span(time - now))
    } else {
        format!("{} ago", span(now - time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&["NAME", ">HEIGHT", "STATE"]);
        assert_eq!(table.render(), "");
        table.row(vec!["org1-peer-0".into(), "7".into(), "ready".into()]);
        table.row(vec!["a".into(), "1234567".into()]);
        assert_eq!(
            table.render(),
            "NAME          HEIGHT  STATE\n\
             org1-peer-0        7  ready\n\
             a            1234567\n"
        );
    }

    #[test]
    fn times_are_told_in_words() {
        let now = parse("2025-11-21T12:00:00Z").unwrap();
        assert_eq!(when(parse("2026-01-01T00:00:00Z").unwrap(), now), "in 40 days");
        assert_eq!(when(now - 125, now), "2 min ago");
        assert_eq!(span(3 * 3_600), "3 h");
        assert_eq!(parse("tomorrow"), None);
    }
}

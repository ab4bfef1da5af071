//! Colour for what rooms write as plain text, tables, and JSON.

use std::io::{self, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::args::{Color, ReportOutput};
use super::config;

impl Color {
    pub fn wanted(self) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => io::stdout().is_terminal() && !config::colours_unwanted(),
        }
    }
}

impl ReportOutput {
    pub fn coloured(&self) -> bool {
        self.color.wanted()
    }
}

fn style(line: &str) -> Option<Style> {
    let colour = match line.split([' ', ':']).next()? {
        "+" => AnsiColor::Green,
        "~" => AnsiColor::Yellow,
        "-" | "refused" | "blocked" | "limit" => AnsiColor::Red,
        "!" | "warning" => AnsiColor::Magenta,
        "?" | "partial" | ">" => AnsiColor::Cyan,
        "=" | "paused" | "suspended" => AnsiColor::Blue,
        _ => return None,
    };
    Some(Style::new().fg_color(Some(colour.into())))
}

/// Prints a plan's text; the first word of a line gives its colour.
pub fn plan_text(out: &mut dyn Write, text: &str, coloured: bool) -> io::Result<()> {
    for line in text.lines() {
        match style(line).filter(|_| coloured) {
            Some(style) => writeln!(out, "{style}{line}{style:#}")?,
            None => writeln!(out, "{line}")?,
        }
    }
    out.flush()
}

pub fn json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    out.flush()
}

/// A document for `jsonl`: each entry of its list `name` on a line, then the rest of it on the last.
pub fn json_lines(out: &mut dyn Write, document: &impl Serialize, name: &str) -> io::Result<()> {
    let mut document = serde_json::to_value(document)?;
    let list = document.as_object_mut().and_then(|fields| fields.remove(name));
    for entry in list.as_ref().and_then(serde_json::Value::as_array).into_iter().flatten() {
        json_line(out, entry)?;
    }
    json_line(out, &document)?;
    out.flush()
}

/// On one line, for `jsonl`.
pub fn json_line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

/// Columns as wide as their widest cell, two spaces between.
pub fn table(out: &mut dyn Write, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    out.write_all(table_text(head, rows).as_bytes())?;
    out.flush()
}

pub fn table_text(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(head.to_vec())).chain(rows).map(|line| line + "\n").collect()
}

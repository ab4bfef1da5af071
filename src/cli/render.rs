//! Colour for what rooms write as plain text, tables, and JSON.

use std::io::{self, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::args::{Color, Output};
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

impl Output {
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
        "?" | "partial" => AnsiColor::Cyan,
        "=" | "paused" => AnsiColor::Blue,
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

/// On one line, for `jsonl`.
pub fn json_line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

/// Columns as wide as their widest cell, two spaces between.
pub fn table(out: &mut dyn Write, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    writeln!(out, "{}", line(head.to_vec()))?;
    for row in rows {
        writeln!(out, "{}", line(row.iter().map(String::as_str).collect()))?;
    }
    out.flush()
}

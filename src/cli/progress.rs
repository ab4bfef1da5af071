//! What happens while somebody waits. On a terminal one line is redrawn; elsewhere lines come when something new
//! happens and a heartbeat every 30 s, so that CI does not kill a silent job. A phase that begins or ends and an object
//! that took over 10 s have a line that stays. All of it on stderr.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::operator::Tell;
use crate::tenancy::counted;

const HEARTBEAT: Duration = Duration::from_secs(30);
const REDRAW: Duration = Duration::from_millis(100);
/// Between two looks whether somebody should hear that it still goes on.
const TICK: Duration = Duration::from_secs(1);
/// An object that takes longer gets a line of its own.
const SLOW: Duration = Duration::from_secs(10);
/// So many objects under way are named.
const NAMED_MAX: usize = 3;

pub struct Progress {
    board: RefCell<Board>,
}

/// One line for people, at once.
pub fn say(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Asks on a terminal; where nobody can answer, the answer is no.
pub fn confirm(question: &str) -> bool {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return false;
    }
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

impl Progress {
    pub fn new() -> Progress {
        Progress { board: RefCell::new(Board::new(std::io::stderr().is_terminal(), Instant::now())) }
    }

    pub fn show(&self, line: &str) {
        self.tell(Tell::Now(line));
    }

    pub fn tell(&self, tell: Tell<'_>) {
        let shown = self.board.borrow_mut().hear(tell, Instant::now());
        shown.into_iter().for_each(print);
    }

    /// Meanwhile says every now and then that it still goes on, also while one request or statement takes long.
    pub async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = ticks.tick() => {
                    let shown = self.board.borrow_mut().tick(Instant::now());
                    shown.into_iter().for_each(print);
                }
            }
        }
    }

    /// Clears the redrawn line before something else is printed.
    pub fn clear(&self) {
        self.board.borrow_mut().clear().into_iter().for_each(print);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Shown {
    /// Stays.
    Line(String),
    /// Is redrawn, without an end of line.
    Drawn(String),
    Wiped,
}

fn print(shown: Shown) {
    let mut err = anstream::stderr();
    let _ = match shown {
        Shown::Line(line) => writeln!(err, "{line}"),
        Shown::Drawn(line) => write!(err, "\r\x1b[2K{}", cut(&line)),
        Shown::Wiped => write!(err, "\r\x1b[2K"),
    };
    let _ = err.flush();
}

/// What is under way, and what of it was shown. Has no clock of its own.
struct Board {
    terminal: bool,
    phase_since: Instant,
    /// Objects under way, and since when.
    objects: BTreeMap<String, Instant>,
    /// The newest line and since when it is the same but for its numbers.
    now: Option<(String, Instant)>,
    shown_at: Instant,
    drawn: bool,
}

impl Board {
    fn new(terminal: bool, at: Instant) -> Board {
        Board { terminal, phase_since: at, objects: BTreeMap::new(), now: None, shown_at: at, drawn: false }
    }

    fn hear(&mut self, tell: Tell<'_>, at: Instant) -> Vec<Shown> {
        match tell {
            Tell::Now(line) => self.now(line, at),
            Tell::Phase { name, objects } => {
                (self.phase_since, self.now) = (at, None);
                self.line(format!("{name}: {}", counted(objects, "object")), at)
            }
            Tell::PhaseOver { name } => {
                self.now = None;
                self.line(format!("{name}: over after {}", time(at - self.phase_since)), at)
            }
            Tell::Begun(object) => {
                self.objects.insert(object.to_owned(), at);
                Vec::new()
            }
            Tell::Ended(object) => match self.objects.remove(object).map(|since| at - since) {
                Some(took) if took >= SLOW => self.line(format!("{object} took {}", time(took)), at),
                _ => Vec::new(),
            },
        }
    }

    fn now(&mut self, line: &str, at: Instant) -> Vec<Shown> {
        let same = self.now.as_ref().filter(|(last, _)| subject(last) == subject(line)).map(|(_, since)| *since);
        self.now = Some((line.to_owned(), same.unwrap_or(at)));
        let pause = if self.terminal { REDRAW } else { HEARTBEAT };
        match same {
            Some(_) if at - self.shown_at < pause => Vec::new(),
            _ if self.terminal => self.draw(line.to_owned(), at),
            _ => self.line(line.to_owned(), at),
        }
    }

    fn tick(&mut self, at: Instant) -> Vec<Shown> {
        let Some(still) = self.still(at) else { return Vec::new() };
        match self.terminal {
            true if at - self.shown_at >= TICK => self.draw(still, at),
            false if at - self.shown_at >= HEARTBEAT => self.line(still, at),
            _ => Vec::new(),
        }
    }

    /// What somebody waits for, the longest first.
    fn still(&self, at: Instant) -> Option<String> {
        let mut open: Vec<_> = self.objects.iter().filter(|(_, since)| at - **since >= SLOW).collect();
        open.sort_by_key(|(name, since)| (**since, *name));
        let more = open.len().saturating_sub(NAMED_MAX);
        let named = open.iter().take(NAMED_MAX).map(|(name, since)| format!("{name}, {}", time(at - **since)));
        match (&named.collect::<Vec<_>>()[..], &self.now) {
            ([], None) => None,
            ([], Some((line, since))) => Some(format!("{line}, for {}", time(at - *since))),
            (named, _) if more > 0 => Some(format!("still waiting: {}; and {more} more", named.join("; "))),
            (named, _) => Some(format!("still waiting: {}", named.join("; "))),
        }
    }

    fn line(&mut self, line: String, at: Instant) -> Vec<Shown> {
        let mut shown = self.wipe();
        shown.push(Shown::Line(line));
        self.shown_at = at;
        shown
    }

    fn draw(&mut self, line: String, at: Instant) -> Vec<Shown> {
        (self.shown_at, self.drawn) = (at, true);
        vec![Shown::Drawn(line)]
    }

    fn wipe(&mut self) -> Vec<Shown> {
        if std::mem::take(&mut self.drawn) { vec![Shown::Wiped] } else { Vec::new() }
    }

    fn clear(&mut self) -> Vec<Shown> {
        self.now = None;
        self.wipe()
    }
}

/// `9s`, `1m30s`, `2h5m`.
fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// Without digits, so that "3 of 15" and "4 of 15" are one subject.
fn subject(line: &str) -> String {
    line.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// A terminal line is not wrapped: redrawing would leave the rest behind.
fn cut(line: &str) -> String {
    line.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen of each piece of news, at its second; `None` is a tick.
    fn seen(terminal: bool, news: &[(u64, Option<Tell<'_>>)]) -> String {
        let start = Instant::now();
        let mut board = Board::new(terminal, start);
        let mut lines = Vec::new();
        for (second, tell) in news {
            let at = start + Duration::from_secs(*second);
            let shown = match tell {
                Some(tell) => board.hear(*tell, at),
                None => board.tick(at),
            };
            lines.extend(shown.into_iter().map(|shown| format!("{second:>3} {shown:?}")));
        }
        lines.join("\n")
    }

    #[test]
    fn phases_slow_objects_and_long_waits_are_told() {
        let news = [
            (0, Some(Tell::Phase { name: "databases", objects: 3 })),
            (0, Some(Tell::Begun("tenant/acme"))),
            (0, Some(Tell::Begun("tenant/beta"))),
            (2, Some(Tell::Ended("tenant/beta"))),
            (2, Some(Tell::Now("databases on shared-1: 1 of 3"))),
            (3, Some(Tell::Now("databases on shared-1: 2 of 3"))),
            (31, None),
            (32, None),
            (40, None),
            (62, None),
            (95, Some(Tell::Ended("tenant/acme"))),
            (95, Some(Tell::Now("databases on shared-1: 3 of 3"))),
            (95, Some(Tell::PhaseOver { name: "databases" })),
            (200, None),
            (200, Some(Tell::Now("waiting for TCP proxies"))),
            (231, None),
        ];
        insta::assert_snapshot!(seen(false, &news), @r#"
          0 Line("databases: 3 objects")
          2 Line("databases on shared-1: 1 of 3")
         32 Line("still waiting: tenant/acme, 32s")
         62 Line("still waiting: tenant/acme, 1m2s")
         95 Line("tenant/acme took 1m35s")
         95 Line("databases: over after 1m35s")
        200 Line("waiting for TCP proxies")
        231 Line("waiting for TCP proxies, for 31s")
        "#);
        insta::assert_snapshot!(seen(true, &news), @r#"
          0 Line("databases: 3 objects")
          2 Drawn("databases on shared-1: 1 of 3")
          3 Drawn("databases on shared-1: 2 of 3")
         31 Drawn("still waiting: tenant/acme, 31s")
         32 Drawn("still waiting: tenant/acme, 32s")
         40 Drawn("still waiting: tenant/acme, 40s")
         62 Drawn("still waiting: tenant/acme, 1m2s")
         95 Wiped
         95 Line("tenant/acme took 1m35s")
         95 Line("databases: over after 1m35s")
        200 Drawn("waiting for TCP proxies")
        231 Drawn("waiting for TCP proxies, for 31s")
        "#);
    }
}

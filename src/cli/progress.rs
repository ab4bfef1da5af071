//! What happens while somebody waits. On a terminal one line is redrawn; elsewhere lines come when something new
//! happens and a heartbeat every 30 s, so that CI does not kill a silent job. All of it on stderr.

use std::cell::RefCell;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::Instant;

const HEARTBEAT: Duration = Duration::from_secs(30);
const REDRAW: Duration = Duration::from_millis(100);

pub struct Progress {
    terminal: bool,
    state: RefCell<State>,
}

struct State {
    /// The first words of the last line: a wait that only counts on is not news.
    subject: String,
    shown_at: Instant,
    drawn: bool,
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
        let state = State { subject: String::new(), shown_at: Instant::now(), drawn: false };
        Progress { terminal: std::io::stderr().is_terminal(), state: RefCell::new(state) }
    }

    pub fn show(&self, line: &str) {
        let mut state = self.state.borrow_mut();
        let subject = subject(line);
        let news = subject != state.subject;
        if self.terminal {
            if news || state.shown_at.elapsed() >= REDRAW {
                let _ = write!(anstream::stderr(), "\r\x1b[2K{}", cut(line));
                let _ = anstream::stderr().flush();
                *state = State { subject, shown_at: Instant::now(), drawn: true };
            }
        } else if news || state.shown_at.elapsed() >= HEARTBEAT {
            say(line);
            *state = State { subject, shown_at: Instant::now(), drawn: false };
        }
    }

    /// Clears the redrawn line before something else is printed.
    pub fn clear(&self) {
        let mut state = self.state.borrow_mut();
        if std::mem::take(&mut state.drawn) {
            let _ = write!(anstream::stderr(), "\r\x1b[2K");
            let _ = anstream::stderr().flush();
        }
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

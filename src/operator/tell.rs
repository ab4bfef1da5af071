//! What a run tells somebody who waits. How long anything took is for whoever listens to measure.

/// One piece of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell<'a> {
    /// What is done or waited for right now.
    Now(&'a str),
    /// A phase begins, with so many objects to work on.
    Phase {
        name: &'a str,
        objects: usize,
    },
    PhaseOver {
        name: &'a str,
    },
    /// Work on one object begins: `tenant/acme`, `instance/shared-1`.
    Begun(&'a str),
    Ended(&'a str),
}

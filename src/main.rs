//! The `o7s` command.
fn main() {}

//! The operator against a whole world in memory: the local Railway's state machine behind the real client, and models of
//! the servers and of the control database. Time is virtual, every call has a number, and trouble strikes at a number,
//! so each fault can be replayed.
//! Read: sim (the world and its calls), control, servers and apply (the models), then the laws.

mod adopt_laws;
mod apply;
mod by_hand;
mod control;
mod deletion_laws;
mod laws;
mod life_laws;
mod offline_laws;
mod pages;
mod pair_laws;
mod plan_laws;
mod random_laws;
mod rename_laws;
mod rivals_laws;
mod safety_laws;
mod servers;
mod sim;
mod texts;
mod waits;

pub use apply::apply;

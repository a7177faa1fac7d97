//! The engine against a real store and real events: every way to end, forced, not waited for.

mod admitted;
mod budget;
mod calls;
mod cleanup;
mod crashes;
mod dropped;
mod endings;
mod house;
mod memory;
mod model;
mod pressure;
mod rates;
mod recovery;
mod together;
mod tools;
mod waiting;

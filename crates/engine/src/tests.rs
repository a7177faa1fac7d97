//! The engine against a real store and real events: every way to end, forced, not waited for.

mod admitted;
mod agents;
mod budget;
mod calls;
mod camera;
mod cleanup;
mod context;
mod crashes;
mod dropped;
mod endings;
mod guide;
mod handoff;
mod house;
mod images;
mod memory;
mod model;
mod output;
mod parallel;
mod pressure;
mod rates;
mod recovery;
mod team;
mod together;
mod tools;
mod waiting;

//! What only PostgreSQL has. `cargo xtask test postgres` starts one and runs these tests, no other part does.

mod day;
mod isolation;
mod nodes;
mod plans;
mod server;
mod stripped;

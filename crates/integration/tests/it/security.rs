//! Isolation and rights, tried from every side that a stranger has.
//!
//! `contract` reads from the OpenAPI document what there is to try, `table` says what each operation
//! and frame is tried with, `world` makes users who have one of everything.

mod compromised_model;
mod contract;
mod interleaving;
mod keys;
mod matrix;
mod model_calls;
mod neighbour;
mod noninterference;
mod peers;
mod raw;
mod secrets;
mod sockets;
mod stranger;
mod table;
mod tool_servers;
mod two_users;
mod world;

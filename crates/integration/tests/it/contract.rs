//! The server and its document say the same.

mod real;

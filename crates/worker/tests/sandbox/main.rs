//! Programs in their sandboxes: what they are given, and how they end.

mod programs;

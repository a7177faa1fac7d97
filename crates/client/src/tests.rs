//! The client against a scripted server, which does what a real one seldom does.

mod feeds;
mod requests;
mod script;
mod streams;

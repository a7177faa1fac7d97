//! Engines under load, with the allocator of the server over one that keeps a count of its own: see `load`.

mod load;

use netra_memory::{Allocator, Measured};

#[global_allocator]
static GLOBAL: Allocator<Measured> = Allocator::over(Measured);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    load::run(Some(netra_memory::measured_bytes))
}

//! Engines under load, with the allocator of the server: see `load`.

mod load;

#[global_allocator]
static GLOBAL: netra_memory::Allocator = netra_memory::Allocator::new();

fn main() -> Result<(), Box<dyn std::error::Error>> {
    load::run(None)
}

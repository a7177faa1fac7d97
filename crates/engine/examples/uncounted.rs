//! Engines under load, with the allocator that lies below the server's, so without any accounting: see `load`.

mod load;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    load::run(None)
}

//! `netra openapi`: the REST contract as the code has it.

use super::output;
use crate::exit::{Exit, Problem};

pub(super) fn openapi() -> Result<Exit, Problem> {
    output::json(&netra_gateway::openapi())?;
    Ok(Exit::Success)
}

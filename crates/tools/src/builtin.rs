//! The tools that every installation has.

mod analysis;
mod save_file;
mod time_now;

use std::sync::Arc;

pub use analysis::{AnalysisOperation, analysis_tools};

use crate::tool::Tool;

/// The built-in tools but the analyses, whose list [`analysis_tools`] takes as data.
pub fn tools() -> Vec<Arc<dyn Tool>> {
    vec![
        Arc::new(time_now::TimeNow::new()),
        Arc::new(save_file::SaveFile::new()),
    ]
}

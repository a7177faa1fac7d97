//! The tools that every installation has.

mod analysis;
mod earlier_result;
mod files;
mod http_fetch;
mod notes;
mod run_python;
mod save_file;
mod time_now;

use std::sync::Arc;

pub use analysis::{AnalysisOperation, analysis_tools};
pub use http_fetch::http_fetch;

use crate::tool::Tool;

/// The built-in tools but those that are made from data: the analyses by [`analysis_tools`],
/// [`http_fetch`] by what the operator opens.
pub fn tools() -> Vec<Arc<dyn Tool>> {
    vec![
        Arc::new(time_now::TimeNow::new()),
        Arc::new(earlier_result::EarlierResult::new()),
        Arc::new(files::ListFiles::new()),
        Arc::new(files::ReadFile::new()),
        Arc::new(save_file::SaveFile::new()),
        Arc::new(notes::Remember::new()),
        Arc::new(notes::Recall::new()),
        Arc::new(notes::Forget::new()),
        Arc::new(run_python::RunPython::new()),
    ]
}

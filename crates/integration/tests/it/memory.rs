//! The memory of a user who takes all there is, by every means.

/// Part of the security suite: one user's greed is nobody else's loss.
mod security {
    use netra_integration::greed::{self, Plan};

    use crate::Test;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_means_of_taking_memory_is_stopped_in_time_and_others_go_on() -> Test {
        let (data, agents) = (tempfile::tempdir()?, tempfile::tempdir()?);
        // Each means once. Twenty times in a row is `cargo xtask bench greed`.
        let plan = Plan {
            means: greed::MEANS.to_vec(),
            rounds: 1,
            limit_mib: 512,
            others: 50,
        };
        let outcome = Box::pin(greed::try_all(data.path(), agents.path(), plan)).await?;
        println!("{outcome:#?}");
        for tried in &outcome.tried {
            tried.judge()?;
        }
        assert!(outcome.others_runs >= 50, "{outcome:?}");
        Ok(())
    }
}

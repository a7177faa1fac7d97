//! One user does everything that costs the server something; how long others then wait for the first
//! event of a run is compared with how long that takes when it is quiet, in turns.

use anyhow::{Context as _, Result, ensure};
use netra_integration::noise::{Rate, Scene, WAYS};
use netra_integration::soon;

use crate::Test;

const ROUNDS: usize = 2;

/// Bounds that hold in a debug build beside other programs. How near a release build comes to twice
/// the quiet time is measured by `cargo xtask bench noise`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_noisy_neighbour_nobody_waits_long() -> Test {
    let data = tempfile::tempdir()?;
    let scene = Scene::start(data.path(), Rate::Unlimited).await?;
    let single = WAYS.map(|way| vec![way]);
    for ways in single.into_iter().chain([WAYS.to_vec()]) {
        let compared = scene.compare(&ways, ROUNDS).await?;
        let (quiet, beside) = (compared.quiet, compared.beside);
        let told = format!(
            "{}: {:?} times, median {:.1} -> {:.1} ms, p99 {:.1} -> {:.1} ms",
            ways.join(", "),
            compared.done,
            quiet.median,
            beside.median,
            quiet.p99,
            beside.p99
        );
        println!("{told}");
        ensure!(beside.median < 2.0 * quiet.median + 25.0, "{told}");
        ensure!(beside.p99 < 1_000.0, "{told}");
    }
    Ok(())
}

/// How far the threads of a process's children stand back.
fn niceness_of_children(pid: u32) -> Result<Vec<i32>> {
    let mut all = Vec::new();
    for process in std::fs::read_dir("/proc")? {
        // What ends meanwhile is none of them.
        let Ok(threads) = std::fs::read_dir(process?.path().join("task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
            let fields: Vec<&str> = fields.split(' ').collect();
            let is_child = fields
                .get(1)
                .is_some_and(|parent| *parent == pid.to_string());
            if let (true, Some(nice)) = (is_child, fields.get(16)) {
                all.push(nice.parse()?);
            }
        }
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_computes_stands_back_behind_the_server() -> Test {
    let data = tempfile::tempdir()?;
    let scene = Scene::start(data.path(), Rate::Unlimited).await?;
    let server = &scene.server;
    let user = server.user("ada").await?;
    let run = user.start("forever", "x").await?;
    let pid = server.pid().context("it runs")?;
    // A worker stands back before it is given anything to do.
    let stands_back = async {
        while !niceness_of_children(pid)?.contains(&10) {
            user.client.usage().await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    soon("a worker that stands back", stands_back).await?;
    user.client.run_cancel(run.id).await?;
    Ok(())
}

//! A program that tries what a sandbox must not let it do, and tells what came of it: `ok`, or the system's number of
//! the error.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, ExitCode, Stdio};

pub(crate) fn main(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let what = arguments.next().unwrap_or_default();
    let argument = arguments.next().unwrap_or_default();
    let told = match attempt(&what, &argument) {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.raw_os_error().unwrap_or(-1).to_string(),
    };
    match io::stdout().write_all(told.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn attempt(what: &str, argument: &str) -> io::Result<()> {
    match what {
        "read" => fs::read(argument).map(drop),
        "write" => fs::write(argument, "text"),
        "tcp" => TcpStream::connect(argument).map(drop),
        "udp" => UdpSocket::bind("127.0.0.1:0").map(drop),
        "unix" => UnixStream::connect(argument).map(drop),
        "abstract" => UnixDatagram::unbound().map(drop),
        "signal" => signal(argument),
        "namespace" => {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(Into::into)
        }
        "allocate" => allocate(number(argument)),
        "processes" => processes(number(argument)),
        "fill" => fill(number(argument), File::create("large")?),
        "fill_removed" => {
            let file = File::create("large")?;
            fs::remove_file("large")?;
            fill(number(argument), file)
        }
        "fill_many" => {
            (0..number(argument)).try_for_each(|name| fs::write(name.to_string(), vec![1; 1 << 20]))
        }
        _ => Err(io::Error::other("an unknown attempt")),
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or(0)
}

fn signal(process: &str) -> io::Result<()> {
    let process = rustix::process::Pid::from_raw(process.parse().unwrap_or(0));
    let process = process.ok_or_else(|| io::Error::other("no process"))?;
    Ok(rustix::process::test_kill_process(process)?)
}

fn allocate(megabytes: usize) -> io::Result<()> {
    let mut blocks = Vec::new();
    let ones = vec![1; 1 << 20];
    for _ in 0..megabytes {
        let mut block: Vec<u8> = Vec::new();
        let refused = |_| io::Error::from(rustix::io::Errno::NOMEM);
        block.try_reserve_exact(1 << 20).map_err(refused)?;
        block.extend_from_slice(&ones);
        blocks.push(block);
    }
    std::hint::black_box(&blocks);
    Ok(())
}

/// Starts processes that all live until the last is there.
fn processes(count: usize) -> io::Result<()> {
    let mut started = Vec::new();
    for _ in 0..count {
        let mut command = Command::new("/bin/cat");
        let process = command.stdin(Stdio::piped()).stdout(Stdio::null());
        started.push(process.spawn()?);
    }
    for mut process in started {
        drop(process.stdin.take());
        process.wait()?;
    }
    Ok(())
}

fn fill(megabytes: usize, mut file: File) -> io::Result<()> {
    let block = vec![1; 1 << 20];
    (0..megabytes).try_for_each(|_| file.write_all(&block))
}

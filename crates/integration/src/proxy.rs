//! A TCP proxy that treats connections as bad networks do: cut, half-open, late, slow.
//!
//! What happens to a connection is drawn from the proxy's seed when it is opened, in the order in
//! which connections come. Bytes are never changed: a cut connection ends with a reset, at any
//! byte, and a half-open one takes and gives nothing, without a word to either side.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// Bytes that are handed on at once.
const PIECE: usize = 16 * 1024;
/// What may be under way to a client that does not read, in bytes, on either side of the proxy: a
/// server is to notice a slow client, which it does not while the system's buffers take megabytes.
const BUFFER: u32 = 32 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// What has been done to connections so far.
#[derive(Debug, Default)]
pub struct Damage {
    /// Connections that were opened.
    pub connections: AtomicU64,
    /// Ended with a reset.
    pub cuts: AtomicU64,
    /// Left half-open for a while, then ended.
    pub half_open: AtomicU64,
    /// Handed on late.
    pub delayed: AtomicU64,
    /// Handed on slowly.
    pub throttled: AtomicU64,
}

/// What is done to one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fate {
    end: Option<End>,
    /// Waited before each piece.
    pause: Duration,
    /// Bytes of a piece.
    piece: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Cut { after: Duration },
    HalfOpen { after: Duration, lasts: Duration },
}

/// The state that connections look at while they live.
#[derive(Debug, Clone)]
struct Weather {
    /// Each connection is handed to one of them.
    upstreams: Vec<SocketAddr>,
    /// Raised to cut everything that is open.
    storms: u64,
    /// Whether connections are treated badly.
    bad: bool,
    /// Whether none is let through.
    shut: bool,
}

/// Listens on an address of its own that stays, wherever the servers behind it move.
pub struct Proxy {
    url: String,
    weather: watch::Sender<Weather>,
    damage: Arc<Damage>,
    runtime: Runtime,
}

impl Proxy {
    /// In front of the server at this URL; kind until [`Proxy::turn_bad`].
    pub fn start(upstream: &str, seed: u64) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // Connections that it accepts have the same.
        socket.set_send_buffer_size(BUFFER)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(BACKLOG)?;
        let url = format!("http://{}", listener.local_addr()?);
        let (weather, seen) = watch::channel(Weather {
            upstreams: vec![address_of(upstream)?],
            storms: 0,
            bad: false,
            shut: false,
        });
        let (runtime, damage) = (Runtime::new(), Arc::new(Damage::default()));
        let (tasks, counted) = (runtime.clone(), Arc::clone(&damage));
        let mut random = StdRng::seed_from_u64(seed);
        runtime.spawn(TaskKind::Listener, async move {
            let shutdown = tasks.shutdown().clone();
            while let Some(Ok((client, _))) = shutdown.run_until_cancelled(listener.accept()).await
            {
                let seen = seen.clone();
                let now = seen.borrow().clone();
                if now.shut || now.upstreams.is_empty() {
                    // Reset: there is nobody.
                    client.set_zero_linger().ok();
                    continue;
                }
                let upstream = match now.upstreams[..] {
                    [only] => only,
                    ref several => several[random.random_range(0..several.len())],
                };
                let fate = if now.bad {
                    Fate::drawn(&mut random)
                } else {
                    Fate::KIND
                };
                fate.count(&counted);
                let counted = Arc::clone(&counted);
                tasks.spawn(TaskKind::Part, async move {
                    // Broken connections are what this is for.
                    carry((client, upstream), seen, fate, &counted).await.ok();
                });
            }
        });
        Ok(Self {
            url,
            weather,
            damage,
            runtime,
        })
    }

    /// Such as `http://127.0.0.1:40001`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// New connections go to the servers at these URLs, each to one that is drawn.
    pub fn aim(&self, upstreams: &[&str]) -> Result<()> {
        let addresses = upstreams.iter().map(|url| address_of(url));
        let addresses = addresses.collect::<Result<_>>()?;
        self.weather
            .send_modify(|weather| weather.upstreams = addresses);
        Ok(())
    }

    /// Cuts all that is open and lets nobody through, or everybody again.
    pub fn shut(&self, shut: bool) {
        self.weather.send_modify(|weather| {
            weather.shut = shut;
            weather.storms += u64::from(shut);
        });
    }

    /// From now on each new connection has a fate of its own.
    pub fn turn_bad(&self) {
        self.weather.send_modify(|weather| weather.bad = true);
    }

    /// From now on connections live; what is open is cut, so that nothing bad lives on.
    pub fn turn_kind(&self) {
        self.weather.send_modify(|weather| {
            weather.bad = false;
            weather.storms += 1;
        });
    }

    /// Cuts all that is open.
    pub fn cut_all(&self) {
        self.weather.send_modify(|weather| weather.storms += 1);
    }

    /// What was done so far.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.runtime.shutdown().cancel();
    }
}

impl Fate {
    const KIND: Self = Self {
        end: None,
        pause: Duration::ZERO,
        piece: PIECE,
    };

    fn drawn(random: &mut StdRng) -> Self {
        let millis = |random: &mut StdRng, from: u64, to: u64| {
            Duration::from_millis(random.random_range(from..to))
        };
        let mut fate = Self::KIND;
        match random.random_range(0..100) {
            0..30 => {
                let after = millis(random, 1, 6_000);
                fate.end = Some(End::Cut { after });
            }
            30..45 => {
                let (after, lasts) = (millis(random, 1, 5_000), millis(random, 1_000, 6_000));
                fate.end = Some(End::HalfOpen { after, lasts });
            }
            _ => {}
        }
        match random.random_range(0..100) {
            0..15 => fate.pause = millis(random, 5, 80),
            15..22 => {
                fate.pause = millis(random, 10, 40);
                fate.piece = random.random_range(200..4_000);
            }
            _ => {}
        }
        fate
    }

    /// Resolves when the connection's end has come: how long it is half-open before.
    async fn comes(self, damage: &Damage) -> Option<Duration> {
        match self.end {
            None => std::future::pending().await,
            Some(End::Cut { after }) => {
                sleep(after).await;
                add(&damage.cuts);
                None
            }
            Some(End::HalfOpen { after, lasts }) => {
                sleep(after).await;
                add(&damage.half_open);
                Some(lasts)
            }
        }
    }

    fn is_slow(&self) -> bool {
        self.piece < PIECE
    }

    fn count(&self, damage: &Damage) {
        add(&damage.connections);
        if self.is_slow() {
            add(&damage.throttled);
        } else if !self.pause.is_zero() {
            add(&damage.delayed);
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Hands bytes on in both directions until both sides have ended, or the connection's fate comes.
async fn carry(
    (mut client, upstream): (TcpStream, SocketAddr),
    mut weather: watch::Receiver<Weather>,
    fate: Fate,
    damage: &Damage,
) -> Result<()> {
    weather.borrow_and_update();
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(BUFFER)?;
    let mut server = socket.connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let half_open = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, fate);
        let down = pump(from_server, to_client, fate);
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => match ended {
                Ok(_) => return Ok(()),
                // One side was reset, so the other is to be as well.
                Err(_) => None,
            },
            () = storm(&mut weather) => {
                add(&damage.cuts);
                None
            }
            half_open = fate.comes(damage) => half_open,
        }
    };
    if let Some(lasts) = half_open {
        tokio::select! {
            () = sleep(lasts) => {}
            () = storm(&mut weather) => {}
        }
    }
    // Reset, not closed: neither side is told that all was well.
    client.set_zero_linger()?;
    server.set_zero_linger()?;
    Ok(())
}

/// Resolves at the next storm.
async fn storm(weather: &mut watch::Receiver<Weather>) {
    let before = weather.borrow().storms;
    if weather.wait_for(|now| now.storms != before).await.is_err() {
        std::future::pending().await
    }
}

/// Hands on what comes until its end, and then that end.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, fate: Fate) -> std::io::Result<()> {
    let mut piece = vec![0; fate.piece];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        if !fate.pause.is_zero() {
            sleep(fate.pause).await;
        }
        to.write_all(&piece[..read]).await?;
    }
}

fn address_of(url: &str) -> Result<SocketAddr> {
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    address
        .parse()
        .with_context(|| format!("no address of a server: {url}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn connected(proxy: &Proxy, server: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(proxy.url().trim_start_matches("http://"))
            .await
            .unwrap();
        (client, server.accept().await.unwrap().0)
    }

    async fn start() -> (Proxy, TcpListener) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        (Proxy::start(&url, 1).unwrap(), server)
    }

    /// Connected, and a byte has come through.
    async fn talking(proxy: &Proxy, server: &TcpListener) -> (TcpStream, TcpStream) {
        let (mut client, mut served) = connected(proxy, server).await;
        client.write_all(b"x").await.unwrap();
        served.read_u8().await.unwrap();
        (client, served)
    }

    #[tokio::test]
    async fn bytes_and_ends_are_handed_on() {
        let (proxy, server) = start().await;
        let (mut client, mut served) = connected(&proxy, &server).await;
        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        served.read_to_end(&mut asked).await.unwrap();
        served.write_all(b"answer").await.unwrap();
        drop(served);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!((&asked[..], &answer[..]), (&b"ask"[..], &b"answer"[..]));
    }

    #[tokio::test]
    async fn a_cut_is_a_reset_on_both_sides() {
        let (proxy, server) = start().await;
        let (mut client, mut served) = talking(&proxy, &server).await;
        proxy.cut_all();
        for side in [&mut client, &mut served] {
            let error = side.read_u8().await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert_eq!(proxy.damage().cuts.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_shut_proxy_cuts_what_is_open_and_lets_nobody_through_until_it_opens() {
        let (proxy, server) = start().await;
        let (mut client, _served) = talking(&proxy, &server).await;
        proxy.shut(true);
        client.read_u8().await.unwrap_err();
        let address = proxy.url().trim_start_matches("http://").to_owned();
        let mut refused = TcpStream::connect(&address).await.unwrap();
        assert!(refused.read_u8().await.is_err());
        proxy.shut(false);
        let (mut client, mut served) = connected(&proxy, &server).await;
        client.write_all(b"y").await.unwrap();
        assert_eq!(served.read_u8().await.unwrap(), b'y');
    }

    #[tokio::test]
    async fn connections_go_to_all_servers_that_it_is_aimed_at() {
        let (proxy, one) = start().await;
        let two = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let urls = [&one, &two].map(|server| server.local_addr().unwrap().to_string());
        proxy.aim(&[&urls[0], &urls[1]]).unwrap();
        let address = proxy.url().trim_start_matches("http://").to_owned();
        let (mut at_one, mut at_two) = (0, 0);
        while at_one == 0 || at_two == 0 {
            let _client = TcpStream::connect(&address).await.unwrap();
            tokio::select! {
                accepted = one.accept() => at_one += accepted.map(|_| 1).unwrap(),
                accepted = two.accept() => at_two += accepted.map(|_| 1).unwrap(),
            }
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_fates() {
        let fates = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            (0..50)
                .map(|_| Fate::drawn(&mut random))
                .collect::<Vec<_>>()
        };
        assert_eq!(fates(7), fates(7));
        assert_ne!(fates(7), fates(8));
        assert!(fates(7).iter().any(Fate::is_slow));
        assert!(fates(7).contains(&Fate::KIND));
    }
}

//! Makes `samples/synthetic-llm-log.csv`: an invented usage log, the same bytes on every machine.
//!
//! `cargo run -p netra-analytics --example make-sample-log [OUT_CSV]`
//!
//! Only whole numbers are used, since floating-point functions differ between platforms.

use std::fmt::Write as _;
use std::path::PathBuf;

const SEED: u64 = 20_260_302;
/// 2026-03-02T00:00:00Z, a Monday, in milliseconds.
const START_MS: u64 = 1_772_409_600_000;
const HOURS: u64 = 72;
const ROWS: u64 = 5_000;
const HOUR_MS: u64 = 3_600_000;
const USERS: u64 = 40;
/// Requests of each hour of a day, as weights: quiet nights, two humps in the working day.
const DAY: [u64; 24] = [
    2, 1, 1, 1, 1, 2, 4, 9, 18, 26, 30, 28, 20, 24, 31, 33, 29, 21, 13, 9, 7, 5, 4, 3,
];
/// Name, share in percent, milliseconds to the first token, microseconds per output token.
const MODELS: [(&str, u64, u64, u64); 3] = [
    ("gpt-6-sol", 55, 620, 11_000),
    ("gpt-6-luna", 30, 240, 4_200),
    ("claude-sonnet-5-5", 15, 710, 13_500),
];

/// The SplitMix64 generator: short, well known, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A size with a long tail: each doubling of `base` is a third as likely as the one before.
    fn long_tail(&mut self, base: u64, most: u64) -> u64 {
        let mut scale = base;
        while scale < most && self.below(3) == 0 {
            scale *= 2;
        }
        (scale / 2 + self.below(scale) + self.below(scale) / 2).min(most)
    }
}

/// The whole file.
pub(crate) fn synthetic_log() -> String {
    let mut random = Random(SEED);
    let mut out = String::from("timestamp,model,prompt_tokens,completion_tokens,latency_ms,user\n");
    for time in times(&mut random) {
        let (model, first_token_ms, token_us) = pick_model(random.below(100));
        // A few users make most of the requests.
        let user = random.below(USERS) * random.below(USERS) / USERS;
        // Two of three requests carry the same long instructions in front.
        let instructions = if random.below(3) < 2 { 900 } else { 0 };
        let prompt = instructions + random.long_tail(180, 24_000);
        let completion = random.long_tail(70, 4_000).max(1);
        let jitter = 85 + random.below(40);
        let latency = (first_token_ms + prompt / 40 + completion * token_us / 1_000) * jitter / 100;
        // A string has room for every write, so there is no error to tell.
        let _ = writeln!(
            out,
            "{},{model},{prompt},{completion},{latency},user-{user:02}",
            rfc3339(time)
        );
    }
    out
}

/// When the requests come: by the hours' weights, with a burst on the second day and a silent hour on the third.
fn times(random: &mut Random) -> Vec<u64> {
    let weight = |hour: u64| {
        if hour == 59 {
            0
        } else {
            DAY[(hour % 24) as usize]
        }
    };
    let all: u64 = (0..HOURS).map(weight).sum();
    let burst = 120;
    let spread = ROWS - burst;
    let mut times = Vec::new();
    let mut given = 0;
    let mut reached = 0;
    for hour in 0..HOURS {
        reached += weight(hour);
        let due = spread * reached / all;
        for _ in given..due {
            times.push(START_MS + hour * HOUR_MS + random.below(HOUR_MS));
        }
        given = due;
    }
    for _ in 0..burst {
        times.push(START_MS + 38 * HOUR_MS + 17 * 60_000 + random.below(120_000));
    }
    times.sort_unstable();
    times
}

fn pick_model(percent: u64) -> (&'static str, u64, u64) {
    let mut reached = 0;
    for (name, share, first_token_ms, token_us) in MODELS {
        reached += share;
        if percent < reached {
            return (name, first_token_ms, token_us);
        }
    }
    (MODELS[0].0, MODELS[0].2, MODELS[0].3)
}

/// The log stays within one month, so the date needs no calendar.
fn rfc3339(ms: u64) -> String {
    let since = ms - START_MS;
    let (day, rest) = (2 + since / (24 * HOUR_MS), since % (24 * HOUR_MS));
    let (hour, minute) = (rest / HOUR_MS, rest / 60_000 % 60);
    let (second, milli) = (rest / 1_000 % 60, rest % 1_000);
    format!("2026-03-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

pub(crate) fn main() -> std::io::Result<()> {
    let default = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../samples/synthetic-llm-log.csv"
    );
    let path = std::env::args()
        .nth(1)
        .map_or_else(|| PathBuf::from(default), PathBuf::from);
    std::fs::write(path, synthetic_log())
}

//! A user of its own for each program, where the server is root.

/// Where they begin: a range that no system gives to people, services or containers by itself.
const FIRST: u64 = 1_900_000_000;
/// How many there are. A sandbox has a part of its own among them, drawn when it is made: what bounds processes and
/// keeps programs apart goes by their user.
const COUNT: u64 = 200_000_000;
/// How many programs of one sandbox have different users.
const EACH: u64 = 1024;

/// The user of the `number`th program of the sandbox with this part; `None` where the server is not root and cannot
/// choose.
pub(crate) fn of(part: u64, number: u64) -> Option<u32> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    u32::try_from(choose(&map, part, number)).ok()
}

/// In a container there may be fewer users than on a machine; the last of them are taken there.
fn choose(map: &str, part: u64, number: u64) -> u64 {
    let own = (part % (COUNT / EACH)) * EACH + number % EACH;
    let ranges = || map.lines().filter_map(range);
    if ranges().any(|(first, count)| first <= FIRST && FIRST + COUNT <= first + count) {
        return FIRST + own;
    }
    let largest = ranges().max_by_key(|(_, count)| *count);
    largest.map_or(FIRST + own, |(first, count)| {
        first + count - 1 - own % (count / 2).max(1)
    })
}

/// The first user of a line as it is called here, and how many follow.
fn range(line: &str) -> Option<(u64, u64)> {
    let mut numbers = line.split_ascii_whitespace().map(str::parse);
    match (numbers.next()?, numbers.next()?, numbers.next()?) {
        (Ok(first), Ok(_), Ok(count)) => Some((first, count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_different_users_that_exist() {
        let whole = "         0          0 4294967295\n";
        assert_eq!(choose(whole, 1, 0), FIRST + EACH);
        assert_ne!(choose(whole, 1, 0), choose(whole, 1, 1));
        assert_ne!(choose(whole, 1, 0), choose(whole, 2, 0));
        let container = "0 1000 1\n1 100000 65536\n";
        let user = choose(container, 7, 3);
        assert!((32_769..=65_536).contains(&user), "{user}");
    }
}

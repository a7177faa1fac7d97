//! The line model-checked: every state that a few owners can reach, and in each every move, held
//! against a plain list of who waits and who works.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::*;

/// A rule that was broken.
type Broken = String;

fn rule(holds: bool, what: &str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Enter(usize),
    /// Whatever it does; a place in the list of all that are in.
    Leave(usize),
}

#[derive(Clone, Copy, Debug)]
struct Known {
    ticket: Ticket,
    owner: usize,
    works: bool,
}

/// The line, and the list that it is held against.
#[derive(Clone)]
struct Book {
    line: Line<usize>,
    /// In the order of their coming.
    known: Vec<Known>,
    count: usize,
    owners: usize,
    /// How often the second owner had a turn while the first could have had it.
    overtaken: Vec<Vec<usize>>,
}

impl Book {
    fn new(owners: usize, count: usize) -> Self {
        Self {
            line: Line::new(count),
            known: Vec::new(),
            count,
            owners,
            overtaken: vec![vec![0; owners]; owners],
        }
    }

    fn make(&mut self, movement: Move) -> Result<(), Broken> {
        match movement {
            Move::Enter(owner) => {
                let ticket = self.line.enter(owner);
                let works = false;
                self.known.push(Known {
                    ticket,
                    owner,
                    works,
                });
            }
            Move::Leave(at) => {
                let left = self.known.remove(at);
                self.line.leave(&left.owner, left.ticket);
            }
        }
        for ticket in self.line.take_started() {
            self.note(ticket)?;
        }
        for owner in 0..self.owners {
            if !self.is_ready(owner) {
                self.overtaken[owner].fill(0);
            }
        }
        self.check()
    }

    fn working(&self, owner: usize) -> usize {
        let works = |known: &&Known| known.works && known.owner == owner;
        self.known.iter().filter(works).count()
    }

    fn free(&self) -> usize {
        self.count - self.known.iter().filter(|known| known.works).count()
    }

    fn first_waiting(&self, owner: usize) -> Option<Ticket> {
        let waits = |known: &&Known| !known.works && known.owner == owner;
        self.known.iter().find(waits).map(|known| known.ticket)
    }

    /// Whether this owner may have a turn now, and something of it waits.
    fn is_ready(&self, owner: usize) -> bool {
        let enough = if self.working(owner) == 0 { 1 } else { 2 };
        self.free() >= enough && self.first_waiting(owner).is_some()
    }

    /// Holds a start against the rules.
    fn note(&mut self, ticket: Ticket) -> Result<(), Broken> {
        let at = self.known.iter().position(|known| known.ticket == ticket);
        let at = at.ok_or("something was started that has left")?;
        let owner = self.known[at].owner;
        rule(!self.known[at].works, "something was started twice")?;
        let first = self.first_waiting(owner) == Some(ticket);
        rule(first, "an earlier one of the same owner was passed over")?;
        rule(
            self.is_ready(owner),
            "more at work than may be, or the last turn for who has one",
        )?;
        for other in (0..self.owners).filter(|other| *other != owner) {
            if self.is_ready(other) {
                let turns = &mut self.overtaken[other][owner];
                *turns += 1;
                rule(*turns <= 1, "an owner was served twice before another")?;
            }
        }
        self.overtaken[owner].fill(0);
        self.known[at].works = true;
        Ok(())
    }

    /// What must hold between moves.
    fn check(&self) -> Result<(), Broken> {
        for owner in 0..self.owners {
            rule(!self.is_ready(owner), "one waits that could work")?;
            let one_more = self.working(owner) == 0 || self.free() > 0;
            let told = self.line.would_start(&owner);
            rule(told == one_more, "told wrongly what one more turn is for")?;
        }
        let mut owners: Vec<usize> = self.known.iter().map(|known| known.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        rule(self.line.owners.len() == owners.len(), "an owner is kept")?;
        owners.retain(|owner| self.first_waiting(*owner).is_some());
        rule(self.line.ring.len() == owners.len(), "a turn is kept")
    }

    /// What tells this state from others, whatever the tickets are.
    fn fingerprint(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for owner in 0..self.owners {
            let own = self.known.iter().filter(|known| known.owner == owner);
            bytes.extend(own.map(|known| u8::from(known.works)));
            bytes.push(u8::MAX);
            bytes.extend(self.overtaken[owner].iter().map(|turns| *turns as u8));
        }
        bytes.extend(self.line.ring.iter().map(|owner| *owner as u8));
        bytes
    }
}

/// Visits every state with at most `most` in it, nearest first.
fn explore(owners: usize, count: usize, most: usize) -> usize {
    let start = Book::new(owners, count);
    let mut seen = HashMap::from([(start.fingerprint(), ())]);
    let mut next = VecDeque::from([(start, Vec::new())]);
    while let Some((book, way)) = next.pop_front() {
        let enter = (0..owners).filter(|_| book.known.len() < most);
        let moves = enter
            .map(Move::Enter)
            .chain((0..book.known.len()).map(Move::Leave));
        for movement in moves {
            let (mut after, mut way) = (book.clone(), way.clone());
            way.push(movement);
            if let Err(broken) = after.make(movement) {
                panic!("{broken}, with {count} turns: {way:#?}");
            }
            if let Entry::Vacant(new) = seen.entry(after.fingerprint()) {
                new.insert(());
                next.push_back((after, way));
            }
        }
    }
    seen.len()
}

#[test]
fn no_state_that_three_owners_can_reach_breaks_a_rule() {
    for (count, most) in [(1, 5), (2, 6), (3, 6), (4, 6)] {
        let states = explore(3, count, most);
        assert!(states > 200, "only {states} states with {count} turns");
    }
}

#[test]
fn who_has_much_to_do_leaves_the_last_turn_to_others_and_delays_each_by_one() {
    let mut line = Line::new(4);
    let busy: Vec<Ticket> = (0..9).map(|_| line.enter("busy")).collect();
    assert_eq!(line.take_started(), busy[..3]);
    let new = line.enter("new");
    assert_eq!(line.take_started(), [new], "the last turn was kept for it");
    let other = line.enter("other");
    line.leave(&"busy", busy[0]);
    assert_eq!(
        line.take_started(),
        [other],
        "before what has waited longer"
    );
}

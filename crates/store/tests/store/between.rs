//! What stands between a store and its PostgreSQL where a test wants it: it notes what is asked, and can take the user out of
//! every condition in users' transactions. What is left then is what row-level security alone holds.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// A condition on the user, in whatever statement it stands.
const CONDITION: &str = "user_id = $";

/// Goes with its fixture.
pub(crate) struct Between {
    port: u16,
    noted: Arc<Noted>,
}

/// Whether the user is taken out of conditions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strips(pub(crate) bool);

struct Noted {
    strips: bool,
    is_over: AtomicBool,
    /// The statements, as they were written.
    asked: Mutex<BTreeSet<String>>,
    /// Those of users' transactions that went on without the user.
    stripped: Mutex<BTreeSet<String>>,
}

impl Between {
    /// In front of the server at this address, such as `127.0.0.1:5432`.
    pub(crate) fn start(server: &str, Strips(strips): Strips) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let noted = Arc::new(Noted {
            strips,
            is_over: AtomicBool::new(false),
            asked: Mutex::default(),
            stripped: Mutex::default(),
        });
        let (server, notes) = (server.to_owned(), Arc::clone(&noted));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if notes.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                let notes = Arc::clone(&notes);
                std::thread::spawn(move || carry(client, server, notes));
            }
        });
        Self { port, noted }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> BTreeSet<String> {
        self.noted.asked.lock().clone()
    }

    /// What of it went on without the user.
    pub(crate) fn stripped(&self) -> BTreeSet<String> {
        self.noted.stripped.lock().clone()
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.noted.is_over.store(true, Ordering::SeqCst);
        // Whoever waits for a connection sees it only with the next one.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

/// One connection, until either side closes it.
fn carry(client: TcpStream, server: TcpStream, noted: Arc<Noted>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut answers, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        io::copy(&mut answers, &mut to_client).ok();
        to_client.shutdown(Shutdown::Both).ok();
    });
    let asking = Asking {
        from: BufReader::new(client),
        to: BufWriter::new(server),
        noted,
        statements: HashMap::new(),
        is_of_user: false,
    };
    // It ends as the connection does.
    asking.carry_on().ok();
}

/// What a prepared statement is for.
enum Statement {
    /// Says that a user's transaction begins.
    OfUser,
    /// Says that one of the server itself begins.
    OfAll,
    Other {
        text: String,
        /// Whether there is another one of this name and `_` behind it, without the user.
        is_stripped: bool,
    },
}

struct Asking {
    from: BufReader<TcpStream>,
    to: BufWriter<TcpStream>,
    noted: Arc<Noted>,
    statements: HashMap<String, Statement>,
    /// Whether what comes now is of a user's transaction.
    is_of_user: bool,
}

impl Asking {
    fn carry_on(mut self) -> io::Result<()> {
        // What comes first has no letter in front.
        let first = self.body()?;
        self.pass(&[], &first)?;
        loop {
            if self.from.buffer().is_empty() {
                self.to.flush()?;
            }
            let mut letter = [0];
            self.from.read_exact(&mut letter)?;
            let body = self.body()?;
            match letter {
                [b'P'] => self.prepare(&body)?,
                [b'B'] => self.bind(&body)?,
                letter => self.pass(&letter, &body)?,
            }
        }
    }

    /// The rest of a message, behind its length.
    fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - length.len()];
        self.from.read_exact(&mut body)?;
        Ok(body)
    }

    fn pass(&mut self, letter: &[u8], body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 4).unwrap();
        self.to.write_all(letter)?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(body)
    }

    /// The name of the statement, its text, types.
    fn prepare(&mut self, body: &[u8]) -> io::Result<()> {
        let (name, rest) = text(body);
        let (sql, types) = text(rest);
        self.pass(b"P", body)?;
        let statement = if sql.contains("set_config('netra.user_id'") {
            Statement::OfUser
        } else if sql.contains("set_config('netra.everybody'") {
            Statement::OfAll
        } else {
            let stripped = self.noted.strips.then(|| without_user(&sql)).flatten();
            if let Some(stripped) = &stripped {
                let other = [format!("{name}_\0{stripped}\0").as_bytes(), types].concat();
                self.pass(b"P", &other)?;
            }
            Statement::Other {
                is_stripped: stripped.is_some(),
                text: sql,
            }
        };
        self.statements.insert(name, statement);
        Ok(())
    }

    /// The name of what is bound, that of the statement, values.
    fn bind(&mut self, body: &[u8]) -> io::Result<()> {
        let (portal, rest) = text(body);
        let (name, values) = text(rest);
        match self.statements.get(&name) {
            Some(Statement::OfUser) => self.is_of_user = true,
            Some(Statement::OfAll) => self.is_of_user = false,
            Some(Statement::Other { text, is_stripped }) => {
                self.noted.asked.lock().insert(text.clone());
                if *is_stripped && self.is_of_user {
                    self.noted.stripped.lock().insert(text.clone());
                    let other = [format!("{portal}\0{name}_\0").as_bytes(), values].concat();
                    return self.pass(b"B", &other);
                }
            }
            None => {}
        }
        self.pass(b"B", body)
    }
}

/// A text that ends with NUL, and what is behind it.
fn text(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    let text = String::from_utf8(bytes[..end].to_vec()).unwrap();
    (text, &bytes[end + 1..])
}

/// The statement with conditions on the user that everybody fulfils; none where it has no condition on the user. Their
/// parameters stay, so that the rest of them keep their places and types.
fn without_user(sql: &str) -> Option<String> {
    let (mut stripped, mut rest) = (String::new(), sql);
    while let Some(at) = rest.find(CONDITION) {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let name = rest[..at].trim_end_matches(is_of_name).len();
        let behind = &rest[at + CONDITION.len()..];
        let end = rest.len()
            - behind
                .trim_start_matches(|c: char| c.is_ascii_digit())
                .len();
        let condition = &rest[name..end];
        stripped.push_str(&rest[..name]);
        if rest[..name].ends_with("SET ") {
            stripped.push_str(condition);
        } else {
            stripped.push_str(&format!("({condition} OR TRUE)"));
        }
        rest = &rest[end..];
    }
    stripped.push_str(rest);
    (stripped != sql).then_some(stripped)
}

#[test]
fn conditions_on_the_user_are_taken_out_and_their_parameters_stay() {
    let stripped =
        without_user("SELECT 1 FROM runs r WHERE r.user_id = $12 AND id = $2 OR user_id = $1");
    let wanted = "SELECT 1 FROM runs r WHERE (r.user_id = $12 OR TRUE) AND id = $2 OR (user_id = $1 OR TRUE)";
    assert_eq!(stripped.as_deref(), Some(wanted));
    for other in [
        "SELECT 1 FROM runs WHERE id = $1",
        "UPDATE logs SET user_id = $1",
    ] {
        assert_eq!(without_user(other), None);
    }
}

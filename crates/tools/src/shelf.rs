//! What tools there are at one moment, and what each source of them has.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::registry::InvalidTool;
use crate::schema::Schema;
use crate::tool::Tool;

/// Names that scripts know already: a tool of that name could not be called there.
const RESERVED: [&str; 4] = ["agent", "think", "ask_model", "print"];
/// What stands between the name of a source and that of its tool.
const OF_SOURCE: &str = "__";
/// What the names of sources begin with that a user has added, and no other's do.
pub const OF_USERS: &str = "my_";
/// In an agent's list of tools: whatever the user's own sources have.
pub const ALL_OF_USERS: &str = "my_*";

pub(crate) struct Entry {
    pub(crate) tool: Arc<dyn Tool>,
    schema: Schema,
}

impl Entry {
    pub(crate) fn new(tool: Arc<dyn Tool>) -> Result<Self, InvalidTool> {
        let spec = tool.spec();
        if !is_name(&spec.name) {
            return Err(InvalidTool::Name(spec.name.clone()));
        }
        let schema = Schema::new(&spec.input_schema).map_err(|problem| InvalidTool::Schema {
            name: spec.name.clone(),
            problem,
        })?;
        Ok(Self { tool, schema })
    }

    /// The first few places where the arguments do not fit the schema.
    pub(crate) fn misfits(&self, arguments: &Value) -> Option<String> {
        let misfits = self.schema.misfits(arguments, 3);
        (!misfits.is_empty()).then(|| misfits.join("; "))
    }
}

/// Where a source of tools stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has been asked for its tools and has not answered yet.
    Asked,
    /// Its tools are there.
    Here,
    /// It does not answer, for this reason. What it had before stays listed.
    Away(String),
    /// Each user has tools of one's own there.
    OfUsers,
}

/// The tools that one source has now, or why it has none.
#[derive(Clone)]
pub struct Source {
    name: String,
    tools: BTreeMap<String, Arc<Entry>>,
    standing: Standing,
}

impl Source {
    /// One that has answered, but for those of its tools that cannot be taken, which are named.
    pub fn here(name: &str, tools: Vec<Arc<dyn Tool>>) -> (Self, Vec<InvalidTool>) {
        let mut refused = Vec::new();
        let mut taken = BTreeMap::new();
        for tool in tools {
            let own = tool.spec().name.clone();
            if source_of(&own) != Some(name) {
                refused.push(InvalidTool::Name(own));
                continue;
            }
            match Entry::new(tool) {
                Err(problem) => refused.push(problem),
                Ok(_) if taken.contains_key(&own) => refused.push(InvalidTool::Duplicate(own)),
                Ok(entry) => {
                    taken.insert(own, Arc::new(entry));
                }
            }
        }
        let source = Self {
            name: name.to_owned(),
            tools: taken,
            standing: Standing::Here,
        };
        (source, refused)
    }

    /// One that does not answer.
    pub fn away(name: &str, why: &str) -> Self {
        Self {
            name: name.to_owned(),
            tools: BTreeMap::new(),
            standing: Standing::Away(why.to_owned()),
        }
    }
}

/// What there is at one moment. It never changes; a later moment has another one.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    tools: BTreeMap<String, Arc<Entry>>,
    sources: BTreeMap<String, Standing>,
}

impl Shelf {
    /// Of these sources alone.
    pub(crate) fn of(sources: impl IntoIterator<Item = Source>) -> Self {
        let mut shelf = Self::default();
        let shelves = sources.into_iter().map(Self::from);
        shelves.for_each(|one| shelf.lay(one));
        shelf
    }

    /// With these tools, or the first that cannot be taken.
    pub(crate) fn of_built_in(tools: Vec<Arc<dyn Tool>>) -> Result<Self, InvalidTool> {
        let mut shelf = Self::default();
        for tool in tools {
            let name = tool.spec().name.clone();
            let entry = Arc::new(Entry::new(tool)?);
            if shelf.tools.insert(name.clone(), entry).is_some() {
                return Err(InvalidTool::Duplicate(name));
            }
        }
        Ok(shelf)
    }

    /// Says where a source stands, without a change of its tools.
    pub(crate) fn stand(&mut self, source: String, standing: Standing) {
        self.sources.insert(source, standing);
    }

    /// In the place of what these sources had.
    pub(crate) fn lay(&mut self, mut other: Self) {
        let stays = |name: &str| !source_of(name).is_some_and(|one| other.has_source(one));
        self.tools.retain(|name, _| stays(name));
        self.tools.append(&mut other.tools);
        self.sources.append(&mut other.sources);
    }

    pub(crate) fn has_source(&self, source: &str) -> bool {
        self.sources.contains_key(source)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.tools.values()
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&Arc<Entry>> {
        self.tools.get(name)
    }

    /// Whether there is a tool of this name, or a source that may bring it.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        let may_bring = |standing: &Standing| *standing != Standing::Here;
        name == ALL_OF_USERS
            || self.is_of_users(name)
            || self.tools.contains_key(name)
            || self.standing(name).is_some_and(|(_, one)| may_bring(one))
    }

    /// Whether a tool of this name would be one of a user alone.
    pub(crate) fn is_of_users(&self, name: &str) -> bool {
        let Some(source) = source_of(name) else {
            return name == ALL_OF_USERS;
        };
        self.is_of_each_user(source)
    }

    /// Whether each user has tools of one's own of this source.
    pub(crate) fn is_of_each_user(&self, source: &str) -> bool {
        source.starts_with(OF_USERS) || self.sources.get(source) == Some(&Standing::OfUsers)
    }

    /// Whether the source that a tool of this name would come from has not answered yet.
    pub(crate) fn is_asked(&self, name: &str) -> bool {
        matches!(self.standing(name), Some((_, Standing::Asked)))
    }

    /// Where the source stands that a tool of this name would come from.
    fn standing(&self, name: &str) -> Option<(&str, &Standing)> {
        let (source, standing) = self.sources.get_key_value(source_of(name)?)?;
        Some((source, standing))
    }

    /// Why there is nothing of this name, where it would come from a source.
    pub(crate) fn absence(&self, name: &str) -> Option<String> {
        let (source, standing) = self.standing(name)?;
        match standing {
            Standing::Asked => Some(format!("the tool server {source} has not answered yet")),
            Standing::Away(why) => Some(format!("the tool server {source} is away: {why}")),
            Standing::Here if self.tools.contains_key(name) => None,
            Standing::Here => Some(format!("the tool server {source} has no tool of this name")),
            Standing::OfUsers => None,
        }
    }

    /// The same of a name that is the user's own: a source that is not here is none of the user's.
    pub(crate) fn absence_of_own(&self, name: &str) -> Option<String> {
        self.absence(name).or_else(|| {
            let source = source_of(name).filter(|_| self.entry(name).is_none())?;
            Some(format!("you have no tool server {source}"))
        })
    }
}

impl From<Source> for Shelf {
    fn from(source: Source) -> Self {
        Self {
            tools: source.tools,
            sources: BTreeMap::from([(source.name, source.standing)]),
        }
    }
}

/// The source that a tool of this name comes from; none for one that is built in.
pub(crate) fn source_of(name: &str) -> Option<&str> {
    name.split_once(OF_SOURCE).map(|(source, _)| source)
}

/// What the tool of this name is called where all tools of users' own are one, so that users cannot make up names there.
pub(crate) fn label(name: &str) -> &str {
    if name.starts_with(OF_USERS) && source_of(name).is_some() {
        ALL_OF_USERS
    } else {
        name
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && name.len() <= 64
        && !RESERVED.contains(&name)
}

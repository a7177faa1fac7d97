//! What a machine gives to hold programs from outside, in the words of `netra doctor` and of a server that does not start.

use netra_worker::sandbox::{Layers, Tier};

use crate::config::Config;

/// One layer of the sandbox.
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    /// The first tier that has it.
    tier: Tier,
    pub(crate) is_there: bool,
    /// What it is, or how it could be had.
    pub(crate) words: String,
}

/// All layers, as they were found.
pub(crate) fn layers(found: &Layers, config: &Config) -> Vec<Layer> {
    let named = config.sandbox.cgroup.as_deref();
    let no_cgroup = named.map_or_else(
        || "none: `sandbox.cgroup` names no folder".to_owned(),
        |folder| {
            format!(
                "none: in {} the controllers memory and pids must be delegated to this user",
                folder.display()
            )
        },
    );
    let landlock = match found.landlock {
        0 => "none: Linux 5.13 or newer, with `landlock` among its `lsm=`".to_owned(),
        version => format!("version {version}"),
    };
    let namespaces = "none: not allowed here, as in most containers and under AppArmor's \
                      restriction of user namespaces";
    let user = match found.uid {
        Some(_) => "a user of its own for each program".to_owned(),
        None => "the server's, because only root can choose".to_owned(),
    };
    let layer = |name, tier, is_there: bool, good: &str, missing: &str| Layer {
        name,
        tier,
        is_there,
        words: if is_there { good } else { missing }.to_owned(),
    };
    let spaces = "processes, mounts, network, IPC, names";
    vec![
        layer(
            "landlock",
            Tier::Basic,
            found.landlock > 0,
            &landlock,
            &landlock,
        ),
        layer("seccomp", Tier::Basic, found.seccomp, "a filter", "none"),
        layer(
            "namespaces",
            Tier::Namespaces,
            found.namespaces,
            spaces,
            namespaces,
        ),
        layer(
            "cgroup",
            Tier::Full,
            found.cgroup,
            "memory and processes",
            &no_cgroup,
        ),
        // No tier asks for it.
        layer("user", Tier::None, found.uid.is_some(), &user, &user),
    ]
}

/// What is missing for this tier; empty where nothing is.
pub(crate) fn missing(found: &Layers, config: &Config, required: Tier) -> String {
    let lacks =
        |layer: &Layer| !layer.is_there && layer.tier > Tier::None && layer.tier <= required;
    let all = layers(found, config);
    let all = all.iter().filter(|layer| lacks(layer));
    all.map(|layer| format!("{}: {}", layer.name, layer.words))
        .collect::<Vec<_>>()
        .join("; ")
}

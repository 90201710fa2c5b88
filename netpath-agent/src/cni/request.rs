//! What the runtime asks: a command and its parameters from the environment, the network's configuration from standard
//! input. A request that parses is safe to act on.

use std::{ffi::OsString, path::PathBuf};

use super::{
    config::Network,
    error::{Code, Error},
    names::{Attachment, is_identifier, is_interface_name},
    version::Version,
};

/// A request, checked.
#[derive(Debug, PartialEq)]
pub enum Request {
    /// Which versions do you speak?
    Version {
        /// The version that the runtime gave, if any.
        asked: Option<String>,
    },
    /// A command on a network.
    On(Box<Network>, Command),
}

/// A command on a network.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Attach a container.
    Add {
        /// Which.
        attachment: Attachment,
        /// Its network namespace.
        netns: PathBuf,
        /// `namespace/name` of the pod, if the runtime told.
        pod: Option<String>,
    },
    /// Detach a container.
    Del {
        /// Which.
        attachment: Attachment,
    },
    /// Compare an attachment with what ADD answered.
    Check {
        /// Which.
        attachment: Attachment,
        /// Its network namespace.
        netns: PathBuf,
    },
    /// Detach all containers but some.
    Gc,
    /// Could ADD work now?
    Status,
}

/// The environment, by name of the variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Request {
    /// Reads a request. `stdin` is called once, after the environment has been checked.
    ///
    /// # Errors
    /// [`Code::BadEnvironment`], [`Code::Io`] if `stdin` fails, and those of [`Network::parse`].
    pub fn parse(env: Environment<'_>, stdin: impl FnOnce() -> Result<Vec<u8>, Error>) -> Result<Self, Error> {
        let mut missing = Vec::new();
        let mut need = |name: &'static str| match variable(env, name) {
            Ok(None) => {
                missing.push(name);
                Ok(String::new())
            }
            other => other.map(Option::unwrap_or_default),
        };
        let command = need("CNI_COMMAND")?;
        let (mut container_id, mut ifname, mut netns) = (String::new(), String::new(), String::new());
        match command.as_str() {
            "ADD" | "CHECK" | "DEL" => {
                container_id = need("CNI_CONTAINERID")?;
                ifname = need("CNI_IFNAME")?;
                if command != "DEL" {
                    netns = need("CNI_NETNS")?;
                }
                need("CNI_PATH")?;
            }
            "GC" | "STATUS" => {
                need("CNI_PATH")?;
            }
            "VERSION" | "" => {}
            _ => {
                return Err(
                    Error::new(Code::BadEnvironment, format!("CNI_COMMAND {command:?} is unknown"))
                        .details("use ADD, DEL, CHECK, GC, STATUS or VERSION"),
                );
            }
        }
        if !missing.is_empty() {
            return Err(
                Error::new(Code::BadEnvironment, format!("{} not set", missing.join(", ")))
                    .details("a container runtime sets these variables; to try the plugin by hand use cnitool"),
            );
        }
        if command == "VERSION" {
            // The answer is the same whatever stands on standard input, so that an old runtime can ask, too.
            let asked = stdin().ok().and_then(|json| {
                let object: serde_json::Value = serde_json::from_slice(&json).ok()?;
                Some(object.get("cniVersion")?.as_str()?.to_owned())
            });
            return Ok(Self::Version { asked });
        }
        if matches!(command.as_str(), "ADD" | "CHECK" | "DEL") {
            check_names(&container_id, &ifname)?;
        }
        if !netns.is_empty() && !netns.starts_with('/') {
            return Err(Error::new(
                Code::BadEnvironment,
                format!("CNI_NETNS {netns:?} is not an absolute path"),
            )
            .details("the runtime names the file that stands for the pod's network namespace"));
        }
        let network = Network::parse(&stdin()?)?;
        let attachment = Attachment { container_id, ifname };
        let command = match command.as_str() {
            "ADD" => Command::Add {
                attachment,
                netns: netns.into(),
                pod: pod(variable(env, "CNI_ARGS").ok().flatten()),
            },
            "DEL" => Command::Del { attachment },
            "CHECK" => {
                network.version.require(Version::V0_4_0, "CHECK")?;
                Command::Check {
                    attachment,
                    netns: netns.into(),
                }
            }
            "GC" => {
                network.version.require(Version::V1_1_0, "GC")?;
                Command::Gc
            }
            _ => {
                network.version.require(Version::V1_1_0, "STATUS")?;
                Command::Status
            }
        };
        Ok(Self::On(Box::new(network), command))
    }
}

/// A variable that is set and not empty.
fn variable(env: Environment<'_>, name: &str) -> Result<Option<String>, Error> {
    match env(name) {
        None => Ok(None),
        Some(value) if value.is_empty() => Ok(None),
        Some(value) => value
            .into_string()
            .map(Some)
            .map_err(|value| Error::new(Code::BadEnvironment, format!("{name} {value:?} is not UTF-8"))),
    }
}

fn check_names(container_id: &str, ifname: &str) -> Result<(), Error> {
    if !is_identifier(container_id) {
        return Err(Error::new(
            Code::BadEnvironment,
            format!("CNI_CONTAINERID {container_id:?} is not valid"),
        )
        .details("use a letter or digit, then letters, digits, '_', '.' and '-', 255 at most"));
    }
    if !is_interface_name(ifname) {
        return Err(Error::new(
            Code::BadEnvironment,
            format!("CNI_IFNAME {ifname:?} is not a device name"),
        )
        .details("use 1 to 15 characters without '/', ':' and white space"));
    }
    Ok(())
}

/// `namespace/name` of the pod, from `KEY=VALUE` pairs between semicolons. It is for people to read, so whatever is not the
/// name of a pod is passed over.
fn pod(args: Option<String>) -> Option<String> {
    let args = args?;
    let value = |key: &str| {
        args.split(';')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    };
    let (namespace, name) = (value("K8S_POD_NAMESPACE")?, value("K8S_POD_NAME")?);
    (is_identifier(namespace) && is_identifier(name)).then(|| format!("{namespace}/{name}"))
}

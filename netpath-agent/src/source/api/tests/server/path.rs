//! What the paths of requests mean.

use serde_json::Value;

use super::super::{NODES, SERVICE_CIDRS, SERVICES, SLICES};

/// The path of an object's kind, and its namespace and name.
pub(super) fn of(object: &Value) -> (String, String) {
    let path = match object["kind"].as_str().unwrap() {
        "Node" => NODES,
        "Service" => SERVICES,
        "EndpointSlice" => SLICES,
        "ServiceCIDR" => SERVICE_CIDRS,
        other => panic!("no path of {other}"),
    };
    let meta = &object["metadata"];
    (
        path.into(),
        format!(
            "{}/{}",
            meta["namespace"].as_str().unwrap_or(""),
            meta["name"].as_str().unwrap()
        ),
    )
}

/// The object that a path names, as [`of`] has it; `None` if it names none of a kind that the script knows.
pub(super) fn object(path: &str) -> Option<(String, String)> {
    let (parent, name) = path.rsplit_once('/')?;
    let (kind, namespace) = match parent.split_once("/namespaces/") {
        Some((group, rest)) => {
            let (namespace, plural) = rest.split_once('/')?;
            (format!("{group}/{plural}"), namespace)
        }
        None => (parent.to_owned(), ""),
    };
    let known = [NODES, SERVICES, SLICES, SERVICE_CIDRS].contains(&kind.as_str());
    known.then(|| (kind, format!("{namespace}/{name}")))
}

/// The right that a request takes: `get` on `nodes`, `patch` on `nodes/status`, `list` on `endpointslices.discovery.k8s.io`.
pub(super) fn right(method: &str, path: &str, watch: bool) -> Option<(String, String)> {
    let mut parts = path.split('/').skip(1);
    let group = match parts.next()? {
        "api" => String::new(),
        _ => format!(".{}", parts.next()?),
    };
    let mut parts = parts.skip(1).peekable();
    if parts.next_if_eq(&"namespaces").is_some() {
        parts.next()?;
    }
    let (plural, name, part) = (parts.next()?, parts.next(), parts.next());
    let verb = match method {
        "GET" if watch => "watch",
        "GET" if name.is_none() => "list",
        "GET" => "get",
        "POST" => "create",
        "PATCH" => "patch",
        other => other,
    };
    let part = part.map_or_else(String::new, |part| format!("/{part}"));
    Some((verb.to_owned(), format!("{plural}{group}{part}")))
}

//! Kubernetes objects out of a stream of YAML documents, reduced at once.
//!
//! What is wrong with one object is that object's [`Problem`]. What is wrong with the text itself is a [`Fault`] of the
//! whole: after it, nobody can tell what else was meant.

use std::sync::Arc;

use k8s_openapi::serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_norway::Value;

use crate::model::{Node, ObjectName, Problem, Reduce, Service, ServiceCidr, Slice};

/// How deep lists may lie in lists.
const LIST_DEPTH: usize = 4;
/// How many brackets may be open at once. The parser looks at every open one for each that follows, before it refuses what is
/// too deep for it: a small file of them alone would keep it busy for minutes. Brackets in quoted text count as well, so
/// this is far more than any object has.
const OPEN_BRACKETS: usize = 2000;

/// An object of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The document it is from, counted from 1.
    pub document: usize,
    /// Its name; with the content's kind this is what makes it one object.
    pub name: ObjectName,
    /// The object, `None` if it is not ours to serve.
    pub content: Content,
    /// Why the content is empty, or is an earlier one.
    pub problem: Option<Box<Problem>>,
}

/// A reduced object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A node.
    Node(Option<Arc<Node>>),
    /// A service.
    Service(Option<Arc<Service>>),
    /// A slice.
    Slice(Option<Arc<Slice>>),
    /// A range of services.
    ServiceCidr(Option<Arc<ServiceCidr>>),
}

impl Content {
    /// The object's kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Content::Node(_) => Node::KIND,
            Content::Service(_) => Service::KIND,
            Content::Slice(_) => Slice::KIND,
            Content::ServiceCidr(_) => ServiceCidr::KIND,
        }
    }
}

/// Why a text cannot be taken at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The document, counted from 1.
    pub document: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Reads all documents; kinds that the datapath has no use for are left out.
///
/// # Errors
/// The first document that is not YAML, not an object, or an object without a name.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::new();
    if let Some(document) = bracketed(text) {
        let what = format!("more than {OPEN_BRACKETS} brackets are open at once");
        return Err(Fault { document, what });
    }
    for (index, document) in serde_norway::Deserializer::from_str(text).enumerate() {
        let number = index + 1;
        let fault = |what: String| Fault { document: number, what };
        let mut value = Value::deserialize(document).map_err(|error| fault(error.to_string()))?;
        value.apply_merge().map_err(|error| fault(error.to_string()))?;
        read_value(value, None, LIST_DEPTH, number, &mut entries).map_err(fault)?;
    }
    entries.shrink_to_fit();
    Ok(entries)
}

/// The document that has more than [`OPEN_BRACKETS`], counted from 1.
fn bracketed(text: &str) -> Option<usize> {
    let (mut document, mut any, mut open) = (1, false, 0_usize);
    for line in text.lines() {
        if line.starts_with("---") {
            document += usize::from(any);
            (any, open) = (true, 0);
        }
        any |= !line.trim().is_empty();
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
            if open > OPEN_BRACKETS {
                return Some(document);
            }
        }
    }
    None
}

fn read_value(
    value: Value,
    kind_of_list: Option<(String, String)>,
    depth: usize,
    document: usize,
    entries: &mut Vec<Entry>,
) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    let written = text("apiVersion").zip(text("kind"));
    let Some((version, kind)) = written.or(kind_of_list) else {
        return Err("it is not a Kubernetes object: apiVersion or kind is missing".into());
    };
    if let (Some(item_kind), Some(items)) = (
        kind.strip_suffix("List"),
        value.get("items").and_then(Value::as_sequence),
    ) {
        if depth == 0 {
            return Err(format!("lists lie in lists, more than {LIST_DEPTH} deep"));
        }
        // The items of a ServiceList need not say that they are Services; those of a plain List must.
        let item = (!item_kind.is_empty()).then(|| (version.clone(), item_kind.to_owned()));
        for value in items.clone() {
            read_value(value, item.clone(), depth - 1, document, entries)?;
        }
        return Ok(());
    }
    let entry = match (version.as_str(), kind.as_str()) {
        ("v1", Node::KIND) => read_object(value, document, true, Content::Node)?,
        ("v1", Service::KIND) => read_object(value, document, false, Content::Service)?,
        ("discovery.k8s.io/v1", Slice::KIND) => read_object(value, document, false, Content::Slice)?,
        ("networking.k8s.io/v1", ServiceCidr::KIND) => read_object(value, document, true, Content::ServiceCidr)?,
        _ => {
            tracing::debug!(document, %version, %kind, "left out: the datapath has no use for objects of this kind");
            return Ok(());
        }
    };
    entries.push(entry);
    Ok(())
}

fn read_object<T: Reduce>(
    value: Value,
    document: usize,
    global: bool,
    wrap: fn(Option<Arc<T>>) -> Content,
) -> Result<Entry, String>
where
    T::Object: DeserializeOwned,
{
    let meta = value.get("metadata");
    let text = |field: &str| meta.and_then(|meta| meta.get(field)).and_then(Value::as_str);
    let Some(own_name) = text("name").filter(|name| !name.is_empty()) else {
        return Err(format!("a {} has no metadata.name", T::KIND));
    };
    let namespace = if global {
        ""
    } else {
        text("namespace").unwrap_or("default")
    };
    if namespace.contains('/') {
        return Err(format!("a {} is in namespace {namespace:?}, which is no name", T::KIND));
    }
    let name = ObjectName::new(namespace, own_name);
    let converted = serde_norway::from_value(value)
        .map_err(|error| {
            let what = format!("document {document} cannot be read: {error}");
            Problem::refused(T::KIND, &name, what, "correct the field's type")
        })
        .and_then(|object| T::convert(&name, &object));
    let (content, problem) = match converted {
        Ok(content) => (content, None),
        Err(problem) => (None, Some(Box::new(problem))),
    };
    Ok(Entry {
        document,
        name,
        content: wrap(content.map(Arc::new)),
        problem,
    })
}

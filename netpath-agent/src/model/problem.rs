//! What is wrong with an object, said so that the person who wrote it can mend it.

use std::fmt;

use super::ObjectName;

/// How much of an object a problem costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The object, or the named part of it, is not served.
    Refused,
    /// The object is served, but not in the way that the named field asks for.
    NotServed,
}

/// A fault in one object. All other objects go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// The object's kind, as in its YAML: `Service`. For a file that could not be read: `File`.
    pub kind: &'static str,
    /// Its namespace; empty for a node or a file.
    pub namespace: String,
    /// Its name, or the file's path.
    pub name: String,
    /// How much it costs.
    pub severity: Severity,
    /// What is wrong, naming the field and its value.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// A fault of an object in a namespace, or of a part of it.
    pub fn refused(kind: &'static str, name: &ObjectName, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: name.namespace().to_owned(),
            name: name.name().to_owned(),
            severity: Severity::Refused,
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// A fault of an object outside of namespaces: a node, a file.
    pub fn refused_global(
        kind: &'static str,
        name: impl AsRef<str>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::refused(kind, &ObjectName::new("", name), what, remedy)
    }

    /// A field that is not served, on an object that is.
    pub fn not_served(
        kind: &'static str,
        name: &ObjectName,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::NotServed,
            ..Self::refused(kind, name, what, remedy)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            namespace,
            name,
            what,
            remedy,
            ..
        } = self;
        let slash = if namespace.is_empty() { "" } else { "/" };
        write!(f, "{kind} {namespace}{slash}{name}: {what}; {remedy}")
    }
}

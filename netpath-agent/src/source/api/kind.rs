//! What is known of one kind's objects, and what an event makes of it.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::serde::de::DeserializeOwned;
use kube::{Resource, ResourceExt, api::DynamicObject, runtime::watcher::Event};

use crate::model::{ObjectName, Problem, Reduce};

/// An object, reduced or refused; `None` if it is not ours to serve.
pub(super) struct Item<T> {
    name: ObjectName,
    content: Result<Option<T>, Problem>,
}

/// Reduces the object of an event.
pub(super) fn reduce<T, K>(event: Event<DynamicObject>) -> Event<Item<T>>
where
    T: Reduce<Object = K>,
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let item = |object: DynamicObject| {
        let name = ObjectName::new(object.namespace().unwrap_or_default(), object.name_any());
        let content = object
            .try_parse::<K>()
            .map_err(|error| {
                Problem::refused(
                    T::KIND,
                    &name,
                    format!("it cannot be read: {error}"),
                    "correct the object",
                )
            })
            .and_then(|object| T::convert(&name, &object));
        Item { name, content }
    };
    match event {
        Event::Apply(object) => Event::Apply(item(object)),
        Event::Delete(object) => Event::Delete(item(object)),
        Event::InitApply(object) => Event::InitApply(item(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// What is known of a kind's objects.
pub(super) struct Known<T> {
    current: Objects<T>,
    /// The list that is coming in.
    listing: Option<Objects<T>>,
    /// Whether a list was ever complete.
    complete: bool,
}

#[derive(PartialEq)]
struct Objects<T> {
    objects: BTreeMap<ObjectName, Arc<T>>,
    problems: BTreeMap<ObjectName, Problem>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            problems: BTreeMap::new(),
        }
    }
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            current: Objects::default(),
            listing: None,
            complete: false,
        }
    }
}

impl<T: PartialEq> Known<T> {
    /// Whether a list was ever complete.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The objects. Of one that cannot be understood any more, its earlier self.
    pub fn objects(&self) -> &BTreeMap<ObjectName, Arc<T>> {
        &self.current.objects
    }

    /// What is wrong with objects as a whole.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.current.problems.values()
    }

    /// Takes in an event, and says whether anything is different after it.
    pub fn take(&mut self, event: Event<Item<T>>) -> bool {
        match event {
            Event::Apply(item) => {
                let name = item.name.clone();
                let (earlier, problem) = self.current.remove(&name);
                self.current.insert(item, earlier.clone());
                return self.current.objects.get(&name) != earlier.as_ref()
                    || self.current.problems.get(&name) != problem.as_ref();
            }
            Event::Delete(item) => return self.current.remove(&item.name) != (None, None),
            Event::Init => self.listing = Some(Objects::default()),
            Event::InitApply(item) => {
                let earlier = item
                    .content
                    .is_err()
                    .then(|| self.current.objects.get(&item.name).cloned())
                    .flatten();
                self.listing.get_or_insert_default().insert(item, earlier);
            }
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let news = !self.complete || self.current != listed;
                self.current = listed;
                self.complete = true;
                return news;
            }
        }
        false
    }
}

impl<T> Objects<T> {
    fn remove(&mut self, name: &ObjectName) -> (Option<Arc<T>>, Option<Problem>) {
        (self.objects.remove(name), self.problems.remove(name))
    }

    fn insert(&mut self, item: Item<T>, earlier: Option<Arc<T>>) {
        let object = match item.content {
            Ok(object) => object.map(Arc::new),
            Err(problem) => {
                self.problems.insert(item.name.clone(), problem);
                earlier
            }
        };
        if let Some(object) = object {
            self.objects.insert(item.name, object);
        }
    }
}

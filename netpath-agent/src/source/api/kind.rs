//! What is known of one kind's objects, and what an event makes of it.

use std::{collections::BTreeMap, sync::Arc};

use imbl::OrdMap;
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
pub(super) struct Known<T: Reduce> {
    current: Objects<T>,
    /// The list that is coming in.
    listing: Option<Objects<T>>,
    /// Whether a list was ever complete.
    complete: bool,
}

#[derive(PartialEq)]
struct Objects<T: Reduce> {
    objects: OrdMap<T::Key, Arc<T>>,
    problems: BTreeMap<ObjectName, Problem>,
}

impl<T: Reduce> Default for Objects<T> {
    fn default() -> Self {
        Self {
            objects: OrdMap::new(),
            problems: BTreeMap::new(),
        }
    }
}

impl<T: Reduce> Default for Known<T> {
    fn default() -> Self {
        Self {
            current: Objects::default(),
            listing: None,
            complete: false,
        }
    }
}

impl<T: Reduce> Known<T> {
    /// Whether a list was ever complete.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The objects. Of one that cannot be understood any more, its earlier self.
    pub fn objects(&self) -> &OrdMap<T::Key, Arc<T>> {
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
                let earlier = self.current.objects.get(&T::key(&item.name)).cloned();
                return self.current.put(item, earlier);
            }
            Event::Delete(item) => {
                let nothing = Item {
                    name: item.name,
                    content: Ok(None),
                };
                return self.current.put(nothing, None);
            }
            Event::Init => self.listing = Some(Objects::default()),
            Event::InitApply(item) => {
                let earlier = self.current.objects.get(&T::key(&item.name)).cloned();
                self.listing.get_or_insert_default().put(item, earlier);
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

impl<T: Reduce> Objects<T> {
    /// Puts an object in its place, and says whether anything is different after it. What equals its `earlier` self stays that:
    /// whoever compares two clusters need not look into it.
    fn put(&mut self, item: Item<T>, earlier: Option<Arc<T>>) -> bool {
        let (object, problem) = match item.content {
            Ok(object) => {
                let same = object.as_ref() == earlier.as_deref();
                (if same { earlier } else { object.map(Arc::new) }, None)
            }
            Err(problem) => (earlier, Some(problem)),
        };
        let key = T::key(&item.name);
        let news = self.objects.get(&key) != object.as_ref() || self.problems.get(&item.name) != problem.as_ref();
        match problem {
            Some(problem) => self.problems.insert(item.name, problem),
            None => self.problems.remove(&item.name),
        };
        if news {
            match object {
                Some(object) => self.objects.insert(key, object),
                None => self.objects.remove(&key),
            };
        }
        news
    }
}

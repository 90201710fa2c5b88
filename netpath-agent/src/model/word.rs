//! Words that many objects say alike, such as the names of ports and of nodes: each is held once, whoever says it.

use std::{
    collections::HashSet,
    fmt,
    ops::Deref,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

/// A word. All of the same letters share them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct Word(Arc<str>);

/// The words that are in use, and some that were.
#[derive(Default)]
struct Words {
    all: HashSet<Arc<str>>,
    /// How many there may be before those that nobody says any more are forgotten.
    room: usize,
}

/// The fewest words for which it is worth looking which are still said.
const LEAST_ROOM: usize = 1024;

static WORDS: LazyLock<Mutex<Words>> = LazyLock::new(Mutex::default);

impl Words {
    fn get(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.all.get(word) {
            return Arc::clone(known);
        }
        if self.all.len() >= self.room {
            self.all.retain(|word| Arc::strong_count(word) > 1);
            // Twice of what is said, so that looking stays cheap for each word that comes.
            self.room = LEAST_ROOM.max(self.all.len() * 2);
        }
        let new: Arc<str> = word.into();
        self.all.insert(Arc::clone(&new));
        new
    }
}

impl Deref for Word {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Word {
    fn from(word: &str) -> Self {
        // The words are whole after every statement: a panic elsewhere does not spoil them.
        Self(WORDS.lock().unwrap_or_else(PoisonError::into_inner).get(word))
    }
}

impl From<String> for Word {
    fn from(word: String) -> Self {
        word.as_str().into()
    }
}

impl From<Word> for String {
    fn from(word: Word) -> Self {
        word.to_string()
    }
}

impl Default for Word {
    fn default() -> Self {
        "".into()
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_held_once() {
        let (one, other) = (
            Word::from("a word of this test"),
            Word::from("a word of this test".to_owned()),
        );
        assert!(Arc::ptr_eq(&one.0, &other.0));
        assert_eq!(&*one, "a word of this test");
        assert_ne!(one, Word::default());
    }

    #[test]
    fn words_that_nobody_says_are_forgotten() {
        let mut words = Words::default();
        let said: Vec<_> = (0..LEAST_ROOM / 2)
            .map(|number| words.get(&format!("said-{number}")))
            .collect();
        for number in 0..LEAST_ROOM * 8 {
            words.get(&format!("passing-{number}"));
        }
        assert!(words.all.len() <= LEAST_ROOM, "{}", words.all.len());
        for word in &said {
            assert!(Arc::ptr_eq(word, &words.get(word)), "{word}");
        }
    }
}

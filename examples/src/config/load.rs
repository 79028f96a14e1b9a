//! Lays a file and the environment over the defaults.
//!
//! A file that KubeEdge takes is taken: keys in any case, what an earlier release had, `key:` with nothing behind it. What KubeEdge
//! passes over in silence is told: a key that nobody knows is a mistake, one without effect here deserves a word.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::catalogue::{Catalogue, Fate, Key};
use super::defaults::{at, set};
use super::given::{Given, GivenValue, Place};
use super::host::Host;
use super::mistake::{ConfigError, line};
use super::words;

/// A file as our programs take it. Its fields are the honoured keys of the catalogue.
pub trait Configuration: Serialize + DeserializeOwned {
    /// Its keys.
    fn catalogue() -> &'static Catalogue;

    /// What is wrong beyond single values: the key, and what was expected.
    fn mistakes(&self) -> Vec<(&'static str, String)>;
}

/// A configuration, and what is to be said about the keys that were given and have no effect here.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The effective configuration.
    pub config: T,
    /// A sentence for each run of keys without effect.
    pub words: Vec<String>,
    file: String,
    places: HashMap<String, Place>,
}

impl<T: Configuration> Loaded<T> {
    /// Whether the program can start with it as it is now.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mistakes: Vec<_> = self
            .config
            .mistakes()
            .into_iter()
            .map(|(key, what)| line(&self.file, self.places.get(key), key, &what))
            .collect();
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Mistakes(mistakes))
        }
    }
}

/// The defaults.
pub(super) fn defaults<T: Configuration>() -> T {
    let catalogue = T::catalogue();
    serde_json::from_value(catalogue.honoured(&catalogue.defaults(&Host::this())))
        .expect("a test reads the defaults of both programs")
}

/// Reads `file`, if there is one, over the defaults, then the variables of `environment` that begin with the program's name and
/// `__`: `CLOUDCORE__MODULES__CLOUDHUB__NODELIMIT=1000` sets `modules.cloudHub.nodeLimit`.
pub fn load<T: Configuration>(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded<T>, ConfigError> {
    let name = file.map(|path| path.display().to_string()).unwrap_or_default();
    let mut laying = Laying::new(T::catalogue(), name);
    if let Some(path) = file {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Read(laying.file.clone(), error))?;
        laying.lay_file(&text);
    }
    let start = format!("{}__", T::catalogue().program.to_uppercase());
    for (name, value) in environment {
        if let Some(path) = name.strip_prefix(&start) {
            laying.lay_variable(&name, path, &value);
        }
    }
    laying.finish()
}

struct Laying {
    catalogue: &'static Catalogue,
    keys: Vec<(String, Key)>,
    defaults: Value,
    effective: Value,
    file: String,
    /// Where each honoured key was given.
    places: HashMap<String, Place>,
    mistakes: Vec<String>,
    /// Keys that have no effect, with what was given.
    ignored: Vec<(Key, Value)>,
    moved: Vec<(&'static str, Given)>,
}

/// What a name stands for below a path.
enum Child {
    Leaf(Key),
    Branch(String),
}

impl Laying {
    fn new(catalogue: &'static Catalogue, file: String) -> Self {
        let defaults = catalogue.defaults(&Host::this());
        Self {
            catalogue,
            keys: catalogue.keys().map(|key| (key.path(), key)).collect(),
            effective: catalogue.honoured(&defaults),
            defaults,
            file,
            places: HashMap::new(),
            mistakes: Vec::new(),
            ignored: Vec::new(),
            moved: Vec::new(),
        }
    }

    fn lay_file(&mut self, text: &str) {
        match Given::parse(text) {
            Ok(given) => self.lay("", &given),
            Err(error) => {
                let place = error
                    .place
                    .map_or(String::new(), |(line, column)| format!(":{line}:{column}"));
                self.mistakes
                    .push(format!("{}{place}: not YAML: {}", self.file, error.reason));
            }
        }
    }

    fn lay(&mut self, path: &str, given: &Given) {
        match &given.value {
            GivenValue::Null => {}
            GivenValue::Map(entries) => {
                for (place, name, value) in entries {
                    match self.child(path, name) {
                        Some(Child::Leaf(key)) => self.take(key, value),
                        Some(Child::Branch(path)) => self.lay(&path, value),
                        None => self.unknown(path, name, place),
                    }
                }
            }
            _ => self.mistake(
                &given.place,
                path,
                &format!("expected keys below it, got {}", given.show()),
            ),
        }
    }

    fn lay_variable(&mut self, variable: &str, path: &str, text: &str) {
        let mut at = String::new();
        for name in path.split("__") {
            match self.child(&at, name) {
                Some(Child::Branch(path)) => at = path,
                Some(Child::Leaf(key)) => {
                    let mut given = Given::of_variable(variable, text);
                    if key.kind.is_text() {
                        given.value = GivenValue::Text(text.to_owned());
                    }
                    return self.take(key, &given);
                }
                None => return self.unknown(&at, name, &Place::Variable(variable.to_owned())),
            }
        }
        self.lay(&at, &Given::of_variable(variable, text));
    }

    /// What a name, in any case, stands for below a path.
    fn child(&self, path: &str, name: &str) -> Option<Child> {
        self.keys.iter().find_map(|(full, key)| {
            let rest = if path.is_empty() {
                full
            } else {
                full.strip_prefix(path)?.strip_prefix('.')?
            };
            let (segment, more) = rest
                .split_once('.')
                .map_or((rest, false), |(segment, _)| (segment, true));
            if !segment.eq_ignore_ascii_case(name) {
                return None;
            }
            let until = full.len() - rest.len() + segment.len();
            Some(if more {
                Child::Branch(full[..until].to_owned())
            } else {
                Child::Leaf(*key)
            })
        })
    }

    fn take(&mut self, key: Key, given: &Given) {
        // `key:` with nothing behind it leaves the default.
        if given.value == GivenValue::Null {
            return;
        }
        let path = key.path();
        let fits = key
            .kind
            .read(given)
            .and_then(|value| match at(&self.defaults, &path) {
                Some(default) if !honoured(key.run.fate) => like(default, value),
                _ => Ok(value),
            });
        let value = match fits {
            Ok(value) => value,
            Err(expected) => {
                let what = format!("expected {expected}, got {}", given.show());
                return self.mistake(&given.place, &path, &what);
            }
        };
        match key.run.fate {
            Fate::Honoured(_) => {
                set(&mut self.effective, &path, value);
                self.places.insert(path, given.place.clone());
            }
            Fate::Moved(to) => self.moved.push((to, given.clone())),
            _ => self.ignored.push((key, value)),
        }
    }

    fn unknown(&mut self, path: &str, name: &str, place: &Place) {
        let full = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        let what = match words::nearest(self.keys.iter().map(|(full, _)| full.as_str()), path, name) {
            Some(near) => format!("there is no such key; did you mean {near}?"),
            None => "there is no such key".into(),
        };
        self.mistake(place, &full, &what);
    }

    fn mistake(&mut self, place: &Place, key: &str, what: &str) {
        let key = if key.is_empty() { "the file" } else { key };
        self.mistakes.push(line(&self.file, Some(place), key, what));
    }

    fn finish<T: Configuration>(mut self) -> Result<Loaded<T>, ConfigError> {
        for (to, given) in std::mem::take(&mut self.moved) {
            let target = self.keys.iter().find(|(full, _)| full == to).map(|(_, key)| *key);
            if let (Some(key), false) = (target, self.places.contains_key(to)) {
                self.take(key, &given);
            }
        }
        if !self.mistakes.is_empty() {
            return Err(ConfigError::Mistakes(self.mistakes));
        }
        let config = serde_json::from_value(self.effective)
            .map_err(|error| ConfigError::Mistakes(vec![error.to_string()]))?;
        let words = words::about(self.catalogue, &self.ignored, &self.defaults);
        Ok(Loaded {
            config,
            words,
            file: self.file,
            places: self.places,
        })
    }
}

fn honoured(fate: Fate) -> bool {
    matches!(fate, Fate::Honoured(_))
}

/// A key without effect is held to the type of KubeEdge's default, as KubeEdge holds it.
fn like(default: &Value, value: Value) -> Result<Value, String> {
    let (fits, expected) = match default {
        Value::Bool(_) => (value.is_boolean(), "true or false"),
        Value::Number(_) => (value.is_number(), "a number"),
        Value::String(_) => (!value.is_array() && !value.is_object(), "a text"),
        Value::Array(_) => (value.is_array(), "a list"),
        Value::Object(_) => (value.is_object(), "keys and values"),
        Value::Null => (true, ""),
    };
    if fits { Ok(value) } else { Err(expected.into()) }
}

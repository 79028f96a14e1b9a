//! A set of fields: which parts of an object somebody owns.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::{Element, InvalidElement};

/// Fields of an object, as a tree. A field may be in the set without what is below it, and the other way round.
///
/// Written as `FieldsV1` (Kubernetes `apimachinery/pkg/apis/meta/v1`): what is below a field stands in its object, and `.` says that the
/// field itself is in the set too. One with nothing below is an empty object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    nodes: BTreeMap<Element, Node>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: FieldSet,
}

impl FieldSet {
    /// A set of paths of plain fields.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.iter().map(|name| Element::field(name)).collect::<Vec<_>>());
        }
        set
    }

    /// Adds the end of a path; what is above it is not added. Nobody owns an object as such, so an empty path adds nothing.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let node = match self.nodes.get_mut(first) {
            Some(node) => node,
            None => self.nodes.entry(first.clone()).or_default(),
        };
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether the end of a path is in it.
    pub fn contains(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.has(last),
            [first, rest @ ..] => self.below(first).is_some_and(|below| below.contains(rest)),
        }
    }

    /// Whether a step from the top is in it.
    pub(super) fn has(&self, element: &Element) -> bool {
        self.nodes.get(element).is_some_and(|node| node.member)
    }

    /// What is below a step from the top, if anything is.
    pub(super) fn below(&self, element: &Element) -> Option<&Self> {
        let below = &self.nodes.get(element)?.below;
        (!below.is_empty()).then_some(below)
    }

    /// The steps from the top, each with whether it is in the set itself and what is below it.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&Element, bool, &Self)> {
        self.nodes
            .iter()
            .map(|(element, node)| (element, node.member, &node.below))
    }

    /// Puts a step with all below it.
    pub(super) fn put(&mut self, element: Element, member: bool, below: Self) {
        if member || !below.is_empty() {
            self.nodes.insert(element, Node { member, below });
        }
    }

    /// Adds a step with all below it to what is there of it.
    pub(super) fn add(&mut self, element: &Element, member: bool, below: Self) {
        if member || !below.is_empty() {
            let node = self.nodes.entry(element.clone()).or_default();
            node.member |= member;
            node.below = std::mem::take(&mut node.below).union(below);
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        for (element, node) in other.nodes {
            let held = self.nodes.entry(element).or_default();
            held.member |= node.member;
            held.below = std::mem::take(&mut held.below).union(node.below);
        }
        self
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut set = Self::default();
        for (element, member, below) in self.steps() {
            if let Some(node) = other.nodes.get(element) {
                set.put(
                    element.clone(),
                    member && node.member,
                    below.intersection(&node.below),
                );
            }
        }
        set
    }

    /// What is in this one only. Taking a field away leaves what is below it.
    #[must_use]
    pub fn difference(self, other: &Self) -> Self {
        self.without(other, false)
    }

    /// What is in this one only, where taking a field away takes what is below it too.
    #[must_use]
    pub fn without_all_below(self, other: &Self) -> Self {
        self.without(other, true)
    }

    fn without(mut self, other: &Self, all_below: bool) -> Self {
        if other.is_empty() {
            return self;
        }
        self.nodes.retain(|element, node| {
            let Some(taken) = other.nodes.get(element) else {
                return true;
            };
            if taken.member && all_below {
                return false;
            }
            node.member &= !taken.member;
            node.below = std::mem::take(&mut node.below).without(&taken.below, all_below);
            node.member || !node.below.is_empty()
        });
        self
    }

    /// Only what stands below one field from the top, and that field.
    #[must_use]
    pub fn only(mut self, field: &str) -> Self {
        let only = Element::field(field);
        self.nodes.retain(|element, _| *element == only);
        self
    }

    /// All paths: those that end here first, then what is below, step by step.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, above: &mut Vec<Element>, paths: &mut Vec<Vec<Element>>) {
        for (element, _, _) in self.steps().filter(|(_, member, _)| *member) {
            paths.push(above.iter().chain([element]).cloned().collect());
        }
        for (element, _, below) in self.steps() {
            above.push(element.clone());
            below.collect(above, paths);
            above.pop();
        }
    }

    /// As `FieldsV1`.
    pub fn to_json(&self) -> Value {
        let fields = self.steps().map(|(element, member, below)| {
            let mut below = below.to_json();
            if let Value::Object(below) = &mut below
                && member
                && !below.is_empty()
            {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            (element.encode(), below)
        });
        // They come nearly in the order of a map, which is then made in one go.
        Value::Object(fields.collect())
    }

    /// Out of `FieldsV1`. Steps of a kind that is not known are left out.
    pub fn from_json(fields: &Value) -> Result<Self, InvalidElement> {
        let mut set = Self::default();
        for (key, value) in fields.as_object().into_iter().flatten() {
            if key == "." {
                continue;
            }
            let Some(element) = Element::decode(key)? else {
                continue;
            };
            let below = Self::from_json(value)?;
            let member = below.is_empty() || value.get(".").is_some();
            set.put(element, member, below);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn set(fields: Value) -> FieldSet {
        FieldSet::from_json(&fields).unwrap()
    }

    #[test]
    fn a_field_may_be_owned_without_what_is_below_it_and_the_other_way_round() {
        let both = json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"k:{\"name\":\"x\"}": {}}});
        assert_eq!(set(both.clone()).to_json(), both);
        let owned = set(both);
        assert!(owned.contains(&[Element::field("a")]) && !owned.contains(&[Element::field("c")]));
        let less = owned.clone().difference(&set(json!({"f:a": {}})));
        assert_eq!(
            less.to_json(),
            json!({"f:a": {"f:b": {}}, "f:c": {"k:{\"name\":\"x\"}": {}}})
        );
        let less = owned.without_all_below(&set(json!({"f:a": {}})));
        assert_eq!(less.to_json(), json!({"f:c": {"k:{\"name\":\"x\"}": {}}}));
    }

    #[test]
    fn paths_end_here_first_and_then_below() {
        let paths = set(json!({"f:a": {"f:x": {}}, "f:b": {}})).paths();
        let shown: Vec<String> = paths
            .iter()
            .map(|path| path.iter().map(Element::to_string).collect())
            .collect();
        assert_eq!(shown, [".b", ".a.x"]);
    }

    fn any_set() -> impl Strategy<Value = FieldSet> {
        let element = prop_oneof![
            "[a-c]".prop_map(|name| Element::field(&name)),
            "[a-c]".prop_map(|name| Element::Key(vec![("name".into(), name.into())])),
            (0..3_i64).prop_map(|value| Element::Value(value.into())),
        ];
        let path = prop::collection::vec(element, 1..4);
        prop::collection::vec(path, 0..12).prop_map(|paths| {
            let mut set = FieldSet::default();
            paths.iter().for_each(|path| set.insert(path));
            set
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(set in any_set()) {
            prop_assert_eq!(&FieldSet::from_json(&set.to_json()).unwrap(), &set);
        }

        #[test]
        fn sets_are_sets(a in any_set(), b in any_set()) {
            let either = a.clone().union(b.clone());
            for path in either.paths() {
                prop_assert_eq!(a.intersection(&b).contains(&path), a.contains(&path) && b.contains(&path));
                prop_assert_eq!(a.clone().difference(&b).contains(&path), a.contains(&path) && !b.contains(&path));
                prop_assert!(a.contains(&path) || b.contains(&path));
            }
            prop_assert_eq!(a.clone().difference(&b).union(a.intersection(&b)), a);
        }

        #[test]
        fn no_text_panics(key in "([fkviz.]:?)?[ -~]{0,10}") {
            let _ = FieldSet::from_json(&json!({ key: {} }));
        }
    }
}

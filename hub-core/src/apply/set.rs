//! A set of fields: which parts of an object somebody owns.

use serde_json::{Map, Value};

use super::element::{Element, InvalidElement};

/// Fields of an object, as a tree. A field may be in the set without what is below it, and the other way round.
///
/// Written as `FieldsV1` (Kubernetes `apimachinery/pkg/apis/meta/v1`): what is below a field stands in its object, and `.` says that the
/// field itself is in the set too. One with nothing below is an empty object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// In the order of their steps, each once. A pod has a set for each of its variables, of three fields mostly, so a tree would be
    /// most of what its owners take.
    nodes: Vec<(Element, Node)>,
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

    /// Of steps in any order. Of two that are the same, the later one counts.
    pub(super) fn of_steps(mut steps: Vec<(Element, bool, Self)>) -> Self {
        // One after the other, each in its place, would take the square of their number.
        steps.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        let mut set = Self::default();
        for (element, member, below) in steps {
            set.put(element, member, below);
        }
        set
    }

    /// Adds the end of a path; what is above it is not added. Nobody owns an object as such, so an empty path adds nothing.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let node = self.node_mut(first);
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
        self.node(element).is_some_and(|node| node.member)
    }

    /// What is below a step from the top, if anything is.
    pub(super) fn below(&self, element: &Element) -> Option<&Self> {
        let below = &self.node(element)?.below;
        (!below.is_empty()).then_some(below)
    }

    /// The steps from the top, each with whether it is in the set itself and what is below it.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&Element, bool, &Self)> {
        self.nodes
            .iter()
            .map(|(element, node)| (element, node.member, &node.below))
    }

    /// Where a step is, or would be. They come in their order mostly.
    fn place(&self, element: &Element) -> Result<usize, usize> {
        match self.nodes.last() {
            Some((last, _)) if last >= element => self.nodes.binary_search_by(|(held, _)| held.cmp(element)),
            _ => Err(self.nodes.len()),
        }
    }

    fn node(&self, element: &Element) -> Option<&Node> {
        self.place(element).ok().map(|at| &self.nodes[at].1)
    }

    fn node_mut(&mut self, element: &Element) -> &mut Node {
        let at = self.place(element).unwrap_or_else(|at| {
            self.nodes.insert(at, (element.clone(), Node::default()));
            at
        });
        &mut self.nodes[at].1
    }

    /// Puts a step with all below it.
    pub(super) fn put(&mut self, element: Element, member: bool, below: Self) {
        if member || !below.is_empty() {
            let node = Node { member, below };
            match self.place(&element) {
                Ok(at) => self.nodes[at].1 = node,
                Err(at) => self.nodes.insert(at, (element, node)),
            }
        }
    }

    /// Adds a step with all below it to what is there of it.
    pub(super) fn add(&mut self, element: &Element, member: bool, below: Self) {
        if member || !below.is_empty() {
            self.node_mut(element).unite(Node { member, below });
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        let mut united = Vec::with_capacity(self.nodes.len().max(other.nodes.len()));
        let mut others = other.nodes.into_iter().peekable();
        for (element, mut node) in self.nodes {
            while let Some(before) = others.next_if(|(other, _)| *other < element) {
                united.push(before);
            }
            if let Some((_, same)) = others.next_if(|(other, _)| *other == element) {
                node.unite(same);
            }
            united.push((element, node));
        }
        united.extend(others);
        self.nodes = united;
        self
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut set = Self::default();
        for (element, member, below) in self.steps() {
            if let Some(node) = other.node(element) {
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
        self.nodes.retain_mut(|(element, node)| {
            let Some(taken) = other.node(element) else {
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
        self.nodes.retain(|(element, _)| *element == only);
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
        let mut steps = Vec::new();
        for (key, value) in fields.as_object().into_iter().flatten() {
            if key == "." {
                continue;
            }
            let Some(element) = Element::decode(key)? else {
                continue;
            };
            let below = Self::from_json(value)?;
            let member = below.is_empty() || value.get(".").is_some();
            steps.push((element, member, below));
        }
        Ok(Self::of_steps(steps))
    }
}

impl Node {
    fn unite(&mut self, other: Self) {
        self.member |= other.member;
        self.below = std::mem::take(&mut self.below).union(other.below);
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

//! What becomes of an object and of those who own its fields when somebody writes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::compare::{Comparison, compare};
use super::conflict::Conflicts;
use super::element::{Element, same};
use super::fields::{TypeErrors, check, field_set, with_named_fields};
use super::managed::{Entry, InvalidManagedFields, Managed, Manager, Operation};
use super::merge::{merge, without};
use super::schema::Type;
use super::set::FieldSet;

/// The rules of one kind and one door to its objects.
#[derive(Debug, Clone)]
pub struct Owners<'s> {
    /// The type of the objects.
    pub of: Type<'s>,
    /// Group and version of the objects.
    pub api_version: &'s str,
    /// Through which subresource is written.
    pub subresource: Option<&'s str>,
    /// What cannot be written through this door, so nobody comes to own it here.
    pub reset: Reset,
    /// An object of the kind that says nothing, as the server writes it.
    pub empty: &'s Value,
    /// RFC 3339, in whole seconds.
    pub now: &'s str,
}

/// Fields that a door does not write.
#[derive(Debug, Clone)]
pub enum Reset {
    /// It writes all.
    Nothing,
    /// These, and what is below them.
    Fields(FieldSet),
    /// All but this one and what is below it.
    AllBut(&'static str),
}

/// What came of an apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The object, without the defaults that the kind may still give it.
    pub object: Value,
    /// Who owns what now.
    pub managed: Managed,
}

/// An apply was refused.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Others own what would change. The caller's move: force it, or give way.
    #[error(transparent)]
    Conflicts(#[from] Conflicts),
    /// What was applied is not of the type of the kind. The caller's move.
    #[error("failed to create typed patch object ({about}): {errors}")]
    Patch {
        /// Namespace, name and kind.
        about: String,
        /// Why.
        errors: TypeErrors,
    },
    /// What is there is not of the type of the kind: the schema has changed since.
    #[error("failed to create typed live object ({about}): {errors}")]
    Live {
        /// Namespace, name and kind.
        about: String,
        /// Why.
        errors: TypeErrors,
    },
    /// What the object says of its owners makes no sense.
    #[error("failed to decode managed fields: {0}")]
    Managed(#[from] InvalidManagedFields),
}

impl Owners<'_> {
    /// Who owns what after a write that is no apply: the writer owns what it changed. `live` is [`empty`](Self::empty) where there was
    /// nothing before, and both come without `managedFields`.
    ///
    /// An object that nobody is known to own anything of stays so.
    pub fn update(
        &self,
        live: &Value,
        new: &Value,
        managed: Managed,
        name: &str,
    ) -> Result<Managed, TypeErrors> {
        let exists = live["metadata"]["uid"]
            .as_str()
            .is_some_and(|uid| !uid.is_empty());
        if managed.is_empty() && exists {
            return Ok(managed);
        }
        let mut managed = self.written(live, new, managed, name)?;
        managed.cap(self.api_version);
        Ok(managed)
    }

    fn written(
        &self,
        live: &Value,
        new: &Value,
        mut managed: Managed,
        name: &str,
    ) -> Result<Managed, TypeErrors> {
        check(self.of, new, true)?;
        check(self.of, live, true)?;
        self.reconcile(&mut managed);
        let difference = self.difference(live, new);
        let (changed, removed) = difference.split();
        managed.lose(None, &changed, &removed);
        managed.keep_owners();
        let own = changed.difference(&BOOKKEEPING);
        if !own.is_empty() {
            let manager = Manager::new(name, Operation::Update, self.api_version, self.subresource);
            let before = managed.entries.remove(&manager).map(|entry| entry.fields);
            let entry = self.entry(before.unwrap_or_default().union(own), Some(self.now.to_owned()));
            managed.entries.insert(manager, entry);
        }
        Ok(managed)
    }

    /// Applies what `name` wants of an object to what is there.
    ///
    /// `kubectl` may change what it wrote itself before it applied on the server: what the annotation of its older way says.
    pub fn apply(
        &self,
        live: &Value,
        applied: &Value,
        managed: Managed,
        name: &str,
        force: bool,
    ) -> Result<Applied, ApplyError> {
        let managed = if managed.is_empty() {
            let before = self.written(self.empty, live, managed, BEFORE_FIRST_APPLY);
            before.map_err(|errors| ApplyError::Live {
                about: about(live),
                errors,
            })?
        } else {
            managed
        };
        let mut done = self.applied(live, applied, managed.clone(), name, force);
        if let (Err(ApplyError::Conflicts(conflicts)), KUBECTL) = (&done, name)
            && let Some(own) = self.last_applied(live)
        {
            done = match conflicts.without(&own) {
                None => self.applied(live, applied, managed, name, true),
                Some(left) => Err(left.into()),
            };
        }
        let mut done = done?;
        if name == KUBECTL
            && done.object["metadata"]["annotations"][LAST_APPLIED]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        {
            done.object["metadata"]["annotations"][LAST_APPLIED] = last_applied_text(applied).into();
        }
        Ok(done)
    }

    fn applied(
        &self,
        live: &Value,
        applied: &Value,
        mut managed: Managed,
        name: &str,
        force: bool,
    ) -> Result<Applied, ApplyError> {
        check(self.of, applied, false).map_err(|errors| ApplyError::Patch {
            about: about(applied),
            errors,
        })?;
        check(self.of, live, true).map_err(|errors| ApplyError::Live {
            about: about(live),
            errors,
        })?;
        self.reconcile(&mut managed);
        let manager = Manager::new(name, Operation::Apply, self.api_version, self.subresource);
        let merged = merge(self.of, live, applied);
        let own = self.reset.filter(field_set(self.of, applied));
        let last = managed.entries.remove(&manager);
        let time = last.as_ref().and_then(|entry| entry.time.clone());
        managed.entries.insert(manager.clone(), self.entry(own, time));
        let object = match last {
            Some(last) if !last.fields.is_empty() => self.prune(merged, &managed, &last.fields),
            _ => merged,
        };
        let difference = self.difference(live, &object);
        let (changed, removed) = difference.split();
        let mut conflicts = BTreeMap::new();
        for (other, entry) in managed.entries.iter().filter(|(other, _)| **other != manager) {
            let taken = entry.fields.intersection(&changed);
            if !taken.is_empty() {
                conflicts.insert(other.clone(), taken);
            }
        }
        if !force && !conflicts.is_empty() {
            return Err(Conflicts(conflicts).into());
        }
        managed.lose(Some(&manager), &changed, &removed);
        if let Some(entry) = managed.entries.get_mut(&manager) {
            entry.fields = std::mem::take(&mut entry.fields).difference(&BOOKKEEPING);
            if !same(live, &object) {
                entry.time = Some(self.now.to_owned());
            }
        }
        managed.keep_owners();
        Ok(Applied { object, managed })
    }

    /// Takes away what was applied before and is no more, and what nobody else owns.
    fn prune(&self, merged: Value, managed: &Managed, last: &FieldSet) -> Value {
        let named = |set: &FieldSet| with_named_fields(self.of, set);
        let all = named(&field_set(self.of, &merged));
        let owned = managed
            .entries
            .values()
            .fold(FieldSet::default(), |owned, entry| {
                owned.union(entry.fields.clone())
            });
        let pruned = without(self.of, &merged, &named(last));
        let kept = named(&field_set(self.of, &pruned)).union(named(&owned));
        let pruned = without(self.of, &merged, &all.clone().difference(&kept));
        // What stands below what was taken, and was never this one's, comes back.
        let gone = all
            .difference(&named(&field_set(self.of, &pruned)))
            .intersection(&named(last));
        without(self.of, &merged, &gone)
    }

    fn difference(&self, live: &Value, new: &Value) -> Comparison {
        compare(self.of, live, new).filtered(|fields| self.reset.filter(fields))
    }

    fn entry(&self, fields: FieldSet, time: Option<String>) -> Entry {
        Entry {
            fields,
            api_version: self.api_version.to_owned(),
            time,
        }
    }

    /// A type that became atomic since is owned as a whole.
    fn reconcile(&self, managed: &mut Managed) {
        for entry in managed.entries.values_mut() {
            if !fits(self.of, &entry.fields) {
                entry.fields = fitted(self.of, &entry.fields);
            }
        }
    }

    /// What the older way of `kubectl apply` wrote and nobody has changed since.
    fn last_applied(&self, live: &Value) -> Option<FieldSet> {
        let text = live["metadata"]["annotations"][LAST_APPLIED].as_str()?;
        let last: Value = serde_json::from_str(text).ok()?;
        if last["apiVersion"] != self.api_version {
            return None;
        }
        check(self.of, &last, false).ok()?;
        let since = compare(self.of, &last, live);
        let own = field_set(self.of, &last);
        let (changed, removed) = since.split();
        Some(own.difference(&changed).difference(&removed))
    }
}

impl Reset {
    fn filter(&self, fields: FieldSet) -> FieldSet {
        match self {
            Self::Nothing => fields,
            Self::Fields(reset) => fields.without_all_below(reset),
            Self::AllBut(field) => fields.only(field),
        }
    }
}

impl Managed {
    /// All but one lose what another has changed or taken away.
    fn lose(&mut self, but: Option<&Manager>, changed: &FieldSet, removed: &FieldSet) {
        for (manager, entry) in &mut self.entries {
            if Some(manager) != but {
                let fields = std::mem::take(&mut entry.fields);
                entry.fields = fields.difference(changed).difference(removed);
            }
        }
    }

    /// Makes one of the oldest writers where there are too many. Who applies is never among them.
    fn cap(&mut self, api_version: &str) {
        let mut writers: Vec<(Option<String>, Manager)> = self
            .entries
            .iter()
            .filter(|(manager, _)| manager.operation == Operation::Update)
            .map(|(manager, entry)| (entry.time.clone(), manager.clone()))
            .collect();
        let Some(more) = writers
            .len()
            .checked_sub(UPDATE_MANAGERS_MAX)
            .filter(|more| *more > 0)
        else {
            return;
        };
        writers.sort();
        let bucket = Manager::new(ANCIENT, Operation::Update, api_version, None);
        // The first makes room for nobody by itself.
        for (time, manager) in writers.into_iter().take(more + 1) {
            let Some(entry) = self.entries.remove(&manager) else {
                continue;
            };
            let held = self.entries.remove(&bucket);
            let fields = held
                .map_or_else(FieldSet::default, |held| held.fields)
                .union(entry.fields);
            self.entries.insert(
                bucket.clone(),
                Entry {
                    fields,
                    time,
                    api_version: entry.api_version,
                },
            );
        }
    }
}

/// Whether nothing in a set is below what is owned as a whole.
fn fits(of: Type<'_>, set: &FieldSet) -> bool {
    set.steps().all(|(element, _, below)| {
        below.is_empty() || inner(of, element).is_none_or(|of| !is_whole(of) && fits(of, below))
    })
}

fn fitted(of: Type<'_>, set: &FieldSet) -> FieldSet {
    let mut fitted = FieldSet::default();
    for (element, member, below) in set.steps() {
        match inner(of, element) {
            Some(of) if is_whole(of) && !below.is_empty() => {
                fitted.put(element.clone(), true, FieldSet::default())
            }
            Some(of) => fitted.put(element.clone(), member, self::fitted(of, below)),
            None => fitted.put(element.clone(), member, below.clone()),
        }
    }
    fitted
}

fn inner<'s>(of: Type<'s>, element: &Element) -> Option<Type<'s>> {
    let atom = of.atom();
    match element {
        Element::Field(name) => atom.map.and_then(|map| map.field(name)),
        _ => atom.list.map(|list| list.element),
    }
}

/// Whether a type says of itself that it is owned as a whole.
fn is_whole(of: Type<'_>) -> bool {
    let atom = of.atom();
    match (atom.map, atom.scalar, atom.list) {
        (Some(map), None, None) => map.atomic,
        (None, None, Some(list)) => matches!(list.relation, super::schema::Relation::Atomic),
        _ => false,
    }
}

fn about(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let api_version = match api_version.split_once('/') {
        Some(_) => api_version,
        None => format!("/{api_version}"),
    };
    let metadata = &object["metadata"];
    format!(
        "{}/{}; {api_version}, Kind={kind}",
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}

/// What is applied as the annotation says it.
fn last_applied_text(applied: &Value) -> String {
    let mut applied = applied.clone();
    let annotations = applied.pointer_mut("/metadata/annotations");
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let text = format!("{applied}\n");
    // Annotations have a limit, and one that is empty says that there is none.
    if text.len() > ANNOTATION_BYTES_MAX {
        String::new()
    } else {
        text
    }
}

/// What nobody owns.
static BOOKKEEPING: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});
/// How many who write without applying are kept apart; of more, the oldest become one.
pub const UPDATE_MANAGERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Kubernetes `apimachinery/pkg/api/validation`: the total size of annotations.
const ANNOTATION_BYTES_MAX: usize = 256 << 10;

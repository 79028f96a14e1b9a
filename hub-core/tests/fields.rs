//! The table of messages is what the sources of Kubernetes say. Needs those sources, so it runs when it is asked to:
//!
//! ```text
//! git clone -b v0.36.2 https://github.com/kubernetes/api               k8s/api      (and so on, see SOURCES)
//! KUBERNETES=k8s cargo test -p hub-core --test fields -- --ignored          compares
//! KUBERNETES=k8s WRITE=1 cargo test -p hub-core --test fields -- --ignored  writes the table anew
//! ```

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use hub_core::registry::Registry;

/// Where the types of a group and version are, for those that do not follow the rule `api/<group>/<version>`.
const SOURCES: [(&str, &str); 6] = [
    ("v1", "api/core/v1"),
    ("meta.k8s.io/v1", "apimachinery/pkg/apis/meta/v1"),
    ("meta.k8s.io/v1beta1", "apimachinery/pkg/apis/meta/v1beta1"),
    (
        "apiextensions.k8s.io/v1",
        "apiextensions-apiserver/pkg/apis/apiextensions/v1",
    ),
    (
        "apiregistration.k8s.io/v1",
        "kube-aggregator/pkg/apis/apiregistration/v1",
    ),
    ("flowcontrol.apiserver.k8s.io/v1", "api/flowcontrol/v1"),
];

/// What is put on the wire beside the built-in kinds and what is below them.
const MORE: [(&str, &str); 12] = [
    ("meta.k8s.io/v1", "APIGroup"),
    ("meta.k8s.io/v1", "APIGroupList"),
    ("meta.k8s.io/v1", "APIResourceList"),
    ("meta.k8s.io/v1", "APIVersions"),
    ("meta.k8s.io/v1", "DeleteOptions"),
    ("meta.k8s.io/v1", "ListMeta"),
    ("meta.k8s.io/v1", "PartialObjectMetadata"),
    ("meta.k8s.io/v1", "PartialObjectMetadataList"),
    ("meta.k8s.io/v1", "Status"),
    ("meta.k8s.io/v1beta1", "PartialObjectMetadataList"),
    ("apidiscovery.k8s.io/v2", "APIGroupDiscoveryList"),
    ("apidiscovery.k8s.io/v2beta1", "APIGroupDiscoveryList"),
];

/// Go's names of the types whose JSON is no object.
const SPECIAL: [(&str, &str); 11] = [
    ("k8s.io/apimachinery/pkg/apis/meta/v1.Time", "Time"),
    ("k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime", "MicroTime"),
    ("k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1", "Raw"),
    ("k8s.io/apimachinery/pkg/runtime.RawExtension", "Raw"),
    ("k8s.io/apimachinery/pkg/api/resource.Quantity", "Quantity"),
    ("k8s.io/apimachinery/pkg/util/intstr.IntOrString", "IntOrString"),
    ("k8s.io/apimachinery/pkg/types.UID", "string"),
    (
        "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON",
        "Raw",
    ),
    (
        "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray",
        "SchemaOrArray",
    ),
    (
        "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool",
        "SchemaOrBool",
    ),
    (
        "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray",
        "SchemaOrStrings",
    ),
];

#[test]
#[ignore = "needs the sources of Kubernetes, in the folder that KUBERNETES names"]
fn the_table_says_what_the_sources_say() {
    let folder = std::env::var("KUBERNETES").unwrap();
    let mut roots: BTreeSet<(String, String)> = MORE
        .iter()
        .map(|(group_version, name)| ((*group_version).into(), (*name).into()))
        .collect();
    for kind in Registry::builtin().all() {
        let own = kind.resource.api_version();
        for below in &kind.subresources {
            let group_version = match &below.group_version {
                Some((group, version)) if group.is_empty() => version.to_string(),
                Some((group, version)) => format!("{group}/{version}"),
                None => own.clone(),
            };
            roots.insert((group_version, below.kind.to_string()));
        }
        roots.insert((own, kind.kind.to_string()));
    }
    let groups = roots.iter().map(|(group_version, _)| group_version.as_str());
    let sources: Sources = groups
        .chain(SOURCES.iter().map(|(group_version, _)| *group_version))
        .map(|group_version| {
            (
                group_version.to_owned(),
                Package::of(Path::new(&folder), group_version),
            )
        })
        .collect();
    let mut messages: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut wanted: Vec<(String, String)> = roots.into_iter().collect();
    while let Some((group_version, name)) = wanted.pop() {
        let section = messages.entry(group_version.clone()).or_default();
        if section.contains_key(&name) {
            continue;
        }
        let structs = &sources[&group_version].structs;
        let fields = structs
            .get(&name)
            .unwrap_or_else(|| panic!("{group_version} {name}"));
        let mut line = name.clone();
        for field in fields {
            let text = field.describe(&sources, &group_version, &mut wanted);
            write!(line, " {text}").unwrap();
        }
        section.insert(name, line);
    }
    let table = include_str!("../src/registry/fields.txt");
    let mut written: String = table
        .lines()
        .take_while(|line| line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    for (group_version, lines) in &messages {
        writeln!(written, "[{group_version}]").unwrap();
        for line in lines.values() {
            writeln!(written, "{line}").unwrap();
        }
    }
    if std::env::var_os("WRITE").is_some() {
        fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/src/registry/fields.txt"),
            written,
        )
        .unwrap();
        return;
    }
    for (ours, theirs) in table.lines().zip(written.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(table.len(), written.len());
}

/// The packages by group and version.
type Sources = BTreeMap<String, Package>;

/// The types of one package of Go.
#[derive(Default)]
struct Package {
    path: String,
    structs: BTreeMap<String, Vec<Field>>,
    /// What types with a name of their own are: `string`, `[]string`.
    names: BTreeMap<String, String>,
    /// Alias to path.
    imports: BTreeMap<String, String>,
}

struct Field {
    /// As in Go's source.
    kind: String,
    json: String,
    number: String,
    repeated: bool,
}

impl Package {
    fn of(folder: &Path, group_version: &str) -> Self {
        let known = SOURCES.iter().find(|(known, _)| *known == group_version);
        let place = known.map_or_else(
            || {
                let (group, version) = group_version.split_once('/').unwrap();
                format!("api/{}/{version}", group.split('.').next().unwrap())
            },
            |(_, place)| (*place).into(),
        );
        Self::read(&folder.join(&place), &format!("k8s.io/{place}"))
    }

    fn read(folder: &Path, path: &str) -> Self {
        let mut package = Self {
            path: path.into(),
            ..Self::default()
        };
        for entry in fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".go") && !name.ends_with("_test.go") && !name.contains("generated") {
                package.file(&fs::read_to_string(&file).unwrap());
            }
        }
        package
    }

    fn file(&mut self, text: &str) {
        let mut open: Option<String> = None;
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match &words[..] {
                ["type", name, "struct", "{"] => {
                    open = Some((*name).into());
                    self.structs.insert((*name).into(), Vec::new());
                }
                ["type", name, "struct{}"] => {
                    self.structs.insert((*name).into(), Vec::new());
                }
                ["type", name, kind] if !kind.starts_with('=') => {
                    self.names.insert((*name).into(), (*kind).into());
                }
                ["type", name, "=", kind] => {
                    self.names.insert((*name).into(), (*kind).into());
                }
                ["}"] => open = None,
                ["import", rest @ ..] if open.is_none() => self.import(rest),
                [.., path] if open.is_none() && path.starts_with("\"k8s.io/") => self.import(&words),
                _ => {
                    let field = Field::parse(line);
                    if let (Some(open), Some(field)) = (&open, field) {
                        self.structs.get_mut(open).unwrap().push(field);
                    }
                }
            }
        }
    }

    fn import(&mut self, words: &[&str]) {
        let Some(path) = words.last().map(|path| path.trim_matches('"')) else {
            return;
        };
        let alias = match words {
            [alias, _] => alias,
            _ => path.rsplit('/').next().unwrap(),
        };
        self.imports.insert(alias.into(), path.into());
    }
}

impl Field {
    /// Of a line such as ``Name string `json:"name" protobuf:"bytes,1,opt,name=name"` ``. None for all others.
    fn parse(line: &str) -> Option<Self> {
        let (front, tags) = line
            .split_once('`')
            .filter(|_| !line.trim_start().starts_with("//"))?;
        let tag = |key: &str| {
            let (_, rest) = tags.split_once(&format!("{key}:\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let protobuf = tag("protobuf")?;
        Some(Self {
            kind: front.split_ascii_whitespace().next_back()?.into(),
            json: tag("json")?,
            number: protobuf.split(',').nth(1)?.into(),
            repeated: protobuf.split(',').nth(2) == Some("rep"),
        })
    }

    /// As the table has it. The messages that it names are wanted too.
    fn describe(&self, sources: &Sources, home: &str, wanted: &mut Vec<(String, String)>) -> String {
        let mut json = self.json.split(',');
        let name = json.next().unwrap();
        let options: Vec<&str> = json.collect();
        let hidden = options.contains(&"omitempty") || options.contains(&"omitzero");
        let written = self.kind.trim_start_matches('*');
        let mut kind = Kind::resolve(written, sources, home);
        // A list that has a name of its own may be a message with a list in it. Of others the tags do not always say so.
        let list = kind.name.starts_with("[]") && (written.starts_with("[]") || self.repeated);
        let map = kind.name.starts_with("map[");
        if list || map {
            let of = kind
                .name
                .split_once(']')
                .unwrap()
                .1
                .trim_start_matches('*')
                .to_owned();
            kind = Kind::resolve(&of, sources, &kind.home);
        }
        if kind.name == "[]string" {
            kind.name = "Strings".into();
        }
        let message = kind.name.starts_with(char::is_uppercase);
        let defined = sources[&kind.home].structs.contains_key(&kind.name) && !kind.special;
        if defined {
            wanted.push((kind.home.clone(), kind.name.clone()));
        }
        let flags = [
            (self.kind.starts_with('*'), "*"),
            (
                !self.kind.starts_with('*') && !message && !list && !map && !hidden,
                "!",
            ),
            (options.contains(&"inline"), "~"),
            (list, "[]"),
            (map, "{}"),
            (defined && kind.home != home, kind.home.as_str()),
            (defined && kind.home != home, "."),
        ];
        let flags: String = flags
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| *flag)
            .collect();
        format!("{name}:{}{flags}{}", self.number, kind.name)
    }
}

/// What a name in Go's source stands for.
struct Kind {
    /// The group and version where it is defined.
    home: String,
    name: String,
    special: bool,
}

impl Kind {
    fn resolve(text: &str, sources: &Sources, home: &str) -> Self {
        let found = |name: &str, special| Self {
            home: home.into(),
            name: name.into(),
            special,
        };
        match text {
            "string" | "bool" => return found(text, false),
            "[]byte" => return found("bytes", false),
            "int32" | "int64" => return found("int", false),
            "float64" => return found("double", false),
            list if list.starts_with("[]") || list.starts_with("map[") => return found(list, false),
            _ => {}
        }
        let package = &sources[home];
        let (path, name) = match text.split_once('.') {
            Some((alias, name)) => (package.imports[alias].as_str(), name),
            None => (package.path.as_str(), text),
        };
        let full = format!("{path}.{name}");
        if let Some((_, special)) = SPECIAL.iter().find(|(known, _)| *known == full) {
            return found(special, true);
        }
        let (home, package) = sources
            .iter()
            .find(|(_, package)| package.path == path)
            .unwrap_or_else(|| panic!("{full}"));
        match package.names.get(name) {
            Some(other) => Self::resolve(other, sources, home),
            None => Self {
                home: home.clone(),
                name: name.into(),
                special: false,
            },
        }
    }
}

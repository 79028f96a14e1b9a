//! Rows of objects, of scopes, and of objects that are gone.
//!
//! Rows are found by their number alone, which the writer remembers: there is no second index to write, or to be damaged.

use std::collections::HashMap;
use std::sync::Arc;

use hub_core::object::{GroupVersionResource, Object, ObjectKey, Revision};
use hub_core::scope::Scope;
use hub_core::store::{Coverage, Stored, Write};
use rusqlite::{Connection, Row, params};

use super::row::{Packer, RowError, Sum, Unpacker};

pub(super) const SCHEMA: &str = "
    CREATE TABLE object (
        id INTEGER PRIMARY KEY, api_group TEXT NOT NULL, api_version TEXT NOT NULL, resource TEXT NOT NULL,
        namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL, resource_version TEXT NOT NULL,
        revision INTEGER NOT NULL, unpacked INTEGER NOT NULL, body BLOB NOT NULL, sum INTEGER NOT NULL
    );
    CREATE TABLE tombstone (id INTEGER PRIMARY KEY, uid TEXT NOT NULL, version INTEGER NOT NULL, sum INTEGER NOT NULL);
    CREATE TABLE scope (
        id INTEGER PRIMARY KEY, api_group TEXT NOT NULL, api_version TEXT NOT NULL, resource TEXT NOT NULL,
        namespace TEXT, name TEXT, labels TEXT NOT NULL, fields TEXT NOT NULL, complete INTEGER NOT NULL, sum INTEGER NOT NULL
    );
";

/// Which row belongs to what.
#[derive(Debug, Default)]
pub(super) struct Rows {
    objects: HashMap<ObjectKey, i64>,
    scopes: HashMap<Scope, i64>,
    /// The highest row numbers so far: of objects, scopes and tombstones.
    last: [i64; 3],
    tombstones_max: i64,
}

impl Rows {
    pub(super) fn new(tombstones_max: usize) -> Self {
        Self {
            tombstones_max: tombstones_max as i64,
            ..Self::default()
        }
    }

    pub(super) fn load_objects(
        &mut self,
        connection: &Connection,
    ) -> Result<Vec<(Object, Revision)>, RowError> {
        let mut statement = connection.prepare(
            "SELECT id, api_group, api_version, resource, namespace, name, uid, resource_version, revision, unpacked, body, sum
             FROM object",
        )?;
        let mut unpacker = Unpacker::new().map_err(|_| RowError::Damaged("object"))?;
        let mut collections = Vec::new();
        let mut objects = Vec::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let object = read_object(row, &mut collections, &mut unpacker)?;
            if self.objects.insert(object.0.key.clone(), id).is_some() {
                return Err(RowError::Damaged("object"));
            }
            self.last[0] = self.last[0].max(id);
            objects.push(object);
        }
        Ok(objects)
    }

    pub(super) fn load_tombstones(
        &mut self,
        connection: &Connection,
    ) -> Result<Vec<(Arc<str>, u64)>, RowError> {
        let mut statement = connection.prepare("SELECT id, uid, version, sum FROM tombstone ORDER BY id")?;
        let mut tombstones = Vec::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, uid, version): (i64, Arc<str>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if Sum::default().text(&uid).number(version).finish() != row.get::<_, i64>(3)? {
                return Err(RowError::Damaged("tombstone"));
            }
            self.last[2] = id;
            tombstones.push((uid, version.cast_unsigned()));
        }
        Ok(tombstones)
    }

    /// Reads the scopes. All sound ones are in `scopes` even if others are damaged.
    pub(super) fn load_scopes(
        &mut self,
        connection: &Connection,
        scopes: &mut Vec<(Scope, Coverage)>,
    ) -> Result<(), RowError> {
        let mut statement = connection.prepare(
            "SELECT id, api_group, api_version, resource, namespace, name, labels, fields, complete, sum FROM scope",
        )?;
        let mut damaged = Ok(());
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match read_scope(row) {
                Ok((id, scope, coverage)) => {
                    self.last[1] = self.last[1].max(id);
                    self.scopes.insert(scope.clone(), id);
                    scopes.push((scope, coverage));
                }
                Err(error) => damaged = Err(error),
            }
        }
        damaged
    }

    /// Writes changes into an open transaction. When that fails, take back what this remembered by [`forget`](Self::forget).
    pub(super) fn write(
        &mut self,
        connection: &Connection,
        packer: &mut Packer,
        writes: &[Write],
        undo: &mut Undo,
    ) -> rusqlite::Result<()> {
        let mut put = connection.prepare(
            "INSERT OR REPLACE INTO object (id, api_group, api_version, resource, namespace, name, uid, resource_version,
             revision, unpacked, body, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        for write in writes {
            match write {
                Write::Put { stored, .. } => {
                    let key = &stored.object.key;
                    let id = match self.objects.get(key) {
                        Some(id) => *id,
                        None => {
                            self.last[0] += 1;
                            undo.objects.push((key.clone(), None));
                            self.objects.insert(key.clone(), self.last[0]);
                            self.last[0]
                        }
                    };
                    put_object(&mut put, packer, id, stored)?;
                }
                Write::Delete { stored, .. } => {
                    let key = &stored.object.key;
                    if let Some(id) = self.objects.remove(key) {
                        undo.objects.push((key.clone(), Some(id)));
                        connection.execute("DELETE FROM object WHERE id = ?1", [id])?;
                    }
                }
                Write::Bury { uid, version } => self.bury(connection, uid, version.cast_signed())?,
                Write::Scope { scope, coverage } => self.write_scope(connection, scope, *coverage, undo)?,
            }
        }
        Ok(())
    }

    /// Takes back what was remembered in a transaction that came to nothing.
    pub(super) fn forget(&mut self, undo: Undo) {
        for (key, id) in undo.objects.into_iter().rev() {
            match id {
                Some(id) => self.objects.insert(key, id),
                None => self.objects.remove(&key),
            };
        }
        for (scope, id) in undo.scopes.into_iter().rev() {
            match id {
                Some(id) => self.scopes.insert(scope, id),
                None => self.scopes.remove(&scope),
            };
        }
    }

    fn bury(&mut self, connection: &Connection, uid: &str, version: i64) -> rusqlite::Result<()> {
        self.last[2] += 1;
        let sum = Sum::default().text(uid).number(version).finish();
        connection.execute(
            "INSERT INTO tombstone (id, uid, version, sum) VALUES (?1, ?2, ?3, ?4)",
            params![self.last[2], uid, version, sum],
        )?;
        connection.execute(
            "DELETE FROM tombstone WHERE id <= ?1",
            [self.last[2] - self.tombstones_max],
        )?;
        Ok(())
    }

    fn write_scope(
        &mut self,
        connection: &Connection,
        scope: &Scope,
        coverage: Option<Coverage>,
        undo: &mut Undo,
    ) -> rusqlite::Result<()> {
        let known = self.scopes.get(scope).copied();
        undo.scopes.push((scope.clone(), known));
        let Some(coverage) = coverage else {
            self.scopes.remove(scope);
            return connection
                .execute("DELETE FROM scope WHERE id = ?1", [known])
                .map(drop);
        };
        let id = known.unwrap_or_else(|| {
            self.last[1] += 1;
            self.last[1]
        });
        self.scopes.insert(scope.clone(), id);
        let complete = coverage == Coverage::Complete;
        connection.execute(
            "INSERT OR REPLACE INTO scope (id, api_group, api_version, resource, namespace, name, labels, fields, complete, sum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                id,
                scope.resource.group,
                scope.resource.version,
                scope.resource.resource,
                scope.namespace,
                scope.name,
                scope.labels,
                scope.fields,
                complete,
                scope_sum(scope, complete)
            ],
        )?;
        Ok(())
    }
}

/// What a transaction changed in [`Rows`]: what was there before.
#[derive(Debug, Default)]
pub(super) struct Undo {
    objects: Vec<(ObjectKey, Option<i64>)>,
    scopes: Vec<(Scope, Option<i64>)>,
}

fn put_object(
    put: &mut rusqlite::Statement<'_>,
    packer: &mut Packer,
    id: i64,
    stored: &Stored,
) -> rusqlite::Result<()> {
    let Object {
        key,
        uid,
        version,
        body,
    } = &stored.object;
    let (packed, unpacked) = packer.pack(body);
    let revision = stored.revision.0.cast_signed();
    let namespace = key.namespace.as_deref().unwrap_or_default();
    let sum = object_sum(key, namespace, uid, version.as_str(), revision, unpacked, &packed);
    put.execute(params![
        id,
        key.resource.group,
        key.resource.version,
        key.resource.resource,
        namespace,
        key.name,
        uid,
        version.as_str(),
        revision,
        unpacked,
        &packed[..],
        sum
    ])
    .map(drop)
}

fn read_object(
    row: &Row<'_>,
    collections: &mut Vec<GroupVersionResource>,
    unpacker: &mut Unpacker,
) -> Result<(Object, Revision), RowError> {
    let text = |column| {
        row.get_ref(column)?
            .as_str()
            .map_err(|_| RowError::Damaged("object"))
    };
    let (group, version, resource) = (text(1)?, text(2)?, text(3)?);
    // Thousands of objects live in a few collections: share the names.
    let same = |known: &&GroupVersionResource| {
        (&*known.group, &*known.version, &*known.resource) == (group, version, resource)
    };
    let resource = match collections.iter().find(same) {
        Some(known) => known.clone(),
        None => {
            let new = GroupVersionResource::new(group, version, resource);
            collections.push(new.clone());
            new
        }
    };
    let namespace = text(4)?;
    let key = ObjectKey::new(resource, (!namespace.is_empty()).then_some(namespace), text(5)?);
    let (uid, version) = (text(6)?, text(7)?);
    let (revision, unpacked): (i64, i64) = (row.get(8)?, row.get(9)?);
    let packed = row
        .get_ref(10)?
        .as_blob()
        .map_err(|_| RowError::Damaged("object"))?;
    if object_sum(&key, namespace, uid, version, revision, unpacked, packed) != row.get::<_, i64>(11)? {
        return Err(RowError::Damaged("object"));
    }
    let object = Object {
        uid: uid.into(),
        version: version.into(),
        body: unpacker
            .unpack(packed, unpacked)
            .ok_or(RowError::Damaged("object"))?,
        key,
    };
    Ok((object, Revision(revision.cast_unsigned())))
}

fn read_scope(row: &Row<'_>) -> Result<(i64, Scope, Coverage), RowError> {
    let resource: [Arc<str>; 3] = [row.get(1)?, row.get(2)?, row.get(3)?];
    let [group, version, resource] = resource;
    let scope = Scope {
        resource: GroupVersionResource::new(group, version, resource),
        namespace: row.get(4)?,
        name: row.get(5)?,
        labels: row.get(6)?,
        fields: row.get(7)?,
    };
    let complete: bool = row.get(8)?;
    if scope_sum(&scope, complete) != row.get::<_, i64>(9)? {
        return Err(RowError::Damaged("scope"));
    }
    let coverage = if complete {
        Coverage::Complete
    } else {
        Coverage::Loading
    };
    Ok((row.get(0)?, scope, coverage))
}

fn object_sum(
    key: &ObjectKey,
    namespace: &str,
    uid: &str,
    version: &str,
    revision: i64,
    unpacked: i64,
    packed: &[u8],
) -> i64 {
    let resource = &key.resource;
    let sum = Sum::default()
        .text(&resource.group)
        .text(&resource.version)
        .text(&resource.resource);
    let sum = sum.text(namespace).text(&key.name).text(uid).text(version);
    sum.number(revision).number(unpacked).bytes(packed).finish()
}

fn scope_sum(scope: &Scope, complete: bool) -> i64 {
    Sum::default()
        .text(&scope.to_string())
        .number(complete.into())
        .finish()
}

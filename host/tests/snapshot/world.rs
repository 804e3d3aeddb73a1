//! A source with a slot, a copy of its tables under way, and a target in memory that both are delivered to.

use bytes::{BufMut, Bytes, BytesMut};
use rowmill::batch::{Batch, Column, Lsn, Op, Relation, ReplicaIdentity, Tuple, Value};
use rowmill::decode::Decoder;
use rowmill::postgres::{Conninfo, Reader};
use rowmill::snapshot::{Copier, CountedUnit, KeyRange, Merger, Pace, Plan, TableCopy, Tally, WaitingRoom};
use rowmill_tests::Cluster;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

pub type Values = Vec<Option<String>>;

pub async fn connect(url: String) -> anyhow::Result<Client> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config
        .options("-c search_path= -c datestyle=ISO -c timezone=UTC -c extra_float_digits=3 -c intervalstyle=postgres");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Describes `schema.table` as preflight would; `key` is the list of its key columns.
pub fn table(cluster: &Cluster, name: &str, key: &[&str]) -> TableCopy {
    let quoted = name.replace('\'', "''");
    let sql = |query: &str| cluster.sql("postgres", query).unwrap();
    let head = sql(&format!(
        "SELECT c.oid || '|' || n.nspname || '|' || c.relkind::text || '|' || c.relname FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = '{quoted}'::regclass"
    ));
    let mut head = head.splitn(4, '|');
    let mut next = || head.next().unwrap().to_owned();
    let (oid, schema, kind, table) = (next().parse().unwrap(), next(), next(), next());
    let columns = sql(&format!(
        "SELECT atttypid || '|' || attname FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 \
         AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"
    ));
    let column = |(at, line): (usize, &str)| {
        let (type_oid, name) = line.split_once('|').unwrap();
        Column {
            name: name.to_owned(),
            type_oid: type_oid.parse().unwrap(),
            typmod: -1,
            type_name: String::new(),
            nullable: true,
            key: key.contains(&name),
            slot: at as u16,
        }
    };
    let columns: Vec<Column> = columns.lines().enumerate().map(column).collect();
    let relation = Relation {
        index: Relation::next_index(),
        version: 1,
        oid,
        schema,
        table,
        replica_identity: ReplicaIdentity::Default,
        slots: columns.len() as u16,
        columns,
    };
    TableCopy {
        relation: Arc::new(relation),
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        partitioned: kind == "p",
        file: None,
        epoch: 1,
        rows_estimated: None,
        copied: Vec::new(),
        tally: Tally::default(),
        ahead: Vec::new(),
        shape: None,
        publication: String::new(),
        empties: false,
        altered: false,
        late: false,
        filtered: false,
        types: None,
        straight: false,
        own_types: Arc::default(),
        filter: None,
        condition: None,
    }
}

/// The same table, to be copied in the order of its heap.
pub fn by_place(cluster: &Cluster, table: TableCopy) -> TableCopy {
    let file = format!("SELECT pg_relation_filenode({})", table.relation.oid);
    let file = cluster.sql("postgres", &file).unwrap().parse().unwrap();
    TableCopy {
        file: Some(file),
        ..table
    }
}

/// What the target holds of a table: by key, or in any order where it has none.
#[derive(Debug, Default)]
pub struct Held {
    key: Vec<String>,
    pub rows: BTreeMap<Values, Values>,
    pub keyless: Vec<Values>,
}

impl Held {
    fn key_of(&self, batch: &Batch, relation: &Relation, tuple: Tuple) -> Values {
        let slot = |name: &String| relation.columns[relation.column_index(name).unwrap()].slot;
        let of = |name| text(batch.value(tuple, slot(name)));
        self.key.iter().map(of).collect()
    }

    fn apply(&mut self, batch: &Batch, relation: &Relation, op: Op, old: Option<Tuple>, new: Option<Tuple>) {
        let values = |tuple| -> Values { batch.values(tuple, relation).map(text).collect() };
        if self.key.is_empty() {
            if let Some(old) = old {
                let old = values(old);
                let at = self.keyless.iter().position(|row| *row == old);
                self.keyless.swap_remove(at.expect("the old row is there"));
            }
            self.keyless.extend(new.map(values));
            return;
        }
        let before = old.or(new).map(|tuple| self.key_of(batch, relation, tuple)).unwrap();
        let there = self.rows.remove(&before);
        let Some(new) = new else { return };
        let unchanged = batch.values(new, relation).any(|value| value == Value::Unchanged);
        assert!(
            !(unchanged && matches!(op, Op::Insert | Op::Read)),
            "a new row is complete"
        );
        let row = match (there, unchanged) {
            (_, false) => values(new),
            (None, true) => return,
            (Some(there), true) => {
                let merge = |(value, there)| if value == Value::Unchanged { there } else { text(value) };
                batch.values(new, relation).zip(there).map(merge).collect()
            }
        };
        self.rows.insert(self.key_of(batch, relation, new), row);
    }
}

fn text(value: Value<'_>) -> Option<String> {
    value.text().map(|text| String::from_utf8(text.to_vec()).unwrap())
}

fn start(
    runtime: &Runtime,
    cluster: &Cluster,
    tables: Vec<TableCopy>,
    connections: usize,
    unit_rows: usize,
) -> (Copier, Merger) {
    let plan = Plan {
        tables,
        connections,
        unit_rows,
        units_under_way: 4,
        patience: Duration::from_millis(500),
        patient: false,
        pace: Arc::new(Pace::new(None)),
        room: WaitingRoom::new(cluster.socket_dir(), 1 << 30, Arc::default()),
    };
    let url = cluster.url("postgres");
    let _in_runtime = runtime.enter();
    rowmill::snapshot::start(plan, move || {
        let url = url.clone();
        async move { Ok(Reader::connect(&Conninfo::parse(&url)?, "rowmill").await?) }
    })
}

pub struct World {
    /// Units that count since the last start, by table and place.
    counted: BTreeMap<(u32, (u32, u32)), KeyRange>,
    /// Tables that were truncated since then.
    restarted: BTreeSet<u32>,
    pub runtime: Runtime,
    pub cluster: Cluster,
    pub merger: Merger,
    _copier: Copier,
    client: Client,
    decoder: Decoder,
    pub held: BTreeMap<u32, Held>,
    pub position: Lsn,
    pub updates_from_copy: usize,
}

impl World {
    /// Starts to copy, with the stream at the slot's beginning.
    pub fn start(cluster: Cluster, tables: Vec<TableCopy>, connections: usize, unit_rows: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let held = tables.iter().map(|table| {
            let held = Held {
                key: table.key.clone(),
                ..Held::default()
            };
            (table.relation.oid, held)
        });
        let held = held.collect();
        let client = runtime.block_on(connect(cluster.url("postgres"))).unwrap();
        let (copier, merger) = start(&runtime, &cluster, tables, connections, unit_rows);
        Self {
            counted: BTreeMap::new(),
            restarted: BTreeSet::new(),
            runtime,
            cluster,
            merger,
            _copier: copier,
            client,
            decoder: Decoder::default(),
            held,
            position: Lsn(0),
            updates_from_copy: 0,
        }
    }

    /// What counts since the last start, of all tables.
    pub fn counted(&self) -> impl Iterator<Item = &KeyRange> {
        self.counted.values()
    }

    /// Enters into the tables what counts of them by now; once for every start.
    pub fn count(&mut self, tables: &mut [TableCopy]) {
        for oid in std::mem::take(&mut self.restarted) {
            let restarted = tables.iter_mut().filter(|copy| copy.relation.oid == oid);
            restarted.for_each(|copy| copy.copied.clear());
        }
        for copy in tables {
            // A copied range stands between the gaps that were beside it.
            let old = copy
                .copied
                .drain(..)
                .zip(0..)
                .map(|(range, at)| ((2 * at + 1, 0), range));
            let mut ranges: BTreeMap<(u32, u32), KeyRange> = old.collect();
            let new = self.counted.extract_if(.., |(oid, _), _| *oid == copy.relation.oid);
            ranges.extend(new.map(|((_, place), range)| (place, range)));
            for range in ranges.into_values() {
                match copy.copied.last_mut() {
                    Some(last) if last.up_to == range.after => last.up_to = range.up_to,
                    _ => copy.copied.push(range),
                }
            }
        }
    }

    /// As a host does that was killed where the stream stands. What a table without a key had is gone: its copy starts
    /// over.
    pub fn start_again(&mut self, tables: &[TableCopy]) {
        let tables: Vec<TableCopy> = tables
            .iter()
            .map(|copy| TableCopy {
                epoch: copy.epoch + 1,
                ..copy.clone()
            })
            .collect();
        for table in tables.iter().filter(|table| table.key.is_empty()) {
            self.held.entry(table.relation.oid).or_default().keyless.clear();
        }
        (self._copier, self.merger) = start(&self.runtime, &self.cluster, tables, 2, 100);
    }

    /// Passes on what the stream has, about `limit` changes; returns whether there was any.
    pub fn stream(&mut self, limit: i32) -> bool {
        const SQL: &str = "SELECT pg_catalog.pg_current_wal_flush_lsn()::text, array(SELECT data FROM \
             pg_catalog.pg_logical_slot_get_binary_changes('s', NULL, $1, 'proto_version', '1', \
             'publication_names', 'p'))";
        let row = self.runtime.block_on(self.client.query_one(SQL, &[&limit])).unwrap();
        let (flushed, messages): (String, Vec<Vec<u8>>) = (row.get(0), row.get(1));
        let mut frames = BytesMut::new();
        for message in &messages {
            frames.put_u8(b'd');
            frames.put_u32(4 + 25 + message.len() as u32);
            frames.put_u8(b'w');
            frames.put_bytes(0, 24);
            frames.put_slice(message);
        }
        let mut batch = self.decoder.decode(Bytes::from(frames)).unwrap();
        assert!(batch.ends_at_commit());
        self.position = self.position.max(batch.end);
        if messages.len() < limit as usize {
            self.position = self.position.max(flushed.parse().unwrap());
        }
        self.merger.stream(&mut batch).unwrap();
        self.deliver(&batch);
        !messages.is_empty()
    }

    pub fn boundary(&mut self) {
        for merged in self.merger.at_boundary(self.position).unwrap() {
            merged.batches.iter().for_each(|batch| self.deliver(batch));
            for batch in merged.waited.into_iter().flatten() {
                self.deliver(&batch.unwrap());
            }
        }
        for table in self.merger.restarted() {
            self.counted.retain(|(oid, _), _| *oid != table.oid);
            self.restarted.insert(table.oid);
        }
        for CountedUnit { record, .. } in self.merger.counted() {
            self.counted.insert((record.unit.table_oid, record.place), record.range);
        }
    }

    fn deliver(&mut self, batch: &Batch) {
        for row in &batch.rows {
            if row.op == Op::Truncate {
                for relation in &batch.truncates[row.extra as usize].relations {
                    let held = self.held.get_mut(&batch.relations[*relation as usize].oid).unwrap();
                    held.rows.clear();
                    held.keyless.clear();
                }
                continue;
            }
            let relation = batch.relation(row);
            let of_copy = batch.transaction(row).xid == 0;
            self.updates_from_copy += usize::from(of_copy && row.op == Op::Update);
            let held = self.held.get_mut(&relation.oid).unwrap();
            held.apply(batch, relation, row.op, row.old, row.new);
        }
    }

    /// The rows of a table at the source as text, sorted.
    pub fn source(&self, name: &str) -> Vec<Values> {
        let client = self.runtime.block_on(connect(self.cluster.url("postgres"))).unwrap();
        let messages = self
            .runtime
            .block_on(client.simple_query(&format!("SELECT * FROM {name}")))
            .unwrap();
        let row = |message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        };
        let mut rows: Vec<Values> = messages.into_iter().filter_map(row).collect();
        rows.sort();
        rows
    }

    /// The rows of a table at the target, sorted.
    pub fn target(&self, oid: u32) -> Vec<Values> {
        let held = &self.held[&oid];
        let mut rows: Vec<Values> = held.rows.values().chain(&held.keyless).cloned().collect();
        rows.sort();
        rows
    }

    pub fn assert_same(&self, name: &str, table: &TableCopy) {
        let (source, target) = (self.source(name), self.target(table.relation.oid));
        let differing = source.iter().zip(&target).find(|(source, target)| source != target);
        let short = |row: &Values| {
            row.iter()
                .map(|v| v.as_ref().map(|v| v.chars().take(40).collect::<String>()))
                .collect::<Vec<_>>()
        };
        let differing = differing.map(|(source, target)| (short(source), short(target)));
        assert_eq!(differing, None, "{name}: source and target differ");
        assert_eq!(source.len(), target.len(), "{name}");
    }
}

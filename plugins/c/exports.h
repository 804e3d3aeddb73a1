/* The exports of the plugin ABI: reads the host's calls, runs the plugin, writes the replies. Part of rowmill.h. */
#ifndef ROWMILL_EXPORTS_H
#define ROWMILL_EXPORTS_H

#define RM_EXPORT(name) __attribute__((export_name(name)))

/* Kept from call to call, so that a steady state allocates nothing. */
static rm_writer rm_out, rm_rejects, rm_patch, rm_bitmap;
static struct {
    rm_plan **items;
    uint32_t count, capacity;
} rm_plans;
static struct {
    rm_value *items;
    uint32_t capacity;
} rm_values;
static struct {
    rm_column *items;
    uint32_t capacity;
} rm_columns;

/* Sees to it that a list has room for `count` elements; keeps `used` of them. */
static void *rm_grow(void *items, uint32_t *capacity, uint32_t used, uint32_t count, uint32_t element) {
    if (count <= *capacity) return items;
    uint32_t wanted = count < 16 ? 16 : 1u << rm_block_log2(count);
    void *grown = (uint64_t)wanted * element > 1u << 30 ? NULL : rm_alloc(wanted * element);
    if (!grown) rm_panic("out of memory");
    if (used) __builtin_memcpy(grown, items, used * element);
    if (items) rm_free(items, *capacity * element);
    *capacity = wanted;
    return grown;
}

static int64_t rm_reply(void) { return (int64_t)((uint64_t)(uintptr_t)rm_out.bytes << 32 | rm_out.len); }

static int64_t rm_fail(const char *message) {
    rm_out.len = 0;
    rm_array(&rm_out, 2);
    rm_int(&rm_out, 2);
    rm_text(&rm_out, message);
    return rm_reply();
}

RM_EXPORT("rowmill_abi") int32_t rm_export_abi(void) { return RM_ABI_VERSION; }
RM_EXPORT("rowmill_alloc") void *rm_export_alloc(uint32_t len) { return rm_alloc(len); }
RM_EXPORT("rowmill_free") void rm_export_free(void *block, uint32_t len) { rm_free(block, len); }

/* [abi, host_features, name, config, ...] */
RM_EXPORT("rowmill_init") int64_t rm_export_init(const uint8_t *bytes, uint32_t size) {
    rm_reader in = {bytes, bytes + size};
    uint32_t len;
    if (!rm_read_array(&in, &len) || len < 4 || !rm_skip(&in) || !rm_skip(&in) || !rm_skip(&in))
        return rm_fail("what rowmill_init was given can't be read");
    const char *error = plugin_init(in);
    if (error) return rm_fail(error);
    rm_out.len = 0;
    rm_array(&rm_out, 1);
    rm_int(&rm_out, 0);
    return rm_reply();
}

/* [name, type_oid, typmod, type_name, nullable, key, ...] */
static bool rm_read_column(rm_reader *in, rm_column *column) {
    uint32_t len;
    if (!rm_read_array(in, &len) || len < 6) return false;
    rm_value name = rm_read(in), oid = rm_read(in), typmod = rm_read(in);
    rm_value type = rm_read(in), nullable = rm_read(in), key = rm_read(in);
    bool is_good = name.kind == RM_TEXT && oid.kind == RM_INT && typmod.kind == RM_INT && type.kind == RM_TEXT;
    if (!is_good || nullable.kind != RM_BOOL || key.kind != RM_BOOL) return false;
    column->name = name, column->type_name = type;
    column->type_oid = (uint32_t)oid.integer, column->typmod = (int32_t)typmod.integer;
    column->nullable = nullable.integer, column->key = key.integer;
    while (len-- > 6)
        if (!rm_skip(in)) return false;
    return true;
}

/* [relation_index, version, schema, table, replica_identity, columns, ...] */
static bool rm_read_table(rm_reader in, rm_table *table) {
    uint32_t len;
    int64_t index;
    if (!rm_read_array(&in, &len) || len < 6 || !rm_read_int(&in, &index) || !rm_skip(&in)) return false;
    rm_value identity;
    table->index = (uint32_t)index;
    table->schema = rm_read(&in), table->name = rm_read(&in), identity = rm_read(&in);
    if (table->schema.kind != RM_TEXT || table->name.kind != RM_TEXT || identity.kind != RM_TEXT || !identity.len)
        return false;
    table->replica_identity = identity.bytes[0];
    if (!rm_read_array(&in, &table->column_count)) return false;
    rm_columns.items = rm_grow(rm_columns.items, &rm_columns.capacity, 0, table->column_count, sizeof(rm_column));
    for (uint32_t at = 0; at < table->column_count; at++)
        if (!rm_read_column(&in, &rm_columns.items[at])) return false;
    table->columns = rm_columns.items;
    return true;
}

/* The plan of a relation; a new one where it has none. */
static rm_plan *rm_plan_of(uint32_t table_index, bool is_new) {
    for (uint32_t at = 0; at < rm_plans.count; at++)
        if (rm_plans.items[at]->table_index == table_index) return rm_plans.items[at];
    if (!is_new) return NULL;
    uint32_t count = rm_plans.count;
    rm_plans.items = rm_grow(rm_plans.items, &rm_plans.capacity, count, count + 1, sizeof(rm_plan *));
    rm_plan *plan = rm_alloc(sizeof(rm_plan));
    if (!plan) rm_panic("out of memory");
    rm_plans.items[rm_plans.count++] = plan;
    return plan;
}

static void rm_write_indexes(const uint32_t *indexes, uint32_t count) {
    rm_array(&rm_out, count);
    for (uint32_t at = 0; at < count; at++) rm_int(&rm_out, indexes[at]);
}

/* Replies [0, action, read, writes, images, outputs], or [0, 3, reason]. */
RM_EXPORT("rowmill_schema") int64_t rm_export_schema(const uint8_t *bytes, uint32_t size) {
    rm_table table;
    rm_reader in = {bytes, bytes + size};
    if (!rm_read_table(in, &table)) return rm_fail("what rowmill_schema was given can't be read");
    rm_plan *plan = rm_plan_of(table.index, true);
    *plan = (rm_plan){.table_index = table.index};
    plugin_schema(&table, plan);
    rm_out.len = 0;
    rm_array(&rm_out, plan->action == RM_USE ? 6 : 3);
    rm_int(&rm_out, 0);
    rm_int(&rm_out, plan->action);
    if (plan->action == RM_USE) {
        rm_write_indexes(plan->reads, plan->read_count);
        rm_write_indexes(plan->writes, plan->write_count);
        rm_int(&rm_out, plan->needs_full_images);
        rm_nil(&rm_out);
    } else if (plan->reason) {
        rm_text(&rm_out, plan->reason);
    } else {
        rm_nil(&rm_out);
    }
    return rm_reply();
}

/* One row, [relation_index, op, image, values]; false where it can't be read. `plan` is the last row's. */
static bool rm_read_row(rm_reader *in, rm_row *row, const rm_plan *plan) {
    uint32_t len;
    if (!rm_read_array(in, &len) || len != 4) return false;
    rm_value index = rm_read(in), op = rm_read(in), image = rm_read(in);
    if (index.kind != RM_INT || op.kind != RM_INT || image.kind != RM_INT) return false;
    if (!plan || plan->table_index != index.integer) plan = rm_plan_of((uint32_t)index.integer, false);
    if (!plan || !rm_read_array(in, &len)) return false;
    if (len > rm_values.capacity)
        rm_values.items = rm_grow(rm_values.items, &rm_values.capacity, 0, len, sizeof(rm_value));
    for (uint32_t at = 0; at < len; at++)
        if ((rm_values.items[at] = rm_read(in)).kind == RM_BAD) return false;
    row->plan = plan;
    row->op = (uint32_t)op.integer, row->image = (uint32_t)image.integer;
    row->values = rm_values.items, row->value_count = len;
    return true;
}

static void rm_write_rejected(rm_writer *out, const rm_row *row) {
    rm_text(out, row->reject_code);
    rm_text(out, row->reject_reason);
}

/* Replies [0, verdict, rejects]. */
static int64_t rm_filter(rm_reader *in, uint32_t count) {
    uint32_t bytes = (count + 7) / 8, rejected = 0;
    rm_row row = {0};
    rm_bitmap.len = 0, rm_rejects.len = 0;
    rm_reserve(&rm_bitmap, bytes);
    if (bytes) __builtin_memset(rm_bitmap.bytes, 0, bytes);
    for (uint32_t at = 0; at < count; at++) {
        rm_working_on(at);
        if (!rm_read_row(in, &row, row.plan)) return rm_fail("the batch can't be read");
        row.index = at, row.reject_code = NULL;
        bool matches = plugin_matches(&row);
        if (row.reject_code) {
            rm_array(&rm_rejects, 3);
            rm_int(&rm_rejects, at);
            rm_write_rejected(&rm_rejects, &row);
            rejected++;
        } else {
            rm_bitmap.bytes[at / 8] |= (uint8_t)(matches << at % 8);
        }
    }
    rm_bytes(&rm_out, rm_bitmap.bytes, bytes);
    rm_array(&rm_out, rejected);
    rm_raw(&rm_out, rm_rejects.bytes, rm_rejects.len);
    return rm_reply();
}

/* Appends the action for a row, if there is one. */
static bool rm_write_action(const rm_row *row, uint32_t at, uint32_t patch_values) {
    if (!row->reject_code && !row->drop && !patch_values) return false;
    rm_array(&rm_out, row->reject_code ? 4 : row->drop ? 2 : 3);
    rm_int(&rm_out, at);
    rm_int(&rm_out, row->reject_code ? 6 : row->drop ? 1 : 2);
    if (row->reject_code) {
        rm_write_rejected(&rm_out, row);
    } else if (!row->drop) {
        rm_array(&rm_out, patch_values);
        rm_raw(&rm_out, rm_patch.bytes, rm_patch.len);
    }
    return true;
}

/* Values in the patch: column and value of each that was set. */
static uint32_t rm_count_values(void) {
    rm_reader patch = {rm_patch.bytes, rm_patch.bytes + rm_patch.len};
    uint32_t count = 0;
    for (; rm_left(&patch); count++)
        if (!rm_skip(&patch)) rm_panic("a patch that is no MessagePack");
    return count;
}

/* Replies [0, default, actions]. */
static int64_t rm_transform(rm_reader *in, uint32_t count) {
    rm_row row = {0};
    uint32_t actions = 0;
    rm_int(&rm_out, 0);
    uint32_t open = rm_open_array(&rm_out);
    for (uint32_t at = 0; at < count; at++) {
        rm_working_on(at);
        if (!rm_read_row(in, &row, row.plan)) return rm_fail("the batch can't be read");
        row.index = at, row.reject_code = NULL, row.drop = false, rm_patch.len = 0;
        plugin_transform(&row, &rm_patch);
        actions += rm_write_action(&row, at, rm_count_values());
    }
    rm_close_array(&rm_out, open, actions);
    return rm_reply();
}

/* [sequence, flags, transactions, rows, ...] */
RM_EXPORT("rowmill_batch") int64_t rm_export_batch(const uint8_t *bytes, uint32_t size) {
    rm_reader in = {bytes, bytes + size};
    uint32_t len, count;
    if (!rm_read_array(&in, &len) || len < 4 || !rm_skip(&in) || !rm_skip(&in) || !rm_skip(&in) ||
        !rm_read_array(&in, &count))
        return rm_fail("the batch can't be read");
    rm_out.len = 0;
    rm_array(&rm_out, 3);
    rm_int(&rm_out, 0);
    return rm_is_filter ? rm_filter(&in, count) : rm_transform(&in, count);
}

#endif

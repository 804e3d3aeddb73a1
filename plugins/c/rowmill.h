/* A Rowmill plugin in C: this header has the exports of the plugin ABI, your file has what the plugin does.
 *
 *     #include "rowmill.h"
 *     ROWMILL_FILTER("paid_only", "1.0.0", "null")
 *
 *     const char *plugin_init(rm_reader config);                              an error, or NULL
 *     void plugin_schema(const rm_table *table, rm_plan *plan);                what it wants of a table
 *     bool plugin_matches(rm_row *row);                                        a filter
 *     void plugin_transform(rm_row *row, rm_writer *patch);                    a transform
 *
 * Include it in one file only: everything in it is static. The contract is docs/reference/plugin-abi.md. */
#ifndef ROWMILL_H
#define ROWMILL_H

#include "msgpack.h"

#define RM_ABI_VERSION (1 << 16 | 0)

/* ---- what the host offers ---- */

#define RM_IMPORT(name) __attribute__((import_module("rowmill"), import_name(name)))
RM_IMPORT("log") void rm_host_log(int32_t level, const char *text, uint32_t len);
RM_IMPORT("panic") void rm_host_panic(const char *text, uint32_t len);
RM_IMPORT("metric") void rm_host_metric(int32_t kind, const char *name, uint32_t len, double value);
RM_IMPORT("now_us") int64_t rm_now_us(int32_t transaction_index);
RM_IMPORT("random") void rm_random(int32_t row_index, void *bytes, uint32_t len);

enum { RM_ERROR = 1, RM_WARN, RM_INFO, RM_DEBUG, RM_TRACE };
enum { RM_COUNTER, RM_GAUGE, RM_HISTOGRAM };

static inline void rm_log(int32_t level, const char *text) { rm_host_log(level, text, rm_strlen(text)); }

/* Tells the host why, and traps. The instance is never called again. */
_Noreturn static void rm_panic(const char *text) {
    rm_host_panic(text, rm_strlen(text));
    __builtin_trap();
}

/* ---- tables ---- */

typedef struct {
    rm_value name, type_name;
    uint32_t type_oid;
    int32_t typmod;
    bool nullable, key;
} rm_column;

/* A relation version. Its texts belong to the call. */
typedef struct {
    uint32_t index;
    rm_value schema, name;
    char replica_identity; /* d, f, i or n */
    const rm_column *columns;
    uint32_t column_count;
} rm_table;

enum { RM_USE, RM_PASS_BY, RM_DROP_TABLE, RM_REFUSE };

#define RM_READS_MAX 64

/* What the plugin wants of a table, filled in by plugin_schema. */
typedef struct {
    uint32_t table_index;
    uint8_t action;         /* RM_USE unless you say otherwise */
    const char *reason;     /* of RM_REFUSE */
    bool needs_full_images; /* the whole old row: REPLICA IDENTITY FULL */
    uint32_t reads[RM_READS_MAX], writes[RM_READS_MAX];
    uint32_t read_count, write_count;
    int64_t of_yours; /* anything to remember for this table's rows */
} rm_plan;

/* The index of a column, or -1. */
static inline int32_t rm_find_column(const rm_table *table, const char *name) {
    for (uint32_t at = 0; at < table->column_count; at++)
        if (rm_is(table->columns[at].name, name)) return (int32_t)at;
    return -1;
}

/* Asks for a column; returns its place in rm_row.values. */
static inline uint32_t rm_reads(rm_plan *plan, uint32_t column) {
    if (plan->read_count == RM_READS_MAX) rm_panic("more columns are read than RM_READS_MAX");
    plan->reads[plan->read_count] = column;
    return plan->read_count++;
}

/* Declares that patches may touch a column. */
static inline void rm_writes(rm_plan *plan, uint32_t column) {
    if (plan->write_count == RM_READS_MAX) rm_panic("more columns are written than RM_READS_MAX");
    plan->writes[plan->write_count++] = column;
}

static inline void rm_refuse(rm_plan *plan, const char *reason) {
    plan->action = RM_REFUSE;
    plan->reason = reason;
}

/* ---- rows ---- */

enum { RM_INSERT, RM_UPDATE, RM_DELETE, RM_TRUNCATE, RM_SNAPSHOT_READ, RM_MESSAGE };
enum { RM_IMAGE_NEW, RM_IMAGE_OLD, RM_IMAGE_OLD_KEY };

typedef struct {
    const rm_plan *plan;
    uint32_t index; /* in the batch: for rm_random */
    uint32_t op, image;
    const rm_value *values; /* in the order in which plugin_schema asked for them */
    uint32_t value_count;
    /* What you answer beside the verdict or the patch. */
    const char *reject_code, *reject_reason;
    bool drop;
} rm_row;

/* Rejects the row's change. Both texts must outlive the call: no value of the row may stand in them. */
static inline void rm_reject(rm_row *row, const char *code, const char *reason) {
    row->reject_code = code;
    row->reject_reason = reason;
}

/* Begins a column of a patch; append exactly one value. */
static inline void rm_set(rm_writer *patch, uint32_t column) { rm_int(patch, column); }

const char *plugin_init(rm_reader config);
void plugin_schema(const rm_table *table, rm_plan *plan);
bool plugin_matches(rm_row *row);
void plugin_transform(rm_row *row, rm_writer *patch);

/* ---- the module: manifest and the row at work ---- */

/* One text of the manifest, at most 65,535 bytes; the assembler counts them. */
#define RM_SECTION_TEXT(text) \
    ".int8 0xda\n .int8 (2f-1f)/256\n .int8 (2f-1f)%256\n 1: .ascii \"" text "\"\n 2:\n"

/* The section `rowmill.plugin`: a map of abi, kind, name, version and, as JSON Schema text, config_schema. In that text
 * each quote is written \\\" , since it passes the compiler and the assembler. */
#define RM_MANIFEST(kind, name, version, config_schema) \
    __asm__(".section .custom_section.rowmill.plugin,\"\",@\n .int8 0x85\n" \
            ".int8 0xa3\n .ascii \"abi\"\n .int8 0xce\n .int8 0\n .int8 1\n .int8 0\n .int8 0\n" \
            ".int8 0xa4\n .ascii \"kind\"\n" RM_SECTION_TEXT(kind) \
            ".int8 0xa4\n .ascii \"name\"\n" RM_SECTION_TEXT(name) \
            ".int8 0xa7\n .ascii \"version\"\n" RM_SECTION_TEXT(version) \
            ".int8 0xad\n .ascii \"config_schema\"\n" RM_SECTION_TEXT(config_schema));

#define ROWMILL_FILTER(name, version, config_schema) \
    RM_MANIFEST("filter", name, version, config_schema) \
    static const bool rm_is_filter = true; \
    void plugin_transform(rm_row *row, rm_writer *patch) { (void)row, (void)patch; }

#define ROWMILL_TRANSFORM(name, version, config_schema) \
    RM_MANIFEST("transform", name, version, config_schema) \
    static const bool rm_is_filter = false; \
    bool plugin_matches(rm_row *row) { (void)row; return true; }

static const bool rm_is_filter;

/* A global of WebAssembly, not a variable in memory: the host reads it after a trap, to know which row it was. */
__asm__(".globaltype rowmill_row, i32\n.globl rowmill_row\nrowmill_row:\n");
static inline void rm_working_on(uint32_t row) {
    __asm__ volatile("local.get %0\n\tglobal.set rowmill_row" : : "r"(row));
}

#include "exports.h"

#endif

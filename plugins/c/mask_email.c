/* Masks one column with e-mail addresses in every image: alice@example.org becomes a***@example.org. */
#include "rowmill.h"

ROWMILL_TRANSFORM("mask_email_c", "1.0.0",
                  "{\\\"type\\\": \\\"object\\\", \\\"required\\\": [\\\"column\\\"], "
                  "\\\"properties\\\": {\\\"column\\\": {\\\"type\\\": \\\"string\\\"}}, "
                  "\\\"additionalProperties\\\": false}")

#define STARS "***"
#define TYPMOD_HEADER 4 /* a length limit stands in the typmod with this added */
enum { OID_TEXT = 25, OID_BPCHAR = 1042, OID_VARCHAR = 1043 };

static char *column_name;

/* A copy that outlives the call, ended by a NUL. */
static char *kept(rm_value text) {
    char *copy = rm_alloc(text.len + 1);
    if (!copy) rm_panic("out of memory");
    if (text.len) __builtin_memcpy(copy, text.bytes, text.len);
    copy[text.len] = 0;
    return copy;
}

const char *plugin_init(rm_reader config) {
    rm_value map = rm_read(&config);
    if (map.kind != RM_MAP) return "config must be a map with `column`";
    for (uint32_t at = 0; at < map.len; at++) {
        rm_value key = rm_read(&config), value = rm_read(&config);
        if (!rm_is(key, "column")) return "config has a key other than `column`";
        if (value.kind != RM_TEXT || !value.len) return "`column` must be the name of a column";
        column_name = kept(value);
    }
    return column_name ? NULL : "config lacks `column`";
}

void plugin_schema(const rm_table *table, rm_plan *plan) {
    int32_t at = rm_find_column(table, column_name);
    if (at < 0) {
        rm_refuse(plan, "the table has no such column as `column` in config");
        return;
    }
    const rm_column *column = &table->columns[at];
    bool is_text = column->type_oid == OID_TEXT || column->type_oid == OID_VARCHAR || column->type_oid == OID_BPCHAR ||
                   rm_is(column->type_name, "citext");
    if (!is_text) rm_refuse(plan, "only text can be masked");
    else if (column->key) rm_refuse(plan, "a masked key would make different rows one");
    rm_reads(plan, (uint32_t)at);
    rm_writes(plan, (uint32_t)at);
    bool is_limited = column->type_oid != OID_TEXT && column->typmod >= TYPMOD_HEADER;
    plan->of_yours = is_limited ? column->typmod - TYPMOD_HEADER : INT64_MAX;
}

/* The bytes of the UTF-8 character that begins with this one. */
static uint32_t character_len(char first) {
    uint8_t byte = (uint8_t)first;
    return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

/* How many bytes the first `characters` of a text take. */
static uint32_t bytes_of(const char *text, uint32_t len, int64_t characters) {
    uint32_t at = 0;
    while (at < len && characters-- > 0) at += character_len(text[at]);
    return at < len ? at : len;
}

/* First letter, stars, and the address from its last @ on, cut to what the column holds. An address without a first
 * letter or without an @ shows nothing. */
static void write_masked(rm_writer *patch, rm_value text, int64_t length_max) {
    uint32_t domain = text.len;
    while (domain > 0 && text.bytes[domain - 1] != '@') domain--;
    uint32_t first = domain > 1 ? bytes_of(text.bytes, domain - 1, 1) : 0;
    const char *tail = domain ? text.bytes + domain - 1 : text.bytes + text.len;
    uint32_t tail_len = (uint32_t)(text.bytes + text.len - tail);
    int64_t left = length_max - (first ? 1 : 0);
    uint32_t stars = left < 3 ? (uint32_t)(left > 0 ? left : 0) : 3;
    tail_len = bytes_of(tail, tail_len, left - stars);
    rm_text_head(patch, first + stars + tail_len);
    rm_raw(patch, text.bytes, first);
    rm_raw(patch, STARS, stars);
    rm_raw(patch, tail, tail_len);
}

void plugin_transform(rm_row *row, rm_writer *patch) {
    rm_value email = row->values[0];
    if (email.kind == RM_TEXT) {
        rm_set(patch, row->plan->writes[0]);
        write_masked(patch, email, row->plan->of_yours);
    } else if (email.kind != RM_NULL && email.kind != RM_UNCHANGED && email.kind != RM_ABSENT) {
        rm_reject(row, "type", "the masked column holds something else than text");
    }
}

/* MessagePack: a reader that trusts no length, and a writer into a buffer that is kept. Freestanding: no libc. */
#ifndef ROWMILL_MSGPACK_H
#define ROWMILL_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- memory: blocks of a power of two, given back to a list per size ---- */

#define RM_PAGE_BYTES 65536u
#define RM_BLOCK_MIN_LOG2 4u

extern uint8_t __heap_base;
static uintptr_t rm_heap_at, rm_heap_end;
static void *rm_free_blocks[32];

static inline uint32_t rm_block_log2(uint32_t len) {
    return len <= 1u << RM_BLOCK_MIN_LOG2 ? RM_BLOCK_MIN_LOG2 : 32u - (uint32_t)__builtin_clz(len - 1);
}

/* A block of at least `len` bytes, aligned to 16; NULL when there is no more. */
static void *rm_alloc(uint32_t len) {
    uint32_t log2 = rm_block_log2(len);
    if (log2 > 30) return NULL;
    void *block = rm_free_blocks[log2];
    if (block) {
        rm_free_blocks[log2] = *(void **)block;
        return block;
    }
    if (!rm_heap_at) {
        rm_heap_at = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
        rm_heap_end = __builtin_wasm_memory_size(0) * RM_PAGE_BYTES;
    }
    uint32_t size = 1u << log2, left = rm_heap_end - rm_heap_at;
    if (size > left) {
        uint32_t pages = (size - left + RM_PAGE_BYTES - 1) / RM_PAGE_BYTES;
        if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) return NULL;
        rm_heap_end += pages * RM_PAGE_BYTES;
    }
    block = (void *)rm_heap_at;
    rm_heap_at += size;
    return block;
}

/* Gives a block back; `len` is what it was asked for with. */
static void rm_free(void *block, uint32_t len) {
    uint32_t log2 = rm_block_log2(len);
    *(void **)block = rm_free_blocks[log2];
    rm_free_blocks[log2] = block;
}

_Noreturn static void rm_panic(const char *text);

/* ---- reading ---- */

typedef enum {
    RM_BAD, /* what was read is no MessagePack, or cut off */
    RM_NULL,
    RM_UNCHANGED, /* a TOAST value that the server didn't send: not NULL */
    RM_ABSENT,    /* not in this image: not NULL */
    RM_BOOL,      /* integer is 0 or 1 */
    RM_INT,
    RM_FLOAT,
    RM_TEXT,
    RM_BYTES,
    RM_EXT,
    RM_ARRAY, /* len elements follow */
    RM_MAP,   /* len pairs follow */
} rm_kind;

typedef struct {
    rm_kind kind;
    uint32_t len;
    union {
        int64_t integer;
        double number;
        const char *bytes; /* of the call: copy what shall stay */
    };
} rm_value;

typedef struct {
    const uint8_t *at, *end;
} rm_reader;

static inline uint32_t rm_left(const rm_reader *reader) { return (uint32_t)(reader->end - reader->at); }

static inline uint64_t rm_big_endian(rm_reader *reader, uint32_t width) {
    uint64_t value = 0;
    while (width--) value = value << 8 | *reader->at++;
    return value;
}

static rm_value rm_bytes_value(rm_reader *reader, rm_kind kind, uint64_t len) {
    rm_value value = {.kind = RM_BAD};
    if (len > rm_left(reader)) return value;
    value.kind = kind;
    value.len = (uint32_t)len;
    value.bytes = (const char *)reader->at;
    reader->at += len;
    return value;
}

static rm_value rm_ext_value(rm_reader *reader, uint64_t len) {
    rm_value value = {.kind = RM_BAD};
    if (!rm_left(reader)) return value;
    int8_t type = (int8_t)*reader->at++;
    value = rm_bytes_value(reader, RM_EXT, len);
    if (value.kind == RM_EXT && type == 1) value.kind = RM_UNCHANGED;
    if (value.kind == RM_EXT && type == 2) value.kind = RM_ABSENT;
    return value;
}

/* The elements take a byte each at least: a length beyond the bytes is a lie. */
static inline rm_value rm_items_value(rm_reader *reader, rm_kind kind, uint64_t len) {
    rm_value value = {.kind = len <= rm_left(reader) ? kind : RM_BAD, .len = (uint32_t)len};
    return value;
}

static rm_value rm_read_wide(rm_reader *reader, uint8_t marker) {
    static const uint8_t widths[32] = {
        /* 0xc0 nil, -, bool x2, bin x3, ext x3 */ 0, 0, 0, 0, 1, 2, 4, 1, 2, 4,
        /* 0xca float x2, uint x4, int x4, fixext x5 */ 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 0, 0, 0, 0, 0,
        /* 0xd9 str x3, array x2, map x2 */ 1, 2, 4, 2, 4, 2, 4};
    rm_value value = {.kind = RM_BAD};
    uint32_t width = widths[marker - 0xc0];
    if (width > rm_left(reader)) return value;
    uint64_t number = rm_big_endian(reader, width);
    if (marker == 0xc0) value.kind = RM_NULL;
    else if (marker == 0xc2 || marker == 0xc3) value.kind = RM_BOOL, value.integer = marker & 1;
    else if (marker >= 0xc4 && marker <= 0xc6) return rm_bytes_value(reader, RM_BYTES, number);
    else if (marker >= 0xc7 && marker <= 0xc9) return rm_ext_value(reader, number);
    else if (marker == 0xca) {
        union { uint32_t bits; float number; } single = {(uint32_t)number};
        value.kind = RM_FLOAT, value.number = single.number;
    } else if (marker == 0xcb) {
        union { uint64_t bits; double number; } twice = {number};
        value.kind = RM_FLOAT, value.number = twice.number;
    } else if (marker >= 0xcc && marker <= 0xcf) value.kind = RM_INT, value.integer = (int64_t)number;
    else if (marker >= 0xd0 && marker <= 0xd3) {
        uint32_t shift = 64 - 8 * width;
        value.kind = RM_INT, value.integer = (int64_t)(number << shift) >> shift;
    } else if (marker >= 0xd4 && marker <= 0xd8) return rm_ext_value(reader, 1u << (marker - 0xd4));
    else if (marker >= 0xd9 && marker <= 0xdb) return rm_bytes_value(reader, RM_TEXT, number);
    else if (marker == 0xdc || marker == 0xdd) return rm_items_value(reader, RM_ARRAY, number);
    else if (marker == 0xde || marker == 0xdf) return rm_items_value(reader, RM_MAP, number);
    return value;
}

/* The next value. Of an array or a map it is the head: the elements are read by further calls. */
static inline rm_value rm_read(rm_reader *reader) {
    rm_value value = {.kind = RM_BAD};
    if (reader->at >= reader->end) return value;
    uint8_t marker = *reader->at++;
    if (marker <= 0x7f || marker >= 0xe0) value.kind = RM_INT, value.integer = (int8_t)marker;
    else if (marker >= 0xa0 && marker <= 0xbf) return rm_bytes_value(reader, RM_TEXT, marker & 0x1f);
    else if (marker <= 0x8f) return rm_items_value(reader, RM_MAP, marker & 0x0f);
    else if (marker <= 0x9f) return rm_items_value(reader, RM_ARRAY, marker & 0x0f);
    else return rm_read_wide(reader, marker);
    return value;
}

/* Passes over one value with all that is in it; false where the bytes are bad. */
static bool rm_skip(rm_reader *reader) {
    for (uint64_t pending = 1; pending; pending--) {
        rm_value value = rm_read(reader);
        if (value.kind == RM_BAD) return false;
        if (value.kind == RM_ARRAY) pending += value.len;
        if (value.kind == RM_MAP) pending += 2ull * value.len;
    }
    return true;
}

static inline bool rm_read_array(rm_reader *reader, uint32_t *len) {
    rm_value value = rm_read(reader);
    *len = value.len;
    return value.kind == RM_ARRAY;
}

static inline bool rm_read_int(rm_reader *reader, int64_t *integer) {
    rm_value value = rm_read(reader);
    *integer = value.integer;
    return value.kind == RM_INT;
}

static inline uint32_t rm_strlen(const char *text) {
    uint32_t len = 0;
    while (text[len]) len++;
    return len;
}

/* Whether a value is this text. NULL, unchanged and absent are no text. */
static inline bool rm_is(rm_value value, const char *text) {
    if (value.kind != RM_TEXT) return false;
    for (uint32_t at = 0; at < value.len; at++)
        if (!text[at] || value.bytes[at] != text[at]) return false;
    return !text[value.len];
}

/* ---- writing ---- */

typedef struct {
    uint8_t *bytes;
    uint32_t len, capacity;
} rm_writer;

/* Makes room for `more` bytes. */
static void rm_reserve(rm_writer *out, uint32_t more) {
    if (more <= out->capacity - out->len) return;
    if (more > (1u << 30) - out->len) rm_panic("a reply larger than 1 GiB");
    uint32_t capacity = 1u << rm_block_log2(out->len + more);
    uint8_t *bytes = rm_alloc(capacity);
    if (!bytes) rm_panic("out of memory");
    if (out->len) __builtin_memcpy(bytes, out->bytes, out->len);
    if (out->bytes) rm_free(out->bytes, out->capacity);
    out->bytes = bytes;
    out->capacity = capacity;
}

static inline void rm_byte(rm_writer *out, uint8_t byte) {
    rm_reserve(out, 1);
    out->bytes[out->len++] = byte;
}

static inline void rm_raw(rm_writer *out, const void *bytes, uint32_t len) {
    rm_reserve(out, len);
    __builtin_memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void rm_headed(rm_writer *out, uint8_t marker, uint64_t value, uint32_t width) {
    rm_reserve(out, 9);
    out->bytes[out->len++] = marker;
    while (width--) out->bytes[out->len++] = (uint8_t)(value >> (8 * width));
}

static inline void rm_nil(rm_writer *out) { rm_byte(out, 0xc0); }
static inline void rm_bool(rm_writer *out, bool value) { rm_byte(out, value ? 0xc3 : 0xc2); }

static void rm_int(rm_writer *out, int64_t value) {
    if (value >= -32 && value <= 127) rm_byte(out, (uint8_t)value);
    else if (value >= INT32_MIN && value <= INT32_MAX) rm_headed(out, 0xd2, (uint64_t)value, 4);
    else rm_headed(out, 0xd3, (uint64_t)value, 8);
}

static void rm_float(rm_writer *out, double value) {
    union { double number; uint64_t bits; } twice = {value};
    rm_headed(out, 0xcb, twice.bits, 8);
}

/* The head of a text of `len` bytes; append them with rm_raw. */
static inline void rm_text_head(rm_writer *out, uint32_t len) {
    if (len <= 31) rm_byte(out, (uint8_t)(0xa0 | len));
    else if (len <= 0xff) rm_headed(out, 0xd9, len, 1);
    else rm_headed(out, 0xdb, len, 4);
}

static inline void rm_text(rm_writer *out, const char *text) {
    uint32_t len = rm_strlen(text);
    rm_text_head(out, len);
    rm_raw(out, text, len);
}

static inline void rm_bytes(rm_writer *out, const void *bytes, uint32_t len) {
    rm_headed(out, 0xc6, len, 4);
    rm_raw(out, bytes, len);
}

static inline void rm_array(rm_writer *out, uint32_t len) {
    if (len <= 15) rm_byte(out, (uint8_t)(0x90 | len));
    else rm_headed(out, 0xdd, len, 4);
}

/* An array whose length isn't known yet; rm_close_array fills it in. */
static inline uint32_t rm_open_array(rm_writer *out) {
    rm_headed(out, 0xdd, 0, 4);
    return out->len;
}

static inline void rm_close_array(rm_writer *out, uint32_t open, uint32_t len) {
    for (uint32_t at = 1; at <= 4; at++, len >>= 8) out->bytes[open - at] = (uint8_t)len;
}

#endif

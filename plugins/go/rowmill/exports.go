//go:build wasip1

package rowmill

import (
	"unsafe"
)

const abiVersion = 1<<16 | 0

// What the host holds: kept here, or the collector would take it.
var buffers = map[unsafe.Pointer][]byte{}

// Kept from call to call, so that a steady state allocates nothing.
var (
	out, rejects Writer
	patch        Patch
	bitmap       []byte
	values       []Value
	plans        = map[int64]*Plan{}
)

//go:wasmexport rowmill_abi
func exportABI() int32 { return abiVersion }

//go:wasmexport rowmill_alloc
func exportAlloc(length uint32) unsafe.Pointer {
	buffer := make([]byte, max(length, 8))
	pointer := unsafe.Pointer(unsafe.SliceData(buffer))
	buffers[pointer] = buffer
	return pointer
}

//go:wasmexport rowmill_free
func exportFree(pointer unsafe.Pointer, _ uint32) { delete(buffers, pointer) }

func input(pointer unsafe.Pointer, length uint32) Reader {
	return Reader{unsafe.Slice((*byte)(pointer), length)}
}

func reply() uint64 {
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(out.bytes))))<<32 | uint64(len(out.bytes))
}

func done(elements int) {
	out.bytes = out.bytes[:0]
	out.Array(elements)
	out.Int(0)
}

func fail(message string) uint64 {
	out.bytes = out.bytes[:0]
	out.Array(2)
	out.Int(2)
	out.Text(message)
	return reply()
}

//go:wasmexport rowmill_init
func exportInit(pointer unsafe.Pointer, length uint32) uint64 {
	defer trapOnPanic()
	in := input(pointer, length)
	if _, ok := in.array(4); !ok || !in.Skip(3) {
		return fail("what rowmill_init was given can't be read")
	}
	if plugin.Init != nil {
		if err := plugin.Init(in); err != nil {
			return fail(err.Error())
		}
	} else if config := in.Read(); config.Kind != Null {
		return fail("the plugin takes no config")
	}
	done(1)
	return reply()
}

// [name, type_oid, typmod, type_name, nullable, key, ...]
func readColumn(in *Reader) (column Column, ok bool) {
	length, ok := in.array(6)
	if !ok {
		return column, false
	}
	name, oid, typmod := in.Read(), in.Read(), in.Read()
	typeName, nullable, key := in.Read(), in.Read(), in.Read()
	ok = name.Kind == Text && oid.Kind == Int && typmod.Kind == Int && typeName.Kind == Text &&
		nullable.Kind == Bool && key.Kind == Bool
	column = Column{
		Name: string(name.Bytes), Type: string(typeName.Bytes), TypeOID: uint32(oid.Int), Typmod: int32(typmod.Int),
		Nullable: nullable.Int == 1, Key: key.Int == 1,
	}
	return column, ok && in.Skip(length-6)
}

// [relation_index, version, schema, table, replica_identity, columns, ...]
func readTable(in Reader) (table Table, ok bool) {
	if _, ok = in.array(6); !ok {
		return table, false
	}
	index, version, schema, name, identity := in.Read(), in.Read(), in.Read(), in.Read(), in.Read()
	ok = index.Kind == Int && version.Kind == Int && schema.Kind == Text && name.Kind == Text && identity.Kind == Text
	count, isArray := in.array(0)
	if !ok || !isArray {
		return table, false
	}
	table = Table{
		Schema: string(schema.Bytes), Name: string(name.Bytes), ReplicaIdentity: string(identity.Bytes),
		Columns: make([]Column, count), index: index.Int,
	}
	for at := range table.Columns {
		if table.Columns[at], ok = readColumn(&in); !ok {
			return table, false
		}
	}
	return table, true
}

func writeIndexes(indexes []int) {
	out.Array(len(indexes))
	for _, index := range indexes {
		out.Int(int64(index))
	}
}

// Replies [0, action, read, writes, images, outputs], or [0, 3, reason].
//
//go:wasmexport rowmill_schema
func exportSchema(pointer unsafe.Pointer, length uint32) uint64 {
	defer trapOnPanic()
	table, ok := readTable(input(pointer, length))
	if !ok {
		return fail("what rowmill_schema was given can't be read")
	}
	plan := &Plan{index: table.index}
	plugin.Schema(&table, plan)
	plans[table.index] = plan
	if plan.action != use {
		done(3)
		out.Int(int64(plan.action))
		out.Text(plan.reason)
		return reply()
	}
	done(6)
	out.Int(int64(use))
	writeIndexes(plan.reads)
	writeIndexes(plan.writes)
	if plan.NeedsFullImages {
		out.Int(1)
	} else {
		out.Int(0)
	}
	out.Null()
	return reply()
}

// readRow reads [relation_index, op, image, values]. The plan that row has is the last row's.
func readRow(in *Reader, row *Row) bool {
	if length, ok := in.array(4); !ok || length != 4 {
		return false
	}
	relation, op, image := in.Read(), in.Read(), in.Read()
	count, ok := in.array(0)
	if !ok || relation.Kind != Int || op.Kind != Int || image.Kind != Int {
		return false
	}
	if row.Plan == nil || row.Plan.index != relation.Int {
		if row.Plan = plans[relation.Int]; row.Plan == nil {
			return false
		}
	}
	values = values[:0]
	for ; count > 0; count-- {
		values = append(values, in.Read())
		if values[len(values)-1].Kind == Bad {
			return false
		}
	}
	row.Op, row.Image, row.Values = int(op.Int), int(image.Int), values
	row.rejectCode, row.dropped = "", false
	return true
}

// Replies [0, verdict, rejects].
func filter(in *Reader, count int) bool {
	bitmap = append(bitmap[:0], make([]byte, (count+7)/8)...)
	rejects.bytes = rejects.bytes[:0]
	rejected := 0
	row := &theRow
	for row.Index = 0; row.Index < count; row.Index++ {
		if !readRow(in, row) {
			return false
		}
		matches := plugin.Matches(row)
		if row.rejectCode != "" {
			rejected++
			rejects.Array(3)
			rejects.Int(int64(row.Index))
			rejects.Text(row.rejectCode)
			rejects.Text(row.rejectReason)
		} else if matches {
			bitmap[row.Index/8] |= 1 << (row.Index % 8)
		}
	}
	out.Bytes(bitmap)
	out.Array(rejected)
	out.bytes = append(out.bytes, rejects.bytes...)
	return true
}

// writeAction appends the action for a row; false where it passes as it is.
func writeAction(row *Row) bool {
	switch {
	case row.rejectCode != "":
		out.Array(4)
		out.Int(int64(row.Index))
		out.Int(6)
		out.Text(row.rejectCode)
		out.Text(row.rejectReason)
	case row.dropped:
		out.Array(2)
		out.Int(int64(row.Index))
		out.Int(1)
	case patch.values > 0:
		out.Array(3)
		out.Int(int64(row.Index))
		out.Int(2)
		out.Array(patch.values)
		out.bytes = append(out.bytes, patch.out.bytes...)
	default:
		return false
	}
	return true
}

// Replies [0, default, actions].
func transform(in *Reader, count int) bool {
	out.Int(0)
	open, actions := out.openArray(), 0
	row := &theRow
	for row.Index = 0; row.Index < count; row.Index++ {
		if !readRow(in, row) {
			return false
		}
		patch.out.bytes, patch.values = patch.out.bytes[:0], 0
		plugin.Transform(row, &patch)
		if writeAction(row) {
			actions++
		}
	}
	out.closeArray(open, actions)
	return true
}

// One for all: a row of its own would be allocated, since it is handed to the plugin.
var theRow Row

// [sequence, flags, transactions, rows, ...]
//
//go:wasmexport rowmill_batch
func exportBatch(pointer unsafe.Pointer, length uint32) uint64 {
	defer trapOnPanic()
	in := input(pointer, length)
	_, ok := in.array(4)
	ok = ok && in.Skip(3)
	count, isArray := in.array(0)
	if !ok || !isArray {
		return fail("the batch can't be read")
	}
	done(3)
	if plugin.Matches != nil {
		ok = filter(&in, count)
	} else {
		ok = transform(&in, count)
	}
	if !ok {
		return fail("the batch can't be read")
	}
	return reply()
}

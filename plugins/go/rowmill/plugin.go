// Package rowmill is for plugins of Rowmill: it has the exports of the plugin ABI, a plugin says what they do.
//
//	func init() {
//		rowmill.Register(rowmill.Plugin{
//			Schema: func(table *rowmill.Table, plan *rowmill.Plan) { ... },
//			Matches: func(row *rowmill.Row) bool { ... },
//		})
//	}
//
//	func main() {}
//
// Build it with GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared. The contract is docs/reference/plugin-abi.md.
package rowmill

// Plugin is what a plugin does. It has Matches (a filter) or Transform.
type Plugin struct {
	// Init takes what stands under `config:`; nil where there is no config to take.
	Init func(config Reader) error
	// Schema says what is wanted of a table. It is called once per relation version, before its first row.
	Schema func(table *Table, plan *Plan)
	// Matches tells whether a row belongs to the set.
	Matches func(row *Row) bool
	// Transform sets columns of a patch; without one the image passes as it is.
	Transform func(row *Row, patch *Patch)
}

var plugin Plugin

// Register is to be called from an init function: main is never run.
func Register(p Plugin) { plugin = p }

// Column is a column of a table.
type Column struct {
	Name, Type string
	TypeOID    uint32
	Typmod     int32
	Nullable   bool
	Key        bool
}

// Table is one version of a relation.
type Table struct {
	Schema, Name    string
	ReplicaIdentity string // d, f, i or n
	Columns         []Column
	index           int64
}

// Find returns the index of a column, or -1.
func (t *Table) Find(name string) int {
	for at := range t.Columns {
		if t.Columns[at].Name == name {
			return at
		}
	}
	return -1
}

type action uint8

const (
	use action = iota
	passBy
	dropTable
	refuse
)

// Plan is what a plugin wants of a table. As it is, it uses the table and reads nothing of it.
type Plan struct {
	// NeedsFullImages asks for the whole old row: REPLICA IDENTITY FULL.
	NeedsFullImages bool
	// OfYours is anything to remember for the table's rows.
	OfYours any

	action        action
	reason        string
	reads, writes []int
	index         int64
}

// Read asks for a column; returns its place in Row.Values.
func (p *Plan) Read(column int) int {
	p.reads = append(p.reads, column)
	return len(p.reads) - 1
}

// Write declares that patches may touch a column.
func (p *Plan) Write(column int) { p.writes = append(p.writes, column) }

// PassBy lets the table's rows go past the plugin, at no cost.
func (p *Plan) PassBy() { p.action = passBy }

// Drop drops the table's rows, at no cost.
func (p *Plan) Drop() { p.action = dropTable }

// Refuse refuses the table: the pipeline doesn't start.
func (p *Plan) Refuse(reason string) { p.action, p.reason = refuse, reason }

// Operations of a row.
const (
	Insert = iota
	Update
	Delete
	Truncate
	SnapshotRead
	Message
)

// Images of a row.
const (
	ImageNew = iota
	ImageOld
	ImageOldKey
)

// Row is one image of a change.
type Row struct {
	Plan   *Plan
	Index  int // in the batch: for Random
	Op     int
	Image  int
	Values []Value // in the order in which Schema asked for them

	rejectCode, rejectReason string
	dropped                  bool
}

// Reject rejects the row's change. No value of the row may stand in the reason: it is logged.
func (r *Row) Reject(code, reason string) { r.rejectCode, r.rejectReason = code, reason }

// Drop drops the change; both images go.
func (r *Row) Drop() { r.dropped = true }

// Patch is what changes of an image.
type Patch struct {
	out    Writer
	values int
}

// Set begins a column; write exactly one value to what it returns.
func (p *Patch) Set(column int) *Writer {
	p.out.Int(int64(column))
	p.values += 2
	return &p.out
}

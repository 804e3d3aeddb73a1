// Masks one column with e-mail addresses in every image: alice@example.org becomes a***@example.org.
package main

import (
	"bytes"
	"errors"
	"math"
	"unicode/utf8"

	"rowmill.example/plugins/rowmill"
)

const (
	oidText    = 25
	oidBpchar  = 1042
	oidVarchar = 1043
	// A length limit stands in the typmod with this added.
	typmodHeader = 4
)

var (
	columnName string
	stars      = []byte("***")
)

func init() {
	rowmill.Register(rowmill.Plugin{Init: start, Schema: schema, Transform: transform})
}

func start(config rowmill.Reader) error {
	pairs := config.Read()
	if pairs.Kind != rowmill.Map {
		return errors.New("config must be a map with `column`")
	}
	for range pairs.Int {
		key, value := config.Read(), config.Read()
		if !key.Is("column") {
			return errors.New("config has a key other than `column`")
		}
		if value.Kind != rowmill.Text || len(value.Bytes) == 0 {
			return errors.New("`column` must be the name of a column")
		}
		columnName = string(value.Bytes)
	}
	if columnName == "" {
		return errors.New("config lacks `column`")
	}
	return nil
}

// mask is what is known of a table's column.
type mask struct {
	column    int
	lengthMax int // in characters
}

func schema(table *rowmill.Table, plan *rowmill.Plan) {
	at := table.Find(columnName)
	if at < 0 {
		plan.Refuse("table " + table.Schema + "." + table.Name + " has no column " + columnName)
		return
	}
	column := &table.Columns[at]
	isText := column.TypeOID == oidText || column.TypeOID == oidVarchar || column.TypeOID == oidBpchar
	if !isText && column.Type != "citext" {
		plan.Refuse("column " + columnName + " is of type " + column.Type + ": only text can be masked")
	} else if column.Key {
		plan.Refuse("column " + columnName + " is part of the key: masked, different rows would become one")
	}
	plan.Read(at)
	plan.Write(at)
	known := &mask{column: at, lengthMax: math.MaxInt32}
	if column.TypeOID != oidText && column.Typmod >= typmodHeader {
		known.lengthMax = int(column.Typmod) - typmodHeader
	}
	plan.OfYours = known
}

// cut leaves so many characters of a text.
func cut(text []byte, characters int) []byte {
	at := 0
	for ; at < len(text) && characters > 0; characters-- {
		_, size := utf8.DecodeRune(text[at:])
		at += size
	}
	return text[:at]
}

// masked is the first letter, stars, and the address from its last @ on, cut to what the column holds. An address without
// a first letter or without an @ shows nothing.
func masked(email []byte, lengthMax int) (first, hidden, tail []byte) {
	if at := bytes.LastIndexByte(email, '@'); at >= 0 {
		first, tail = cut(email[:at], min(1, lengthMax)), email[at:]
	}
	if len(first) > 0 {
		lengthMax--
	}
	hidden = stars[:min(len(stars), lengthMax)]
	return first, hidden, cut(tail, lengthMax-len(hidden))
}

func transform(row *rowmill.Row, patch *rowmill.Patch) {
	switch email := &row.Values[0]; email.Kind {
	case rowmill.Text:
		known := row.Plan.OfYours.(*mask)
		first, hidden, tail := masked(email.Bytes, known.lengthMax)
		patch.Set(known.column).Texts(first, hidden, tail)
	case rowmill.Null, rowmill.Unchanged, rowmill.Absent:
		// Nothing is there that could be masked.
	default:
		row.Reject("type", "the masked column holds something else than text")
	}
}

func main() {}

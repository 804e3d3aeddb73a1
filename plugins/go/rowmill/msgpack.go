package rowmill

import "math"

// Kind says what a value is.
type Kind uint8

const (
	Bad       Kind = iota // no MessagePack, or cut off
	Null                  // SQL NULL
	Unchanged             // a TOAST value that the server didn't send: not NULL
	Absent                // not in this image: not NULL
	Bool                  // Int is 0 or 1
	Int
	Float
	Text
	Bytes
	Ext
	Array // Int elements follow
	Map   // Int pairs follow
)

// Value is one value, or the head of an array or a map. Bytes belong to the call: copy what shall stay.
type Value struct {
	Kind  Kind
	Int   int64
	Float float64
	Bytes []byte
}

// Is tells whether the value is this text. NULL, unchanged and absent are no text.
func (v *Value) Is(text string) bool { return v.Kind == Text && string(v.Bytes) == text }

// Reader reads MessagePack and trusts no length.
type Reader struct{ bytes []byte }

func (r *Reader) take(count uint64) ([]byte, bool) {
	if count > uint64(len(r.bytes)) {
		return nil, false
	}
	taken := r.bytes[:count]
	r.bytes = r.bytes[count:]
	return taken, true
}

func (r *Reader) bigEndian(width int) (uint64, bool) {
	bytes, ok := r.take(uint64(width))
	value := uint64(0)
	for _, b := range bytes {
		value = value<<8 | uint64(b)
	}
	return value, ok
}

func (r *Reader) data(kind Kind, length uint64) Value {
	bytes, ok := r.take(length)
	if !ok {
		return Value{}
	}
	return Value{Kind: kind, Bytes: bytes}
}

func (r *Reader) ext(length uint64) Value {
	marker, ok := r.take(1)
	if !ok {
		return Value{}
	}
	value := r.data(Ext, length)
	if value.Kind == Ext && marker[0] == 1 {
		value.Kind = Unchanged
	} else if value.Kind == Ext && marker[0] == 2 {
		value.Kind = Absent
	}
	return value
}

// The elements take a byte each at least: a length beyond the bytes is a lie.
func (r *Reader) items(kind Kind, length uint64) Value {
	if length > uint64(len(r.bytes)) {
		return Value{}
	}
	return Value{Kind: kind, Int: int64(length)}
}

// Bytes behind the markers from 0xc0 on: a number or a length.
var widths = [32]uint8{
	0, 0, 0, 0, 1, 2, 4, 1, 2, 4, // nil, -, bool, bool, bin x3, ext x3
	4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 0, 0, 0, 0, 0, // float x2, uint x4, int x4, fixext x5
	1, 2, 4, 2, 4, 2, 4, // str x3, array x2, map x2
}

// Read reads the next value. The elements of an array or a map are read by further calls.
func (r *Reader) Read() Value {
	if len(r.bytes) == 0 {
		return Value{}
	}
	marker := r.bytes[0]
	r.bytes = r.bytes[1:]
	switch {
	case marker <= 0x7f || marker >= 0xe0:
		return Value{Kind: Int, Int: int64(int8(marker))}
	case marker <= 0x8f:
		return r.items(Map, uint64(marker&0x0f))
	case marker <= 0x9f:
		return r.items(Array, uint64(marker&0x0f))
	case marker <= 0xbf:
		return r.data(Text, uint64(marker&0x1f))
	}
	width := int(widths[marker-0xc0])
	number, ok := r.bigEndian(width)
	if !ok {
		return Value{}
	}
	switch {
	case marker == 0xc0:
		return Value{Kind: Null}
	case marker == 0xc1:
		return Value{}
	case marker <= 0xc3:
		return Value{Kind: Bool, Int: int64(marker & 1)}
	case marker <= 0xc6:
		return r.data(Bytes, number)
	case marker <= 0xc9:
		return r.ext(number)
	case marker == 0xca:
		return Value{Kind: Float, Float: float64(math.Float32frombits(uint32(number)))}
	case marker == 0xcb:
		return Value{Kind: Float, Float: math.Float64frombits(number)}
	case marker <= 0xcf:
		return Value{Kind: Int, Int: int64(number)}
	case marker <= 0xd3:
		shift := 64 - 8*width
		return Value{Kind: Int, Int: int64(number<<shift) >> shift}
	case marker <= 0xd8:
		return r.ext(1 << (marker - 0xd4))
	case marker <= 0xdb:
		return r.data(Text, number)
	case marker <= 0xdd:
		return r.items(Array, number)
	default:
		return r.items(Map, number)
	}
}

// Skip passes over values with all that is in them; false where the bytes are bad.
func (r *Reader) Skip(count int) bool {
	for ; count > 0; count-- {
		value := r.Read()
		switch value.Kind {
		case Bad:
			return false
		case Array:
			count += int(value.Int)
		case Map:
			count += 2 * int(value.Int)
		}
	}
	return true
}

// array reads the head of an array of at least this many elements.
func (r *Reader) array(least int) (length int, ok bool) {
	value := r.Read()
	return int(value.Int), value.Kind == Array && int(value.Int) >= least
}

// Writer appends MessagePack to a buffer that is kept from call to call.
type Writer struct{ bytes []byte }

func (w *Writer) headed(marker byte, value uint64, width int) {
	w.bytes = append(w.bytes, marker)
	for width--; width >= 0; width-- {
		w.bytes = append(w.bytes, byte(value>>(8*width)))
	}
}

func (w *Writer) Null() { w.bytes = append(w.bytes, 0xc0) }

func (w *Writer) Bool(value bool) {
	if value {
		w.bytes = append(w.bytes, 0xc3)
	} else {
		w.bytes = append(w.bytes, 0xc2)
	}
}

func (w *Writer) Int(value int64) {
	switch {
	case value >= -32 && value <= 127:
		w.bytes = append(w.bytes, byte(value))
	case value >= math.MinInt32 && value <= math.MaxInt32:
		w.headed(0xd2, uint64(value), 4)
	default:
		w.headed(0xd3, uint64(value), 8)
	}
}

func (w *Writer) Float(value float64) { w.headed(0xcb, math.Float64bits(value), 8) }

func (w *Writer) textHead(length int) {
	switch {
	case length <= 31:
		w.bytes = append(w.bytes, 0xa0|byte(length))
	case length <= 0xff:
		w.headed(0xd9, uint64(length), 1)
	default:
		w.headed(0xdb, uint64(length), 4)
	}
}

func (w *Writer) Text(text string) {
	w.textHead(len(text))
	w.bytes = append(w.bytes, text...)
}

// Texts writes one text put together from parts.
func (w *Writer) Texts(parts ...[]byte) {
	length := 0
	for _, part := range parts {
		length += len(part)
	}
	w.textHead(length)
	for _, part := range parts {
		w.bytes = append(w.bytes, part...)
	}
}

func (w *Writer) Bytes(bytes []byte) {
	w.headed(0xc6, uint64(len(bytes)), 4)
	w.bytes = append(w.bytes, bytes...)
}

func (w *Writer) Array(length int) {
	if length <= 15 {
		w.bytes = append(w.bytes, 0x90|byte(length))
	} else {
		w.headed(0xdd, uint64(length), 4)
	}
}

// openArray begins an array whose length isn't known yet; closeArray fills it in.
func (w *Writer) openArray() int {
	w.headed(0xdd, 0, 4)
	return len(w.bytes) - 4
}

func (w *Writer) closeArray(at, length int) {
	for i := 0; i < 4; i++ {
		w.bytes[at+i] = byte(length >> (8 * (3 - i)))
	}
}
